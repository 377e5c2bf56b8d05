// When to compile what, and how much side by side: the slowest kernels first, so that none of them
// is left alone at the end, on no more threads than the machine has CPUs and memory for.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "core/artifact.h"
#include "core/kernel_spec.h"
#include "runtime/host_limits.h"

namespace ktjit {

/// The name under which compile times are remembered: "matmul q4_K cubin NVRTC 13.0". Columns and
/// target are left out: they change the time by less than machines and their load do.
std::string cost_name(const KernelSpec& spec, ArtifactKind kind, std::string_view compiler);

/// About how long such a kernel takes to compile, in milliseconds, where no time is remembered.
/// Only good for putting kernels in order.
double guess_cost_ms(const KernelSpec& spec);

/// Memory that one more compile side by side takes, in bytes.
inline constexpr std::size_t kBytesPerCompile = std::size_t{64} << 20;

/// How many kernels to compile side by side: `wanted`, or 0 for all of the `cpus` that the process
/// may use, but no more than fit into the available memory. At least 1.
int compile_threads(int wanted, int cpus, const runtime::HostMemory& memory);

/// The same for this process and this moment.
int compile_threads(int wanted);

/// Calls `work(i)` for i = 0, 1, ... on up to `threads` threads, in that order of starting.
/// Errors: the first that `work` throws, at the end of the calls under way, after which no new one
/// starts; InterruptedError if `stop` kept one from starting.
void for_each_index(std::size_t count, int threads, const std::stop_token& stop,
                    const std::function<void(std::size_t)>& work);

/// How far a build is.
struct BuildProgress {
  std::size_t done = 0;
  std::size_t total = 0;   ///< different kernels: equal specs count once
  std::size_t cached = 0;  ///< those done that were found in the cache
  /// Until the last compile is done, by the costs of what is left and the pace so far. Nothing while
  /// the cache is being asked.
  std::optional<double> seconds_left;
  std::string last;  ///< the kernel that was done last; empty before the first
};

/// Called after each kernel, and once before the first compile; one call at a time, from any of the
/// threads.
using ProgressCallback = std::function<void(const BuildProgress&)>;

/// Counts kernels and tells the caller.
///
/// Threads: all members may be called from several threads.
class ProgressReporter {
 public:
  ProgressReporter(std::size_t total, const ProgressCallback& callback);

  void found(const std::string& kernel);
  /// From here on kernels are compiled: `cost_ms` of work in all, `threads` side by side.
  void start_compiles(double cost_ms, int threads);
  /// `cost_ms`: as it was counted in start_compiles. `cached`: another process had made it meanwhile.
  void compiled(const std::string& kernel, double cost_ms, bool cached);

 private:
  using Clock = std::chrono::steady_clock;
  void tell();  // with mutex_ held

  const ProgressCallback& callback_;
  std::mutex mutex_;
  BuildProgress progress_;
  Clock::time_point start_;
  double cost_ms_ = 0;       // of all compiles
  double done_cost_ms_ = 0;  // of those done
  int threads_ = 1;
};

}  // namespace ktjit
