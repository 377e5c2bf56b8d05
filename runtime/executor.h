// Who runs the CPU device's work: our threads, or the application's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace ktjit::runtime {

/// An application may pass its own to stay in charge of threads.
class Executor {
 public:
  virtual ~Executor() = default;

  /// How many threads take part, at least 1.
  virtual int concurrency() const = 0;
  /// Calls `body(begin, end)` for ranges that together cover [0, count) exactly once, possibly in
  /// parallel, and returns when all are done. `body` doesn't throw.
  virtual void parallel_for(
      std::int64_t count,
      const std::function<void(std::int64_t begin, std::int64_t end)>& body) = 0;
};

/// The default: oneTBB, with `threads` threads (0: as many as the process may use).
std::unique_ptr<Executor> make_tbb_executor(int threads = 0);

}  // namespace ktjit::runtime
