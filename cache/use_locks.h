// Which entries this process uses: a shared lock each, so that no process evicts them.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "cache/byte_lock.h"
#include "cache/cache_root.h"

namespace ktjit::cache {

/// Errors:  FileError, TrustError.
/// Threads: safe to call from several threads.
/// Processes: a forked child holds nothing until its first call, which takes all of the parent's.
class UseLocks {
 public:
  explicit UseLocks(const CacheRoot& root) : root_(root) {}

  /// Marks the entry as in use until `release`. Does nothing where this process may not lock, and
  /// if an evictor is just removing the entry.
  void add(const Digest& artifact);

  /// Ends all of them; false if there were none.
  bool release() noexcept;

 private:
  bool open();

  const CacheRoot& root_;
  std::mutex mutex_;
  std::optional<LockHandle> handle_;
  std::unordered_set<std::uint64_t> bytes_;
};

}  // namespace ktjit::cache
