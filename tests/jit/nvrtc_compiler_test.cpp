// Compiles with every NVRTC of the machine, side by side in this process. No GPU is needed.
// KTJIT_TEST_NVRTC adds libraries or folders, ':' between them.
#include "jit/nvrtc_compiler.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "codegen/emitter.h"
#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/nvrtc_library.h"
#include "jit/nvrtc_log.h"
#include "tests/jit/scratch_folder.h"
#include "tests/support/kernel_cases.h"

namespace fs = std::filesystem;
using namespace ktjit;
using Catch::Contains;
using ktjit::test::ScratchFolder;

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::vector<NvrtcCandidate> usable_candidates() {
  std::vector<NvrtcCandidate> usable;
  const auto add = [&](const NvrtcSearch& search) {
    for (NvrtcCandidate& candidate : find_nvrtc(search)) {
      if (candidate.usable()) usable.push_back(std::move(candidate));
    }
  };
  std::istringstream paths(environment("KTJIT_TEST_NVRTC"));
  for (std::string path; std::getline(paths, path, ':');) {
    NvrtcSearch search;
    search.explicit_path = path;
    search.loader_path = false;
    search.toolkit_folders = false;
    add(search);
  }
  if (usable.empty()) {
    NvrtcSearch search;
    search.cuda_home = environment("CUDA_HOME");
    search.python_environments = {environment("VIRTUAL_ENV"), "/usr/local"};
    add(search);
  }
  if (usable.empty()) {
    FAIL("no NVRTC on this machine: " << nvrtc_advice()
                                      << ", or name its folder in KTJIT_TEST_NVRTC");
  }
  return usable;
}

constexpr const char* kCopy = R"(
extern "C" __global__ void copy(const float* x, float* y, long long n) {
  __shared__ float tile[64];
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) tile[threadIdx.x & 63] = x[i];
  __syncthreads();
  if (i < n) y[i] = tile[threadIdx.x & 63];
}
)";

/// Keeps the optimiser busy for seconds: a chain of branches and loads that it can't shorten.
std::string slow_text() {
  std::string text = "extern \"C\" __global__ void slow(float* y, int k) {\n  float v = y[0];\n";
  for (int i = 0; i < 250; ++i)
    text += fmt::format("  if (v > y[k + {0}]) v = v * y[{0}] + y[k * {0}];\n", i);
  return text + "  y[threadIdx.x] = v;\n}\n";
}

CompileRequest copy_request(const std::string& target, ArtifactKind kind = ArtifactKind::kCubin) {
  return {kCopy, "copy", parse_target(target, {}), kind};
}

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string maps_of_this_process() {
  std::ifstream maps("/proc/self/maps");
  return {std::istreambuf_iterator<char>(maps), {}};
}

}  // namespace

TEST_CASE("NVRTC makes a cubin and says what the kernel uses") {
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    INFO(candidate.library.native());
    NvrtcCompiler compiler(candidate);
    const Artifact artifact = compiler.compile(copy_request("sm_86"));
    CHECK(artifact.kind == ArtifactKind::kCubin);
    CHECK(artifact.entry_name == "copy");
    CHECK(text_of(artifact.bytes)
              .starts_with("\x7f"
                           "ELF"));
    CHECK(artifact.resources.registers.value_or(0) > 0);
    CHECK(artifact.resources.static_smem_bytes == 256);
    CHECK(artifact.resources.spill_bytes == 0);
    CHECK(artifact.resources.stack_bytes == 0);
    CHECK(warnings_in(artifact.log).empty());
    CHECK(artifact.compile_ms > 0);
  }
}

TEST_CASE("NVRTC libraries of several versions each use the builtins beside them") {
  const auto candidates = usable_candidates();
  for (const NvrtcCandidate& candidate : candidates) {
    NvrtcCompiler(candidate).compile(copy_request("sm_86"));
    CHECK_THAT(maps_of_this_process(), Contains(candidate.library.native()));
    CHECK_THAT(maps_of_this_process(), Contains(fs::canonical(candidate.builtins).native()));
  }
}

