// The reference against ggml's golden vectors, and against second derivations of FP8, f16, bf16 and
// of the rounding: enumeration, the compiler's own _Float16, bit shifts and literal values.
#include "jit/reference_decode.h"

#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "jit/reference_ops.h"
#include "tests/support/golden_data.h"

namespace ktjit {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<float> decode(FormatId id, const std::vector<std::byte>& bytes) {
  const Format& format = get_format(id);
  std::vector<float> out(bytes.size() / static_cast<std::size_t>(format.block_bytes) *
                         static_cast<std::size_t>(format.block_elems));
  decode_row(id, bytes, out);
  return out;
}

template <typename T>
std::vector<float> decode(FormatId id, const std::vector<T>& values) {
  return decode(id, bytes_of(values));
}

float decode_code(FormatId id, unsigned code) {
  return decode(id, std::vector<std::byte>{static_cast<std::byte>(code)}).front();
}

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

/// Types that files hold and nothing computes with.
bool is_only_stored(FormatId id) {
  using enum FormatId;
  return std::ranges::count(
             std::array{kBool, kU8, kU16, kU32, kU64, kC64, kE8M0, kFp4E2M1, kFp6E2M3, kFp6E3M2},
             id) > 0;
}

/// What a format's value ladder is made of, for the enumeration below.
struct Fp8Facts {
  FormatId id;
  int mantissa_bits;
  int smallest_exponent;  ///< the smallest positive value is 2^smallest_exponent
  int largest_code;       ///< of a finite positive number
  float largest;
  int nans;
  int infinities;
};

constexpr std::array kFp8Facts = {
    Fp8Facts{FormatId::kFp8E4M3, 3, -9, 0x7e, 448, 2, 0},
    Fp8Facts{FormatId::kFp8E5M2, 2, -16, 0x7b, 57344, 6, 2},
    Fp8Facts{FormatId::kFp8E4B15, 3, -17, 0x7f, 1.875f, 0, 0},
    Fp8Facts{FormatId::kFp8E4M3Fnuz, 3, -10, 0x7f, 240, 1, 0},
    Fp8Facts{FormatId::kFp8E5M2Fnuz, 2, -17, 0x7f, 57344, 1, 0},
};

TEST_CASE("golden vectors of ggml decode bit for bit") {
  std::set<FormatId> seen;
  std::int64_t values = 0;
  for (const test::GoldenEntry& entry : test::load_golden()) {
    CAPTURE(entry.type, entry.rows, entry.cols);
    std::vector<float> got(entry.values.size());
    decode_rows({.format = entry.format,
                 .rows = entry.rows,
                 .cols = entry.cols,
                 .data = entry.encoded,
                 .scale_grid = {},
                 .scale_data = {}},
                0, entry.rows, got);
    const BitDifference difference = compare_bits(got, entry.values);
    CAPTURE(difference.first.value_or(-1), difference.max_abs_difference);
    CHECK(difference.count == 0);
    CHECK(std::ranges::none_of(got, [](float value) { return std::isnan(value); }));
    values += static_cast<std::int64_t>(got.size());
    seen.insert(entry.format);
  }
  CHECK(values == 540462);

  // Every ggml format with a reference decode has vectors, but Q8_1, which ggml itself does not
  // decode.
  for (const Format& format : all_formats()) {
    CAPTURE(format.name);
    if (format.family == FormatFamily::kGgml && format.id != FormatId::kQ8_1) {
      CHECK((seen.count(format.id) == 1) == has_reference_decode(format.id));
    }
  }
}

TEST_CASE("golden entries are found by ggml's name and by ours") {
  CHECK(test::get_golden("Q4_K").cols == 1024);
  CHECK(test::get_golden("MXFP4").format == FormatId::kGgmlMxfp4);
  CHECK(test::get_golden("ggml_mxfp4").format == FormatId::kGgmlMxfp4);
  CHECK(test::get_golden("f16").row_kinds.size() == 17);
  CHECK_THROWS_AS(test::get_golden("q4_L"), InputError);
}

TEST_CASE("a Q8_1 block is d times its signed bytes") {
  std::vector<std::byte> block(36);
  const std::array<std::uint8_t, 4> head = {0x00, 0xb8, 0xff,
                                            0x7f};  // d = -0.5, the sum is not read
  std::memcpy(block.data(), head.data(), head.size());
  for (int i = 0; i < 32; ++i)
    block[static_cast<std::size_t>(4 + i)] = static_cast<std::byte>(i * 8);
  const std::vector<float> got = decode(FormatId::kQ8_1, block);
  for (int i = 0; i < 32; ++i) {
    const int number = i < 16 ? i * 8 : i * 8 - 256;
    CHECK(bits_of(got[static_cast<std::size_t>(i)]) == bits_of(static_cast<float>(number) * -0.5f));
  }
}

TEST_CASE("ggml's FP4 scales have ggml's special values") {
  std::vector<std::byte> mxfp4(17, std::byte{0x91});  // nibbles 1 and 9: 0.5 and -0.5
  for (const auto& [exponent, scale] :
       {std::pair{0, 0x1p-127f}, {1, 0x1p-126f}, {2, 0x1p-125f}, {127, 1.0f}, {254, 0x1p127f}}) {
    mxfp4[0] = static_cast<std::byte>(exponent);
    const std::vector<float> got = decode(FormatId::kGgmlMxfp4, mxfp4);
    CHECK(bits_of(got[0]) == bits_of(0.5f * scale));
    CHECK(bits_of(got[16]) == bits_of(-0.5f * scale));
  }
  mxfp4[0] = std::byte{255};  // 2^128, not NaN
  CHECK(decode(FormatId::kGgmlMxfp4, mxfp4)[0] == 0x1p127f);
  std::ranges::fill(mxfp4, std::byte{0x88});  // code 8 is +0
  CHECK(bits_of(decode(FormatId::kGgmlMxfp4, mxfp4)[0]) == 0);

  std::vector<std::byte> nvfp4(36, std::byte{0x22});  // nibbles 2: 1.0
  for (const auto& [code, scale] : {std::pair{0x38, 1.0f},
                                    {0x01, 0x1p-9f},
                                    {0x7e, 448.0f},
                                    {0x7f, 0.0f},
                                    {0xff, 480.0f},
                                    {0xb8, 1.0f},
                                    {0x80, 0.0f}}) {
    nvfp4[1] = static_cast<std::byte>(code);
    CHECK(bits_of(decode(FormatId::kGgmlNvfp4, nvfp4)[16]) == bits_of(scale));
    CHECK(bits_of(decode(FormatId::kGgmlNvfp4, nvfp4)[31]) == bits_of(scale));
  }
}

TEST_CASE("formats with a minimum round once, in the subtraction") {
  // d * scale * code has at most 11 + 6 + 5 bits, so f32 holds it, and a fused multiply-add gives
  // the same bits as a multiplication and a subtraction. Sums of such products fit a double.
  std::mt19937 random(42);
  std::vector<std::byte> q4_1(20, std::byte{0xdd});   // codes 13
  std::vector<std::byte> q5_K(176, std::byte{0xff});  // scales and minima 63, codes 31
  for (int i = 0; i < 20000; ++i) {
    const std::array<std::uint16_t, 2> head = {static_cast<std::uint16_t>(random() & 0xbfff),
                                               static_cast<std::uint16_t>(random() & 0xbfff)};
    const double d = static_cast<double>(std::bit_cast<_Float16>(head[0]));
    const double m = static_cast<double>(std::bit_cast<_Float16>(head[1]));
    std::memcpy(q4_1.data(), head.data(), sizeof head);
    std::memcpy(q5_K.data(), head.data(), sizeof head);
    const float want_q4_1 = static_cast<float>(d * 13 + m);
    const float want_q5_K = static_cast<float>(d * 63 * 31 - m * 63);
    REQUIRE(bits_of(decode(FormatId::kQ4_1, q4_1)[7]) == bits_of(want_q4_1));
    REQUIRE(bits_of(decode(FormatId::kQ5_K, q5_K)[200]) == bits_of(want_q5_K));
  }
}

TEST_CASE("all codes of each fp8 format equal the ladder of its values") {
  for (const Fp8Facts& facts : kFp8Facts) {
    CAPTURE(get_format(facts.id).name);
    // Climb from 0. The step is the smallest value at first, and doubles when an octave of codes
    // ends; the subnormals and the first octave of normals share one step.
    const int codes_per_octave = 1 << facts.mantissa_bits;
    double step = std::pow(2.0, facts.smallest_exponent);
    double value = 0;
    for (int code = 0; code <= facts.largest_code; ++code) {
      CAPTURE(code);
      if (code % codes_per_octave == 0 && code >= 2 * codes_per_octave) step *= 2;
      CHECK(bits_of(decode_code(facts.id, static_cast<unsigned>(code))) ==
            bits_of(static_cast<float>(value)));
      const float negative = decode_code(facts.id, static_cast<unsigned>(code) | 0x80);
      if (code == 0 && (facts.id == FormatId::kFp8E4M3Fnuz || facts.id == FormatId::kFp8E5M2Fnuz)) {
        CHECK(std::isnan(negative));
      } else {
        CHECK(bits_of(negative) == bits_of(static_cast<float>(-value)));
      }
      value += step;
    }  // code
    CHECK(decode_code(facts.id, static_cast<unsigned>(facts.largest_code)) == facts.largest);

    int nans = 0;
    int infinities = 0;
    for (unsigned code = 0; code < 256; ++code) {
      const float decoded = decode_code(facts.id, code);
      nans += std::isnan(decoded) ? 1 : 0;
      infinities += std::isinf(decoded) ? 1 : 0;
    }
    CHECK(nans == facts.nans);
    CHECK(infinities == facts.infinities);
  }  // facts
}

/// ml_dtypes' value of every code, by format (tests/data/make_narrow_values.py).
std::map<std::string, std::vector<float>> narrow_values() {
  std::ifstream file(KTJIT_TEST_DATA_DIR "/narrow_values.json");
  const nlohmann::json data = nlohmann::json::parse(file);
  std::map<std::string, std::vector<float>> tables;
  for (const auto& [name, texts] : data.at("values").items()) {
    std::istringstream words(texts.get<std::string>());
    for (std::string word; words >> word;)
      tables[name].push_back(std::strtof(word.c_str(), nullptr));  // exact: all fit an f32
  }
  return tables;
}

TEST_CASE("all codes of 4, 6 and 8 bits have the values that ml_dtypes gives them") {
  const auto tables = narrow_values();
  CHECK(tables.size() == 9);
  for (const auto& [name, values] : tables) {
    if (name == "e8m0") continue;  // scales: below
    const Format& format = get_format(name);
    INFO(name);
    const int bits = static_cast<int>(format.bits_per_element());
    REQUIRE(values.size() == std::size_t{1} << bits);
    for (std::size_t code = 0; code < values.size(); ++code) {
      // The code at each place of a block, among zeros.
      for (int i = 0; i < format.block_elems; ++i) {
        std::vector<std::byte> block(static_cast<std::size_t>(format.block_bytes));
        for (int bit = i * bits; bit < (i + 1) * bits; ++bit) {
          const auto value = static_cast<unsigned>(code >> (bit - i * bits) & 1);
          block[static_cast<std::size_t>(bit / 8)] |= static_cast<std::byte>(value << (bit % 8));
        }
        std::vector<float> want(static_cast<std::size_t>(format.block_elems));
        want[static_cast<std::size_t>(i)] = values[code];
        if (!compare_bits(decode(format.id, block), want).equal())
          FAIL("code " << code << " at place " << i << " of the block");
      }  // i
    }  // code
  }
}

TEST_CASE("all E8M0 scales have the values that ml_dtypes gives them") {
  const std::vector<float> values = narrow_values().at("e8m0");
  REQUIRE(values.size() == 256);
  const std::vector<std::byte> one(1, std::byte{0x38});  // e4m3's 1
  for (std::size_t code = 0; code < values.size(); ++code) {
    const std::byte scale{static_cast<unsigned char>(code)};
    std::vector<float> got(1);
    decode_rows({.format = FormatId::kFp8E4M3,
                 .rows = 1,
                 .cols = 1,
                 .data = one,
                 .scale_grid = ScaleGrid{1, 32, ScaleType::kE8M0},
                 .scale_data = {&scale, 1}},
                0, 1, got);
    INFO(code);
    CHECK(compare_bits(got, std::vector{values[code]}).equal());
  }
}

TEST_CASE("fp8 codes with known values") {
  using enum FormatId;
  struct Known {
    FormatId id;
    unsigned code;
    float value;
  };
  for (const Known& known : {
           Known{kFp8E4M3, 0x00, 0.0f},    {kFp8E4M3, 0x80, -0.0f},
           {kFp8E4M3, 0x01, 0x1p-9f},      {kFp8E4M3, 0x07, 7 * 0x1p-9f},
           {kFp8E4M3, 0x08, 0x1p-6f},      {kFp8E4M3, 0x38, 1.0f},
           {kFp8E4M3, 0xbc, -1.5f},        {kFp8E4M3, 0x78, 256.0f},
           {kFp8E4M3, 0x7e, 448.0f},       {kFp8E4M3, 0xfe, -448.0f},
           {kFp8E4M3, 0x7f, kNan},         {kFp8E4M3, 0xff, kNan},
           {kFp8E5M2, 0x01, 0x1p-16f},     {kFp8E5M2, 0x03, 3 * 0x1p-16f},
           {kFp8E5M2, 0x04, 0x1p-14f},     {kFp8E5M2, 0x3c, 1.0f},
           {kFp8E5M2, 0x7b, 57344.0f},     {kFp8E5M2, 0x7c, kInfinity},
           {kFp8E5M2, 0xfc, -kInfinity},   {kFp8E5M2, 0x7d, kNan},
           {kFp8E5M2, 0x7f, kNan},         {kFp8E5M2, 0x80, -0.0f},
           {kFp8E4B15, 0x01, 0x1p-17f},    {kFp8E4B15, 0x08, 0x1p-14f},
           {kFp8E4B15, 0x78, 1.0f},        {kFp8E4B15, 0x7e, 1.75f},
           {kFp8E4B15, 0x7f, 1.875f},      {kFp8E4B15, 0xff, -1.875f},
           {kFp8E4B15, 0x80, -0.0f},       {kFp8E4M3Fnuz, 0x01, 0x1p-10f},
           {kFp8E4M3Fnuz, 0x08, 0x1p-7f},  {kFp8E4M3Fnuz, 0x40, 1.0f},
           {kFp8E4M3Fnuz, 0x7f, 240.0f},   {kFp8E4M3Fnuz, 0xff, -240.0f},
           {kFp8E4M3Fnuz, 0x80, kNan},     {kFp8E5M2Fnuz, 0x01, 0x1p-17f},
           {kFp8E5M2Fnuz, 0x04, 0x1p-15f}, {kFp8E5M2Fnuz, 0x40, 1.0f},
           {kFp8E5M2Fnuz, 0x7f, 57344.0f}, {kFp8E5M2Fnuz, 0x80, kNan},
       }) {
    CAPTURE(get_format(known.id).name, known.code);
    const std::vector<float> got = {decode_code(known.id, known.code)};
    const std::vector<float> want = {known.value};
    CHECK(compare_bits(got, want).equal());
  }
}

TEST_CASE("all f16 codes equal the compiler's conversion, all bf16 codes a shift") {
  std::vector<std::uint16_t> codes(65536);
  std::vector<float> f16_values(65536);
  std::vector<float> bf16_values(65536);
  for (std::uint32_t code = 0; code < 65536; ++code) {
    codes[code] = static_cast<std::uint16_t>(code);
    f16_values[code] = static_cast<float>(std::bit_cast<_Float16>(codes[code]));
    bf16_values[code] = std::bit_cast<float>(code << 16);
  }
  CHECK(compare_bits(decode(FormatId::kF16, codes), f16_values).count == 0);
  CHECK(compare_bits(decode(FormatId::kBF16, codes), bf16_values).count == 0);
}

TEST_CASE("f32 decodes to the same bits, f64 and integers are rounded once") {
  const std::vector<float> floats = {0.0f, -0.0f, 1.5f, 0x1p-149f, kInfinity, -kInfinity, 3.4e38f};
  CHECK(compare_bits(decode(FormatId::kF32, floats), floats).equal());

  // Halfway, just above, just below; overflow; a tie among subnormals.
  const std::vector<double> doubles = {1 + 0x1p-24, 1 + 0x1.000001p-24, 1 + 0x1.8p-23, 1e300,
                                       0x1.8p-149,  0x1p-150,           -0.0};
  const std::vector<float> rounded = {1.0f,      1 + 0x1p-23f, 1 + 0x1p-22f, kInfinity,
                                      0x1p-148f, 0.0f,         -0.0f};
  CHECK(compare_bits(decode(FormatId::kF64, doubles), rounded).equal());

  CHECK(decode(FormatId::kI8, std::vector<std::int8_t>{-128, -1, 0, 127}) ==
        std::vector<float>{-128, -1, 0, 127});
  CHECK(decode(FormatId::kI16, std::vector<std::int16_t>{-32768, -1, 32767}) ==
        std::vector<float>{-32768, -1, 32767});
  CHECK(decode(FormatId::kI32, std::vector<std::int32_t>{16777217, 16777219, -16777217,
                                                         std::numeric_limits<int>::min()}) ==
        std::vector<float>{0x1p24f, 16777220.0f, -0x1p24f, -0x1p31f});
  // 2^62 + 2^38 + 1 is above the tie: going through double first would round it down.
  CHECK(decode(FormatId::kI64,
               std::vector<std::int64_t>{(1LL << 62) + (1LL << 38) + 1, (1LL << 62) + (1LL << 38),
                                         std::numeric_limits<std::int64_t>::min()}) ==
        std::vector<float>{0x1.000002p62f, 0x1p62f, -0x1p63f});
}

TEST_CASE("rows that do not fit the format are refused") {
  const std::vector<std::byte> bytes(18);
  std::vector<float> out(32);
  decode_row(FormatId::kQ4_0, bytes, out);
  CHECK_THROWS_AS(decode_row(FormatId::kQ4_1, bytes, out), SpecError);
  std::vector<float> odd(33);
  CHECK_THROWS_AS(decode_row(FormatId::kQ4_0, bytes, odd), SpecError);
  for (const Format& format : all_formats()) {
    CAPTURE(format.name);
    CHECK(has_reference_decode(format.id) != is_only_stored(format.id));
    if (has_reference_decode(format.id)) continue;
    const std::vector<std::byte> block(static_cast<std::size_t>(format.block_bytes));
    std::vector<float> values(static_cast<std::size_t>(format.block_elems));
    CHECK_THROWS_WITH(decode_row(format.id, block, values),
                      Catch::Matchers::Contains(std::string(format.name)));
  }
}

// ---- reference_ops ---------------------------------------------------------------------

std::vector<std::uint16_t> round_to(FormatId id, const std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() * 2);
  round_output(id, values, bytes);
  std::vector<std::uint16_t> codes(values.size());
  std::memcpy(codes.data(), bytes.data(), bytes.size());
  return codes;
}

