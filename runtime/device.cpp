// Defaults of the device interface, and what works on any device.
#include "runtime/device.h"

#include "core/error.h"

namespace ktjit::runtime {

Artifact Device::link_ptx(const Artifact&) { KTJIT_UNREACHABLE("a device with a linker"); }

std::unique_ptr<Buffer> place_on_device(Device& device, Stream& stream,
                                        std::span<const std::byte> host) {
  if (auto borrowed = device.try_borrow(host)) return borrowed;
  auto buffer = device.allocate(host.size());
  device.upload(stream, host, *buffer, 0);
  return buffer;
}

}  // namespace ktjit::runtime
