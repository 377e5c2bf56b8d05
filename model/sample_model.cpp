// A llama-like model: its tensors and what llama.cpp asks of its metadata.
#include "model/sample_model.h"

#include <fmt/format.h>
#include <string>
#include <vector>

#include "core/format.h"
#include "model/gguf_writer.h"
#include "model/sample_weights.h"

namespace ktjit::model {
namespace {

constexpr std::int64_t kEmbedding = 256;
constexpr std::int64_t kFeedForward = 512;
constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kHeadsKv = 2;
constexpr std::int64_t kKeyValueRows = kEmbedding / kHeads * kHeadsKv;
constexpr std::int64_t kVocabulary = 1001;  // odd on purpose: no tile divides it
constexpr std::int64_t kNumberRows = 19;
constexpr std::uint32_t kContext = 512;
constexpr std::uint32_t kLayers = 5;

struct SampleTensor {
  std::string name;
  FormatId format;
  std::vector<std::int64_t> ne;
};

std::vector<SampleTensor> list_tensors() {
  using enum FormatId;
  const std::vector<std::int64_t> vector = {kEmbedding};
  const std::vector<std::int64_t> square = {kEmbedding, kEmbedding};
  const std::vector<std::int64_t> key_value = {kEmbedding, kKeyValueRows};
  const std::vector<std::int64_t> up = {kEmbedding, kFeedForward};
  const std::vector<std::int64_t> down = {kFeedForward, kEmbedding};
  const std::vector<std::int64_t> numbers = {kEmbedding, kNumberRows};
  const std::vector<std::int64_t> vocabulary = {kEmbedding, kVocabulary};
  return {
      {"token_embd.weight", kQ4_K, vocabulary},
      {"blk.0.attn_norm.weight", kF32, vector},
      {"blk.0.attn_q.weight", kQ4_K, square},
      {"blk.0.attn_k.weight", kF16, key_value},
      {"blk.0.attn_v.weight", kQ8_0, key_value},
      {"blk.0.attn_output.weight", kQ5_K, square},
      {"blk.0.ffn_norm.weight", kF32, vector},
      {"blk.0.ffn_gate.weight", kQ4_0, up},
      {"blk.0.ffn_up.weight", kIQ4_XS, up},
      {"blk.0.ffn_down.weight", kQ5_K, down},
      {"blk.1.attn_norm.weight", kF32, vector},
      {"blk.1.attn_q.weight", kBF16, square},
      {"blk.1.attn_k.weight", kF32, key_value},
      {"blk.1.attn_v.weight", kQ6_K, key_value},
      {"blk.1.attn_output.weight", kQ8_0, square},
      {"blk.1.ffn_norm.weight", kF32, vector},
      {"blk.1.ffn_gate.weight", kQ4_0, up},
      {"blk.1.ffn_up.weight", kGgmlMxfp4, up},
      {"blk.1.ffn_down.weight", kQ6_K, down},
      {"output_norm.weight", kF32, vector},
      {"output.weight", kQ6_K, vocabulary},
      // Two layers of other block formats.
      {"blk.2.attn_norm.weight", kF32, vector},
      {"blk.2.attn_q.weight", kQ4_1, square},
      {"blk.2.attn_k.weight", kQ5_0, key_value},
      {"blk.2.attn_v.weight", kQ5_1, key_value},
      {"blk.2.attn_output.weight", kQ2_K, square},
      {"blk.2.ffn_norm.weight", kF32, vector},
      {"blk.2.ffn_gate.weight", kIQ4_NL, up},
      {"blk.2.ffn_up.weight", kGgmlMxfp4, up},
      {"blk.2.ffn_down.weight", kGgmlNvfp4, down},
      {"blk.3.attn_norm.weight", kF32, vector},
      {"blk.3.attn_q.weight", kTQ1_0, square},
      {"blk.3.attn_k.weight", kTQ2_0, key_value},
      {"blk.3.attn_v.weight", kQ1_0, key_value},
      {"blk.3.attn_output.weight", kQ2_0, square},
      {"blk.3.ffn_norm.weight", kF32, vector},
      {"blk.3.ffn_gate.weight", kQ4_1, up},
      {"blk.3.ffn_up.weight", kQ2_K, up},
      {"blk.3.ffn_down.weight", kQ3_K, down},
      // A layer of formats with codebooks.
      {"blk.4.attn_norm.weight", kF32, vector},
      {"blk.4.attn_q.weight", kIQ3_XXS, square},
      {"blk.4.attn_k.weight", kIQ2_XS, key_value},
      {"blk.4.attn_v.weight", kIQ2_S, key_value},
      {"blk.4.attn_output.weight", kIQ2_XXS, square},
      {"blk.4.ffn_norm.weight", kF32, vector},
      {"blk.4.ffn_gate.weight", kIQ1_S, up},
      {"blk.4.ffn_up.weight", kIQ1_M, up},
      {"blk.4.ffn_down.weight", kIQ3_S, down},
      // No part of a llama: formats of numbers, and of activations.
      {"numbers.f64", kF64, numbers},
      {"numbers.i8", kI8, numbers},
      {"numbers.i16", kI16, numbers},
      {"numbers.i32", kI32, numbers},
      {"numbers.i64", kI64, numbers},
      {"activations.q8_1", kQ8_1, numbers},
      {"activations.q8_K", kQ8_K, numbers},
  };
}

std::vector<std::byte> make_bytes(const SampleTensor& tensor) {
  if (tensor.ne.size() == 1) return make_sample_norm(tensor.name, tensor.ne[0]);
  return make_sample_weights(tensor.name, tensor.format, tensor.ne[1], tensor.ne[0]);
}

void set_metadata(GgufWriter& writer) {
  constexpr std::uint32_t kMostlyQ4_K = 15;  // llama.cpp's LLAMA_FTYPE_MOSTLY_Q4_K_M
  const auto u32 = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
  writer.set("general.architecture", "llama");
  writer.set("general.name", "ktjit sample");
  writer.set("general.file_type", kMostlyQ4_K);
  writer.set("general.quantization_version", 2u);
  writer.set("llama.block_count", kLayers);
  writer.set("llama.context_length", kContext);
  writer.set("llama.embedding_length", u32(kEmbedding));
  writer.set("llama.feed_forward_length", u32(kFeedForward));
  writer.set("llama.attention.head_count", u32(kHeads));
  writer.set("llama.attention.head_count_kv", u32(kHeadsKv));
  writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  writer.set("llama.rope.dimension_count", u32(kEmbedding / kHeads));
  writer.set("llama.rope.freq_base", 10000.0f);
  writer.set("llama.vocab_size", u32(kVocabulary));

  constexpr std::int32_t kUnknown = 2;  // token types of llama.cpp
  constexpr std::int32_t kControl = 3;
  constexpr std::int32_t kNormal = 1;
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types = {kUnknown, kControl, kControl};
  std::vector<float> scores(tokens.size(), 0.0f);
  while (tokens.size() < kVocabulary) {
    scores.push_back(-static_cast<float>(tokens.size()));
    types.push_back(kNormal);
    tokens.push_back(fmt::format("token{}", tokens.size()));
  }
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.tokens", std::move(tokens));
  writer.set("tokenizer.ggml.scores", std::move(scores));
  writer.set("tokenizer.ggml.token_type", std::move(types));
  writer.set("tokenizer.ggml.bos_token_id", 1u);
  writer.set("tokenizer.ggml.eos_token_id", 2u);
  writer.set("tokenizer.ggml.unknown_token_id", 0u);
}

}  // namespace

void write_sample_model(const std::filesystem::path& path) {
  GgufWriter writer(path);
  set_metadata(writer);
  for (const SampleTensor& tensor : list_tensors()) {
    writer.add_tensor(tensor.name, tensor.format, tensor.ne,
                      [tensor](const ByteSink& sink) { sink(make_bytes(tensor)); });
  }
  writer.finish();
}

}  // namespace ktjit::model
