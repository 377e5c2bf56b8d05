// The CPU quantise kernel: x to codes of a format.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Errors: SpecError if the format has no quantise kernel.
EmittedKernel emit_cpu_quantize(const KernelSpec& spec);

}  // namespace ktjit::codegen
