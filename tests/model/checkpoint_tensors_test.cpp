// The conventions of published checkpoints: which scales go to which weights, and what is refused.
#include "model/checkpoint_tensors.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>

#include "tests/model/checkpoint_builder.h"

namespace ktjit::model {
namespace {

using enum FormatId;

constexpr std::string_view kBlock128 =
    R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})";

/// The one note of the model, or all of them if there are several.
std::string note_of(const Model& model) {
  std::string all;
  for (const std::string& note : model.notes()) all += (all.empty() ? "" : " | ") + note;
  return all;
}

TEST_CASE("DeepSeek's FP8: a block scale goes to its weight and is no tensor of its own") {
  for (FormatId type : {kF32, kBF16, kE8M0}) {
    CheckpointBuilder files;
    files.config(kBlock128).add("a.weight", kFp8E4M3, {576, 300}).add("n.weight", kBF16, {300});
    files.add("a.weight_scale_inv", type, {5, 3});
    const Model model = files.open();
    CHECK(model.container() == "safetensors");
    REQUIRE(model.tensors().size() == 2);
    const TensorInfo& a = model.get_tensor("a.weight");
    CHECK(a.format == kFp8E4M3);
    CHECK(shape_to_text(a) == "[300, 576]");
    const ScaleType expected = type == kF32    ? ScaleType::kF32
                               : type == kBF16 ? ScaleType::kBF16
                                               : ScaleType::kE8M0;
    CHECK(a.scale_grid == ScaleGrid{128, 128, expected});
    CHECK(a.scale_data.size() == static_cast<std::size_t>(a.scale_grid->plane_bytes(576, 300)));
    CHECK(a.scale_name == "a.weight_scale_inv");
    CHECK_FALSE(model.get_tensor("n.weight").scale_grid.has_value());
    CHECK(note_of(model) == "");
  }
}

TEST_CASE("any announced block size is taken, and the shape of the scales is checked") {
  const auto message = [](Shape scale) {
    return CheckpointBuilder()
        .config(R"({"quantization_config": {"weight_block_size": [32, 48]}})")
        .add("a.weight", kFp8E4M3, {65, 100})
        .scales("a.weight_scale_inv", scale)
        .message();
  };
  CHECK(message({3, 3}) == "no error");
  for (const Shape& wrong : {Shape{3, 2}, Shape{65, 1}, Shape{1}, Shape{9}, Shape{3, 3, 1}}) {
    CHECK(message(wrong) ==
          "model.safetensors: tensor 'a.weight': its scale 'a.weight_scale_inv' has the shape " +
              shape_to_text(std::span(wrong)) +
              ", expected [3, 3], one for each 32x48 block of [65, 100]");
  }
}

TEST_CASE("without config.json the usual blocks are tried, and a note says so") {
  const Model model = CheckpointBuilder()
                          .add("a.weight", kFp8E4M3, {576, 300})
                          .scales("a.weight_scale_inv", {5, 3})
                          .add("b.weight", kFp8E4M3, {64, 100})
                          .scales("b.weight_scale_inv", {2, 4})
                          .open();
  CHECK(model.get_tensor("a.weight").scale_grid == ScaleGrid{128, 128});
  CHECK(model.get_tensor("b.weight").scale_grid == ScaleGrid{32, 32});
  CHECK(note_of(model) ==
        "'a.weight' has scales 128x128 f32: no config.json says so, their shapes fit | 'b.weight' "
        "has scales 32x32 f32: no config.json says so, their shapes fit");
  CHECK(
      CheckpointBuilder()
          .add("a.weight", kFp8E4M3, {576, 300})
          .scales("a.weight_scale_inv", {5, 2})
          .message() ==
      "model.safetensors: tensor 'a.weight': its scale 'a.weight_scale_inv' has the shape [5, 2], "
      "expected one scale for all, a row, or a usual block of [576, 300]");
}

