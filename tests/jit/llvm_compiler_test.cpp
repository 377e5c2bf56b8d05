// The LLVM compiler through its real worker: what it makes, what it refuses, and what happens when
// a worker is lost.
#include "jit/llvm_compiler.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <signal.h>
#include <sstream>
#include <string>
#include <thread>
#include <vector>
#include <xmmintrin.h>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/clang_cuda_prelude.h"
#include "runtime/cpu_device.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit {
namespace {

using Catch::Matchers::Contains;

LlvmCompilerOptions test_options() {
  static const test::ScratchFolder refused_texts;
  LlvmCompilerOptions options;
  options.dump_dir = refused_texts.path();
  options.worker = KTJIT_WORKER_PATH;
  return options;
}

Target v3_target() { return make_cpu_target("x86-64-v3", cpu_level_features("x86-64-v3")); }

// y[i] = x[i] * x[i] + 1 for tiles of 8 elements.
constexpr const char* kSquareSource = R"(
typedef float F32x8 __attribute__((vector_size(32)));
extern "C" __attribute__((visibility("default"))) void
square(const unsigned long long* arguments, long long tile_begin, long long tile_end) {
  const float* x = (const float*)arguments[0];
  float* y = (float*)arguments[1];
  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    F32x8 value;
    __builtin_memcpy(&value, x + 8 * tile, 32);
    value = value * value + 1.0f;
    __builtin_memcpy(y + 8 * tile, &value, 32);
  }
}
)";

// y[tile] = x[tile] * 0.5, which is subnormal for the smallest normal number.
constexpr const char* kHalveSource = R"(
extern "C" __attribute__((visibility("default"))) void
halve(const unsigned long long* arguments, long long tile_begin, long long tile_end) {
  for (long long i = tile_begin; i < tile_end; ++i)
    ((float*)arguments[1])[i] = ((const float*)arguments[0])[i] * 0.5f;
}
)";

constexpr const char* kCudaSource = R"(
constexpr int kThreads = 128;
extern "C" __global__ void __launch_bounds__(kThreads)
row_sum(const float* __restrict__ x, float* __restrict__ y, long long cols) {
  __shared__ float part[kThreads / 32];
  float sum = 0.0f;
  for (int i = threadIdx.x; i < cols; i += blockDim.x) sum += x[blockIdx.x * cols + i];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = __uint_as_float(0u);
    for (int i = 0; i < kThreads / 32; ++i) total = __fadd_rn(total, part[i]);
    y[blockIdx.x] = total;
  }
}
)";

/// A text that keeps Clang busy for many seconds: a million instantiations.
constexpr const char* kSlowSource = R"(
template <int depth, int i>
struct Sum {
  static constexpr int value = Sum<depth - 1, 2 * i>::value + Sum<depth - 1, 2 * i + 1>::value;
};
template <int i>
struct Sum<0, i> {
  static constexpr int value = i;
};
extern "C" __attribute__((visibility("default"))) void
slow(const unsigned long long* arguments, long long, long long) {
  *(int*)arguments[0] = Sum<20, 0>::value;
}
)";

CompileRequest square_request(const Target& target) {
  return {kSquareSource, "square", target, ArtifactKind::kSharedObject};
}

std::string text_of(const Artifact& artifact) {
  return {reinterpret_cast<const char*>(artifact.bytes.data()), artifact.bytes.size()};
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const CompileError& error) {
    return error.what();
  }
  return "";
}

std::shared_ptr<runtime::Executor> two_threads() { return runtime::make_tbb_executor(2); }

