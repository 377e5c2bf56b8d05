#include "cache/kernel_cache.h"

namespace ktjit::cache {

std::string_view to_text(Origin origin) {
  switch (origin) {
    case Origin::kMemory:
      return "memory";
    case Origin::kDisk:
      return "disk";
    case Origin::kMade:
      return "made";
  }
  return "unknown";
}

KernelCache::Result KernelCache::get_or_make(const CacheKey& key,
                                             const std::function<Entry()>& make,
                                             const std::stop_token& stop) {
  Origin origin = Origin::kMemory;
  HeldLock lock;  // a make that fails drops it: then the next process tries
  const auto find_or_make = [&] {
    DiskCache::Claim claim = disk_.find_or_claim(key, stop);
    if (claim.entry) {
      origin = Origin::kDisk;
      return std::move(*claim.entry);
    }
    lock = std::move(claim.lock);
    origin = Origin::kMade;
    return make();
  };
  auto [entry, made_here] = memory_.get_or_make(key, find_or_make, stop);
  if (!made_here) ++from_memory_;
  if (origin == Origin::kMade) {
    ++made_;
    disk_.count_make();
    // After the waiting threads were served, since a sync takes milliseconds; other processes wait
    // until the entry can be seen.
    disk_.store(key, *entry, std::move(lock));
  }
  return {std::move(entry), origin};
}

std::optional<KernelCache::Result> KernelCache::find(const CacheKey& key) {
  if (auto entry = memory_.find(key)) {
    ++from_memory_;
    return Result{std::move(entry), Origin::kMemory};
  }
  if (auto found = disk_.find_before_claim(key)) {
    return Result{memory_.insert(key, std::move(*found)), Origin::kDisk};
  }
  return std::nullopt;
}

void KernelCache::discard(const CacheKey& key) {
  memory_.discard(key);
  disk_.discard(key);
}

KernelCacheStats KernelCache::stats() const { return {from_memory_, made_, disk_.stats()}; }

}  // namespace ktjit::cache
