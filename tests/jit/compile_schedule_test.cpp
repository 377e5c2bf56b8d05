// The order, the limits and the estimates of builds.
#include "jit/compile_schedule.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <set>
#include <vector>

#include "core/interrupted_error.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

runtime::HostMemory memory_of(std::size_t available_mib) {
  return {64 * 1024 * kMiB, available_mib * kMiB};
}

}  // namespace

TEST_CASE("compiles side by side are limited by CPUs, by memory, and are at least one") {
  CHECK(compile_threads(0, 16, memory_of(32 * 1024)) == 16);
  CHECK(compile_threads(4, 16, memory_of(32 * 1024)) == 4);
  CHECK(compile_threads(32, 16, memory_of(32 * 1024)) == 32);  // asked for is asked for
  CHECK(compile_threads(0, 16, memory_of(8 * kBytesPerCompile / kMiB)) == 8);
  CHECK(compile_threads(32, 16, memory_of(8 * kBytesPerCompile / kMiB)) == 8);
  CHECK(compile_threads(0, 16, memory_of(1)) == 1);
  CHECK(compile_threads(0, 16, memory_of(0)) == 1);
  CHECK(compile_threads(0, 16, runtime::HostMemory{}) == 16);  // memory is not known
  CHECK(compile_threads(0) >= 1);
}

TEST_CASE("products are guessed to take longer than dequant, matmul the longest") {
  const Target target = make_cuda_target(86);
  const auto guess = [&](Op op, const char* format) {
    return guess_cost_ms(test::make_spec(op, format, 512, target));
  };
  CHECK(guess(Op::kMatmul, "fp8_e4m3") > guess(Op::kMatmul, "q4_K"));
  CHECK(guess(Op::kMatmul, "q4_K") > guess(Op::kMatvec, "q4_K"));
  CHECK(guess(Op::kMatvec, "q4_K") > guess(Op::kQuantize, "q8_0"));
  CHECK(guess(Op::kQuantize, "q8_0") > guess(Op::kDequant, "q8_0"));
}

TEST_CASE("a cost's name has op, format, kind and compiler, and no columns") {
  const KernelSpec spec = test::make_spec(Op::kMatmul, "q4_K", 4096, make_cuda_target(86));
  CHECK(cost_name(spec, ArtifactKind::kCubin, "NVRTC 13.0") == "matmul q4_K cubin NVRTC 13.0");
}

TEST_CASE("every index is worked on once, on as many threads as asked for or fewer") {
  std::atomic<int> sum{0};
  for_each_index(100, 7, {}, [&](std::size_t i) { sum += static_cast<int>(i) + 1; });
  CHECK(sum == 5050);
  for_each_index(0, 7, {}, [&](std::size_t) { FAIL(); });
}

TEST_CASE("after a stop no index is begun, and the caller hears of it") {
  std::stop_source stop;
  std::atomic<int> begun{0};
  CHECK_THROWS_AS(for_each_index(100, 3, stop.get_token(),
                                 [&](std::size_t) {
                                   if (++begun == 10) stop.request_stop();
                                 }),
                  InterruptedError);
  CHECK(begun >= 10);
  CHECK(begun <= 12);  // at most one more for each other thread
}

TEST_CASE("a stop after the last index has begun changes nothing") {
  std::stop_source stop;
  for_each_index(5, 1, stop.get_token(), [&](std::size_t i) {
    if (i == 4) stop.request_stop();
  });
  CHECK(stop.stop_requested());
}

TEST_CASE("progress counts what was found and made, and estimates by cost") {
  std::vector<BuildProgress> told;
  const ProgressCallback callback = [&](const BuildProgress& build) { told.push_back(build); };
  ProgressReporter reporter(4, callback);
  reporter.found("a");
  reporter.start_compiles(4000, 2);
  reporter.compiled("b", 3000, false);
  reporter.compiled("c", 500, true);
  reporter.compiled("d", 500, false);
  REQUIRE(told.size() == 5);
  CHECK(told[0].done == 1);
  CHECK(told[0].cached == 1);
  CHECK_FALSE(told[0].seconds_left.has_value());
  CHECK(told[1].seconds_left == 2.0);
  CHECK(told[2].last == "b");
  CHECK(told[2].seconds_left >= 0.0);
  CHECK(told[3].cached == 2);
  CHECK(told[4].done == 4);
  CHECK(told[4].seconds_left == 0.0);
}

}  // namespace ktjit