TEST_CASE("C++ text runs on the CPU device, for this CPU and for a level") {
  LlvmCompiler compiler(test_options());
  const auto device = runtime::make_cpu_device(two_threads());
  for (const Target& target : {device->native_target(), v3_target()}) {
    if (!device->can_load(target, ArtifactKind::kSharedObject, nullptr)) continue;
    const Artifact artifact = compiler.compile(square_request(target));
    CHECK(artifact.log.empty());
    CHECK(artifact.compile_ms > 0);
    const auto kernel = device->load(artifact);

    constexpr int kTiles = 1000;
    std::vector<float> x(8 * kTiles);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1000);
    std::vector<float> y(x.size());
    const auto x_buffer = device->try_borrow(std::as_bytes(std::span(x)));
    const auto y_buffer = device->allocate(8 * kTiles * sizeof(float));
    const auto stream = device->make_stream();
    const std::array arguments = {x_buffer->address(), y_buffer->address()};
    kernel->launch(*stream, {kTiles, 1, 1, 0}, arguments);
    device->download(*stream, *y_buffer, 0, std::as_writable_bytes(std::span(y)));
    bool all_right = true;
    for (std::size_t i = 0; i < x.size(); ++i) all_right &= y[i] == x[i] * x[i] + 1.0f;
    CHECK(all_right);
  }
}

TEST_CASE("subnormals survive a caller that flushes them, and its mode is restored") {
  LlvmCompiler compiler(test_options());
  const auto device = runtime::make_cpu_device(runtime::make_tbb_executor(1));
  const auto kernel = device->load(compiler.compile(
      {kHalveSource, "halve", device->native_target(), ArtifactKind::kSharedObject}));
  const float x = 0x1p-126f;
  float y = 0;
  const std::array<std::uint64_t, 2> arguments = {reinterpret_cast<std::uintptr_t>(&x),
                                                  reinterpret_cast<std::uintptr_t>(&y)};
  const auto stream = device->make_stream();

  constexpr unsigned kFlushAndZeroAndRoundUp = 0x8040 | 0x4000;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | kFlushAndZeroAndRoundUp);
  const unsigned set = _mm_getcsr();
  kernel->launch(*stream, {1, 1, 1, 0}, arguments);
  const unsigned after = _mm_getcsr();
  _mm_setcsr(before);

  CHECK(y == 0x1p-127f);
  CHECK(after == set);
}

TEST_CASE("text with an error gives the compiler's log and a saved copy") {
  LlvmCompiler compiler(test_options());
  CompileRequest request = square_request(v3_target());
  request.source += "int broken() { return undeclared_name; }\n";
  const std::string message = error_of([&] { compiler.compile(request); });
  CHECK_THAT(message, Contains("LLVM 19") && Contains("failed to compile square") &&
                          Contains("kernel.cpp:") &&
                          Contains("use of undeclared identifier 'undeclared_name'"));
  const auto start = message.find("source:  ") + 9;
  const std::string path = message.substr(start, message.find('\n', start) - start);
  CHECK(read_file(path) == request.source);
}

TEST_CASE("warnings go to the log") {
  LlvmCompiler compiler(test_options());
  CompileRequest request = square_request(v3_target());
  request.source += "static int unused() { int x; return 0; }\n";
  const Artifact artifact = compiler.compile(request);
  CHECK_THAT(artifact.log, Contains("unused function 'unused'"));
}

TEST_CASE("a call outside the text is refused by name, memory functions are not") {
  LlvmCompiler compiler(test_options());
  CompileRequest request = square_request(v3_target());
  request.source +=
      "extern \"C\" float expf(float);\n"
      "__attribute__((visibility(\"default\"))) float other(float x) { return expf(x); }\n";
  CHECK_THAT(error_of([&] { compiler.compile(request); }), Contains("undefined symbol 'expf'"));

  request.source = std::string(kSquareSource) +
                   "__attribute__((visibility(\"default\"))) void clear(char* at) "
                   "{ __builtin_memset(at, 0, 100000); }\n";
  const auto device = runtime::make_cpu_device(two_threads());
  CHECK_NOTHROW(device->load(compiler.compile(request)));
}

TEST_CASE("a text can include nothing from the machine") {
  LlvmCompiler compiler(test_options());
  for (const char* header : {"/etc/passwd", "/usr/include/stdio.h", "stdint.h"}) {
    CompileRequest request = square_request(v3_target());
    request.source = "#include \"" + std::string(header) + "\"\n" + request.source;
    CHECK_THAT(error_of([&] { compiler.compile(request); }), Contains("file not found"));
  }
}

