// The kernels of the conformance test of PTX instructions compile, and the table says rightly which
// targets have which instruction. The GPU test runs them.
#include "tests/gpu/ptx_kernels.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "jit/nvrtc_compiler.h"
#include "jit/nvrtc_search.h"
#include "runtime/ptx_instructions.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit {
namespace {

using runtime::PtxInstruction;

std::string kernel_for(const PtxInstruction& entry, int copy_bytes = 16) {
  return entry.kind == PtxInstruction::Kind::kMemory ? test::make_memory_kernel(entry, copy_bytes)
                                                     : test::make_register_kernel(entry);
}

/// NVRTC libraries of this machine; the first that serves the target.
class Compilers {
 public:
  Compilers() {
    for (NvrtcCandidate& candidate : find_nvrtc(NvrtcSearch()))
      if (candidate.usable())
        compilers_.push_back(
            std::make_unique<NvrtcCompiler>(std::move(candidate), refused_.path()));
  }
  NvrtcCompiler* find(const Target& target) const {
    for (const auto& compiler : compilers_)
      if (compiler->serves(target, ArtifactKind::kCubin)) return compiler.get();
    return nullptr;
  }
  NvrtcCompiler& get(const Target& target) const {
    NvrtcCompiler* found = find(target);
    INFO("no NVRTC for " << target.name() << "; scripts/setup installs one");
    REQUIRE(found != nullptr);
    return *found;
  }

 private:
  test::ScratchFolder refused_;
  std::vector<std::unique_ptr<NvrtcCompiler>> compilers_;
};

Artifact compile(const Compilers& compilers, const std::string& source, const Target& target) {
  return compilers.get(target).compile(
      {source, test::kPtxKernelName, target, ArtifactKind::kCubin});
}

}  // namespace

TEST_CASE("NVRTC compiles a kernel for every PTX instruction that an H200 proves") {
  const Compilers compilers;
  const Target target = make_cuda_target(90, "a");
  int compiled = 0;
  for (const PtxInstruction& entry : runtime::all_ptx_instructions()) {
    INFO(entry.opcode << " with " << entry.operands << " operands");
    if (!entry.proved_in_kernels.empty()) continue;
    // What sm_90a has must be proved, what it hasn't must say so.
    CHECK(entry.exists_on(target) == entry.unproved.empty());
    if (!entry.unproved.empty()) continue;
    const bool has_sizes =
        entry.memory.action == runtime::PtxMemoryAction::kCopyAsync && !entry.memory.only_16_bytes;
    for (int copy_bytes : {4, 8, 16}) {
      if (!has_sizes && copy_bytes != 16) continue;
      const std::string source = kernel_for(entry, copy_bytes);
      INFO(source);
      CHECK(source.find(entry.opcode) != std::string::npos);
      const Artifact cubin = compile(compilers, source, target);
      CHECK(cubin.log.find("warning") == std::string::npos);
      ++compiled;
    }
  }
  CHECK(compiled > 200);
}

TEST_CASE("PTX instructions exist from the target on that the table says, and not before") {
  const Compilers compilers;
  const auto facts = all_cuda_facts();
  int refused = 0;
  for (const PtxInstruction& entry : runtime::all_ptx_instructions()) {
    INFO(entry.opcode << " with " << entry.operands << " operands");
    if (!entry.proved_in_kernels.empty()) continue;
    const std::string source = kernel_for(entry);
    // The newest target without the instruction, and the oldest with it.
    const CudaFacts* before = nullptr;
    const CudaFacts* first = nullptr;
    for (const CudaFacts& each : facts) {
      if (each.sm < entry.min_sm) before = &each;
      if (each.sm >= entry.min_sm && first == nullptr) first = &each;
    }
    REQUIRE(first != nullptr);
    const Target has = make_cuda_target(first->sm, entry.needs_suffix ? "a" : "");
    if (first->sm > 75) CHECK_NOTHROW(compile(compilers, source, has));
    Target lacks;
    if (entry.needs_suffix)
      lacks = make_cuda_target(first->sm);
    else if (before != nullptr && before->sm >= 75)
      lacks = make_cuda_target(before->sm);
    else
      continue;  // no NVRTC 13 for targets that old
    CHECK_THROWS_AS(compile(compilers, source, lacks), CompileError);
    ++refused;
  }
  CHECK(refused > 60);
}

TEST_CASE("NVRTC compiles the Blackwell conversions for every family that has them") {
  const Compilers compilers;
  int compiled = 0;
  for (const CudaFacts& facts : all_cuda_facts()) {
    if (!facts.mx_cvt_with_a) continue;
    const Target target = make_cuda_target(facts.sm, "a");
    if (compilers.find(target) == nullptr) continue;
    for (const PtxInstruction& entry : runtime::all_ptx_instructions()) {
      if (!entry.needs_suffix || !entry.exists_on(target)) continue;
      INFO(entry.opcode << " for " << target.name());
      CHECK_NOTHROW(compile(compilers, kernel_for(entry), target));
      ++compiled;
    }
  }
  CHECK(compiled >= 2 * 15);
}

}  // namespace ktjit
