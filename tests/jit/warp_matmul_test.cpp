// Matmul by mma.sync of weights rounded to the format of x, on the simulated tensor cores of sm_80 to sm_120a, against the
// plain reference.
#include <catch2/catch.hpp>
#include <vector>

#include "codegen/emitter.h"
#include "core/error.h"
#include "tests/jit/simulator_machine.h"
#include "tests/support/checked_bench.h"
#include "tests/support/tensor_core_works.h"

namespace ktjit {
namespace {

using enum FormatId;
using test::Simulator;

void check(const std::vector<BenchWork>& works) {
  Simulator simulator;
  test::check_works(simulator.toolchain.engine(), *simulator.device, works);
}

Target target(const char* name) { return parse_target(name, {}); }

KernelSpec spec_for(const char* target_name, FormatId format, std::int64_t cols, int x_tile) {
  KernelSpec spec = test::rounded_weights_spec(format, cols, x_tile);
  spec.target = target(target_name);
  return spec;
}

}  // namespace

TEST_CASE("matmul by warps at tensor-core precision of every format, rows, columns and x cut") {
  const std::vector<BenchWork> works = test::every_format_by_warps(target("sm_86"), kBF16);
  CHECK(works.size() == 26 + 3);
  check(works);
}

TEST_CASE("matmul by warps at tensor-core precision with f16 activations") {
  std::vector<BenchWork> works = test::every_format_by_warps(target("sm_80"), kF16);
  CHECK(works.size() == 26 + 3);
  for (std::size_t i = 0; 2 * i < works.size(); ++i) works[i] = works[2 * i];  // every second
  works.resize((works.size() + 1) / 2);
  check(works);
}

TEST_CASE("matmul by warps at tensor-core precision: scales, tiles, stages, bias") {
  check(test::variants_by_warps(target("sm_80"), kBF16));
}

TEST_CASE("matmul by warps at tensor-core precision where FP8 has conversions") {
  check(test::variants_by_warps(target("sm_90"), kBF16));
}

TEST_CASE("matmul by warps at tensor-core precision where FP8 has conversions, f16 activations") {
  check(test::variants_by_warps(target("sm_89"), kF16));
}

TEST_CASE("matmul by warps at tensor-core precision exists from sm_80 on, for a16 alone") {
  for (const char* name : {"sm_80", "sm_86", "sm_89", "sm_90", "sm_100a", "sm_120a"})
    CHECK_NOTHROW(codegen::emit(spec_for(name, kQ4_K, 512, 128)));
  const auto refuses = [](KernelSpec spec) { CHECK_THROWS_AS(codegen::emit(spec), SpecError); };
  refuses(spec_for("sm_75", kQ4_K, 512, 64));  // no bf16
  refuses(spec_for("sm_86", kIQ1_M, 512, 64));
  KernelSpec spec = spec_for("sm_86", kBF16, 512, 64);
  CHECK_NOTHROW(codegen::emit(spec));
  spec.x_format = kF16;
  refuses(spec);  // weights of another 16-bit format
  spec.weight = kF16;
  CHECK_NOTHROW(codegen::emit(spec));
  spec.x_format = kF32;
  refuses(spec);
  spec = test::fp8_product_spec(512, 64);
  spec.target = target("sm_86");
  refuses(spec);  // FP8 activations
  spec = spec_for("sm_86", kQ4_K, 512, 64);
  spec.tuning.x_tile = 256;
  refuses(spec);
  spec.tuning = {.x_tile = 64, .stages = 5};
  refuses(spec);
}

TEST_CASE("tiles of matmul by warps serve few rows of x") {
  const KernelSpec spec = spec_for("sm_86", kQ4_K, 512, 0);
  CHECK(matmul_tuning(spec, 14336, 4096).x_tile == 128);
  CHECK(matmul_tuning(spec, 4096, 33).x_tile == 64);
  CHECK(matmul_tuning(spec, 4096, 9).x_tile == 16);
}

}  // namespace ktjit
