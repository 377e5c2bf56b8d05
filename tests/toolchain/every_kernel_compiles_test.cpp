// Every kind of kernel compiles without a warning for every target that is claimed, by each compiler
// that serves it; and code for old GPUs holds no instruction that they lack or are slow at.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <mutex>
#include <unistd.h>

#include "codegen/emitter.h"
#include "core/error.h"
#include "jit/disassembler.h"
#include "jit/nvrtc_log.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/subprocess.h"
#include "tests/toolchain/kernel_variants.h"
#include "tests/toolchain/ptx_scan.h"
#include "tests/toolchain/sass_count.h"
#include "tests/toolchain/toolchain_fixture.h"

namespace ktjit {
namespace {

/// What was compiled, and what was said to it.
struct Outcome {
  int compiled = 0;
  std::vector<std::string> problems;
};

using Inspect = std::function<std::string(const Artifact&)>;

/// Compiles all specs side by side. A warning, an error, or what `inspect` returns is a problem.
Outcome compile_all(Compiler& compiler, const std::vector<KernelSpec>& specs, ArtifactKind kind,
                    const Inspect& inspect = {}) {
  Outcome outcome;
  std::mutex mutex;
  test::for_each_in_parallel(specs.size(), [&](std::size_t i) {
    const KernelSpec& spec = specs[i];
    std::string problem;
    try {
      const codegen::EmittedKernel emitted = codegen::emit(spec);
      const Artifact artifact =
          compiler.compile({emitted.source, emitted.entry_name, spec.target, kind});
      problem = warnings_in(artifact.log);
      if (problem.empty() && inspect) problem = inspect(artifact);
    } catch (const std::exception& error) {
      problem = error.what();
    }
    const std::lock_guard lock(mutex);
    ++outcome.compiled;
    if (!problem.empty()) {
      outcome.problems.push_back(
          fmt::format("{} for {}: {}", kernel_name(spec), spec.target.name(), problem));
    }
  });
  std::sort(outcome.problems.begin(), outcome.problems.end());
  return outcome;
}

void check(const Outcome& outcome, int least) {
  std::printf("%d kernels compiled\n", outcome.compiled);
  for (const std::string& problem : outcome.problems) FAIL_CHECK(problem);
  CHECK(outcome.compiled >= least);
}

std::vector<Target> targets_of(const Compiler& compiler, ArtifactKind kind) {
  std::vector<Target> targets = test::all_cuda_targets();
  std::erase_if(targets, [&](const Target& target) { return !compiler.serves(target, kind); });
  return targets;
}

/// Of the variants of every served format every `step`-th, each for one target in turn: all targets
/// get all ops and formats, if not all pairs. The rest is the exhaustive test's.
std::vector<KernelSpec> covering_set(const std::vector<Target>& targets, std::size_t step = 8) {
  std::vector<KernelSpec> specs;
  std::size_t turn = 0;
  for (FormatId format : test::served_formats()) {
    const std::size_t count = test::kernel_variants(format, targets.front()).size();
    for (std::size_t i = turn % step; i < count; i += step) {
      const std::vector<KernelSpec> variants =
          test::kernel_variants(format, targets[turn++ % targets.size()]);
      if (i < variants.size()) specs.push_back(variants[i]);
    }
  }
  return specs;
}

std::vector<KernelSpec> full_set(const std::vector<Target>& targets) {
  std::vector<KernelSpec> specs;
  for (const Target& target : targets) {
    for (FormatId format : test::served_formats()) {
      const auto variants = test::kernel_variants(format, target);
      specs.insert(specs.end(), variants.begin(), variants.end());
    }
  }
  return specs;
}

/// Checks one NVRTC, if it is here.
void check_nvrtc(std::string_view name, const std::function<bool(const Target&)>& is_wanted,
                 bool every_target) {
  Toolchain toolchain = test::make_toolchain();
  Compiler* nvrtc = test::find_compiler(toolchain, name);
  if (nvrtc == nullptr)
    return test::skip_test(fmt::format("no {}; scripts/setup installs it", name));
  std::vector<Target> targets = targets_of(*nvrtc, ArtifactKind::kCubin);
  std::erase_if(targets, [&](const Target& target) { return !is_wanted(target); });
  const std::vector<KernelSpec> specs = every_target ? full_set(targets) : covering_set(targets);
  check(compile_all(*nvrtc, specs, ArtifactKind::kCubin), 150);
}

bool is_old(const Target& target) { return target.sm < 75; }
bool is_any(const Target&) { return true; }

/// Of the main kernels of every format every fifth, for one target: each format starts with
/// another, so that kernels of all forms and activations are among them.
std::vector<KernelSpec> kernels_for(const Target& target) {
  std::vector<KernelSpec> specs;
  std::size_t turn = 0;
  for (FormatId format : test::served_formats()) {
    std::size_t next = turn++;
    for (const KernelSpec& spec : test::kernel_variants(format, target)) {
      const bool is_main = spec.x_columns == 1 && spec.layout.cols == 512;
      if ((is_main || spec.op == Op::kQuantize) && next++ % 5 == 0) specs.push_back(spec);
    }
  }
  return specs;
}

std::string text_of(const Artifact& artifact) {
  return {reinterpret_cast<const char*>(artifact.bytes.data()), artifact.bytes.size()};
}

/// A ptxas of this machine: KTJIT_TEST_PTXAS, or the CUDA toolkit's, or Triton's beside nvdisasm.
std::string find_ptxas(const Toolchain& toolchain) {
  std::vector<std::filesystem::path> places;
  if (const std::string given = test::test_setting("KTJIT_TEST_PTXAS"); !given.empty())
    places.emplace_back(given);
  if (!toolchain.options().cuda_home.empty())
    places.push_back(toolchain.options().cuda_home / "bin/ptxas");
  places.emplace_back("/usr/local/cuda/bin/ptxas");
  try {
    places.push_back(
        std::filesystem::path(find_disassembler(toolchain.options())).replace_filename("ptxas"));
  } catch (const ToolchainError&) {
  }
  for (const auto& place : places) {
    if (place.has_parent_path() && std::filesystem::exists(place)) return place.string();
  }
  return "";
}

}  // namespace

TEST_CASE("NVRTC 13.0 compiles every kind of kernel without warnings") {
  check_nvrtc("NVRTC 13.0", is_any, false);
}

TEST_CASE("NVRTC 12.9 compiles every kind of kernel for sm_60 to sm_72 without warnings") {
  check_nvrtc("NVRTC 12.9", is_old, false);
}

TEST_CASE("Clang compiles every kind of kernel without warnings") {
  Toolchain toolchain = test::make_toolchain();
  const auto targets = targets_of(toolchain.llvm(), ArtifactKind::kPtx);
  CHECK(targets.size() >= 11);
  check(compile_all(toolchain.llvm(), covering_set(targets), ArtifactKind::kPtx), 150);
}

TEST_CASE("every compiler compiles every kernel for every target it serves", "[exhaustive]") {
  if (test::lacks_permission_for_exhaustive_tests()) return;
  Toolchain toolchain = test::make_toolchain();
  for (const auto& compiler : toolchain.engine().compilers()) {
    const bool is_llvm = compiler.get() == &toolchain.llvm();
    const ArtifactKind kind = is_llvm ? ArtifactKind::kPtx : ArtifactKind::kCubin;
    std::printf("%s: ", compiler->name().c_str());
    check(compile_all(*compiler, full_set(targets_of(*compiler, kind)), kind), 3000);
  }
}

TEST_CASE("Clang's code for sm_61 has no f16 arithmetic, and for sm_60 no dp4a") {
  Toolchain toolchain = test::make_toolchain();
  for (int sm : {60, 61}) {
    const auto inspect = [sm](const Artifact& artifact) {
      const std::string text = text_of(artifact);
      return sm == 61 ? test::find_f16_arithmetic(text) : test::find_dp4a(text);
    };
    check(compile_all(toolchain.llvm(), kernels_for(make_cuda_target(sm)), ArtifactKind::kPtx,
                      inspect),
          100);
  }
}

TEST_CASE("NVRTC's machine code for sm_61 has no f16 arithmetic") {
  Toolchain toolchain = test::make_toolchain();
  Compiler* nvrtc = test::find_compiler(toolchain, "NVRTC 12.9");
  if (nvrtc == nullptr) return test::skip_test("no NVRTC 12.9; scripts/setup installs it");
  if (test::lacks_disassembler(toolchain)) return;
  const auto inspect = [&](const Artifact& artifact) -> std::string {
    for (const auto& line : test::parse_sass(disassemble(toolchain.options(), artifact.bytes))) {
      for (const char* slow : {"HADD2", "HMUL2", "HFMA2", "HSETP2", "HSET2"}) {
        if (line.instruction.starts_with(slow)) return line.instruction;
      }
    }
    return "";
  };
  check(compile_all(*nvrtc, kernels_for(make_cuda_target(61)), ArtifactKind::kCubin, inspect), 100);
}

TEST_CASE("ptxas accepts Clang's text of every kind of kernel") {
  Toolchain toolchain = test::make_toolchain();
  const std::string ptxas = find_ptxas(toolchain);
  if (ptxas.empty()) return test::skip_test("no ptxas; KTJIT_TEST_PTXAS names one");
  // CUDA 13's assembles for sm_75 and up only, which is allowed for text of an older target.
  const auto help = test::run_process({ptxas, "--help"}, test::current_environment());
  const auto arch_for = [&](const std::string& text) -> std::string {
    constexpr std::string_view kTarget = ".target ";
    const std::size_t begin = text.find(kTarget) + kTarget.size();
    const std::string name = text.substr(begin, text.find_first_of(", \n", begin) - begin);
    const bool is_known = help.out.find(fmt::format("'{}'", name)) != std::string::npos;
    return is_known ? name : "sm_75";
  };
  std::atomic<int> next_file{0};  // names of kernels leave out the tuning
  const auto inspect = [&](const Artifact& artifact) -> std::string {
    const auto path = std::filesystem::temp_directory_path() /
                      fmt::format("ktjit-{}-{}.ptx", ::getpid(), next_file++);
    const std::string text = text_of(artifact);
    std::ofstream(path) << text;
    const auto result =
        test::run_process({ptxas, "-arch=" + arch_for(text), path.string(), "-o", "/dev/null"},
                          test::current_environment());
    std::filesystem::remove(path);
    return result.exit_code == 0 && result.err.find("warning") == std::string::npos
               ? ""
               : result.out + result.err;
  };
  std::vector<KernelSpec> specs = kernels_for(make_cuda_target(61));
  for (const KernelSpec& spec : covering_set(targets_of(toolchain.llvm(), ArtifactKind::kPtx), 16))
    specs.push_back(spec);
  check(compile_all(toolchain.llvm(), specs, ArtifactKind::kPtx, inspect), 300);
}

}  // namespace ktjit