TEST_CASE("between any two neighbours, 16-bit rounding goes to the nearer, ties to even") {
  struct Facts {
    FormatId id;
    std::uint16_t infinity;
    double first_overflow;  ///< the value that infinity's code would have
  };
  for (const Facts& facts :
       {Facts{FormatId::kF16, 0x7c00, 0x1p16}, Facts{FormatId::kBF16, 0x7f80, 0x1p128}}) {
    CAPTURE(get_format(facts.id).name);
    std::vector<std::uint16_t> codes(facts.infinity);
    for (std::uint16_t code = 0; code < facts.infinity; ++code) codes[code] = code;
    const std::vector<float> values = decode(facts.id, codes);

    std::vector<float> inputs;
    std::vector<std::uint16_t> expected;
    const auto add = [&](float input, std::uint16_t code) {
      inputs.push_back(input);
      expected.push_back(code);
      inputs.push_back(-input);
      expected.push_back(static_cast<std::uint16_t>(code | 0x8000));
    };
    for (std::uint16_t code = 0; code < facts.infinity; ++code) {
      const bool last = code + 1 == facts.infinity;
      const double above = last ? facts.first_overflow : values[code + 1u];
      const auto middle = static_cast<float>((values[code] + above) / 2);
      const auto next = static_cast<std::uint16_t>(code + 1);
      add(values[code], code);
      add(middle, code % 2 == 0 ? code : next);
      add(std::nextafter(middle, 0.0f), code);
      add(std::nextafter(middle, kInfinity), next);
    }  // code
    const std::vector<std::uint16_t> got = round_to(facts.id, inputs);
    REQUIRE(got.size() == 8u * facts.infinity);
    CHECK(std::ranges::mismatch(got, expected).in1 == got.end());
  }  // facts
}

