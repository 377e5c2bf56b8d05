// What a root remembers of the processes that used it: statistics, and how long work took. One
// small file, `v1/ledger` (FORMAT.md). Nothing depends on it: damaged or absent, it is empty.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "cache/cache_root.h"
#include "cache/disk_cache_stats.h"

namespace ktjit::cache {

struct RememberedCost {
  double ms = 0;
  std::chrono::sys_seconds seen;  ///< when the last run was added

  bool operator==(const RememberedCost&) const = default;
};

struct LedgerContent {
  DiskCacheStats statistics;
  std::map<std::string, RememberedCost, std::less<>> costs;  ///< by name of the work

  bool operator==(const LedgerContent&) const = default;
};

/// The text form, and its reverse; what can't be read back is empty.
std::string encode_ledger(const LedgerContent& content);
LedgerContent decode_ledger(std::string_view text);

/// The root's ledger.
///
/// Errors:  FileError, TrustError.
LedgerContent read_ledger(const CacheRoot& root);

/// One process's part in it. Reads the file once, when it is first asked; writes it at the end.
///
/// Errors:  none are thrown: without the file nothing is remembered, which nobody has to act on.
/// Threads: safe to call from several threads.
class Ledger {
 public:
  /// `root` may be null: then this remembers what it is told, and writes nothing.
  explicit Ledger(const CacheRoot* root) : root_(root) {}

  /// Mean duration of the work of this name, the later runs counting more; nothing if unknown.
  std::optional<double> cost_ms(std::string_view name);

  /// Adds a run to the mean. Names are cut at kMostNameBytes; a duration that is no number is not
  /// taken.
  void remember(std::string_view name, double ms);

  /// Adds `statistics` and the runs to the file, if there is a folder to write it to, and forgets
  /// the runs.
  void write(const DiskCacheStats& statistics);

  /// Forgets the runs that are not written: a forked child's are its parent's to write.
  void forget_unwritten();

  static constexpr std::size_t kMostNameBytes = 256;
  static constexpr std::size_t kMostCosts = 4096;  ///< then the ones not seen for longest go

 private:
  struct Runs {
    double total_ms = 0;
    int count = 0;
  };
  using Unwritten = std::map<std::string, Runs, std::less<>>;

  void read_once();
  void write_merged(const DiskCacheStats& statistics);

  const CacheRoot* root_;
  std::mutex mutex_;
  std::optional<LedgerContent> content_;  // of the file, once it was read
  Unwritten unwritten_;
};

}  // namespace ktjit::cache
