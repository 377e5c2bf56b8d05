// From a kernel spec to text: the whole of code generation behind one call.
#pragma once

#include <string>

#include "codegen/lowering.h"
#include "core/artifact.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// Raised whenever emitted text changes for some spec; printed in each kernel's header.
constexpr int kEmitterVersion = 7;

struct EmittedKernel {
  std::string source;  ///< CUDA text, or C++ for the CPU
  std::string entry_name;
  LaunchShape launch;
  Lowering lowering;  ///< of the weights
};

/// Launch arguments are those of launch_order.
/// Errors: SpecError if the spec is invalid, or not served yet.
EmittedKernel emit(const KernelSpec& spec);

}  // namespace ktjit::codegen