TEST_CASE("f16 rounding equals the compiler's conversion on f32 values of every exponent") {
  std::mt19937 random(20260822);
  std::vector<float> inputs;
  for (std::uint32_t high = 0; high < 65536; ++high) {
    for (std::uint32_t low : {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x3000u, 0xffffu}) {
      inputs.push_back(std::bit_cast<float>(high << 16 | low));
    }
    inputs.push_back(
        std::bit_cast<float>(high << 16 | static_cast<std::uint32_t>(random() & 0xffff)));
  }
  const std::vector<std::uint16_t> got = round_to(FormatId::kF16, inputs);
  std::int64_t differences = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const _Float16 want = static_cast<_Float16>(inputs[i]);
    const bool both_nan = std::isnan(inputs[i]) && (got[i] & 0x7fff) > 0x7c00;
    if (!both_nan && got[i] != std::bit_cast<std::uint16_t>(want)) ++differences;
  }
  CHECK(differences == 0);
}

TEST_CASE("rounding keeps NaN, infinity and f32 bits") {
  const std::vector<float> specials = {kNan, kInfinity, -kInfinity, 3.4e38f, 65519.0f, 65520.0f};
  CHECK((round_to(FormatId::kF16, specials)[0] & 0x7fff) > 0x7c00);
  CHECK((round_to(FormatId::kBF16, specials)[0] & 0x7fff) > 0x7f80);
  // A NaN whose payload lies in the low bits alone must not become infinity.
  CHECK((round_to(FormatId::kBF16, {std::bit_cast<float>(0x7f800001u)})[0] & 0x7fff) > 0x7f80);
  CHECK(round_to(FormatId::kF16, specials)[1] == 0x7c00);
  CHECK(round_to(FormatId::kF16, specials)[2] == 0xfc00);
  CHECK(round_to(FormatId::kF16, specials)[3] == 0x7c00);
  CHECK(round_to(FormatId::kF16, specials)[4] == 0x7bff);
  CHECK(round_to(FormatId::kF16, specials)[5] == 0x7c00);
  CHECK(round_to(FormatId::kBF16, specials)[3] == 0x7f80);

  std::vector<std::byte> copy(specials.size() * 4);
  round_output(FormatId::kF32, specials, copy);
  CHECK(copy == bytes_of(specials));
  CHECK_THROWS_AS(round_output(FormatId::kF16, specials, copy), SpecError);
  CHECK_THROWS_AS(round_output(FormatId::kI32, specials, copy), SpecError);
}

