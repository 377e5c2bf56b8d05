// Ctrl-C: the first one asks the verb to stop, the second one kills.
#pragma once

#include <stop_token>
#include <string>
#include <thread>

#include "jit/compile_schedule.h"
#include "jit/options.h"

namespace ktjit::cli {

/// While it lives, the first SIGINT sets the token and gives SIGINT its old meaning back. One at a
/// time in a process.
class Interrupt {
 public:
  /// Errors: std::system_error if the process has no file descriptor left.
  Interrupt();
  /// SIGINT has its old meaning again.
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  std::stop_token token() const { return stop_.get_token(); }

 private:
  std::stop_source stop_;
  std::thread listener_;
};

/// "interrupted: 12 of 30 kernels are in the cache".
std::string interrupted_line(const BuildProgress& build, const Options& options);

}  // namespace ktjit::cli
