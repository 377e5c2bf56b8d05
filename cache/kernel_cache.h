// The cache that the engine talks to: memory, then disk, then make and store.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string_view>

#include "cache/disk_cache.h"
#include "cache/memory_cache.h"

namespace ktjit::cache {

/// Where an entry came from.
enum class Origin { kMemory, kDisk, kMade };

/// "memory", "disk" or "made".
std::string_view to_text(Origin origin);

struct KernelCacheStats {
  std::uint64_t from_memory = 0;  ///< also those who waited for another thread's make
  std::uint64_t made = 0;
  DiskCacheStats disk;
};

/// Threads: safe to call from several threads.
class KernelCache {
 public:
  struct Result {
    EntryPtr entry;
    Origin origin;
  };

  explicit KernelCache(DiskCacheOptions options) : disk_(std::move(options)) {}

  /// The entry of this key, from the nearest place that has it; else what `make` returns, which is
  /// then stored. One thread of one process that shares the writable root makes it; the others
  /// wait and take what it made, and if it fails or dies the next of them makes.
  ///
  /// Errors:  what `make` throws; Interrupted (interrupted.h) if `stop` is set while it waits for
  ///          another thread or process. `make` has to watch its own stop token, if it has one.
  Result get_or_make(const CacheKey& key, const std::function<Entry()>& make,
                     const std::stop_token& stop = {});

  /// The entry if memory or disk has it; no miss is counted, since get_or_make counts it.
  std::optional<Result> find(const CacheKey& key);

  /// Forgets an entry that turned out to be of no use (a driver refused it), so that the next call
  /// makes it again. Entries in read-only roots stay.
  void discard(const CacheKey& key);

  /// How long the work of this name took of late, in milliseconds: a mean in which later runs
  /// count more, of this process and the ones before it that used the writable root. Nothing if it
  /// is not known.
  std::optional<double> remembered_cost_ms(std::string_view name) {
    return disk_.ledger().cost_ms(name);
  }

  /// Adds one run to the mean of `name`. Written to the root when the cache is destroyed.
  void remember_cost(std::string_view name, double ms) { disk_.ledger().remember(name, ms); }

  DiskCache& disk() { return disk_; }
  KernelCacheStats stats() const;

 private:
  MemoryCache memory_;
  DiskCache disk_;
  std::atomic<std::uint64_t> from_memory_{0};
  std::atomic<std::uint64_t> made_{0};
};

}  // namespace ktjit::cache
