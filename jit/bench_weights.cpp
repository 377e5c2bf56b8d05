// Formats of ggml's and plain floats are made as the sample models'; what is left are codes of 4 to 8 bits
// whose scales lie beside them.
#include "jit/bench_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>

#include "core/error.h"
#include "core/tensor_layout.h"
#include "jit/reference_decode.h"
#include "model/sample_weights.h"

namespace ktjit {
namespace {

constexpr std::size_t kPoolBytes = std::size_t{32} << 20;
constexpr std::int64_t kCopyStride = 7919;  // rows of the pool between copies: a prime

/// A linear congruential generator modulo 2^64; multiplier and increment are Knuth's MMIX ones.
class Random {
 public:
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 32);
  }
  /// In [0, 1).
  float uniform() { return static_cast<float>(next() >> 8) * 0x1p-24f; }
  /// Mean 0, deviation 1, by the sum of twelve uniforms: never beyond 6.
  float normal() {
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }

 private:
  std::uint64_t state_ = 20260101;
};

/// The codes of an FP8 format that are numbers of moderate size.
std::vector<std::byte> moderate_codes(FormatId format) {
  constexpr float kLargest = 448;  // of e4m3
  std::vector<std::byte> codes;
  for (int code = 0; code < 256; ++code) {
    const std::byte byte{static_cast<unsigned char>(code)};
    float value = 0;
    decode_row(format, {&byte, 1}, {&value, 1});
    if (std::isfinite(value) && std::abs(value) <= kLargest) codes.push_back(byte);
  }
  return codes;
}

std::vector<std::byte> random_codes(const WeightFormat& format, std::size_t count) {
  Random random;
  std::vector<std::byte> bytes(count);
  if (get_format(format.id).family == FormatFamily::kFp8) {
    const std::vector<std::byte> codes = moderate_codes(format.id);
    for (std::byte& byte : bytes) byte = codes[random.next() % codes.size()];
  } else {  // of mxfp6, mxfp4 and nvfp4 all codes are finite
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() >> 24);
  }
  return bytes;
}

/// The root of the mean square of the decoded codes of a row.
double deviation_of(const WeightFormat& format, std::span<const std::byte> row, std::int64_t cols) {
  std::vector<float> values(static_cast<std::size_t>(cols));
  decode_row(format.id, row, values);
  double sum = 0;
  for (float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum / static_cast<double>(cols));
}

/// Scales of around `middle`: within a factor of 1.5 of it, powers of two within 4.
std::vector<std::byte> random_scales(const ScaleGrid& grid, std::int64_t rows, std::int64_t cols,
                                     double middle) {
  Random random;
  std::vector<std::byte> plane(static_cast<std::size_t>(grid.plane_bytes(rows, cols)));
  const auto header = static_cast<std::size_t>(grid.header_bytes());
  const std::span<std::byte> scales = std::span(plane).subspan(header);
  switch (grid.type) {
    case ScaleType::kF32:
    case ScaleType::kBF16: {
      const bool is_f32 = grid.type == ScaleType::kF32;
      std::vector<float> values(scales.size() / (is_f32 ? 4 : 2));
      for (float& value : values)
        value = static_cast<float>(middle) * (0.75f + 0.5f * random.uniform());
      round_output(is_f32 ? FormatId::kF32 : FormatId::kBF16, values, scales);
      return plane;
    }
    case ScaleType::kE8M0: {
      constexpr int kBias = 127;
      const int code = kBias + static_cast<int>(std::lround(std::log2(middle)));
      for (std::byte& scale : scales)
        scale = static_cast<std::byte>(code - 2 + static_cast<int>(random.next() >> 30));
      return plane;
    }
    case ScaleType::kE4M3: {  // codes of 1 to 1.875 behind the tensor's f32 scale
      constexpr unsigned kOne = 0x38;
      const float tensor_scale = static_cast<float>(middle / 1.44);
      std::memcpy(plane.data(), &tensor_scale, sizeof tensor_scale);
      for (std::byte& scale : scales) scale = static_cast<std::byte>(kOne + (random.next() >> 29));
      return plane;
    }
  }
  KTJIT_UNREACHABLE("a known type of scales");
}

bool is_made_as_in_samples(FormatFamily family) {
  return family == FormatFamily::kGgml || family == FormatFamily::kFloat ||
         family == FormatFamily::kInteger;
}

}  // namespace

