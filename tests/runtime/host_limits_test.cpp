// Limits of containers, with made-up /proc and control group folders.
#include "runtime/host_limits.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <stdlib.h>
#include <string>

namespace ktjit::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kGiB = std::size_t{1} << 30;

/// A machine of 16 GiB, 12 of them available, in a folder of its own.
class FakeMachine {
 public:
  FakeMachine() {
    std::string name = (fs::temp_directory_path() / "ktjit-limits-XXXXXX").string();
    root_ = mkdtemp(name.data());
    write("proc/meminfo",
          "MemTotal:       16777216 kB\nMemFree:         1000 kB\nMemAvailable:   12582912 kB\n");
    write("proc/self/cgroup", "0::/\n");
  }
  ~FakeMachine() { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  HostMemory memory() const { return host_memory(root_ / "proc", root_ / "cgroup"); }
  int threads() const { return usable_threads(root_ / "proc", root_ / "cgroup"); }

 private:
  fs::path root_;
};

TEST_CASE("without limits the machine's memory counts") {
  const FakeMachine machine;
  CHECK(machine.memory().total_bytes == 16 * kGiB);
  CHECK(machine.memory().available_bytes == 12 * kGiB);
  machine.write("cgroup/memory.max", "max\n");
  CHECK(machine.memory().total_bytes == 16 * kGiB);
}

TEST_CASE("a container's memory limit cuts total and available memory") {
  const FakeMachine machine;
  machine.write("cgroup/memory.max", std::to_string(4 * kGiB));
  machine.write("cgroup/memory.current", std::to_string(1 * kGiB));
  CHECK(machine.memory().total_bytes == 4 * kGiB);
  CHECK(machine.memory().available_bytes == 3 * kGiB);
  machine.write("cgroup/memory.current", std::to_string(5 * kGiB));
  CHECK(machine.memory().available_bytes == 0);
}

TEST_CASE("the tightest limit of a group and those above it counts") {
  const FakeMachine machine;
  machine.write("proc/self/cgroup", "0::/a/b\n");
  machine.write("cgroup/a/b/memory.max", std::to_string(8 * kGiB));
  machine.write("cgroup/a/memory.max", std::to_string(2 * kGiB));
  CHECK(machine.memory().total_bytes == 2 * kGiB);
}

TEST_CASE("limits of control groups version 1 count too") {
  const FakeMachine machine;
  machine.write("proc/self/cgroup", "4:memory:/docker/1\n1:cpu,cpuacct:/docker/1\n0::/\n");
  machine.write("cgroup/memory/docker/1/memory.limit_in_bytes", std::to_string(3 * kGiB));
  CHECK(machine.memory().total_bytes == 3 * kGiB);
  machine.write("cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "100000\n");
  machine.write("cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
  CHECK(machine.threads() == 1);
}

TEST_CASE("a CPU quota cuts the number of threads, to no less than one") {
  const FakeMachine machine;
  const int all = usable_threads();
  REQUIRE(all >= 1);
  machine.write("cgroup/cpu.max", "max 100000\n");
  CHECK(machine.threads() == all);
  machine.write("cgroup/cpu.max", "20000 100000\n");
  CHECK(machine.threads() == 1);
  machine.write("cgroup/cpu.max", "160000 100000\n");
  CHECK(machine.threads() == std::min(all, 2));
}

TEST_CASE("unreadable folders limit nothing") {
  CHECK(usable_threads("/nonexistent", "/nonexistent") >= 1);
  CHECK(host_memory("/nonexistent", "/nonexistent").total_bytes == 0);
}

}  // namespace
}  // namespace ktjit::runtime
