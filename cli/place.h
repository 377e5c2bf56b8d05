// Where kernels run and what they are compiled for, from --device and --target.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jit/toolchain.h"

namespace ktjit::cli {

struct Place {
  std::unique_ptr<runtime::Device> device;
  std::string reason;  ///< why this device
  Target target;
};

/// Opens the device that was named, else one that the target's code is for, else the best there is.
/// Errors: as Toolchain::open_device and get_target.
Place choose_place(Toolchain& toolchain, const std::string& device, const std::string& target);

/// The targets that were named, once each, else the one of choose_place's device.
std::vector<Target> choose_targets(Toolchain& toolchain, const std::vector<std::string>& names);

}  // namespace ktjit::cli