ScaledTensorView BenchRow::view() const {
  ScaledTensorView view{format.id, 1, cols, codes, format.scale, scales};
  if (view.scale_grid) view.scale_grid->block_rows = 1;
  return view;
}

BenchWeights::BenchWeights(const WeightFormat& format, std::int64_t rows, std::int64_t cols)
    : format_(format), rows_(rows), cols_(cols) {
  const Format& facts = get_format(format.id);
  row_bytes_ = static_cast<std::size_t>(ktjit::row_bytes(facts, cols));
  if (!has_reference_decode(format.id))
    throw SpecError("format", facts.name, "formats that can be decoded");
  const auto fitting = static_cast<std::int64_t>(std::max<std::size_t>(1, kPoolBytes / row_bytes_));
  pool_rows_ = std::min(rows, fitting % 2 == 0 ? fitting - 1 : fitting);
  pool_ = is_made_as_in_samples(facts.family)
              ? model::make_sample_weights("bench", format.id, pool_rows_, cols)
              : random_codes(format, static_cast<std::size_t>(pool_rows_) * row_bytes_);
  if (!format.scale) return;
  const double deviation = deviation_of(format, std::span(pool_).first(row_bytes_), cols);
  const double wanted = 1 / std::sqrt(static_cast<double>(cols));
  scales_ = random_scales(*format.scale, rows, cols, wanted / std::max(deviation, 1e-3));
}

std::int64_t BenchWeights::pool_row(int copy, std::int64_t row) const {
  return (row + copy * kCopyStride) % pool_rows_;
}

void BenchWeights::upload_codes(runtime::Device& device, runtime::Stream& stream, int copy,
                                runtime::Buffer& to) const {
  for (std::int64_t row = 0; row < rows_;) {
    const std::int64_t from = pool_row(copy, row);
    const std::int64_t count = std::min(rows_ - row, pool_rows_ - from);
    device.upload(stream,
                  std::span(pool_).subspan(static_cast<std::size_t>(from) * row_bytes_,
                                           static_cast<std::size_t>(count) * row_bytes_),
                  to, static_cast<std::size_t>(row) * row_bytes_);
    row += count;
  }
}

BenchRow BenchWeights::row(int copy, std::int64_t row) const {
  BenchRow result;
  result.cols = cols_;
  result.format = format_;
  result.codes = std::span(pool_).subspan(
      static_cast<std::size_t>(pool_row(copy, row)) * row_bytes_, row_bytes_);
  if (!format_.scale) return result;
  const ScaleGrid& grid = *format_.scale;
  const auto header = static_cast<std::size_t>(grid.header_bytes());
  const auto bytes = static_cast<std::size_t>(grid.cols_of_scales(cols_)) *
                     static_cast<std::size_t>(scale_type_bytes(grid.type));
  const auto scale_row = static_cast<std::size_t>(grid.block_rows == 0 ? 0 : row / grid.block_rows);
  const std::span all = std::span(scales_);
  result.scales.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(header));
  const auto own = all.subspan(header + scale_row * bytes, bytes);
  result.scales.insert(result.scales.end(), own.begin(), own.end());
  return result;
}

std::size_t file_bytes(const WeightFormat& format, std::int64_t rows, std::int64_t cols) {
  const std::int64_t row_size = row_bytes(get_format(format.id), cols);
  std::int64_t bytes = 0;
  // Scales take less than 8 bytes an element, so what is left of 63 bits suffices for them.
  constexpr std::int64_t kLargest = std::int64_t{1} << 56;
  if (rows < 1 || __builtin_mul_overflow(rows, row_size, &bytes) || bytes > kLargest)
    throw SpecError("rows", fmt::format("{}", rows), "1 and more, and what a memory can hold");
  if (format.scale) bytes += format.scale->plane_bytes(rows, cols);
  return static_cast<std::size_t>(bytes);
}

BenchActivations make_bench_activations(FormatId format, std::int64_t n, std::int64_t cols) {
  Random random;
  BenchActivations x;
  x.values.resize(static_cast<std::size_t>(n * cols));
  for (float& value : x.values) value = random.normal();
  const auto bytes_each = static_cast<std::size_t>(get_format(format).block_bytes);
  x.bytes.resize(x.values.size() * bytes_each);
  round_output(format, x.values, x.bytes);
  decode_row(format, x.bytes, x.values);
  return x;
}

}  // namespace ktjit
