// The error of a kernel that broke CUDA's rules; the other errors are in error.h.
#pragma once

#include "core/error.h"

namespace ktjit {

/// A kernel did what CUDA forbids, seen by the simulator, which stopped it: a check of emitted text
/// failed.
class KernelError : public Error {
 public:
  /// `kernel` by its symbol, `block` and `thread` as (x, y, z), `line` of the kernel's text (0: not
  /// known), `problem` with the facts.
  KernelError(std::string_view kernel, std::string_view block, std::string_view thread, int line,
              std::string_view problem);

  int line() const { return line_; }

 private:
  int line_;
};

}  // namespace ktjit
