#include "cache/maintenance.h"

#include <filesystem>
#include <fmt/format.h>

#include "cache/atomic_file.h"
#include "cache/ledger.h"
#include "cache/trust.h"
#include "core/error.h"

namespace ktjit::cache {
namespace {

// Puts what the bytes are, or why there are none, into `entry`.
void check_into(CheckedEntry& entry, const EntryFile& file) {
  if (file.rejected) {
    entry.rejected = file.rejected;
    entry.detail = file.detail;
    return;
  }
  auto stored = decode_stored(entry.name, file.bytes);
  if (const auto* reason = std::get_if<RejectReason>(&stored)) {
    entry.rejected = *reason;
    entry.detail = to_text(*reason);
  } else {
    entry.stored = std::move(std::get<StoredEntry>(stored));
  }
}

}  // namespace

Maintenance::Maintenance(RootOptions root, FileSystem& files)
    : files_(files), options_(root), root_(files, std::move(root)) {}

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

std::optional<PackFile> Maintenance::try_open_pack() {
  if (!is_pack_path(files_, options_.path)) return std::nullopt;
  return PackFile(files_, options_);
}

// Entries of which `wanted` says no are not read.
void Maintenance::visit_if(const Wanted& wanted,
                           const std::function<void(CheckedEntry entry)>& work) {
  const auto visit_item = [&](const FileHandle& shard, const Item& item) {
    if (item.kind != ItemKind::kEntry || !wanted(item.name)) return;
    const auto info = files_.info_at(shard, item.file_name);
    const auto file = root_.read_entry(shard, item.name);
    if (!info || !file) return;  // removed since it was listed
    CheckedEntry entry;
    entry.name = item.name;
    entry.path = item.path;
    entry.size_bytes = info->size_bytes;
    entry.allocated_bytes = info->allocated_bytes;
    entry.modified = info->modified;
    entry.used = stamp_of(file->bytes);
    check_into(entry, *file);
    work(std::move(entry));
  };
  guarded([&] {
    const auto pack = try_open_pack();
    if (!pack) return scan(visit_item);
    for (const PackItem& item : pack->items()) {
      if (!wanted(item.name)) continue;
      CheckedEntry entry;
      entry.name = item.name;
      entry.path = pack->entry_path(item.name);
      entry.size_bytes = entry.allocated_bytes = item.size_bytes;
      check_into(entry, pack->read(item));
      work(std::move(entry));
    }
  });
}

void Maintenance::visit(const std::function<void(CheckedEntry entry)>& work) {
  visit_if([](const EntryName&) { return true; }, work);
}

std::vector<ListedEntry> Maintenance::list() {
  std::vector<ListedEntry> entries;
  visit([&](CheckedEntry checked) {
    ListedEntry& entry = entries.emplace_back();
    entry.name = checked.name;
    entry.size_bytes = checked.size_bytes;
    entry.allocated_bytes = checked.allocated_bytes;
    entry.modified = checked.modified;
    entry.used = checked.used;
    entry.rejected = checked.rejected;
    if (!checked.stored) return;
    entry.manifest = std::move(checked.stored->entry.manifest);
    for (const Field& blob : checked.stored->entry.blobs.fields()) {
      entry.blobs.push_back({blob.name, blob.value.size()});
    }
  });
  return entries;
}

void Maintenance::count_folder(RootStats& stats) {
  const auto directory = files_.open_directory(root_.path());
  stats.exists = directory.has_value();
  stats.writable = directory && files_.is_writable(*directory);
  scan([&](const FileHandle& folder, const Item& item) {
    switch (item.kind) {
      case ItemKind::kEntry:
        if (const auto info = files_.info_at(folder, item.file_name)) {
          ++stats.entries;
          if (root_.read_head(folder, item.file_name).is_note) ++stats.notes;
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
  });
}

RootStats Maintenance::stats() {
  RootStats stats;
  stats.path = root_.path();
  try {
    guarded([&] {
      stats.exists = is_pack_path(files_, stats.path);
      const auto pack = try_open_pack();
      if (!pack) return count_folder(stats);
      stats.pack = pack->manifest();
      stats.entries = pack->items().size();
      stats.allocated_bytes = pack->size_bytes();
    });
  } catch (const InputError& error) {
    stats.problem = error.what();
  }
  return stats;
}

StoredEntry Maintenance::show(std::string_view prefix) {
  std::vector<EntryName> matches;
  const auto is_first_match = [&](const EntryName& name) {
    const bool matched =
        name.file_name().starts_with(prefix) || name.artifact.hex().starts_with(prefix);
    if (matched) matches.push_back(name);
    return matched && matches.size() == 1;
  };
  std::optional<CheckedEntry> entry;
  visit_if(is_first_match, [&](CheckedEntry checked) { entry = std::move(checked); });
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
  if (!entry) {
    throw SpecError("digest", prefix,
                    fmt::format("the start of a digest of an entry in '{}'", root_.path()));
  }
  if (!entry->stored) throw InputError(entry->path, entry->detail);
  return std::move(*entry->stored);
}

VerifyReport Maintenance::verify() {
  VerifyReport report;
  visit([&](const CheckedEntry& entry) {
    ++report.checked;
    if (entry.rejected) report.damaged.push_back({entry.path, *entry.rejected, entry.detail});
  });
  return report;
}

DiskCacheStats Maintenance::counters() {
  DiskCacheStats counters;
  guarded([&] {
    if (!try_open_pack()) counters = read_ledger(root_).statistics;
  });
  return counters;
}

Eviction Maintenance::prune(std::uint64_t most_bytes) {
  Eviction eviction;
  guarded([&] {
    try {
      eviction = evict_to(root_, most_bytes, Locking::kWorks);
    } catch (const FileError&) {
      // Perhaps no locks here; what else is wrong, this finds again.
      eviction = evict_to(root_, most_bytes, Locking::kFails);
    }
  });
  return eviction;
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

void Maintenance::clear_item(const FileHandle& directory, const Item& item, Notes notes,
                             ClearReport& report) {
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
  const bool is_note =
      item.kind == ItemKind::kEntry && root_.read_head(directory, item.file_name).is_note;
  if (is_note && notes == Notes::kKeep) return;
  try {
    if (!files_.remove_file_at(directory, item.file_name)) return;
  } catch (const FileError& error) {
    report.kept.push_back(fmt::format("{} ({})", item.path, error.what()));
    return;
  }
  if (item.kind == ItemKind::kEntry) ++report.entries;
  if (is_note) ++report.notes;
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

ClearReport Maintenance::clear(Notes notes) {
  ClearReport report;
  guarded([&] {
    scan([&](const FileHandle& directory, const Item& item) {
      clear_item(directory, item, notes, report);
    });
    remove_empty_directories();
  });
  return report;
}

}  // namespace ktjit::cache
