// KTransformers' hybrids: ggml's bytes without a shape beside FP8 linears.
#include <catch2/catch.hpp>

#include "model/hybrid_shapes.h"
#include "tests/model/checkpoint_builder.h"

namespace ktjit::model {
namespace {

using enum FormatId;

constexpr std::int64_t kExperts = 3;
constexpr std::int64_t kHidden = 512;
constexpr std::int64_t kInner = 256;
constexpr std::int64_t kElements = kExperts * kHidden * kInner;

std::vector<std::byte> type_id(std::int64_t id) { return bytes_of(std::vector<std::int64_t>{id}); }

/// Routed experts of one layer: down as q6_K, gate as q4_K, up as f32 without a type.
CheckpointBuilder& add_experts(CheckpointBuilder& files) {
  return files.add("blk.7.ffn_down_exps.weight", kU8, {kElements / 256 * 210})
      .add("blk.7.ffn_down_exps.ggml_type", kI64, {}, type_id(14))
      .add("blk.7.ffn_gate_exps.weight", kU8, {kElements / 256 * 144})
      .add("blk.7.ffn_gate_exps.ggml_type", kI64, {}, type_id(12))
      .add("blk.7.ffn_up_exps.weight", kF32, {kElements});
}

TEST_CASE("shapes of raw experts come from the router, types from .ggml_type") {
  CheckpointBuilder files;
  add_experts(files)
      .add("blk.7.ffn_gate_inp.weight", kBF16, {kExperts, kHidden})
      .add("blk.7.attn_kv_b.weight", kFp8E4M3, {300, 512})
      .scales("blk.7.attn_kv_b.weight_scale_inv", {3, 4});
  const Model model = files.open();
  CHECK(model.container() == "KTransformers hybrid");
  CHECK(model.tensors().size() == 5);
  const TensorInfo& down = model.get_tensor("blk.7.ffn_down_exps.weight");
  CHECK(down.format == kQ6_K);
  CHECK(shape_to_text(down) == "[256, 512, 3]");
  CHECK(model.get_tensor("blk.7.ffn_gate_exps.weight").format == kQ4_K);
  CHECK(shape_to_text(model.get_tensor("blk.7.ffn_gate_exps.weight")) == "[512, 256, 3]");
  CHECK(model.get_tensor("blk.7.ffn_up_exps.weight").format == kF32);
  CHECK(shape_to_text(model.get_tensor("blk.7.ffn_up_exps.weight")) == "[512, 256, 3]");
  CHECK(model.get_tensor("blk.7.attn_kv_b.weight").scale_grid == ScaleGrid{128, 128});
  REQUIRE(model.notes().size() == 2);
  CHECK(
      model.notes()[0] ==
      "'blk.7.attn_kv_b.weight' has scales 128x128 f32: no config.json says so, their shapes fit");
  CHECK(model.notes()[1] ==
        "'blk.7.ffn_up_exps.weight' has no '.ggml_type', taken as f32, the type that the merge "
        "script leaves out");
}

TEST_CASE("without a router config.json tells the shapes, without both they are rows of 256") {
  CheckpointBuilder with_config;
  const Model known =
      add_experts(with_config)
          .config(R"({"num_experts": 3, "hidden_size": 512, "moe_intermediate_size": 256})")
          .open();
  CHECK(shape_to_text(known.get_tensor("blk.7.ffn_down_exps.weight")) == "[256, 512, 3]");

  CheckpointBuilder alone;
  const Model unknown = add_experts(alone).open();
  CHECK(shape_to_text(unknown.get_tensor("blk.7.ffn_down_exps.weight")) == "[256, 1536]");
  CHECK(
      unknown.notes().back() ==
      "3 tensors, the first 'blk.7.ffn_up_exps.weight': each has no shape that can be told, served "
      "as rows of its elements in their order");

  CheckpointBuilder wrong;
  CHECK(add_experts(wrong)
            .config(R"({"num_experts": 3, "hidden_size": 512, "moe_intermediate_size": 300})")
            .message() ==
        "model.safetensors: tensor 'blk.7.ffn_up_exps.weight': has 393216 elements, 3 x 512 x 256, "
        "but config.json gives moe_intermediate_size 300");
}

TEST_CASE("raw bytes that contradict their type or the router are refused") {
  const auto message = [](std::int64_t bytes, std::int64_t type, FormatId dtype = kU8,
                          FormatId type_dtype = kI64) {
    CheckpointBuilder files;
    files.add("blk.0.ffn_up_exps.weight", dtype, {bytes})
        .add("blk.0.ffn_gate_inp.weight", kF32, {2, 256});
    if (type_dtype == kI64) {
      files.add("blk.0.ffn_up_exps.ggml_type", kI64, {}, type_id(type));
    } else {
      files.add("blk.0.ffn_up_exps.ggml_type", type_dtype, {2});
    }
    return files.message();
  };
  const std::string place = "model.safetensors: tensor 'blk.0.ffn_up_exps.weight': ";
  const std::string type_place = "model.safetensors: tensor 'blk.0.ffn_up_exps.ggml_type': ";
  CHECK(message(4 * 144, 12) == "no error");
  CHECK(message(4 * 144, 12, kU8, kU8) ==
        type_place + "is U8 [2], expected one integer, a type id of ggml");
  CHECK(message(4 * 144 + 1, 12) ==
        place + "has 577 bytes, not a multiple of 144, a block of q4_K");
  CHECK(message(3 * 144, 12) ==
        place + "has 768 elements, expected a multiple of 2 experts x 256 hidden");
  CHECK(message(144, 77) == type_place + "is 77, which is no type id of ggml");
  CHECK(message(144, -1) == type_place + "is 4294967295, which is no type id of ggml");
  CHECK(message(512, 12, kF16) ==
        place + "is F16, but 'blk.0.ffn_up_exps.ggml_type' says q4_K, expected U8 or that");
  CHECK(message(512, 1, kF16) == "no error");  // as the merge script stores f16
  CHECK(message(1024, 30) == "no error");      // and bf16: as bytes
}

TEST_CASE("embeddings get their columns from a norm") {
  const Model model =
      CheckpointBuilder()
          .add("token_embd.weight", kU8, {4 * 144})
          .add("token_embd.ggml_type", kI32, {}, bytes_of(std::vector<std::int32_t>{12}))
          .add("output_norm.weight", kF32, {512})
          .open();
  CHECK(shape_to_text(model.get_tensor("token_embd.weight")) == "[512, 2]");
}

TEST_CASE("rows for a tensor without a shape are whole blocks") {
  CHECK(shape_as_rows(kQ8_0, 512).ne[0] == 256);
  CHECK(shape_as_rows(kQ8_0, 96).ne[0] == 32);
  CHECK(shape_as_rows(kQ4_K, 512).ne[0] == 256);
  CHECK(shape_as_rows(kF32, 7).ne[1] == 7);
}

}  // namespace
}  // namespace ktjit::model
