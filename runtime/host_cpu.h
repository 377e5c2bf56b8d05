// What this machine's CPU is and has, as far as targets and plans ask.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ktjit::runtime {

struct HostCpu {
  std::string model;                  ///< "AMD EPYC 9654 96-Core Processor"
  std::vector<std::string> features;  ///< of known_cpu_features(), sorted: CPU and kernel have them
  std::size_t last_level_cache_bytes = 0;  ///< of the largest cache one core reaches
};

HostCpu detect_host_cpu();

}  // namespace ktjit::runtime
