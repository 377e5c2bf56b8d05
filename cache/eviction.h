// Removes what was used least recently until a root is no larger than asked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>

#include "cache/byte_lock.h"
#include "cache/cache_root.h"

namespace ktjit::cache {

inline constexpr std::uint64_t kNoSizeLimit = std::numeric_limits<std::uint64_t>::max();

/// What one sweep did. Sizes are of entries, in blocks of the disk.
struct Eviction {
  bool busy = false;             ///< another process is sweeping: nothing was done
  std::size_t entries = 0;       ///< removed
  std::uint64_t bytes = 0;       ///< of those
  std::size_t temporaries = 0;   ///< removed: of writers that died
  std::size_t left_entries = 0;  ///< still there
  std::uint64_t left_bytes = 0;  ///< of those; over the limit only if the rest is in use, or failed
  std::size_t in_use_entries = 0;  ///< would have been removed, were they not in use
  std::string problem;             ///< the first failure that it went on after; empty if none
  std::error_code problem_code;
};

/// Whether the file system locks. Without locks an entry counts as in use while its stamp is
/// younger than kUnlockedGrace.
enum class Locking { kWorks, kFails };
inline constexpr std::chrono::minutes kUnlockedGrace{10};

/// Removes entries, the least recently used ones first (equal stamps: by name; without a stamp:
/// before all others), and notes only when nothing else is left, until at most `most_bytes` are left: never one more than that takes, never
/// one that a living process uses. Removes temporaries of dead writers as well. Entries that others
/// remove or replace meanwhile are no failure.
///
/// Errors:  FileError, TrustError if the root can't be used at all. An absent root is an empty one.
Eviction evict_to(const CacheRoot& root, std::uint64_t most_bytes, Locking locking);

/// The lock of the one who sweeps; empty if somebody else has it.
HeldLock try_sweep_lock(const CacheRoot& root, const FileHandle& layout);

/// What `evict_to` does, for a caller that holds the sweep's lock. `locks` is null where locks fail.
Eviction evict_locked(const CacheRoot& root, const FileHandle& layout, std::uint64_t most_bytes,
                      LockHandle* locks);

}  // namespace ktjit::cache
