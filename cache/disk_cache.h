// Entries on disk, for many processes at once: each entry is made by one of them, what is used least
// goes when the folder is full, and what a living process uses stays. Trouble with the disk costs speed, never the run: a
// lookup is then a miss, a store does nothing, and the log hook hears of it once.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <system_error>
#include <vector>

#include "cache/byte_lock.h"
#include "cache/cache_key.h"
#include "cache/cache_root.h"
#include "cache/disk_cache_stats.h"
#include "cache/entry_format.h"
#include "cache/ledger.h"
#include "cache/pack_search.h"
#include "cache/posix_file_system.h"
#include "cache/stored_entry.h"
#include "cache/sweeper.h"
#include "cache/use_locks.h"
#include "cache/warn_once.h"

namespace ktjit::cache {

struct DiskCacheOptions {
  std::optional<RootOptions> writable;  ///< searched first; made (0700) by the first store
  std::vector<RootOptions> read_only;   ///< searched next, in order; files are packs, searched last
  LogHook log;                          ///< one warning for each root and reason
  FileSystem* files = &posix_file_system();
  /// Limit of the writable root, in blocks of the disk; none or 0: it grows as it likes. Entries
  /// that living processes use are kept beyond it.
  std::optional<std::uint64_t> max_bytes = std::uint64_t{2} << 30;
  /// A lookup waits this long for another process to make the entry, then makes it as well.
  std::chrono::milliseconds lock_time_limit = std::chrono::minutes(10);
};

/// Errors:  none are thrown but Interrupted, where said; see the top of the file.
/// Threads: safe to call from several threads, and processes.
/// Processes: a forked child may go on with its parent's instance.
class DiskCache {
 public:
  explicit DiskCache(DiskCacheOptions options);
  DiskCache(const DiskCache&) = delete;
  DiskCache& operator=(const DiskCache&) = delete;
  /// Sweeps the writable root if this process stored something, and adds to its ledger.
  ~DiskCache();

  /// The entry of this key, every byte of it checked, or nothing. If only a pack has an entry of the
  /// same request, that one, whoever compiled it.
  std::optional<Entry> find(const CacheKey& key);

  /// As find, for whoever claims the entry next if it isn't there: then the claim counts the miss.
  std::optional<Entry> find_before_claim(const CacheKey& key);

  struct Claim {
    std::optional<Entry> entry;
    HeldLock lock;  ///< to be given to `store`, or dropped if the entry can't be made
  };
  /// The same, but a miss comes with the right to make the entry: no other thread or process that
  /// shares the writable root has it until `lock` is gone. Waits for whoever has it; takes the entry
  /// if that one stores it. Neither entry nor lock: there is no writable root, locks fail there, or
  /// the time limit is over. Then the entry may be made twice, which harms nobody.
  ///
  /// Errors:  Interrupted if `stop` is set while it waits.
  Claim find_or_claim(const CacheKey& key, const std::stop_token& stop);

  /// The entry of exactly this key, for notes, which nobody has to make: no hit or miss is counted, and no
  /// pack's entry of another compiler serves.
  std::optional<Entry> find_note(const CacheKey& key);

  /// The right to make the entry, whether it is there or not, for who replaces it by a better one.
  /// Waits as find_or_claim does. Empty where that gives no lock. Errors: as there.
  HeldLock lock_entry(const CacheKey& key, const std::stop_token& stop);

  /// All good entries that some compiler made for this request, ordered by root, then by name.
  std::vector<StoredEntry> find_by_request(const KeyFields& request);

  /// Stores an entry in place of an older or damaged one, and ends `lock` as soon as others can see
  /// the entry. Nothing is stored without a writable root.
  void store(const CacheKey& key, const Entry& entry, HeldLock lock = {});

  /// Removes the entry from the writable root, e.g. because a driver refused to load it. This object
  /// takes no entry of its request from packs any more.
  void discard(const CacheKey& key);

  /// Whether `store` has a folder to write to, be that possible or not.
  bool has_writable_root() const { return upkeep_ != nullptr; }

