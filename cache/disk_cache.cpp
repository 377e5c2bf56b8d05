#include "cache/disk_cache.h"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <fmt/format.h>
#include <thread>
#include <unistd.h>

#include "cache/entry_name.h"
#include "cache/interrupted.h"
#include "cache/stamp.h"
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
  if (code == std::errc::no_lock_available || code == std::errc::function_not_supported ||
      code == std::errc::operation_not_supported) {
    return "choose a cache folder on a file system with locks";
  }
  return "check the folder, or choose another";
}

// The pause between two tries for a lock, of which the longest bounds how late a waiter notices.
class Pause {
 public:
  void sleep() {
    std::this_thread::sleep_for(next_);
    next_ = std::min(next_ * 3 / 2, kLongest);
  }

 private:
  static constexpr std::chrono::microseconds kLongest{10000};
  std::chrono::microseconds next_{1000};
};

}  // namespace

DiskCache::DiskCache(DiskCacheOptions options)
    : files_(*options.files),
      warnings_(std::move(options.log)),
      packs_(files_, options.read_only,
             [this](const std::string& pack, std::optional<RejectReason> reason,
                    const std::string& detail) { report_pack(pack, reason, detail); }),
      roots_([&] {
        std::vector<Root> roots;
        if (options.writable) {
          roots.emplace_back(files_, std::move(*options.writable), /*is_read_only=*/false);
        }
        for (RootOptions& root : options.read_only) {  // but for the packs, which are taken out
          roots.emplace_back(files_, std::move(root), /*is_read_only=*/true);
        }
        return roots;
      }()),
      lock_time_limit_(options.lock_time_limit),
      ledger_(writable_root()),
      process_(::getpid()) {
  const bool is_limited = options.max_bytes && *options.max_bytes > 0;
  if (const CacheRoot* root = writable_root()) {
    upkeep_.reset(new Upkeep{UseLocks(*root),
                             Sweeper(*root, is_limited ? *options.max_bytes : kNoSizeLimit)});
  }
}

DiskCache::~DiskCache() {
  // A forked child that never used the cache leaves everything to its parent.
  if (!upkeep_ || process_ != ::getpid()) return;
  const bool had_uses = upkeep_->uses.release();
  const bool has_stored = stores_ > of_parent_.stores;
  if (had_uses || has_stored) {
    guarded(roots_.front(), [&] { count(upkeep_->sweeper.at_end(has_stored, locking())); });
  }
  ledger_.write(stats() - of_parent_);
}

const CacheRoot* DiskCache::writable_root() const {
  return roots_.empty() || roots_.front().read_only ? nullptr : &roots_.front().folder;
}

