// A progress bar on standard error, on a terminal only.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace ktjit::cli {

/// Threads: one at a time; the engine's progress calls are.
class Progress {
 public:
  /// `unit` is what is counted: "kernels". A disabled one, or one without a terminal, draws
  /// nothing.
  explicit Progress(std::string unit, bool enabled = true);
  /// Erases the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Draws, but not more than ten times a second: "[####    ] 4/8 kernels, 12.0/s, 0 s left  name".
  void update(std::size_t done, std::size_t total, std::string_view name);
  void erase();

 private:
  using Clock = std::chrono::steady_clock;

  std::string unit_;
  bool enabled_;
  bool started_ = false;
  bool drawn_ = false;
  Clock::time_point start_;        // of the first update, with
  std::size_t done_at_start_ = 0;  // this many done: what came before says nothing of the rate
  Clock::time_point last_draw_;
};

}  // namespace ktjit::cli
