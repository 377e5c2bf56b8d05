// What the disk cache does under many processes and with many entries.
//
//   cache_fleet --processes 64 --keys 20 --kills 100     makes of each key in total, without and with a
//                                                        process killed at a random moment
//   cache_fleet --entries 10000                          time of a lookup, of an eviction, exactness
//
// Ends with 1 if a promise of FORMAT.md is broken.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "cache/eviction.h"
#include "cache/kernel_cache.h"
#include "cache/maintenance.h"

namespace ktjit::bench {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kArtifactBytes = 20000;   // a small cubin
constexpr std::chrono::milliseconds kMake{20};  // a fast compile
constexpr std::chrono::seconds kHang{60};       // a process that takes longer hangs

struct Arguments {
  std::size_t processes = 64;
  std::size_t keys = 20;
  std::size_t kills = 0;
  std::size_t entries = 0;
};

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

class TempFolder {
 public:
  TempFolder() {
    std::string name = (fs::temp_directory_path() / "cache-fleet-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw Error("no temporary folder");
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  std::string root() const { return (path_ / "cache").string(); }

 private:
  fs::path path_;
};

cache::CacheKey key_of(std::size_t i) {
  cache::CacheKey key;
  key.request.add("text", "kernel " + std::to_string(i) + std::string(6000, 'k'));
  key.compiler.add("identity", "bench");
  return key;
}

cache::Entry entry_of(std::size_t i) {
  cache::Entry entry;
  entry.manifest = {{"registers", 40}, {"number", i}};
  entry.blobs.add("artifact", std::string(kArtifactBytes, static_cast<char>('a' + i % 26)));
  return entry;
}

cache::DiskCacheOptions options_for(const std::string& root) {
  cache::DiskCacheOptions options;
  options.writable = cache::RootOptions{root, false};
  options.log = [](std::string_view line) { fmt::print("warning: {}\n", line); };
  return options;
}

// One line for each make, of any process.
void note_make(const fs::path& tally, std::size_t key) {
  const int file = ::open(tally.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const std::string line = std::to_string(key) + '\n';
  if (file < 0 || ::write(file, line.data(), line.size()) < 0) std::_Exit(1);
  ::close(file);
}

std::vector<std::size_t> makes_of(const fs::path& tally, std::size_t keys) {
  std::vector<std::size_t> makes(keys);
  std::ifstream in(tally);
  for (std::size_t key = 0; in >> key;) ++makes.at(key);
  return makes;
}

// A child's work: all keys, beginning anywhere.
bool use_all(const std::string& root, const fs::path& tally, std::size_t keys, std::size_t first) {
  cache::KernelCache cache(options_for(root));
  bool right = true;
  for (std::size_t k = 0; k < keys; ++k) {
    const std::size_t i = (first + k) % keys;
    const auto result = cache.get_or_make(key_of(i), [&] {
      note_make(tally, i);
      std::this_thread::sleep_for(kMake);
      return entry_of(i);
    });
    right = right && *result.entry == entry_of(i);
  }
  return right;
}

struct Outcome {
  std::size_t succeeded = 0;
  bool hung = false;
  std::size_t most_makes = 0;   // of one key
  std::size_t total_makes = 0;  // of all keys
  std::size_t damaged = 0;      // entries on disk afterwards
  double ms = 0;
};

// Processes that start at once; one of them is killed after `kill_after`, if that is not zero.
Outcome run_fleet(const Arguments& arguments, std::size_t victim,
                  std::chrono::microseconds kill_after) {
  const TempFolder temp;
  const fs::path tally = temp.path() / "tally";
  int gate[2];
  if (::pipe(gate) != 0) throw Error("no pipe");
  std::vector<pid_t> children;
  for (std::size_t p = 0; p < arguments.processes; ++p) {
    const pid_t child = ::fork();
    if (child < 0) throw Error("no process");
    if (child == 0) {
      ::close(gate[1]);
      char byte;
      while (::read(gate[0], &byte, 1) == -1 && errno == EINTR) {
      }
      ::_exit(use_all(temp.root(), tally, arguments.keys, p * 7 % arguments.keys) ? 0 : 1);
    }
    children.push_back(child);
  }
  const auto start = Clock::now();
  ::close(gate[0]);
  ::close(gate[1]);
  if (kill_after.count() > 0) {
    std::this_thread::sleep_for(kill_after);
    ::kill(children[victim], SIGKILL);
  }
  Outcome outcome;
  std::size_t running = children.size();
  while (running > 0) {
    int status = 0;
    if (::waitpid(-1, &status, WNOHANG) > 0) {
      --running;
      outcome.succeeded += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    } else if (Clock::now() - start > kHang) {
      outcome.hung = true;
      for (const pid_t child : children) ::kill(child, SIGKILL);
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  outcome.ms = us_since(start) / 1000;
  for (const std::size_t makes : makes_of(tally, arguments.keys)) {
    outcome.most_makes = std::max(outcome.most_makes, makes);
    outcome.total_makes += makes;
  }
  const auto report = cache::Maintenance({temp.root(), false}).verify();
  outcome.damaged = report.damaged.size() + (arguments.keys - report.checked);
  return outcome;
}

bool run_fleets(const Arguments& arguments) {
  const Outcome calm = run_fleet(arguments, 0, {});
  fmt::print("{:<46}{:>10}\n", "processes", arguments.processes);
  fmt::print("{:<46}{:>10}\n", "keys", arguments.keys);
  fmt::print("{:<46}{:>10}\n", "  succeeded", calm.succeeded);
  fmt::print("{:<46}{:>10}\n", "  makes in total", calm.total_makes);
  fmt::print("{:<46}{:>10}\n", "  most makes of one key", calm.most_makes);
  fmt::print("{:<46}{:>10.0f}\n", "  all ended after, ms", calm.ms);
  bool good = calm.succeeded == arguments.processes && calm.most_makes == 1 &&
              calm.total_makes == arguments.keys && calm.damaged == 0;
  if (arguments.kills == 0) return good;

  std::mt19937 random(1);
  Outcome worst;
  std::size_t failed = 0;
  std::size_t hangs = 0;
  std::size_t twice = 0;
  std::size_t hit = 0;
  for (std::size_t i = 0; i < arguments.kills; ++i) {
    const auto span = static_cast<unsigned>(calm.ms * 1000);
    const std::chrono::microseconds moment(1 + random() % span);
    const Outcome outcome = run_fleet(arguments, random() % arguments.processes, moment);
    hit += outcome.succeeded == arguments.processes - 1;
    failed += outcome.succeeded < arguments.processes - 1;
    hangs += outcome.hung;
    twice += outcome.total_makes > arguments.keys;
    worst.most_makes = std::max(worst.most_makes, outcome.most_makes);
    worst.total_makes = std::max(worst.total_makes, outcome.total_makes);
    worst.damaged = std::max(worst.damaged, outcome.damaged);
  }
  fmt::print("{:<46}{:>10}\n", "tries with a kill at a random moment", arguments.kills);
  fmt::print("{:<46}{:>10}\n", "  the kill met a running process", hit);
  fmt::print("{:<46}{:>10}\n", "  hangs", hangs);
  fmt::print("{:<46}{:>10}\n", "  tries in which another process failed", failed);
  fmt::print("{:<46}{:>10}\n", "  tries with damaged or missing entries", worst.damaged);
  fmt::print("{:<46}{:>10}\n", "  tries in which a key was made twice", twice);
  fmt::print("{:<46}{:>10}\n", "  most makes of one key", worst.most_makes);
  fmt::print("{:<46}{:>10}\n", "  most makes in total", worst.total_makes);
  return good && failed == 0 && hangs == 0 && worst.damaged == 0 && worst.most_makes <= 2 &&
         worst.total_makes <= arguments.keys + 1;
}

std::uint64_t allocated_in(const std::string& root) {
  return cache::Maintenance({root, false}).stats().allocated_bytes;
}

bool run_entries(std::size_t entries) {
  const TempFolder temp;
  const cache::CacheRoot root(cache::posix_file_system(), {temp.root(), false});
  // Written as a store writes them, but not synced one by one; all used within the last hour, so
  // that lookups renew no stamps.
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  std::vector<cache::EntryName> names;
  for (std::size_t i = 0; i < entries; ++i) {
    const cache::HashedKey key = key_of(i).hashed();
    names.push_back({key.request, key.artifact});
    const auto used = now - std::chrono::seconds((entries - i) * 3000 / entries);
    root.write_file(root.make_shard(names.back().shard()), names.back().file_name(),
                    cache::encode_entry(key.text, entry_of(i), used), /*sync=*/false);
  }

  std::vector<double> first_us;
  std::vector<double> again_us;
  std::vector<double> absent_us;
  // Processes one after another, each of which looks for as many kernels as a model has.
  constexpr int kProcesses = 40;
  constexpr int kKernels = 60;
  std::mt19937 random(1);
  for (int process = 0; process < kProcesses; ++process) {
    cache::DiskCacheOptions options = options_for(temp.root());
    options.max_bytes = 0;
    cache::DiskCache cache(std::move(options));
    const auto measure = [&](const cache::CacheKey& key, bool expected, std::vector<double>& out) {
      const auto start = Clock::now();
      const bool found = cache.find(key).has_value();
      out.push_back(us_since(start));
      if (found != expected) throw Error("a wrong lookup");
    };
    for (int i = 0; i < kKernels; ++i) {
      const cache::CacheKey key = key_of(random() % entries);
      measure(key, true, first_us);
      measure(key, true, again_us);
      measure(key_of(entries + random() % entries), false, absent_us);
    }
  }
  const auto print_times = [](const char* what, std::vector<double>& us) {
    std::sort(us.begin(), us.end());
    fmt::print("{:<46}{:>10.1f}  10%: {:.1f}  99%: {:.1f}\n", what, us[us.size() / 2],
               us[us.size() / 10], us[us.size() * 99 / 100]);
  };
  fmt::print("{:<46}{:>10}\n", "entries", entries);
  fmt::print("{:<46}{:>10}\n", "  bytes of one", kArtifactBytes + 6200);
  print_times("  lookup, found, us (median)", first_us);
  print_times("  lookup of one in use already, us (median)", again_us);
  print_times("  lookup, absent, us (median)", absent_us);

  // Some were used in the same second: then the name decides.
  std::vector<std::pair<std::optional<std::chrono::sys_seconds>, cache::EntryName>> by_use;
  const auto layout = root.open_layout(*root.open());
  for (const cache::EntryName& name : names) {
    const auto shard = root.open_shard(*layout, name.shard());
    by_use.emplace_back(root.read_stamp(*shard, name.file_name()), name);
  }
  std::sort(by_use.begin(), by_use.end());

  const std::uint64_t before = allocated_in(temp.root());
  auto start = Clock::now();
  cache::evict_to(root, before, cache::Locking::kWorks);
  fmt::print("{:<46}{:>10.1f}\n", "  sweep with nothing to do, ms", us_since(start) / 1000);
  const std::uint64_t limit = before / 2;
  start = Clock::now();
  const cache::Eviction eviction = evict_to(root, limit, cache::Locking::kWorks);
  fmt::print("{:<46}{:>10.1f}\n", "  sweep to half of the size, ms", us_since(start) / 1000);

  // Exact: within the limit, the oldest ones are gone, and one more would have fitted not.
  const std::uint64_t after = allocated_in(temp.root());
  std::size_t gone = 0;
  bool in_order = true;
  for (std::size_t i = 0; i < entries; ++i) {
    const bool is_gone = !fs::exists(root.entry_path(by_use[i].second));
    in_order = in_order && is_gone == (i < eviction.entries);
    gone += is_gone;
  }
  const bool is_exact = after <= limit && after == eviction.left_bytes && in_order &&
                        gone == eviction.entries && after + before / entries + 4096 > limit;
  fmt::print("{:<46}{:>10}\n", "  limit, bytes", limit);
  fmt::print("{:<46}{:>10}\n", "  left, bytes", after);
  fmt::print("{:<46}{:>10}\n", "  removed", gone);
  fmt::print("{:<46}{:>10}\n", "  exact, least recently used first", is_exact ? "yes" : "NO");
  return is_exact;
}

Arguments parse(int count, char** values) {
  Arguments arguments;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = values[i];
    const std::size_t value = std::stoul(values[i + 1]);
    if (name == "--processes") {
      arguments.processes = value;
    } else if (name == "--keys") {
      arguments.keys = value;
    } else if (name == "--kills") {
      arguments.kills = value;
    } else if (name == "--entries") {
      arguments.entries = value;
    } else {
      throw SpecError("argument", name, "--processes, --keys, --kills or --entries and a number");
    }
  }
  return arguments;
}

}  // namespace
}  // namespace ktjit::bench

int main(int count, char** values) {
  using namespace ktjit::bench;
  try {
    std::setvbuf(stdout, nullptr, _IONBF, 0);  // children inherit what is not written yet
    const Arguments arguments = parse(count, values);
    const bool good =
        arguments.entries > 0 ? run_entries(arguments.entries) : run_fleets(arguments);
    return good ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "cache_fleet: {}\n", error.what());
    return 1;
  }
}
