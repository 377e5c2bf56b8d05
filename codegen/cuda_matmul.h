// CUDA text of matmul: on tensor cores where weights and activations have an exact 16-bit (or FP8)
// form there, by fused multiply-adds in f32 elsewhere.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// `lowering` is that of the weights.
/// Errors: SpecError for a tile that isn't 16, 32 or 64 rows of x.
EmittedKernel emit_matmul(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
