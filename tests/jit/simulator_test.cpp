// Hand-written CUDA texts on the simulator: the CUDA model, and each of its reports.
#include <catch2/catch.hpp>
#include <numeric>

#include "core/kernel_error.h"
#include "jit/llvm_compiler.h"
#include "runtime/simulator_device.h"

namespace ktjit {
namespace {

using Catch::Matchers::Contains;

/// One compiler for all tests of this file: starting a worker takes as long as a small kernel.
LlvmCompiler& compiler() {
  static LlvmCompiler shared([] {
    LlvmCompilerOptions options;
    options.worker = KTJIT_WORKER_PATH;
    return options;
  }());
  return shared;
}

/// A text's kernel `k` on a simulator of its own.
struct Bench {
  explicit Bench(const std::string& source, const char* target = "sm_86")
      : kernel(device->load(compiler().compile(
            {source, "k", parse_target(target, {}), ArtifactKind::kSimulatorObject}))) {}

  template <typename T>
  runtime::Buffer& buffer(const std::vector<T>& values) {
    buffers.push_back(device->allocate(values.size() * sizeof(T)));
    device->upload(*stream, std::as_bytes(std::span(values)), *buffers.back(), 0);
    return *buffers.back();
  }
  template <typename T>
  std::vector<T> read(const runtime::Buffer& from) {
    std::vector<T> values(from.bytes() / sizeof(T));
    device->download(*stream, from, 0, std::as_writable_bytes(std::span(values)));
    return values;
  }
  void launch(const LaunchGrid& grid, const std::vector<std::uint64_t>& arguments) {
    kernel->launch(*stream, grid, arguments);
  }
  /// What the launch reports; "" if nothing.
  std::string report(const LaunchGrid& grid, const std::vector<std::uint64_t>& arguments) {
    try {
      launch(grid, arguments);
    } catch (const KernelError& error) {
      return error.what();
    }
    return "";
  }

  std::unique_ptr<runtime::Device> device =
      runtime::make_simulator_device(runtime::make_tbb_executor(2));
  std::unique_ptr<runtime::Stream> stream = device->make_stream();
  std::unique_ptr<runtime::Kernel> kernel;
  std::vector<std::unique_ptr<runtime::Buffer>> buffers;
};

/// The number of the line that has `mark`.
std::string line_of(const std::string& source, const std::string& mark) {
  const auto at = source.find(mark);
  REQUIRE(at != std::string::npos);
  return "line " + std::to_string(1 + std::count(source.begin(), source.begin() + at, '\n')) + ":";
}

constexpr const char* kReduction = R"(
extern __shared__ __align__(16) unsigned char dynamic[];

__device__ __forceinline__ float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

// Sum of x over each block, twice: by shuffles and by a tree in dynamic shared memory.
extern "C" __global__ void k(const float* x, float* sums, float* total, int* passed, long long n) {
  __shared__ float of_warps[32];
  float* tree = (float*)dynamic;
  const int thread = threadIdx.x;
  const long long at = (long long)blockIdx.x * blockDim.x + thread;
  const float mine = at < n ? x[at] : 0.0f;

  const float of_warp = warp_sum(mine);
  if (thread % 32 == 0) of_warps[thread / 32] = of_warp;
  tree[thread] = mine;
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (thread < half) tree[thread] += tree[thread + half];
    __syncthreads();
  }
  if (thread < 32) {
    const float part = thread < (int)blockDim.x / 32 ? of_warps[thread] : 0.0f;
    const float by_shuffles = warp_sum(part);
    if (thread == 0) {
      sums[blockIdx.x] = by_shuffles;
      atomicAdd(total, tree[0]);
      atomicAdd(passed, by_shuffles == tree[0] ? 1 : 1000);
    }
  }
}
)";

}  // namespace

