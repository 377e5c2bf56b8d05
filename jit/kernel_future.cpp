// A load is claimed once: by the thread that runs it, or by who cancels it before that.
#include "jit/kernel_future.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <fmt/format.h>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/compile_schedule.h"
#include "jit/engine.h"

namespace ktjit {
namespace detail {

struct PendingLoad {
  LoadRank rank = LoadRank::kFirst;
  double cost_ms = 0;
  std::uint64_t number = 0;  ///< loads of one cost start in the order of their numbers
  std::shared_ptr<runtime::Device> device;  // outlives the kernel in `result`
  LoadPool::Load load;
  std::stop_source stop;
  std::atomic<bool> claimed{false};
  mutable std::mutex mutex;
  mutable std::condition_variable_any changed;
  bool done = false;  // with `error` or `result`, which stay as they are then
  std::exception_ptr error;
  LoadedKernel result;

  bool claim() { return !claimed.exchange(true); }

  /// Whether it had been asked to stop before it was done: nobody wants a full version then. Who
  /// cancels later sees that it is done, and ends the full version's load by itself.
  bool finish(LoadedKernel kernel, std::exception_ptr failure) {
    const std::lock_guard lock(mutex);
    const bool was_stopped = stop.stop_requested();
    result = std::move(kernel);
    error = std::move(failure);
    done = true;
    changed.notify_all();
    return was_stopped;
  }

  void run() {
    if (!claim()) return;
    try {
      if (finish(load(stop.get_token()), nullptr)) result.cancel_full();
    } catch (...) {
      finish({}, std::current_exception());
    }
  }

  void cancel() {
    stop.request_stop();
    if (claim()) finish({}, std::make_exception_ptr(InterruptedError("a load that was cancelled")));
  }

  bool is_done() const {
    const std::lock_guard lock(mutex);
    return done;
  }

  /// Whether it is done and has a kernel.
  bool is_there() const {
    const std::lock_guard lock(mutex);
    return done && !error;
  }

  /// Whether it is done; false if `stop` ended the wait.
  bool wait(const std::stop_token& stop_waiting) const {
    std::unique_lock lock(mutex);
    return changed.wait(lock, stop_waiting, [this] { return done; });
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
  return load_->is_done();
}

void KernelFuture::wait() const {
  KTJIT_CHECK(is_valid());
  load_->wait({});
}

const LoadedKernel& KernelFuture::get() const {
  KTJIT_CHECK(is_valid());
  return get({});
}

const LoadedKernel& KernelFuture::get(const std::stop_token& stop) const {
  KTJIT_CHECK(is_valid());
  if (!load_->wait(stop)) throw InterruptedError("the wait for a kernel");
  if (load_->error) std::rethrow_exception(load_->error);
  return load_->result;
}

bool KernelFuture::is_full() const {
  KTJIT_CHECK(is_valid());
  return load_->is_there() && load_->result.is_full();
}

void KernelFuture::wait_full(const std::stop_token& stop) const { get(stop).wait_full(stop); }

void KernelFuture::cancel() const {
  KTJIT_CHECK(is_valid());
  load_->cancel();
  if (load_->is_there()) load_->result.cancel_full();
}

bool LoadPool::SlowestFirst::operator()(const std::shared_ptr<PendingLoad>& a,
                                        const std::shared_ptr<PendingLoad>& b) const {
  return std::tuple(a->rank, -a->cost_ms, a->number) < std::tuple(b->rank, -b->cost_ms, b->number);
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

KernelFuture LoadPool::submit(double cost_ms, std::shared_ptr<runtime::Device> device, Load load,
                              LoadRank rank) {
  auto pending = std::make_shared<PendingLoad>();
  pending->rank = rank;
  pending->cost_ms = cost_ms;
  pending->device = std::move(device);
  pending->load = std::move(load);
  KernelFuture future(pending);
  const int most = compile_threads(wanted_threads_);
  {
    const std::lock_guard lock(mutex_);
    if (closing_) {
      pending->cancel();
      return future;
    }
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
