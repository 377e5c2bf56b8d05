// Emits CUDA text that decodes a matrix to f32, f16 or bf16.
#pragma once

#include "codegen/emitter.h"
#include "codegen/lowering.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// REQUIRES: a dequant spec for a CUDA target that was validated. Errors: SpecError for knobs that don't fit the
/// shape: a path by way of shared memory where rows are cut or not aligned, or more of it than a CTA has.
EmittedKernel emit_dequant(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