// To be called first by whatever counts.
void DiskCache::note_process() {
  const pid_t process = ::getpid();
  if (process_ == process) return;
  const std::lock_guard guard(fork_mutex_);
  if (process_ == process) return;
  of_parent_ = stats();
  ledger_.forget_unwritten();
  process_ = process;
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

void DiskCache::warn_of(const Root& root, std::error_code code, std::string_view what) {
  warn(root, code.message(),
       fmt::format("{}; kernels may be compiled again; {}", what, cure_for(code)));
}

// The border that no exception passes: true if `work` came to its end.
template <typename Work>
bool DiskCache::guarded(const Root& root, Work work) {
  try {
    work();
    return true;
  } catch (const FileError& error) {
    warn_of(root, error.code(), error.what());
  } catch (const TrustError& error) {
    warn(root, "trust", fmt::format("not used: {}", error.what()));
  } catch (const std::exception& error) {
    warn(root, error.what(), fmt::format("{}; kernels may be compiled again", error.what()));
  }
  return false;
}

void DiskCache::reject(const Root& root, const Rejection& rejection) {
  const auto& [reason, detail, code] = rejection;
  ++rejected_[static_cast<std::size_t>(reason)];
  // A disk that fails in all it does is one trouble.
  warn(root, code ? code.message() : std::string(to_text(reason)),
       fmt::format("an entry was not used ({}): {}", to_text(reason), detail));
}

std::shared_ptr<const OpenFolders> DiskCache::Root::known_folders() const {
  const std::lock_guard guard(known->mutex);
  return known->folders;
}

void DiskCache::Root::know(std::shared_ptr<const OpenFolders> folders) const {
  const std::lock_guard guard(known->mutex);
  known->folders = std::move(folders);
}

// The folders as the root's path leads to them now; null if they are absent.
std::shared_ptr<const OpenFolders> DiskCache::open_folders(const Root& root) {
  root.know(nullptr);
  auto opened = root.folder.open_folders();
  if (!opened) {
    if (root.read_only && !root.folder.open()) {
      warn(root, "absent", "no such folder; nothing is looked up there");
    }
    return nullptr;
  }
  auto folders = std::make_shared<const OpenFolders>(std::move(*opened));
  root.know(folders);
  return folders;
}

std::optional<FileHandle> DiskCache::open_shard(const Root& root, const std::string& shard) {
  const auto folders = open_folders(root);
  return folders ? root.folder.open_shard(folders->layout, shard) : std::nullopt;
}

// Nothing if the entry is absent.
std::optional<DiskCache::Lookup> DiskCache::look_into(const Root& root, const OpenFolders& folders,
                                                      const HashedKey& key) {
  const EntryName name = name_of(key);
  const auto shard = root.folder.open_shard(folders.layout, name.shard());
  if (!shard) return std::nullopt;
  const auto file = root.folder.read_entry(*shard, name);
  if (!file) return std::nullopt;
  if (file->rejected) return Lookup{{}, Rejection{*file->rejected, file->detail, file->code}};
  auto entry = decode_entry_of(key.text, file->bytes);
  if (const auto* reason = std::get_if<RejectReason>(&entry)) {
    return Lookup{{}, Rejection{*reason, fmt::format("'{}'", root.folder.entry_path(name)), {}}};
  }
  mark_used(root, *shard, name, file->bytes);
  return Lookup{std::move(std::get<Entry>(entry)), {}};
}

DiskCache::Lookup DiskCache::try_look_up(const Root& root, const HashedKey& key) {
  if (const auto known = root.known_folders()) {
    root.folder.check_trust(*known);
    if (auto found = look_into(root, *known, key)) return std::move(*found);
    // The folders may have been removed and made again since they were opened.
  }
  const auto folders = open_folders(root);
  if (!folders) return {};
  auto found = look_into(root, *folders, key);
  return found ? std::move(*found) : Lookup{};
}

// Looks into one root. Counts nothing: the caller knows whether this look is the last.
DiskCache::Lookup DiskCache::look_up(const Root& root, const HashedKey& key) {
  Lookup result;
  guarded(root, [&] {
    try {
      result = try_look_up(root, key);
    } catch (const FileError& error) {
      root.know(nullptr);
      if (error.code().value() != ESTALE) throw;
      result = try_look_up(root, key);
    }
    // A process that sets the stamp may have been half through.
    const bool is_half_stamped =
        result.rejection && result.rejection->reason == RejectReason::kBadStamp;
    if (is_half_stamped) result = try_look_up(root, key);
  });
  return result;
}

// Looks into all roots.
std::optional<Entry> DiskCache::find_hashed(const CacheKey& key, const HashedKey& hashed,
                                            bool& was_rejected) {
  for (const Root& root : roots_) {
    Lookup found = look_up(root, hashed);
    if (found.entry) return std::move(found.entry);
    if (!found.rejection) continue;
    was_rejected = true;
    reject(root, *found.rejection);
  }
  return packs_.find(key, hashed);
}

std::optional<Entry> DiskCache::find_uncounted(const CacheKey& key) {
  note_process();
  bool was_rejected = false;
  const bool has_places = !roots_.empty() || !packs_.empty();
  return has_places ? find_hashed(key, key.hashed(), was_rejected) : std::nullopt;
}

std::optional<Entry> DiskCache::find(const CacheKey& key) {
  auto entry = find_uncounted(key);
  ++(entry ? hits_ : misses_);
  return entry;
}

std::optional<Entry> DiskCache::find_note(const CacheKey& key) {
  note_process();
  if (roots_.empty() && packs_.empty()) return std::nullopt;
  const HashedKey hashed = key.hashed();
  for (const Root& root : roots_) {
    Lookup found = look_up(root, hashed);
    if (found.entry) return std::move(found.entry);
    if (found.rejection) reject(root, *found.rejection);
  }
  return packs_.find_exact(key, hashed);
}

std::optional<Entry> DiskCache::find_before_claim(const CacheKey& key) {
  auto entry = find_uncounted(key);
  if (entry) ++hits_;
  return entry;
}

// Nothing if locks fail here: then there is one warning, and no further try.
std::optional<bool> DiskCache::try_lock(LockHandle& handle, std::uint64_t byte) {
  std::optional<bool> locked;
  const bool works =
      guarded(roots_.front(), [&] { locked = handle.try_lock(byte, LockKind::kExclusive); });
  if (!works) locks_work_ = false;
  return locked;
}

// The lock of who makes the entry. Empty where there is none, at the time limit, and as soon as
// `is_needless`, asked while somebody else has the lock, says yes.
HeldLock DiskCache::lock_until(const HashedKey& key, const std::stop_token& stop,
                               const std::function<bool()>& is_needless) {
  const Root& root = roots_.front();
  std::optional<LockHandle> handle;
  guarded(root, [&] {
    const FileHandle layout = root.folder.make_layout();
    handle.emplace(files_, root.folder.open_lock_file(layout));
  });
  if (!handle) return {};

  const auto start = std::chrono::steady_clock::now();
  const std::uint64_t byte = make_lock_byte(key.artifact);
  Pause pause;
  for (bool waited = false;; waited = true) {
    const auto locked = try_lock(*handle, byte);
    if (!locked) return {};
    if (*locked) return HeldLock(std::move(*handle), byte);
    if (!waited) ++waits_;
    if (waited && is_needless()) return {};
    if (std::chrono::steady_clock::now() - start >= lock_time_limit_) {
      warn(root, "lock time limit",
           fmt::format("another process has been making a kernel for {} ms; this one makes it too",
                       lock_time_limit_.count()));
      return {};
    }
    if (stop.stop_requested()) throw Interrupted();
    pause.sleep();
  }
}

void DiskCache::claim(const HashedKey& key, bool was_rejected, const std::stop_token& stop,
                      Claim& result) {
  const Root& root = roots_.front();
  result.lock = lock_until(key, stop, [&] {
    // A damaged entry is there until the holder replaces it, so then only the lock tells.
    if (!was_rejected) result.entry = look_up(root, key).entry;
    return result.entry.has_value();
  });
  if (!result.lock) return;
  // Somebody may have stored it between our look and our lock.
  result.entry = look_up(root, key).entry;
  if (result.entry) result.lock.release();
}

HeldLock DiskCache::lock_entry(const CacheKey& key, const std::stop_token& stop) {
  note_process();
  if (!upkeep_ || !locks_work_) return {};
  return lock_until(key.hashed(), stop, [] { return false; });
}

DiskCache::Claim DiskCache::find_or_claim(const CacheKey& key, const std::stop_token& stop) {
  note_process();
  Claim result;
  if (!roots_.empty() || !packs_.empty()) {
    const HashedKey hashed = key.hashed();
    bool was_rejected = false;
    result.entry = find_hashed(key, hashed, was_rejected);
    if (!result.entry && upkeep_ && locks_work_) claim(hashed, was_rejected, stop, result);
  }
  ++(result.entry ? hits_ : misses_);
  return result;
}

// Keeps the entry from being evicted while this process lives.
void DiskCache::hold(const Digest& artifact) {
  if (!locks_work_) return;
  if (!guarded(roots_.front(), [&] { upkeep_->uses.add(artifact); })) locks_work_ = false;
}

// Says on disk that the entry in `file` is used now.
void DiskCache::mark_used(const Root& root, const FileHandle& shard, const EntryName& name,
                          std::string_view file) {
  if (root.read_only) return;
  hold(name.artifact);
  const auto now = std::chrono::floor<std::chrono::seconds>(files_.now());
  const auto used = stamp_of(file);
  // Also if it lies in the future, where a wrong clock put it.
  const bool is_fresh = used && std::chrono::abs(now - *used) <= kStampLifetime;
  if (is_fresh) return;
  try {
    root.folder.write_stamp(shard, name.file_name(), now);
  } catch (const FileError&) {
    // Who may only read the root leaves the stamps to the others.
  }
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
      reject(root, {*file->rejected, file->detail, file->code});
      continue;
    }
    auto stored = decode_stored(*name, file->bytes);
    if (const auto* reason = std::get_if<RejectReason>(&stored)) {
      reject(root, {*reason, fmt::format("'{}'", root.folder.entry_path(*name)), {}});
      continue;
    }
    mark_used(root, *shard, *name, file->bytes);
    out.push_back(std::move(std::get<StoredEntry>(stored)));
  }
}