TEST_CASE("the simulator runs a reduction with shared memory, shuffles, barriers and atomics") {
  Bench bench(kReduction);
  std::vector<float> x(1000);
  std::iota(x.begin(), x.end(), 1.0f);
  auto& x_buffer = bench.buffer(x);
  auto& sums = bench.buffer(std::vector<float>(8, -1.0f));
  auto& total = bench.buffer(std::vector<float>{0.0f});
  auto& passed = bench.buffer(std::vector<int>{0});
  bench.launch({8, 1, 128, 128 * sizeof(float)},
               {x_buffer.address(), sums.address(), total.address(), passed.address(), 1000});
  CHECK(bench.read<float>(total) == std::vector<float>{500500.0f});
  CHECK(bench.read<int>(passed) == std::vector<int>{8});
  CHECK(bench.read<float>(sums)[1] == 128 * 192.5f);
  CHECK(bench.report(
            {8, 1, 128, 127 * sizeof(float)},
            {x_buffer.address(), sums.address(), total.address(), passed.address(), 1000}) != "");
}

TEST_CASE("the simulator reports a write outside a buffer") {
  const std::string source = R"(
extern "C" __global__ void k(float* y, long long n) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) y[i] = 1.0f;  // one too far
}
)";
  Bench bench(source);
  auto& y = bench.buffer(std::vector<float>(100));
  const std::string report = bench.report({4, 1, 32, 0}, {y.address(), 100});
  CHECK_THAT(report, Contains("kernel k, block (3, 0, 0), thread (4, 0, 0), " +
                              line_of(source, "one too far")) &&
                         Contains("writes 4 bytes at") &&
                         Contains("0 bytes past the end of argument 0, a buffer of 400 bytes"));
}

TEST_CASE("the simulator reports reads before a buffer, through no buffer and of freed ones") {
  const std::string source = R"(
extern "C" __global__ void k(const int* x, int* y, long long at) { y[threadIdx.x] = x[at]; }
)";
  Bench bench(source);
  auto& x = bench.buffer(std::vector<int>(4));
  auto& y = bench.buffer(std::vector<int>(4));
  const auto report = [&](std::uint64_t from, std::int64_t at) {
    return bench.report({1, 1, 4, 0}, {from, y.address(), static_cast<std::uint64_t>(at)});
  };
  CHECK(report(x.address(), 3) == "");
  CHECK_THAT(report(x.address(), -2),
             Contains("line 2: reads 4 bytes at") &&
                 Contains("8 bytes before the begin of argument 0, a buffer of 16 bytes"));
  CHECK_THAT(report(0, 0), Contains("through argument 0, which is 0x0 and no buffer"));
  const std::uint64_t freed = x.address();
  bench.buffers.erase(bench.buffers.begin());
  CHECK_THAT(report(freed, 0),
             Contains("through argument 0, a buffer of 16 bytes that has been freed"));
}

TEST_CASE("the simulator reports a misaligned vector access") {
  const std::string source = R"(
struct alignas(16) Words4 { unsigned word[4]; };
__device__ __forceinline__ Words4 load(const unsigned char* at) {
  return *(const Words4*)at;  // needs 16 bytes
}
extern "C" __global__ void k(const unsigned char* x, unsigned* y) {
  const Words4 words = load(x + 8 * threadIdx.x);
  y[threadIdx.x] = words.word[0] + words.word[3];
}
)";
  Bench bench(source);
  auto& x = bench.buffer(std::vector<unsigned>(64));
  auto& y = bench.buffer(std::vector<unsigned>(4));
  CHECK_THAT(bench.report({1, 1, 4, 0}, {x.address(), y.address()}),
             Contains("block (0, 0, 0), thread (1, 0, 0), " + line_of(source, "needs 16 bytes")) &&
                 Contains("reads 16 bytes at") &&
                 Contains("not aligned to 16 bytes (byte 8 of argument 0)") &&
                 Contains("called from line 7"));
}

TEST_CASE("the simulator reports a read of shared memory that no thread wrote") {
  const std::string source = R"(
extern "C" __global__ void k(const int* x, int* y) {
  __shared__ int tile[64];
  const int thread = threadIdx.x;
  if (thread < 40) tile[thread] = x[thread];
  __syncthreads();
  y[thread] = tile[63 - thread];  // 63 to 40 are not written
}
)";
  Bench bench(source);
  auto& x = bench.buffer(std::vector<int>(64));
  auto& y = bench.buffer(std::vector<int>(64));
  CHECK_THAT(bench.report({1, 1, 64, 0}, {x.address(), y.address()}),
             Contains("block (0, 0, 0), thread (0, 0, 0), " + line_of(source, "are not written")) &&
                 Contains("reads 4 bytes of shared memory (byte 252 of tile) that no thread has "
                          "written"));
}

