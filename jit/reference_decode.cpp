// Each format is one short function from the bytes of a block to its values; decode_row walks the
// blocks. Sources: IEEE 754 (f16), OCP OFP8 1.0 (e4m3, e5m2), OCP MX 1.0 (e2m3, e3m2, e2m1), Triton (e4b15), "8-bit Numerical
// Formats for Deep Neural Networks" by Noune et al. (fnuz), ggml-common.h and ggml-quants.c of
// ggml, August 2026 (blocks). Compile with -ffp-contract=off, so that no option enters the
// definition. (As it is, the product of an f16 d, a scale and a code fits 24 bits, so that only the
// addition of a minimum rounds, fused or not.)
#include "jit/reference_decode.h"

#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <fmt/format.h>
#include <limits>
#include <vector>

#include "core/codebooks.h"
#include "core/error.h"

static_assert(FLT_EVAL_METHOD == 0, "float expressions have to be rounded to float");
static_assert(std::numeric_limits<float>::is_iec559 && std::numeric_limits<double>::is_iec559);

namespace ktjit {
namespace {

// ---- Floats of 8 and 16 bits: sign, exponent, mantissa ---------------------------------

enum class Specials {
  kIeee,            ///< the top exponent holds infinity (mantissa 0) and NaNs
  kAllOnesIsNan,    ///< no infinity; all ones below the sign is NaN, other top codes are numbers
  kNone,            ///< every code is a number
  kMinusZeroIsNan,  ///< no infinity and no -0, whose code is the only NaN
};

struct FloatLayout {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  Specials specials;

  constexpr int bits() const { return 1 + exponent_bits + mantissa_bits; }
};

constexpr FloatLayout kF16Layout = {5, 10, 15, Specials::kIeee};
constexpr FloatLayout kBF16Layout = {8, 7, 127, Specials::kIeee};
constexpr FloatLayout kE4M3Layout = {4, 3, 7, Specials::kAllOnesIsNan};
constexpr FloatLayout kE5M2Layout = {5, 2, 15, Specials::kIeee};
constexpr FloatLayout kE4B15Layout = {4, 3, 15, Specials::kNone};
constexpr FloatLayout kE4M3FnuzLayout = {4, 3, 8, Specials::kMinusZeroIsNan};
constexpr FloatLayout kE5M2FnuzLayout = {5, 2, 16, Specials::kMinusZeroIsNan};
constexpr FloatLayout kE2M3Layout = {2, 3, 1, Specials::kNone};
constexpr FloatLayout kE3M2Layout = {3, 2, 3, Specials::kNone};

double decode_float(const FloatLayout& layout, unsigned code) {
  const unsigned mantissa = code & ((1u << layout.mantissa_bits) - 1);
  const unsigned exponent = (code >> layout.mantissa_bits) & ((1u << layout.exponent_bits) - 1);
  const bool negative = (code >> (layout.bits() - 1)) != 0;

  const bool top_exponent = exponent == (1u << layout.exponent_bits) - 1;
  const bool all_ones = top_exponent && mantissa == (1u << layout.mantissa_bits) - 1;
  const bool zero = exponent == 0 && mantissa == 0;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();

  switch (layout.specials) {
    case Specials::kIeee:
      if (top_exponent && mantissa != 0) return kNan;
      if (top_exponent) return negative ? -kInfinity : kInfinity;
      break;
    case Specials::kAllOnesIsNan:
      if (all_ones) return kNan;
      break;
    case Specials::kMinusZeroIsNan:
      if (zero && negative) return kNan;
      break;
    case Specials::kNone:
      break;
  }

  const double fraction = std::ldexp(mantissa, -layout.mantissa_bits);
  const double magnitude = exponent == 0
                               ? std::ldexp(fraction, 1 - layout.bias)
                               : std::ldexp(1 + fraction, static_cast<int>(exponent) - layout.bias);
  return negative ? -magnitude : magnitude;
}

/// The value of every code, so that decoding a tensor is a look-up. All of them are f32 exactly.
template <FloatLayout kLayout>
float decode_with_table(unsigned code) {
  static const std::vector<float> values = [] {
    std::vector<float> table;
    for (unsigned c = 0; c < 1u << kLayout.bits(); ++c) {
      table.push_back(static_cast<float>(decode_float(kLayout, c)));
    }
    return table;
  }();
  return values[code];
}

/// 2^exponent; f32 has it as a subnormal, too, down to -149.
float power_of_two(int exponent) { return std::ldexp(1.0f, exponent); }

// ---- Bytes of a block ------------------------------------------------------------------

/// Little-endian fields of a block at byte offsets.
class Block {
 public:
  explicit Block(const std::byte* bytes) : bytes_(bytes) {}

