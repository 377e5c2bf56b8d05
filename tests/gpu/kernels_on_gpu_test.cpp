// Every kernel on a real GPU: as its own code, and as older targets' code that the driver compiles.
#include <catch2/catch.hpp>
#include <cstdio>

#include "jit/toolchain.h"
#include "tests/support/fused_checks.h"
#include "tests/support/kernel_checks.h"

namespace ktjit {
namespace {

/// Targets that every exact result is asked of, besides the device's own; those before sm_75 are in
/// Clang's test.
const std::vector<int> kOlderSms = {75, 80, 86, 89};

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

/// The GPU with no compiler but Clang, whose PTX the driver compiles.
struct ClangBench {
  Toolchain toolchain{[] {
                        Options options;
                        options.cache_enabled = false;
                        options.nvrtc = "/nonexistent";  // an explicit path: none takes its place
                        return options;
                      }(),
                      [](std::string_view) {}};
  std::unique_ptr<runtime::Device> device = toolchain.open_device("cuda");
};

}  // namespace

// The checks compare with the same values bit for bit as those of NVRTC's code above, NaNs by class.
TEST_CASE("GPU runs Clang's code with the same bits as NVRTC's") {
  ClangBench bench;
  for (const NvrtcCandidate& candidate : bench.toolchain.nvrtc_candidates())
    REQUIRE_FALSE(candidate.usable());
  const int device_sm = bench.device->native_target().sm;
  int checked = 0;
  for (const char* name :
       {"sm_60", "sm_61", "sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90a"}) {
    const Target target = parse_target(name, {});
    // PTX runs on later GPUs too, but with a suffix on that one chip only.
    if (target.suffix.empty() ? target.sm > device_sm : target.sm != device_sm) continue;
    const test::Place place{bench.toolchain.engine(), *bench.device, target};
    test::CheckResult result = test::check_golden_dequant(place);
    result.merge(test::check_fp8_codes(place));
    result.merge(test::check_numbers(place));
    result.merge(test::check_fp4_codes(place));
    result.merge(test::check_mx_codes(place));
    result.merge(test::check_quantize(place));
    result.merge(test::check_quantize_groups(place));
    std::printf("Clang's %s on %s: %lld kernels, %lld values, %lld wrong\n", name,
                bench.device->native_target().name().c_str(),
                static_cast<long long>(result.kernels), static_cast<long long>(result.values),
                static_cast<long long>(result.wrong));
    INFO(name << ": " << result.first_problem);
    CHECK(result.wrong == 0);
    CHECK(result.values >= 6000000);
    ++checked;
  }
  CHECK(checked >= 3);
}

TEST_CASE("GPU dequant equals ggml's golden vectors bit for bit") {
  GpuBench().check(test::check_golden_dequant, 360000, kOlderSms);
}
TEST_CASE("GPU dequant of any bytes in ggml's blocks equals the reference bit for bit") {
  GpuBench().check(test::check_block_bytes, 20 * 9 * 1023 * 32, kOlderSms);
}
TEST_CASE("GPU dequant rounds integers and f64 once, to nearest even") {
  GpuBench().check(test::check_numbers, 3 * 8 * 65536, kOlderSms);
}
TEST_CASE("GPU decodes all 256 codes of each FP8 format, by software and hardware") {
  GpuBench().check(test::check_fp8_codes, 3 * 16 * 256, kOlderSms);
}
TEST_CASE("GPU dequant applies scales of every shape and type") {
  GpuBench().check(test::check_scaled_dequant, 1000000);
}
TEST_CASE("GPU dequant has the same bits at every setting of its knobs") {
  GpuBench().check(test::check_dequant_knobs, 1000000, kOlderSms);
}
TEST_CASE("GPU matvec stays within the f32 bound") { GpuBench().check(test::check_matvec, 10000); }
TEST_CASE("GPU moe_matvec takes the experts that ids name, and gives NaN where there is none") {
  GpuBench().check(test::check_moe_matvec, 10000);
}
TEST_CASE("GPU moe_matmul multiplies the slots of each expert, with every kind of tensor core") {
  GpuBench().check(test::check_moe_matmul, 10000, {75, 86, 89});
}
TEST_CASE("GPU moe_matmul of many experts and of many slots") {
  GpuBench().check(test::check_many_experts, 8000);
}
TEST_CASE("GPU matvec with gates, several matrices and residuals stays within its bounds") {
  GpuBench().check(test::check_fused_matvec, 10000);
}
TEST_CASE("GPU gates are within 2^-21 of silu and gelu") {
  GpuBench().check(test::check_gates, 10000);
}
TEST_CASE("GPU decodes all codes and scales of mxfp4 and nvfp4") {
  GpuBench().check(test::check_fp4_codes, 2 * 3 * 256 * 4096, kOlderSms);
}
TEST_CASE("GPU decodes every entry of every codebook") {
  GpuBench().check(test::check_codebooks, 7 * 129 * 2048, kOlderSms);
}
TEST_CASE("GPU decodes all codes and scales of mxfp6 and mxfp8") {
  GpuBench().check(test::check_mx_codes, 3 * 256 * (2 * 1024 + 5 * 4096), kOlderSms);
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
