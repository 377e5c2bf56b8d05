// Every golden text compiles without a warning: CUDA text with NVRTC and with Clang, C++ with
// Clang.
#include <catch2/catch.hpp>

#include "codegen/cuda_float_matvec.h"
#include "codegen/emitter.h"
#include "jit/nvrtc_log.h"
#include "jit/toolchain.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

Toolchain make_toolchain() {
  Options options;
  options.cache_enabled = false;
  options.worker = KTJIT_WORKER_PATH;
  return Toolchain(options, [](std::string_view) {});
}

CompileRequest request_for(const KernelSpec& spec, ArtifactKind kind) {
  const codegen::EmittedKernel emitted = codegen::emit(spec);
  return {emitted.source, emitted.entry_name, spec.target, kind};
}

}  // namespace

TEST_CASE("NVRTC compiles every golden CUDA text to machine code without warnings or spills") {
  Toolchain toolchain = make_toolchain();
  int compiled = 0;
  for (const test::KernelCase& kernel : test::kernel_cases()) {
    if (!kernel.spec.target.is_cuda()) continue;
    Compiler* nvrtc = nullptr;
    for (const auto& compiler : toolchain.engine().compilers()) {
      if (compiler->serves(kernel.spec.target, ArtifactKind::kCubin)) nvrtc = compiler.get();
    }
    if (nvrtc == nullptr) {
      INFO("no NVRTC for " << kernel.spec.target.name() << "; scripts/setup installs one");
      CHECK(kernel.spec.target.sm < 75);  // NVRTC 13 dropped those; Clang serves them
      continue;
    }
    const Artifact artifact = nvrtc->compile(request_for(kernel.spec, ArtifactKind::kCubin));
    INFO(kernel.path << "\n" << artifact.log);
    CHECK(warnings_in(artifact.log).empty());
    CHECK(artifact.resources.spill_bytes == 0);
    CHECK(artifact.bytes.size() > 1000);
    ++compiled;
  }
  CHECK(compiled >= 40);
}

TEST_CASE(
    "NVRTC compiles matvec of 16- and 8-bit floats without warnings or spills, rows of x and "
    "launches of each kind") {
  using enum FormatId;
  Toolchain toolchain = make_toolchain();
  std::vector<KernelSpec> specs;
  for (const auto& [sm, suffix] :
       {std::pair{80, ""}, {86, ""}, {89, ""}, {90, "a"}, {100, "a"}, {120, "a"}}) {
    for (const FormatId format : {kBF16, kF16, kFp8E4M3, kFp8E5M2}) {
      KernelSpec spec = make_spec(Op::kMatvec, format, {}, 4096, make_cuda_target(sm, suffix));
      for (const FormatId x_format : {kF32, kF16, kBF16}) {
        spec.x_format = x_format;
        specs.push_back(spec);
      }
      spec.x_format = kF32;
      spec.layout.cols = 14336;
      specs.push_back(spec);
      spec.layout.cols = 1040;  // the last unit is cut
      specs.push_back(spec);
      spec.layout.cols = 4096;
      for (const int n : {2, 4, 8}) {
        spec.x_columns = n;
        specs.push_back(spec);
      }
      spec.x_columns = 1;
      if (sm >= 90) {
        spec.dependent_launch = spec.constant_weights = true;
        specs.push_back(spec);
        for (const Tuning& tuning : {Tuning{.threads = 256, .ctas_per_multiprocessor = 2},
                                     Tuning{.threads = 256, .ctas_per_multiprocessor = 3}}) {
          spec.tuning = tuning;
          specs.push_back(spec);
        }
      }
      if (get_format(format).block_bytes == 2) continue;
      spec.tuning = {};
      spec.weights_finite = true;
      specs.push_back(spec);
      spec.weights_finite = false;
      for (const ScaleGrid& grid : {ScaleGrid{128, 128}, ScaleGrid{1, 128, ScaleType::kBF16},
                                    ScaleGrid{128, 64, ScaleType::kE8M0}, ScaleGrid{1, 0}}) {
        spec.scale = grid;
        specs.push_back(spec);
      }
    }
  }
  int compiled = 0;
  for (const KernelSpec& spec : specs) {
    Compiler* nvrtc = nullptr;
    for (const auto& compiler : toolchain.engine().compilers()) {
      if (compiler->serves(spec.target, ArtifactKind::kCubin)) nvrtc = compiler.get();
    }
    if (nvrtc == nullptr) {
      WARN("no NVRTC serves " << spec.target.name());
      continue;
    }
    if (!codegen::takes_float_matvec(spec)) continue;  // eight rows of x are too large for some
    const Artifact artifact = nvrtc->compile(request_for(spec, ArtifactKind::kCubin));
    INFO(to_text(spec) << "\n" << artifact.log);
    CHECK(warnings_in(artifact.log).empty());
    CHECK(artifact.resources.spill_bytes == 0);
    ++compiled;
  }
  if (compiled > 0) CHECK(compiled >= 100);
}

