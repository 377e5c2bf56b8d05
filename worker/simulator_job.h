// Makes an object for the simulator device from CUDA text: the front end's IR for the GPU, turned into
// code for this CPU that checks each access and calls the device where threads meet.
#pragma once

#include "worker/clang_job.h"

namespace ktjit::worker {

/// An x86-64 object file for OutputKind::kSimulatorObject, to be linked. See runtime/simulator_abi.h.
JobResult run_simulator_job(const Request& request);

}  // namespace ktjit::worker
