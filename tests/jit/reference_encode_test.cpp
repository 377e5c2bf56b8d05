// Narrowing to FP8 against torch's casts and NVIDIA's header on all 16-bit inputs
// (tests/data/make_fp8_encode.py), and against properties where nobody else has the format.
#include "jit/reference_encode.h"

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "jit/reference_decode.h"

namespace ktjit {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr FormatId kFp8Formats[] = {FormatId::kFp8E4M3, FormatId::kFp8E5M2, FormatId::kFp8E4B15,
                                    FormatId::kFp8E4M3Fnuz, FormatId::kFp8E5M2Fnuz};
constexpr FormatId kNarrowFormats[] = {
    FormatId::kFp8E4M3,     FormatId::kFp8E5M2, FormatId::kFp8E4B15, FormatId::kFp8E4M3Fnuz,
    FormatId::kFp8E5M2Fnuz, FormatId::kFp6E2M3, FormatId::kFp6E3M2,  FormatId::kFp4E2M1};

/// Groups of FP8 with f32 scales.
QuantizeRules groups_of(std::int64_t cols) {
  return {.format = FormatId::kFp8E4M3, .grid = ScaleGrid{1, cols, ScaleType::kF32}};
}

std::vector<std::byte> bytes_of(const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> codes_of(std::initializer_list<unsigned> codes) {
  std::vector<std::byte> bytes;
  for (unsigned code : codes) bytes.push_back(static_cast<std::byte>(code));
  return bytes;
}

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
      wrong += encode_float(format.id, values[bits], saturate) != codes[bits] ? 1 : 0;
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
      const bool beyond = std::abs(value) > largest_float(format);  // 0x7f of e4b15, 1.875
      INFO(get_format(format).name << " code " << code);
      for (bool saturate : {true, false})
        CHECK(encode_float(format, value, saturate) == (beyond ? code - 1 : code));
    }
  }
}

