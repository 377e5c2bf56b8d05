// Emits CUDA text, header-free: one text for NVRTC and for Clang.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// `spec` is valid and its target a CUDA target.
EmittedKernel emit_cuda(const KernelSpec& spec);

}  // namespace ktjit::codegen
