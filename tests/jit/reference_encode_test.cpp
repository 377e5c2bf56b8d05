// Narrowing to FP8 against torch's casts and NVIDIA's header on all 16-bit inputs
// (tests/data/make_fp8_encode.py), and against properties where nobody else has the format.
#include "jit/reference_encode.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "jit/reference_decode.h"

namespace ktjit {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr FormatId kFp8Formats[] = {FormatId::kFp8E4M3, FormatId::kFp8E5M2, FormatId::kFp8E4B15,
                                    FormatId::kFp8E4M3Fnuz, FormatId::kFp8E5M2Fnuz};

/// The 65536 values of f16 or bf16, by their bits.
std::vector<float> all_values(FormatId format) {
  std::vector<std::byte> bytes;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    bytes.push_back(static_cast<std::byte>(bits & 0xff));
    bytes.push_back(static_cast<std::byte>(bits >> 8));
  }
  std::vector<float> values(65536);
  decode_row(format, bytes, values);
  for (std::size_t bits = 0; bits < values.size(); ++bits) {  // decode_row loses the sign of NaNs
    if (std::isnan(values[bits]))
      values[bits] = std::copysign(values[bits], bits < 32768 ? 1.0f : -1.0f);
  }
  return values;
}

/// "INPUT:CODE ..." in hexadecimal: each code is that of all inputs to the next.
std::vector<std::uint8_t> codes_of_runs(const std::string& runs) {
  std::vector<std::uint8_t> codes;
  std::istringstream words(runs);
  unsigned code = 0;
  for (std::string word; words >> word;) {
    codes.resize(std::stoul(word.substr(0, 4), nullptr, 16), static_cast<std::uint8_t>(code));
    code = static_cast<unsigned>(std::stoul(word.substr(5), nullptr, 16));
  }
  codes.resize(65536, static_cast<std::uint8_t>(code));
  return codes;
}

float decode(FormatId format, std::uint8_t code) {
  const std::byte byte{code};
  float value = 0;
  decode_row(format, {&byte, 1}, {&value, 1});
  return value;
}

}  // namespace

TEST_CASE("narrowing to FP8 equals torch's casts and NVIDIA's header on all 16-bit inputs") {
  std::ifstream file(KTJIT_TEST_DATA_DIR "/fp8_encode.json");
  const nlohmann::json tables = nlohmann::json::parse(file);
  CHECK(tables.size() == 12);  // 2 inputs x (4 formats by torch + 2 by NVIDIA)
  for (const nlohmann::json& table : tables) {
    const Format& format = get_format(table.at("format").get<std::string>());
    const Format& input = get_format(table.at("input").get<std::string>());
    const bool saturate = table.at("saturate").get<bool>();
    const auto codes = codes_of_runs(table.at("runs").get<std::string>());
    const std::vector<float> values = all_values(input.id);
    int wrong = 0;
    for (std::size_t bits = 0; bits < values.size(); ++bits)
      wrong += encode_fp8(format.id, values[bits], saturate) != codes[bits] ? 1 : 0;
    INFO(format.name << " from " << input.name << (saturate ? ", saturating" : "") << ", by "
                     << table.at("by").get<std::string>());
    CHECK(wrong == 0);
  }
}

TEST_CASE("every finite code is its own nearest, saturating or not") {
  for (FormatId format : kFp8Formats) {
    for (unsigned code = 0; code < 256; ++code) {
      const float value = decode(format, static_cast<std::uint8_t>(code));
      if (!std::isfinite(value)) continue;
      const bool beyond = std::abs(value) > largest_fp8(format);  // 0x7f of e4b15, 1.875
      INFO(get_format(format).name << " code " << code);
      for (bool saturate : {true, false})
        CHECK(encode_fp8(format, value, saturate) == (beyond ? code - 1 : code));
    }
  }
}

TEST_CASE("saturating differs from not saturating in overflow and NaN only") {
  for (FormatId format : kFp8Formats) {
    const float largest = largest_fp8(format);
    for (FormatId input : {FormatId::kF16, FormatId::kBF16}) {
      for (float value : all_values(input)) {
        const std::uint8_t plain = encode_fp8(format, value, false);
        const std::uint8_t clamped = encode_fp8(format, value, true);
        const float decoded = decode(format, plain);
        if (std::isfinite(decoded)) {
          if (clamped != plain) FAIL(get_format(format).name << " of " << value);
        } else if (!std::isnan(value)) {
          if (decode(format, clamped) != std::copysign(largest, value))
            FAIL(get_format(format).name << " of " << value);
        }
      }
    }
  }
  CHECK(encode_fp8(FormatId::kFp8E4M3, -kNan, true) == 0x7f);
  CHECK(encode_fp8(FormatId::kFp8E5M2, -kNan, true) == 0x7f);
  CHECK(encode_fp8(FormatId::kFp8E4M3Fnuz, -kNan, true) == 0x80);
  CHECK(encode_fp8(FormatId::kFp8E4B15, -kNan, true) == 0x7e);
  CHECK(encode_fp8(FormatId::kFp8E4B15, -kNan, false) == 0x7e);
}

