#include "convert/tensor_choice.h"

#include <catch2/catch.hpp>

namespace ktjit::convert {
namespace {

model::TensorInfo tensor(const std::string& name, int n_dims, FormatId format = FormatId::kBF16) {
  model::TensorInfo info;
  info.name = name;
  info.format = format;
  info.n_dims = n_dims;
  for (int i = 0; i < n_dims; ++i) info.ne[static_cast<std::size_t>(i)] = 64;
  return info;
}

}  // namespace

TEST_CASE("linear weights are converted, what is small or decides much is kept") {
  const ChooseTensor choose = choose_linears({FormatId::kFp8E4M3, ScaleGrid{128, 128}}, false);
  for (const char* name :
       {"blk.0.attn_q.weight", "model.layers.3.mlp.gate_proj.weight",
        "model.layers.3.mlp.experts.7.up_proj.weight", "blk.1.ffn_gate_shexp.weight"}) {
    CAPTURE(name);
    REQUIRE(choose(tensor(name, 2)).to.has_value());
    CHECK(choose(tensor(name, 2)).to->id == FormatId::kFp8E4M3);
  }
  CHECK(choose(tensor("blk.1.ffn_up_exps.weight", 3)).to.has_value());
  for (const char* name :
       {"token_embd.weight", "output.weight", "lm_head.weight", "model.embed_tokens.weight",
        "blk.1.ffn_gate_inp.weight", "model.layers.1.mlp.gate.weight"}) {
    CAPTURE(name);
    CHECK_FALSE(choose(tensor(name, 2)).to.has_value());
    CHECK_FALSE(choose(tensor(name, 2)).reason.empty());
    CHECK(choose_linears({FormatId::kF16, {}}, true)(tensor(name, 2)).to.has_value());
  }
  for (const char* name : {"output_norm.weight", "blk.0.attn_q.bias", "blk.0.attn_q.weight"}) {
    CHECK_FALSE(choose(tensor(name, 1)).to.has_value());
    CHECK_FALSE(choose_linears({FormatId::kF16, {}}, true)(tensor(name, 1)).to.has_value());
  }
  CHECK_FALSE(choose(tensor("blk.0.ids.weight", 2, FormatId::kI32)).to.has_value());
}

}  // namespace ktjit::convert
