// A thread of control that its owner resumes and that suspends itself, on a stack of its own. The one
// place that uses Boost.Context.
#pragma once

#include <cstddef>
#include <memory>

namespace ktjit::runtime {

/// Threads: one host thread at a time; a fibre is resumed and suspended on the thread it began on.
class Fiber {
 public:
  static constexpr std::size_t kStackBytes = std::size_t{256} << 10;  ///< without the guard page

  /// Reserves the stack, below which a guard page ends the process when it overflows.
  /// Errors: DriverError if the system has no address space left.
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Makes `run(argument)` what resume begins with. REQUIRES: nothing is under way.
  void start(void (*run)(void*), void* argument);
  /// Goes on until the fibre suspends itself or ends. Returns whether it has ended.
  bool resume();
  /// Called on the fibre itself: returns to who resumed it, until resumed again.
  void suspend();
  /// Forgets what is under way, without running destructors on its stack.
  void abandon();

  const std::byte* stack_begin() const;
  const std::byte* stack_end() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ktjit::runtime
