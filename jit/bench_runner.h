// Measures the steady-state speed of kernels: many copies of the operands in turn, so that no cache holds
// them, the passes over them replayed as one CUDA graph where the device has those, medians; and checks the
// results, so that the speed of a wrong kernel is no figure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "jit/bench_operands.h"
#include "jit/engine.h"
#include "runtime/device.h"

namespace ktjit {

struct BenchSettings {
  /// Operands to walk over, as far as half of the free memory holds them; 0: 1 GiB, or four times the last
  /// level of cache if that is more. At most kMaxCopies copies, unless those would fit that cache.
  std::size_t data_bytes = 0;
  int samples = 15;       ///< timed replays, 1 and more
  bool use_graph = true;  ///< where the device has CUDA graphs
  /// Measures the works once more as one sequence, a launch of each after another, as the kernels of a model's layers come:
  /// BenchReport::in_turn.
  bool in_turn = false;
  /// Ends the measurement early, while kernels are compiled or between works: BenchReport::interrupted.
  std::stop_token stop = {};

  static constexpr int kMaxCopies = 64;
};

/// How long a launch took. Microseconds.
struct BenchTimes {
  std::vector<double>
      samples_us;  ///< each replay's time over its launches, in the order of measuring
  int launches_per_sample = 0;
  bool in_graph = false;

  // REQUIRES: samples.
  double median_us() const;
  double min_us() const;
  double max_us() const;
};

/// One kernel's speed, and whether its results are right.
struct BenchResult {
  BenchWork work;
  std::string kernel;  ///< the entry point's name
  std::string lowering;
  bool cached = false;
  double compile_ms = 0.0;  ///< 0 if cached
  KernelResources resources;
  int copies = 0;
  std::size_t data_bytes = 0;      ///< of all copies
  std::size_t streamed_bytes = 0;  ///< of one launch: BenchBytes::streamed
  bool fits_in_cache = false;      ///< so gbps says nothing about memory
  BenchTimes times;
  double gbps = 0.0;             ///< streamed bytes / median time, in 1e9 bytes
  std::optional<double> tflops;  ///< matmul: 2 * rows * cols * n / median time, in 1e12
  BenchCheck first;              ///< of the first launch's result, on the first copy
  BenchCheck last;               ///< of the last timed replay's, on the last copy
  std::string not_run;           ///< why there are no figures, or empty

  bool ok() const { return not_run.empty() && first.ok() && last.ok(); }
};

/// The speed of all works as one sequence, and whether the results are right.
struct BenchSequence {
  int rounds = 0;                  ///< with different operands, one launch of each work
  std::size_t streamed_bytes = 0;  ///< of one round
  bool fits_in_cache = false;
  BenchTimes times;  ///< of one round
  double gbps = 0.0;
  std::vector<BenchCheck>
      last;             ///< of each work, of the last timed replay's result, on its last copy
  std::string not_run;  ///< why there are no figures, or empty

  bool ok() const;
};

struct BenchReport {
  double read_gbps = 0.0;  ///< a plain read of memory, right before; 0 if it wasn't measured
  std::vector<BenchResult> results;
  std::optional<BenchSequence> in_turn;  ///< if the settings ask for it
  bool interrupted = false;

  /// Something was measured, and all of it was right.
  bool ok() const;
};

struct BenchCallbacks {
  int compile_threads = 0;  ///< 0: as many as the process may use
  Engine::Progress on_kernel;
  std::function<void(std::size_t done, std::size_t total, const BenchResult& last)> on_result;
};

/// Loads the kernels of all works, measures the plain read (not in the simulator, whose times say nothing),
/// then the works in their order. A work whose kernel can't be built, or whose operands don't fit the memory,
/// is reported as not run; the others go on.
/// Errors: SpecError for a spec or shape that is wrong, before anything runs; ToolchainError if the device
/// can't run a target; MissingKernelError of a sealed engine.
BenchReport run_bench(Engine& engine, runtime::Device& device, std::span<const BenchWork> works,
                      const BenchSettings& settings, const BenchCallbacks& callbacks = {});

/// What is launched in a pass over all copies.
struct BenchLaunch {
  const LoadedKernel* kernel = nullptr;
  const BenchWork* work = nullptr;  ///< that of the kernel and the operands
  BenchOperands* operands = nullptr;
  int copies = 0;
};

/// Times passes over all copies of the operands: round by round a launch of each, where one has fewer copies these again;
/// times are those of a round. The last copies' results are poisoned before the last replay. Samples and use_graph of the
/// settings count.
BenchTimes time_launches(runtime::Device& device, runtime::Stream& stream,
                         std::span<const BenchLaunch> launches, const BenchSettings& settings);

/// How many copies of `copy_bytes` are walked over on a device with that much cache and free memory.
int bench_copies(std::size_t copy_bytes, std::size_t data_bytes, std::size_t cache_bytes,
                 std::size_t free_bytes);

}  // namespace ktjit
