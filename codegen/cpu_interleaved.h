// CPU kernels of LayoutKind::kInterleaved: matvec by integer products, and the way there and back.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Op::kMatvec: x is cut into digits once a launch (ENTRY_begin, in scratch of ENTRY_scratch_bytes), then tiles of 16
/// rows are multiplied. a16: 24 bits of x for each 256 columns; a8: 8, or 15 where products are of 16 bits.
EmittedKernel emit_interleaved_matvec(const KernelSpec& spec);

/// Op::kMoeMatvec, also with a gate: the same for each slot, of experts that were interleaved one after another.
EmittedKernel emit_interleaved_moe_matvec(const KernelSpec& spec);

/// Op::kPrepare, Op::kRestore.
EmittedKernel emit_interleave(const KernelSpec& spec);

}  // namespace ktjit::codegen
