// What was measured of a kernel's knobs on a kind of device, and its form as a cache entry
// (docs/TUNING.md). Equal specs give equal text: knobs enter the spec before anything is emitted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/cache_key.h"
#include "cache/entry_format.h"
#include "core/kernel_spec.h"

namespace ktjit {

/// As runtime::Device::speed_identity gives it.
using SpeedIdentity = std::vector<std::pair<std::string, std::string>>;

/// What a kernel is run on. 0: not known.
struct TuningSize {
  std::int64_t rows = 0;  ///< of w
  std::int64_t n = 0;     ///< products: rows of x

  bool operator==(const TuningSize&) const = default;
};

/// One set of knobs on one size.
struct KnobTiming {
  Tuning tuning;
  double median_us = 0;  ///< of one launch; 0 if it was not measured
  /// Of the times, as a share of the median: how far apart the first and the third quartile lie.
  double spread = 0;
  double gbps = 0;      ///< bytes that the op has to move, by the median
  std::string problem;  ///< why it can't win: it doesn't compile, or is wrong; empty if it could

  bool is_timed() const { return problem.empty() && median_us > 0; }
  bool operator==(const KnobTiming&) const = default;
};

/// All that was measured for one size.
struct TunedSize {
  TuningSize size;
  Tuning best;           ///< one of the timings', whose result was right
  bool complete = true;  ///< false: the time given ended before all candidates were measured
  std::string compiler;  ///< who made the kernels, for people
  std::vector<KnobTiming> timings;  ///< the first is the default's

  /// REQUIRES: timings has these knobs.
  const KnobTiming& timing_of(const Tuning& tuning) const;
  bool operator==(const TunedSize&) const = default;
};

/// Of one spec on one kind of device; sizes are in the order of rows, then n, each once.
struct TuningRecord {
  std::vector<TunedSize> sizes;

  const TunedSize* find(const TuningSize& size) const;
  /// Puts it in, in place of an older one of the same size. Of more than kMostTunedSizes the one that is
  /// nearest to another goes, never the new one.
  void add(TunedSize tuned);
  bool operator==(const TuningRecord&) const = default;
};
inline constexpr std::size_t kMostTunedSizes = 32;

/// Knobs that a record says are the fastest, with what they are compared with.
struct TunedKnobs {
  Tuning tuning;
  double gbps = 0;
  double default_gbps = 0;
  TuningSize size;  ///< that was measured

  bool operator==(const TunedKnobs&) const = default;
};

/// The knobs for launches of this size: those of the nearest size that was measured, if neither rows nor n
/// differ from it by more than a factor of two. Where rows (or n) are not known: what is best over all
/// sizes that were measured, by the mean of the logarithms of times.
std::optional<TunedKnobs> choose_knobs(const TuningRecord& record, const TuningSize& size);

/// "threads 256, rows_per_warp 2", in the order of the table of knobs; "default" if all are 0.
std::string knobs_text(const Tuning& tuning);
/// "tuned: threads 256: 4120 GB/s against 3900 by default".
std::string tuned_text(const TunedKnobs& knobs);

/// The knobs by name, those that are not 0: how they stand in records and JSON.
std::vector<std::pair<std::string, int>> knob_values(const Tuning& tuning);
/// Nothing if a name is no knob's.
std::optional<Tuning> to_tuning(const std::vector<std::pair<std::string, int>>& values);

/// The spec that records are kept under: with default knobs.
KernelSpec without_tuning(KernelSpec spec);

/// The key of the record: the request is the spec without its knobs and the emitter's version, the second
/// part is the device's identity, so that one request finds the records of all devices.
cache::CacheKey tuning_key(const KernelSpec& spec, const SpeedIdentity& device);
/// The request part alone.
cache::KeyFields tuning_request(const KernelSpec& spec);

cache::Entry to_entry(const TuningRecord& record, const KernelSpec& spec,
                      const SpeedIdentity& device);
/// Nothing if the entry is no record that this version writes, or doesn't make sense.
std::optional<TuningRecord> to_tuning_record(const cache::Entry& entry);
/// Whether the entry says that it is a record, for listings.
bool is_tuning_record(const cache::Entry& entry);

}  // namespace ktjit
