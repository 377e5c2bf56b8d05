// Wording of KernelError.
#include "core/kernel_error.h"

#include <fmt/format.h>

namespace ktjit {

KernelError::KernelError(std::string_view kernel, std::string_view block, std::string_view thread,
                         int line, std::string_view problem)
    : Error(fmt::format("kernel {}, block {}, thread {}, line {}: {}", kernel, block, thread,
                        line > 0 ? fmt::format("{}", line) : "unknown", problem)),
      line_(line) {}

}  // namespace ktjit
