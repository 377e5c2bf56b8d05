// A kernel that begins with a quick version and goes on with the full one.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <stop_token>

#include "jit/kernel_future.h"
#include "runtime/device.h"

namespace ktjit {

struct LoadedKernel;

/// Launches its quick version until the full one is there, and that one from then on. Both stay loaded
/// as long as this lives, so launches under way are not disturbed by the change. Its end cancels the
/// full version's load if that is still under way.
///
/// Threads: all const members may be called from several threads, also while the version changes.
class TieredKernel final : public runtime::Kernel {
 public:
  explicit TieredKernel(LoadedKernel quick);
  ~TieredKernel() override;

  /// One atomic load more than the version's own launch: no lock, no allocation.
  void launch(runtime::Stream& stream, const LaunchGrid& grid,
              std::span<const std::uint64_t> arguments) const override;
  /// Of the version that launches take now.
  KernelResources resources() const override;

  /// The version that launches take now; lives as long as this.
  const LoadedKernel& current() const { return *current_.load(std::memory_order_acquire); }
  bool is_full() const { return &current() != quick_.get(); }
  /// Waits until launches take the full version.
  /// Errors: what Engine::load throws for it; InterruptedError if it was cancelled, the engine has
  /// ended, or `stop` ended the wait.
  void wait_full(const std::stop_token& stop = {}) const;
  /// Asks for the full version's load to stop. Once wait_full throws InterruptedError, nothing is
  /// being loaded any more.
  void cancel_full() const;

  /// For the engine: the load that calls `replace` at its end; before this is given to anybody.
  void expect_full(KernelFuture load);
  /// For that load, once.
  void replace(LoadedKernel full);

 private:
  KernelFuture full_load_;  // holds the device: the last to end
  std::unique_ptr<const LoadedKernel> quick_;
  std::unique_ptr<const LoadedKernel> full_;
  std::atomic<const LoadedKernel*> current_;
};

}  // namespace ktjit