  unsigned u8(int at) const { return std::to_integer<unsigned>(bytes_[at]); }
  int i8(int at) const { return static_cast<std::int8_t>(u8(at)); }
  unsigned u16(int at) const { return u8(at) | u8(at + 1) << 8; }
  std::uint32_t u32(int at) const { return u16(at) | std::uint32_t{u16(at + 2)} << 16; }
  std::uint64_t u64(int at) const { return u32(at) | std::uint64_t{u32(at + 4)} << 32; }
  float f16(int at) const { return decode_with_table<kF16Layout>(u16(at)); }
  float f32(int at) const { return std::bit_cast<float>(u32(at)); }

  unsigned low_nibble(int at) const { return u8(at) & 15; }
  unsigned high_nibble(int at) const { return u8(at) >> 4; }

 private:
  const std::byte* bytes_;
};

/// An unsigned field, so that differences with it may be negative.
constexpr int as_int(unsigned value) { return static_cast<int>(value); }

// ---- Plain elements: a block is one element --------------------------------------------

void decode_f32(Block b, float* y) { *y = b.f32(0); }
void decode_f16(Block b, float* y) { *y = b.f16(0); }
void decode_bf16(Block b, float* y) { *y = decode_with_table<kBF16Layout>(b.u16(0)); }
void decode_f64(Block b, float* y) { *y = static_cast<float>(std::bit_cast<double>(b.u64(0))); }

void decode_i8(Block b, float* y) { *y = static_cast<float>(b.i8(0)); }
void decode_i16(Block b, float* y) { *y = static_cast<float>(static_cast<std::int16_t>(b.u16(0))); }
void decode_i32(Block b, float* y) { *y = static_cast<float>(static_cast<std::int32_t>(b.u32(0))); }
void decode_i64(Block b, float* y) { *y = static_cast<float>(static_cast<std::int64_t>(b.u64(0))); }

template <FloatLayout kLayout>
void decode_fp8(Block b, float* y) {
  *y = decode_with_table<kLayout>(b.u8(0));
}

// ---- ggml blocks of 32 to 128; of 32, elements j and j + 16 share a byte ---------------

/// f16 d; 16 bytes of nibbles, each a number plus 8.
void decode_q4_0(Block b, float* y) {
  const float d = b.f16(0);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(as_int(b.low_nibble(2 + j)) - 8) * d;
    y[j + 16] = static_cast<float>(as_int(b.high_nibble(2 + j)) - 8) * d;
  }
}

/// f16 d, m; 16 bytes of nibbles.
void decode_q4_1(Block b, float* y) {
  const float d = b.f16(0);
  const float m = b.f16(2);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(b.low_nibble(4 + j)) * d + m;
    y[j + 16] = static_cast<float>(b.high_nibble(4 + j)) * d + m;
  }
}

/// f16 d; 32 fifth bits, element i's at bit i; 16 bytes of nibbles. Codes are numbers plus 16.
void decode_q5_0(Block b, float* y) {
  const float d = b.f16(0);
  const std::uint32_t fifth_bits = b.u32(2);
  for (int j = 0; j < 16; ++j) {
    const unsigned low = b.low_nibble(6 + j) | (fifth_bits >> j & 1) << 4;
    const unsigned high = b.high_nibble(6 + j) | (fifth_bits >> (j + 16) & 1) << 4;
    y[j] = static_cast<float>(as_int(low) - 16) * d;
    y[j + 16] = static_cast<float>(as_int(high) - 16) * d;
  }
}

/// f16 d, m; 32 fifth bits; 16 bytes of nibbles.
void decode_q5_1(Block b, float* y) {
  const float d = b.f16(0);
  const float m = b.f16(2);
  const std::uint32_t fifth_bits = b.u32(4);
  for (int j = 0; j < 16; ++j) {
    const unsigned low = b.low_nibble(8 + j) | (fifth_bits >> j & 1) << 4;
    const unsigned high = b.high_nibble(8 + j) | (fifth_bits >> (j + 16) & 1) << 4;
    y[j] = static_cast<float>(low) * d + m;
    y[j + 16] = static_cast<float>(high) * d + m;
  }
}