TEST_CASE("compressed-tensors: a scale for a row, a column or the tensor") {
  const Model model =
      CheckpointBuilder()
          .config(R"({"quantization_config": {"quant_method": "compressed-tensors"}})")
          .add("row.weight", kFp8E4M3, {6, 40})
          .add("row.weight_scale", kBF16, {6, 1})
          .add("row1.weight", kFp8E4M3, {6, 40})
          .scales("row1.weight_scale", {6})
          .add("all.weight", kFp8E5M2, {6, 40})
          .scales("all.weight_scale", {})
          .scales("all.input_scale", {1})
          .add("col.weight", kFp8E4M3, {6, 40})
          .scales("col.weight_scale", {1, 40})
          .open();
  CHECK(model.tensors().size() == 4);
  CHECK(model.get_tensor("row.weight").scale_grid == ScaleGrid{1, 0, ScaleType::kBF16});
  CHECK(model.get_tensor("row1.weight").scale_grid == ScaleGrid{1, 0});
  CHECK(model.get_tensor("all.weight").scale_grid == ScaleGrid{0, 0});
  CHECK(model.get_tensor("all.weight").format == kFp8E5M2);
  CHECK(model.get_tensor("col.weight").scale_grid == ScaleGrid{0, 1});
  CHECK(note_of(model) == "'all.input_scale' scales activations; not needed and not listed");
}

TEST_CASE("MXFP8: E8M0 codes as U8, one for 32 columns") {
  const Model model = CheckpointBuilder()
                          .add("a.weight", kFp8E4M3, {3, 96})
                          .add("a.weight_scale", kU8, {3, 3})
                          .open();
  CHECK(model.get_tensor("a.weight").scale_grid == ScaleGrid{1, 32, ScaleType::kE8M0});
}

TEST_CASE("F16 scales are served as f32") {
  const Model model =
      CheckpointBuilder()
          .add("a.weight", kFp8E4M3, {2, 8})
          .add("a.weight_scale", kF16, {2, 1}, bytes_of(std::vector<std::uint16_t>{0x3c00, 0x0001}))
          .open();
  const TensorInfo& a = model.get_tensor("a.weight");
  CHECK(a.scale_grid == ScaleGrid{1, 0});
  CHECK(same_bytes(a.scale_data, bytes_of(std::vector<float>{1.0f, 0x1p-24f})));
}

TEST_CASE("gpt-oss: blocks of 16 bytes and their scales are one MXFP4 tensor") {
  for (const std::string separator : {"_", "."}) {
    const Model model = CheckpointBuilder()
                            .add("w" + separator + "blocks", kU8, {2, 5, 3, 16})
                            .add("w" + separator + "scales", kU8, {2, 5, 3})
                            .open();
    REQUIRE(model.tensors().size() == 1);
    const TensorInfo& w = model.tensors()[0];
    CHECK(w.format == kMxfp4);
    CHECK(shape_to_text(w) == "[96, 5, 2]");
    CHECK(w.scale_grid == ScaleGrid{1, 32, ScaleType::kE8M0});
    CHECK(w.data.size() == 480);
    CHECK(w.scale_data.size() == 30);
  }
  CHECK(CheckpointBuilder()
            .add("w_blocks", kU8, {2, 5, 3, 16})
            .add("w_scales", kU8, {2, 5, 2})
            .message() ==
        "model.safetensors: tensor 'w_blocks': its scale 'w_scales' has the shape [2, 5, 2], "
        "expected [2, 5, 3], one for each 1x32 block of [2, 5, 96]");
}

TEST_CASE("MXFP4 as compressed-tensors, DeepSeek-V4 and F4 have it") {
  const Model model = CheckpointBuilder()
                          .add("ct.weight_packed", kU8, {6, 32})
                          .add("ct.weight_scale", kU8, {6, 2})
                          .add("v4.weight", kI8, {6, 32})
                          .add("v4.scale", kE8M0, {6, 2})
                          .add("f4.weight", kFp4E2M1, {6, 64})
                          .add("f4.weight_scale", kE8M0, {6, 2})
                          .open();
  REQUIRE(model.tensors().size() == 3);
  for (const TensorInfo& tensor : model.tensors()) {
    CAPTURE(tensor.name);
    CHECK(tensor.format == kMxfp4);
    CHECK(shape_to_text(tensor) == "[64, 6]");
    CHECK(tensor.scale_grid == ScaleGrid{1, 32, ScaleType::kE8M0});
  }
}

