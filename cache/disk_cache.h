// Entries on disk, for many processes at once. Trouble with the disk costs speed, never the run: a
// lookup is then a miss, a store does nothing, and the log hook hears of it once.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/cache_key.h"
#include "cache/cache_root.h"
#include "cache/entry_format.h"
#include "cache/pack_search.h"
#include "cache/posix_file_system.h"
#include "cache/stored_entry.h"
#include "cache/warn_once.h"

namespace ktjit::cache {

struct DiskCacheOptions {
  std::optional<RootOptions> writable;  ///< searched first; made (0700) by the first store
  std::vector<RootOptions> read_only;   ///< searched next, in order; files are packs, searched last
  LogHook log;                          ///< one warning for each root and reason
  FileSystem* files = &posix_file_system();
};

struct DiskCacheStats {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;  ///< absent, rejected or unreadable in every root
  std::uint64_t stores = 0;
  std::uint64_t failed_stores = 0;
  std::array<std::uint64_t, kRejectReasons> rejected{};  ///< by RejectReason

  std::uint64_t rejected_for(RejectReason reason) const {
    return rejected[static_cast<std::size_t>(reason)];
  }
};

/// Errors:  none are thrown; see the top of the file.
/// Threads: safe to call from several threads, and processes.
class DiskCache {
 public:
  explicit DiskCache(DiskCacheOptions options);

  /// The entry of this key, every byte of it checked, or nothing. If only a pack has an entry of the
  /// same request, that one, whoever compiled it.
  std::optional<Entry> find(const CacheKey& key);

  /// All good entries that some compiler made for this request, ordered by root, then by name.
  std::vector<StoredEntry> find_by_request(const KeyFields& request);

  /// Stores an entry in place of an older or damaged one. Nothing without a writable root.
  void store(const CacheKey& key, const Entry& entry);

  /// Removes the entry from the writable root, e.g. because a driver refused to load it. This object
  /// takes no entry of its request from packs any more.
  void discard(const CacheKey& key);

  DiskCacheStats stats() const;

 private:
  struct Root {
    CacheRoot folder;
    bool read_only;
  };
  using Counter = std::atomic<std::uint64_t>;

  std::optional<FileHandle> open_shard(const Root& root, const std::string& shard);
  std::optional<Entry> find_in(const Root& root, const HashedKey& key);
  void find_by_request_in(const Root& root, const Digest& request, std::vector<StoredEntry>& out);
  void reject(const Root& root, RejectReason reason, const std::string& detail);
  void report_pack(const std::string& pack, std::optional<RejectReason> reason,
                   const std::string& detail);
  void warn(const Root& root, const std::string& reason, const std::string& problem);
  template <typename Work>
  bool guarded(const Root& root, Work work);

  FileSystem& files_;
  std::vector<Root> roots_;  // in the order of search; the writable one, if any, is the first
  WarnOnce warnings_;
  PackSearch packs_;
  Counter hits_{0};
  Counter misses_{0};
  Counter stores_{0};
  Counter failed_stores_{0};
  std::array<Counter, kRejectReasons> rejected_{};
};

}  // namespace ktjit::cache
