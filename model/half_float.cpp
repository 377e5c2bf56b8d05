#include "model/half_float.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace ktjit::model {

float half_to_float(std::uint16_t bits) {
  constexpr int kMantissaBits = 10;
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00) {  // infinity and NaN
    return std::bit_cast<float>(sign | 0x7f800000u | magnitude << (23 - kMantissaBits));
  }
  // The same digits with f32's exponent bias are 2^-112 too small; subnormals too.
  const float value = std::bit_cast<float>(magnitude << (23 - kMantissaBits)) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

std::uint16_t to_half_bits(double value) {
  int exponent = 0;
  std::frexp(value, &exponent);        // |value| = m * 2^exponent, m in [0.5, 1)
  exponent = value == 0 ? -13 : std::max(exponent, -13);  // below 2^-14 it is subnormal
  const double mantissa = std::nearbyint(std::ldexp(std::abs(value), 11 - exponent));
  const int magnitude = ((exponent + 13) << 10) + static_cast<int>(mantissa);
  return static_cast<std::uint16_t>(magnitude | (std::signbit(value) ? 0x8000 : 0));
}

std::uint16_t to_bfloat16_bits(float value) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  bits += 0x7fff + ((bits >> 16) & 1);
  return static_cast<std::uint16_t>(bits >> 16);
}

}  // namespace ktjit::model
