// Matmul on the tensor cores of a warp (mma.sync), weights read quantised and rounded once to x's format in registers: for
// KernelSpec::tensor_core_precision where there is no wgmma.
#pragma once

#include "codegen/emitter.h"
#include "codegen/lowering.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// REQUIRES: serves_tensor_core_precision(spec).
EmittedKernel emit_warp_matmul(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
