// Emits C++ text for this kind of CPU: vector extensions, no headers.
#pragma once

#include "codegen/emitter.h"

namespace ktjit::codegen {

/// `spec` is valid and its target a CPU target.
EmittedKernel emit_cpu(const KernelSpec& spec);

}  // namespace ktjit::codegen
