// From a kernel spec to text: the whole of code generation behind one call.
#pragma once

#include <string>

#include "codegen/lowering.h"
#include "core/artifact.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// Raised whenever emitted text changes for some spec; printed in each kernel's header.
constexpr int kEmitterVersion = 3;

struct EmittedKernel {
  std::string source;  ///< CUDA text, or C++ for the CPU
  std::string entry_name;
  LaunchShape launch;
  Lowering lowering;  ///< of the weights
};

/// Order of launch arguments (8 bytes each): w, scale if the spec has one, x (matvec), y, rows,
/// n (matvec: rows of x in use).
/// Errors: SpecError if the spec is invalid, or not served yet.
EmittedKernel emit(const KernelSpec& spec);

}  // namespace ktjit::codegen
