// Matmul and moe_matmul on Hopper's warpgroup tensor cores (wgmma), weights read quantised and rounded once to bf16 on their
// way, or for moe_matmul FP8 by FP8: for KernelSpec::tensor_core_precision.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Errors: SpecError for a tile of x that isn't 16, 32, 64, 128 or (matmul) 256, for threads that moe_matmul
/// doesn't have, or for stages that don't fit the target's shared memory.
/// REQUIRES: serves_tensor_core_precision(spec), a target with wgmma, and of matmul no FP8 activations.
EmittedKernel emit_warpgroup_matmul(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
