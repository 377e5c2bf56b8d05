#include "convert/tensor_names.h"

#include <catch2/catch.hpp>

#include "convert/weight_source.h"

namespace ktjit::convert {

TEST_CASE("names are translated there and back") {
  for (const auto& [hf, gguf] :
       {std::pair{"model.embed_tokens.weight", "token_embd.weight"},
        {"lm_head.weight", "output.weight"},
        {"model.norm.weight", "output_norm.weight"},
        {"model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"},
        {"model.layers.12.self_attn.k_proj.bias", "blk.12.attn_k.bias"},
        {"model.layers.3.mlp.gate.weight", "blk.3.ffn_gate_inp.weight"},
        {"model.layers.3.mlp.gate_proj.weight", "blk.3.ffn_gate.weight"},
        {"model.layers.3.mlp.gate.e_score_correction_bias", "blk.3.exp_probs_b.bias"},
        {"model.layers.60.self_attn.kv_a_proj_with_mqa.weight", "blk.60.attn_kv_a_mqa.weight"}}) {
    CAPTURE(hf);
    const auto translated = to_gguf_name(hf);
    REQUIRE(translated);
    CHECK(translated->name == gguf);
    CHECK_FALSE(translated->expert);
    CHECK(to_hugging_face_name(gguf) == std::string(hf));
  }
  const auto expert = to_gguf_name("model.layers.3.mlp.experts.17.down_proj.weight");
  REQUIRE(expert);
  CHECK(expert->name == "blk.3.ffn_down_exps.weight");
  CHECK(expert->expert == 17);
  CHECK(to_hugging_face_name("blk.3.ffn_down_exps.weight") ==
        std::string("model.layers.3.mlp.experts.{}.down_proj.weight"));
  for (const char* name :
       {"", "blk.", "blk.x.attn_q.weight", "model.layers.1", "model.layers.1.mlp.experts.up_proj",
        "blk.0.attn_k_b.weight", "visual.blocks.0.weight"}) {
    CAPTURE(name);
    CHECK_FALSE(to_gguf_name(name));
    CHECK_FALSE(to_hugging_face_name(name));
  }
}

TEST_CASE(
    "a llama's rows in llama.cpp's order put the halves of a rotary pair side by side, and back") {
  // Two heads of six rows: [h, 2, 3] becomes [h, 3, 2].
  const std::vector<std::int64_t> interleaved = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
  for (std::int64_t row = 0; row < 12; ++row) {
    const std::int64_t from = source_row(RowOrder::kInterleave, 6, row);
    CHECK(from == interleaved[static_cast<std::size_t>(row)]);
    // What one order takes from `from`, the other gives back.
    CHECK(interleaved[static_cast<std::size_t>(source_row(RowOrder::kDeinterleave, 6, row))] ==
          row);
    CHECK(source_row(RowOrder::kAsIs, 6, row) == row);
  }
}

}  // namespace ktjit::convert