TEST_CASE("what one CTA wrote to shared memory is not written for the next") {
  const std::string source = R"(
extern "C" __global__ void k(int* y) {
  __shared__ int tile[32];
  if (blockIdx.x == 0) tile[threadIdx.x] = 1;
  y[threadIdx.x] = tile[threadIdx.x];
}
)";
  Bench bench(source);
  auto& y = bench.buffer(std::vector<int>(32));
  CHECK(bench.report({1, 1, 32, 0}, {y.address()}) == "");
  CHECK_THAT(bench.report({2, 1, 32, 0}, {y.address()}),
             Contains("block (1, 0, 0), thread (0, 0, 0), line 5: reads 4 bytes of shared memory"));
}

TEST_CASE("the simulator reports a barrier that some threads don't reach") {
  const std::string ended = R"(
extern "C" __global__ void k(int* y, long long n) {
  if (threadIdx.x >= n) return;
  __syncthreads();  // not by all
  y[threadIdx.x] = 1;
}
)";
  Bench bench(ended);
  auto& y = bench.buffer(std::vector<int>(64));
  CHECK(bench.report({1, 1, 64, 0}, {y.address(), 64}) == "");
  CHECK_THAT(bench.report({1, 1, 64, 0}, {y.address(), 50}),
             Contains("block (0, 0, 0), thread (0, 0, 0), " + line_of(ended, "not by all")) &&
                 Contains("barrier not reached by all: 14 of 64 threads of the block are missing; "
                          "thread (50, 0, 0) has ended"));

  const std::string divergent = R"(
extern "C" __global__ void k(int* y) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();  // another one
  }
  y[threadIdx.x] = 1;
}
)";
  Bench two(divergent);
  auto& z = two.buffer(std::vector<int>(64));
  CHECK_THAT(two.report({1, 1, 64, 0}, {z.address()}),
             Contains("thread (32, 0, 0), " + line_of(divergent, "another one")) &&
                 Contains("divergent barrier: waits here for the block, but thread (0, 0, 0) waits "
                          "at the barrier in line 4"));
}

TEST_CASE("the simulator reports lanes that never come to a shuffle") {
  const std::string source = R"(
extern "C" __global__ void k(const int* x, int* y) {
  int value = x[threadIdx.x];
  if (threadIdx.x % 32 < 24) value += __shfl_xor_sync(0xffffffffu, value, 1);  // all lanes named
  y[threadIdx.x] = value;
}
)";
  Bench bench(source);
  auto& x = bench.buffer(std::vector<int>(64));
  auto& y = bench.buffer(std::vector<int>(64));
  CHECK_THAT(
      bench.report({1, 1, 64, 0}, {x.address(), y.address()}),
      Contains("block (0, 0, 0), thread (0, 0, 0), " + line_of(source, "all lanes named")) &&
          Contains("__shfl_xor_sync is not reached by all lanes of its mask 0xffffffff: lanes "
                   "0xff000000 never arrive; lane 24 has ended"));
}

TEST_CASE("the simulator reports an access outside a shared or local array") {
  const std::string source = R"(
extern "C" __global__ void k(const int* x, int* y, int at) {
  __shared__ int first[8];
  __shared__ int second[8];
  int local[4];
  for (int i = 0; i < 4; ++i) local[i] = x[i];
  first[threadIdx.x] = second[threadIdx.x] = 1;
  first[at] = 2;          // shared
  y[0] = local[at - 8];   // local
}
)";
  Bench bench(source);
  auto& x = bench.buffer(std::vector<int>(8));
  auto& y = bench.buffer(std::vector<int>(8));
  CHECK_THAT(
      bench.report({1, 1, 8, 0}, {x.address(), y.address(), 9}),
      Contains(line_of(source, "// shared")) &&
          Contains("writes 4 bytes, 4 bytes past the end of shared variable first (32 bytes)"));
  CHECK_THAT(
      bench.report({1, 1, 8, 0}, {x.address(), y.address(), 3}),
      Contains(line_of(source, "// local")) &&
          Contains("reads 4 bytes, 20 bytes before the begin of a local variable (16 bytes)"));
}

