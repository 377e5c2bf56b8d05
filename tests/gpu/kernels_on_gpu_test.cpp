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

  void check(test::CheckResult (*run)(const test::Place&), std::int64_t least_values) {
    std::vector<Target> targets = {device->native_target()};
    for (int sm : {75, 86}) targets.push_back(make_cuda_target(sm));
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

}  // namespace ktjit
