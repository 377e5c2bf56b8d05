// Narrowing by search among the values of all codes. Compile with -ffp-contract=off, as
// reference_decode.cpp. The blocks of q8_0 and q4_0: facts of ggml, August 2026.
#include "jit/reference_encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>

#include "core/error.h"
#include "core/tensor_layout.h"

namespace ktjit {
namespace {

/// A float of up to 8 bits, by its definition.
struct Definition {
  int bits;           ///< of a code: sign, exponent, mantissa
  int mantissa_bits;  ///< below the exponent
  int bias;           ///< of the exponent
  unsigned largest;   ///< finite code without sign that encoding gives
  unsigned overflow;  ///< code of overflow, not saturating, without sign
  unsigned nan;
  bool nan_has_sign;  ///< not saturating
  bool fnuz;          ///< the sign bit alone is the only NaN, there is no -0
};

Definition definition_of(FormatId element) {
  switch (element) {
    case FormatId::kFp8E4M3:
      return {8, 3, 7, 0x7e, 0x7f, 0x7f, true, false};
    case FormatId::kFp8E5M2:
      return {8, 2, 15, 0x7b, 0x7c, 0x7f, true, false};
    case FormatId::kFp8E4B15:
      return {8, 3, 15, 0x7e, 0x7e, 0x7e, false, false};
    case FormatId::kFp8E4M3Fnuz:
      return {8, 3, 8, 0x7f, 0x80, 0x80, true, true};
    case FormatId::kFp8E5M2Fnuz:
      return {8, 2, 16, 0x7f, 0x80, 0x80, true, true};
    case FormatId::kFp6E2M3:
      return {6, 3, 1, 0x1f, 0x1f, 0x1f, false, false};
    case FormatId::kFp6E3M2:
      return {6, 2, 3, 0x1f, 0x1f, 0x1f, false, false};
    case FormatId::kFp4E2M1:
      return {4, 1, 1, 0x7, 0x7, 0x7, false, false};
    default:
      throw SpecError("reference: format to encode", get_format(element).name,
                      "a float of 4 to 8 bits");
  }
}

bool is_narrow_float(FormatId format) {
  const std::string_view name = get_format(format).name;
  return get_format(format).family == FormatFamily::kFp8 || name.starts_with("fp6_") ||
         name.starts_with("fp4_");
}

/// The number that a code without sign stands for, also one beyond the largest.
double value_of(const Definition& definition, unsigned code) {
  const unsigned one = 1U << definition.mantissa_bits;
  const int exponent = static_cast<int>(code / one);
  const unsigned mantissa = code % one;
  const int unit = 1 - definition.bias - definition.mantissa_bits;  // of the subnormals
  return exponent == 0 ? std::ldexp(mantissa, unit)
                       : std::ldexp(one + mantissa, exponent - 1 + unit);
}

/// The numbers of the codes 0 to largest + 1, in their order, which is that of the codes.
const std::vector<double>& values_of(FormatId element) {
  static const auto tables = [] {
    std::vector<std::vector<double>> all(all_formats().size());
    for (const Format& format : all_formats()) {
      if (!is_narrow_float(format.id)) continue;
      const Definition definition = definition_of(format.id);
      for (unsigned code = 0; code <= definition.largest + 1; ++code)
        all[static_cast<std::size_t>(format.id)].push_back(value_of(definition, code));
    }
    return all;
  }();
  return tables.at(static_cast<std::size_t>(element));
}

/// The index of the value nearest to a magnitude, of two the even one; the last one for what is beyond it.
unsigned nearest_code(const std::vector<double>& values, double magnitude) {
  const auto above = std::upper_bound(values.begin(), values.end(), magnitude);
  const auto lower = static_cast<unsigned>(above - values.begin()) - 1;  // values[0] is 0
  if (above == values.end()) return lower;
  const double down = magnitude - values[lower];
  const double up = *above - magnitude;
  if (down != up) return down < up ? lower : lower + 1;
  return lower % 2 == 0 ? lower : lower + 1;
}

/// The code of a magnitude's nearest one with the sign, overflow as it is asked for.
std::uint8_t finish_code(const Definition& definition, unsigned code, bool negative,
                         bool saturate) {
  if (code > definition.largest) code = saturate ? definition.largest : definition.overflow;
  if (definition.fnuz && code == 0) return 0;
  const unsigned sign = negative ? 1U << (definition.bits - 1) : 0;
  return static_cast<std::uint8_t>(code | sign);
}

std::uint8_t nan_code(const Definition& definition, bool negative, bool saturate) {
  const bool keeps_sign = !saturate && definition.nan_has_sign;
  const unsigned sign = negative && keeps_sign ? 1U << (definition.bits - 1) : 0;
  return static_cast<std::uint8_t>(definition.nan | sign);
}

/// The matrix and where the elements of one block lie in it.
struct Block {
  std::int64_t row_begin, row_end, col_begin, col_end;
};

template <typename Use>
void for_each_element(const Block& block, std::int64_t cols, const Use& use) {
  for (std::int64_t row = block.row_begin; row < block.row_end; ++row) {
    for (std::int64_t col = block.col_begin; col < block.col_end; ++col)
      use(static_cast<std::size_t>(row * cols + col));
  }
}

template <typename T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(T));
}

