// This machine's CPU as a device.
#pragma once

#include <memory>

#include "runtime/device.h"
#include "runtime/executor.h"

namespace ktjit::runtime {

/// The CPU device. Kernels are shared objects whose entry is
///
///     extern "C" void entry(const unsigned long long* arguments,
///                           long long tile_begin, long long tile_end);
///
/// A launch calls it on the executor's threads for ranges of tiles that cover [0, grid.x), with
/// subnormals kept and rounding to nearest even whatever the application has set. Launches and
/// copies are done when they return, so streams have nothing to wait for.
///
/// Buffers are host memory. One that is borrowed is read-only.
std::unique_ptr<Device> make_cpu_device(std::shared_ptr<Executor> executor);

}  // namespace ktjit::runtime
