// Matmul on Hopper's warpgroup tensor cores (wgmma), weights read quantised and rounded once to bf16 on their way: for
// KernelSpec::tensor_core_precision.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Errors: SpecError for a tile of x that isn't 16, 32, 64, 128 or 256, or for stages that don't fit the target's
/// shared memory.
/// REQUIRES: serves_tensor_core_precision(spec).
EmittedKernel emit_warpgroup_matmul(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