TEST_CASE("NVRTC makes PTX for the virtual architecture") {
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    NvrtcCompiler compiler(candidate);
    const auto ptx = compiler.compile(copy_request("sm_86", ArtifactKind::kPtx));
    CHECK(ptx.kind == ArtifactKind::kPtx);
    CHECK_THAT(text_of(ptx.bytes), Contains(".target sm_86"));
    CHECK(ptx.bytes.back() != std::byte{0});
    if (compiler.serves(parse_target("sm_90a", {}), ArtifactKind::kPtx)) {
      const auto exact = compiler.compile(copy_request("sm_90a", ArtifactKind::kPtx));
      CHECK_THAT(text_of(exact.bytes), Contains(".target sm_90a"));
    }
  }
}

TEST_CASE("table of architectures is what the open library says") {
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    INFO(candidate.library.native());
    const NvrtcLibrary library(candidate);
    const auto table = nvrtc_archs(candidate.version);
    CHECK(library.archs() == std::vector<int>(table.begin(), table.end()));
  }
}

TEST_CASE("NVRTC compiles for every target it claims to serve") {
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    NvrtcCompiler compiler(candidate);
    for (const CudaFacts& facts : all_cuda_facts()) {
      std::vector<std::string> suffixes = {""};
      for (const char suffix : facts.suffixes) suffixes.emplace_back(1, suffix);
      for (const std::string& suffix : suffixes) {
        const std::string target = fmt::format("sm_{}{}", facts.sm, suffix);
        if (!compiler.serves(parse_target(target, {}), ArtifactKind::kCubin)) continue;
        INFO(candidate.library.native() << " " << target);
        const Artifact artifact = compiler.compile(copy_request(target));
        CHECK_FALSE(artifact.bytes.empty());
        CHECK(artifact.resources.registers.value_or(0) > 0);
        CHECK(warnings_in(artifact.log).empty());
      }
    }
  }
}

TEST_CASE("identity of NVRTC is known before it is opened") {
  const NvrtcCandidate candidate = usable_candidates().front();
  const NvrtcCompiler compiler(candidate);
  const Target target = parse_target("sm_86", {});
  const CompilerIdentity identity = compiler.identity(target, ArtifactKind::kCubin);
  CHECK(compiler.serves(target, ArtifactKind::kCubin));
  CHECK_FALSE(compiler.is_open());
  std::string all;
  for (const auto& [name, value] : identity) all += name + "=" + value + "\n";
  CHECK_THAT(all, Contains("compiler=NVRTC\n"));
  CHECK_THAT(all, Contains("libnvrtc-build-id=" + candidate.library_id + "\n"));
  CHECK_THAT(all, Contains("libnvrtc-builtins-build-id=" + candidate.builtins_id + "\n"));
  CHECK_THAT(all, Contains("-arch=sm_86"));
  CHECK_THAT(all, Contains("-ftz=false"));
  CHECK_THAT(all, Contains("prelude=\n"));
  CHECK_THAT(all, !Contains("/"));
  CHECK(compiler.identity(target, ArtifactKind::kPtx) != identity);
  CHECK(compiler.identity(parse_target("sm_80", {}), ArtifactKind::kCubin) != identity);
}

TEST_CASE("NVRTC serves only what it can make") {
  const NvrtcCompiler compiler(usable_candidates().front());
  const Target gpu = parse_target("sm_86", {});
  CHECK(compiler.serves(gpu, ArtifactKind::kPtx));
  CHECK_FALSE(compiler.serves(gpu, ArtifactKind::kSharedObject));
  CHECK_FALSE(compiler.serves(gpu, ArtifactKind::kLlvmIr));
  CHECK_FALSE(compiler.serves(parse_target("cpu:x86-64-v3", {}), ArtifactKind::kCubin));
}

