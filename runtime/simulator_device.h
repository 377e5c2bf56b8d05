// CUDA's model on this machine's CPU: runs the text of any CUDA target without a GPU, and reports what
// a GPU would not.
#pragma once

#include <memory>

#include "runtime/device.h"
#include "runtime/executor.h"

namespace ktjit::runtime {

/// The simulator device. Kernels are simulator objects (see simulator_abi.h) of any CUDA target, run
/// CTA by CTA on the executor's threads, the threads of a CTA as fibres.
///
/// A launch is done when it returns. It throws KernelError if the kernel
///   - accesses memory outside a buffer, or in one that was freed; outside shared or local variables;
///   - accesses memory at an address that is not aligned as the access requires;
///   - reads shared memory that no thread of the CTA has written;
///   - waits at a barrier that not all threads of the CTA reach, or for lanes of a warp that never come.
/// Results of a launch that threw are undefined.
///
/// load throws DriverError, with names, if the kernel has PTX instructions that are not modelled.
std::unique_ptr<Device> make_simulator_device(std::shared_ptr<Executor> executor);

}  // namespace ktjit::runtime