/// A matrix of i8 with the values 1, 2, 3, ... and the scales of a grid.
struct ScaledCase {
  std::int64_t rows;
  std::int64_t cols;
  ScaleGrid grid;
  std::vector<std::byte> scales;
  std::vector<std::byte> data;

  ScaledTensorView view() const {
    return {.format = FormatId::kI8,
            .rows = rows,
            .cols = cols,
            .data = data,
            .scale_grid = grid,
            .scale_data = scales};
  }
};

ScaledCase make_case(std::int64_t rows, std::int64_t cols, ScaleGrid grid,
                     std::vector<std::byte> scales) {
  ScaledCase result{rows, cols, grid, std::move(scales), {}};
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    result.data.push_back(static_cast<std::byte>(i + 1));
  }
  return result;
}

std::vector<float> decode_all(const ScaledCase& scaled) {
  std::vector<float> out(static_cast<std::size_t>(scaled.rows * scaled.cols));
  decode_rows(scaled.view(), 0, scaled.rows, out);
  return out;
}

TEST_CASE("scale blocks may be cut off at the edges") {
  // Blocks of 2 x 3 over 3 x 5: four blocks, the last of each direction partial.
  const ScaledCase scaled = make_case(3, 5, {2, 3, ScaleType::kF32},
                                      bytes_of(std::vector<float>{1.0f, 10.0f, 100.0f, 1000.0f}));
  const std::vector<float> want = {1,    2,    3,    40,    50,   //
                                   6,    7,    8,    90,    100,  //
                                   1100, 1200, 1300, 14000, 15000};
  CHECK(decode_all(scaled) == want);

  std::vector<float> last_rows(10);
  decode_rows(scaled.view(), 1, 2, last_rows);
  CHECK(last_rows == std::vector<float>(want.begin() + 5, want.end()));
}

