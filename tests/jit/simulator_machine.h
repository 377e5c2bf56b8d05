// A toolchain of a scratch cache, and the simulator as its device.
#pragma once

#include <memory>

#include "jit/toolchain.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit::test {

struct Simulator {
  ScratchFolder folder;
  Toolchain toolchain;
  std::unique_ptr<runtime::Device> device;

  Simulator() : toolchain(options(folder), {}), device(toolchain.open_device("sim")) {}

  static Options options(const ScratchFolder& folder) {
    Options options;
    options.cache_dir = folder.path() / "cache";
    options.worker = KTJIT_WORKER_PATH;
    return options;
  }
};

}  // namespace ktjit::test
