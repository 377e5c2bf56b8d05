// The packs among a disk cache's roots: found by key, or by request, whoever compiled the entry.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cache/cache_key.h"
#include "cache/pack_file.h"
#include "cache/stored_entry.h"

namespace ktjit::cache {

/// Errors:  none are thrown.
/// Threads: safe to call from several threads.
class PackSearch {
 public:
  /// Hears that a pack, or one of its entries, is not used. `reason` is empty for a whole pack.
  using Report = std::function<void(const std::string& pack, std::optional<RejectReason> reason,
                                    const std::string& detail)>;

  /// Takes the paths of files out of `roots`, and opens them. `report` must outlive this object.
  PackSearch(FileSystem& files, std::vector<RootOptions>& roots, Report report);

  /// The entry of this key, from the first pack that has it.
  std::optional<Entry> find_exact(const CacheKey& key, const HashedKey& hashed);

  /// The entry of this key, else one of the same request: the first by name in the first pack.
  std::optional<Entry> find(const CacheKey& key, const HashedKey& hashed);

  /// Adds all good entries of this request, ordered by pack, then by name.
  void find_by_request(const KeyFields& request, const Digest& digest,
                       std::vector<StoredEntry>& out);

  /// Entries of this key's request are of no use to this process (a driver refused one) and are
  /// not found again.
  void refuse(const CacheKey& key);

  bool empty() const { return packs_.empty(); }

 private:
  std::optional<StoredEntry> read(const PackFile& pack, const PackItem& item);
  bool is_refused(const Digest& request);

  Report report_;
  std::vector<PackFile> packs_;
  std::mutex refused_mutex_;
  std::set<Digest> refused_;
};

}  // namespace ktjit::cache