TEST_CASE("the same request gives the same bytes, from any worker and after any other work") {
  LlvmCompiler first(test_options());
  LlvmCompiler second(test_options());
  for (const ArtifactKind kind :
       {ArtifactKind::kSharedObject, ArtifactKind::kAssembly, ArtifactKind::kLlvmIr}) {
    CompileRequest request = square_request(v3_target());
    request.kind = kind;
    const Artifact one = first.compile(request);
    error_of([&] { second.compile({"int", "x", v3_target(), ArtifactKind::kSharedObject}); });
    second.compile({kCudaSource, "row_sum", make_cuda_target(86), ArtifactKind::kPtx});
    CHECK(one.bytes == second.compile(request).bytes);
    CHECK(one.bytes == first.compile(request).bytes);
  }
}

TEST_CASE("assembly is in Intel's syntax, with the target's instructions; IR is text") {
  LlvmCompiler compiler(test_options());
  CompileRequest request = square_request(v3_target());
  for (int round = 0; round < 2; ++round) {  // the linker, run between, resets LLVM's options
    request.kind = ArtifactKind::kAssembly;
    CHECK_THAT(text_of(compiler.compile(request)),
               Contains(".intel_syntax noprefix") && Contains("square:") && Contains("ymm0"));
    request.kind = ArtifactKind::kSharedObject;
    compiler.compile(request);
  }
  request.kind = ArtifactKind::kLlvmIr;
  CHECK_THAT(text_of(compiler.compile(request)), Contains("define") && Contains("@square("));
}

TEST_CASE("no contraction: a product and a sum stay two roundings") {
  LlvmCompiler compiler(test_options());
  CompileRequest request = square_request(v3_target());
  request.kind = ArtifactKind::kAssembly;
  CHECK_THAT(text_of(compiler.compile(request)), !Contains("vfmadd"));
}

TEST_CASE("CUDA text becomes PTX for old and new architectures") {
  LlvmCompiler compiler(test_options());
  for (const auto& [target, version] : {std::pair(make_cuda_target(60), ".version 6.5"),
                                        {make_cuda_target(61), ".version 6.5"},
                                        {make_cuda_target(70), ".version 6.5"},
                                        {make_cuda_target(72), ".version 6.5"},
                                        {make_cuda_target(75), ".version 6.5"},
                                        {make_cuda_target(80), ".version 7.4"},
                                        {make_cuda_target(86), ".version 7.4"},
                                        {make_cuda_target(87), ".version 7.4"},
                                        {make_cuda_target(89), ".version 8.1"},
                                        {make_cuda_target(90), ".version 8.1"},
                                        {make_cuda_target(90, "a"), ".version 8.1"}}) {
    REQUIRE(compiler.serves(target, ArtifactKind::kPtx));
    const Artifact artifact =
        compiler.compile({kCudaSource, "row_sum", target, ArtifactKind::kPtx});
    CHECK(artifact.log.empty());
    CHECK_THAT(text_of(artifact), Contains(".visible .entry row_sum(") && Contains(version) &&
                                      Contains(".target " + target.name()) &&
                                      Contains("shfl.sync.bfly.b32") && Contains("add.rn.f32") &&
                                      Contains(".maxntid 128") && !Contains(".ftz") &&
                                      !Contains("call"));
  }
}

/// The target that a golden file's name ends with: "q4_K_f32_sm_86.cu", "q4_K_f32_x86-64-v3.cpp"; "vnni" is
/// x86-64-v4 with avx512vnni.
Target target_of(const std::filesystem::path& golden) {
  const std::string name = golden.stem().string();
  if (golden.extension() == ".cu") return parse_target(name.substr(name.rfind("sm_")), {});
  if (name.ends_with("_vnni")) {
    std::vector<std::string> features = cpu_level_features("x86-64-v4");
    features.emplace_back("avx512vnni");
    return make_cpu_target("vnni", features);
  }
  if (name.ends_with("_amx")) {
    std::vector<std::string> features = cpu_level_features("x86-64-v4");
    features.insert(features.end(), {"amx-bf16", "amx-tile", "avx512bf16"});
    return make_cpu_target("amx", features);
  }
  return parse_target("cpu:" + name.substr(name.rfind("x86-64")), {});
}