/// Quantises one block: fills codes, one in a byte, and appends its scale.
void quantize_block(const QuantizeRules& rules, std::span<const float> x, const Block& block,
                    std::int64_t cols, std::vector<std::uint8_t>& codes,
                    std::vector<std::byte>& scales) {
  const FormatId element = element_format(rules.format);
  const float largest_code = largest_float(element);
  float largest = 0;
  bool all_finite = true;
  for_each_element(block, cols, [&](std::size_t i) {
    if (std::abs(x[i]) > largest) largest = std::abs(x[i]);  // false for NaN
    all_finite = all_finite && std::isfinite(x[i]);
  });
  const auto encode_all = [&](const auto& scaled) {
    for_each_element(block, cols,
                     [&](std::size_t i) { codes[i] = encode_float(element, scaled(x[i]), true); });
  };
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  switch (rules.grid->type) {
    case ScaleType::kF32: {
      float scale = largest / largest_code;
      if (scale == 0) scale = 1;
      append(scales, scale);
      encode_all([&](float value) { return value / scale; });
      return;
    }
    case ScaleType::kE8M0: {
      constexpr int kBias = 127;
      int exponent = -kBias;
      if (largest > 0)
        exponent = std::max(exponent, std::ilogb(largest) - std::ilogb(largest_code));
      append(scales, static_cast<std::uint8_t>(all_finite ? exponent + kBias : 255));
      encode_all([&](float value) {
        return all_finite ? std::ldexp(static_cast<double>(value), -exponent) : kNan;
      });
      return;
    }
    case ScaleType::kE4M3: {
      const float relative = largest / largest_code / rules.tensor_scale;
      const std::uint8_t code =
          encode_float(FormatId::kFp8E4M3, all_finite ? relative : kNan, true);
      append(scales, code);
      const auto decoded =
          static_cast<float>(value_of(definition_of(FormatId::kFp8E4M3), code & 0x7fU));
      const float scale = decoded * rules.tensor_scale;
      encode_all([&](float value) -> double {
        if (!all_finite) return kNan;
        return scale == 0 ? std::copysign(0.0F, value) : value / scale;
      });
      return;
    }
    case ScaleType::kBF16:
      break;
  }
  throw SpecError("reference: scales", scale_grid_name(rules.grid), "f32, e8m0 or e4m3");
}

/// f16 of a number that is none or not below 0x1p-149, to nearest even, in double.
std::uint16_t to_f16(float value) {
  if (std::isnan(value)) return 0x7e00;
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::abs(static_cast<double>(value));
  if (magnitude >= 65520) return sign | 0x7c00;
  constexpr int kMantissaBits = 10;
  constexpr int kSmallestExponent = -14;
  const int exponent =
      magnitude == 0 ? kSmallestExponent : std::max(kSmallestExponent, std::ilogb(magnitude));
  const double steps = std::nearbyint(std::ldexp(magnitude, kMantissaBits - exponent));
  return static_cast<std::uint16_t>(sign + (exponent - kSmallestExponent) * (1 << kMantissaBits) +
                                    static_cast<int>(steps));
}

constexpr std::size_t kGgmlBlock = 32;

void quantize_q8_0(std::span<const float> x, std::vector<std::byte>& out) {
  float largest = 0;
  bool has_nan = false;
  for (float value : x) {
    largest = std::max(largest, std::abs(value));
    has_nan = has_nan || std::isnan(value);
  }
  const float d = has_nan ? std::numeric_limits<float>::quiet_NaN() : largest / 127;
  const float inverse = d != 0 ? 1 / d : 0;
  append(out, to_f16(d));
  for (float value : x) {
    const float rounded = std::round(value * inverse);
    append(out, static_cast<std::int8_t>(std::isfinite(rounded) ? rounded : 0));
  }
}

void quantize_q4_0(std::span<const float> x, std::vector<std::byte>& out) {
  float largest = 0;  // the first of the largest magnitude, with its sign
  bool has_nan = false;
  for (float value : x) {
    if (std::abs(value) > std::abs(largest)) largest = value;
    has_nan = has_nan || std::isnan(value);
  }
  const float d = has_nan ? std::numeric_limits<float>::quiet_NaN() : largest / -8;
  const float inverse = d != 0 ? 1 / d : 0;
  append(out, to_f16(d));
  const auto code = [&](std::size_t i) {
    const float product = x[i] * inverse;
    const float shifted = product + 8.5F;
    return std::isfinite(shifted) ? std::min(15, static_cast<int>(shifted)) : 0;
  };
  for (std::size_t i = 0; i < kGgmlBlock / 2; ++i)
    append(out, static_cast<std::uint8_t>(code(i) | code(i + kGgmlBlock / 2) << 4));
}

}  // namespace