TEST_CASE("the simulator refuses PTX that it has no model of, by name") {
  const std::string source = R"(
extern "C" __global__ void k(int* y) {
  asm volatile("tcgen05.wait::ld.sync.aligned;" ::: "memory");
  y[0] = 1;
}
)";
  CHECK_THROWS_WITH(Bench(source, "sm_90a"),
                    Contains("tcgen05.wait::ld.sync.aligned (line 3)") && Contains("not modelled"));
}

TEST_CASE("the simulator moves data by ldmatrix and cp.async, and sees a missing wait") {
  const auto source = [](const char* wait) {
    return std::string(R"(
__device__ unsigned shared_address(const void* at) {
  return (unsigned)(unsigned long long)__cvta_generic_to_shared(at);
}
extern "C" __global__ void k(const unsigned* x, unsigned* y) {
  __shared__ __align__(16) unsigned tile[4 * 32];
  const int lane = threadIdx.x;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :: "r"(shared_address(tile + 4 * lane)), "l"(x + 4 * lane));
  asm volatile("cp.async.commit_group;");
  )") + wait +
           R"(
  __syncthreads();
  unsigned a, b, c, d;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(shared_address(tile + 4 * lane)));
  y[4 * lane] = a; y[4 * lane + 1] = b; y[4 * lane + 2] = c; y[4 * lane + 3] = d;
}
)";
  };
  std::vector<unsigned> x(128);
  std::iota(x.begin(), x.end(), 0u);
  Bench bench(source(R"(asm volatile("cp.async.wait_group %0;" :: "n"(0));)"));
  auto& x_buffer = bench.buffer(x);
  auto& y = bench.buffer(std::vector<unsigned>(128));
  CHECK(bench.report({1, 1, 32, 0}, {x_buffer.address(), y.address()}) == "");
  std::vector<unsigned> expected;  // lane l has word l of each of four matrices of 32 words
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned matrix = 0; matrix < 4; ++matrix) expected.push_back(32 * matrix + lane);
  CHECK(bench.read<unsigned>(y) == expected);

  Bench hasty(source(""));
  auto& x2 = hasty.buffer(x);
  auto& y2 = hasty.buffer(x);
  CHECK_THAT(hasty.report({1, 1, 32, 0}, {x2.address(), y2.address()}),
             Contains("reads 16 bytes of shared memory"));
}

TEST_CASE("the simulator runs inline assembly with several statements and registers of its own") {
  const std::string source = R"(
extern "C" __global__ void k(const unsigned* x, unsigned* y) {
  unsigned swapped, sum = 1;
  asm("{ .reg .b16 low, high;\n\t mov.b32 {low, high}, %1;\n\t mov.b32 %0, {high, low}; }"
      : "=r"(swapped) : "r"(x[threadIdx.x]));
  asm("prmt.b32 %0, %0, %1, 0x5410;" : "+r"(sum) : "r"(swapped));
  y[threadIdx.x] = sum;
}
)";
  Bench bench(source);
  auto& x = bench.buffer(std::vector<unsigned>{0x12345678u, 0xabcd0001u});
  auto& y = bench.buffer(std::vector<unsigned>(2));
  bench.launch({1, 1, 2, 0}, {x.address(), y.address()});
  CHECK(bench.read<unsigned>(y) == std::vector<unsigned>{0x12340001u, 0xabcd0001u});
}