TEST_CASE(
    "MXFP6 is F6 codes with E8M0 scales, in stacks of experts too; without scales it is only "
    "stored") {
  const Model model = CheckpointBuilder()
                          .add("a.weight", kFp6E2M3, {6, 64})
                          .add("a.weight_scale", kE8M0, {6, 2})
                          .add("b.weight", kFp6E3M2, {3, 5, 96})
                          .add("b.weight_scale", kU8, {3, 5, 3})
                          .add("c.weight", kFp6E2M3, {6, 64})
                          .open();
  REQUIRE(model.tensors().size() == 3);
  const TensorInfo& a = model.get_tensor("a.weight");
  CHECK(a.format == kMxfp6E2M3);
  CHECK(shape_to_text(a) == "[64, 6]");
  CHECK(a.scale_grid == ScaleGrid{1, 32, ScaleType::kE8M0});
  CHECK(a.data.size() == 6 * 48);
  CHECK(a.scale_data.size() == 12);
  const TensorInfo& b = model.get_tensor("b.weight");
  CHECK(b.format == kMxfp6E3M2);
  CHECK(shape_to_text(b) == "[96, 5, 3]");
  CHECK(b.scale_grid == ScaleGrid{1, 32, ScaleType::kE8M0});
  CHECK(b.scale_data.size() == 45);
  CHECK(model.get_tensor("c.weight").format == kFp6E2M3);
  CHECK(CheckpointBuilder()
            .add("a.weight", kFp6E2M3, {6, 64})
            .add("a.weight_scale", kE8M0, {6, 4})
            .message() ==
        "model.safetensors: tensor 'a.weight': its scale 'a.weight_scale' has the shape [6, 4], "
        "expected [6, 2], one for each 1x32 block of [6, 64]");
  CHECK(CheckpointBuilder()
            .add("a.weight", kFp6E2M3, {6, 48})
            .add("a.weight_scale", kE8M0, {6, 2})
            .message() ==
        "model.safetensors: tensor 'a.weight': has 48 columns, not a multiple of 32, the block of "
        "mxfp6_e2m3");
}

TEST_CASE("FP8 with an E8M0 scale for each 32 columns is MXFP8") {
  const Model model = CheckpointBuilder()
                          .add("a.weight", kFp8E4M3, {64, 96})
                          .add("a.weight_scale", kU8, {64, 3})
                          .add("b.weight", kFp8E5M2, {64, 96})
                          .add("b.weight_scale", kE8M0, {64, 3})
                          .open();
  const TensorInfo& a = model.get_tensor("a.weight");
  CHECK(WeightFormat{a.format, a.scale_grid}.name() == "mxfp8_e4m3");
  const TensorInfo& b = model.get_tensor("b.weight");
  CHECK(WeightFormat{b.format, b.scale_grid}.name() == "mxfp8_e5m2");
}

TEST_CASE("fnuz weights have their scales as other FP8 has") {
  const Model model = CheckpointBuilder()
                          .add("a.weight", kFp8E4M3Fnuz, {256, 384})
                          .scales("a.weight_scale_inv", {2, 3})
                          .add("b.weight", kFp8E5M2Fnuz, {6, 64})
                          .scales("b.weight_scale", {6, 1})
                          .open();
  REQUIRE(model.tensors().size() == 2);
  CHECK(model.get_tensor("a.weight").format == kFp8E4M3Fnuz);
  CHECK(model.get_tensor("a.weight").scale_grid == ScaleGrid{128, 128});
  CHECK(model.get_tensor("b.weight").format == kFp8E5M2Fnuz);
  CHECK(model.get_tensor("b.weight").scale_grid == ScaleGrid{1, 0});
}

