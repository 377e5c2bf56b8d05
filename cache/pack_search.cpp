#include "cache/pack_search.h"

#include <exception>
#include <fmt/format.h>
#include <utility>

#include "core/error.h"

namespace ktjit::cache {

PackSearch::PackSearch(FileSystem& files, std::vector<RootOptions>& roots, Report report)
    : report_(std::move(report)) {
  std::vector<RootOptions> folders;
  for (RootOptions& root : roots) {
    try {
      if (!is_pack_path(files, root.path)) {
        folders.push_back(std::move(root));
        continue;
      }
      packs_.emplace_back(files, root);
    } catch (const std::exception& error) {
      report_(root.path, std::nullopt, error.what());
    }
  }
  roots = std::move(folders);
}

std::optional<StoredEntry> PackSearch::read(const PackFile& pack, const PackItem& item) {
  EntryFile file = pack.read(item);
  if (file.rejected) {
    report_(pack.path(), file.rejected, file.detail);
    return std::nullopt;
  }
  auto stored = decode_stored(item.name, file.bytes);
  if (const auto* reason = std::get_if<RejectReason>(&stored)) {
    report_(pack.path(), *reason, fmt::format("'{}'", pack.entry_path(item.name)));
    return std::nullopt;
  }
  return std::move(std::get<StoredEntry>(stored));
}

bool PackSearch::is_refused(const Digest& request) {
  const std::lock_guard lock(refused_mutex_);
  return refused_.contains(request);
}

std::optional<Entry> PackSearch::find_exact(const CacheKey& key, const HashedKey& hashed) {
  if (packs_.empty() || is_refused(hashed.request)) return std::nullopt;
  // A digest only finds: the fields of the key in the entry decide.
  for (const PackFile& pack : packs_) {
    const PackItem* item = pack.find({hashed.request, hashed.artifact});
    if (item == nullptr) continue;
    auto stored = read(pack, *item);
    if (stored && stored->key == key) return std::move(stored->entry);
  }
  return std::nullopt;
}

std::optional<Entry> PackSearch::find(const CacheKey& key, const HashedKey& hashed) {
  if (packs_.empty() || is_refused(hashed.request)) return std::nullopt;
  if (auto found = find_exact(key, hashed)) return found;
  for (const PackFile& pack : packs_) {
    for (const PackItem& item : pack.items_of(hashed.request)) {
      if (item.name.artifact == hashed.artifact) continue;  // looked at above
      auto stored = read(pack, item);
      if (stored && stored->key.request == key.request) return std::move(stored->entry);
    }
  }
  return std::nullopt;
}

void PackSearch::find_by_request(const KeyFields& request, const Digest& digest,
                                 std::vector<StoredEntry>& out) {
  if (packs_.empty() || is_refused(digest)) return;
  for (const PackFile& pack : packs_) {
    for (const PackItem& item : pack.items_of(digest)) {
      auto stored = read(pack, item);
      if (stored && stored->key.request == request) out.push_back(std::move(*stored));
    }
  }
}

void PackSearch::refuse(const CacheKey& key) {
  if (packs_.empty()) return;
  const std::lock_guard lock(refused_mutex_);
  refused_.insert(key.request_digest());
}

}  // namespace ktjit::cache
