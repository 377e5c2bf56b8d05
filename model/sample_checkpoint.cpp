// Tensors are listed under Hugging Face's names; KTransformers' names are made from these.
#include "model/sample_checkpoint.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "model/gguf_writer.h"
#include "model/output_file.h"
#include "model/safetensors_writer.h"
#include "model/sample_weights.h"

namespace ktjit::model {
namespace {

using enum FormatId;

constexpr std::int64_t kBlock = 128;
constexpr std::int64_t kLayers = 2;
constexpr std::int64_t kDenseLayers = 1;
constexpr std::int64_t kHidden = 512;
constexpr std::int64_t kFeedForward = 704;  // five and a half blocks
constexpr std::int64_t kExpertInner = 256;
constexpr std::int64_t kExperts = 4;
constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kQueryRank = 192;  // one and a half blocks
constexpr std::int64_t kKeyValueRank = 512;
constexpr std::int64_t kRopeSize = 64;  // 512 + 64 = 576 rows, four and a half blocks, as published
constexpr std::int64_t kNopeSize = 128;
constexpr std::int64_t kValueSize = 128;
constexpr std::int64_t kVocabulary = 401;  // odd on purpose: no tile divides it
constexpr std::uint64_t kShardBytes = 2'000'000;

struct Kind {
  SampleKind kind;
  std::string_view name;
};
constexpr std::array kKinds = {Kind{SampleKind::kDeepseekFp8, "deepseek-fp8"},
                               Kind{SampleKind::kHybrid, "hybrid"},
                               Kind{SampleKind::kMixed, "mixed"}};

/// What the tensor is in the files, from which all of its bytes follow.
enum class Role { kNorm, kPlain, kFp8, kScale };

struct SampleTensor {
  std::string name;
  FormatId format;
  Role role;
  std::vector<std::int64_t> shape;  ///< row-major
  std::int64_t weight_cols = 0;     ///< of a scale: those of its weight
  std::optional<std::int64_t> layer = std::nullopt;
};

std::vector<std::byte> make_bytes(const SampleTensor& tensor) {
  const std::int64_t cols = tensor.shape.back();
  const std::int64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape[0];
  switch (tensor.role) {
    case Role::kNorm:
      return make_sample_norm(tensor.name, cols);
    case Role::kPlain:
      return make_sample_weights(tensor.name, tensor.format, rows, cols);
    case Role::kFp8:
      return make_sample_fp8(tensor.name, rows, cols);
    case Role::kScale:
      return make_sample_fp8_scales(tensor.name, rows, cols, tensor.weight_cols);
  }
  KTJIT_UNREACHABLE("a known role");
}

ByteSource source_of(const SampleTensor& tensor) {
  return [tensor](const ByteSink& sink) { sink(make_bytes(tensor)); };
}

/// Collects the tensors of the checkpoint, layer by layer.
class TensorList {
 public:
  void set_layer(std::int64_t layer) { layer_ = layer; }
  void leave_layers() { layer_.reset(); }

  void norm(std::string_view name, std::int64_t size) { add(name, kF32, Role::kNorm, {size}); }
  void plain(std::string_view name, std::vector<std::int64_t> shape) {
    add(name, kBF16, Role::kPlain, std::move(shape));
  }
  void linear(std::string_view name, std::int64_t rows, std::int64_t cols) {
    add(name, kFp8E4M3, Role::kFp8, {rows, cols});
    const ScaleGrid grid{kBlock, kBlock};
    add(fmt::format("{}_scale_inv", name), kF32, Role::kScale,
        {grid.rows_of_scales(rows), grid.cols_of_scales(cols)});
    tensors.back().weight_cols = cols;
  }

  std::vector<SampleTensor> tensors;

 private:
  void add(std::string_view name, FormatId format, Role role, std::vector<std::int64_t> shape) {
    const std::string prefix = layer_ ? fmt::format("model.layers.{}.", *layer_) : std::string();
    tensors.push_back({prefix + std::string(name), format, role, std::move(shape), 0, layer_});
  }

