// What metadata and shapes tell: caches of known models, worked out by hand.
#include "jit/model_shape.h"

#include <catch2/catch.hpp>

#include "tests/jit/made_model.h"

namespace ktjit {
namespace {

using test::MadeModel;

KvCache cache_of(MadeModel& made) { return read_model_shape(made.make()).kv_cache; }

void set_llama3_8b(MadeModel& made) {
  made.set("general.architecture", std::string("llama"));
  made.set("llama.block_count", std::uint32_t{32});
  made.set("llama.attention.head_count", std::uint32_t{32});
  made.set("llama.attention.head_count_kv", std::uint32_t{8});
  made.set("llama.embedding_length", std::uint32_t{4096});
}

void set_deepseek_v3_config(MadeModel& made) {
  made.set("config.model_type", std::string("deepseek_v3"));
  made.set("config.num_hidden_layers", std::uint64_t{61});
  made.set("config.num_attention_heads", std::uint64_t{128});
  made.set("config.num_key_value_heads", std::uint64_t{128});
  made.set("config.hidden_size", std::uint64_t{7168});
  made.set("config.kv_lora_rank", std::uint64_t{512});
  made.set("config.qk_rope_head_dim", std::uint64_t{64});
  made.set("config.v_head_dim", std::uint64_t{128});
  made.set("config.n_routed_experts", std::uint64_t{256});
  made.set("config.num_experts_per_tok", std::uint64_t{8});
  made.set("config.num_nextn_predict_layers", std::uint64_t{1});
}

}  // namespace

TEST_CASE("Llama-3-8B keeps 128 KiB for a token") {
  MadeModel made;
  set_llama3_8b(made);
  const KvCache cache = cache_of(made);
  // 32 layers x 8 heads x (128 + 128) values x 2 bytes.
  CHECK(kv_cache_bytes(cache, 1) == 131072);
  CHECK(kv_cache_bytes(cache, 8192) == 8192ull * 131072);
  CHECK(cache.rule == "32 layers x 8 heads x (128 + 128)");
  CHECK(longest_context(cache, 10 * 131072 + 5) == 10);
  CHECK(longest_context(cache, 131071) == 0);
}

TEST_CASE("the same model by config.json keeps the same") {
  MadeModel made;
  made.set("config.model_type", std::string("llama"));
  made.set("config.num_hidden_layers", std::int64_t{32});
  made.set("config.num_attention_heads", std::int64_t{32});
  made.set("config.num_key_value_heads", std::int64_t{8});
  made.set("config.hidden_size", std::int64_t{4096});
  CHECK(kv_cache_bytes(cache_of(made), 1) == 131072);
}

TEST_CASE("head_dim in config.json, and a text model's configuration below text_config, count") {
  MadeModel made;  // Qwen3-VL-like
  made.set("config.model_type", std::string("qwen3_vl"));
  made.set("config.text_config.num_hidden_layers", std::int64_t{36});
  made.set("config.text_config.num_attention_heads", std::int64_t{32});
  made.set("config.text_config.num_key_value_heads", std::int64_t{8});
  made.set("config.text_config.hidden_size", std::int64_t{2560});
  made.set("config.text_config.head_dim", std::int64_t{128});
  CHECK(kv_cache_bytes(cache_of(made), 1) == 36 * 8 * (128 + 128) * 2);
}

TEST_CASE("DeepSeek-V3 keeps one compressed vector and one rotated key a layer") {
  MadeModel made;
  set_deepseek_v3_config(made);
  const model::Model model = made.make();
  const ModelShape shape = read_model_shape(model);
  CHECK(kv_cache_bytes(shape.kv_cache, 1) == 61 * (512 + 64) * 2);
  CHECK(kv_cache_bytes(shape.kv_cache, 163840) == 163840ull * 61 * (512 + 64) * 2);
  CHECK(shape.architecture == "deepseek_v3");
  CHECK(shape.layers == 61);
  CHECK(shape.experts == 256);
  CHECK(shape.experts_used == 8);
}

TEST_CASE("DeepSeek-V3 as GGUF keeps the same") {
  MadeModel made;
  made.set("general.architecture", std::string("deepseek2"));
  made.set("deepseek2.block_count", std::uint32_t{61});
  made.set("deepseek2.attention.head_count", std::uint32_t{128});
  made.set("deepseek2.attention.head_count_kv", std::uint32_t{1});
  made.set("deepseek2.attention.kv_lora_rank", std::uint32_t{512});
  made.set("deepseek2.rope.dimension_count", std::uint32_t{64});
  made.set("deepseek2.expert_count", std::uint32_t{256});
  made.set("deepseek2.expert_used_count", std::uint32_t{8});
  CHECK(kv_cache_bytes(cache_of(made), 4096) == 4096ull * 61 * (512 + 64) * 2);
}

TEST_CASE("a folder with config.json and GGUF files is read in both vocabularies") {
  MadeModel made;
  set_deepseek_v3_config(made);
  made.set("general.architecture", std::string("deepseek2"));
  made.set("deepseek2.expert_used_count", std::uint32_t{6});
  const model::Model model = made.make();
  const ModelShape shape = read_model_shape(model);
  CHECK(shape.architecture == "deepseek2");
  CHECK(shape.experts == 256);
  CHECK(shape.experts_used == 6);  // GGUF's first
  CHECK(kv_cache_bytes(shape.kv_cache, 1) == 61 * (512 + 64) * 2);
}

TEST_CASE("sliding windows end the growth of the layers that have them") {
  MadeModel made;  // Gemma-2-9B: 42 layers, every second sees all
  made.set("general.architecture", std::string("gemma2"));
  made.set("gemma2.block_count", std::uint32_t{42});
  made.set("gemma2.attention.head_count", std::uint32_t{16});
  made.set("gemma2.attention.head_count_kv", std::uint32_t{8});
  made.set("gemma2.attention.key_length", std::uint32_t{256});
  made.set("gemma2.attention.value_length", std::uint32_t{256});
  made.set("gemma2.attention.sliding_window", std::uint32_t{4096});
  const KvCache cache = cache_of(made);
  const std::uint64_t layer_token = 8 * (256 + 256) * 2;
  CHECK(kv_cache_bytes(cache, 1000) == 42 * 1000 * layer_token);
  CHECK(kv_cache_bytes(cache, 8192) == 21 * 8192 * layer_token + 21 * 4096 * layer_token);
  CHECK_FALSE(cache.upper_bound);
}

TEST_CASE("layer_types of config.json say which layers have windows, and which no cache") {
  MadeModel made;
  made.set("config.num_hidden_layers", std::int64_t{4});
  made.set("config.num_attention_heads", std::int64_t{4});
  made.set("config.num_key_value_heads", std::int64_t{2});
  made.set("config.head_dim", std::int64_t{64});
  made.set("config.sliding_window", std::int64_t{128});
  made.set("config.layer_types", std::vector<std::string>{"sliding_attention", "full_attention",
                                                          "linear_attention", "full_attention"});
  const std::uint64_t layer_token = 2 * (64 + 64) * 2;
  CHECK(kv_cache_bytes(cache_of(made), 1000) == (2 * 1000 + 128) * layer_token);
}

TEST_CASE("a window that is switched off is none") {
  MadeModel made;  // Qwen2.5
  made.set("config.num_hidden_layers", std::int64_t{28});
  made.set("config.num_attention_heads", std::int64_t{28});
  made.set("config.num_key_value_heads", std::int64_t{4});
  made.set("config.hidden_size", std::int64_t{3584});
  made.set("config.sliding_window", std::int64_t{4096});
  made.set("config.use_sliding_window", false);
  CHECK(kv_cache_bytes(cache_of(made), 10000) == 10000ull * 28 * 4 * 256 * 2);
}

TEST_CASE("windows that a GGUF file doesn't place are counted as none, and said to be") {
  MadeModel made;
  set_llama3_8b(made);
  made.set("llama.attention.sliding_window", std::uint32_t{512});
  const KvCache cache = cache_of(made);
  CHECK(cache.upper_bound);
  CHECK(kv_cache_bytes(cache, 8192) == 8192ull * 131072);
  CHECK(cache.rule.find("at most") != std::string::npos);
}

TEST_CASE("heads that differ from layer to layer are added up") {
  MadeModel made;
  made.set("general.architecture", std::string("granitehybrid"));
  made.set("granitehybrid.block_count", std::uint32_t{4});
  made.set("granitehybrid.attention.head_count", std::uint32_t{8});
  made.set("granitehybrid.attention.head_count_kv", std::vector<std::int32_t>{0, 2, 0, 4});
  made.set("granitehybrid.embedding_length", std::uint32_t{512});
  made.set("granitehybrid.ssm.state_size", std::uint32_t{128});
  CHECK(kv_cache_bytes(cache_of(made), 10) == 10 * (2 + 4) * (64 + 64) * 2);
}

TEST_CASE("recurrent layers that aren't named leave the cache unknown, with the reason") {
  MadeModel made;
  set_llama3_8b(made);
  made.set("llama.ssm.state_size", std::uint32_t{16});
  const KvCache cache = cache_of(made);
  CHECK_FALSE(cache.known());
  CHECK(kv_cache_bytes(cache, 100) == std::nullopt);
  CHECK(longest_context(cache, 1 << 30) == std::nullopt);
  CHECK(cache.rule.find("recurrent") != std::string::npos);
}

TEST_CASE("without metadata the projections' shapes tell") {
  MadeModel made;  // KTransformers' hybrid has no config.json
  for (int layer = 0; layer < 3; ++layer) {
    const std::string block = "blk." + std::to_string(layer);
    made.add(block + ".attn_kv_a_mqa.weight", FormatId::kBF16, 576, 7168);
    made.add(block + ".attn_kv_b.weight", FormatId::kBF16, 32768, 512);
  }
  const model::Model hybrid = made.make();
  CHECK(kv_cache_bytes(read_model_shape(hybrid).kv_cache, 7) == 7 * 3 * 576 * 2);
  CHECK(read_model_shape(hybrid).layers == 3);

  MadeModel plain;
  plain.add("model.layers.0.self_attn.k_proj.weight", FormatId::kBF16, 1024, 4096);
  plain.add("model.layers.0.self_attn.v_proj.weight", FormatId::kBF16, 1024, 4096);
  CHECK(kv_cache_bytes(cache_of(plain), 7) == 7 * (1024 + 1024) * 2);
}

TEST_CASE("metadata beyond reason is not believed") {
  MadeModel made;
  made.set("general.architecture", std::string("llama"));
  made.set("llama.block_count", std::uint64_t{1} << 31);
  made.set("llama.attention.head_count", std::uint64_t{1} << 31);
  made.set("llama.attention.key_length", std::uint64_t{1} << 31);
  CHECK_FALSE(cache_of(made).known());
  // Plausible each, but not together.
  const KvCache wide{{{std::uint64_t{1} << 32, std::uint64_t{1} << 32, std::nullopt}}, "", false};
  CHECK(kv_cache_bytes(wide, 1 << 20) == std::nullopt);
}

TEST_CASE("roles are told from names of llama.cpp, Hugging Face and KTransformers") {
  MadeModel made;
  made.set("config.num_hidden_layers", std::uint64_t{61});
  const std::vector<std::pair<std::string, TensorRole>> cases = {
      {"model.embed_tokens.weight", TensorRole::kLookup},
      {"lm_head.weight", TensorRole::kDense},
      {"model.layers.3.mlp.experts.17.gate_proj.weight", TensorRole::kExpert},
      {"model.layers.3.mlp.shared_experts.gate_proj.weight", TensorRole::kDense},
      {"model.layers.60.self_attn.o_proj.weight", TensorRole::kDense},
      {"model.layers.61.mlp.experts.0.up_proj.weight", TensorRole::kNotDecoded},
      {"model.layers.61.eh_proj.weight", TensorRole::kNotDecoded},
      {"model.visual.blocks.0.attn.qkv.weight", TensorRole::kNotDecoded},
      {"vision_tower.encoder.layers.0.fc.weight", TensorRole::kNotDecoded},
      {"blk.5.ffn_gate_exps.weight", TensorRole::kExpert},
      {"blk.5.ffn_gate_shexp.weight", TensorRole::kDense},
      {"blk.5.ffn_gate_inp.weight", TensorRole::kDense},
      {"blk.5.ffn_up.3.weight", TensorRole::kExpert},
      {"blk.5.ffn_up.weight", TensorRole::kDense},
      {"model.layers.2.block_sparse_moe.experts.7.w1.weight", TensorRole::kExpert},
  };
  for (const auto& [name, role] : cases) made.add(name, FormatId::kBF16, 4, 4);
  const model::Model model = made.make();
  const std::vector<TensorRole> roles = roles_of(model, read_model_shape(model));
  REQUIRE(roles.size() == cases.size());
  for (std::size_t at = 0; at < cases.size(); ++at) {
    INFO(cases[at].first);
    CHECK(roles[at] == cases[at].second);
  }
}

TEST_CASE("an embedding without an output layer beside it is read whole") {
  MadeModel made;
  made.add("token_embd.weight", FormatId::kF16, 100, 32);
  made.add("blk.0.attn_q.weight", FormatId::kF16, 32, 32);
  const model::Model model = made.make();
  CHECK(roles_of(model, read_model_shape(model)).front() == TensorRole::kDense);
}

}  // namespace ktjit
