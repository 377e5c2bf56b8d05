// Looking after one root, folder or pack: what `ktjit cache list, stats, show, verify, clear` do.
// Unlike the cache itself these report failures, since a person asked.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/cache_root.h"
#include "cache/disk_cache_stats.h"
#include "cache/eviction.h"
#include "cache/pack_file.h"
#include "cache/posix_file_system.h"
#include "cache/stored_entry.h"

namespace ktjit::cache {

/// One entry as it lies there, good or damaged.
struct CheckedEntry {
  EntryName name;
  std::string path;
  std::uint64_t size_bytes = 0;
  std::uint64_t allocated_bytes = 0;  ///< by blocks of the disk; in a pack, its bytes
  std::optional<std::chrono::system_clock::time_point> modified;  ///< not in a pack
  std::optional<std::chrono::sys_seconds> used;                   ///< last; not in a pack
  std::optional<StoredEntry> stored;                              ///< or:
  std::optional<RejectReason> rejected;
  std::string detail;  ///< only if rejected
};

struct ListedBlob {
  std::string name;
  std::uint64_t size_bytes = 0;
};

struct ListedEntry {
  EntryName name;
  std::uint64_t size_bytes = 0;
  std::uint64_t allocated_bytes = 0;
  std::optional<std::chrono::system_clock::time_point> modified;
  std::optional<std::chrono::sys_seconds> used;
  std::optional<RejectReason> rejected;  ///< then manifest and blobs are empty
  nlohmann::json manifest;
  std::vector<ListedBlob> blobs;
};

struct RootStats {
  std::string path;
  bool exists = false;
  bool writable = false;  ///< never a pack
  nlohmann::json pack;    ///< a pack's manifest; null for a folder
  std::size_t entries = 0;
  std::size_t notes = 0;              ///< of the entries, those without blobs; not of a pack
  std::uint64_t allocated_bytes = 0;  ///< by blocks of the disk, entries only
  std::size_t temporaries = 0;        ///< of writers at work, or left by ones that died
  std::size_t strangers = 0;          ///< files that are not ours
  std::string problem;                ///< why the root is not used, with the cure; empty if it is
};

struct DamagedEntry {
  std::string path;
  RejectReason reason;
  std::string detail;
};

struct VerifyReport {
  std::size_t checked = 0;
  std::vector<DamagedEntry> damaged;
};

struct ClearReport {
  std::size_t entries = 0;            ///< removed
  std::size_t notes = 0;              ///< of these, the ones without blobs
  std::size_t temporaries = 0;        ///< removed: older than kTemporaryLifetime
  std::uint64_t allocated_bytes = 0;  ///< of all that was removed
  std::vector<std::string> kept;  ///< paths that are not ours, or could not be removed (with why)
};

/// Errors:  InputError if the root can't be read or is not trusted. An absent root is an empty one.
class Maintenance {
 public:
  explicit Maintenance(RootOptions root, FileSystem& files = posix_file_system());

  /// Reads and checks every entry, in the order of their names.
  void visit(const std::function<void(CheckedEntry entry)>& work);

  /// Entries in the order of their names; every one is read and checked.
  std::vector<ListedEntry> list();

  /// Counts and sizes; of entries only the headers are read. Throws nothing: `problem` has what is wrong.
  RootStats stats();

  /// The one entry whose request digest, artefact digest or file name starts with `prefix`.
  ///
  /// Errors:  SpecError if none or several do; InputError if the entry is damaged.
  StoredEntry show(std::string_view prefix);

  /// Checks every entry and changes nothing.
  VerifyReport verify();

  /// What all processes that used the root have counted. A pack has counted nothing.
  DiskCacheStats counters();

  /// Removes the least recently used entries until at most `most_bytes` are left, never one that a
  /// living process uses. A pack is no folder: InputError.
  Eviction prune(std::uint64_t most_bytes);

  enum class Notes { kRemove, kKeep };
  /// Removes our entries (notes only if told so), the ledger, our stale temporaries and the folders this leaves empty; the
  /// root stays, and while a process uses it the lock file. Anything else stays too and is reported.
  /// A pack is no folder: InputError.
  ClearReport clear(Notes notes = Notes::kRemove);

 private:
  enum class ItemKind { kEntry, kTemporary, kBesideEntries, kStranger };
  struct Item {
    ItemKind kind;
    std::string shard;  // "" outside of a shard
    std::string file_name;
    std::string path;
    EntryName name;  // of an entry
  };
  using Visit = std::function<void(const FileHandle& directory, const Item& item)>;

  using Wanted = std::function<bool(const EntryName& name)>;

  std::optional<PackFile> try_open_pack();
  void visit_if(const Wanted& wanted, const std::function<void(CheckedEntry entry)>& work);
  void count_folder(RootStats& stats);
  void scan(const Visit& visit);
  void scan_shard(const FileHandle& shard, const std::string& shard_name, const Visit& visit);
  template <typename Work>
  void guarded(Work work);
  void clear_item(const FileHandle& directory, const Item& item, Notes notes, ClearReport& report);
  bool is_locked(const FileHandle& layout);
  void remove_empty_directories();

  FileSystem& files_;
  RootOptions options_;
  CacheRoot root_;
};

}  // namespace ktjit::cache
