// How much of the machine this process may use: CPUs and memory, as its affinity mask and its
// control groups (containers) allow.
#pragma once

#include <cstddef>
#include <filesystem>

namespace ktjit::runtime {

/// CPUs that this process may use: its affinity mask, cut by its CPU quota. At least 1.
int usable_threads();

struct HostMemory {
  std::size_t total_bytes = 0;
  std::size_t available_bytes = 0;  ///< what can be had without swapping
};

/// The machine's memory, cut by the limits of this process's control groups.
HostMemory host_memory();

/// The same with other roots than "/proc" and "/sys/fs/cgroup".
int usable_threads(const std::filesystem::path& proc, const std::filesystem::path& cgroup);
HostMemory host_memory(const std::filesystem::path& proc, const std::filesystem::path& cgroup);

}  // namespace ktjit::runtime
