// Models as rules make them: formats and sizes of the plan, converted bytes, devices, layouts, activations.
#include "jit/ruled_model.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "rules/conversion.h"

#include "core/error.h"
#include "jit/reference_encode.h"
#include "jit/reference_ops.h"
#include "tests/jit/made_model.h"

using Catch::Matchers::Contains;
using namespace ktjit;
using rules::Rules;
using test::MadeModel;

namespace {

Rules parse(const std::string& list) { return Rules::parse("rules:\n" + list, "r.yaml"); }

/// f32 values of some spread; equal for equal arguments.
std::vector<std::byte> noise(std::int64_t count, float step) {
  std::vector<float> values;
  for (std::int64_t at = 0; at < count; ++at)
    values.push_back(std::sin(step * static_cast<float>(at + 1)) * static_cast<float>(1 + at % 7));
  std::vector<std::byte> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<float> decoded(const model::TensorInfo& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  decode_rows({tensor.format, tensor.rows(), tensor.cols(), tensor.data, tensor.scale_grid,
               tensor.scale_data},
              0, tensor.rows(), values);
  return values;
}

}  // namespace

TEST_CASE("a ruled model has the sizes of its formats, and the bytes of what stays") {
  MadeModel made;
  made.add("blk.0.attn_q.weight", FormatId::kF32, 200, 256);
  made.add("blk.0.ffn_up.weight", FormatId::kQ8_0, 300, 256);
  made.add("output_norm.weight", FormatId::kF32, 1, 256);
  const model::Model source = made.make();
  const Rules rules = parse(
      "  - {match: {group: attention}, format: fp8_e4m3}\n"
      "  - {match: {group: ffn}, format: bf16}\n");
  const RuledModel ruled(source, rules);
  CHECK(ruled.converts());
  const auto& q = ruled.model().get_tensor("blk.0.attn_q.weight");
  CHECK(q.format == FormatId::kFp8E4M3);
  CHECK(q.scale_grid == rules::kUsualFp8Scale);
  CHECK(q.bytes() == 200 * 256);
  CHECK(q.scale_data.size() == 2 * 2 * 4);
  CHECK(ruled.model().get_tensor("blk.0.ffn_up.weight").bytes() == 300 * 256 * 2);
  const auto& norm = ruled.model().get_tensor("output_norm.weight");
  CHECK(norm.data.data() == source.get_tensor("output_norm.weight").data.data());
  CHECK(!ruled.load(norm));
  const auto loaded = ruled.load(q);
  REQUIRE(loaded);
  CHECK(loaded->tensor.bytes() == q.bytes());
  CHECK(loaded->tensor.scale_data.size() == q.scale_data.size());
}

TEST_CASE("converted tensors are the reference's, whatever the pieces they are made in") {
  // More rows than are decoded at a time, so that there are several pieces.
  constexpr std::int64_t kRows = 600, kCols = 1024;
  MadeModel made;
  model::TensorInfo& tensor = made.add("w", FormatId::kF32, kRows, kCols);
  tensor.data = made.keep(noise(kRows * kCols, 0.37F));
  const std::vector<float> values = decoded(tensor);
  for (const WeightFormat& format :
       {WeightFormat{FormatId::kFp8E4M3, rules::kUsualFp8Scale}, get_weight_format("nvfp4"),
        WeightFormat{FormatId::kQ8_0, {}}}) {
    INFO(format.name());
    const OwnedTensor converted = convert_tensor(tensor, format);
    QuantizeRules quantize{format.id, format.scale};
    if (format.id == FormatId::kNvfp4) quantize.tensor_scale = nvfp4_tensor_scale(values);
    const QuantizedRows want = quantize_reference(quantize, values, kRows, kCols);
    CHECK(std::ranges::equal(converted.tensor.data, want.codes));
    CHECK(std::ranges::equal(converted.tensor.scale_data, want.scales));
  }
}

TEST_CASE("a scale of the whole tensor is chosen from all of it, and floats are rounded once") {
  constexpr std::int64_t kRows = 65, kCols = 96;
  MadeModel made;
  model::TensorInfo& tensor = made.add("w", FormatId::kF32, kRows, kCols);
  tensor.data = made.keep(noise(kRows * kCols, 0.11F));
  const std::vector<float> values = decoded(tensor);
  const OwnedTensor fp8 = convert_tensor(tensor, {FormatId::kFp8E5M2, ScaleGrid{}});
  CHECK(fp8.tensor.scale_data.size() == 4);
  const OwnedTensor bf16 = convert_tensor(tensor, {FormatId::kBF16, {}});
  std::vector<std::byte> want(values.size() * 2);
  round_output(FormatId::kBF16, values, want);
  CHECK(std::ranges::equal(bf16.tensor.data, want));
  const std::vector<float> back = decoded(fp8.tensor);
  for (std::size_t at = 0; at < values.size(); ++at)
    CHECK(std::fabs(back[at] - values[at]) <= std::fabs(values[at]) / 8 + 1e-4F);
}

TEST_CASE("what can't be converted when it is loaded names rule and tensor") {
  MadeModel made;
  made.add("w", FormatId::kF32, 4, 32);
  const model::Model source = made.make();
  const Rules rules = parse("  - {match: all, format: fp8_e4m3, scale: row bf16}\n");
  const RuledModel ruled(source, rules);
  CHECK_THROWS_WITH(ruled.load(ruled.model().tensors().front()),
                    Contains("r.yaml:2: rule 1") && Contains("tensor 'w' can't be converted"));
}

TEST_CASE("tensors are sorted by device, with their layouts and activations") {
  MadeModel made;
  made.add("blk.0.attn_q.weight", FormatId::kQ4_K, 256, 256);
  made.add("blk.0.ffn_up_exps.weight", FormatId::kQ4_K, 64, 256, 4);
  made.add("output.weight", FormatId::kQ6_K, 256, 256);
  const model::Model source = made.make();
  const Rules rules = parse(
      "  - {match: {group: experts}, device: cpu}\n"
      "  - {match: {group: attention}, layout: prepared, activation: afp8}\n");
  const RuledModel ruled(source, rules);
  CHECK(!ruled.converts());
  CHECK(ruled.devices() == std::vector<std::string>{"", "cpu"});
  const Target sm_86 = make_cuda_target(86);
  const auto here = ruled.tensors_on({""}, LayoutKind::kNative, sm_86);
  REQUIRE(here.size() == 2);
  CHECK(here[0].tensor->name == "blk.0.attn_q.weight");
  CHECK(here[0].matvec_layout == LayoutKind::kPrepared);
  CHECK(here[0].activation == ActivationPolicy::kAfp8);
  CHECK(here[1].matvec_layout == LayoutKind::kNative);
  CHECK(ruled.tensors_on({"cpu"}, LayoutKind::kNative, sm_86).size() == 1);
  CHECK_THROWS_WITH(
      ruled.tensors_on({""}, LayoutKind::kNative, make_cuda_target(60)),
      Contains("r.yaml:3: rule 2: layout is 'prepared' for tensor "
               "'blk.0.attn_q.weight', which is q4_K on sm_60, expected native or auto"));

  const Plan plan = make_plan(here, sm_86);
  REQUIRE(plan.groups.size() == 2);
  CHECK(plan.groups[0].matvec_layout == LayoutKind::kPrepared);
  const auto matmul = std::ranges::find(plan.groups[0].kernels, Op::kMatmul, &KernelSpec::op);
  REQUIRE(matmul != plan.groups[0].kernels.end());
  CHECK(matmul->activation == ActivationPolicy::kAfp8);
  CHECK(matmul->x_scale == ScaleGrid{1, 128, ScaleType::kF32});
  CHECK(std::ranges::count(plan.groups[0].kernels, Op::kQuantize, &KernelSpec::op) == 1);
  CHECK(std::ranges::count(plan.groups[1].kernels, Op::kQuantize, &KernelSpec::op) == 0);
}

TEST_CASE("activations that no kernel takes are refused with rule and tensor") {
  MadeModel made;
  made.add("w", FormatId::kBF16, 4, 32);
  made.add("ids", FormatId::kI32, 4, 32);
  const model::Model source = made.make();
  const Rules a8 = parse("  - {match: {name: w}, activation: a8}\n");
  CHECK_THROWS_WITH(RuledModel(source, a8),
                    Contains("r.yaml:2: rule 1: activation is 'a8' for tensor 'w', expected a16"));
  const Rules afp8 = parse("  - {match: {name: ids}, activation: afp8}\n");
  CHECK_THROWS_WITH(RuledModel(source, afp8), Contains("i32 has no products"));
}
