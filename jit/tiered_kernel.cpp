// The pointer that launches follow, and the load that sets it.
#include "jit/tiered_kernel.h"

#include <utility>

#include "core/error.h"
#include "jit/engine.h"

namespace ktjit {

TieredKernel::TieredKernel(LoadedKernel quick)
    : quick_(std::make_unique<const LoadedKernel>(std::move(quick))), current_(quick_.get()) {}

TieredKernel::~TieredKernel() = default;

void TieredKernel::launch(runtime::Stream& stream, const LaunchGrid& grid,
                          std::span<const std::uint64_t> arguments) const {
  current().kernel->launch(stream, grid, arguments);
}

KernelResources TieredKernel::resources() const { return current().kernel->resources(); }

void TieredKernel::wait_full(const std::stop_token& stop) const { full_load_.get(stop); }

void TieredKernel::cancel_full() const { full_load_.cancel(); }

void TieredKernel::expect_full(KernelFuture load) { full_load_ = std::move(load); }

void TieredKernel::replace(LoadedKernel full) {
  KTJIT_CHECK(full_ == nullptr);
  full_ = std::make_unique<const LoadedKernel>(std::move(full));
  current_.store(full_.get(), std::memory_order_release);
}

}  // namespace ktjit