TEST_CASE("the simulator has shuffles, votes and reductions as CUDA defines them") {
  const std::string source = R"(
extern "C" __global__ void k(unsigned* y) {
  const unsigned lane = threadIdx.x;
  const unsigned full = 0xffffffffu;
  unsigned* out = y + 9 * lane;
  out[0] = __shfl_sync(full, lane, 5);
  out[1] = __shfl_up_sync(full, lane, 3);
  out[2] = __shfl_down_sync(full, lane, 3);
  out[3] = __shfl_xor_sync(full, lane, 8);
  out[4] = __ballot_sync(full, lane % 3 == 0);
  out[5] = (unsigned)__any_sync(full, lane == 7) + 2u * (unsigned)__all_sync(full, lane < 31);
  if (lane < 4) {
    out[6] = __shfl_sync(0xfu, lane, 2);
  } else {
    out[6] = __ballot_sync(0xfffffff0u, 1);
  }
  __syncwarp();
  out[7] = lane;
  out[8] = lane < 9 ? __reduce_max_sync(0x1ffu, 40u - lane) : __reduce_max_sync(0xfffffe00u, 0xfffffff0u - lane);
}
)";
  Bench bench(source);
  auto& y = bench.buffer(std::vector<unsigned>(9 * 32));
  REQUIRE(bench.report({1, 1, 32, 0}, {y.address()}) == "");
  const std::vector<unsigned> out = bench.read<unsigned>(y);
  for (unsigned lane = 0; lane < 32; ++lane) {
    const std::vector<unsigned> got(out.begin() + 9 * lane, out.begin() + 9 * lane + 9);
    const std::vector<unsigned> expected = {5,
                                            lane < 3 ? lane : lane - 3,
                                            lane > 28 ? lane : lane + 3,
                                            lane ^ 8,
                                            0x49249249u,
                                            1,
                                            lane < 4 ? 2 : 0xfffffff0u,
                                            lane,
                                            lane < 9 ? 40 : 0xffffffe7u};
    CHECK(got == expected);
  }
}

TEST_CASE("copies by tensor maps: swizzled boxes, zeros outside, and what is wrong with one") {
  const std::string source = R"(
struct alignas(64) Map { unsigned long long opaque[16]; };

// A box of 8 rows of 128 bytes from byte `at` and row `row` on; the barrier waits for `bytes`.
extern "C" __global__ void k(const unsigned char* matrix, unsigned* y, long long rows, long long at, long long row, long long bytes,
                             long long place, const __grid_constant__ Map map) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const unsigned to = (unsigned)__cvta_generic_to_shared(shared);
  const unsigned barrier = to + 2048;
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" : : "r"(barrier) : "memory");
    asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }"
                 : : "r"(barrier), "r"((int)bytes) : "memory");
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
                 : : "r"(to + (unsigned)place), "l"(&map), "r"((int)at), "r"((int)row), "r"(barrier) : "memory");
  }
  __syncthreads();
  unsigned ended;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
                 : "=r"(ended) : "r"(barrier) : "memory");
  } while (ended == 0u);
  for (int i = threadIdx.x; i < 256; i += 32) y[i] = ((const unsigned*)shared)[i];
}
)";
  constexpr std::uint64_t kRows = 11, kRowBytes = 144, kWords = kRowBytes / 4;
  Bench bench(source, "sm_90a");
  std::vector<unsigned> matrix(kRows * kWords + 1);
  std::iota(matrix.begin(), matrix.end(), 1u);
  const std::uint64_t x = bench.buffer(matrix).address();
  const auto& y = bench.buffer(std::vector<unsigned>(256));
  LaunchGrid grid{1, 1, 32, 2048 + 8};
  grid.tensor_maps = {
      {TensorMapShape{
          .address_argument = 0, .rows_argument = 2, .row_bytes = kRowBytes, .box_rows = 8}},
      1};
  const auto report = [&](std::uint64_t address, std::uint64_t bytes, std::uint64_t place) {
    return bench.report(grid, {address, y.address(), kRows, 64, 5, bytes, place});
  };
  REQUIRE(report(x, 1024, 0) == "");
  const std::vector<unsigned> got = bench.read<unsigned>(y);
  for (unsigned row = 0; row < 8; ++row) {
    for (unsigned word = 0; word < 32; ++word) {
      const unsigned from_row = 5 + row, from_word = 16 + word;
      const bool is_inside = from_row < kRows && from_word < kWords;
      const unsigned at = row * 32 + ((word / 4) ^ row) * 4 + word % 4;
      CHECK(got[at] == (is_inside ? matrix[from_row * kWords + from_word] : 0));
    }
  }
  CHECK_THAT(report(x, 1040, 0), Contains("never ends") && Contains("16 bytes are missing"));
  CHECK_THAT(report(x, 1024, 512), Contains("expected a multiple of 1024"));
  CHECK_THAT(report(x, 1024, 2048),
             Contains("1016 of them past the end of the block's shared memory"));
  CHECK_THROWS_WITH(report(x + 4, 1024, 0), Contains("expected a multiple of 16"));
  grid.tensor_maps.count = 0;
  CHECK_THROWS_WITH(report(x, 1024, 0), Contains("7 arguments, expected 8"));
}

}  // namespace ktjit
