#include "tests/support/kernel_inputs.h"

#include <cmath>
#include <string_view>

#include "jit/reference_decode.h"
#include "jit/reference_ops.h"
#include "tests/support/golden_data.h"
#include "tests/support/kernel_cases.h"

namespace ktjit::test {

Bytes bytes_of(std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

std::vector<float> widened(FormatId format, const Bytes& bytes) {
  std::vector<float> values(bytes.size() /
                            static_cast<std::size_t>(get_format(format).block_bytes));
  decode_row(format, bytes, values);
  return values;
}

Bytes make_weights(FormatId format, std::int64_t rows, std::int64_t cols, std::mt19937& random) {
  const Format& facts = get_format(format);
  if (facts.family == FormatFamily::kGgml) {  // rows that ggml quantised, cut to length
    const GoldenEntry golden = get_golden(facts.name);
    constexpr std::int64_t kQuantisedRows = 8;
    const std::size_t row_size = static_cast<std::size_t>(row_bytes(facts, cols));
    Bytes data;
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto* begin =
          golden.encoded.data() + static_cast<std::size_t>(row % kQuantisedRows) * golden.row_bytes;
      data.insert(data.end(), begin, begin + row_size);
    }
    return data;
  }
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (float& value : values) value = normal(random);
  if (format == FormatId::kF64) {
    const std::vector<double> wide(values.begin(), values.end());
    const auto bytes = std::as_bytes(std::span(wide));
    return {bytes.begin(), bytes.end()};
  }
  if (facts.family == FormatFamily::kFloat) {
    Bytes data(values.size() * static_cast<std::size_t>(facts.block_bytes));
    round_output(format, values, data);
    return data;
  }
  if (facts.family == FormatFamily::kMx) {  // every code is finite
    Bytes data(static_cast<std::size_t>(rows * row_bytes(facts, cols)));
    for (std::byte& codes : data) codes = static_cast<std::byte>(random());
    return data;
  }
  Bytes data(values.size());
  for (std::byte& code : data) {  // finite codes only
    do code = static_cast<std::byte>(random());
    while ((code & std::byte{0x7f}) >= std::byte{0x78} || code == std::byte{0x80});
  }
  return data;
}

Bytes make_scales(const ScaleGrid& grid, std::int64_t rows, std::int64_t cols,
                  std::mt19937& random) {
  std::normal_distribution<float> normal;
  const auto count =
      static_cast<std::size_t>(grid.rows_of_scales(rows) * grid.cols_of_scales(cols));
  Bytes plane;
  switch (grid.type) {
    case ScaleType::kF32:
    case ScaleType::kBF16: {
      std::vector<float> values(count);
      for (float& value : values) value = std::abs(normal(random));
      const FormatId format = grid.type == ScaleType::kF32 ? FormatId::kF32 : FormatId::kBF16;
      plane.resize(count * static_cast<std::size_t>(scale_type_bytes(grid.type)));
      round_output(format, values, plane);
      return plane;
    }
    case ScaleType::kE8M0:
      for (std::size_t i = 0; i < count; ++i)
        plane.push_back(static_cast<std::byte>(120 + random() % 16));
      return plane;
    case ScaleType::kE4M3: {
      plane = bytes_of(std::vector<float>{0.37f});
      plane.resize(static_cast<std::size_t>(grid.header_bytes()));
      for (std::size_t i = 0; i < count; ++i)
        plane.push_back(static_cast<std::byte>(random() % 0x7f));
      return plane;
    }
  }
  return plane;
}

std::vector<float> normal_values(std::size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

Bytes rounded_to(FormatId format, std::vector<float>& values) {
  Bytes bytes(values.size() * static_cast<std::size_t>(get_format(format).block_bytes));
  round_output(format, values, bytes);
  values = widened(format, bytes);
  return bytes;
}

}  // namespace ktjit::test
