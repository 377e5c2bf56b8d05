// Matvec of native bf16, f16, e4m3 and e5m2 weights on floating-point tensor cores, from sm_80 on.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Whether matvec of the spec goes through tensor cores: bf16, f16, e4m3 or e5m2 weights in rows that begin at
/// multiples of 16 bytes, one matrix without gate or residual, scales of whole rows or of multiples of 64 columns,
/// x small enough for shared memory. Tuning::rows_per_warp, a knob of the f32 kernel, asks for that one.
bool takes_float_matvec(const KernelSpec& spec);

/// REQUIRES: takes_float_matvec. Errors: SpecError for knobs.
EmittedKernel emit_float_matvec(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
