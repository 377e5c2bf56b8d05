// Measured errors against computations that share nothing with the code: codes found by trying all.
#include "jit/conversion_error.h"

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>

#include "core/error.h"
#include "tests/jit/made_model.h"

namespace ktjit {
namespace {

using test::MadeModel;

/// An 8-bit float by its definition. REQUIRES: a finite code.
double value_of(int code, int mantissa_bits, int bias) {
  const int magnitude = code & 0x7f;
  const int exponent = magnitude >> mantissa_bits;
  const int mantissa = magnitude & ((1 << mantissa_bits) - 1);
  const double value =
      exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                    : std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  return code & 0x80 ? -value : value;
}
double e4m3(int code) { return value_of(code, 3, 7); }
double e5m2(int code) { return value_of(code, 2, 15); }

/// The e5m2 value nearest to x, of two the one with an even code.
double nearest_e5m2(double x) {
  int best = 0;
  for (int code = 0; code < 0x7c; ++code) {
    const double distance = std::fabs(e5m2(code) - std::fabs(x));
    const double best_distance = std::fabs(e5m2(best) - std::fabs(x));
    if (distance < best_distance || (distance == best_distance && code % 2 == 0)) best = code;
  }
  return std::copysign(e5m2(best), x);
}

/// x with `bits` significant bits and no exponent below `lowest`, to nearest even.
double rounded(double x, int bits, int lowest) {
  if (x == 0) return 0;
  const int exponent = std::max(std::ilogb(x), lowest);
  const int shift = bits - 1 - exponent;
  return std::ldexp(std::nearbyint(std::ldexp(x, shift)), -shift);
}

struct TestTensor {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  ScaleGrid grid;
  std::vector<std::byte> codes;
  std::vector<float> scales;

