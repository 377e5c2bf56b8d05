// Budgets and times against hand-worked numbers.
#include "jit/decode_speed.h"

#include <catch2/catch.hpp>

namespace ktjit {

TEST_CASE("the issue budget is 128 lanes x SMs x clock over the bandwidth, for each byte") {
  // 128 * 72 * 1.695e9 / 600e9, and research figures: 9.6 on an A100-80, 7.0 on an H200.
  CHECK(issue_budget(get_gpu_card("A10"), 1) == Approx(26.0352));
  CHECK(issue_budget(get_gpu_card("A10"), 0.5) == Approx(26.0352 / 2));
  CHECK(issue_budget(get_gpu_card("A100"), 1) == Approx(9.6).epsilon(0.01));
  CHECK(issue_budget(get_gpu_card("H200"), 1) == Approx(7.0).epsilon(0.01));
  CHECK(issue_budget(get_gpu_card("RTX 3090"), 1) == Approx(19).epsilon(0.01));
}

TEST_CASE("a weight costs a quarter of its conversion for four, and a multiply-add") {
  const Target sm86 = make_cuda_target(86);
  for (FormatId format : {FormatId::kFp8E4M3, FormatId::kF32, FormatId::kBF16}) {
    const codegen::Lowering lowering = codegen::get_lowering(format, sm86);
    REQUIRE(lowering.instructions_per_4 > 0);
    CHECK(instructions_per_weight(lowering) == lowering.instructions_per_4 / 4.0 + 1);
  }
  const codegen::Lowering uncounted{codegen::LoweringKind::kSoftware, "", "", "", 0};
  CHECK(instructions_per_weight(uncounted) == std::nullopt);
}

TEST_CASE("a memory-bound token takes its bytes over nine tenths of the bandwidth") {
  const WeightUse fp8{FormatId::kFp8E4M3, 7e9, 7e9};
  const DecodeSpeed speed =
      estimate_decode(std::span(&fp8, 1), 1e9, get_gpu_card("A10"), make_cuda_target(86));
  CHECK(speed.memory_seconds == Approx(8e9 / (600e9 * 0.9)));
  CHECK(speed.seconds == speed.memory_seconds);
  CHECK(speed.instruction_bound.empty());
  CHECK(speed.unknown_cost.empty());
}

TEST_CASE("a format that costs more instructions than are issued is bound by them") {
  // q4_K: 27 / 4 + 1 = 7.75 instructions a weight of 144 / 256 bytes.
  const double weights = 8e9;
  const WeightUse q4_k{FormatId::kQ4_K, weights, weights * 144 / 256};
  const GpuCard& h200 = get_gpu_card("H200");
  const DecodeSpeed speed =
      estimate_decode(std::span(&q4_k, 1), 0, h200, make_cuda_target(90, "a"));
  CHECK(speed.memory_seconds == Approx(weights * 0.5625 / 4.32e12));
  CHECK(speed.seconds == Approx(7.75 * weights / (128.0 * 132 * 1.98e9)));
  REQUIRE(speed.instruction_bound.size() == 1);
  CHECK(speed.instruction_bound.front() == FormatId::kQ4_K);
  // The same weights on an A10 are not.
  CHECK(estimate_decode(std::span(&q4_k, 1), 0, get_gpu_card("A10"), make_cuda_target(86))
            .instruction_bound.empty());
}

TEST_CASE("a format without kernels counts as read only, and is named") {
  const WeightUse stored{FormatId::kU8, 1e9, 1e9};
  const DecodeSpeed speed =
      estimate_decode(std::span(&stored, 1), 0, get_gpu_card("T4"), make_cuda_target(75));
  CHECK(speed.seconds == Approx(1e9 / (320e9 * 0.9)));
  REQUIRE(speed.unknown_cost.size() == 1);
  CHECK(speed.unknown_cost.front() == FormatId::kU8);
}

}  // namespace ktjit
