// PTX to machine code by the driver's own linker, so that the result can be cached: PTX that is
// merely loaded is compiled at every start, or kept in a cache we don't see.
#pragma once

#include <memory>
#include <string>

#include "core/artifact.h"
#include "runtime/cuda_context.h"

namespace ktjit::runtime {

/// Makes a cubin for the context's device, with the linker's words in `log`; `resources` as the
/// driver tells them after loading it once.
/// Errors: CompileError with the linker's words if the PTX is refused; DriverError otherwise.
Artifact link_ptx(std::shared_ptr<const CudaContext> context, const Artifact& ptx);

/// What determines the linker's output besides the PTX: the driver and the device.
std::string linker_identity_of(const CudaContext& context);

}  // namespace ktjit::runtime