/// f16 d; 32 signed bytes.
void decode_q8_0(Block b, float* y) {
  const float d = b.f16(0);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(b.i8(2 + j)) * d;
}

/// f16 d, and the sum of the elements, which decoding does not need; 32 signed bytes.
void decode_q8_1(Block b, float* y) {
  const float d = b.f16(0);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(b.i8(4 + j)) * d;
}

/// The 16 levels of IQ4_NL and IQ4_XS: ggml's kvalues_iq4nl (MIT licence).
constexpr std::array<int, 16> kIq4Levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

/// f16 d; 16 bytes of nibbles that select a level.
void decode_iq4_nl(Block b, float* y) {
  const float d = b.f16(0);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(kIq4Levels[b.low_nibble(2 + j)]) * d;
    y[j + 16] = static_cast<float>(kIq4Levels[b.high_nibble(2 + j)]) * d;
  }
}

/// Twice the values of OCP's e2m1, so that they are integers; the scales below are halved in
/// return. Code 8 is +0, as in ggml.
constexpr std::array<int, 16> kDoubledE2M1 = {0, 1,  2,  3,  4,  6,  8,  12,
                                              0, -1, -2, -3, -4, -6, -8, -12};

/// OCP's FP4 (e2m1), two codes a byte, the first in the low nibble. Unlike ggml's, code 8 is -0. The
/// block's scale lies elsewhere.
template <int kElements>
void decode_fp4(Block b, float* y) {
  for (int i = 0; i < kElements; ++i) {
    const unsigned code = i % 2 == 0 ? b.low_nibble(i / 2) : b.high_nibble(i / 2);
    const float magnitude = static_cast<float>(kDoubledE2M1[code & 7]) * 0.5f;
    y[i] = (code & 8) != 0 ? -magnitude : magnitude;
  }
}

/// OCP's FP6, 32 codes as one little-endian stream of bits, that of element i from bit 6 i on. The
/// block's scale lies elsewhere.
template <FloatLayout kLayout>
void decode_fp6(Block b, float* y) {
  for (int i = 0; i < 32; ++i) {
    unsigned code = 0;
    for (int bit = 0; bit < 6; ++bit) {
      const int at = 6 * i + bit;
      code |= (b.u8(at / 8) >> (at % 8) & 1) << bit;
    }
    y[i] = decode_with_table<kLayout>(code);
  }
}

/// A byte e, for the scale 2^(e - 127), halved; 16 bytes of nibbles. 255 is no NaN for ggml.
void decode_ggml_mxfp4(Block b, float* y) {
  const float half_scale = power_of_two(as_int(b.u8(0)) - 128);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(kDoubledE2M1[b.low_nibble(1 + j)]) * half_scale;
    y[j + 16] = static_cast<float>(kDoubledE2M1[b.high_nibble(1 + j)]) * half_scale;
  }
}

/// ggml's scale of NVFP4: e4m3 whose sign is ignored, 0x7f counts as 0, and 0xff as the number 480.
float decode_nvfp4_scale(unsigned code) {
  if (code == 0x7f) return 0;
  constexpr FloatLayout kNoSpecials = {4, 3, 7, Specials::kNone};
  return static_cast<float>(decode_float(kNoSpecials, code & 0x7f));
}

/// 64 elements: 4 scale bytes, one per 16 elements, then 8 bytes of nibbles for each of these four;
/// element j of 16 pairs with element j + 8.
void decode_ggml_nvfp4(Block b, float* y) {
  for (int group = 0; group < 4; ++group) {
    const float half_scale = decode_nvfp4_scale(b.u8(group)) * 0.5f;
    for (int j = 0; j < 8; ++j) {
      const int at = 4 + group * 8 + j;
      y[group * 16 + j] = static_cast<float>(kDoubledE2M1[b.low_nibble(at)]) * half_scale;
      y[group * 16 + j + 8] = static_cast<float>(kDoubledE2M1[b.high_nibble(at)]) * half_scale;
    }
  }
}

