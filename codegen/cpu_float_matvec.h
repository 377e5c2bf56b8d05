// CPU text of matvec of native floats of 8 to 32 bits: x is put into the order in which weights are decoded.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Whether matvec of this spec has that text: f32, f16, bf16, e4m3, e5m2, alone or with scales that whole runs of columns share,
/// where the CPU has AVX2 or AVX-512 and, for the formats that need it, F16C.
bool has_cpu_float_matvec(const KernelSpec& spec);

/// REQUIRES: has_cpu_float_matvec(spec).
EmittedKernel emit_cpu_float_matvec(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
