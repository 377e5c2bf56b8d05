// Wording of InterruptedError.
#include "core/interrupted_error.h"

#include <fmt/format.h>

namespace ktjit {

InterruptedError::InterruptedError(std::string_view work)
    : Error(fmt::format("interrupted: {}", work)) {}

}  // namespace ktjit
