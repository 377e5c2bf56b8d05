// IEEE half precision, to and from its bits, for readers and writers of model files.
#pragma once

#include <cstdint>

namespace ktjit::model {

/// Exact.
float half_to_float(std::uint16_t bits);

/// To nearest, ties to even. REQUIRES: |value| < 65504.
std::uint16_t to_half_bits(double value);

/// The bits of the nearest bf16, ties to even. REQUIRES: value is finite and far from the largest.
std::uint16_t to_bfloat16_bits(float value);

}  // namespace ktjit::model
