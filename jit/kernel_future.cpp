// A load is claimed once: by the thread that runs it, or by who cancels it before that.
#include "jit/kernel_future.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fmt/format.h>
#include <future>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/compile_schedule.h"
#include "jit/engine.h"

namespace ktjit {
namespace detail {

struct PendingLoad {
  double cost_ms = 0;
  std::uint64_t number = 0;  ///< loads of one cost start in the order of their numbers
  std::shared_ptr<runtime::Device> device;  // outlives the kernel in `result`
  LoadPool::Load load;
  std::stop_source stop;
  std::atomic<bool> claimed{false};
  std::promise<LoadedKernel> promise;
  std::shared_future<LoadedKernel> result{promise.get_future()};

  bool claim() { return !claimed.exchange(true); }

  void run() {
    if (!claim()) return;
    try {
      promise.set_value(load(stop.get_token()));
    } catch (...) {
      promise.set_exception(std::current_exception());
    }
  }

  void cancel() {
    stop.request_stop();
    if (claim()) {
      promise.set_exception(std::make_exception_ptr(InterruptedError("a load that was cancelled")));
    }
  }
};

}  // namespace detail

using detail::PendingLoad;

KernelFuture::KernelFuture() = default;
KernelFuture::KernelFuture(std::shared_ptr<PendingLoad> load) : load_(std::move(load)) {}
KernelFuture::KernelFuture(KernelFuture&&) noexcept = default;

KernelFuture& KernelFuture::operator=(KernelFuture&& other) noexcept {
  if (this != &other) {
    if (load_) load_->cancel();
    load_ = std::move(other.load_);
  }
  return *this;
}

KernelFuture::~KernelFuture() {
  if (load_) load_->cancel();
}

bool KernelFuture::is_ready() const {
  KTJIT_CHECK(is_valid());
  return load_->result.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

void KernelFuture::wait() const {
  KTJIT_CHECK(is_valid());
  load_->result.wait();
}

const LoadedKernel& KernelFuture::get() const {
  KTJIT_CHECK(is_valid());
  return load_->result.get();
}

void KernelFuture::cancel() const {
  KTJIT_CHECK(is_valid());
  load_->cancel();
}

bool LoadPool::SlowestFirst::operator()(const std::shared_ptr<PendingLoad>& a,
                                        const std::shared_ptr<PendingLoad>& b) const {
  return std::tuple(-a->cost_ms, a->number) < std::tuple(-b->cost_ms, b->number);
}

LoadPool::LoadPool(int threads) : wanted_threads_(threads) {}

LoadPool::~LoadPool() {
  Queue left;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    left.swap(queue_);
    for (const auto& load : under_way_) load->cancel();
  }
  for (const auto& load : left) load->cancel();
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

KernelFuture LoadPool::submit(double cost_ms, std::shared_ptr<runtime::Device> device, Load load) {
  auto pending = std::make_shared<PendingLoad>();
  pending->cost_ms = cost_ms;
  pending->device = std::move(device);
  pending->load = std::move(load);
  KernelFuture future(pending);
  const int most = compile_threads(wanted_threads_);
  {
    const std::lock_guard lock(mutex_);
    pending->number = submitted_++;
    queue_.insert(std::move(pending));
    const bool all_busy = static_cast<std::size_t>(idle_) < queue_.size();
    if (all_busy && threads_.size() < static_cast<std::size_t>(most))
      threads_.emplace_back([this] { run(); });
  }
  changed_.notify_one();
  return future;
}

void LoadPool::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;
    std::shared_ptr<PendingLoad> load = *queue_.begin();
    queue_.erase(queue_.begin());
    under_way_.push_back(load);
    lock.unlock();
    load->run();
    lock.lock();
    std::erase(under_way_, load);
    // Maybe the last reference, and then the end of a device: not under our lock.
    lock.unlock();
    load.reset();
    lock.lock();
  }
}

}  // namespace ktjit