  float value(std::int64_t row, std::int64_t col) const {
    const std::int64_t block_row = grid.block_rows == 0 ? 0 : row / grid.block_rows;
    const std::int64_t block_col = grid.block_cols == 0 ? 0 : col / grid.block_cols;
    const auto scale = static_cast<std::size_t>(block_row * grid.cols_of_scales(cols) + block_col);
    const auto code = static_cast<std::size_t>(row * cols + col);
    return static_cast<float>(e4m3(std::to_integer<int>(codes[code]))) * scales[scale];
  }
};

TestTensor make_tensor(std::int64_t rows, std::int64_t cols, const ScaleGrid& grid, int seed) {
  TestTensor tensor{rows, cols, grid, {}, {}};
  std::mt19937 random(static_cast<unsigned>(seed));
  for (std::int64_t at = 0; at < rows * cols; ++at) {
    const auto code = static_cast<unsigned char>(random() % 256);
    tensor.codes.push_back(std::byte{(code & 0x7f) == 0x7f ? std::uint8_t{0} : code});
  }
  const std::int64_t scales = grid.rows_of_scales(rows) * grid.cols_of_scales(cols);
  for (std::int64_t at = 0; at < scales; ++at)
    tensor.scales.push_back(1e-4f * (1 + static_cast<float>(random() % 1000)));
  return tensor;
}

void add_to(MadeModel& made, const std::string& name, const TestTensor& tensor) {
  model::TensorInfo& info = made.add(name, FormatId::kFp8E4M3, tensor.rows, tensor.cols);
  info.data = made.keep(tensor.codes);
  info.scale_grid = tensor.grid;
  std::vector<std::byte> scales(tensor.scales.size() * sizeof(float));
  std::memcpy(scales.data(), tensor.scales.data(), scales.size());
  info.scale_data = made.keep(std::move(scales));
}

struct Expected {
  double rms = 0;
  double max = 0;
};

/// Errors over the whole tensor, of conversions that treat each value by itself.
Expected expect(const TestTensor& tensor,
                const std::function<double(std::int64_t, std::int64_t, float)>& convert) {
  double differences = 0;
  double squares = 0;
  double largest_difference = 0;
  double largest = 0;
  for (std::int64_t row = 0; row < tensor.rows; ++row) {
    for (std::int64_t col = 0; col < tensor.cols; ++col) {
      const float value = tensor.value(row, col);
      const double difference = convert(row, col, value) - value;
      differences += difference * difference;
      squares += static_cast<double>(value) * value;
      largest_difference = std::max(largest_difference, std::fabs(difference));
      largest = std::max(largest, std::fabs(static_cast<double>(value)));
    }
  }
  return {std::sqrt(differences / squares), largest_difference / largest};
}

ConversionError measure_one(const model::Model& model, FormatId format) {
  const auto errors = measure_conversion_errors(model, std::span(&format, 1));
  REQUIRE(errors.size() == 1);
  return errors.front();
}

void check_close(const ConversionError& got, const Expected& expected) {
  CHECK(got.rms == Approx(expected.rms).epsilon(1e-6));
  CHECK(got.max == Approx(expected.max).epsilon(1e-6));
}

}  // namespace

TEST_CASE("errors of bf16, f16 and e5m2 are those of rounding every value of a small tensor") {
  // One tile: the whole tensor is the sample.
  const TestTensor tensor = make_tensor(16, 512, {8, 128, ScaleType::kF32}, 1);
  MadeModel made;
  add_to(made, "w", tensor);
  const model::Model model = made.make();

  const ConversionError bf16 = measure_one(model, FormatId::kBF16);
  CHECK(bf16.values == 16 * 512);
  CHECK(bf16.tensors == 1);
  CHECK(bf16.worst_tensor == "w");
  check_close(bf16, expect(tensor, [](auto, auto, float v) { return rounded(v, 8, -126); }));
  check_close(measure_one(model, FormatId::kF16),
              expect(tensor, [](auto, auto, float v) { return rounded(v, 11, -14); }));

  const auto to_e5m2 = [&](std::int64_t row, std::int64_t col, float value) -> double {
    float largest = 0;
    for (std::int64_t r = row / 8 * 8; r < row / 8 * 8 + 8; ++r) {
      for (std::int64_t c = col / 128 * 128; c < col / 128 * 128 + 128; ++c)
        largest = std::max(largest, std::fabs(tensor.value(r, c)));
    }
    const float scale = largest / 57344.0f;
    return static_cast<float>(nearest_e5m2(value / scale)) * scale;
  };
  const Expected expected = expect(tensor, to_e5m2);
  CHECK(expected.rms > 0.01);  // two mantissa bits can't do better
  check_close(measure_one(model, FormatId::kFp8E5M2), expected);
}

TEST_CASE("the error of q8_0 is that of ggml's quantiser") {
  const TestTensor tensor = make_tensor(16, 512, {8, 128, ScaleType::kF32}, 2);
  MadeModel made;
  add_to(made, "w", tensor);
  const auto to_q8_0 = [&](std::int64_t row, std::int64_t col, float value) -> double {
    float largest = 0;
    for (std::int64_t c = col / 32 * 32; c < col / 32 * 32 + 32; ++c)
      largest = std::max(largest, std::fabs(tensor.value(row, c)));
    const float d = largest / 127.0f;
    const double code = std::round(value * (1.0f / d));
    return code * rounded(d, 11, -14);
  };
  check_close(measure_one(made.make(), FormatId::kQ8_0), expect(tensor, to_q8_0));
}

TEST_CASE("e4m3 becomes e4b15 without any error: the same codes, scales x 256") {
  for (const ScaleGrid& grid :
       {ScaleGrid{128, 128, ScaleType::kF32}, ScaleGrid{1, 0, ScaleType::kF32},
        ScaleGrid{0, 0, ScaleType::kF32}, ScaleGrid{1, 128, ScaleType::kF32}}) {
    MadeModel made;
    add_to(made, "w", make_tensor(300, 1000, grid, 3));
    const ConversionError error = measure_one(made.make(), FormatId::kFp8E4B15);
    CHECK(error.rms == 0);
    CHECK(error.max == 0);
    CHECK(error.values > 0);
  }
}

TEST_CASE("what a tensor has already costs nothing") {
  MadeModel made;
  add_to(made, "w", make_tensor(64, 512, {128, 128, ScaleType::kF32}, 4));
  CHECK(measure_one(made.make(), FormatId::kFp8E4M3).rms == 0);
}

TEST_CASE("a sample of a large model is bounded, spread over kinds, and near the whole") {
  MadeModel made;
  std::vector<TestTensor> tensors;
  for (int layer = 0; layer < 3; ++layer) {
    tensors.push_back(make_tensor(1024, 2048, {128, 128, ScaleType::kF32}, layer));
    add_to(made, "blk." + std::to_string(layer) + ".ffn_up.weight", tensors.back());
  }
  tensors.push_back(make_tensor(256, 512, {128, 128, ScaleType::kF32}, 9));
  add_to(made, "blk.0.attn_q.weight", tensors.back());
  const model::Model model = made.make();
  const FormatId e5m2_format = FormatId::kFp8E5M2;
  const auto sample =
      measure_conversion_errors(model, std::span(&e5m2_format, 1), std::int64_t{1} << 18);
  REQUIRE(sample.size() == 1);
  CHECK(sample.front().values <= 1 << 18);
  CHECK(sample.front().tensors >= 3);
  const auto all =
      measure_conversion_errors(model, std::span(&e5m2_format, 1), std::int64_t{1} << 30);
  CHECK(all.front().values == 3 * 1024 * 2048 + 256 * 512);
  CHECK(all.front().tensors == 4);
  CHECK(sample.front().rms == Approx(all.front().rms).epsilon(0.05));
  CHECK(sample.front().max <= Approx(all.front().max));
  // The same for the same model.
  const auto again =
      measure_conversion_errors(model, std::span(&e5m2_format, 1), std::int64_t{1} << 18);
  CHECK(again.front().rms == sample.front().rms);
}

TEST_CASE("scale blocks of any size are sampled whole, or from their beginning") {
  for (const ScaleGrid& grid :
       {ScaleGrid{1000, 96, ScaleType::kF32}, ScaleGrid{3, 4097, ScaleType::kF32},
        ScaleGrid{1, 5, ScaleType::kF32}, ScaleGrid{0, 7, ScaleType::kF32},
        ScaleGrid{7, 0, ScaleType::kF32}, ScaleGrid{32, 70000, ScaleType::kF32}}) {
    INFO(scale_grid_name(grid));
    MadeModel made;
    add_to(made, "w", make_tensor(70, 9001, grid, 5));
    const ConversionError error = measure_one(made.make(), FormatId::kBF16);
    CHECK(error.values > 0);
    CHECK(error.rms > 1e-4);  // 8 bits: at most 2^-9 of each value
    CHECK(error.rms < 0x1p-8);
  }
}

TEST_CASE("NaN codes are left out and counted") {
  TestTensor tensor = make_tensor(16, 512, {16, 128, ScaleType::kF32}, 6);
  tensor.codes[5] = std::byte{0x7f};
  tensor.codes[700] = std::byte{0xff};
  MadeModel made;
  add_to(made, "w", tensor);
  const model::Model model = made.make();
  for (const FormatId format : fp8_alternatives()) {
    const ConversionError error = measure_one(model, format);
    CHECK(error.nan_codes == 2);
    CHECK(std::isfinite(error.rms));
    CHECK(error.max < 0.1);
  }
}

TEST_CASE("columns that q8_0 can't have, zeros, and models without FP8 give no error") {
  MadeModel odd;
  add_to(odd, "w", make_tensor(16, 100, {0, 0, ScaleType::kF32}, 7));
  const model::Model odd_model = odd.make();
  const FormatId q8_0 = FormatId::kQ8_0;
  CHECK(measure_conversion_errors(odd_model, std::span(&q8_0, 1)).empty());
  CHECK_FALSE(can_convert(odd_model.tensors().front(), FormatId::kQ8_0));

  MadeModel zeros;
  zeros.add_fp8("w", FormatId::kFp8E4M3, 256, 256, {128, 128, ScaleType::kF32});
  CHECK(measure_conversion_errors(zeros.make(), fp8_alternatives()).empty());

  MadeModel none;
  none.add("w", FormatId::kBF16, 256, 256);
  CHECK(measure_conversion_errors(none.make(), fp8_alternatives()).empty());
}

TEST_CASE("a format that is no alternative is refused") {
  MadeModel made;
  const FormatId q4_k = FormatId::kQ4_K;
  CHECK_THROWS_AS(measure_conversion_errors(made.make(), std::span(&q4_k, 1)), SpecError);
}

TEST_CASE("sizes after a conversion have the scales that the format needs") {
  MadeModel made;
  made.add_fp8("w", FormatId::kFp8E4M3, 576, 7168, {128, 128, ScaleType::kBF16});
  made.add("plain", FormatId::kFp8E4M3, 64, 64);
  const model::Model model = made.make();
  const model::TensorInfo& w = model.tensors()[0];
  constexpr std::uint64_t kCodes = 576 * 7168;
  CHECK(converted_bytes(w, FormatId::kFp8E4M3) == kCodes + 5 * 56 * 2);  // as it is
  CHECK(converted_bytes(w, FormatId::kFp8E5M2) == kCodes + 5 * 56 * 4);  // scales in f32
  CHECK(converted_bytes(w, FormatId::kBF16) == 2 * kCodes);
  CHECK(converted_bytes(w, FormatId::kQ8_0) == kCodes / 32 * 34);
  CHECK(converted_bytes(model.tensors()[1], FormatId::kFp8E4B15) == 64 * 64 + 4);
}

}  // namespace ktjit