TEST_CASE("e4b15 is e4m3 of 256 times the value, clamped at 1.75") {
  for (FormatId input : {FormatId::kF16, FormatId::kBF16}) {
    for (float value : all_values(input)) {
      if (std::isnan(value)) continue;
      const std::uint8_t expected = encode_fp8(FormatId::kFp8E4M3, value * 256, true);
      if (encode_fp8(FormatId::kFp8E4B15, value, true) != expected) FAIL("e4b15 of " << value);
    }
  }
}

TEST_CASE("f32 inputs that f16 and bf16 lack round to the nearest code, ties to even") {
  constexpr FormatId kE4M3 = FormatId::kFp8E4M3, kE5M2 = FormatId::kFp8E5M2;
  CHECK(encode_fp8(kE4M3, 1.0625f, true) == 0x38);         // between 1 and 1.125: even
  CHECK(encode_fp8(kE4M3, 0x1.100002p+0f, true) == 0x39);  // just above
  CHECK(encode_fp8(kE4M3, 1.1875f, true) == 0x3a);         // between 1.125 and 1.25: even
  CHECK(encode_fp8(kE4M3, 0x1p-10f, true) == 0);           // half the smallest subnormal
  CHECK(encode_fp8(kE4M3, 0x1.000002p-10f, true) == 1);
  CHECK(encode_fp8(kE4M3, 464.0f, false) == 0x7e);  // half a step beyond the largest
  CHECK(encode_fp8(kE4M3, 0x1.d00002p+8f, false) == 0x7f);
  CHECK(encode_fp8(kE5M2, 61440.0f, false) == 0x7c);
  CHECK(encode_fp8(kE5M2, 0x1.dffffep+15f, false) == 0x7b);
  CHECK(encode_fp8(kE5M2, -std::numeric_limits<float>::max(), true) == 0xfb);
  CHECK(encode_fp8(kE4M3, -std::numeric_limits<float>::denorm_min(), true) == 0x80);
  CHECK(encode_fp8(FormatId::kFp8E4M3Fnuz, -std::numeric_limits<float>::denorm_min(), true) == 0);
}

TEST_CASE(
    "quantised groups have codes of their largest value at the top, and scales that undo it") {
  const std::vector<float> x = {1, -2, 3.5f, 0.25f, 100, -448, 8};  // 1 x 7, groups of 4 and 3
  const QuantizedRows rows = quantize_rows_reference(FormatId::kFp8E4M3, x, 1, 7, 4);
  CHECK(rows.scales == std::vector<float>{3.5f / 448, 1.0f});
  const std::uint8_t expected[] = {0x70, 0xf8, 0x7e, 0x60, 0x6c, 0xfe, 0x50};
  for (std::size_t i = 0; i < x.size(); ++i) {
    INFO("column " << i);
    CHECK(std::to_integer<unsigned>(rows.codes[i]) == expected[i]);
  }
}

TEST_CASE("a group of zeros, or of values too small for a scale, has scale 1 and codes 0") {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const std::vector<float> x = {0, -0.0f, tiny, -tiny};
  const QuantizedRows rows = quantize_rows_reference(FormatId::kFp8E4M3, x, 2, 2, 2);
  CHECK(rows.scales == std::vector<float>{1, 1});
  CHECK(rows.codes ==
        std::vector<std::byte>{std::byte{0}, std::byte{0x80}, std::byte{0}, std::byte{0x80}});
}

TEST_CASE("a NaN gives a NaN code and leaves its group alone; an infinity takes its group along") {
  const std::vector<float> x = {kNan, 7, kNan, kNan, kInfinity, 1};
  const QuantizedRows rows = quantize_rows_reference(FormatId::kFp8E4M3, x, 3, 2, 2);
  CHECK(rows.scales == std::vector<float>{7.0f / 448, 1, kInfinity});
  CHECK(rows.codes == std::vector<std::byte>{std::byte{0x7f}, std::byte{0x7e}, std::byte{0x7f},
                                             std::byte{0x7f}, std::byte{0x7f}, std::byte{0}});
}

TEST_CASE("narrowing refuses other formats, sizes and groups") {
  CHECK_THROWS_AS(encode_fp8(FormatId::kF16, 1, true), SpecError);
  CHECK_THROWS_AS(largest_fp8(FormatId::kQ8_0), SpecError);
  const std::vector<float> x(4);
  CHECK_THROWS_AS(quantize_rows_reference(FormatId::kFp8E4M3, x, 1, 4, 0), SpecError);
  CHECK_THROWS_AS(quantize_rows_reference(FormatId::kFp8E4M3, x, 2, 4, 2), SpecError);
}

}  // namespace ktjit
