// Groups by name: GGUF's, Hugging Face's and KTransformers' names mean the same.
#include "rules/name_group.h"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/rules/rules_fixture.h"

using namespace ktjit;
using rules::NameGroup;
using test::make_tensor;

TEST_CASE("matrices are sorted into groups under GGUF's and Hugging Face's names") {
  const std::vector<std::pair<std::string, NameGroup>> cases = {
      {"token_embd.weight", NameGroup::kEmbedding},
      {"model.embed_tokens.weight", NameGroup::kEmbedding},
      {"per_layer_token_embd.weight", NameGroup::kEmbedding},
      {"output.weight", NameGroup::kOutput},
      {"lm_head.weight", NameGroup::kOutput},
      {"language_model.lm_head.weight", NameGroup::kOutput},
      {"blk.0.attn_q.weight", NameGroup::kAttention},
      {"blk.0.attn_output.weight", NameGroup::kAttention},
      {"blk.0.attn_kv_b.weight", NameGroup::kAttention},
      {"model.layers.0.self_attn.kv_b_proj.weight", NameGroup::kAttention},
      {"model.layers.61.self_attn.indexer.wk.weight", NameGroup::kAttention},
      {"blk.0.ffn_gate.weight", NameGroup::kFfn},
      {"model.layers.0.mlp.gate_proj.weight", NameGroup::kFfn},
      {"blk.1.ffn_gate_inp.weight", NameGroup::kRouter},
      {"model.layers.3.mlp.gate.weight", NameGroup::kRouter},
      {"model.layers.3.block_sparse_moe.gate.weight", NameGroup::kRouter},
      {"model.layers.3.mlp.shared_expert_gate.weight", NameGroup::kRouter},
      {"blk.1.ffn_gate_shexp.weight", NameGroup::kSharedExperts},
      {"model.layers.1.mlp.shared_experts.up_proj.weight", NameGroup::kSharedExperts},
      {"blk.1.ffn_down_exps.weight", NameGroup::kExperts},
      {"blk.1.ffn_down.3.weight", NameGroup::kExperts},
      {"model.layers.1.mlp.experts.0.down_proj.weight", NameGroup::kExperts},
      {"model.layers.1.block_sparse_moe.experts.0.w1.weight", NameGroup::kExperts},
      {"blk.0.ffn_down_exps.bias", NameGroup::kBias},
      {"blk.0.ssm_in.weight", NameGroup::kOther},
  };
  for (const auto& [name, group] : cases) {
    INFO(name);
    CHECK(rules::name_group_name(rules::name_group_of(make_tensor(name))) ==
          rules::name_group_name(group));
  }
}

TEST_CASE("vectors are norms, biases or a router's, and in no group of matrices") {
  const std::vector<std::pair<std::string, NameGroup>> cases = {
      {"blk.0.attn_norm.weight", NameGroup::kNorm},
      {"blk.0.attn_q_a_norm.weight", NameGroup::kNorm},
      {"output_norm.weight", NameGroup::kNorm},
      {"token_embd_norm.weight", NameGroup::kNorm},
      {"model.norm.weight", NameGroup::kNorm},
      {"model.layers.0.input_layernorm.weight", NameGroup::kNorm},
      {"model.layers.0.self_attn.q_norm.weight", NameGroup::kNorm},
      {"model.layers.0.self_attn.kv_a_layernorm.weight", NameGroup::kNorm},
      {"blk.0.attn_norm.bias", NameGroup::kNorm},
      {"blk.1.exp_probs_b.bias", NameGroup::kRouter},
      {"model.layers.3.mlp.gate.e_score_correction_bias", NameGroup::kRouter},
      {"blk.0.attn_q.bias", NameGroup::kBias},
      {"model.layers.0.self_attn.q_proj.bias", NameGroup::kBias},
      {"blk.0.attn_sinks.weight", NameGroup::kBias},
      {"rope_freqs.weight", NameGroup::kOther},
  };
  for (const auto& [name, group] : cases) {
    INFO(name);
    CHECK(rules::name_group_name(rules::name_group_of(make_tensor(name, FormatId::kF32, 0))) ==
          rules::name_group_name(group));
  }
}

TEST_CASE("groups have names that are found again") {
  CHECK(rules::all_name_groups().size() == 10);
  for (const NameGroup group : rules::all_name_groups())
    CHECK(rules::find_name_group(rules::name_group_name(group)) == group);
  CHECK(!rules::find_name_group("expert"));
}

TEST_CASE("a layer is the number behind blk, layers or h") {
  CHECK(rules::layer_of("blk.12.attn_q.weight") == 12);
  CHECK(rules::layer_of("model.layers.0.mlp.experts.7.up_proj.weight") == 0);
  CHECK(rules::layer_of("transformer.h.3.attn.c_attn.weight") == 3);
  CHECK(!rules::layer_of("output.weight"));
  CHECK(!rules::layer_of("model.layers.norm.weight"));
  CHECK(!rules::layer_of("blk.99999999999999999999.attn_q.weight"));
}