/// The plane that a kernel reads.
std::vector<std::byte> plane_of(float tensor_scale, std::span<const std::byte> codes) {
  std::vector<std::byte> plane(16 + codes.size());
  std::memcpy(plane.data(), &tensor_scale, sizeof tensor_scale);
  std::ranges::copy(codes, plane.begin() + 16);
  return plane;
}

std::vector<std::byte> codes_of(std::size_t count) {
  std::vector<std::byte> codes(count);
  for (std::size_t i = 0; i < count; ++i) codes[i] = static_cast<std::byte>(0x30 + i % 16);
  return codes;
}

TEST_CASE("NVFP4: ModelOpt's second scale multiplies, compressed-tensors' divides") {
  const auto one = [](float value) { return bytes_of(std::vector<float>{value}); };
  const Model model = CheckpointBuilder()
                          .add("mo.weight", kU8, {3, 16})
                          .add("mo.weight_scale", kFp8E4M3, {3, 2}, codes_of(6))
                          .add("mo.weight_scale_2", kF32, {}, one(0.125f))
                          .scales("mo.input_scale", {})
                          .add("ct.weight_packed", kU8, {3, 16})
                          .add("ct.weight_scale", kFp8E4M3, {3, 2}, codes_of(6))
                          .add("ct.weight_global_scale", kF32, {1}, one(3.0f))
                          .scales("ct.input_global_scale", {1})
                          .open();
  REQUIRE(model.tensors().size() == 2);
  const std::vector<std::pair<std::string, float>> expected = {{"mo.weight", 0.125f},
                                                               {"ct.weight_packed", 1 / 3.0f}};
  for (const auto& [name, scale] : expected) {
    CAPTURE(name);
    const TensorInfo& tensor = model.get_tensor(name);
    CHECK(tensor.format == kNvfp4);
    CHECK(shape_to_text(tensor) == "[32, 3]");
    CHECK(tensor.scale_grid == ScaleGrid{1, 16, ScaleType::kE4M3});
    CHECK(same_bytes(tensor.scale_data, plane_of(scale, codes_of(6))));
    CHECK(tensor.scale_data.size() ==
          static_cast<std::size_t>(tensor.scale_grid->plane_bytes(tensor.rows(), tensor.cols())));
  }
}

TEST_CASE("NVFP4 experts with scales of their own are served one by one") {
  const std::vector<std::byte> codes = codes_of(12);
  const auto open_with = [&](std::vector<float> scales) {
    return CheckpointBuilder()
        .add("e.weight", kU8, {2, 3, 16})
        .add("e.weight_scale", kFp8E4M3, {2, 3, 2}, codes)
        .add("e.weight_scale_2", kF32, {2}, bytes_of(scales))
        .open();
  };
  const Model model = open_with({0.5f, 0.25f});
  REQUIRE(model.tensors().size() == 2);
  const TensorInfo& second = model.get_tensor("e.weight[1]");
  CHECK(shape_to_text(second) == "[32, 3]");
  CHECK(second.data.size() == 48);
  CHECK(same_bytes(second.scale_data, plane_of(0.25f, std::span(codes).subspan(6))));
  CHECK(note_of(model) ==
        "'e.weight' is served matrix by matrix, as NAME[0] and so on: its scales need that");
  // The same scale for all needs no such thing.
  CHECK(shape_to_text(open_with({0.5f, 0.5f}).get_tensor("e.weight")) == "[32, 3, 2]");
}

