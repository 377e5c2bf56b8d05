#include "cache/eviction.h"

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <vector>

#include "cache/atomic_file.h"

namespace ktjit::cache {
namespace {

using Stamp = std::optional<std::chrono::sys_seconds>;  // nothing: before all others

struct Candidate {
  EntryName name;
  std::uint64_t bytes = 0;
  Stamp used;
  bool is_note = false;
};

// What a sweep meets when others change the folder at the same time.
bool is_gone(std::error_code code) {
  return code == std::errc::no_such_file_or_directory || code.value() == ESTALE ||
         code == std::errc::device_or_resource_busy || code == std::errc::not_a_directory ||
         code == std::errc::directory_not_empty;
}

class Sweep {
 public:
  Sweep(const CacheRoot& root, const FileHandle& layout, LockHandle* locks)
      : root_(root), files_(root.files()), layout_(layout), locks_(locks) {}

  Eviction run(std::uint64_t most_bytes) {
    scan();
    if (report_.left_bytes > most_bytes) {
      for (Candidate& candidate : candidates_) {
        going_on([&] {
          const CacheRoot::EntryHead head = read_head(candidate.name);
          candidate.used = head.used;
          candidate.is_note = head.is_note;
        });
      }
      std::sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) {
        return std::tie(a.is_note, a.used, a.name) < std::tie(b.is_note, b.used, b.name);
      });
      for (const Candidate& candidate : candidates_) {
        if (report_.left_bytes <= most_bytes) break;
        going_on([&] { evict(candidate); });
      }
    }
    return report_;
  }

 private:
  // One file's or folder's trouble does not end the sweep.
  template <typename Work>
  void going_on(Work work) {
    try {
      work();
    } catch (const FileError& error) {
      if (is_gone(error.code()) || !report_.problem.empty()) return;
      report_.problem = error.what();
      report_.problem_code = error.code();
    }
  }

  void scan() {
    for (const std::string& name : files_.list(layout_)) {
      if (is_temporary_name(name)) going_on([&] { remove_if_stale(layout_, name); });
      if (is_shard_name(name)) going_on([&] { scan_shard(name); });
    }
  }

  void scan_shard(const std::string& shard_name) {
    const auto shard = root_.open_shard(layout_, shard_name);
    if (!shard) return;
    for (const std::string& file_name : files_.list(*shard)) {
      if (is_temporary_name(file_name)) going_on([&] { remove_if_stale(*shard, file_name); });
      const auto name = EntryName::parse(file_name);
      if (!name || name->shard() != shard_name) continue;
      going_on([&] {
        const auto info = files_.info_at(*shard, file_name);
        if (!info || info->kind != FileKind::kFile) return;
        candidates_.push_back({*name, info->allocated_bytes, {}});
        ++report_.left_entries;
        report_.left_bytes += info->allocated_bytes;
      });
    }
  }

  void remove_if_stale(const FileHandle& directory, const std::string& name) {
    const auto info = files_.info_at(directory, name);
    if (!info || info->kind != FileKind::kFile) return;
    if (files_.now() - info->modified < kTemporaryLifetime) return;
    if (files_.remove_file_at(directory, name)) ++report_.temporaries;
  }

  // The folder of an entry, kept open for the next one; null if it is gone.
  const FileHandle* shard_of(const EntryName& name) {
    if (shard_name_ != name.shard()) {
      shard_name_.clear();
      shard_ = root_.open_shard(layout_, name.shard());
      shard_name_ = name.shard();
    }
    return shard_ ? &*shard_ : nullptr;
  }

  CacheRoot::EntryHead read_head(const EntryName& name) {
    const FileHandle* shard = shard_of(name);
    return shard ? root_.read_head(*shard, name.file_name()) : CacheRoot::EntryHead{};
  }

  bool is_young(const Stamp& used) const { return used && files_.now() - *used < kUnlockedGrace; }

  void evict(const Candidate& candidate) {
    if (!locks_) {
      if (is_young(candidate.used)) {
        ++report_.in_use_entries;
      } else {
        remove(candidate);
      }
      return;
    }
    const std::uint64_t byte = use_lock_byte(candidate.name.artifact);
    if (!locks_->try_lock(byte, LockKind::kExclusive)) {
      ++report_.in_use_entries;
      return;
    }
    try {
      remove(candidate);
    } catch (const FileError&) {
      locks_->unlock(byte);
      throw;
    }
    locks_->unlock(byte);
  }

  void remove(const Candidate& candidate) {
    const std::string file_name = candidate.name.file_name();
    if (const FileHandle* shard = shard_of(candidate.name)) {
      // Used since it was listed: then it is not the oldest any more.
      const bool is_as_listed = read_head(candidate.name).used == candidate.used;
      if (!is_as_listed && files_.info_at(*shard, file_name)) return;
      if (files_.remove_file_at(*shard, file_name)) {
        ++report_.entries;
        report_.bytes += candidate.bytes;
      }
    }
    --report_.left_entries;
    report_.left_bytes -= candidate.bytes;
  }

  const CacheRoot& root_;
  FileSystem& files_;
  const FileHandle& layout_;
  LockHandle* locks_;
  std::string shard_name_;
  std::optional<FileHandle> shard_;
  std::vector<Candidate> candidates_;
  Eviction report_;
};

}  // namespace

HeldLock try_sweep_lock(const CacheRoot& root, const FileHandle& layout) {
  LockHandle locks(root.files(), root.open_lock_file(layout));
  if (!locks.try_lock(kSweepLockByte, LockKind::kExclusive)) return {};
  return HeldLock(std::move(locks), kSweepLockByte);
}

Eviction evict_locked(const CacheRoot& root, const FileHandle& layout, std::uint64_t most_bytes,
                      LockHandle* locks) {
  return Sweep(root, layout, locks).run(most_bytes);
}

Eviction evict_to(const CacheRoot& root, std::uint64_t most_bytes, Locking locking) {
  const auto folder = root.open();
  if (!folder) return {};
  const auto layout = root.open_layout(*folder);
  if (!layout) return {};
  if (locking == Locking::kFails) return evict_locked(root, *layout, most_bytes, nullptr);
  HeldLock sweep = try_sweep_lock(root, *layout);
  if (sweep) return evict_locked(root, *layout, most_bytes, &sweep.handle());
  Eviction report;
  report.busy = true;
  return report;
}

}  // namespace ktjit::cache
