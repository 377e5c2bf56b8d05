// What a disk cache counts: of one instance, and summed up in a root's ledger (ledger.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cache/reject_reason.h"

namespace ktjit::cache {

struct DiskCacheStats {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;  ///< absent, rejected or unreadable in every root
  std::uint64_t stores = 0;
  std::uint64_t failed_stores = 0;
  std::array<std::uint64_t, kRejectReasons> rejected{};  ///< by RejectReason
  std::uint64_t makes = 0;                               ///< entries made because of a miss
  std::uint64_t waits = 0;            ///< lookups that waited for another process's make
  std::uint64_t evicted_entries = 0;  ///< by sweeps of this process
  std::uint64_t evicted_bytes = 0;    ///< of those, in blocks of the disk

  std::uint64_t rejected_for(RejectReason reason) const {
    return rejected[static_cast<std::size_t>(reason)];
  }

  bool operator==(const DiskCacheStats&) const = default;
};

/// The counters that are not by reason, with their names in the ledger.
struct NamedCounter {
  std::string_view name;
  std::uint64_t DiskCacheStats::* counter;
};
inline constexpr NamedCounter kNamedCounters[] = {
    {"hits", &DiskCacheStats::hits},
    {"misses", &DiskCacheStats::misses},
    {"stores", &DiskCacheStats::stores},
    {"failed_stores", &DiskCacheStats::failed_stores},
    {"makes", &DiskCacheStats::makes},
    {"waits", &DiskCacheStats::waits},
    {"evicted_entries", &DiskCacheStats::evicted_entries},
    {"evicted_bytes", &DiskCacheStats::evicted_bytes},
};

DiskCacheStats operator+(const DiskCacheStats& left, const DiskCacheStats& right);
/// REQUIRES: no counter of `right` is above `left`'s.
DiskCacheStats operator-(const DiskCacheStats& left, const DiskCacheStats& right);

}  // namespace ktjit::cache
