// Tuning records in the cache, and what was decided by them, so that asking again costs next to nothing.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <stop_token>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache/disk_cache.h"
#include "jit/tuning_record.h"
#include "runtime/device.h"

namespace ktjit {

/// A record that is missing, damaged, of another device or version is none: no errors but where said.
/// Threads: safe to call from several threads.
class TuningStore {
 public:
  explicit TuningStore(cache::DiskCache& disk) : disk_(disk) {}

  /// What the record says for this spec (whose knobs don't matter), or nothing. The first time for a spec
  /// and size the cache is read; then this process's memory answers, until it adds to the record.
  /// `is_usable` is asked once for knobs that would be given: false for ones that can't be emitted, or
  /// whose kernel can't be had.
  std::optional<TunedKnobs> find_knobs(const runtime::Device& device, const KernelSpec& spec,
                                       const TuningSize& size,
                                       const std::function<bool(const KernelSpec&)>& is_usable);

  /// Whether there is a folder that records are written to.
  bool keeps() const { return disk_.has_writable_root(); }

  /// The record as the cache has it now.
  std::optional<TuningRecord> read(const runtime::Device& device, const KernelSpec& spec);

  /// The records of this spec's for all devices, as entries with their keys.
  std::vector<std::pair<cache::CacheKey, cache::Entry>> all_records(const KernelSpec& spec);

  /// The right to change a record: one process at a time has it.
  struct Update {
    TuningRecord record;   ///< as it is; to be changed
    cache::HeldLock lock;  ///< empty if the cache can't be written or locked
  };
  /// Waits for other processes that tune the same spec. Errors: InterruptedError if `stop` ends the wait.
  Update begin_update(const runtime::Device& device, const KernelSpec& spec,
                      const std::stop_token& stop);
  /// Keeps the record, in the cache if that can be written, and for this process in any case.
  void finish_update(const runtime::Device& device, const KernelSpec& spec, Update update);

 private:
  struct Decision {
    TuningSize size;
    std::optional<TunedKnobs> knobs;
  };
  struct Known {
    KernelSpec spec;
    SpeedIdentity device;
    std::optional<TuningRecord> record;
    std::vector<Decision> decisions;
  };
  using Table = std::unordered_multimap<std::size_t, Known>;

  Known* find_known(const KernelSpec& spec, const SpeedIdentity& device);  // with mutex_ held

  cache::DiskCache& disk_;
  std::shared_mutex mutex_;
  Table known_;
};

}  // namespace ktjit
