#include "cache/memory_cache.h"

#include <chrono>
#include <exception>

namespace ktjit::cache {
namespace {

bool is_ready(const std::shared_future<EntryPtr>& future) {
  return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

}  // namespace

std::size_t MemoryCache::TextHash::operator()(const std::string& text) const {
  return static_cast<std::size_t>(digest_of(text).low);
}

MemoryCache::Result MemoryCache::get_or_make(const CacheKey& key,
                                             const std::function<Entry()>& make) {
  const std::string text = key.hashed().text;
  std::promise<EntryPtr> promise;
  std::shared_future<EntryPtr> other;
  {
    const std::lock_guard lock(mutex_);
    const auto [slot, is_new] = slots_.try_emplace(text);
    if (is_new) {
      slot->second = promise.get_future().share();
    } else {
      other = slot->second;
    }
  }
  if (other.valid()) return {other.get(), /*made_here=*/false};

  try {
    auto entry = std::make_shared<const Entry>(make());
    promise.set_value(entry);
    return {std::move(entry), /*made_here=*/true};
  } catch (...) {
    {
      // First out of the map: who asks after this must make again, not find the old failure.
      const std::lock_guard lock(mutex_);
      slots_.erase(text);
    }
    promise.set_exception(std::current_exception());
    throw;
  }
}

EntryPtr MemoryCache::find(const CacheKey& key) const {
  const std::string text = key.hashed().text;
  const std::lock_guard lock(mutex_);
  const auto slot = slots_.find(text);
  // A ready slot in the map always has a value: failures leave the map before they are ready.
  return slot != slots_.end() && is_ready(slot->second) ? slot->second.get() : nullptr;
}

EntryPtr MemoryCache::insert(const CacheKey& key, Entry entry) {
  auto shared = std::make_shared<const Entry>(std::move(entry));
  std::promise<EntryPtr> promise;
  promise.set_value(shared);
  const std::lock_guard lock(mutex_);
  slots_.try_emplace(key.hashed().text, promise.get_future().share());
  return shared;
}

void MemoryCache::discard(const CacheKey& key) {
  const std::string text = key.hashed().text;
  const std::lock_guard lock(mutex_);
  const auto slot = slots_.find(text);
  if (slot != slots_.end() && is_ready(slot->second)) slots_.erase(slot);
}

}  // namespace ktjit::cache
