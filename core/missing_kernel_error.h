// The error of sealed mode; the other errors are in error.h.
#pragma once

#include <string>
#include <vector>

#include "core/error.h"

namespace ktjit {

/// What was looked for in vain, and where.
struct MissingKernel {
  std::string kernel;                      ///< its symbol: "matvec_q4_K_x_f32_c4096_n1"
  std::string target;                      ///< "sm_86"
  std::string kind;                        ///< "cubin"
  std::string request_digest;              ///< of the cache's request key, in hexadecimal digits
  std::vector<std::string> looked_in;      ///< folders and packs; none: no cache is in use
  std::vector<std::string> other_targets;  ///< for which these do have this kernel
  std::string reason;                      ///< why it isn't compiled: "this process is sealed"
};

/// A kernel is in no cache and no pack, and nothing may or can compile it here.
class MissingKernelError : public Error {
 public:
  explicit MissingKernelError(MissingKernel missing);

  const MissingKernel& missing() const { return missing_; }

 private:
  MissingKernel missing_;
};

}  // namespace ktjit
