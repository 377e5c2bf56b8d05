// Real disks that are full, read-only or without execution, in a mount namespace of a child. Where
// the machine allows no such thing these tests are skipped (77). Last in the program: a skip ends
// it.
#include <catch2/catch.hpp>
#include <cstdio>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "cache/kernel_cache.h"
#include "cache/maintenance.h"
#include "tests/cache/cache_fixture.h"
#include "tests/cache/fleet.h"

namespace ktjit::cache::test {
namespace {

namespace fs = std::filesystem;

constexpr int kSkipped = 77;
constexpr std::size_t kKernels = 40;

CacheKey key_of(std::size_t i) { return make_key("kernel " + std::to_string(i)); }

// A user and a mount namespace of this process alone; false if the machine forbids them.
bool enter_namespaces() {
  const uid_t user = ::geteuid();
  if (::unshare(user == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  if (user != 0) write_file("/proc/self/uid_map", fmt::format("{0} {0} 1", user));
  return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

bool mount_tmpfs(const fs::path& path, unsigned long flags, const std::string& options) {
  return ::mount("none", path.c_str(), "tmpfs", flags, options.c_str()) == 0;
}

// Runs `work` with a tmpfs at `path`, in a child. `work` returns what is wrong, or nothing.
void on_tmpfs(const fs::path& path, unsigned long flags, const std::string& options,
              const std::function<std::string()>& work) {
  const Tally report(path.parent_path() / "report");
  Fleet fleet;
  fleet.add([&] {
    if (!enter_namespaces() || !mount_tmpfs(path, flags, options)) {
      write_file(path.parent_path() / "skipped", "");
      return true;
    }
    const std::string problem = work();
    write_file(path.parent_path() / "report", problem);
    return problem.empty();
  });
  fleet.start();
  const bool succeeded = fleet.count_succeeded() == 1;
  if (fs::exists(path.parent_path() / "skipped")) {
    std::puts("skipped: this machine allows no mounts in a namespace");
    std::fflush(stdout);
    std::_Exit(kSkipped);
  }
  INFO(report.events());
  CHECK(succeeded);
}

// Makes all kernels with the cache in `root`, twice; says what is wrong.
std::string use_cache(const std::string& root, std::size_t warnings_expected,
                      std::size_t* made_second = nullptr) {
  for (int round = 0; round < 2; ++round) {
    Log log;
    std::size_t made = 0;
    {
      KernelCache cache(options_for(root, log));
      for (std::size_t i = 0; i < kKernels; ++i) {
        const Entry entry = make_entry(std::string(5000, static_cast<char>('a' + i % 26)));
        const auto result = cache.get_or_make(key_of(i), [&] {
          ++made;
          return entry;
        });
        if (*result.entry != entry) return "a wrong entry";
      }
    }
    if (log.lines.size() != warnings_expected) {
      std::string lines;
      for (const std::string& line : log.lines) lines += line + '\n';
      return fmt::format("{} warnings in round {}:\n{}", log.lines.size(), round, lines);
    }
    if (round == 1 && made_second) *made_second = made;
  }
  return {};
}

TEST_CASE("on a full disk every kernel is made, with one warning, and what fitted is whole") {
  const TempDir temp;
  const fs::path disk = temp.path() / "disk";
  fs::create_directory(disk);
  on_tmpfs(disk, 0, "size=128k,mode=700", [&]() -> std::string {
    const std::string root = (disk / "cache").string();
    std::size_t made = 0;
    if (auto problem = use_cache(root, 1, &made); !problem.empty()) return problem;
    if (made == 0 || made == kKernels) return fmt::format("{} made in the second round", made);
    const VerifyReport report = Maintenance({root, false}).verify();
    if (report.checked + made != kKernels || !report.damaged.empty()) return "damaged entries";
    if (Maintenance({root, false}).stats().temporaries != 0) return "temporaries were left";
    return {};
  });
}

TEST_CASE("on a disk that is full from the start every kernel is made, with one warning") {
  const TempDir temp;
  const fs::path disk = temp.path() / "disk";
  fs::create_directory(disk);
  on_tmpfs(disk, 0, "size=16k,nr_inodes=3,mode=700",
           [&] { return use_cache((disk / "cache").string(), 1); });
}

TEST_CASE("on a read-only disk what is there is found, and the rest is made with one warning") {
  const TempDir temp;
  const fs::path disk = temp.path() / "disk";
  fs::create_directory(disk);
  on_tmpfs(disk, 0, "size=1m,mode=700", [&]() -> std::string {
    const std::string root = (disk / "cache").string();
    Log log;
    {
      DiskCache(options_for(root, log)).store(make_key("there"), make_entry());
    }
    if (::mount("none", disk.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
      return "not remounted";
    }
    {
      KernelCache cache(options_for(root, log));
      if (!cache.find(make_key("there"))) return "not found";
      if (!log.lines.empty()) return "a warning for a lookup";
    }
    return use_cache(root, 1);
  });
}

TEST_CASE("on an empty read-only disk every kernel is made, with one warning") {
  const TempDir temp;
  const fs::path disk = temp.path() / "disk";
  fs::create_directory(disk);
  on_tmpfs(disk, MS_RDONLY, "size=1m,mode=700",
           [&] { return use_cache((disk / "cache").string(), 1); });
}

TEST_CASE("a disk without execution is as good as any") {
  const TempDir temp;
  const fs::path disk = temp.path() / "disk";
  fs::create_directory(disk);
  on_tmpfs(disk, MS_NOEXEC | MS_NOSUID | MS_NODEV, "size=4m,mode=700", [&]() -> std::string {
    std::size_t made = 1;
    if (auto problem = use_cache((disk / "cache").string(), 0, &made); !problem.empty()) {
      return problem;
    }
    return made == 0 ? "" : "made again";
  });
}

// As any user but root meets it, who may do everything.
TEST_CASE("in a folder that may not be written every kernel is made, with one warning") {
  if (::geteuid() == 0) {
    constexpr uid_t kNobody = 65534;
    const TempDir temp;
    fs::permissions(temp.path(), fs::perms::all);
    fs::create_directory(temp.path() / "mine");
    fs::permissions(temp.path() / "mine", fs::perms(0755));
    Fleet fleet;
    fleet.add([&] {
      return ::setuid(kNobody) == 0 &&
             use_cache((temp.path() / "mine" / "cache").string(), 1).empty();
    });
    fleet.start();
    CHECK(fleet.count_succeeded() == 1);
    return;
  }
  const TempDir temp;
  fs::permissions(temp.path(), fs::perms(0500));
  CHECK(use_cache(temp.root(), 1).empty());
  fs::permissions(temp.path(), fs::perms(0700));
}

}  // namespace
}  // namespace ktjit::cache::test
