// Wording of MissingKernelError.
#include "core/missing_kernel_error.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>

namespace ktjit {
namespace {

std::string in_words(const MissingKernel& missing) {
  return fmt::format(
      "kernel {} for {} ({}, request {}) is not there, and {}; looked in: {}; other targets it is "
      "there for: {}; make it with 'ktjit build MODEL --target {} --pack FILE' and give that pack",
      missing.kernel, missing.target, missing.kind, missing.request_digest, missing.reason,
      missing.looked_in.empty() ? "nothing, no cache is in use"
                                : fmt::format("{}", fmt::join(missing.looked_in, ", ")),
      missing.other_targets.empty() ? "none"
                                    : fmt::format("{}", fmt::join(missing.other_targets, ", ")),
      missing.target);
}

}  // namespace

MissingKernelError::MissingKernelError(MissingKernel missing)
    : Error(in_words(missing)), missing_(std::move(missing)) {}

}  // namespace ktjit