  std::optional<std::int64_t> layer_;
};

void add_attention(TensorList& list) {
  list.norm("input_layernorm.weight", kHidden);
  list.linear("self_attn.q_a_proj.weight", kQueryRank, kHidden);
  list.norm("self_attn.q_a_layernorm.weight", kQueryRank);
  list.linear("self_attn.q_b_proj.weight", kHeads * (kNopeSize + kRopeSize), kQueryRank);
  list.linear("self_attn.kv_a_proj_with_mqa.weight", kKeyValueRank + kRopeSize, kHidden);
  list.norm("self_attn.kv_a_layernorm.weight", kKeyValueRank);
  list.linear("self_attn.kv_b_proj.weight", kHeads * (kNopeSize + kValueSize), kKeyValueRank);
  list.linear("self_attn.o_proj.weight", kHidden, kHeads * kValueSize);
  list.norm("post_attention_layernorm.weight", kHidden);
}

void add_feed_forward(TensorList& list, std::string_view prefix, std::int64_t inner) {
  list.linear(fmt::format("{}.gate_proj.weight", prefix), inner, kHidden);
  list.linear(fmt::format("{}.up_proj.weight", prefix), inner, kHidden);
  list.linear(fmt::format("{}.down_proj.weight", prefix), kHidden, inner);
}

std::vector<SampleTensor> list_tensors(bool with_experts) {
  TensorList list;
  list.plain("model.embed_tokens.weight", {kVocabulary, kHidden});
  for (std::int64_t layer = 0; layer < kLayers; ++layer) {
    list.set_layer(layer);
    add_attention(list);
    if (layer < kDenseLayers) {
      add_feed_forward(list, "mlp", kFeedForward);
      continue;
    }
    list.plain("mlp.gate.weight", {kExperts, kHidden});
    list.norm("mlp.gate.e_score_correction_bias", kExperts);
    add_feed_forward(list, "mlp.shared_experts", kExpertInner);
    for (std::int64_t expert = 0; with_experts && expert < kExperts; ++expert)
      add_feed_forward(list, fmt::format("mlp.experts.{}", expert), kExpertInner);
  }
  list.leave_layers();
  list.norm("model.norm.weight", kHidden);
  list.plain("lm_head.weight", {kVocabulary, kHidden});
  return list.tensors;
}

/// The routed experts of a layer, stacked as ggml has them.
struct GgmlExperts {
  std::string name;
  FormatId format;
  std::int64_t rows;  ///< of all experts
  std::int64_t cols;
};

std::vector<GgmlExperts> list_ggml_experts(std::int64_t layer) {
  return {
      {fmt::format("blk.{}.ffn_gate_exps.weight", layer), kQ4_K, kExperts * kExpertInner, kHidden},
      {fmt::format("blk.{}.ffn_up_exps.weight", layer), kQ4_K, kExperts * kExpertInner, kHidden},
      {fmt::format("blk.{}.ffn_down_exps.weight", layer), kQ6_K, kExperts * kHidden, kExpertInner}};
}

ByteSource source_of(const GgmlExperts& experts) {
  return [experts](const ByteSink& sink) {
    sink(make_sample_weights(experts.name, experts.format, experts.rows, experts.cols));
  };
}

/// The name that KTransformers gives to the tensor.
std::string gguf_name(std::string name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 20> kNames = {{
      {"model.layers.", "blk."},
      {"model.embed_tokens.", "token_embd."},
      {"model.norm.", "output_norm."},
      {"lm_head.", "output."},
      {".input_layernorm", ".attn_norm"},
      {".post_attention_layernorm", ".ffn_norm"},
      {".self_attn.q_a_proj", ".attn_q_a"},
      {".self_attn.q_a_layernorm", ".attn_q_a_norm"},
      {".self_attn.q_b_proj", ".attn_q_b"},
      {".self_attn.kv_a_proj_with_mqa", ".attn_kv_a_mqa"},
      {".self_attn.kv_a_layernorm", ".attn_kv_a_norm"},
      {".self_attn.kv_b_proj", ".attn_kv_b"},
      {".self_attn.o_proj", ".attn_output"},
      {".mlp.shared_experts.gate_proj", ".ffn_gate_shexp"},
      {".mlp.shared_experts.up_proj", ".ffn_up_shexp"},
      {".mlp.shared_experts.down_proj", ".ffn_down_shexp"},
      {".mlp.gate_proj", ".ffn_gate"},
      {".mlp.up_proj", ".ffn_up"},
      {".mlp.down_proj", ".ffn_down"},
      {".mlp.gate.weight", ".ffn_gate_inp.weight"},
  }};
  constexpr std::string_view kBias = ".mlp.gate.e_score_correction_bias";
  if (name.ends_with(kBias))
    name.replace(name.size() - kBias.size(), kBias.size(), ".exp_probs_b.bias");
  for (const auto& [from, to] : kNames) {
    if (const auto at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  }
  return name;
}

void write_config(const std::filesystem::path& folder) {
  const nlohmann::ordered_json config = {{"architectures", {"DeepseekV3ForCausalLM"}},
                                         {"model_type", "deepseek_v3"},
                                         {"first_k_dense_replace", kDenseLayers},
                                         {"hidden_size", kHidden},
                                         {"intermediate_size", kFeedForward},
                                         {"kv_lora_rank", kKeyValueRank},
                                         {"max_position_embeddings", 4096},
                                         {"moe_intermediate_size", kExpertInner},
                                         {"n_routed_experts", kExperts},
                                         {"n_shared_experts", 1},
                                         {"num_attention_heads", kHeads},
                                         {"num_experts_per_tok", 2},
                                         {"num_hidden_layers", kLayers},
                                         {"num_key_value_heads", kHeads},
                                         {"num_nextn_predict_layers", 0},
                                         {"q_lora_rank", kQueryRank},
                                         {"qk_nope_head_dim", kNopeSize},
                                         {"qk_rope_head_dim", kRopeSize},
                                         {"quantization_config",
                                          {{"activation_scheme", "dynamic"},
                                           {"fmt", "e4m3"},
                                           {"quant_method", "fp8"},
                                           {"weight_block_size", {kBlock, kBlock}}}},
                                         {"rms_norm_eps", 1e-6},
                                         {"rope_theta", 10000},
                                         {"tie_word_embeddings", false},
                                         {"torch_dtype", "bfloat16"},
                                         {"v_head_dim", kValueSize},
                                         {"vocab_size", kVocabulary}};
  const std::string text = config.dump(2) + "\n";
  OutputFile file(folder / "config.json");
  file.write(std::as_bytes(std::span(text.data(), text.size())));
  file.commit();
}

void write_published(const std::filesystem::path& folder, bool with_experts) {
  ShardedSafetensorsWriter writer(folder, kShardBytes);
  for (const SampleTensor& tensor : list_tensors(with_experts))
    writer.add_tensor(tensor.name, tensor.format, tensor.shape, source_of(tensor));
  writer.finish();
  write_config(folder);
}

void write_experts_as_gguf(const std::filesystem::path& path) {
  GgufWriter writer(path);
  const auto u32 = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
  writer.set("general.architecture", "deepseek2");
  writer.set("general.name", "ktjit sample, routed experts");
  writer.set("deepseek2.block_count", u32(kLayers));
  writer.set("deepseek2.expert_count", u32(kExperts));
  writer.set("deepseek2.expert_used_count", 2u);
  writer.set("deepseek2.embedding_length", u32(kHidden));
  writer.set("deepseek2.expert_feed_forward_length", u32(kExpertInner));
  for (std::int64_t layer = kDenseLayers; layer < kLayers; ++layer) {
    for (const GgmlExperts& experts : list_ggml_experts(layer)) {
      const std::array<std::int64_t, 3> ne = {experts.cols, experts.rows / kExperts, kExperts};
      writer.add_tensor(experts.name, experts.format, ne, source_of(experts));
    }
  }
  writer.finish();
}

void add_raw_experts(SafetensorsWriter& writer, std::int64_t layer) {
  for (const GgmlExperts& experts : list_ggml_experts(layer)) {
    const Format& format = get_format(experts.format);
    const std::array<std::int64_t, 1> bytes = {experts.rows * experts.cols / format.block_elems *
                                               format.block_bytes};
    writer.add_tensor(experts.name, kU8, bytes, source_of(experts));
    const std::int64_t type = format.ggml_type;
    const std::string stem = experts.name.substr(0, experts.name.rfind('.'));
    writer.add_tensor(stem + ".ggml_type", kI64, {},
                      [type](const ByteSink& sink) { sink(std::as_bytes(std::span(&type, 1))); });
  }
}

/// Shards are numbered from 0 and the last number is the count, as the merge script has it.
void write_hybrid(const std::filesystem::path& folder) {
  const std::vector<SampleTensor> tensors = list_tensors(false);
  const auto shard_path = [&](std::int64_t index) {
    return folder / fmt::format("model-{:05}-of-{:05}.safetensors", index, kLayers);
  };
  const auto add_all_of = [&](SafetensorsWriter& writer, std::optional<std::int64_t> layer) {
    for (const SampleTensor& tensor : tensors) {
      if (tensor.layer != layer) continue;
      writer.add_tensor(gguf_name(tensor.name), tensor.format, tensor.shape, source_of(tensor));
    }
  };
  SafetensorsWriter outside(shard_path(0));
  add_all_of(outside, std::nullopt);
  outside.finish();
  for (std::int64_t layer = 0; layer < kLayers; ++layer) {
    SafetensorsWriter writer(shard_path(layer + 1));
    add_all_of(writer, layer);
    if (layer >= kDenseLayers) add_raw_experts(writer, layer);
    writer.finish();
  }
}

void make_empty_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw OutputError(folder, fmt::format("cannot be made: {}", error.message()));
  const bool is_empty = std::filesystem::is_empty(folder, error);
  if (error) throw OutputError(folder, fmt::format("cannot be listed: {}", error.message()));
  // A shard of another checkpoint among ours would make one that nobody can read.
  if (!is_empty) throw OutputError(folder, "is not empty, expected a new or empty folder");
}

}  // namespace

std::string_view sample_kind_name(SampleKind kind) {
  const auto at = std::ranges::find(kKinds, kind, &Kind::kind);
  KTJIT_CHECK(at != kKinds.end());
  return at->name;
}

SampleKind get_sample_kind(std::string_view name) {
  const auto at = std::ranges::find(kKinds, name, &Kind::name);
  if (at == kKinds.end())
    throw SpecError("kind", fmt::format("'{}'", name), "deepseek-fp8, hybrid, mixed");
  return at->kind;
}

void write_sample_checkpoint(const std::filesystem::path& folder, SampleKind kind) {
  make_empty_folder(folder);
  switch (kind) {
    case SampleKind::kDeepseekFp8:
      return write_published(folder, true);
    case SampleKind::kHybrid:
      return write_hybrid(folder);
    case SampleKind::kMixed:
      write_published(folder, false);
      return write_experts_as_gguf(folder / "experts-Q4_K_M.gguf");
  }
}

}  // namespace ktjit::model