/// 128 elements: f16 d; one bit an element, d if set and -d if not.
void decode_q1_0(Block b, float* y) {
  const float d = b.f16(0);
  for (int i = 0; i < 128; ++i) y[i] = (b.u8(2 + i / 8) >> (i % 8) & 1) != 0 ? d : -d;
}

/// 64 elements: f16 d; two bits an element, a number plus 1, four consecutive elements a byte.
void decode_q2_0(Block b, float* y) {
  const float d = b.f16(0);
  for (int i = 0; i < 64; ++i) {
    const unsigned code = b.u8(2 + i / 4) >> (i % 4 * 2) & 3;
    y[i] = static_cast<float>(as_int(code) - 1) * d;
  }
}

// ---- ggml blocks of 256, with scales of their own for groups of 16 or 32 ---------------

/// Two-bit codes are stored as two runs of 128 elements; in each, 32 bytes hold elements l, l + 32,
/// l + 64 and l + 96 in bits 0-1, 2-3, 4-5 and 6-7 of byte l.
unsigned two_bits_of_256(Block b, int codes_at, int element) {
  const int byte = codes_at + element / 128 * 32 + element % 32;
  return b.u8(byte) >> (element / 32 % 4 * 2) & 3;
}

/// 16 bytes, one per 16 elements: scale in the low nibble, minimum in the high one; 64 bytes of
/// two-bit codes; f16 d, dmin. Value: (d * scale) * code - dmin * minimum.
void decode_q2_K(Block b, float* y) {
  const float d = b.f16(80);
  const float dmin = b.f16(82);
  for (int group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(b.low_nibble(group));
    const float minimum = dmin * static_cast<float>(b.high_nibble(group));
    for (int i = group * 16; i < group * 16 + 16; ++i) {
      y[i] = scale * static_cast<float>(two_bits_of_256(b, 16, i)) - minimum;
    }
  }
}

/// 32 bytes of third bits, that of element i at bit i / 32 of byte i % 32; 64 bytes of two-bit
/// codes; 12 bytes of six-bit scales plus 32, one per 16 elements; f16 d. Codes are numbers plus 4.
void decode_q3_K(Block b, float* y) {
  constexpr int kScales = 96;  // byte offset
  const float d = b.f16(108);
  for (int group = 0; group < 16; ++group) {
    // 8 bytes with the low four bits, groups 8 and up in the high nibbles; 4 bytes with the others.
    const unsigned low =
        group < 8 ? b.low_nibble(kScales + group) : b.high_nibble(kScales + group - 8);
    const unsigned high = b.u8(kScales + 8 + group % 4) >> (group / 4 * 2) & 3;
    const float scale = d * static_cast<float>(as_int(low | high << 4) - 32);
    for (int i = group * 16; i < group * 16 + 16; ++i) {
      const unsigned third_bit = b.u8(i % 32) >> (i / 32) & 1;
      const unsigned code = two_bits_of_256(b, 32, i) | third_bit << 2;
      y[i] = scale * static_cast<float>(as_int(code) - 4);
    }
  }
}

struct ScaleAndMinimum {
  float scale;
  float minimum;
};

/// The eight pairs of six-bit numbers that Q4_K and Q5_K hold in 12 bytes from byte 4 on: pairs 0-3
/// in the low six bits of bytes 0-3 (scales) and 4-7 (minima); pairs 4-7 have their low four bits
/// in bytes 8-11 (scale low, minimum high nibble) and their upper two in the top bits of bytes 0-3
/// and 4-7.
ScaleAndMinimum get_scale_and_minimum(Block b, int group) {
  constexpr int kPairs = 4;  // byte offset
  unsigned scale;
  unsigned minimum;
  if (group < 4) {
    scale = b.u8(kPairs + group) & 63;
    minimum = b.u8(kPairs + 4 + group) & 63;
  } else {
    scale = b.low_nibble(kPairs + 4 + group) | b.u8(kPairs + group - 4) >> 6 << 4;
    minimum = b.high_nibble(kPairs + 4 + group) | b.u8(kPairs + group) >> 6 << 4;
  }
  const float d = b.f16(0);
  const float dmin = b.f16(2);
  return {d * static_cast<float>(scale), dmin * static_cast<float>(minimum)};
}

