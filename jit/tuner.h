// Launch shapes are timed, not guessed: measures a few settings of a kernel's knobs on a device and keeps
// the fastest as a record (docs/TUNING.md).
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernel_spec.h"
#include "jit/engine.h"
#include "jit/tuning_record.h"
#include "runtime/device.h"

namespace ktjit {

/// Knobs that are worth measuring for the op, format and target: 1 to 12. The first are the spec's own, as
/// the default. All can be emitted, and no two give the same kernel. Only the first where there are no
/// knobs (CPU targets, nan_scan, ...). Errors: as codegen::emit for the spec itself.
std::vector<Tuning> candidates_for(const KernelSpec& spec);

/// The spec's default for launches of this size: that of matmul depends on n, that of matvec of prepared weights that are
/// requested early on the rows.
Tuning default_tuning(const KernelSpec& spec, const TuningSize& size);

/// Steady-state time of one launch.
struct Measurement {
  double median_us = 0;
  double spread = 0;  ///< from the first to the third quartile, as a share of the median
  double gbps = 0;    ///< bytes that the op has to move, by the median
};
using Measure = std::function<Measurement(const LoadedKernel& kernel)>;
/// Runs the kernel once and compares with a reference: empty, or what is wrong.
using Check = std::function<std::string(const LoadedKernel& kernel)>;

/// Data on the device for all candidates of one spec and size.
struct KernelBench {
  Measure measure;
  Check check;
};
using MakeBench = std::function<KernelBench(const KernelSpec& spec, const TuningSize& size)>;

struct TunerOptions {
  /// A candidate takes the place of the default if it is faster by more than this share, twice.
  /// 0.02: the same kernel timed in two runs differs by as much on an H200.
  double least_gain = 0.02;
  bool again = false;       ///< measures what has a record, too
  int compile_threads = 0;  ///< 0: as many as the process may use
  /// Nothing is measured after it but the default of a kernel that was begun.
  std::optional<std::chrono::steady_clock::time_point> deadline;
  std::stop_token stop = {};
};

enum class TuneOutcome {
  kMeasured,      ///< measured now, and recorded
  kRecorded,      ///< a record has it
  kNoKnobs,       ///< there is one way to launch it
  kNoTime,        ///< the deadline was over
  kDefaultWrong,  ///< the default's result is not right: nothing is recorded
};
std::string_view outcome_name(TuneOutcome outcome);

struct TuneResult {
  KernelSpec spec;  ///< without knobs
  TuningSize size;
  TuneOutcome outcome = TuneOutcome::kNoTime;
  std::optional<TunedSize> tuned;  ///< kMeasured, kRecorded
  std::string problem;             ///< kDefaultWrong
};

/// Tunes one kernel: builds all candidates in parallel, checks each against the reference and measures it.
/// The fastest wins if it beats the default by more than least_gain and by more than the spread of
/// either, and does so again when both are measured by turns; else the next one, of three; else the
/// default stays. Another process that tunes the same kernel is waited for, and its record taken.
/// Candidates that don't compile, are refused by the device or give wrong results are recorded with the
/// reason and never win.
/// Errors: what Engine and Device throw for the default; InterruptedError.
TuneResult tune_kernel(Engine& engine, runtime::Device& device, const KernelSpec& spec,
                       const TuningSize& size, const MakeBench& make_bench,
                       const TunerOptions& options);

}  // namespace ktjit
