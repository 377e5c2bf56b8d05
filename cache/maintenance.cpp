#include "cache/maintenance.h"

#include <filesystem>
#include <fmt/format.h>

#include "cache/atomic_file.h"
#include "cache/trust.h"
#include "core/error.h"

namespace ktjit::cache {
namespace {

// An entry's file read and decoded, or what is wrong with it. Nothing if it vanished meanwhile.
struct Checked {
  std::optional<StoredEntry> stored;
  std::optional<RejectReason> rejected;
  std::string detail;
};

std::optional<Checked> check(const CacheRoot& root, const FileHandle& shard,
                             const EntryName& name) {
  const auto file = root.read_entry(shard, name);
  if (!file) return std::nullopt;
  if (file->rejected) return Checked{std::nullopt, file->rejected, file->detail};
  auto stored = decode_stored(name, file->bytes);
  if (const auto* reason = std::get_if<RejectReason>(&stored)) {
    return Checked{std::nullopt, *reason, std::string(to_text(*reason))};
  }
  return Checked{std::move(std::get<StoredEntry>(stored)), std::nullopt, {}};
}

}  // namespace

Maintenance::Maintenance(RootOptions root, FileSystem& files)
    : files_(files), root_(files, std::move(root)) {}

// Turns what this folder throws into what a caller of ktjit knows.
template <typename Work>
void Maintenance::guarded(Work work) {
  try {
    work();
  } catch (const FileError& error) {
    throw InputError(root_.path(), error.what());
  } catch (const TrustError& error) {
    throw InputError(root_.path(), error.what());
  }
}

void Maintenance::scan(const Visit& visit) {
  const auto root = root_.open();
  if (!root) return;
  const std::filesystem::path root_path = root_.path();
  for (const std::string& name : files_.list(*root)) {
    if (name == kLayoutFolder) continue;
    visit(*root, {ItemKind::kStranger, "", name, (root_path / name).string(), {}});
  }
  const auto layout = root_.open_layout(*root);
  if (!layout) return;
  for (const std::string& name : files_.list(*layout)) {
    const auto info = files_.info_at(*layout, name);
    if (!info) continue;  // removed since it was listed
    if (is_shard_name(name) && info->kind == FileKind::kDirectory) {
      const auto shard = root_.open_shard(*layout, name);
      if (shard) scan_shard(*shard, name, visit);
    } else {
      const auto path = root_path / kLayoutFolder / name;
      const bool is_beside = name == kLockFile || name == kLedgerFile;
      const auto kind = is_beside                 ? ItemKind::kBesideEntries
                        : is_temporary_name(name) ? ItemKind::kTemporary
                                                  : ItemKind::kStranger;
      visit(*layout, {kind, "", name, path.string(), {}});
    }
  }
}

void Maintenance::scan_shard(const FileHandle& shard, const std::string& shard_name,
                             const Visit& visit) {
  const auto folder = std::filesystem::path(root_.path()) / kLayoutFolder / shard_name;
  for (const std::string& file_name : files_.list(shard)) {
    Item item{ItemKind::kStranger, shard_name, file_name, (folder / file_name).string(), {}};
    const auto name = EntryName::parse(file_name);
    if (name && name->shard() == shard_name) {
      item.kind = ItemKind::kEntry;
      item.name = *name;
    } else if (is_temporary_name(file_name)) {
      item.kind = ItemKind::kTemporary;
    }
    visit(shard, item);
  }
}

std::vector<ListedEntry> Maintenance::list() {
  std::vector<ListedEntry> entries;
  const auto add = [&](const FileHandle& shard, const Item& item) {
    if (item.kind != ItemKind::kEntry) return;
    const auto info = files_.info_at(shard, item.file_name);
    auto checked = check(root_, shard, item.name);
    if (!info || !checked) return;
    ListedEntry& entry = entries.emplace_back();
    entry.name = item.name;
    entry.size_bytes = info->size_bytes;
    entry.allocated_bytes = info->allocated_bytes;
    entry.modified = info->modified;
    entry.rejected = checked->rejected;
    if (!checked->stored) return;
    entry.manifest = std::move(checked->stored->entry.manifest);
    for (const Field& blob : checked->stored->entry.blobs.fields()) {
      entry.blobs.push_back({blob.name, blob.value.size()});
    }
  };
  guarded([&] { scan(add); });
  return entries;
}

RootStats Maintenance::stats() {
  RootStats stats;
  stats.path = root_.path();
  const auto count = [&](const FileHandle& directory, const Item& item) {
    switch (item.kind) {
      case ItemKind::kEntry:
        if (const auto info = files_.info_at(directory, item.file_name)) {
          ++stats.entries;
          stats.allocated_bytes += info->allocated_bytes;
        }
        break;
      case ItemKind::kTemporary:
        ++stats.temporaries;
        break;
      case ItemKind::kStranger:
        ++stats.strangers;
        break;
      case ItemKind::kBesideEntries:
        break;
    }
  };
  try {
    guarded([&] {
      const auto directory = files_.open_directory(root_.path());
      stats.exists = directory.has_value();
      stats.writable = directory && files_.is_writable(*directory);
      scan(count);
    });
  } catch (const InputError& error) {
    stats.problem = error.what();
  }
  return stats;
}

StoredEntry Maintenance::show(std::string_view prefix) {
  std::vector<EntryName> matches;
  std::optional<Checked> checked;
  const auto match = [&](const FileHandle& shard, const Item& item) {
    if (item.kind != ItemKind::kEntry) return;
    const bool matched =
        item.file_name.starts_with(prefix) || item.name.artifact.hex().starts_with(prefix);
    if (!matched) return;
    matches.push_back(item.name);
    if (matches.size() == 1) checked = check(root_, shard, item.name);
  };
  guarded([&] { scan(match); });
  if (matches.size() > 1) {
    constexpr std::size_t kNamed = 4;  // enough to see where they differ
    std::string names;
    for (std::size_t i = 0; i < matches.size() && i < kNamed; ++i) {
      names += ' ' + matches[i].file_name();
    }
    throw SpecError("digest", prefix,
                    fmt::format("more digits; it fits {} entries:{}{}", matches.size(), names,
                                matches.size() > kNamed ? " ..." : ""));
  }
  if (!checked) {
    throw SpecError("digest", prefix,
                    fmt::format("the start of a digest of an entry in '{}'", root_.path()));
  }
  if (!checked->stored) throw InputError(root_.entry_path(matches.front()), checked->detail);
  return std::move(*checked->stored);
}

VerifyReport Maintenance::verify() {
  VerifyReport report;
  const auto verify_item = [&](const FileHandle& shard, const Item& item) {
    if (item.kind != ItemKind::kEntry) return;
    const auto checked = check(root_, shard, item.name);
    if (!checked) return;
    ++report.checked;
    if (checked->rejected) {
      report.damaged.push_back({item.path, *checked->rejected, checked->detail});
    }
  };
  guarded([&] { scan(verify_item); });
  return report;
}

// True if a living process uses the root. Its locks would be worth nothing without the file.
bool Maintenance::is_locked(const FileHandle& layout) {
  try {
    const FileHandle file = root_.open_lock_file(layout);
    return !files_.try_lock(file, 0, /*to the end*/ 0, LockKind::kExclusive);
  } catch (const FileError&) {
    return false;  // no locks here: nobody holds one
  }
}

void Maintenance::clear_item(const FileHandle& directory, const Item& item, ClearReport& report) {
  const auto info = files_.info_at(directory, item.file_name);
  if (!info) return;
  const bool ours = item.kind != ItemKind::kStranger && info->kind == FileKind::kFile;
  if (!ours) {
    report.kept.push_back(item.path);
    return;
  }
  const bool temporary = item.kind == ItemKind::kTemporary;
  if (temporary && files_.now() - info->modified < kTemporaryLifetime) return;  // being written
  if (item.file_name == kLockFile && item.shard.empty() && is_locked(directory)) return;
  try {
    if (!files_.remove_file_at(directory, item.file_name)) return;
  } catch (const FileError& error) {
    report.kept.push_back(fmt::format("{} ({})", item.path, error.what()));
    return;
  }
  if (item.kind == ItemKind::kEntry) ++report.entries;
  if (temporary) ++report.temporaries;
  report.allocated_bytes += info->allocated_bytes;
}

void Maintenance::remove_empty_directories() {
  const auto root = root_.open();
  if (!root) return;
  const auto layout = root_.open_layout(*root);
  if (!layout) return;
  for (const std::string& name : files_.list(*layout)) {
    const auto info = files_.info_at(*layout, name);
    if (is_shard_name(name) && info && info->kind == FileKind::kDirectory) {
      files_.remove_directory_at(*layout, name);
    }
  }
  files_.remove_directory_at(*root, kLayoutFolder);
}

ClearReport Maintenance::clear() {
  ClearReport report;
  guarded([&] {
    scan([&](const FileHandle& directory, const Item& item) {
      clear_item(directory, item, report);
    });
    remove_empty_directories();
  });
  return report;
}

}  // namespace ktjit::cache
