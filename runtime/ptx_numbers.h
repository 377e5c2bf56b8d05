// Numbers as PTX instructions see them: floats of any width to and from double, rounded once.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace ktjit::runtime::ptx {

/// How the codes with the largest exponent are read.
enum class SpecialCodes {
  kIeee,    ///< infinities and NaNs
  kOneNan,  ///< all bits but the sign set is NaN, the rest are numbers
  kNone     ///< all are numbers
};

/// A sign, an exponent and a mantissa; exponent 0 holds subnormal numbers.
struct FloatFormat {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  SpecialCodes special = SpecialCodes::kIeee;

  constexpr int sign_bit() const { return exponent_bits + mantissa_bits; }
  constexpr std::uint32_t sign_mask() const { return 1u << sign_bit(); }
  constexpr std::uint32_t magnitude_mask() const { return sign_mask() - 1u; }
  /// The magnitude of infinity, where there is one.
  constexpr std::uint32_t infinity() const {
    return magnitude_mask() & ~((1u << mantissa_bits) - 1u);
  }
  /// The magnitude of the largest number.
  constexpr std::uint32_t largest() const {
    if (special == SpecialCodes::kIeee) return infinity() - 1u;
    return magnitude_mask() - (special == SpecialCodes::kOneNan ? 1u : 0u);
  }
  /// PTX's canonical NaN: all bits but the sign. REQUIRES: the format has NaNs.
  constexpr std::uint32_t canonical_nan() const { return magnitude_mask(); }
  constexpr bool is_nan(std::uint32_t code) const {
    const std::uint32_t magnitude = code & magnitude_mask();
    return special == SpecialCodes::kIeee     ? magnitude > infinity()
           : special == SpecialCodes::kOneNan ? magnitude == magnitude_mask()
                                              : false;
  }
};

// IEEE 754-2019; OCP OFP8 1.0; OCP Microscaling Formats 1.0.
inline constexpr FloatFormat kF32Format{8, 23, 127};
inline constexpr FloatFormat kF16Format{5, 10, 15};
inline constexpr FloatFormat kBf16Format{8, 7, 127};
inline constexpr FloatFormat kE4m3Format{4, 3, 7, SpecialCodes::kOneNan};
inline constexpr FloatFormat kE5m2Format{5, 2, 15};
inline constexpr FloatFormat kE2m3Format{2, 3, 1, SpecialCodes::kNone};
inline constexpr FloatFormat kE3m2Format{3, 2, 3, SpecialCodes::kNone};
inline constexpr FloatFormat kE2m1Format{2, 1, 1, SpecialCodes::kNone};

/// REQUIRES: -1022 <= exponent <= 1023.
inline double power_of_two(int exponent) {
  return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

/// Exact.
inline double decode(const FloatFormat& format, std::uint32_t code) {
  const std::uint32_t magnitude = code & format.magnitude_mask();
  const double sign = (code & format.sign_mask()) != 0 ? -1.0 : 1.0;
  if (format.is_nan(code)) return std::numeric_limits<double>::quiet_NaN();
  if (format.special == SpecialCodes::kIeee && magnitude == format.infinity())
    return sign * std::numeric_limits<double>::infinity();
  const int exponent = static_cast<int>(magnitude >> format.mantissa_bits);
  const std::uint32_t mantissa = magnitude & ((1u << format.mantissa_bits) - 1u);
  const std::uint32_t steps = exponent == 0 ? mantissa : mantissa | (1u << format.mantissa_bits);
  const int scale = (exponent == 0 ? 1 : exponent) - format.bias - format.mantissa_bits;
  return sign * static_cast<double>(steps) * power_of_two(scale);
}

/// What becomes of a magnitude that is larger than the largest number.
enum class Overflow {
  kInfinity,  ///< where it rounds past it; to NaN in a format without infinities
  kSaturate   ///< .satfinite: the largest number, also for infinities
};

/// The code of the nearest number, ties to even. A NaN becomes the canonical one, or, in a format
/// without NaNs, the largest number (PTX ISA 9.0, cvt, .satfinite).
inline std::uint32_t encode(const FloatFormat& format, double value,
                            Overflow overflow = Overflow::kInfinity) {
  if (std::isnan(value))
    return format.special == SpecialCodes::kNone ? format.largest() : format.canonical_nan();
  const std::uint32_t sign = std::signbit(value) ? format.sign_mask() : 0u;
  const double magnitude = std::fabs(value);
  const std::uint32_t beyond = overflow == Overflow::kSaturate         ? format.largest()
                               : format.special == SpecialCodes::kIeee ? format.infinity()
                                                                       : format.canonical_nan();
  if (std::isinf(value)) return sign | beyond;
  if (magnitude == 0.0) return sign;
  const int lowest = 1 - format.bias;
  // That of a double; one below 2^-1022 has none, but lies below `lowest` anyway.
  const int own_exponent = static_cast<int>(std::bit_cast<std::uint64_t>(magnitude) >> 52) - 1023;
  const int exponent = std::max(own_exponent, lowest);
  if (exponent > format.bias + 1) return sign | beyond;
  // A whole number of the format's steps, as the last place of 2^52 is 1; 2^mantissa_bits steps and
  // more carry into the exponent.
  const double exact_steps = magnitude * power_of_two(format.mantissa_bits - exponent);
  const double steps = (exact_steps + 0x1p52) - 0x1p52;
  const std::uint32_t code =
      (static_cast<std::uint32_t>(exponent - lowest) << format.mantissa_bits) +
      static_cast<std::uint32_t>(steps);
  return sign | (code > format.largest() ? beyond : code);
}

/// a + b rounded to odd: if it isn't exact, the neighbour with an odd last bit. Rounded again to a
/// format with at most 51 bits of mantissa, it gives what one rounding of the exact sum gives.
/// REQUIRES: no overflow to infinity of finite operands.
inline double add_to_odd(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) return sum;
  const double b_part = sum - a;
  const double error = (a - (sum - b_part)) + (b - b_part);  // exact: Knuth's TwoSum
  const bool is_odd = (std::bit_cast<std::uint64_t>(sum) & 1u) != 0;
  if (error == 0.0 || is_odd) return sum;
  const double direction = std::numeric_limits<double>::infinity();
  return std::nextafter(sum, error > 0.0 ? direction : -direction);
}

/// The low 32 bits of a slot.
inline std::uint32_t low32(std::uint64_t slot) { return static_cast<std::uint32_t>(slot); }
inline std::uint32_t half_of(std::uint64_t slot, int half) {
  return (low32(slot) >> (16 * half)) & 0xffffu;
}
inline std::uint32_t byte_of(std::uint64_t slot, int byte) {
  return (low32(slot) >> (8 * byte)) & 0xffu;
}
inline float f32_of(std::uint64_t slot) { return std::bit_cast<float>(low32(slot)); }
/// The slot of an f32 result: any NaN becomes the canonical one, 0x7fffffff.
inline std::uint64_t f32_slot(float value) {
  return std::isnan(value) ? kF32Format.canonical_nan() : std::bit_cast<std::uint32_t>(value);
}

}  // namespace ktjit::runtime::ptx