TEST_CASE("same text gives the same cubin, on one thread and on several") {
  NvrtcCompiler compiler(usable_candidates().front());
  std::vector<std::vector<std::byte>> cubins(8);
  std::vector<std::thread> threads;
  for (auto& cubin : cubins) {
    threads.emplace_back([&] { cubin = compiler.compile(copy_request("sm_80")).bytes; });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(compiler.is_open());
  for (const auto& cubin : cubins) CHECK(cubin == cubins.front());
  CHECK_FALSE(cubins.front().empty());
}

TEST_CASE("refused text is a compile error with the saved text, the options and the log") {
  const ScratchFolder folder;
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    NvrtcCompiler compiler(candidate, folder.path());
    CompileRequest request = copy_request("sm_86");
    request.source = "extern \"C\" __global__ void copy() { undeclared = 1; }\n";
    std::string message;
    try {
      compiler.compile(request);
    } catch (const CompileError& error) {
      message = error.what();
      CHECK_THAT(error.log(), Contains("identifier \"undeclared\" is undefined"));
    }
    CHECK_THAT(message, Contains(compiler.name() + " failed to compile copy"));
    CHECK_THAT(message, Contains("-arch=sm_86"));
    const std::size_t at = message.find(folder.path().native());
    REQUIRE(at != std::string::npos);
    const std::string saved = message.substr(at, message.find('\n', at) - at);
    std::ifstream file(saved);
    CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == request.source);
    CHECK(saved.ends_with(".cu"));
  }
}

TEST_CASE("text that can't be saved is a compile error all the same") {
  NvrtcCompiler compiler(usable_candidates().front(), "/nonexistent/folder");
  CompileRequest request = copy_request("sm_86");
  request.source = "#error no\n";
  CHECK_THROWS_AS(compiler.compile(request), CompileError);
}

TEST_CASE("compiler's warnings stay in the log") {
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    NvrtcCompiler compiler(candidate);
    CompileRequest request = copy_request("sm_86");
    request.source = "extern \"C\" __global__ void copy() { int unused; }\n";
    CHECK_THAT(warnings_in(compiler.compile(request).log), Contains("never referenced"));
  }
}

TEST_CASE("spilled registers are reported") {
  NvrtcCompiler compiler(usable_candidates().front());
  CompileRequest request = copy_request("sm_86");
  request.source = R"(
extern "C" __global__ void __launch_bounds__(1024, 2) copy(float* x) {
  float v[96];
  for (int i = 0; i < 96; ++i) v[i] = x[i * 1024 + threadIdx.x];
  for (int r = 0; r < 4; ++r) {
    for (int i = 0; i < 96; ++i) v[i] = v[i] * v[(i + 17) % 96] + v[(i + 31) % 96];
  }
  for (int i = 0; i < 96; ++i) x[i * 1024 + threadIdx.x] = v[i];
}
)";
  CHECK(compiler.compile(request).resources.spill_bytes.value_or(0) > 0);
}

TEST_CASE("target that NVRTC doesn't know is a toolchain error") {
  NvrtcCandidate candidate = usable_candidates().front();
  CHECK_THROWS_AS(NvrtcCompiler(candidate).compile(
                      {"", "k", parse_target("cpu:x86-64-v3", {}), ArtifactKind::kSharedObject}),
                  ToolchainError);
}

TEST_CASE("library of another version than its files say is a toolchain error") {
  NvrtcCandidate candidate = usable_candidates().front();
  candidate.version.minor += 1;
  CHECK_THROWS_WITH(NvrtcCompiler(candidate).compile(copy_request("sm_86")),
                    Contains("but its files say " + candidate.version.text()));
}

TEST_CASE("candidate with a problem is refused when the compiler is made") {
  NvrtcCandidate candidate;
  candidate.library = "/somewhere/libnvrtc.so.13";
  candidate.problem = "it is damaged, or has no build id";
  CHECK_THROWS_WITH(NvrtcCompiler(candidate), Contains(candidate.problem) &&
                                                  Contains("/somewhere/libnvrtc.so.13") &&
                                                  Contains("install"));
}

