// Kernels that take prepared weights back: to native blocks, or to numbers.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// Op::kRestore.
EmittedKernel emit_restore(const KernelSpec& spec, const Lowering& lowering);

/// Op::kDequant of LayoutKind::kPrepared: restored in shared memory, then decoded as native blocks are.
EmittedKernel emit_dequant_prepared(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
