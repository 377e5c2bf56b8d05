// The error of work that somebody asked to stop; the other errors are in error.h.
#pragma once

#include "core/error.h"

namespace ktjit {

/// Work was stopped because its caller asked for that: by Ctrl-C, a std::stop_token, or by
/// cancelling a future. What was finished before is kept, and nothing is left half done.
class InterruptedError : public Error {
 public:
  /// `work` is what was stopped: "the compile of matvec_q4_K_x_f32_c4096_n1".
  explicit InterruptedError(std::string_view work = "waiting for a kernel");
};

}  // namespace ktjit
