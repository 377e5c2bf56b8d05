// The table of guesses, the limits, and the loop over threads.
#include "jit/compile_schedule.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <fmt/format.h>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/interrupted_error.h"

namespace ktjit {
namespace {

/// Whether matmul has a tensor-core version, which is several times longer.
bool has_long_matmul(FormatId weight) {
  const FormatFamily family = get_format(weight).family;
  return family == FormatFamily::kFp8 || weight == FormatId::kF16 || weight == FormatId::kBF16;
}

}  // namespace

std::string cost_name(const KernelSpec& spec, ArtifactKind kind, std::string_view compiler) {
  return fmt::format("{} {} {} {}", op_name(spec.op), get_format(spec.weight).name,
                     artifact_kind_name(kind), compiler);
}

// Medians of NVRTC 13.0 for q4_K, q8_0, iq3_s and fp8_e4m3, sm_86: docs/COMPILING.md.
double guess_cost_ms(const KernelSpec& spec) {
  switch (spec.op) {
    case Op::kMatmul:
    case Op::kMoeMatmul:
      return has_long_matmul(spec.weight) ? 390 : 135;
    case Op::kMatvec:
    case Op::kMoeMatvec:
      return 115;
    case Op::kQuantize:
      return 90;
    case Op::kDequant:
      return 55;
    case Op::kNanScan:
    case Op::kPrepare:
    case Op::kRestore:
    case Op::kReadTest:
      return 45;
  }
  KTJIT_UNREACHABLE("a known op");
}

// kBytesPerCompile: NVRTC 12.9 and 13.0 add 50 MB for the first and 17 to 20 MB for each further
// compile of the largest kernel we have (fp8_e4m3 matmul); a worker holds 57 to 62 MB (VmHWM).
int compile_threads(int wanted, int cpus, const runtime::HostMemory& memory) {
  const int threads = wanted > 0 ? wanted : cpus;
  if (memory.total_bytes == 0) return std::max(threads, 1);  // not known here
  const std::size_t fitting = memory.available_bytes / kBytesPerCompile;
  return static_cast<int>(
      std::max<std::size_t>(1, std::min(static_cast<std::size_t>(std::max(threads, 1)), fitting)));
}

int compile_threads(int wanted) {
  return compile_threads(wanted, runtime::usable_threads(), runtime::host_memory());
}

void for_each_index(std::size_t count, int threads, const std::stop_token& stop,
                    const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr error;
  bool interrupted = false;
  std::mutex mutex;
  const auto run = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      if (stop.stop_requested()) {
        const std::lock_guard lock(mutex);
        interrupted = true;
        return;
      }
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> pool;
    const std::size_t wanted =
        std::min<std::size_t>(count, static_cast<std::size_t>(std::max(threads, 1)));
    for (std::size_t i = 1; i < wanted; ++i) pool.emplace_back(run);
    run();
  }
  if (error) std::rethrow_exception(error);
  if (interrupted) throw InterruptedError("work on several kernels");
}

ProgressReporter::ProgressReporter(std::size_t total, const ProgressCallback& callback)
    : callback_(callback), start_(Clock::now()) {
  progress_.total = total;
}

void ProgressReporter::found(const std::string& kernel) {
  const std::lock_guard lock(mutex_);
  ++progress_.done;
  ++progress_.cached;
  progress_.last = kernel;
  tell();
}

void ProgressReporter::start_compiles(double cost_ms, int threads) {
  const std::lock_guard lock(mutex_);
  start_ = Clock::now();
  cost_ms_ = cost_ms;
  threads_ = threads;
  progress_.seconds_left = cost_ms / 1e3 / threads;
  tell();
}

void ProgressReporter::compiled(const std::string& kernel, double cost_ms, bool cached) {
  const std::lock_guard lock(mutex_);
  ++progress_.done;
  if (cached) ++progress_.cached;
  progress_.last = kernel;
  done_cost_ms_ += cost_ms;
  const double elapsed_s = std::chrono::duration<double>(Clock::now() - start_).count();
  progress_.seconds_left = progress_.done == progress_.total || done_cost_ms_ <= 0
                               ? 0
                               : elapsed_s * (cost_ms_ - done_cost_ms_) / done_cost_ms_;
  tell();
}

void ProgressReporter::tell() {
  if (callback_) callback_(progress_);
}

}  // namespace ktjit