FormatId element_format(FormatId format) {
  switch (format) {
    case FormatId::kMxfp4:
    case FormatId::kNvfp4:
      return FormatId::kFp4E2M1;
    case FormatId::kMxfp6E2M3:
      return FormatId::kFp6E2M3;
    case FormatId::kMxfp6E3M2:
      return FormatId::kFp6E3M2;
    default:
      definition_of(format);  // refuses others
      return format;
  }
}

int code_bits(FormatId format) { return definition_of(element_format(format)).bits; }

float largest_float(FormatId format) {
  const Definition definition = definition_of(element_format(format));
  return static_cast<float>(value_of(definition, definition.largest));
}

std::uint8_t encode_float(FormatId format, double value, bool saturate) {
  const Definition definition = definition_of(element_format(format));
  const bool negative = std::signbit(value);
  if (std::isnan(value)) return nan_code(definition, negative, saturate);
  const unsigned code = nearest_code(values_of(element_format(format)), std::abs(value));
  return finish_code(definition, code, negative, saturate);
}

std::vector<CodeRun> codes_of_all_f32(FormatId format, bool saturate) {
  const Definition definition = definition_of(element_format(format));
  const std::vector<double>& values = values_of(element_format(format));
  constexpr std::uint32_t kSignBit = 0x80000000;
  constexpr std::uint32_t kInfinity = 0x7f800000;
  std::vector<CodeRun> runs;
  for (const bool negative : {false, true}) {
    const std::uint32_t sign = negative ? kSignBit : 0;
    runs.push_back({sign, finish_code(definition, 0, negative, saturate)});
    for (unsigned code = 1; code <= definition.largest + 1; ++code) {
      const double midpoint = (values[code - 1] + values[code]) / 2;
      const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(midpoint));
      KTJIT_CHECK(std::bit_cast<float>(bits) == midpoint);          // a few bits: f32 has them all
      const std::uint32_t first = code % 2 == 0 ? bits : bits + 1;  // the midpoint goes to the even
      runs.push_back({sign | first, finish_code(definition, code, negative, saturate)});
    }
    runs.push_back({sign | (kInfinity + 1), nan_code(definition, negative, saturate)});
  }
  return runs;
}

std::vector<std::byte> pack_codes(std::span<const std::uint8_t> codes, int bits) {
  std::vector<std::byte> bytes((codes.size() * static_cast<std::size_t>(bits) + 7) / 8);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    for (std::size_t bit = 0; bit < static_cast<std::size_t>(bits); ++bit) {
      const std::size_t at = i * static_cast<std::size_t>(bits) + bit;
      if ((codes[i] >> bit & 1U) != 0) bytes[at / 8] |= std::byte{1} << (at % 8);
    }
  }
  return bytes;
}

QuantizedRows quantize_reference(const QuantizeRules& rules, std::span<const float> x,
                                 std::int64_t rows, std::int64_t cols) {
  const Format& format = get_format(rules.format);
  row_bytes(format, cols);  // refuses columns that are no whole number of blocks
  if (rows < 0 || x.size() != static_cast<std::size_t>(rows * cols)) {
    throw SpecError("reference: size of x", fmt::format("{}", x.size()),
                    fmt::format("{} x {}", rows, cols));
  }
  QuantizedRows result;
  if (rules.format == FormatId::kQ8_0 || rules.format == FormatId::kQ4_0) {
    const auto quantize = rules.format == FormatId::kQ8_0 ? quantize_q8_0 : quantize_q4_0;
    for (std::size_t i = 0; i < x.size(); i += kGgmlBlock)
      quantize(x.subspan(i, kGgmlBlock), result.codes);
    return result;
  }
  const int bits = code_bits(rules.format);
  std::vector<std::uint8_t> codes(x.size());
  if (!rules.grid) {
    for (std::size_t i = 0; i < x.size(); ++i)
      codes[i] = encode_float(rules.format, x[i], rules.saturate);
  } else {
    const ScaleGrid& grid = *rules.grid;
    if (grid.type == ScaleType::kE4M3) {
      append(result.scales, rules.tensor_scale);
      result.scales.resize(static_cast<std::size_t>(grid.plane_bytes(0, 0)));
    }
    const std::int64_t block_rows = grid.block_rows == 0 ? rows : grid.block_rows;
    const std::int64_t block_cols = grid.block_cols == 0 ? cols : grid.block_cols;
    for (std::int64_t row = 0; row < rows; row += block_rows) {
      for (std::int64_t col = 0; col < cols; col += block_cols) {
        const Block block = {row, std::min(row + block_rows, rows), col,
                             std::min(col + block_cols, cols)};
        quantize_block(rules, x, block, cols, codes, result.scales);
      }
    }
  }
  result.codes = pack_codes(codes, bits);
  return result;
}

float nvfp4_tensor_scale(std::span<const float> x) {
  float largest = 0;
  for (float value : x) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  const float scale =
      largest / (largest_float(FormatId::kFp8E4M3) * largest_float(FormatId::kFp4E2M1));
  return scale == 0 ? 1 : scale;
}

}  // namespace ktjit
