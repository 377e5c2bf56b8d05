// Defaults of the device interface.
#include "runtime/device.h"

#include "core/error.h"

namespace ktjit::runtime {

Artifact Device::link_ptx(const Artifact&) { KTJIT_UNREACHABLE("a device with a linker"); }

}  // namespace ktjit::runtime
