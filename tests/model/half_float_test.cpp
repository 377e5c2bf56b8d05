#include "model/half_float.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>

namespace ktjit::model {
namespace {

TEST_CASE("every half is the value of its digits, and comes back as the same bits") {
  int wrong = 0;
  for (int bits = 0; bits < 0x10000; ++bits) {
    const int exponent = bits >> 10 & 31;
    const int mantissa = bits & 1023;
    const float value = half_to_float(static_cast<std::uint16_t>(bits));
    if (std::signbit(value) != (bits >= 0x8000)) ++wrong;
    if (exponent == 31) {
      wrong += mantissa == 0 ? !std::isinf(value) : !std::isnan(value);
      continue;
    }
    const double expected =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (std::abs(static_cast<double>(value)) != expected) ++wrong;
    if (to_half_bits(static_cast<double>(value)) != bits) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("rounding to half and bf16 is to nearest, ties to even") {
  CHECK(to_half_bits(1 + 0x1p-11) == 0x3c00);
  CHECK(to_half_bits(1 + 0x1p-11 + 0x1p-30) == 0x3c01);
  CHECK(to_half_bits(1 + 0x3p-11) == 0x3c02);
  CHECK(to_half_bits(0x1p-25) == 0);
  CHECK(to_half_bits(-0x1.8p-24) == 0x8002);
  CHECK(to_bfloat16_bits(1 + 0x1p-8f) == 0x3f80);
  CHECK(to_bfloat16_bits(1 + 0x1.1p-8f) == 0x3f81);
  CHECK(to_bfloat16_bits(-1 - 0x3p-8f) == 0xbf82);
}

}  // namespace
}  // namespace ktjit::model
