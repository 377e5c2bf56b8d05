// Stacks of experts: which tensors are some, and what becomes of their scales.
#include "jit/expert_stack.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/launch_order.h"
#include "jit/planner.h"

namespace ktjit {
namespace {

/// The bytes 0, 1, 2, ...
std::vector<std::byte> counted(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}

int first_byte(std::span<const std::byte> bytes) { return std::to_integer<int>(bytes.front()); }

model::TensorInfo tensor_of(std::string name, std::array<std::int64_t, 4> ne, int n_dims) {
  model::TensorInfo tensor;
  tensor.name = std::move(name);
  tensor.format = FormatId::kFp8E4M3;
  tensor.ne = ne;
  tensor.n_dims = n_dims;
  return tensor;
}

}  // namespace

TEST_CASE("tensors of three dimensions with experts in their name are stacks") {
  CHECK(experts_of(tensor_of("blk.0.ffn_up_exps.weight", {32, 4, 6, 1}, 3)) == 6);
  CHECK(experts_of(tensor_of("model.layers.0.mlp.experts.down_proj", {32, 4, 6, 1}, 3)) == 6);
  CHECK(experts_of(tensor_of("blk.0.ffn_up.weight", {32, 4, 6, 1}, 3)) == 0);
  CHECK(experts_of(tensor_of("model.layers.0.mlp.experts.3.down_proj.weight", {32, 4, 1, 1}, 2)) ==
        0);
  CHECK(experts_of(tensor_of("blk.0.ffn_up_exps.weight", {32, 4, 0, 1}, 3)) == 0);
}

TEST_CASE("an expert's weights and scales are where the stack has them") {
  const std::vector<std::byte> data = counted(2 * 4 * 8);
  const std::vector<std::byte> scales = counted(2 * 2 * 2);
  const ScaleGrid grid{2, 4, ScaleType::kE8M0};
  const ExpertStack stack = split_into_experts({FormatId::kFp8E4M3, 8, 8, data, grid, scales}, 2);
  CHECK(stack.scales.empty());  // nothing is copied
  CHECK(stack.view.rows == 4);
  const ScaledTensorView second = stack.view.expert(1);
  CHECK(second.data.size() == 32);
  CHECK(first_byte(second.data) == 32);
  CHECK(second.scale_data.size() == 4);
  CHECK(first_byte(second.scale_data) == 4);
  CHECK(stack.view.first(1).data.size() == 32);
  CHECK(stack.view.first(1).scale_data.size() == 4);
  CHECK_THROWS_WITH(stack.view.expert(2), "expert is 2, allowed: 0 to 1");
  CHECK_THROWS_AS(stack.view.expert(-1), SpecError);
}

TEST_CASE("a scale of the whole tensor is copied for each expert") {
  const std::vector<std::byte> data = counted(6 * 8);
  const std::vector<float> scale = {0.5f};
  const ExpertStack stack = split_into_experts(
      {FormatId::kFp8E4M3, 6, 8, data, ScaleGrid{0, 0}, std::as_bytes(std::span(scale))}, 3);
  REQUIRE(stack.scales.size() == 3 * sizeof(float));
  for (std::int64_t expert = 0; expert < 3; ++expert) {
    float value = 0;
    std::memcpy(&value, stack.view.expert(expert).scale_data.data(), sizeof(value));
    CHECK(value == 0.5f);
  }
}

TEST_CASE("nvfp4's tensor scale begins each expert's plane, at multiples of 16 bytes") {
  constexpr std::int64_t kRows = 3, kCols = 32, kExperts = 2;
  const ScaleGrid grid = *fixed_scale_grid(FormatId::kNvfp4);
  const std::vector<std::byte> data(static_cast<std::size_t>(kExperts * kRows * kCols / 2));
  std::vector<std::byte> scales =
      counted(static_cast<std::size_t>(grid.plane_bytes(kExperts * kRows, kCols)));
  const ExpertStack stack =
      split_into_experts({FormatId::kNvfp4, kExperts * kRows, kCols, data, grid, scales}, kExperts);
  CHECK(expert_scale_bytes(grid, kRows, kCols) == 32);  // 16 + 6, rounded up
  const ScaledTensorView second = stack.view.expert(1);
  CHECK(second.scale_data.size() == 16 + 6);
  CHECK(first_byte(second.scale_data) == 0);               // the header again
  CHECK(first_byte(second.scale_data.subspan(16)) == 22);  // 16 + 6 codes of the first expert
}

TEST_CASE("what can't be split into experts is refused") {
  const std::vector<std::byte> data(8 * 8);
  const std::vector<std::byte> scales(3 * 2);
  const ScaledTensorView tensor = {
      FormatId::kFp8E4M3, 8, 8, data, ScaleGrid{3, 4, ScaleType::kE8M0}, scales};
  CHECK_THROWS_WITH(split_into_experts(tensor, 3), "experts is 3, allowed: a divisor of 8 rows");
  CHECK_THROWS_WITH(split_into_experts(tensor, 0), "experts is 0, allowed: a divisor of 8 rows");
  CHECK_THROWS_WITH(split_into_experts(tensor, 2),
                    "scale is 3x4 e8m0, allowed: blocks that divide the 4 rows of an expert");
}

TEST_CASE("a group with a stack of experts has MoE kernels, also for weights without NaN codes") {
  model::Model::Contents contents{};
  contents.container = "test";
  const std::vector<std::byte> data(6 * 4 * 32);
  contents.tensors.push_back(tensor_of("blk.0.ffn_down.weight", {32, 4, 1, 1}, 2));
  contents.tensors.push_back(tensor_of("blk.0.ffn_up_exps.weight", {32, 4, 6, 1}, 3));
  contents.tensors.push_back(tensor_of("blk.0.ffn_gate_exps.weight", {32, 4, 6, 1}, 3));
  contents.tensors[0].data = std::span(data).first(4 * 32);
  contents.tensors[1].data = contents.tensors[2].data = data;
  const model::Model model(std::move(contents));
  const Plan plan = make_plan(model, make_cuda_target(86));
  REQUIRE(plan.groups.size() == 1);
  for (const Op op : {Op::kMoeMatvec, Op::kMoeMatmul}) {
    int any = 0, finite = 0;
    for (const KernelSpec& spec : plan.groups[0].kernels) {
      if (spec.op != op) continue;
      ++(spec.weights_finite ? finite : any);
      CHECK_NOTHROW(validate(spec));
    }
    CHECK(any == 1);
    CHECK(finite == 1);
  }
}

}  // namespace ktjit
