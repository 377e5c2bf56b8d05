// CUDA text of quantize and of the scan for NaN codes.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// A few lanes of a warp share one group of columns: largest magnitude, scale, codes.
/// Errors: SpecError if the format isn't an FP8 one that codegen encodes.
EmittedKernel emit_quantize(const KernelSpec& spec);

EmittedKernel emit_nan_scan(const KernelSpec& spec);

}  // namespace ktjit::codegen
