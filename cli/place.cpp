#include "cli/place.h"

#include <algorithm>
#include <fmt/format.h>

#include "cli/exit_code.h"

namespace ktjit::cli {

Place choose_place(Toolchain& toolchain, const std::string& device, const std::string& target) {
  Place place;
  if (!target.empty()) place.target = toolchain.get_target(target);
  if (!device.empty()) {
    place.device = toolchain.open_device(device);
    place.reason = "chosen by --device";
  } else if (!target.empty()) {
    place.device = toolchain.open_device(place.target.is_cuda() ? "cuda" : "cpu");
    place.reason = fmt::format("the target {} runs there", place.target.name());
  } else {
    place.device = toolchain.open_device("");
    place.reason = toolchain.device_choice_reason();
  }
  if (target.empty()) {
    place.target = place.device->native_target();
  } else if (device == "sim" && !place.target.is_cuda()) {
    throw UsageError(fmt::format("the simulator does not run code for {}", place.target.name()),
                     "give a GPU's --target such as sm_86, or use --device cpu");
  }
  return place;
}

std::vector<Target> choose_targets(Toolchain& toolchain, const std::vector<std::string>& names) {
  std::vector<Target> targets;
  for (const std::string& name : names) {
    Target target = toolchain.get_target(name);
    if (std::find(targets.begin(), targets.end(), target) == targets.end()) {
      targets.push_back(std::move(target));
    }
  }
  if (targets.empty()) targets.push_back(toolchain.open_device("")->native_target());
  return targets;
}

}  // namespace ktjit::cli
