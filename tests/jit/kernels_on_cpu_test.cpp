// Every kernel, on this machine's CPU as it is and as plainer x86-64 code, against the plain
// reference.
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "core/format.h"
#include "jit/kernel_future.h"
#include "jit/reference_ops.h"
#include "jit/toolchain.h"
#include "tests/jit/scratch_folder.h"
#include "tests/support/fused_checks.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/kernel_checks.h"

namespace ktjit {
namespace {

/// An engine without a disk cache, so that every kernel is compiled by this test.
struct CpuBench {
  Toolchain toolchain{[] {
                        Options options;
                        options.cache_enabled = false;
                        options.worker = KTJIT_WORKER_PATH;
                        return options;
                      }(),
                      [](std::string_view) {}};
  std::unique_ptr<runtime::Device> device = toolchain.open_device("cpu");

  /// Targets that this CPU can run: all of its features, and fewer.
  std::vector<test::Place> places() {
    std::vector<test::Place> result;
    for (const char* name : {"cpu", "cpu:x86-64", "cpu:x86-64-v3"}) {
      const Target target = toolchain.get_target(name);
      std::string reason;
      if (!device->can_load(target, ArtifactKind::kSharedObject, &reason)) {
        WARN("not run as " << name << ": " << reason);
        continue;
      }
      result.push_back({toolchain.engine(), *device, target});
    }
    return result;
  }