TEST_CASE("scales per tensor, per row and per column block") {
  const auto f32 = [](std::vector<float> scales) { return bytes_of(scales); };
  CHECK(decode_all(make_case(2, 3, {0, 0, ScaleType::kF32}, f32({2}))) ==
        std::vector<float>{2, 4, 6, 8, 10, 12});
  CHECK(decode_all(make_case(2, 3, {1, 0, ScaleType::kF32}, f32({2, -1}))) ==
        std::vector<float>{2, 4, 6, -4, -5, -6});
  CHECK(decode_all(make_case(2, 3, {1, 2, ScaleType::kF32}, f32({1, 2, 3, 4}))) ==
        std::vector<float>{1, 2, 6, 12, 15, 24});
  CHECK(decode_all(make_case(2, 3, {0, 1, ScaleType::kF32}, f32({1, 2, 3}))) ==
        std::vector<float>{1, 4, 9, 4, 10, 18});
  CHECK(decode_all(make_case(2, 3, {128, 128, ScaleType::kF32}, f32({3}))) ==
        std::vector<float>{3, 6, 9, 12, 15, 18});
}

TEST_CASE("bf16 and e8m0 scales") {
  const std::vector<std::uint16_t> bf16 = {0x3fc0, 0xc000, 0x0001, 0x7fc0};  // 1.5, -2, 2^-133, NaN
  const std::vector<float> want_bf16 = {1.5f, -4.0f, 3 * 0x1p-133f, kNan};
  CHECK(
      compare_bits(decode_all(make_case(4, 1, {1, 0, ScaleType::kBF16}, bytes_of(bf16))), want_bf16)
          .equal());

  const std::vector<std::uint8_t> e8m0 = {0, 1, 126, 127, 128, 254, 255};
  const std::vector<float> want_e8m0 = {0x1p-127f, 2 * 0x1p-126f, 1.5f, 4.0f,
                                        10.0f,     6 * 0x1p127f,  kNan};
  CHECK(
      compare_bits(decode_all(make_case(7, 1, {1, 1, ScaleType::kE8M0}, bytes_of(e8m0))), want_e8m0)
          .equal());
}