/// f16 d, dmin; 12 bytes of scales and minima, one pair per 32 elements; 128 bytes of nibbles,
/// where 32 bytes hold 32 elements in their low nibbles and the next 32 in the high ones.
void decode_q4_K(Block b, float* y) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, minimum] = get_scale_and_minimum(b, group);
    for (int l = 0; l < 32; ++l) {
      const int at = 16 + group / 2 * 32 + l;
      const unsigned code = group % 2 == 0 ? b.low_nibble(at) : b.high_nibble(at);
      y[group * 32 + l] = scale * static_cast<float>(code) - minimum;
    }
  }
}

/// As Q4_K, with 32 bytes of fifth bits before the nibbles: that of element l of group g at bit g
/// of byte l.
void decode_q5_K(Block b, float* y) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, minimum] = get_scale_and_minimum(b, group);
    for (int l = 0; l < 32; ++l) {
      const int at = 48 + group / 2 * 32 + l;
      const unsigned nibble = group % 2 == 0 ? b.low_nibble(at) : b.high_nibble(at);
      const unsigned fifth_bit = b.u8(16 + l) >> group & 1;
      y[group * 32 + l] = scale * static_cast<float>(nibble | fifth_bit << 4) - minimum;
    }
  }
}

/// 128 bytes of nibbles, 64 bytes of upper two bits, 16 signed bytes of scales, one per 16
/// elements, f16 d. Codes are numbers plus 32. In each run of 128 elements, 64 bytes hold the first
/// 64 elements in their low nibbles and the others in the high ones.
void decode_q6_K(Block b, float* y) {
  const float d = b.f16(208);
  for (int group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(b.i8(192 + group));
    for (int i = group * 16; i < group * 16 + 16; ++i) {
      const int at = i / 128 * 64 + i % 64;
      const unsigned low = i % 128 < 64 ? b.low_nibble(at) : b.high_nibble(at);
      const unsigned code = low | two_bits_of_256(b, 128, i) << 4;
      y[i] = scale * static_cast<float>(as_int(code) - 32);
    }
  }
}

/// f32 d; 256 signed bytes; sums of 16 elements, which decoding does not need.
void decode_q8_K(Block b, float* y) {
  const float d = b.f32(0);
  for (int i = 0; i < 256; ++i) y[i] = static_cast<float>(b.i8(4 + i)) * d;
}

/// f16 d; 16 bits with the upper two bits of the eight scales; 4 bytes with their lower nibbles;
/// 128 bytes of nibbles that select a level, for each 32 elements as in IQ4_NL. Scales are numbers
/// plus 32.
void decode_iq4_xs(Block b, float* y) {
  const float d = b.f16(0);
  for (int group = 0; group < 8; ++group) {
    const int low_at = 4 + group / 2;
    const unsigned low = group % 2 == 0 ? b.low_nibble(low_at) : b.high_nibble(low_at);
    const unsigned high = b.u16(2) >> (group * 2) & 3;
    const float scale = d * static_cast<float>(as_int(low | high << 4) - 32);
    for (int j = 0; j < 16; ++j) {
      const int at = 8 + group * 16 + j;
      y[group * 32 + j] = scale * static_cast<float>(kIq4Levels[b.low_nibble(at)]);
      y[group * 32 + j + 16] = scale * static_cast<float>(kIq4Levels[b.high_nibble(at)]);
    }
  }
}

/// Digit `index`, most significant first, of a byte that holds base-3 digits as a fraction of 256:
/// times 3 moves the next digit to the integer part, and the byte that is left is the remainder.
unsigned ternary_digit(unsigned byte, int index) {
  for (int i = 0; i < index; ++i) byte = byte * 3 & 255;
  return byte * 3 >> 8;
}

/// 48 + 4 bytes of base-3 digits, f16 d; digits are numbers plus 1. The first 32 bytes hold five
/// digits each, elements m, m + 32, ..., m + 128 in byte m; the next 16 bytes elements 160 and up,
/// 16 apart; the last 4 bytes four digits each, elements 240 and up, 4 apart.
void decode_tq1_0(Block b, float* y) {
  const float d = b.f16(52);
  const auto decode_run = [&](int first_byte, int bytes, int digits, int first_element) {
    for (int n = 0; n < digits; ++n) {
      for (int m = 0; m < bytes; ++m) {
        const unsigned digit = ternary_digit(b.u8(first_byte + m), n);
        y[first_element + n * bytes + m] = static_cast<float>(as_int(digit) - 1) * d;
      }
    }
  };
  decode_run(0, 32, 5, 0);
  decode_run(32, 16, 5, 160);
  decode_run(48, 4, 4, 240);
}

