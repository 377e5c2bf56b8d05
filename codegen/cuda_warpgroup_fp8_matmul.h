// Matmul of FP8 by FP8 in groups of 128 columns, each with its scales, on Hopper's warpgroup tensor cores (wgmma): for
// KernelSpec::tensor_core_precision with ActivationPolicy::kAfp8.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Errors: SpecError for a tile of x that isn't 16, 32, 64 or 128, or for stages that don't fit the target's shared memory.
/// REQUIRES: serves_tensor_core_precision(spec), and FP8 activations.
EmittedKernel emit_warpgroup_fp8_matmul(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
