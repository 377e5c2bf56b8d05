// Every kernel, on this machine's CPU as it is and as plainer x86-64 code, against the plain
// reference.
#include <catch2/catch.hpp>

#include "jit/toolchain.h"
#include "tests/jit/scratch_folder.h"
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

  /// With all features every case, with fewer the first and each `every`-th: compiling takes the time.
  void check(test::CheckResult (*run)(const test::Place&), std::int64_t least_values,
             std::int64_t every = 1) {
    for (test::Place& place : places()) {
      place.every = place.target == device->native_target() ? 1 : every;
      const test::CheckResult result = run(place);
      INFO(place.target.name() << ": " << result.kernels << " kernels, " << result.values
                               << " values, " << result.first_problem);
      CHECK(result.wrong == 0);
      CHECK(result.values >= least_values / place.every);
    }
  }
};

}  // namespace

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