/// 64 bytes of two-bit codes, numbers plus 1; f16 d.
void decode_tq2_0(Block b, float* y) {
  const float d = b.f16(64);
  for (int i = 0; i < 256; ++i) {
    y[i] = static_cast<float>(as_int(two_bits_of_256(b, 0, i)) - 1) * d;
  }
}

// ---- ggml blocks of 256 whose codes are entries of a codebook ---------------------------

template <FormatId kFormat>
const Codebook& codebook() {
  static const Codebook& found = *find_codebook(kFormat);
  return found;
}

/// scale times the elements of an entry, those negated whose bit of `signs` is set.
void decode_entry(const Codebook& book, unsigned entry, unsigned signs, float scale, float* y) {
  for (int i = 0; i < book.entry_elems; ++i) {
    const float magnitude = scale * static_cast<float>(book.level(entry, i));
    y[i] = (signs >> i & 1) != 0 ? -magnitude : magnitude;
  }
}

/// Eight signs of which seven are stored: the number of set ones is even.
unsigned with_eighth_sign(unsigned seven_signs) {
  return seven_signs | (static_cast<unsigned>(std::popcount(seven_signs)) & 1) << 7;
}

/// f16 d; for each 32 elements, four bytes that are entries and a word with four times seven signs
/// and, at the top, a scale of four bits. Scales are halves of odd numbers, quartered.
void decode_iq2_xxs(Block b, float* y) {
  const float d = b.f16(0);
  for (int group = 0; group < 8; ++group) {
    const int at = 2 + group * 8;
    const std::uint32_t signs_and_scale = b.u32(at + 4);
    const float scale = d * (0.5f + static_cast<float>(signs_and_scale >> 28)) * 0.25f;
    for (int l = 0; l < 4; ++l) {
      const unsigned signs = with_eighth_sign(signs_and_scale >> (7 * l) & 127);
      decode_entry(codebook<FormatId::kIQ2_XXS>(), b.u8(at + l), signs, scale,
                   y + group * 32 + l * 8);
    }
  }
}

/// The scale of 16 elements in iq2_xs and iq2_s, from a nibble of the bytes at `scales_at`.
float iq2_scale(Block b, int scales_at, int sixteen) {
  const int at = scales_at + sixteen / 2;
  const unsigned scale = sixteen % 2 == 0 ? b.low_nibble(at) : b.high_nibble(at);
  return b.f16(0) * (0.5f + static_cast<float>(scale)) * 0.25f;
}

/// f16 d; 16 bits for each eight elements, nine of an entry and seven signs; 8 bytes with a nibble
/// of scale for each 16 elements.
void decode_iq2_xs(Block b, float* y) {
  for (int eight = 0; eight < 32; ++eight) {
    const unsigned code = b.u16(2 + eight * 2);
    decode_entry(codebook<FormatId::kIQ2_XS>(), code & 511, with_eighth_sign(code >> 9),
                 iq2_scale(b, 66, eight / 2), y + eight * 8);
  }
}

/// f16 d; for each eight elements a byte of an entry, 32 of them, and a byte of signs; 8 bytes with
/// the upper two bits of four entries each; 8 bytes of scales as in IQ2_XS.
void decode_iq2_s(Block b, float* y) {
  for (int eight = 0; eight < 32; ++eight) {
    const unsigned high = b.u8(66 + eight / 4) >> (eight % 4 * 2) & 3;
    decode_entry(codebook<FormatId::kIQ2_S>(), b.u8(2 + eight) | high << 8, b.u8(34 + eight),
                 iq2_scale(b, 74, eight / 2), y + eight * 8);
  }
}

/// f16 d; a byte that is an entry for each four elements; for each 32 elements a word with four times
/// seven signs and, at the top, a scale of four bits. Scales are halves of odd numbers, halved.
void decode_iq3_xxs(Block b, float* y) {
  const float d = b.f16(0);
  for (int eight = 0; eight < 32; ++eight) {
    const std::uint32_t signs_and_scale = b.u32(66 + eight / 4 * 4);
    const unsigned signs = with_eighth_sign(signs_and_scale >> (eight % 4 * 7) & 127);
    const float scale = d * (0.5f + static_cast<float>(signs_and_scale >> 28)) * 0.5f;
    const Codebook& book = codebook<FormatId::kIQ3_XXS>();
    decode_entry(book, b.u8(2 + eight * 2), signs, scale, y + eight * 8);
    decode_entry(book, b.u8(3 + eight * 2), signs >> 4, scale, y + eight * 8 + 4);
  }
}