TEST_CASE("stacked experts are one matrix where no block lies in two of them") {
  const auto open_with = [](Shape weight, Shape scale) {
    return CheckpointBuilder()
        .config(kBlock128)
        .add("e.gate_up_proj", kFp8E4M3, weight)
        .scales("e.gate_up_proj_scale_inv", scale)
        .open();
  };
  const Model whole = open_with({3, 256, 200}, {3, 2, 2});
  CHECK(whole.get_tensor("e.gate_up_proj").scale_grid == ScaleGrid{128, 128});
  CHECK(whole.get_tensor("e.gate_up_proj").scale_data.size() == 48);

  const Model cut = open_with({3, 130, 200}, {3, 2, 2});
  REQUIRE(cut.tensors().size() == 3);
  const std::vector<std::byte> planes = bytes_of(some_scales(12));
  for (std::size_t i = 0; i < 3; ++i) {
    const TensorInfo& expert = cut.get_tensor("e.gate_up_proj[" + std::to_string(i) + "]");
    CHECK(shape_to_text(expert) == "[200, 130]");
    CHECK(expert.data.data() == cut.tensors()[0].data.data() + i * 130 * 200);
    CHECK(expert.scale_grid == ScaleGrid{128, 128});
    CHECK(same_bytes(expert.scale_data, std::span(planes).subspan(i * 16, 16)));
  }
}

TEST_CASE("stacked experts with a scale for each, for each row or for each column") {
  const auto grid_for = [](Shape scale) {
    const Model model = CheckpointBuilder()
                            .add("e.down_proj", kFp8E4M3, {3, 10, 20})
                            .scales("e.down_proj_scale", scale)
                            .open();
    return model.get_tensor("e.down_proj").scale_grid.value();
  };
  CHECK(grid_for({3}) == ScaleGrid{10, 0});
  CHECK(grid_for({3, 1, 1}) == ScaleGrid{10, 0});
  CHECK(grid_for({3, 10, 1}) == ScaleGrid{1, 0});
  CHECK(grid_for({3, 10}) == ScaleGrid{1, 0});
  CHECK(grid_for({3, 1, 20}) == ScaleGrid{10, 1});
  CHECK(grid_for({1}) == ScaleGrid{0, 0});
}

TEST_CASE("scales that are no numbers are refused with their place") {
  const auto message = [](FormatId type, std::vector<std::byte> bytes) {
    return CheckpointBuilder()
        .config(kBlock128)
        .add("a.weight", kFp8E4M3, {200, 300})
        .add("a.weight_scale_inv", type, {2, 3}, std::move(bytes))
        .message();
  };
  const std::string a = "model.safetensors: tensor 'a.weight': its scale 'a.weight_scale_inv' is ";
  std::vector<float> scales = some_scales(6);
  CHECK(message(kF32, bytes_of(scales)) == "no error");
  scales[4] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message(kF32, bytes_of(scales)) == a + "NaN at [1, 1], expected a finite number");
  scales[4] = -std::numeric_limits<float>::infinity();
  CHECK(message(kF32, bytes_of(scales)) == a + "infinite at [1, 1], expected a finite number");
  CHECK(message(kBF16, bytes_of(std::vector<std::uint16_t>{1, 2, 0x7fc0, 3, 4, 5})) ==
        a + "NaN at [0, 2], expected a finite number");
  CHECK(message(kE8M0, bytes_of(std::vector<std::uint8_t>{0, 1, 254, 255, 4, 5})) ==
        a + "NaN at [1, 0], expected a finite number");
  CHECK(CheckpointBuilder()
            .add("a.weight", kU8, {2, 16})
            .add("a.weight_scale", kFp8E4M3, {2, 2},
                 bytes_of(std::vector<std::uint8_t>{1, 2, 0xff, 4}))
            .scales("a.weight_scale_2", {})
            .message() ==
        "model.safetensors: tensor 'a.weight': its scale 'a.weight_scale' is NaN at [1, 0], "
        "expected a finite number");
  for (float wrong : {0.0f, -1.0f}) {
    CHECK_THAT(CheckpointBuilder()
                   .add("a.weight", kU8, {2, 16})
                   .add("a.weight_scale", kFp8E4M3, {2, 2})
                   .add("a.weight_scale_2", kF32, {}, bytes_of(std::vector<float>{wrong}))
                   .message(),
               Catch::Matchers::EndsWith("expected a finite number above 0"));
  }
}

