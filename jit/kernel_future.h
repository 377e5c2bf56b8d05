// Kernels that are being loaded on threads of the engine's, and the threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <thread>
#include <vector>

#include "runtime/device.h"

namespace ktjit {

struct LoadedKernel;
namespace detail {
struct PendingLoad;
}

/// A kernel that is on its way. Moved, not copied; an empty one may only be assigned to or
/// destroyed.
///
/// Threads: all const members may be called from several threads at once.
class KernelFuture {
 public:
  KernelFuture();
  explicit KernelFuture(std::shared_ptr<detail::PendingLoad> load);
  KernelFuture(KernelFuture&&) noexcept;
  KernelFuture& operator=(KernelFuture&&) noexcept;
  /// Cancels what is still under way, and doesn't wait for it. The full version of a kernel that is
  /// ready goes on as long as somebody has the kernel.
  ~KernelFuture();

  bool is_valid() const { return load_ != nullptr; }
  /// Whether get would not wait: the kernel is there, failed, or was cancelled before it began.
  bool is_ready() const;
  void wait() const;
  /// Waits. May be called several times. The future keeps the device alive, the kernel doesn't.
  /// Errors: what Engine::load throws; InterruptedError if it was cancelled or the engine has ended.
  const LoadedKernel& get() const;
  /// As get, and also InterruptedError if `stop` ended the wait.
  const LoadedKernel& get(const std::stop_token& stop) const;
  /// Asks for the load to stop; one that has not begun is ready at once. A kernel that is ready
  /// stays, with its quick version if its full one is still under way.
  void cancel() const;

  /// Whether the kernel is there and its full version runs. False after an error.
  bool is_full() const;
  /// Waits for the kernel, then for its full version (at once where there is no other).
  /// Errors: of get; of the full version, which the quick one outlives; InterruptedError if `stop`
  /// ended the wait or the full version was cancelled.
  void wait_full(const std::stop_token& stop = {}) const;

 private:
  std::shared_ptr<detail::PendingLoad> load_;
};

/// What a load is for.
enum class LoadRank {
  kFirst,    ///< somebody waits for the kernel
  kReplace,  ///< it is to replace a quick version, after all loads that somebody waits for
};

/// Threads that load kernels, the one that takes longest first. They start when first needed.
class LoadPool {
 public:
  using Load = std::function<LoadedKernel(const std::stop_token& stop)>;

  /// `threads`: at most so many side by side, 0 for as many as compile_threads says.
  explicit LoadPool(int threads);
  /// Cancels all that is left and waits for what is under way.
  ~LoadPool();
  LoadPool(const LoadPool&) = delete;
  LoadPool& operator=(const LoadPool&) = delete;

  /// `device` lives as long as the load or its future.
  /// May be called by a load; while the pool ends, the answer is a load that was cancelled.
  KernelFuture submit(double cost_ms, std::shared_ptr<runtime::Device> device, Load load,
                      LoadRank rank = LoadRank::kFirst);

 private:
  struct SlowestFirst {
    bool operator()(const std::shared_ptr<detail::PendingLoad>& a,
                    const std::shared_ptr<detail::PendingLoad>& b) const;
  };
  using Queue = std::set<std::shared_ptr<detail::PendingLoad>, SlowestFirst>;

  void run();

  int wanted_threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closing_ = false;
  std::uint64_t submitted_ = 0;
  int idle_ = 0;
  Queue queue_;
  std::vector<std::shared_ptr<detail::PendingLoad>> under_way_;
  std::vector<std::thread> threads_;
};

}  // namespace ktjit
