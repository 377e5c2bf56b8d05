// The CPU device with kernels made by the build's own compiler.
#include "runtime/cpu_device.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <thread>
#include <vector>
#include <xmmintrin.h>

#include "core/error.h"
#include "runtime/host_cpu.h"
#include "runtime/host_limits.h"

namespace ktjit::runtime {
namespace {

using Catch::Matchers::Contains;

std::unique_ptr<Device> make_device(int threads = 2) {
  return make_cpu_device(make_tbb_executor(threads));
}

Artifact read_kernel(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  Artifact artifact;
  artifact.kind = ArtifactKind::kSharedObject;
  artifact.entry_name = "test_kernel";
  artifact.bytes.resize(bytes.size());
  std::memcpy(artifact.bytes.data(), bytes.data(), bytes.size());
  return artifact;
}

Artifact kernel_of_zero() { return read_kernel(KTJIT_TEST_KERNEL_0); }
Artifact kernel_of_one() { return read_kernel(KTJIT_TEST_KERNEL_1); }

/// y[0] of a launch on one tile with x[0] = `x`.
float run_one(const Kernel& kernel, float x) {
  float y = 0;
  unsigned char calls = 0;
  const std::array<std::uint64_t, 3> arguments = {reinterpret_cast<std::uintptr_t>(&x),
                                                  reinterpret_cast<std::uintptr_t>(&y),
                                                  reinterpret_cast<std::uintptr_t>(&calls)};
  const auto stream = make_device()->make_stream();
  kernel.launch(*stream, {1, 1, 1, 0}, arguments);
  return y;
}

/// Runs `work` with bits of MXCSR set, and checks that they are still set afterwards.
void with_mxcsr(unsigned bits, const std::function<void()>& work) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | bits);
  const unsigned set = _mm_getcsr();
  work();
  const unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  CHECK(after == set);
}

TEST_CASE("the native target has the features of this CPU, by LLVM's names") {
  const auto device = make_device();
  CHECK(device->name() == "cpu");
  CHECK(device->native_target().name() == "cpu");
  const auto known = known_cpu_features();
  for (const std::string& feature : device->native_target().cpu_features)
    CHECK(std::find(known.begin(), known.end(), feature) != known.end());
  // GCC's own detection, for the features of x86-64-v3.
  CHECK(device->native_target().has_cpu_feature("avx2") == (__builtin_cpu_supports("avx2") != 0));
  CHECK(device->native_target().has_cpu_feature("fma") == (__builtin_cpu_supports("fma") != 0));
  CHECK(device->native_target().has_cpu_feature("popcnt") ==
        (__builtin_cpu_supports("popcnt") != 0));
  CHECK(device->native_target().has_cpu_feature("avx512f") ==
        (__builtin_cpu_supports("avx512f") != 0));
  CHECK(device->native_target().has_cpu_feature("bmi2") == (__builtin_cpu_supports("bmi2") != 0));
}

TEST_CASE("the description names the model, threads and vector features") {
  CHECK_THAT(make_device(2)->description(), Contains(" thread") && Contains(" (") && Contains(")"));
  CHECK_THAT(make_device(1)->description(), Contains(", 1 thread ("));
}

TEST_CASE("memory and cache sizes are this machine's") {
  const auto device = make_device();
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  CHECK(device->total_memory_bytes() > 100 * kMiB);
  CHECK(device->free_memory_bytes() <= device->total_memory_bytes());
  CHECK(device->last_level_cache_bytes() >= kMiB / 4);
  CHECK(device->last_level_cache_bytes() <= 4096 * kMiB);
}

TEST_CASE("every tile is computed once") {
  for (const int threads : {1, 2, 5}) {
    const auto device = make_device(threads);
    const auto kernel = device->load(kernel_of_one());
    const auto stream = device->make_stream();
    for (const unsigned tiles : {1u, 2u, 3u, 97u, 10000u}) {
      const std::vector<float> x(tiles, 3.0f);
      const auto x_buffer = device->try_borrow(std::as_bytes(std::span(x)));
      const auto y_buffer = device->allocate(tiles * sizeof(float));
      const auto calls_buffer = device->allocate(tiles);
      device->fill(*stream, *calls_buffer, std::byte{0});
      const std::array arguments = {x_buffer->address(), y_buffer->address(),
                                    calls_buffer->address()};
      kernel->launch(*stream, {tiles, 1, 1, 0}, arguments);
      stream->synchronize();
      std::vector<float> y(tiles);
      std::vector<unsigned char> calls(tiles);
      device->download(*stream, *y_buffer, 0, std::as_writable_bytes(std::span(y)));
      device->download(*stream, *calls_buffer, 0, std::as_writable_bytes(std::span(calls)));
      CHECK(std::count(y.begin(), y.end(), 2.5f) == tiles);
      CHECK(std::count(calls.begin(), calls.end(), 1) == tiles);
    }
  }
}

TEST_CASE("kernels of one name don't get mixed up, loaded together or one after the other") {
  const auto device = make_device();
  const auto zero = device->load(kernel_of_zero());
  const auto one = device->load(kernel_of_one());
  CHECK(run_one(*zero, 4.0f) == 2.0f);
  CHECK(run_one(*one, 4.0f) == 3.0f);
  for (int round = 0; round < 3; ++round) {  // a descriptor's number comes back: same path
    CHECK(run_one(*device->load(kernel_of_zero()), 4.0f) == 2.0f);
    CHECK(run_one(*device->load(kernel_of_one()), 4.0f) == 3.0f);
  }
}