  /// With all features the first case and each `native_every`-th, with fewer each `every`-th: compiling takes the time.
  void check(test::CheckResult (*run)(const test::Place&), std::int64_t least_values,
             std::int64_t every = 1, std::int64_t native_every = 1) {
    for (test::Place& place : places()) {
      place.every = place.target == device->native_target() ? native_every : every;
      const test::CheckResult result = run(place);
      INFO(place.target.name() << ": " << result.kernels << " kernels, " << result.values
                               << " values, " << result.first_problem);
      CHECK(result.wrong == 0);
      CHECK(result.values >= least_values / place.every);
    }
  }
};

}  // namespace

TEST_CASE("CPU matmul gives right results by its quick version, and by the full one after it") {
  CpuBench bench;
  const std::shared_ptr<runtime::Device> device = std::move(bench.device);
  constexpr std::int64_t kRows = 20, kCols = 512, kN = 9;
  const KernelSpec spec = test::make_spec(Op::kMatmul, "q8_0", kCols, device->native_target());
  std::vector<std::byte> w(
      static_cast<std::size_t>(kRows * row_bytes(get_format(spec.weight), kCols)));
  for (std::size_t i = 0; i < w.size(); ++i) {
    // Blocks of an f16 scale (1/16) and 32 codes.
    const std::size_t in_block = i % 34;
    w[i] = static_cast<std::byte>(in_block == 0 ? 0x00 : in_block == 1 ? 0x2c : 37 * i % 251);
  }
  std::vector<float> x(static_cast<std::size_t>(kN * kCols));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  ScaledTensorView view;
  view.format = spec.weight;
  view.rows = kRows;
  view.cols = kCols;
  view.data = w;
  std::vector<double> want(static_cast<std::size_t>(kN * kRows)), sums(want.size());
  matvec_reference(view, x, kN, 0, kRows, want, sums);

  const auto stream = device->make_stream();
  const auto w_at = runtime::place_on_device(*device, *stream, w);
  const auto x_at = runtime::place_on_device(*device, *stream, std::as_bytes(std::span(x)));
  const auto count_right = [&](const LoadedKernel& kernel) {
    std::vector<float> y(want.size());
    const auto y_at = device->allocate(y.size() * sizeof(float));
    const std::uint64_t arguments[] = {w_at->address(), x_at->address(), y_at->address(),
                                       static_cast<std::uint64_t>(kRows),
                                       static_cast<std::uint64_t>(kN)};
    kernel.launch(*stream, kRows, arguments, kN);
    device->download(*stream, *y_at, 0, std::as_writable_bytes(std::span(y)));
    stream->synchronize();
    std::size_t right = 0;
    for (std::size_t i = 0; i < y.size(); ++i)
      right += is_right_product(kCols, FormatId::kF32, y[i], want[i], sums[i]);
    return right;
  };

  const KernelFuture future = bench.toolchain.engine().load_async(device, spec, Tiers::kQuickFirst);
  const LoadedKernel kernel = future.get();
  REQUIRE(kernel.built.quality == Quality::kQuick);
  CHECK(count_right(kernel) == want.size());
  kernel.wait_full();
  REQUIRE(kernel.is_full());
  CHECK(kernel.current().built.artifact.bytes != kernel.built.artifact.bytes);
  CHECK(count_right(kernel) == want.size());
}

TEST_CASE("CPU dequant equals ggml's golden vectors bit for bit") {
  CpuBench().check(test::check_golden_dequant, 360000);
}
TEST_CASE("CPU dequant of any bytes in ggml's blocks equals the reference bit for bit") {
  CpuBench().check(test::check_block_bytes, 20 * 9 * 1023 * 32);
}
TEST_CASE("CPU dequant rounds integers and f64 once, to nearest even") {
  CpuBench().check(test::check_numbers, 3 * 8 * 65536);
}
TEST_CASE("CPU decodes all 256 codes of each FP8 format") {
  CpuBench().check(test::check_fp8_codes, 3 * 16 * 256);
}
TEST_CASE("CPU dequant applies scales of every shape and type") {
  CpuBench().check(test::check_scaled_dequant, 1000000);
}
TEST_CASE("CPU matvec stays within the f32 bound") {
  CpuBench().check(test::check_matvec, 10000, 7);
}
TEST_CASE("CPU moe_matvec takes the experts that ids name, and gives NaN where there is none") {
  CpuBench().check(test::check_moe_matvec, 10000, 19);
}
TEST_CASE("CPU moe_matmul multiplies the slots of each expert") {
  CpuBench().check(test::check_moe_matmul, 100000, 89, 17);
}
TEST_CASE("CPU moe_matmul of many experts and of many slots") {
  CpuBench().check(test::check_many_experts, 8000);
}
TEST_CASE("CPU matvec with gates, several matrices and residuals stays within its bounds") {
  CpuBench().check(test::check_fused_matvec, 10000, 29);
}
TEST_CASE("CPU gates are within 2^-21 of silu and gelu") {
  CpuBench().check(test::check_gates, 10000);
}
TEST_CASE("CPU decodes all codes and scales of mxfp4 and nvfp4") {
  CpuBench().check(test::check_fp4_codes, 2 * 3 * 256 * 4096);
}
TEST_CASE("CPU decodes every entry of every codebook") {
  CpuBench().check(test::check_codebooks, 7 * 129 * 2048);
}
TEST_CASE("CPU decodes all codes and scales of mxfp6 and mxfp8") {
  CpuBench().check(test::check_mx_codes, 3 * 256 * (2 * 1024 + 5 * 4096));
}
TEST_CASE("CPU matmul stays within the f32 bound") {
  CpuBench().check(test::check_matmul, 100000, 7);
}
TEST_CASE("CPU products add the bias and round y once") {
  CpuBench().check(test::check_epilogues, 10000);
}
TEST_CASE("CPU products propagate NaN weights, unless a scan found none") {
  CpuBench().check(test::check_nan_weights, 2000);
}
TEST_CASE("CPU narrows all f16 and bf16 values to floats of 4 to 8 bits bit for bit") {
  CpuBench().check(test::check_quantize, 8 * 4 * 65536 / 2);
}
TEST_CASE("CPU quantises with scales and to ggml's blocks bit for bit") {
  CpuBench().check(test::check_quantize_groups, 150000);
}
TEST_CASE("CPU finds NaN codes") { CpuBench().check(test::check_nan_scan, 300); }

}  // namespace ktjit