TEST_CASE("NVRTC compiles the conversions of FP4, FP6 and E8M0 for each target that has them") {
  Toolchain toolchain = make_toolchain();
  int compiled = 0;
  for (const auto& [sm, suffix] :
       {std::pair{100, "a"}, {100, "f"}, {103, "a"}, {110, "a"}, {120, "f"}, {121, "a"}}) {
    const Target target = make_cuda_target(sm, suffix);
    Compiler* nvrtc = nullptr;
    for (const auto& compiler : toolchain.engine().compilers()) {
      if (compiler->serves(target, ArtifactKind::kCubin)) nvrtc = compiler.get();
    }
    if (nvrtc == nullptr) {
      WARN("no NVRTC serves " << target.name());
      continue;
    }
    for (const char* format : {"nvfp4", "mxfp6_e2m3", "mxfp6_e3m2"}) {
      const KernelSpec spec = test::make_spec(Op::kDequant, format, 512, target);
      const Artifact artifact = nvrtc->compile(request_for(spec, ArtifactKind::kCubin));
      INFO(target.name() << " " << format << "\n" << artifact.log);
      CHECK(warnings_in(artifact.log).empty());
      CHECK(artifact.bytes.size() > 1000);
      ++compiled;
    }
  }
  if (compiled > 0) CHECK(compiled >= 9);  // NVRTC before 13 lacks some of them
}

TEST_CASE("Clang compiles every golden CUDA text to PTX without warnings") {
  Toolchain toolchain = make_toolchain();
  int compiled = 0;
  for (const test::KernelCase& kernel : test::kernel_cases()) {
    if (!kernel.spec.target.is_cuda()) continue;
    if (!toolchain.llvm().serves(kernel.spec.target, ArtifactKind::kPtx)) {
      CHECK(kernel.spec.target.sm >= 100);  // LLVM 19 ends at sm_90a
      continue;
    }
    const Artifact artifact =
        toolchain.llvm().compile(request_for(kernel.spec, ArtifactKind::kPtx));
    const std::string ptx(reinterpret_cast<const char*>(artifact.bytes.data()),
                          artifact.bytes.size());
    INFO(kernel.path << "\n" << artifact.log);
    CHECK(warnings_in(artifact.log).empty());
    CHECK(ptx.find(".entry " + artifact.entry_name) != std::string::npos);
    CHECK(ptx.find(".extern .func") == std::string::npos);  // calls to a library that isn't there
    ++compiled;
  }
  CHECK(compiled >= 40);
}

TEST_CASE("Clang compiles every golden CPU text without warnings") {
  Toolchain toolchain = make_toolchain();
  int compiled = 0;
  for (const test::KernelCase& kernel : test::kernel_cases()) {
    if (!kernel.spec.target.is_cpu()) continue;
    const Artifact artifact =
        toolchain.llvm().compile(request_for(kernel.spec, ArtifactKind::kSharedObject));
    INFO(kernel.path << "\n" << artifact.log);
    CHECK(warnings_in(artifact.log).empty());
    ++compiled;
  }
  CHECK(compiled >= 30);
}

}  // namespace ktjit
