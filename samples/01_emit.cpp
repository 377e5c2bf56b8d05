// Prints the text of one kernel: FP8 weights (e4m3, one scale per 128 x 128 block) times a vector,
// for an A10. Emitting needs no GPU, no CUDA toolkit and no compiler.
#include <cstdio>

#include "codegen/emitter.h"
#include "core/error.h"
#include "core/kernel_spec.h"

int main() {
  try {
    ktjit::KernelSpec spec;
    spec.op = ktjit::Op::kMatvec;
    spec.weight = ktjit::FormatId::kFp8E4M3;
    spec.scale = ktjit::ScaleGrid{128, 128, ktjit::ScaleType::kF32};
    spec.layout.cols = 7168;
    spec.target = ktjit::make_cuda_target(86);

    const ktjit::codegen::EmittedKernel kernel = ktjit::codegen::emit(spec);
    std::fputs(kernel.source.c_str(), stdout);
    std::fprintf(stderr, "%s: %s\n", kernel.entry_name.c_str(), kernel.lowering.reason.c_str());
  } catch (const ktjit::Error& error) {
    std::fprintf(stderr, "01_emit: %s\n", error.what());
    return 1;
  }
}
