#include "cache/sweeper.h"

#include <string>

namespace ktjit::cache {
namespace {

// The first byte of the lock file says whether a sweep is wanted. Whoever wants one writes it, then
// tries for the lock; whoever has the lock takes the wish back before the sweep, and looks again
// after having given up the lock. So no wish is lost, and nobody waits.
constexpr char kNone = '0';
constexpr char kOverLimit = '1';  // entries in use were in the way: for whoever ends next
constexpr char kAsked = '2';      // by a process that is ending
constexpr std::uint64_t kRequestAt = 0;

// Each round is another process's wish; a file that can't be changed must not keep us forever.
constexpr int kMostRounds = 1000;

constexpr std::uint64_t kBlockBytes = 4096;  // what a file takes at least, on most disks

void add(Eviction& total, const Eviction& round) {
  Eviction sum = round;
  sum.entries += total.entries;
  sum.bytes += total.bytes;
  sum.temporaries += total.temporaries;
  if (sum.problem.empty()) {
    sum.problem = total.problem;
    sum.problem_code = total.problem_code;
  }
  total = sum;
}

}  // namespace

std::optional<Eviction> Sweeper::after_store(std::uint64_t file_bytes, Locking locking) {
  const std::uint64_t bytes = (file_bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  {
    const std::lock_guard guard(mutex_);
    ++stores_;
    estimated_bytes_ += bytes;
    const bool is_over = estimated_bytes_ > most_bytes_ && !is_stuck_;
    const bool is_due = !has_swept_ || is_over || stores_ >= kStoresPerSweep;
    if (sweeping_ || !is_due) return std::nullopt;
    sweeping_ = true;
    stores_ = 0;
    estimated_bytes_ = 0;
  }
  std::optional<Eviction> report;
  try {
    report = evict_to(root_, most_bytes_, locking);
  } catch (...) {
    const std::lock_guard guard(mutex_);
    sweeping_ = false;
    has_swept_ = true;
    throw;
  }
  const std::lock_guard guard(mutex_);
  sweeping_ = false;
  if (report->busy) {
    estimated_bytes_ += bytes;
    return std::nullopt;  // after the next store, then
  }
  has_swept_ = true;
  is_stuck_ = report->left_bytes > most_bytes_;
  estimated_bytes_ += report->left_bytes;  // beside what other threads stored meanwhile
  return report;
}

char Sweeper::request(const FileHandle& layout) const {
  const auto content = root_.read_file(layout, kLockFile, /*most_bytes=*/1);
  return content && !content->empty() ? content->front() : kNone;
}

// Sweeps as long as that is asked for, unless another process is at it.
Eviction Sweeper::sweep_requested(const FileHandle& layout) {
  FileSystem& files = root_.files();
  Eviction total;
  for (int round = 0; round < kMostRounds; ++round) {
    HeldLock lock = try_sweep_lock(root_, layout);
    if (!lock) break;  // who has it looks at the request again
    const FileHandle& file = lock.handle().file();
    files.write_at(file, kRequestAt, std::string(1, kNone));
    add(total, evict_locked(root_, layout, most_bytes_, &lock.handle()));
    if (total.left_bytes > most_bytes_) {
      // A process may have ended since its entries were passed over, and found no request.
      files.write_at(file, kRequestAt, std::string(1, kOverLimit));
      add(total, evict_locked(root_, layout, most_bytes_, &lock.handle()));
    }
    lock.release();
    if (request(layout) != kAsked) break;
  }
  return total;
}

std::optional<Eviction> Sweeper::at_end(bool has_stored, Locking locking) {
  if (most_bytes_ == kNoSizeLimit) return std::nullopt;
  const auto folder = root_.open();
  if (!folder) return std::nullopt;
  const auto layout = root_.open_layout(*folder);
  if (!layout) return std::nullopt;
  if (locking == Locking::kFails) {
    if (!has_stored) return std::nullopt;
    return evict_locked(root_, *layout, most_bytes_, nullptr);
  }
  if (has_stored) {
    root_.files().write_at(root_.open_lock_file(*layout), kRequestAt, std::string(1, kAsked));
  } else if (request(*layout) == kNone) {
    return std::nullopt;
  }
  return sweep_requested(*layout);
}

}  // namespace ktjit::cache