TEST_CASE("scales that are 0 or negative are a note") {
  const Model model = CheckpointBuilder()
                          .config(kBlock128)
                          .add("a.weight", kFp8E4M3, {200, 300})
                          .add("a.weight_scale_inv", kF32, {2, 3},
                               bytes_of(std::vector<float>{1, 2, 0.0f, -0.5f, 1, 1}))
                          .open();
  CHECK(note_of(model) == "'a.weight' has scales that are 0 | 'a.weight' has negative scales");
}

TEST_CASE("a scale of a type that no scale has is refused") {
  CHECK(CheckpointBuilder()
            .add("a.weight", kFp8E4M3, {2, 8})
            .add("a.weight_scale", kF64, {2, 1})
            .message() ==
        "model.safetensors: tensor 'a.weight': its scale 'a.weight_scale' is F64, expected F32, "
        "BF16, F16, F8_E8M0 or U8 (E8M0 codes)");
}

TEST_CASE("FP8 without scales is sound only where nothing announces some") {
  const auto message = [](bool has_config, bool has_other) {
    CheckpointBuilder files;
    files.add("a.weight", kFp8E4M3, {200, 300});
    if (has_config) files.config(kBlock128);
    if (has_other) files.add("b.weight", kFp8E4M3, {2, 3}).scales("b.weight_scale", {});
    return files.message();
  };
  const std::string a =
      "model.safetensors: tensor 'a.weight': is F8_E4M3 [200, 300] without scales, but ";
  CHECK(message(true, false) == a + "config.json announces them: expected 'a.weight_scale_inv'");
  CHECK(message(false, true) == a + "1 other tensors have theirs: expected 'a.weight_scale_inv'");
  CHECK(message(false, false) == "no error");
  const Model model = CheckpointBuilder().add("a.weight", kFp8E4M3, {2, 3}).open();
  CHECK(note_of(model) == "'a.weight' is FP8 without scales, and nothing announces some");
  CHECK_FALSE(model.tensors()[0].scale_grid.has_value());
  CHECK(CheckpointBuilder().config(kBlock128).add("w_blocks", kU8, {2, 5, 3, 16}).message() ==
        "model.safetensors: tensor 'w_blocks': is U8 [2, 5, 3, 16] without scales, but config.json "
        "announces them: expected 'w_scales'");
}

TEST_CASE("tensors that only look like scales stay tensors") {
  const Model model = CheckpointBuilder()
                          .add("a.weight", kBF16, {4, 8})  // decoded once, its scale left behind
                          .scales("a.weight_scale_inv", {1, 1})
                          .add("b.weight", kI8, {4, 8})  // int8 with a scale for each row
                          .scales("b.weight_scale", {4, 1})
                          .add("c.weight", kU8, {4, 8})  // bytes of some other quantisation
                          .add("c.weight_scale", kU8, {3})
                          .open();
  CHECK(model.tensors().size() == 6);
  CHECK(note_of(model) ==
        "'a.weight_scale_inv' is a scale without an FP8 weight of its name, listed as a tensor");
}

TEST_CASE("every dtype and any number of dimensions is listed") {
  const Model model = CheckpointBuilder()
                          .add("five", kF32, {2, 3, 4, 5, 6})
                          .add("flag", kBool, {3})
                          .add("f6", kFp6E2M3, {2, 6})
                          .add("u64", kU64, {})
                          .open();
  CHECK(shape_to_text(model.get_tensor("five")) == "[6, 5, 4, 6]");
  CHECK(shape_to_text(model.get_tensor("f6")) == "[12]");
  CHECK(model.get_tensor("f6").data.size() == 9);
  CHECK(shape_to_text(model.get_tensor("u64")) == "[1]");
  CHECK(
      note_of(model) ==
      "'five' has more than 4 dimensions, the outer ones shown multiplied | 'f6' has rows that end "
      "inside a byte, shown as one row");
}

}  // namespace
}  // namespace ktjit::model