/// f16 d; a byte of an entry for each four elements, 64 of them; 8 bytes with the ninth bits of eight
/// entries each; 32 bytes of signs; 4 bytes with a nibble of scale for each 32 elements. Scales are
/// odd numbers.
void decode_iq3_s(Block b, float* y) {
  const float d = b.f16(0);
  for (int four = 0; four < 64; ++four) {
    const unsigned ninth_bit = b.u8(66 + four / 8) >> (four % 8) & 1;
    const unsigned signs = b.u8(74 + four / 2) >> (four % 2 * 4);
    const unsigned nibble = b.u8(106 + four / 16) >> (four / 8 % 2 * 4) & 15;
    decode_entry(codebook<FormatId::kIQ3_S>(), b.u8(2 + four) | ninth_bit << 8, signs,
                 d * static_cast<float>(1 + 2 * nibble), y + four * 4);
  }
}

/// An entry of IQ1's codebook, shifted by an eighth up or down.
void decode_shifted_entry(unsigned entry, bool is_down, float scale, float* y) {
  const Codebook& book = codebook<FormatId::kIQ1_S>();
  const float shift = is_down ? -0.125f : 0.125f;
  for (int i = 0; i < 8; ++i) y[i] = scale * (static_cast<float>(book.level(entry, i)) + shift);
}

/// f16 d; a byte of an entry for each eight elements, 32 of them; 16 bits for each 32 elements: the
/// upper three bits of four entries, three bits of scale, whether the entries are shifted down.
/// Scales are odd numbers.
void decode_iq1_s(Block b, float* y) {
  const float d = b.f16(0);
  for (int eight = 0; eight < 32; ++eight) {
    const unsigned group = b.u16(34 + eight / 4 * 2);
    const unsigned high = group >> (eight % 4 * 3) & 7;
    const float scale = d * static_cast<float>(2 * (group >> 12 & 7) + 1);
    decode_shifted_entry(b.u8(2 + eight) | high << 8, group >> 15 != 0, scale, y + eight * 8);
  }
}

/// A byte of an entry for each eight elements, 32 of them, and a nibble, 16 bytes: the upper three
/// bits of the entry and whether it is shifted down; four 16-bit words, each with four times three
/// bits of scale, for 16 elements each, and at the top a nibble of the f16 d, the first the lowest.
void decode_iq1_m(Block b, float* y) {
  constexpr int kScales = 48;  // byte offset
  unsigned d_bits = 0;
  for (int word = 0; word < 4; ++word) d_bits |= (b.u16(kScales + word * 2) >> 12) << (4 * word);
  const float d = decode_with_table<kF16Layout>(d_bits);
  for (int eight = 0; eight < 32; ++eight) {
    const unsigned nibble = b.u8(32 + eight / 2) >> (eight % 2 * 4) & 15;
    const int sixteen = eight / 2;
    const unsigned odd = b.u16(kScales + sixteen / 4 * 2) >> (sixteen % 4 * 3) & 7;
    decode_shifted_entry(b.u8(eight) | (nibble & 7) << 8, (nibble & 8) != 0,
                         d * static_cast<float>(2 * odd + 1), y + eight * 8);
  }
}

// ---- One entry a format ----------------------------------------------------------------

using BlockDecoder = void (*)(Block, float*);

