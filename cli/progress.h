// Progress on standard error: a bar on a terminal, elsewhere a plain line now and then.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "jit/compile_schedule.h"

namespace ktjit::cli {

/// Threads: one at a time; the engine's progress calls are.
class Progress {
 public:
  /// Where there is no terminal: nothing, or plain lines for what takes long, since silence looks
  /// like a hang.
  enum class Elsewhere { kNothing, kPlainLines };

  /// `unit` is what is counted: "kernels".
  explicit Progress(std::string unit, Elsewhere elsewhere = Elsewhere::kNothing);
  /// Erases the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Draws, but not more than ten times a second: "[####    ] 4/8 kernels, 12.0/s, 0 s left  name".
  void update(std::size_t done, std::size_t total, std::string_view name);
  /// The same with the engine's own estimate: "[####    ] 4/8 kernels, 3 s left  name". A plain line
  /// "4/8 kernels, 3 s left" comes after five seconds, then every ten.
  void update(const BuildProgress& build);
  void erase();

 private:
  using Clock = std::chrono::steady_clock;

  void show(std::size_t done, std::size_t total, const std::string& pace, std::string_view name);

  std::string unit_;
  bool draws_;
  bool prints_lines_;
  bool started_ = false;
  bool drawn_ = false;
  Clock::time_point start_;        // of the first update, with
  std::size_t done_at_start_ = 0;  // this many done: what came before says nothing of the rate
  Clock::time_point last_draw_;
  Clock::time_point next_line_;
};

}  // namespace ktjit::cli