TEST_CASE("library that can't be opened is a toolchain error, each time") {
  const ScratchFolder folder;
  NvrtcCandidate candidate = usable_candidates().front();
  candidate.library = folder.write("libnvrtc.so.13", "not a library");
  NvrtcCompiler compiler(candidate);
  for (int i = 0; i < 2; ++i) {
    CHECK_THROWS_AS(compiler.compile(copy_request("sm_86")), ToolchainError);
  }
  CHECK_FALSE(compiler.is_open());
}

// Not part of the usual run: jit_tests "[timing]"
TEST_CASE("a compile that is stopped before it begins opens no library") {
  NvrtcCompiler compiler(usable_candidates().front());
  std::stop_source stop;
  stop.request_stop();
  CompileRequest request = copy_request("sm_86");
  request.stop = stop.get_token();
  CHECK_THROWS_AS(compiler.compile(request), InterruptedError);
  CHECK_FALSE(compiler.is_open());
}

TEST_CASE("matmul has a quick version from NVRTC 12.9 on, other code and sooner done") {
  const Target target = make_cuda_target(86);
  const codegen::EmittedKernel matmul =
      codegen::emit(test::make_spec(Op::kMatmul, "fp8_e4m3", 4096, target));
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    NvrtcCompiler compiler(candidate);
    INFO(compiler.name());
    CHECK_FALSE(compiler.quick_option(Op::kDequant, target, ArtifactKind::kCubin));
    CHECK_FALSE(compiler.quick_option(Op::kMatvec, target, ArtifactKind::kCubin));
    CHECK_FALSE(compiler.quick_option(Op::kMatmul, target, ArtifactKind::kPtx));
    const bool has_quick = candidate.version >= NvrtcVersion{12, 9};
    CHECK(compiler.quick_option(Op::kMatmul, target, ArtifactKind::kCubin).has_value() ==
          has_quick);
    if (!has_quick) continue;
    CompileRequest request{matmul.source, matmul.entry_name, target, ArtifactKind::kCubin};
    const Artifact full = compiler.compile(request);
    request.quality = Quality::kQuick;
    const Artifact quick = compiler.compile(request);
    CHECK(quick.bytes != full.bytes);
    CHECK(quick.resources.registers.has_value());
    WARN(compiler.name() << ": full " << full.compile_ms << " ms, quick " << quick.compile_ms);
    CHECK(quick.compile_ms < full.compile_ms);  // a third of it where it was measured
  }
}

TEST_CASE("a compile under way is stopped by every NVRTC that can be") {
  constexpr NvrtcVersion kFirstThatStops = {12, 8};
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    INFO(candidate.library.native());
    NvrtcCompiler compiler(candidate);
    compiler.compile(copy_request("sm_86"));
    std::stop_source stop;
    const CompileRequest request = {slow_text(), "slow", parse_target("sm_86", {}),
                                    ArtifactKind::kCubin, stop.get_token()};
    bool was_interrupted = false;
    std::thread compile([&] {
      try {
        compiler.compile(request);
      } catch (const InterruptedError&) {
        was_interrupted = true;
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // likely in the compile by then
    stop.request_stop();
    compile.join();
    if (candidate.version >= kFirstThatStops) CHECK(was_interrupted);
    CHECK_NOTHROW(compiler.compile(copy_request("sm_86")));
  }
}

TEST_CASE("time of the first compile in a process and of later ones", "[.][timing]") {
  for (const NvrtcCandidate& candidate : usable_candidates()) {
    NvrtcCompiler compiler(candidate);
    for (int i = 0; i < 6; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const Artifact artifact = compiler.compile(copy_request("sm_86"));
      const std::chrono::duration<double, std::milli> all =
          std::chrono::steady_clock::now() - start;
      WARN(fmt::format("{} compile {}: {:.1f} ms, {:.1f} ms of it in NVRTC", compiler.name(), i,
                       all.count(), artifact.compile_ms));
    }
  }
}
