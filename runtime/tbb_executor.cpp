// The default executor: an arena of oneTBB's threads.
#include <algorithm>
#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include "runtime/executor.h"
#include "runtime/host_limits.h"

namespace ktjit::runtime {
namespace {

class TbbExecutor : public Executor {
 public:
  explicit TbbExecutor(int threads) : arena_(threads) {}

  int concurrency() const override { return arena_.max_concurrency(); }

  void parallel_for(std::int64_t count,
                    const std::function<void(std::int64_t, std::int64_t)>& body) override {
    using Range = oneapi::tbb::blocked_range<std::int64_t>;
    if (count <= 0) return;
    if (count == 1 || concurrency() == 1) return body(0, count);
    arena_.execute([&] {
      oneapi::tbb::parallel_for(Range(0, count),
                                [&](const Range& range) { body(range.begin(), range.end()); });
    });
  }

 private:
  oneapi::tbb::task_arena arena_;
};

}  // namespace

std::unique_ptr<Executor> make_tbb_executor(int threads) {
  // oneTBB has no more threads than the machine, and prints a warning when asked for more.
  const int most = oneapi::tbb::info::default_concurrency();
  return std::make_unique<TbbExecutor>(std::min(threads > 0 ? threads : usable_threads(), most));
}

}  // namespace ktjit::runtime