  /// Counts an entry that was made because of a miss.
  void count_make() { ++makes_; }

  /// What the writable root remembers; without one, what this instance was told.
  Ledger& ledger() { return ledger_; }

  DiskCacheStats stats() const;

 private:
  // Opening the two upper folders takes a third of a lookup's time, so they stay open.
  struct KnownFolders {
    std::mutex mutex;
    std::shared_ptr<const OpenFolders> folders;
  };
  struct Root {
    Root(FileSystem& files, RootOptions options, bool is_read_only)
        : folder(files, std::move(options)),
          read_only(is_read_only),
          known(std::make_unique<KnownFolders>()) {}

    std::shared_ptr<const OpenFolders> known_folders() const;
    void know(std::shared_ptr<const OpenFolders> folders) const;

    CacheRoot folder;
    bool read_only;
    std::unique_ptr<KnownFolders> known;
  };
  // What there is to do in the writable root beside reading and writing.
  struct Upkeep {
    UseLocks uses;
    Sweeper sweeper;
  };
  struct Rejection {
    RejectReason reason;
    std::string detail;
    std::error_code code;  // of kReadFailed
  };
  struct Lookup {
    std::optional<Entry> entry;
    std::optional<Rejection> rejection;
  };
  using Counter = std::atomic<std::uint64_t>;

  const CacheRoot* writable_root() const;
  std::optional<FileHandle> open_shard(const Root& root, const std::string& shard);
  Lookup look_up(const Root& root, const HashedKey& key);
  Lookup try_look_up(const Root& root, const HashedKey& key);
  std::optional<Lookup> look_into(const Root& root, const OpenFolders& folders,
                                  const HashedKey& key);
  std::shared_ptr<const OpenFolders> open_folders(const Root& root);
  std::optional<Entry> find_uncounted(const CacheKey& key);
  std::optional<Entry> find_hashed(const CacheKey& key, const HashedKey& hashed,
                                   bool& was_rejected);
  void claim(const HashedKey& key, bool was_rejected, const std::stop_token& stop, Claim& result);
  HeldLock lock_until(const HashedKey& key, const std::stop_token& stop,
                      const std::function<bool()>& is_needless);
  std::optional<bool> try_lock(LockHandle& handle, std::uint64_t byte);
  void mark_used(const Root& root, const FileHandle& shard, const EntryName& name,
                 std::string_view file);
  void hold(const Digest& artifact);
  void find_by_request_in(const Root& root, const Digest& request, std::vector<StoredEntry>& out);
  void count(const std::optional<Eviction>& eviction);
  void note_process();
  Locking locking() const { return locks_work_ ? Locking::kWorks : Locking::kFails; }
  void reject(const Root& root, const Rejection& rejection);
  void report_pack(const std::string& pack, std::optional<RejectReason> reason,
                   const std::string& detail);
  void warn(const Root& root, const std::string& reason, const std::string& problem);
  void warn_of(const Root& root, std::error_code code, std::string_view what);
  template <typename Work>
  bool guarded(const Root& root, Work work);

  FileSystem& files_;
  WarnOnce warnings_;
  PackSearch packs_;         // before the folders, from whose paths it takes those of files
  std::vector<Root> roots_;  // in the order of search; the writable one, if any, is the first
  std::chrono::milliseconds lock_time_limit_;
  std::unique_ptr<Upkeep> upkeep_;  // only with a writable root
  Ledger ledger_;
  std::atomic<bool> locks_work_{true};
  Counter hits_{0};
  Counter misses_{0};
  Counter stores_{0};
  Counter failed_stores_{0};
  Counter makes_{0};
  Counter waits_{0};
  Counter evicted_entries_{0};
  Counter evicted_bytes_{0};
  std::array<Counter, kRejectReasons> rejected_{};
  std::atomic<pid_t> process_;  // whose counters they are
  std::mutex fork_mutex_;
  DiskCacheStats of_parent_;  // what the counters said when this process was forked
};

}  // namespace ktjit::cache
