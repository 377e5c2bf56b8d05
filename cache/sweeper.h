// Decides when this process sweeps its writable root, so that the root stays within its limit
// without a scan for every store, and is within it when the last process has ended.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include "cache/eviction.h"

namespace ktjit::cache {

/// Errors:  FileError, TrustError.
/// Threads: safe to call from several threads; one of them sweeps.
class Sweeper {
 public:
  /// `most_bytes`: kNoSizeLimit for a root that grows as it likes.
  Sweeper(const CacheRoot& root, std::uint64_t most_bytes) : root_(root), most_bytes_(most_bytes) {}

  /// To be called after each store. Sweeps after the first one, when the entries may have passed
  /// the limit, and after each kStoresPerSweep of them; else nothing.
  std::optional<Eviction> after_store(std::uint64_t file_bytes, Locking locking);

  /// To be called at the end, when nothing is in use by this process any more. `has_stored` or not,
  /// it sweeps if another process could not remove enough because of entries in use.
  std::optional<Eviction> at_end(bool has_stored, Locking locking);

  static constexpr int kStoresPerSweep = 256;

 private:
  Eviction sweep_requested(const FileHandle& layout);
  char request(const FileHandle& layout) const;

  const CacheRoot& root_;
  const std::uint64_t most_bytes_;
  std::mutex mutex_;
  bool sweeping_ = false;
  bool has_swept_ = false;
  bool is_stuck_ = false;  // the last sweep left more than the limit: all the rest is in use
  int stores_ = 0;         // since the last sweep
  std::uint64_t estimated_bytes_ = 0;
};

}  // namespace ktjit::cache
