// The CPU kernels that rearrange weights for GPUs, and the way back: for files made where no GPU is.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Op::kPrepare: byte for byte what the CUDA kernel makes.
EmittedKernel emit_cpu_prepare(const KernelSpec& spec);

/// Op::kRestore: likewise.
EmittedKernel emit_cpu_restore(const KernelSpec& spec);

}  // namespace ktjit::codegen
