#include "cache/disk_cache_stats.h"

#include <functional>

namespace ktjit::cache {
namespace {

template <typename Combine>
DiskCacheStats combined(DiskCacheStats left, const DiskCacheStats& right, Combine combine) {
  for (const auto& [name, counter] : kNamedCounters) {
    left.*counter = combine(left.*counter, right.*counter);
  }
  for (std::size_t i = 0; i < kRejectReasons; ++i) {
    left.rejected[i] = combine(left.rejected[i], right.rejected[i]);
  }
  return left;
}

}  // namespace

DiskCacheStats operator+(const DiskCacheStats& left, const DiskCacheStats& right) {
  return combined(left, right, std::plus<>());
}

DiskCacheStats operator-(const DiskCacheStats& left, const DiskCacheStats& right) {
  return combined(left, right, std::minus<>());
}

}  // namespace ktjit::cache
