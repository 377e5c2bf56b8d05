// Narrowing by search among the values of all codes. Compile with -ffp-contract=off, as
// reference_decode.cpp.
#include "jit/reference_encode.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "core/error.h"
#include "jit/reference_decode.h"

namespace ktjit {
namespace {

constexpr unsigned kSign = 0x80;

/// What the definitions say beyond the values of codes.
struct Fp8Rules {
  unsigned largest;   ///< finite code without sign that encoding gives
  unsigned overflow;  ///< code of overflow, not saturating, without sign
  unsigned nan;
  bool fnuz;  ///< 0x80 is the only NaN, there is no -0
};

Fp8Rules rules_of(FormatId format) {
  switch (format) {
    case FormatId::kFp8E4M3:
      return {0x7e, 0x7f, 0x7f, false};
    case FormatId::kFp8E5M2:
      return {0x7b, 0x7c, 0x7f, false};
    case FormatId::kFp8E4B15:
      return {0x7e, 0x7e, 0x7e, false};
    case FormatId::kFp8E4M3Fnuz:
    case FormatId::kFp8E5M2Fnuz:
      return {0x7f, kSign, kSign, true};
    default:
      throw SpecError("reference: format to encode", get_format(format).name, "an FP8 format");
  }
}

/// The values of the codes 0 to `largest`, in their order, which is that of the codes.
std::vector<double> finite_values(FormatId format, unsigned largest) {
  std::vector<double> values;
  for (unsigned code = 0; code <= largest; ++code) {
    const std::byte byte{static_cast<unsigned char>(code)};
    float value = 0;
    decode_row(format, {&byte, 1}, {&value, 1});
    values.push_back(value);
  }
  return values;
}

const std::vector<double>& finite_values_once(FormatId format) {
  static const auto tables = [] {
    std::vector<std::vector<double>> all;
    for (const Format& facts : all_formats()) {
      const bool is_fp8 = facts.family == FormatFamily::kFp8;
      all.push_back(is_fp8 ? finite_values(facts.id, rules_of(facts.id).largest)
                           : std::vector<double>{});
    }
    return all;
  }();
  return tables.at(static_cast<std::size_t>(format));
}

/// The code nearest to a magnitude; values.size() if that is what would follow the largest one.
unsigned nearest_code(const std::vector<double>& values, double magnitude) {
  const auto above = std::upper_bound(values.begin(), values.end(), magnitude);
  const auto lower = static_cast<unsigned>(above - values.begin()) - 1;  // values[0] is 0
  const double lower_value = values[lower];
  const double upper_value =
      above != values.end() ? *above : 2 * lower_value - values[lower - 1];  // one step on
  const double down = magnitude - lower_value;
  const double up = upper_value - magnitude;
  if (down != up) return down < up ? lower : lower + 1;
  return lower % 2 == 0 ? lower : lower + 1;
}

}  // namespace

float largest_fp8(FormatId format) {
  rules_of(format);  // refuses others
  return static_cast<float>(finite_values_once(format).back());
}

std::uint8_t encode_fp8(FormatId format, float value, bool saturate) {
  const Fp8Rules rules = rules_of(format);
  const unsigned sign = std::signbit(value) ? kSign : 0;
  if (std::isnan(value)) {
    const bool keeps_sign = !saturate && format != FormatId::kFp8E4B15;
    return static_cast<std::uint8_t>(rules.nan | (keeps_sign ? sign : 0));
  }
  unsigned code = rules.largest + 1;
  if (!std::isinf(value)) {
    code = nearest_code(finite_values_once(format), std::abs(static_cast<double>(value)));
  }
  if (code > rules.largest) code = saturate ? rules.largest : rules.overflow;
  if (rules.fnuz && code == 0) return 0;
  return static_cast<std::uint8_t>(code | sign);
}

QuantizedRows quantize_rows_reference(FormatId format, std::span<const float> x, std::int64_t rows,
                                      std::int64_t cols, std::int64_t group) {
  const float largest = largest_fp8(format);
  if (group < 1) throw SpecError("reference: group", fmt::format("{}", group), "1 and more");
  if (rows < 0 || cols < 0 || x.size() != static_cast<std::size_t>(rows * cols)) {
    throw SpecError("reference: size of x", fmt::format("{}", x.size()),
                    fmt::format("{} x {}", rows, cols));
  }
  QuantizedRows result;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::span<const float> x_row =
        x.subspan(static_cast<std::size_t>(row * cols), static_cast<std::size_t>(cols));
    for (std::int64_t first = 0; first < cols; first += group) {
      const std::span<const float> values = x_row.subspan(
          static_cast<std::size_t>(first), static_cast<std::size_t>(std::min(group, cols - first)));
      float largest_x = 0;
      for (float value : values) {
        if (std::abs(value) > largest_x) largest_x = std::abs(value);  // false for NaN
      }
      float scale = largest_x / largest;
      if (scale == 0) scale = 1;
      result.scales.push_back(scale);
      for (float value : values)
        result.codes.push_back(std::byte{encode_fp8(format, value / scale, true)});
    }
  }
  return result;
}

}  // namespace ktjit
