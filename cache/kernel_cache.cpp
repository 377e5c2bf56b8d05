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
  auto [entry, made_here] = memory_.get_or_make(
      key,
      [&] {
        if (auto found = disk_.find(key)) {
          origin = Origin::kDisk;
          return std::move(*found);
        }
        // One make per key and process. A lock across processes belongs here, followed by a second
        // find.
        origin = Origin::kMade;
        return make();
      },
      stop);
  if (!made_here) ++from_memory_;
  if (origin == Origin::kMade) {
    ++made_;
    disk_.store(key, *entry);  // after the waiting threads were served: a sync takes milliseconds
  }
  return {std::move(entry), origin};
}

std::optional<KernelCache::Result> KernelCache::find(const CacheKey& key) {
  if (auto entry = memory_.find(key)) {
    ++from_memory_;
    return Result{std::move(entry), Origin::kMemory};
  }
  if (auto found = disk_.find(key)) {
    return Result{memory_.insert(key, std::move(*found)), Origin::kDisk};
  }
  return std::nullopt;
}

void KernelCache::discard(const CacheKey& key) {
  memory_.discard(key);
  disk_.discard(key);
}

std::optional<double> KernelCache::remembered_cost_ms(std::string_view name) {
  const std::lock_guard lock(costs_mutex_);
  const auto cost = costs_ms_.find(name);
  return cost == costs_ms_.end() ? std::nullopt : std::optional(cost->second);
}

void KernelCache::remember_cost(std::string_view name, double ms) {
  const std::lock_guard lock(costs_mutex_);
  const auto [cost, is_new] = costs_ms_.try_emplace(std::string(name), ms);
  if (!is_new) cost->second += 0.25 * (ms - cost->second);
}

KernelCacheStats KernelCache::stats() const { return {from_memory_, made_, disk_.stats()}; }

}  // namespace ktjit::cache