TEST_CASE("the caller's flush modes and rounding don't reach a kernel, and stay as they were") {
  constexpr unsigned kFlushToZero = 0x8000;
  constexpr unsigned kDenormalsAreZero = 0x0040;
  constexpr unsigned kRoundUp = 0x4000;
  constexpr float kMinNormal = std::numeric_limits<float>::min();
  const auto device = make_device();
  const auto zero = device->load(kernel_of_zero());
  const auto one = device->load(kernel_of_one());
  for (const unsigned bits : {0u, kFlushToZero, kDenormalsAreZero, kRoundUp,
                              kFlushToZero | kDenormalsAreZero | kRoundUp}) {
    float subnormal = 0;
    float rounded = 0;
    with_mxcsr(bits, [&] {
      subnormal = run_one(*zero, kMinNormal);
      rounded = run_one(*one, 0x1p-60f);
    });
    CHECK(std::memcmp(&subnormal, std::array<unsigned char, 4>{0, 0, 0x40, 0}.data(), 4) == 0);
    CHECK(rounded == 1.0f);
  }
}

TEST_CASE("what can't be loaded is refused with the reason") {
  const auto device = make_device();
  std::string reason;
  CHECK(device->can_load(device->native_target(), ArtifactKind::kSharedObject, &reason));
  CHECK(reason.empty());
  CHECK(device->can_load(make_cpu_target("x86-64", {}), ArtifactKind::kSharedObject, nullptr));

  CHECK_FALSE(device->can_load(make_cpu_target("x", {"amx-fp99", "avx512-quux"}),
                               ArtifactKind::kSharedObject, &reason));
  CHECK(reason == "this CPU lacks amx-fp99, avx512-quux");
  if (!device->native_target().has_cpu_feature("avx512f")) {
    CHECK_FALSE(device->can_load(make_cpu_target("x86-64-v4", cpu_level_features("x86-64-v4")),
                                 ArtifactKind::kSharedObject, &reason));
    CHECK_THAT(reason, Contains("this CPU lacks") && Contains("avx512f"));
  }
  CHECK_FALSE(device->can_load(make_cuda_target(86), ArtifactKind::kCubin, &reason));
  CHECK(reason == "the CPU does not run code for sm_86");
  CHECK_FALSE(device->can_load(device->native_target(), ArtifactKind::kLlvmIr, &reason));
  CHECK(reason == "the CPU loads shared objects, not llvm ir");

  Artifact artifact = kernel_of_zero();
  artifact.kind = ArtifactKind::kAssembly;
  CHECK_THROWS_AS(device->load(artifact), DriverError);
}

TEST_CASE("a missing entry is refused by name") {
  Artifact artifact = kernel_of_zero();
  artifact.entry_name = "other";
  CHECK_THROWS_WITH(make_device()->load(artifact), Contains("no symbol 'other'"));
}

TEST_CASE("buffers are aligned and hold what is copied") {
  const auto device = make_device();
  const auto stream = device->make_stream();
  for (const std::size_t bytes : {0, 1, 255, 4097, 5 << 20}) {
    const auto buffer = device->allocate(bytes);
    CHECK(buffer->bytes() == bytes);
    CHECK(buffer->address() % 256 == 0);
    device->fill(*stream, *buffer, std::byte{7});
    std::vector<std::byte> back(bytes);
    device->download(*stream, *buffer, 0, back);
    CHECK(std::count(back.begin(), back.end(), std::byte{7}) == std::ptrdiff_t(bytes));
    if (bytes < 2) continue;
    const std::array some = {std::byte{1}, std::byte{2}};
    device->upload(*stream, some, *buffer, bytes - 2);
    device->download(*stream, *buffer, 0, back);
    CHECK(back[bytes - 2] == std::byte{1});
    CHECK(back[bytes - 1] == std::byte{2});
  }
}

TEST_CASE("copies outside a buffer and writes to borrowed memory are internal errors") {
  const auto device = make_device();
  const auto stream = device->make_stream();
  const auto buffer = device->allocate(16);
  std::array<std::byte, 8> eight{};
  CHECK_THROWS_AS(device->upload(*stream, eight, *buffer, 9), InternalError);
  CHECK_THROWS_AS(device->download(*stream, *buffer, 9, eight), InternalError);
  CHECK_THROWS_AS(device->download(*stream, *buffer, std::size_t(-1), eight), InternalError);
  const auto borrowed = device->try_borrow(eight);
  CHECK(borrowed->address() == reinterpret_cast<std::uintptr_t>(eight.data()));
  CHECK_THROWS_AS(device->fill(*stream, *borrowed, std::byte{1}), InternalError);
}

TEST_CASE("more memory than there is, is refused by name") {
  const auto device = make_device();
  CHECK_THROWS_AS(device->allocate(std::size_t{1} << 60), DriverError);
  CHECK_THROWS_WITH(device->allocate(device->total_memory_bytes() + 1),
                    Contains("not enough memory") && Contains("allocating"));
}

TEST_CASE("time is measured in microseconds") {
  const auto device = make_device();
  const auto stream = device->make_stream();
  const double us =
      device->time_us(*stream, [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  CHECK(us >= 20000);
  CHECK(us < 20e6);
}

}  // namespace
}  // namespace ktjit::runtime