std::vector<StoredEntry> DiskCache::find_by_request(const KeyFields& request) {
  note_process();
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

void DiskCache::store(const CacheKey& key, const Entry& entry, HeldLock lock) {
  if (!upkeep_) return;
  note_process();
  const Root& root = roots_.front();
  std::uint64_t file_bytes = 0;
  const bool done = guarded(root, [&] {
    const HashedKey hashed = key.hashed();
    const EntryName name = name_of(hashed);
    const auto now = std::chrono::floor<std::chrono::seconds>(files_.now());
    const std::string file = encode_entry(hashed.text, entry, now);
    const FileHandle shard = root.folder.make_shard(name.shard());
    hold(name.artifact);  // before others can see it, and evict it
    root.folder.write_file(shard, name.file_name(), file, /*sync=*/true);
    file_bytes = file.size();
  });
  lock.release();
  ++(done ? stores_ : failed_stores_);
  if (!done) return;
  guarded(root, [&] { count(upkeep_->sweeper.after_store(file_bytes, locking())); });
}

void DiskCache::count(const std::optional<Eviction>& eviction) {
  if (!eviction) return;
  evicted_entries_ += eviction->entries;
  evicted_bytes_ += eviction->bytes;
  if (eviction->problem.empty()) return;
  warn_of(roots_.front(), eviction->problem_code,
          fmt::format("the folder may grow over its limit: {}", eviction->problem));
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
  DiskCacheStats stats;
  stats.hits = hits_;
  stats.misses = misses_;
  stats.stores = stores_;
  stats.failed_stores = failed_stores_;
  stats.makes = makes_;
  stats.waits = waits_;
  stats.evicted_entries = evicted_entries_;
  stats.evicted_bytes = evicted_bytes_;
  for (std::size_t i = 0; i < kRejectReasons; ++i) stats.rejected[i] = rejected_[i];
  return stats;
}

}  // namespace ktjit::cache