TEST_CASE("a scaled value is rounded once") {
  const std::vector<float> scales = {1.0f / 3};
  const ScaledCase scaled = make_case(1, 100, {128, 128, ScaleType::kF32}, bytes_of(scales));
  const std::vector<float> got = decode_all(scaled);
  for (int i = 0; i < 100; ++i) {
    const double exact = static_cast<double>(scales[0]) * (i + 1);
    CHECK(got[static_cast<std::size_t>(i)] == static_cast<float>(exact));
  }
}

TEST_CASE("views whose sizes do not fit are refused") {
  const ScaledCase good = make_case(3, 5, {2, 3, ScaleType::kBF16}, std::vector<std::byte>(8));
  std::vector<float> out(15);
  decode_rows(good.view(), 0, 3, out);

  CHECK_THROWS_AS(decode_rows(good.view(), 1, 3, out), SpecError);
  CHECK_THROWS_AS(decode_rows(good.view(), -1, 3, out), SpecError);
  CHECK_THROWS_AS(decode_rows(good.view(), 0, 2, out), SpecError);
  ScaledTensorView view = good.view();
  view.data = view.data.first(14);
  CHECK_THROWS_AS(decode_rows(view, 0, 3, out), SpecError);
  view = good.view();
  view.scale_data = view.scale_data.first(7);
  CHECK_THROWS_AS(decode_rows(view, 0, 3, out), SpecError);
  view = good.view();
  view.scale_grid.reset();
  CHECK_THROWS_AS(decode_rows(view, 0, 3, out), SpecError);
  view = good.view();
  view.scale_grid->block_cols = -1;
  CHECK_THROWS_AS(decode_rows(view, 0, 3, out), SpecError);

  std::vector<double> y(3);
  std::vector<double> abs_sum(3);
  const std::vector<float> x(5);
  matvec_reference(good.view(), x, 1, 0, 3, y, abs_sum);
  CHECK_THROWS_AS(matvec_reference(good.view(), x, 2, 0, 3, y, abs_sum), SpecError);
  CHECK_THROWS_AS(matvec_reference(good.view(), x, 1, 0, 2, y, abs_sum), SpecError);
}

