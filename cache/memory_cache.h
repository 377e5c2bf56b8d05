// Entries of this process, and the rule that one process makes each entry once: whoever asks while
// another thread is making it waits for that one.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <unordered_map>

#include "cache/cache_key.h"
#include "cache/entry_format.h"

namespace ktjit::cache {

using EntryPtr = std::shared_ptr<const Entry>;

/// Threads: safe to call from several threads. Different keys are made in parallel.
/// Processes: a forked child has the parent's entries, and makes those itself that a thread of the
///            parent was making.
class MemoryCache {
 public:
  struct Result {
    EntryPtr entry;
    bool made_here = false;  ///< this very call ran `make`
  };

  /// The entry of this key; makes it if no other thread did or is about to.
  ///
  /// Errors:  what `make` throws reaches everybody who waited for it, and is not kept: the next
  ///          call makes again. Interrupted (interrupted.h) reaches the one alone who was stopped:
  ///          a waiter whose `stop` is set leaves, and one whose maker was stopped makes itself.
  /// REQUIRES: `make` does not ask for the same key, on any thread: it would wait for itself.
  Result get_or_make(const CacheKey& key, const std::function<Entry()>& make,
                     const std::stop_token& stop = {});

  /// The entry if it is there; waits for nobody.
  EntryPtr find(const CacheKey& key) const;

  /// Puts an entry there, unless one is there or being made. Returns the given entry.
  EntryPtr insert(const CacheKey& key, Entry entry);

  /// Drops an entry. Who holds it keeps it; one being made is not touched.
  void discard(const CacheKey& key);

 private:
  using Future = std::shared_future<EntryPtr>;
  struct Slot {
    Future future;
    pid_t process = 0;  // whose thread makes it
  };
  // Slots are found by the whole hashed text, so two keys with one digest stay two entries.
  struct TextHash {
    std::size_t operator()(const std::string& text) const;
  };

  Future claim(const std::string& text, std::promise<EntryPtr>& promise);
  Result make_claimed(const std::string& text, std::promise<EntryPtr>& promise,
                      const std::function<Entry()>& make);

  mutable std::mutex mutex_;
  std::unordered_map<std::string, Slot, TextHash> slots_;
};

}  // namespace ktjit::cache
