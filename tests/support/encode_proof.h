// The proof of encoding: all 2^32 f32 inputs through the quantise kernels.
#pragma once

#include <cstdint>
#include <span>

#include "tests/support/kernel_checks.h"

namespace ktjit::test {

/// quantize, as a plain cast, of every f32 to each of the formats, saturating and not, compared bit for bit
/// with the codes that the format's definition gives (codes_of_all_f32). Prints a line for each format and
/// mode: inputs, wrong codes, seconds. `chunk`, a power of two of at least 2^20: inputs of one launch; they
/// take 4 bytes each on the device, and up to 4 more on the host.
CheckResult check_all_f32(const Place& place, std::span<const FormatId> formats,
                          std::uint64_t chunk);

}  // namespace ktjit::test
