// Reads limits from /proc and from control groups, version 2 (and version 1 for memory and CPUs
// where a machine still has it).
#include "runtime/host_limits.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sched.h>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace ktjit::runtime {
namespace {

namespace fs = std::filesystem;

constexpr const char* kProc = "/proc";
constexpr const char* kCgroup = "/sys/fs/cgroup";

/// The folders of this process's control groups for `controller` ("" is version 2), from its own up
/// to the root. In a container the path that /proc names may not exist: its root is what counts.
std::vector<fs::path> group_folders(const fs::path& proc, const fs::path& cgroup,
                                    const std::string& controller) {
  std::ifstream file(proc / "self" / "cgroup");
  std::string line;
  while (std::getline(file, line)) {
    // "0::/user.slice" (version 2) or "4:memory:/docker/123".
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    if (line.substr(first + 1, second - first - 1) != controller) continue;
    const fs::path root = controller.empty() ? cgroup : cgroup / controller;
    std::vector<fs::path> folders;
    for (fs::path path = fs::path(line.substr(second + 1)).relative_path(); !path.empty();
         path = path.parent_path()) {
      folders.push_back(root / path);
    }
    folders.push_back(root);
    return folders;
  }
  return {};
}

/// The first number of a file; nothing if there is none, as in "max".
std::optional<std::size_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  std::size_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

/// The value of a line such as "MemTotal:  16311912 kB", in bytes.
std::size_t meminfo_bytes(const fs::path& proc, const std::string& field) {
  constexpr std::size_t kKiB = 1024;
  std::ifstream file(proc / "meminfo");
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name;
    std::size_t value = 0;
    if (words >> name >> value && name == field) return value * kKiB;
  }
  return 0;
}

struct MemoryFiles {
  const char* controller;
  const char* limit;
  const char* usage;
};
constexpr MemoryFiles kMemoryFiles[] = {
    {"", "memory.max", "memory.current"},
    {"memory", "memory.limit_in_bytes", "memory.usage_in_bytes"},
};

/// CPUs that a group's quota amounts to, e.g. 1.5.
std::optional<double> cpu_quota(const fs::path& folder) {
  double quota = 0;
  double period = 0;
  std::ifstream version2(folder / "cpu.max");  // "150000 100000", or "max 100000"
  if (version2 >> quota >> period && period > 0) return quota / period;
  std::ifstream quota_file(folder / "cpu.cfs_quota_us");  // -1: no limit
  std::ifstream period_file(folder / "cpu.cfs_period_us");
  if (quota_file >> quota && period_file >> period && quota > 0 && period > 0)
    return quota / period;
  return std::nullopt;
}

int affinity_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  // More CPUs than cpu_set_t has bits.
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

int usable_threads() { return usable_threads(kProc, kCgroup); }

HostMemory host_memory() { return host_memory(kProc, kCgroup); }

int usable_threads(const fs::path& proc, const fs::path& cgroup) {
  int threads = affinity_threads();
  for (const char* controller : {"", "cpu", "cpu,cpuacct"}) {
    for (const fs::path& folder : group_folders(proc, cgroup, controller)) {
      // Half a CPU more is worth a thread.
      if (const auto quota = cpu_quota(folder))
        threads = std::min(threads, std::max(1, static_cast<int>(*quota + 0.5)));
    }
  }
  return threads;
}

HostMemory host_memory(const fs::path& proc, const fs::path& cgroup) {
  HostMemory memory;
  memory.total_bytes = meminfo_bytes(proc, "MemTotal:");
  memory.available_bytes = meminfo_bytes(proc, "MemAvailable:");
  for (const MemoryFiles& files : kMemoryFiles) {
    for (const fs::path& folder : group_folders(proc, cgroup, files.controller)) {
      const auto limit = read_number(folder / files.limit);
      if (!limit) continue;
      const std::size_t used = read_number(folder / files.usage).value_or(0);
      memory.total_bytes = std::min(memory.total_bytes, *limit);
      memory.available_bytes = std::min(memory.available_bytes, *limit > used ? *limit - used : 0);
    }
  }
  return memory;
}

}  // namespace ktjit::runtime
