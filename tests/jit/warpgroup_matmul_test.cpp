// Matmul by wgmma, of weights rounded to bf16 and of FP8, on the simulated tensor cores of sm_90a, against the plain reference.
#include <array>
#include <catch2/catch.hpp>
#include <vector>

#include "codegen/emitter.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/bench_runner.h"
#include "jit/reference_ops.h"
#include "tests/jit/simulator_machine.h"

namespace ktjit {
namespace {

using enum FormatId;
using test::Simulator;

/// e4m3 with scales of 128 x 128, and activations of e4m3 with scales of 128 columns.
KernelSpec fp8_spec(std::int64_t cols, int x_tile) {
  KernelSpec spec = make_spec(Op::kMatmul, kFp8E4M3, ScaleGrid{128, 128, ScaleType::kF32}, cols,
                              parse_target("sm_90a", {}));
  spec.tensor_core_precision = true;
  spec.activation = ActivationPolicy::kAfp8;
  spec.x_format = kFp8E4M3;
  spec.x_scale = ScaleGrid{1, 128, ScaleType::kF32};
  spec.tuning.x_tile = x_tile;
  return spec;
}

KernelSpec rounded_spec(FormatId format, std::int64_t cols, int x_tile) {
  KernelSpec spec =
      make_spec(Op::kMatmul, format, fixed_scale_grid(format), cols, parse_target("sm_90a", {}));
  spec.tensor_core_precision = true;
  spec.x_format = kBF16;
  if (find_prepared_layout(format) != nullptr) spec.layout.kind = LayoutKind::kPrepared;
  spec.tuning.x_tile = x_tile;
  return spec;
}

void check(const std::vector<BenchWork>& works) {
  Simulator simulator;
  BenchSettings settings;
  settings.data_bytes = 1;
  settings.samples = 1;
  const BenchReport report =
      run_bench(simulator.toolchain.engine(), *simulator.device, works, settings);
  REQUIRE(report.results.size() == works.size());
  for (const BenchResult& result : report.results) {
    INFO(result.kernel << ", n = " << result.work.n << ": " << result.not_run << " "
                       << result.first.problem << " " << result.last.problem);
    CHECK(result.ok());
    CHECK(result.first.rows_checked > 0);
  }
}

}  // namespace

TEST_CASE("matmul at tensor-core precision of every format, rows, columns and x cut") {
  constexpr std::array kN = {5, 16, 21};
  std::vector<BenchWork> works;
  for (const Format& format : all_formats()) {
    const std::int64_t cols = format.block_elems == 256 ? 512 : format.block_elems > 32 ? 384 : 352;
    KernelSpec spec = rounded_spec(format.id, cols, 16);
    if (!serves_tensor_core_precision(spec)) continue;
    spec.y_format = works.size() % 3 == 0 ? kF32 : works.size() % 3 == 1 ? kBF16 : kF16;
    works.push_back(
        {spec, 139 + static_cast<std::int64_t>(works.size() % 2), kN[works.size() % kN.size()]});
  }
  CHECK(works.size() == 26 + 3);
  check(works);
}

TEST_CASE(
    "matmul at tensor-core precision: scales of FP8, tiles of x, stages, bias, several tiles of a "
    "CTA") {
  std::vector<BenchWork> works;
  for (const ScaleGrid& grid :
       {ScaleGrid{128, 128, ScaleType::kF32}, ScaleGrid{1, 0, ScaleType::kBF16},
        ScaleGrid{0, 0, ScaleType::kF32}, ScaleGrid{16, 64, ScaleType::kF32}}) {
    KernelSpec spec = rounded_spec(kFp8E4M3, 400, 32);
    spec.scale = grid;
    works.push_back({spec, 260, 33});
  }
  for (const int tile : {32, 64, 128, 256}) {
    KernelSpec spec = rounded_spec(tile == 64 ? kBF16 : kQ4_K, 512, tile);
    spec.bias = tile == 64 ? kF16 : kF32;
    spec.y_format = kBF16;
    spec.tuning.stages = tile == 128 ? 2 : 0;
    works.push_back({spec, 128, tile + 3});
  }
  check(works);
}

TEST_CASE(
    "matmul at tensor-core precision of FP8 activations: tiles, parts of tiles, scales, columns "
    "and rows cut") {
  std::vector<BenchWork> works;
  for (const int tile : {16, 128, 256}) works.push_back({fp8_spec(512, tile), 200, tile + 5});
  works.push_back({fp8_spec(656, 32), 130, 40});  // five groups and a quarter
  works.back().spec.y_format = kBF16;
  works.back().spec.bias = kF32;
  works.push_back({fp8_spec(384, 64), 129, 64});
  works.back().spec.scale = ScaleGrid{1, 0, ScaleType::kBF16};
  works.push_back({fp8_spec(256, 64), 64, 7});
  works.back().spec.scale = std::nullopt;
  check(works);
}

TEST_CASE("tensor-core precision is refused where no kernel has it") {
  const auto refuses = [](KernelSpec spec) { CHECK_THROWS_AS(codegen::emit(spec), SpecError); };
  KernelSpec spec = rounded_spec(kQ4_K, 512, 64);
  CHECK_NOTHROW(codegen::emit(spec));
  spec.x_format = kF32;
  refuses(spec);
  spec = rounded_spec(kQ4_K, 512, 64);
  spec.target = parse_target("sm_90", {});
  refuses(spec);
  spec = rounded_spec(kQ4_K, 512, 64);
  spec.layout.kind = LayoutKind::kNative;
  refuses(spec);
  spec = rounded_spec(kQ4_K, 512, 64);
  spec.tuning.x_tile = 48;
  refuses(spec);
  spec.tuning = {.x_tile = 256, .stages = 6};
  refuses(spec);  // too much shared memory
  spec = rounded_spec(kBF16, 520, 64);
  CHECK_FALSE(serves_tensor_core_precision(
      spec));  // rows of 1040 bytes: 16-byte vectors, but not of 16 columns
  spec = rounded_spec(kFp8E4M3, 512, 64);
  spec.scale = ScaleGrid{1, 32, ScaleType::kF32};
  refuses(spec);
  spec = fp8_spec(512, 64);
  CHECK_NOTHROW(codegen::emit(spec));
  spec.x_scale = ScaleGrid{1, 64, ScaleType::kF32};
  refuses(spec);
}

}  // namespace ktjit
