#include "cache/memory_cache.h"

#include <chrono>
#include <exception>
#include <unistd.h>

#include "cache/interrupted.h"

namespace ktjit::cache {
namespace {

bool is_ready(const std::shared_future<EntryPtr>& future) {
  return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

// How late a waiter sees that it was stopped; what it waits for wakes it at once.
constexpr std::chrono::milliseconds kStopCheckInterval{5};

void wait(const std::shared_future<EntryPtr>& future, const std::stop_token& stop) {
  if (!stop.stop_possible()) return future.wait();
  while (future.wait_for(kStopCheckInterval) != std::future_status::ready) {
    if (stop.stop_requested()) throw Interrupted();
  }
}

}  // namespace

std::size_t MemoryCache::TextHash::operator()(const std::string& text) const {
  return static_cast<std::size_t>(digest_of(text).low);
}

// Nothing if the caller is the one to make it, with `promise`; else what to wait for.
MemoryCache::Future MemoryCache::claim(const std::string& text, std::promise<EntryPtr>& promise) {
  const pid_t process = ::getpid();
  const std::lock_guard lock(mutex_);
  Slot& slot = slots_[text];
  const bool is_new = !slot.future.valid();
  // The thread that was making it did not come along into the forked process.
  const bool is_orphan = !is_new && slot.process != process && !is_ready(slot.future);
  if (!is_new && !is_orphan) return slot.future;
  slot = {promise.get_future().share(), process};
  return {};
}

MemoryCache::Result MemoryCache::make_claimed(const std::string& text,
                                              std::promise<EntryPtr>& promise,
                                              const std::function<Entry()>& make) {
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

MemoryCache::Result MemoryCache::get_or_make(const CacheKey& key,
                                             const std::function<Entry()>& make,
                                             const std::stop_token& stop) {
  const std::string text = key.hashed().text;
  for (;;) {
    std::promise<EntryPtr> promise;
    const Future other = claim(text, promise);
    if (!other.valid()) return make_claimed(text, promise, make);
    wait(other, stop);
    try {
      return {other.get(), /*made_here=*/false};
    } catch (const Interrupted&) {
      // Somebody stopped the maker, not us: whoever claims the slot next makes the entry.
      if (stop.stop_requested()) throw;
    }
  }
}

EntryPtr MemoryCache::find(const CacheKey& key) const {
  const std::string text = key.hashed().text;
  const std::lock_guard lock(mutex_);
  const auto slot = slots_.find(text);
  // A ready slot in the map always has a value: failures leave the map before they are ready.
  return slot != slots_.end() && is_ready(slot->second.future) ? slot->second.future.get()
                                                               : nullptr;
}

EntryPtr MemoryCache::insert(const CacheKey& key, Entry entry) {
  auto shared = std::make_shared<const Entry>(std::move(entry));
  std::promise<EntryPtr> promise;
  promise.set_value(shared);
  const std::lock_guard lock(mutex_);
  slots_.try_emplace(key.hashed().text, Slot{promise.get_future().share(), ::getpid()});
  return shared;
}

void MemoryCache::discard(const CacheKey& key) {
  const std::string text = key.hashed().text;
  const std::lock_guard lock(mutex_);
  const auto slot = slots_.find(text);
  if (slot != slots_.end() && is_ready(slot->second.future)) slots_.erase(slot);
}

}  // namespace ktjit::cache