TEST_CASE("every emitted text compiles without a warning") {
  LlvmCompiler compiler(test_options());
  int compiled = 0;
  const std::filesystem::path folder = KTJIT_SOURCE_DIR "/tests/golden";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::filesystem::path& path = entry.path();
    if (path.extension() != ".cu" && path.extension() != ".cpp") continue;
    const Target target = target_of(path);
    const ArtifactKind kind = target.is_cuda() ? ArtifactKind::kPtx : ArtifactKind::kSharedObject;
    if (!compiler.serves(target, kind)) continue;
    INFO(path);
    CHECK(compiler.compile({read_file(path), path.stem(), target, kind}).log.empty());
    ++compiled;
  }
  CHECK(compiled > 50);
}

TEST_CASE("of CUDA's names a text gets those that it uses") {
  const std::string few = clang_cuda_prelude_for("x = __popc(y); // min_of, my_atomicAdd");
  CHECK_THAT(few, Contains("int __popc(") && Contains("#define __global__") &&
                      !Contains("float4)") && !Contains("KTJIT_MIN_MAX(int)") &&
                      !Contains("KTJIT_ATOMIC(atomicAdd"));
  // The marks name everything, so a text that holds them gets everything.
  CHECK(clang_cuda_prelude_for(clang_cuda_prelude()) == clang_cuda_prelude());
}

TEST_CASE("all of CUDA's names that Clang lacks are defined") {
  LlvmCompiler compiler(test_options());
  std::string names;
  std::istringstream prelude{std::string(clang_cuda_prelude())};
  for (std::string line; std::getline(prelude, line);) {
    if (line.starts_with("//@ ")) names += "// " + line.substr(4) + "\n";
  }
  const std::string source = names + R"(
extern "C" __global__ void all_names(unsigned* bits, float* values, int4* vectors, int lane) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicXor(&bits[0], __ballot_sync(0xffffffffu, lane));
  atomicMax((int*)&bits[1], min(lane, 3));
  atomicAdd(&values[0], __shfl_down_sync(0xffffffffu, values[i], 1));
  vectors[i] = make_int4(__dp4a(lane, lane, 1), __popc(bits[2]), __clz(lane), __ffs(lane));
  values[i] = fminf(__fmul_rn(values[i], 2.0f), fabsf(__ldg(values))) + (float)gridDim.x;
  __syncwarp();
  bits[i] = __byte_perm(bits[3], bits[4], 0x5410u);
}
)";
  const Artifact artifact =
      compiler.compile({source, "all_names", make_cuda_target(61), ArtifactKind::kPtx});
  CHECK(artifact.log.empty());
  CHECK_THAT(text_of(artifact), Contains("atom.") && Contains(".xor.b32") && Contains(".max.s32") &&
                                    Contains(".add.f32") && Contains("vote.sync.ballot") &&
                                    Contains("dp4a.s32.s32") && Contains("bar.warp.sync") &&
                                    Contains("st.global.v4.u32") && !Contains("call"));
}

TEST_CASE("targets that LLVM 19 doesn't know are not served") {
  LlvmCompiler compiler(test_options());
  for (const Target& target : {make_cuda_target(88), make_cuda_target(100, "a"),
                               make_cuda_target(120, "a"), make_cuda_target(121)}) {
    CHECK_FALSE(compiler.serves(target, ArtifactKind::kPtx));
    CHECK_THROWS_AS(compiler.compile({kCudaSource, "row_sum", target, ArtifactKind::kPtx}),
                    SpecError);
  }
  CHECK_FALSE(compiler.serves(make_cuda_target(86), ArtifactKind::kCubin));
  CHECK_FALSE(compiler.serves(v3_target(), ArtifactKind::kPtx));
}