/// Null for formats that have no reference decode.
BlockDecoder find_block_decoder(FormatId id) {
  switch (id) {
    case FormatId::kF32:
      return decode_f32;
    case FormatId::kF16:
      return decode_f16;
    case FormatId::kBF16:
      return decode_bf16;
    case FormatId::kF64:
      return decode_f64;
    case FormatId::kI8:
      return decode_i8;
    case FormatId::kI16:
      return decode_i16;
    case FormatId::kI32:
      return decode_i32;
    case FormatId::kI64:
      return decode_i64;
    case FormatId::kFp8E4M3:
      return decode_fp8<kE4M3Layout>;
    case FormatId::kFp8E5M2:
      return decode_fp8<kE5M2Layout>;
    case FormatId::kFp8E4B15:
      return decode_fp8<kE4B15Layout>;
    case FormatId::kFp8E4M3Fnuz:
      return decode_fp8<kE4M3FnuzLayout>;
    case FormatId::kFp8E5M2Fnuz:
      return decode_fp8<kE5M2FnuzLayout>;
    case FormatId::kMxfp6E2M3:
      return decode_fp6<kE2M3Layout>;
    case FormatId::kMxfp6E3M2:
      return decode_fp6<kE3M2Layout>;
    case FormatId::kMxfp4:
      return decode_fp4<32>;
    case FormatId::kNvfp4:
      return decode_fp4<16>;
    case FormatId::kQ4_0:
      return decode_q4_0;
    case FormatId::kQ4_1:
      return decode_q4_1;
    case FormatId::kQ5_0:
      return decode_q5_0;
    case FormatId::kQ5_1:
      return decode_q5_1;
    case FormatId::kQ8_0:
      return decode_q8_0;
    case FormatId::kQ8_1:
      return decode_q8_1;
    case FormatId::kQ2_K:
      return decode_q2_K;
    case FormatId::kQ3_K:
      return decode_q3_K;
    case FormatId::kQ4_K:
      return decode_q4_K;
    case FormatId::kQ5_K:
      return decode_q5_K;
    case FormatId::kQ6_K:
      return decode_q6_K;
    case FormatId::kQ8_K:
      return decode_q8_K;
    case FormatId::kIQ4_NL:
      return decode_iq4_nl;
    case FormatId::kIQ4_XS:
      return decode_iq4_xs;
    case FormatId::kTQ1_0:
      return decode_tq1_0;
    case FormatId::kTQ2_0:
      return decode_tq2_0;
    case FormatId::kGgmlMxfp4:
      return decode_ggml_mxfp4;
    case FormatId::kGgmlNvfp4:
      return decode_ggml_nvfp4;
    case FormatId::kQ1_0:
      return decode_q1_0;
    case FormatId::kQ2_0:
      return decode_q2_0;
    case FormatId::kIQ1_S:
      return decode_iq1_s;
    case FormatId::kIQ1_M:
      return decode_iq1_m;
    case FormatId::kIQ2_XXS:
      return decode_iq2_xxs;
    case FormatId::kIQ2_XS:
      return decode_iq2_xs;
    case FormatId::kIQ2_S:
      return decode_iq2_s;
    case FormatId::kIQ3_XXS:
      return decode_iq3_xxs;
    case FormatId::kIQ3_S:
      return decode_iq3_s;
    // Types that files hold and nothing computes with.
    case FormatId::kBool:
    case FormatId::kU8:
    case FormatId::kU16:
    case FormatId::kU32:
    case FormatId::kU64:
    case FormatId::kC64:
    case FormatId::kE8M0:
    case FormatId::kFp4E2M1:
    case FormatId::kFp6E2M3:
    case FormatId::kFp6E3M2:
      return nullptr;
  }
  return nullptr;
}

}  // namespace

bool has_reference_decode(FormatId id) { return find_block_decoder(id) != nullptr; }

void decode_row(FormatId id, std::span<const std::byte> row_bytes, std::span<float> out) {
  const Format& format = get_format(id);
  const BlockDecoder decode_block = find_block_decoder(id);
  if (decode_block == nullptr) {
    throw SpecError("reference decode: format", format.name, "every format that is computed with");
  }
  const auto block_elems = static_cast<std::size_t>(format.block_elems);
  const auto block_bytes = static_cast<std::size_t>(format.block_bytes);
  if (out.size() % block_elems != 0) {
    throw SpecError(fmt::format("reference decode: columns of {}", format.name),
                    fmt::format("{}", out.size()), fmt::format("multiples of {}", block_elems));
  }
  const std::size_t blocks = out.size() / block_elems;
  if (row_bytes.size() != blocks * block_bytes) {
    throw SpecError(
        fmt::format("reference decode: bytes of a row of {} {}", out.size(), format.name),
        fmt::format("{}", row_bytes.size()), fmt::format("{}", blocks * block_bytes));
  }
  for (std::size_t i = 0; i < blocks; ++i) {
    decode_block(Block(row_bytes.data() + i * block_bytes), out.data() + i * block_elems);
  }
}

}  // namespace ktjit