TEST_CASE("saturating differs from not saturating in overflow and NaN only") {
  for (FormatId format : kFp8Formats) {
    const float largest = largest_float(format);
    for (FormatId input : {FormatId::kF16, FormatId::kBF16}) {
      for (float value : all_values(input)) {
        const std::uint8_t plain = encode_float(format, value, false);
        const std::uint8_t clamped = encode_float(format, value, true);
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
  CHECK(encode_float(FormatId::kFp8E4M3, -kNan, true) == 0x7f);
  CHECK(encode_float(FormatId::kFp8E5M2, -kNan, true) == 0x7f);
  CHECK(encode_float(FormatId::kFp8E4M3Fnuz, -kNan, true) == 0x80);
  CHECK(encode_float(FormatId::kFp8E4B15, -kNan, true) == 0x7e);
  CHECK(encode_float(FormatId::kFp8E4B15, -kNan, false) == 0x7e);
}

TEST_CASE("e4b15 is e4m3 of 256 times the value, clamped at 1.75") {
  for (FormatId input : {FormatId::kF16, FormatId::kBF16}) {
    for (float value : all_values(input)) {
      if (std::isnan(value)) continue;
      const std::uint8_t expected = encode_float(FormatId::kFp8E4M3, value * 256, true);
      if (encode_float(FormatId::kFp8E4B15, value, true) != expected) FAIL("e4b15 of " << value);
    }
  }
}

TEST_CASE("f32 inputs that f16 and bf16 lack round to the nearest code, ties to even") {
  constexpr FormatId kE4M3 = FormatId::kFp8E4M3, kE5M2 = FormatId::kFp8E5M2;
  CHECK(encode_float(kE4M3, 1.0625f, true) == 0x38);         // between 1 and 1.125: even
  CHECK(encode_float(kE4M3, 0x1.100002p+0f, true) == 0x39);  // just above
  CHECK(encode_float(kE4M3, 1.1875f, true) == 0x3a);         // between 1.125 and 1.25: even
  CHECK(encode_float(kE4M3, 0x1p-10f, true) == 0);           // half the smallest subnormal
  CHECK(encode_float(kE4M3, 0x1.000002p-10f, true) == 1);
  CHECK(encode_float(kE4M3, 464.0f, false) == 0x7e);  // half a step beyond the largest
  CHECK(encode_float(kE4M3, 0x1.d00002p+8f, false) == 0x7f);
  CHECK(encode_float(kE5M2, 61440.0f, false) == 0x7c);
  CHECK(encode_float(kE5M2, 0x1.dffffep+15f, false) == 0x7b);
  CHECK(encode_float(kE5M2, -std::numeric_limits<float>::max(), true) == 0xfb);
  CHECK(encode_float(kE4M3, -std::numeric_limits<float>::denorm_min(), true) == 0x80);
  CHECK(encode_float(FormatId::kFp8E4M3Fnuz, -std::numeric_limits<float>::denorm_min(), true) == 0);
}

TEST_CASE("the runs of all f32 inputs are the codes of each input") {
  for (FormatId format : kNarrowFormats) {
    for (bool saturate : {true, false}) {
      const std::vector<CodeRun> runs = codes_of_all_f32(format, saturate);
      REQUIRE(runs.front().first == 0);
      INFO(get_format(format).name << (saturate ? ", saturating" : ""));
      for (std::size_t i = 1; i < runs.size(); ++i) REQUIRE(runs[i - 1].first < runs[i].first);
      const auto code_at = [&](std::uint32_t bits) {
        const auto next = std::upper_bound(
            runs.begin(), runs.end(), bits,
            [](std::uint32_t value, const CodeRun& run) { return value < run.first; });
        return std::prev(next)->code;
      };
      int wrong = 0;
      const auto check = [&](std::uint32_t bits) {
        wrong +=
            code_at(bits) != encode_float(format, std::bit_cast<float>(bits), saturate) ? 1 : 0;
      };
      for (const CodeRun& run : runs) {  // each boundary, and the inputs beside it
        for (int distance : {-2, -1, 0, 1, 2})
          check(run.first + static_cast<std::uint32_t>(distance));
      }
      for (std::uint32_t i = 0; i < 1U << 16; ++i) check(i * 65521U + (i << 16));
      for (std::uint32_t i = 0; i < 1U << 16; ++i) check(i << 16);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("the runs of all f32 inputs but NaNs equal ml_dtypes' casts") {
  std::ifstream file(KTJIT_TEST_DATA_DIR "/f32_encode.json");
  const nlohmann::json tables = nlohmann::json::parse(file);
  CHECK(tables.size() == 7);
  for (const nlohmann::json& table : tables) {
    const Format& format = get_format(table.at("format").get<std::string>());
    INFO(format.name << " by " << table.at("by").get<std::string>());
    std::vector<CodeRun> runs = codes_of_all_f32(format.id, false);
    std::erase_if(runs, [](const CodeRun& run) { return (run.first & 0x7fffffff) > 0x7f800000; });
    std::istringstream words(table.at("runs").get<std::string>());
    std::vector<CodeRun> wanted;
    for (std::string word; words >> word;) {
      wanted.push_back({static_cast<std::uint32_t>(std::stoul(word.substr(0, 8), nullptr, 16)),
                        static_cast<std::uint8_t>(std::stoul(word.substr(9), nullptr, 16))});
    }
    // A run that only overflow separates from the one before it (saturating formats) has the same code.
    const auto same_code = [](const CodeRun& a, const CodeRun& b) {
      return a.code == b.code && (a.first ^ b.first) < 0x80000000;
    };
    runs.erase(std::unique(runs.begin(), runs.end(), same_code), runs.end());
    REQUIRE(runs.size() == wanted.size());
    for (std::size_t i = 0; i < runs.size(); ++i) {
      CHECK(runs[i].first == wanted[i].first);
      CHECK(runs[i].code == wanted[i].code);
    }
  }
}

TEST_CASE("FP4 and FP6 saturate in both modes, keep -0 and give +max for NaN, as NVIDIA's cvt") {
  for (const auto& [format, largest, code, sign] : {std::tuple{FormatId::kFp4E2M1, 6.0F, 0x7, 0x8},
                                                    {FormatId::kFp6E2M3, 7.5F, 0x1f, 0x20},
                                                    {FormatId::kFp6E3M2, 28.0F, 0x1f, 0x20}}) {
    for (bool saturate : {true, false}) {
      CHECK(largest_float(format) == largest);
      CHECK(encode_float(format, 1e30, saturate) == code);
      CHECK(encode_float(format, -kInfinity, saturate) == (code | sign));
      CHECK(encode_float(format, kNan, saturate) == code);
      CHECK(encode_float(format, -kNan, saturate) == code);
      CHECK(encode_float(format, -0.0, saturate) == sign);
    }
  }
  // Ties go to the even code: 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.
  const std::vector<float> ties = {0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F};
  const std::vector<int> codes = {0, 2, 2, 4, 4, 6, 6};
  for (std::size_t i = 0; i < ties.size(); ++i)
    CHECK(encode_float(FormatId::kFp4E2M1, ties[i], true) == codes[i]);
}

TEST_CASE(
    "quantised groups have codes of their largest value at the top, and scales that undo it") {
  const std::vector<float> x = {1, -2, 3.5f, 0.25f, 100, -448, 8};  // 1 x 7, groups of 4 and 3
  const QuantizedRows rows = quantize_reference(groups_of(4), x, 1, 7);
  CHECK(rows.scales == bytes_of({3.5f / 448, 1.0f}));
  CHECK(rows.codes == codes_of({0x70, 0xf8, 0x7e, 0x60, 0x6c, 0xfe, 0x50}));
}

TEST_CASE("blocks of rows and columns share a scale") {
  const std::vector<float> x = {1, 2, 448, 4, -896, 448, 7, 8, 448};  // 3 x 3, blocks of 2 x 2
  const QuantizedRows rows =
      quantize_reference({.grid = ScaleGrid{2, 2, ScaleType::kF32}}, x, 3, 3);
  CHECK(rows.scales == bytes_of({2.0f, 1.0f, 8.0f / 448, 1.0f}));
  CHECK(rows.codes == codes_of({0x30, 0x38, 0x7e, 0x40, 0xfe, 0x7e, 0x7c, 0x7e, 0x7e}));
}

TEST_CASE("a group of zeros, or of values too small for a scale, has scale 1 and codes 0") {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const QuantizedRows rows =
      quantize_reference(groups_of(2), std::vector<float>{0, -0.0f, tiny, -tiny}, 2, 2);
  CHECK(rows.scales == bytes_of({1, 1}));
  CHECK(rows.codes == codes_of({0, 0x80, 0, 0x80}));
}

TEST_CASE("a NaN gives a NaN code and leaves its group alone; an infinity takes its group along") {
  const std::vector<float> x = {kNan, 7, kNan, kNan, kInfinity, 1};
  const QuantizedRows rows = quantize_reference(groups_of(2), x, 3, 2);
  CHECK(rows.scales == bytes_of({7.0f / 448, 1, kInfinity}));
  CHECK(rows.codes == codes_of({0x7f, 0x7e, 0x7f, 0x7f, 0x7f, 0}));
}

TEST_CASE("MX scales follow OCP's floor rule; zeros, tiny values and NaN as documented") {
  std::vector<float> x(5 * 32);
  x[0] = 7.9f;                                           // 2^2 - 2: scale 1
  x[1] = -5.0f;                                          // a tie between 4 and 6
  x[32 + 3] = 0x1.8p+127f;                               // 2^(127 - 2)
  x[2 * 32] = std::numeric_limits<float>::denorm_min();  // 2^-127 at least
  x[3 * 32] = kNan;
  x[3 * 32 + 1] = -1;
  const QuantizeRules rules{.format = FormatId::kMxfp4, .grid = fixed_scale_grid(FormatId::kMxfp4)};
  const QuantizedRows rows = quantize_reference(rules, x, 5, 32);
  CHECK(rows.scales == codes_of({127, 252, 0, 255, 0}));
  CHECK(rows.codes[0] == std::byte{0x7 | 0xe << 4});
  CHECK(rows.codes[16 + 1] == std::byte{0x7 << 4});  // 1.5 * 2^127 / 2^125 = 6
  CHECK(rows.codes[2 * 16] == std::byte{0});
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(rows.codes[3 * 16 + i] == std::byte{0x77});
    CHECK(rows.codes[4 * 16 + i] == std::byte{0});
  }
  x[3 * 32] = kInfinity;
  CHECK(quantize_reference(rules, x, 5, 32).scales[3] == std::byte{255});
}

TEST_CASE("nvfp4's block scales are e4m3 codes relative to the tensor's scale") {
  std::vector<float> x(4 * 16);
  x[0] = 12.0f;
  x[1] = -1.0f;
  x[16] = 2688.0f;
  x[2 * 16] = kInfinity;
  const float tensor_scale = nvfp4_tensor_scale(x);
  CHECK(tensor_scale == 1.0f);  // 2688 / (448 * 6)
  CHECK(nvfp4_tensor_scale(std::vector<float>(16)) == 1.0f);
  const QuantizedRows rows = quantize_reference({.format = FormatId::kNvfp4,
                                                 .grid = fixed_scale_grid(FormatId::kNvfp4),
                                                 .tensor_scale = tensor_scale},
                                                x, 4, 16);
  REQUIRE(rows.scales.size() == 16 + 4);
  CHECK(std::vector(rows.scales.begin() + 16, rows.scales.end()) ==
        codes_of({0x40, 0x7e, 0x7f, 0}));
  CHECK(rows.codes[0] == std::byte{0x7 | 0x9 << 4});  // 12 / 2 and -1 / 2
  CHECK(rows.codes[8] == std::byte{0x7});
  CHECK(rows.codes[16] == std::byte{0x77});
  CHECK(rows.codes[24] == std::byte{0});
}

TEST_CASE("q8_0 and q4_0 equal ggml's reference quantiser byte for byte") {
  std::ifstream file(KTJIT_TEST_DATA_DIR "/ggml_quantize.json");
  const nlohmann::json data = nlohmann::json::parse(file);
  const auto from_hex = [](const std::string& text) {
    std::vector<std::byte> bytes;
    for (std::size_t i = 0; i < text.size(); i += 2)
      bytes.push_back(static_cast<std::byte>(std::stoul(text.substr(i, 2), nullptr, 16)));
    return bytes;
  };
  int blocks = 0;
  for (const nlohmann::json& one : data.at("blocks")) {
    const std::vector<std::byte> x_bytes = from_hex(one.at("x").get<std::string>());
    std::vector<float> x(x_bytes.size() / sizeof(float));
    std::memcpy(x.data(), x_bytes.data(), x_bytes.size());
    const auto cols = static_cast<std::int64_t>(x.size());
    INFO(one.at("what").get<std::string>());
    CHECK(quantize_reference({.format = FormatId::kQ8_0}, x, 1, cols).codes ==
          from_hex(one.at("q8_0").get<std::string>()));
    CHECK(quantize_reference({.format = FormatId::kQ4_0}, x, 1, cols).codes ==
          from_hex(one.at("q4_0").get<std::string>()));
    blocks += static_cast<int>(cols / 32);
  }
  CHECK(blocks >= 480);
}

TEST_CASE("a NaN in a block of q8_0 or q4_0 makes its d NaN") {
  std::vector<float> x(32, 1.0f);
  x[5] = kNan;
  for (FormatId format : {FormatId::kQ8_0, FormatId::kQ4_0}) {
    const std::vector<std::byte> codes = quantize_reference({.format = format}, x, 1, 32).codes;
    CHECK(codes[0] == std::byte{0x00});
    CHECK(codes[1] == std::byte{0x7e});
    CHECK(
        std::all_of(codes.begin() + 2, codes.end(), [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST_CASE("narrowing refuses other formats, sizes and scales") {
  CHECK_THROWS_AS(encode_float(FormatId::kF16, 1, true), SpecError);
  CHECK_THROWS_AS(largest_float(FormatId::kQ8_0), SpecError);
  const std::vector<float> x(4);
  CHECK_THROWS_AS(quantize_reference(groups_of(2), x, 2, 4), SpecError);
  CHECK_THROWS_AS(quantize_reference({.format = FormatId::kMxfp4}, x, 1, 4), SpecError);
  CHECK_THROWS_AS(quantize_reference({.grid = ScaleGrid{1, 2, ScaleType::kBF16}}, x, 1, 4),
                  SpecError);
}

}  // namespace ktjit