TEST_CASE("a worker killed while compiling is a compile error, and the next compile works") {
  LlvmCompilerOptions options = test_options();
  options.max_workers = 1;
  LlvmCompiler compiler(options);
  std::string message;
  std::thread compile([&] {
    message = error_of(
        [&] { compiler.compile({kSlowSource, "slow", v3_target(), ArtifactKind::kSharedObject}); });
  });
  while (compiler.worker_pids().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  kill(compiler.worker_pids().at(0), SIGKILL);
  compile.join();
  CHECK_THAT(message, Contains("the worker died by signal 9 (Killed)") && Contains("source:  /"));
  CHECK(compiler.worker_pids().empty());

  CHECK_NOTHROW(compiler.compile(square_request(v3_target())));
  CHECK(compiler.workers_started() == 2);
}

TEST_CASE("a worker killed while idle costs nothing but a new one") {
  LlvmCompiler compiler(test_options());
  compiler.compile(square_request(v3_target()));
  kill(compiler.worker_pids().at(0), SIGKILL);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK_NOTHROW(compiler.compile(square_request(v3_target())));
  CHECK(compiler.workers_started() == 2);
  CHECK(compiler.worker_pids().size() == 1);
}

TEST_CASE("a compile that takes too long is ended") {
  LlvmCompilerOptions options = test_options();
  options.timeout = std::chrono::milliseconds(300);
  LlvmCompiler compiler(options);
  CHECK_THAT(error_of([&] {
               compiler.compile({kSlowSource, "slow", v3_target(), ArtifactKind::kSharedObject});
             }),
             Contains("no answer within 300 ms"));
  CHECK_NOTHROW(compiler.compile(square_request(v3_target())));
}

TEST_CASE("a compile that is stopped ends its worker, and the next one starts another") {
  LlvmCompiler compiler(test_options());
  std::stop_source stop;
  bool was_interrupted = false;
  std::thread compile([&] {
    try {
      compiler.compile(
          {kSlowSource, "slow", v3_target(), ArtifactKind::kSharedObject, stop.get_token()});
    } catch (const InterruptedError&) {
      was_interrupted = true;
    }
  });
  while (compiler.worker_pids().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const pid_t worker = compiler.worker_pids().at(0);
  stop.request_stop();
  compile.join();
  CHECK(was_interrupted);
  CHECK(compiler.worker_pids().empty());
  CHECK(kill(worker, 0) != 0);  // reaped, not left
  CHECK_NOTHROW(compiler.compile(square_request(v3_target())));
  CHECK(compiler.workers_started() == 2);
}

TEST_CASE("who waits for a worker can be stopped, and the others go on") {
  LlvmCompilerOptions options = test_options();
  options.max_workers = 1;
  LlvmCompiler compiler(options);
  std::stop_source stop_slow;
  std::stop_source stop_waiting;
  std::atomic<int> interrupted = 0;
  const auto compile_until_stopped = [&](CompileRequest request) {
    try {
      compiler.compile(request);
    } catch (const InterruptedError&) {
      ++interrupted;
    }
  };
  std::thread slow([&] {
    compile_until_stopped(
        {kSlowSource, "slow", v3_target(), ArtifactKind::kSharedObject, stop_slow.get_token()});
  });
  while (compiler.worker_pids().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::thread waiting([&] {
    CompileRequest request = square_request(v3_target());
    request.stop = stop_waiting.get_token();
    compile_until_stopped(request);
  });
  bool third_is_done = false;
  std::thread third([&] {
    compiler.compile(square_request(v3_target()));
    third_is_done = true;
  });
  stop_waiting.request_stop();
  waiting.join();
  CHECK(interrupted == 1);
  stop_slow.request_stop();
  slow.join();
  third.join();
  CHECK(interrupted == 2);
  CHECK(third_is_done);
}

TEST_CASE("a stop before a compile starts no worker") {
  LlvmCompiler compiler(test_options());
  std::stop_source stop;
  stop.request_stop();
  CompileRequest request = square_request(v3_target());
  request.stop = stop.get_token();
  CHECK_THROWS_AS(compiler.compile(request), InterruptedError);
  CHECK(compiler.workers_started() == 0);
}

TEST_CASE("several threads compile at once on a bounded number of workers") {
  LlvmCompilerOptions options = test_options();
  options.max_workers = 2;
  LlvmCompiler compiler(options);
  const std::vector<std::byte> expected = compiler.compile(square_request(v3_target())).bytes;
  std::atomic<int> equal = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 3; ++k)
        equal += compiler.compile(square_request(v3_target())).bytes == expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(equal == 24);
  CHECK(compiler.workers_started() <= 2);
}

TEST_CASE("workers outlive the thread that started them, and end with the compiler") {
  pid_t pid = 0;
  {
    LlvmCompiler compiler(test_options());
    std::thread([&] { compiler.compile(square_request(v3_target())); }).join();
    compiler.compile(square_request(v3_target()));
    CHECK(compiler.workers_started() == 1);
    pid = compiler.worker_pids().at(0);
  }
  CHECK(kill(pid, 0) != 0);
}

TEST_CASE("a missing worker is a toolchain error that lists where it looked") {
  LlvmCompiler by_default;  // next to the test program there may be one
  LlvmCompilerOptions options;
  options.worker = "/nonexistent/ktjit-llvm";
  LlvmCompiler compiler(options);
  CHECK_FALSE(compiler.find_worker());
  CHECK_THROWS_AS(compiler.compile(square_request(v3_target())), ToolchainError);
  CHECK_THROWS_WITH(compiler.compile(square_request(v3_target())),
                    Contains("ktjit-llvm is missing (looked in: /nonexistent/ktjit-llvm)"));
  CHECK_THROWS_AS(compiler.identity(v3_target(), ArtifactKind::kSharedObject), ToolchainError);
}

TEST_CASE("a program that is no worker is a toolchain error") {
  LlvmCompilerOptions options;
  options.worker = "/bin/true";
  LlvmCompiler compiler(options);
  CHECK_THROWS_AS(compiler.compile(square_request(v3_target())), ToolchainError);
  CHECK(compiler.worker_pids().empty());
}

TEST_CASE("reading the identity starts no worker") {
  LlvmCompiler compiler(test_options());
  const auto cpu = compiler.identity(v3_target(), ArtifactKind::kSharedObject);
  const auto cuda = compiler.identity(make_cuda_target(61), ArtifactKind::kPtx);
  CHECK(compiler.workers_started() == 0);
  CHECK(cpu != cuda);
  CHECK(cpu.at(0) == std::pair<std::string, std::string>("compiler", "LLVM 19.1.7"));
  CHECK(cpu.at(1).first == "worker");
  CHECK(cpu.at(1).second.size() == 40);
  CHECK(cuda.back().first == "prelude");
}

TEST_CASE("a worker answers a damaged request and ends") {
  WorkerProcess process(KTJIT_WORKER_PATH);
  CHECK(process.llvm_version() == "19.1.7");
  worker::Request request;
  request.clang_arguments = {"-no-such-option"};
  request.file_name = "kernel.cpp";
  const auto answer = process.ask(request, std::chrono::seconds(60));
  REQUIRE(answer.response);
  CHECK_FALSE(answer.response->ok);
  CHECK_THAT(answer.response->log, Contains("no-such-option"));

  request.output = static_cast<worker::OutputKind>(77);
  const auto refused = process.ask(request, std::chrono::seconds(60));
  REQUIRE(refused.response);
  CHECK(refused.response->log == "malformed request");
  const auto gone = process.ask(request, std::chrono::seconds(60));
  CHECK_FALSE(gone.response);
  CHECK(gone.loss == "the worker ended with status 3");
}

}  // namespace
}  // namespace ktjit
