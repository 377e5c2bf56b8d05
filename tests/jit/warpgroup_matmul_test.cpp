// Matmul by wgmma, of weights rounded to bf16 and of FP8, on the simulated tensor cores of sm_90a, against the plain
// reference.
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
using test::fp8_product_spec;
using test::rounded_weights_spec;
using test::Simulator;

void check(const std::vector<BenchWork>& works) {
  Simulator simulator;
  test::check_works(simulator.toolchain.engine(), *simulator.device, works);
}

}  // namespace

TEST_CASE("matmul at tensor-core precision of every format, rows, columns and x cut") {
  const std::vector<BenchWork> works = test::every_format_rounded();
  CHECK(works.size() == 26 + 3);
  check(works);
}

TEST_CASE("matmul at tensor-core precision: scales, tiles, stages, bias") {
  check(test::rounded_weights_variants());
}

TEST_CASE("matmul at tensor-core precision of FP8 activations") {
  check(test::fp8_product_variants());
}

TEST_CASE("tensor-core precision is refused where no kernel has it") {
  const auto refuses = [](KernelSpec spec) { CHECK_THROWS_AS(codegen::emit(spec), SpecError); };
  KernelSpec spec = rounded_weights_spec(kQ4_K, 512, 64);
  CHECK_NOTHROW(codegen::emit(spec));
  spec.x_format = kF32;
  refuses(spec);
  spec = rounded_weights_spec(kQ4_K, 512, 64);
  spec.x_format = kF16;
  refuses(spec);
  spec = rounded_weights_spec(kQ4_K, 512, 64);
  spec.layout.kind = LayoutKind::kNative;
  refuses(spec);
  spec = rounded_weights_spec(kQ4_K, 512, 48);
  refuses(spec);
  spec.tuning = {.x_tile = 256, .stages = 6};
  refuses(spec);  // too much shared memory
  spec = rounded_weights_spec(kBF16, 520, 64);
  CHECK_FALSE(serves_tensor_core_precision(spec));  // no whole number of 16 columns
  spec = rounded_weights_spec(kFp8E4M3, 512, 64);
  spec.scale = ScaleGrid{1, 32, ScaleType::kF32};
  refuses(spec);
  spec = fp8_product_spec(512, 64);
  CHECK_NOTHROW(codegen::emit(spec));
  spec.x_scale = ScaleGrid{1, 64, ScaleType::kF32};
  refuses(spec);
  spec = fp8_product_spec(512, 256);
  refuses(spec);  // 256 rows of x
  spec = fp8_product_spec(512, 16);
  spec.tuning.stages = 6;
  CHECK_NOTHROW(codegen::emit(spec));
  spec.tuning.stages = 8;
  refuses(spec);  // three groups share a ring of eight
}

TEST_CASE("tiles of matmul at tensor-core precision leave few multiprocessors without work") {
  const KernelSpec spec = rounded_weights_spec(kQ4_K, 512, 0);
  CHECK(matmul_tuning(spec, 14336, 4096).x_tile == 256);
  CHECK(matmul_tuning(spec, 14336, 512).x_tile == 256);  // 2 waves of large tiles, 4 of small ones
  CHECK(matmul_tuning(spec, 4096, 512).x_tile == 128);   // 64 large tiles, 128 small ones
  CHECK(matmul_tuning(spec, 4096, 33).x_tile == 64);
  const KernelSpec fp8 = fp8_product_spec(512, 0);
  CHECK(matmul_tuning(fp8, 4096, 4096).x_tile == 128);
  CHECK(matmul_tuning(fp8, 7168, 16).x_tile == 16);
  CHECK(matmul_tuning(fp8, 4096, 64).x_tile == 64);
  KernelSpec exact = spec;
  exact.tensor_core_precision = false;
  CHECK(matmul_tuning(exact, 4096, 512).x_tile == 0);
}

}  // namespace ktjit
