#include "cache/disk_cache.h"

#include <cerrno>
#include <exception>
#include <fmt/format.h>

#include "cache/atomic_file.h"
#include "cache/entry_name.h"
#include "cache/trust.h"

namespace ktjit::cache {
namespace {

EntryName name_of(const HashedKey& key) { return {key.request, key.artifact}; }

// What the user can do about a file call that failed.
std::string_view cure_for(std::error_code code) {
  if (code == std::errc::no_space_on_device || code.value() == EDQUOT) {
    return "free some space there, or choose another cache folder";
  }
  if (code == std::errc::read_only_file_system || code == std::errc::permission_denied ||
      code == std::errc::operation_not_permitted || code == std::errc::not_a_directory) {
    return "choose a cache folder that you can write to";
  }
  return "check the folder, or choose another";
}

}  // namespace

DiskCache::DiskCache(DiskCacheOptions options)
    : files_(*options.files),
      warnings_(std::move(options.log)),
      packs_(files_, options.read_only,
             [this](const std::string& pack, std::optional<RejectReason> reason,
                    const std::string& detail) { report_pack(pack, reason, detail); }) {
  if (options.writable) {
    roots_.push_back({CacheRoot(files_, std::move(*options.writable)), /*read_only=*/false});
  }
  for (RootOptions& root : options.read_only) {
    roots_.push_back({CacheRoot(files_, std::move(root)), /*read_only=*/true});
  }
}

void DiskCache::report_pack(const std::string& pack, std::optional<RejectReason> reason,
                            const std::string& detail) {
  if (reason) ++rejected_[static_cast<std::size_t>(*reason)];
  const std::string name(reason ? to_text(*reason) : "not used");
  warnings_.warn(pack + '\n' + name,
                 reason ? fmt::format("pack of kernels '{}': an entry was not used ({}): {}", pack,
                                      name, detail)
                        : fmt::format("pack of kernels not used: {}", detail));
}

void DiskCache::warn(const Root& root, const std::string& reason, const std::string& problem) {
  warnings_.warn(root.folder.path() + '\n' + reason,
                 fmt::format("kernel cache '{}': {}", root.folder.path(), problem));
}

// The border that no exception passes: true if `work` came to its end.
template <typename Work>
bool DiskCache::guarded(const Root& root, Work work) {
  try {
    work();
    return true;
  } catch (const FileError& error) {
    warn(
        root, error.code().message(),
        fmt::format("{}; kernels may be compiled again; {}", error.what(), cure_for(error.code())));
  } catch (const TrustError& error) {
    warn(root, "trust", fmt::format("not used: {}", error.what()));
  } catch (const std::exception& error) {
    warn(root, error.what(), fmt::format("{}; kernels may be compiled again", error.what()));
  }
  return false;
}

void DiskCache::reject(const Root& root, RejectReason reason, const std::string& detail) {
  ++rejected_[static_cast<std::size_t>(reason)];
  warn(root, std::string(to_text(reason)),
       fmt::format("an entry was not used ({}): {}", to_text(reason), detail));
}

std::optional<FileHandle> DiskCache::open_shard(const Root& root, const std::string& shard) {
  const auto folder = root.folder.open();
  if (!folder) {
    if (root.read_only) warn(root, "absent", "no such folder; nothing is looked up there");
    return std::nullopt;
  }
  const auto layout = root.folder.open_layout(*folder);
  if (!layout) return std::nullopt;
  return root.folder.open_shard(*layout, shard);
}

std::optional<Entry> DiskCache::find_in(const Root& root, const HashedKey& key) {
  const EntryName name = name_of(key);
  const auto shard = open_shard(root, name.shard());
  if (!shard) return std::nullopt;
  const auto file = root.folder.read_entry(*shard, name);
  if (!file) return std::nullopt;
  if (file->rejected) {
    reject(root, *file->rejected, file->detail);
    return std::nullopt;
  }
  auto entry = decode_entry_of(key.text, file->bytes);
  if (const auto* reason = std::get_if<RejectReason>(&entry)) {
    reject(root, *reason, fmt::format("'{}'", root.folder.entry_path(name)));
    return std::nullopt;
  }
  return std::move(std::get<Entry>(entry));
}

std::optional<Entry> DiskCache::find(const CacheKey& key) {
  std::optional<Entry> entry;
  if (!roots_.empty() || !packs_.empty()) {
    const HashedKey hashed = key.hashed();
    for (const Root& root : roots_) {
      guarded(root, [&] { entry = find_in(root, hashed); });
      if (entry) break;
    }
    if (!entry) entry = packs_.find(key, hashed);
  }
  ++(entry ? hits_ : misses_);
  return entry;
}

void DiskCache::find_by_request_in(const Root& root, const Digest& request,
                                   std::vector<StoredEntry>& out) {
  const auto shard = open_shard(root, EntryName{request, {}}.shard());
  if (!shard) return;
  for (const std::string& file_name : files_.list(*shard)) {
    const auto name = EntryName::parse(file_name);
    if (!name || name->request != request) continue;
    const auto file = root.folder.read_entry(*shard, *name);
    if (!file) continue;  // removed since it was listed
    if (file->rejected) {
      reject(root, *file->rejected, file->detail);
      continue;
    }
    auto stored = decode_stored(*name, file->bytes);
    if (const auto* reason = std::get_if<RejectReason>(&stored)) {
      reject(root, *reason, fmt::format("'{}'", root.folder.entry_path(*name)));
      continue;
    }
    out.push_back(std::move(std::get<StoredEntry>(stored)));
  }
}

std::vector<StoredEntry> DiskCache::find_by_request(const KeyFields& request) {
  std::vector<StoredEntry> found;
  const Digest digest = request_digest_of(request);
  for (const Root& root : roots_) {
    guarded(root, [&] { find_by_request_in(root, digest, found); });
  }
  // As in find(): a digest only finds, the fields decide.
  std::erase_if(found, [&](const StoredEntry& stored) { return stored.key.request != request; });
  packs_.find_by_request(request, digest, found);
  return found;
}

void DiskCache::store(const CacheKey& key, const Entry& entry) {
  if (roots_.empty() || roots_.front().read_only) return;
  const Root& root = roots_.front();
  const bool done = guarded(root, [&] {
    const HashedKey hashed = key.hashed();
    const EntryName name = name_of(hashed);
    const std::string file = encode_entry(hashed.text, entry);
    const FileHandle shard = root.folder.make_shard(name.shard());
    write_atomically(files_, shard, name.file_name(), file, root.folder.file_mode());
  });
  ++(done ? stores_ : failed_stores_);
}

void DiskCache::discard(const CacheKey& key) {
  packs_.refuse(key);
  if (roots_.empty() || roots_.front().read_only) return;
  const Root& root = roots_.front();
  guarded(root, [&] {
    const EntryName name = name_of(key.hashed());
    const auto shard = open_shard(root, name.shard());
    if (shard) files_.remove_file_at(*shard, name.file_name());
  });
}

DiskCacheStats DiskCache::stats() const {
  DiskCacheStats stats{hits_, misses_, stores_, failed_stores_, {}};
  for (std::size_t i = 0; i < kRejectReasons; ++i) stats.rejected[i] = rejected_[i];
  return stats;
}

}  // namespace ktjit::cache