TEST_CASE("matvec sums in double over the scaled rows") {
  // Rows 1 2 3, 4 5 6, 7 8 9 with row scales 1, 2, -1.
  const ScaledCase scaled =
      make_case(3, 3, {1, 0, ScaleType::kF32}, bytes_of(std::vector<float>{1, 2, -1}));
  const std::vector<float> x = {1, -1, 0.5f, 0, 2, -3};
  std::vector<double> y(4);
  std::vector<double> abs_sum(4);
  matvec_reference(scaled.view(), x, 2, 1, 2, y, abs_sum);
  CHECK(y == std::vector<double>{4, -3.5, -16, 11});
  CHECK(abs_sum == std::vector<double>{24, 19.5, 56, 43});
}

TEST_CASE("matvec keeps what f32 sums would lose") {
  const std::vector<float> w = {0x1p30f, 1.0f, -0x1p30f};
  const std::vector<std::byte> data = bytes_of(w);
  const ScaledTensorView view{.format = FormatId::kF32,
                              .rows = 1,
                              .cols = 3,
                              .data = data,
                              .scale_grid = {},
                              .scale_data = {}};
  const std::vector<float> x = {1, 1, 1};
  std::vector<double> y(1);
  std::vector<double> abs_sum(1);
  matvec_reference(view, x, 1, 0, 1, y, abs_sum);
  CHECK(y[0] == 1);
  CHECK(abs_sum[0] == 0x1p31 + 1);
}

TEST_CASE("bits are compared, NaNs by class") {
  const std::vector<float> want = {1, kNan, 0.0f, kInfinity, 2, 3};
  const std::vector<float> same = {1, -kNan, 0.0f, kInfinity, 2, 3};
  CHECK(compare_bits(same, want).equal());
  CHECK_FALSE(compare_bits(same, want).first.has_value());

  const std::vector<float> other = {1, kNan, -0.0f, kInfinity, 2.5f, 3};
  const BitDifference difference = compare_bits(other, want);
  CHECK(difference.count == 2);
  CHECK(difference.first == 2);
  CHECK(difference.max_abs_difference == 0.5);

  const std::vector<float> nan_for_number = {kNan, kNan, 0.0f, kInfinity, 2, 3};
  CHECK(compare_bits(nan_for_number, want).max_abs_difference == kInfinity);
  const std::vector<float> shorter = {1};
  CHECK_THROWS_AS(compare_bits(shorter, want), SpecError);
}

}  // namespace
}  // namespace ktjit
