// Every kernel on a real GPU: as its own code, and as older targets' code that the driver compiles.
#include <catch2/catch.hpp>
#include <cstdio>

#include "jit/toolchain.h"
#include "tests/support/kernel_checks.h"

namespace ktjit {
namespace {

struct GpuBench {
  Toolchain toolchain{[] {
                        Options options;
                        options.cache_enabled = false;
                        return options;
                      }(),
                      [](std::string_view) {}};
  std::unique_ptr<runtime::Device> device = toolchain.open_device("cuda");

  /// As the device's own code, and as that of the older targets `sms`.
  void check(test::CheckResult (*run)(const test::Place&), std::int64_t least_values,
             const std::vector<int>& sms = {75, 86}) {
    std::vector<Target> targets = {device->native_target()};
    for (int sm : sms) targets.push_back(make_cuda_target(sm));
    for (const Target& target : targets) {
      const test::CheckResult result = run({toolchain.engine(), *device, target});
      std::printf("%s on %s: %lld kernels, %lld values, %lld wrong\n", target.name().c_str(),
                  device->native_target().name().c_str(), static_cast<long long>(result.kernels),
                  static_cast<long long>(result.values), static_cast<long long>(result.wrong));
      INFO(target.name() << ": " << result.first_problem);
      CHECK(result.wrong == 0);
      CHECK(result.values >= least_values);
    }
  }
};

}  // namespace

TEST_CASE("GPU dequant equals ggml's golden vectors bit for bit") {
  GpuBench().check(test::check_golden_dequant, 360000);
}
TEST_CASE("GPU decodes all 256 codes of each FP8 format, by software and hardware") {
  GpuBench().check(test::check_fp8_codes, 3 * 16 * 256);
}
TEST_CASE("GPU dequant applies scales of every shape and type") {
  GpuBench().check(test::check_scaled_dequant, 1000000);
}
TEST_CASE("GPU matvec stays within the f32 bound") { GpuBench().check(test::check_matvec, 10000); }
TEST_CASE("GPU decodes all codes and scales of mxfp4 and nvfp4") {
  GpuBench().check(test::check_fp4_codes, 2 * 3 * 256 * 4096);
}
TEST_CASE("GPU matmul stays within the f32 bound, with every kind of tensor core") {
  GpuBench().check(test::check_matmul, 100000, {75, 86, 89});
}
TEST_CASE("GPU products add the bias and round y once") {
  GpuBench().check(test::check_epilogues, 10000);
}
TEST_CASE("GPU products propagate NaN weights, unless a scan found none") {
  GpuBench().check(test::check_nan_weights, 2000, {75, 86, 89});
}
TEST_CASE("GPU narrows all f16 and bf16 values to floats of 4 to 8 bits bit for bit") {
  GpuBench().check(test::check_quantize, 8 * 4 * 65536 / 2);
}
TEST_CASE("GPU quantises with scales and to ggml's blocks bit for bit") {
  GpuBench().check(test::check_quantize_groups, 150000);
}
TEST_CASE("GPU finds NaN codes") { GpuBench().check(test::check_nan_scan, 300); }

}  // namespace ktjit
