// See reference_ops.h for the arithmetic, and reference_decode.cpp for the formats. Compile with
// -ffp-contract=off, as it.
#include "jit/reference_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "jit/reference_decode.h"

namespace ktjit {
namespace {

void check_size(std::string_view what, std::size_t given, std::int64_t expected) {
  if (given == static_cast<std::size_t>(expected)) return;
  throw SpecError(fmt::format("reference: size of {}", what), fmt::format("{}", given),
                  fmt::format("{}", expected));
}

/// Bytes of one row. The remainder of a row that is no whole number of blocks is decode_row's to
/// refuse.
std::int64_t row_bytes(const ScaledTensorView& tensor) {
  const Format& format = get_format(tensor.format);
  return tensor.cols / format.block_elems * format.block_bytes;
}

void check_tensor(const ScaledTensorView& tensor, std::int64_t first_row, std::int64_t n_rows) {
  if (tensor.rows < 0 || tensor.cols < 0) {
    throw SpecError("reference: shape", fmt::format("{}x{}", tensor.rows, tensor.cols),
                    "no negative extents");
  }
  if (first_row < 0 || n_rows < 0 || n_rows > tensor.rows - first_row) {
    throw SpecError("reference: rows", fmt::format("{} from row {} on", n_rows, first_row),
                    fmt::format("rows within 0 to {}", tensor.rows));
  }
  check_size("the tensor's bytes", tensor.data.size(), tensor.rows * row_bytes(tensor));

  std::int64_t scale_bytes = 0;
  if (const auto& grid = tensor.scale_grid) {
    if (grid->block_rows < 0 || grid->block_cols < 0) {
      throw SpecError("reference: scale block", scale_grid_name(grid), "no negative extents");
    }
    scale_bytes = grid->plane_bytes(tensor.rows, tensor.cols);
  }
  check_size("the scales' bytes", tensor.scale_data.size(), scale_bytes);
}

/// 2^(code - 127), 255 is NaN (OCP Microscaling Formats 1.0). Code 0 is a subnormal of f32.
float decode_e8m0(std::byte code) {
  if (code == std::byte{255}) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0f, std::to_integer<int>(code) - 127);
}

/// `plane` is where the plane of scales begins, `bytes` are the scales to decode.
void decode_scales(ScaleType type, std::span<const std::byte> plane,
                   std::span<const std::byte> bytes, std::span<float> out) {
  switch (type) {
    case ScaleType::kF32:
      decode_row(FormatId::kF32, bytes, out);
      return;
    case ScaleType::kBF16:
      decode_row(FormatId::kBF16, bytes, out);
      return;
    case ScaleType::kE8M0:
      std::ranges::transform(bytes, out.begin(), decode_e8m0);
      return;
    case ScaleType::kE4M3: {
      float tensor_scale = 0.0f;
      decode_row(FormatId::kF32, plane.first(sizeof(float)), {&tensor_scale, 1});
      decode_row(FormatId::kFp8E4M3, bytes, out);
      for (float& scale : out) scale *= tensor_scale;
      return;
    }
  }
}

/// The scales of one row of blocks, decoded when first asked for and kept until another row of
/// blocks is asked for.
class ScaleRow {
 public:
  explicit ScaleRow(const ScaledTensorView& tensor) : tensor_(tensor), grid_(*tensor.scale_grid) {
    scales_.resize(static_cast<std::size_t>(grid_.cols_of_scales(tensor.cols)));
  }

  /// Multiplies a decoded row of the tensor.
  void apply(std::int64_t row, std::span<float> values) {
    load(grid_.block_rows == 0 ? 0 : row / grid_.block_rows);
    const std::size_t block_cols =
        grid_.block_cols == 0 ? values.size() : static_cast<std::size_t>(grid_.block_cols);
    for (std::size_t block = 0; block < scales_.size(); ++block) {
      const std::size_t begin = block * block_cols;
      const std::size_t end = std::min(begin + block_cols, values.size());
      for (std::size_t c = begin; c < end; ++c) values[c] *= scales_[block];
    }
  }

 private:
  void load(std::int64_t scale_row) {
    if (scale_row == loaded_) return;
    const std::size_t bytes =
        scales_.size() * static_cast<std::size_t>(scale_type_bytes(grid_.type));
    const std::size_t begin = static_cast<std::size_t>(grid_.header_bytes()) +
                              static_cast<std::size_t>(scale_row) * bytes;
    decode_scales(grid_.type, tensor_.scale_data, tensor_.scale_data.subspan(begin, bytes),
                  scales_);
    loaded_ = scale_row;
  }

  const ScaledTensorView& tensor_;
  const ScaleGrid grid_;
  std::vector<float> scales_;
  std::int64_t loaded_ = -1;
};

/// value / 2^shift, to nearest, ties to even.
std::uint32_t shift_right_rounding(std::uint32_t value, int shift) {
  if (shift == 0) return value;
  if (shift > 31) return 0;  // value is below 2^24: less than half of 2^32
  const std::uint32_t quotient = value >> shift;
  const std::uint32_t rest = value - (quotient << shift);
  const std::uint32_t half = std::uint32_t{1} << (shift - 1);
  const bool up = rest > half || (rest == half && quotient % 2 == 1);
  return quotient + (up ? 1 : 0);
}

/// The code of an IEEE float of 16 bits that is nearest to the value.
std::uint16_t round_to_16_bits(float value, int exponent_bits, int mantissa_bits) {
  constexpr int kF32MantissaBits = 23;
  constexpr int kF32Bias = 127;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 31) << 15;
  const std::uint32_t infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  const std::uint32_t quiet_nan = infinity | 1u << (mantissa_bits - 1);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | quiet_nan);
  if (std::isinf(value)) return static_cast<std::uint16_t>(sign | infinity);

  // |value| = significand * 2^(exponent - 23); a subnormal has the exponent of the smallest normal.
  const int exponent_field = static_cast<int>(bits >> kF32MantissaBits & 0xff);
  const std::uint32_t fraction = bits & ((1u << kF32MantissaBits) - 1);
  const int exponent = std::max(exponent_field, 1) - kF32Bias;
  const std::uint32_t significand = fraction | (exponent_field == 0 ? 0u : 1u << kF32MantissaBits);

  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int smallest_exponent = 1 - bias;
  const int too_small_by = std::max(smallest_exponent - exponent, 0);
  const std::uint32_t rounded =
      shift_right_rounding(significand, kF32MantissaBits - mantissa_bits + too_small_by);
  // Codes of one sign are in the order of their values, so that the leading bit of a normal
  // significand, or a carry out of rounding, moves into the exponent field by itself.
  const auto steps = static_cast<std::uint32_t>(std::max(exponent - smallest_exponent, 0));
  const std::uint32_t code = (steps << mantissa_bits) + rounded;
  return static_cast<std::uint16_t>(sign | std::min(code, infinity));
}

void store_little_endian(std::uint32_t value, std::span<std::byte> out) {
  for (std::byte& byte : out) {
    byte = static_cast<std::byte>(value & 0xff);
    value >>= 8;
  }
}

}  // namespace

void decode_rows(const ScaledTensorView& tensor, std::int64_t first_row, std::int64_t n_rows,
                 std::span<float> out) {
  check_tensor(tensor, first_row, n_rows);
  check_size("out", out.size(), n_rows * tensor.cols);

  std::optional<ScaleRow> scales;
  if (tensor.scale_grid) scales.emplace(tensor);
  const auto cols = static_cast<std::size_t>(tensor.cols);
  const auto bytes = static_cast<std::size_t>(row_bytes(tensor));
  for (std::int64_t r = 0; r < n_rows; ++r) {
    const std::int64_t row = first_row + r;
    const std::span<float> values = out.subspan(static_cast<std::size_t>(r) * cols, cols);
    decode_row(tensor.format, tensor.data.subspan(static_cast<std::size_t>(row) * bytes, bytes),
               values);
    if (scales) scales->apply(row, values);
  }
}

void round_output(FormatId out_format, std::span<const float> in, std::span<std::byte> out) {
  const Format& format = get_format(out_format);
  check_size("out", out.size(), static_cast<std::int64_t>(in.size()) * format.block_bytes);

  const auto code_of = [&](float value) -> std::uint32_t {
    switch (out_format) {
      case FormatId::kF32:
        return std::bit_cast<std::uint32_t>(value);
      case FormatId::kF16:
        return round_to_16_bits(value, 5, 10);
      case FormatId::kBF16:
        return round_to_16_bits(value, 8, 7);
      default:
        throw SpecError("reference: output format", format.name, "f32, f16, bf16");
    }
  };
  const auto bytes = static_cast<std::size_t>(format.block_bytes);
  for (std::size_t i = 0; i < in.size(); ++i) {
    store_little_endian(code_of(in[i]), out.subspan(i * bytes, bytes));
  }
}

void matvec_reference(const ScaledTensorView& tensor, std::span<const float> x, int n,
                      std::int64_t first_row, std::int64_t n_rows, std::span<double> y,
                      std::span<double> abs_sum) {
  check_tensor(tensor, first_row, n_rows);
  check_size("x", x.size(), n * tensor.cols);
  check_size("y", y.size(), n * n_rows);
  check_size("abs_sum", abs_sum.size(), n * n_rows);

  const auto cols = static_cast<std::size_t>(tensor.cols);
  std::vector<float> w(cols);
  for (std::int64_t r = 0; r < n_rows; ++r) {
    decode_rows(tensor, first_row + r, 1, w);
    for (int i = 0; i < n; ++i) {
      const std::span<const float> x_row = x.subspan(static_cast<std::size_t>(i) * cols, cols);
      double sum = 0;
      double sum_of_abs = 0;
      for (std::size_t c = 0; c < cols; ++c) {
        const double product = static_cast<double>(w[c]) * x_row[c];
        sum += product;
        sum_of_abs += std::abs(product);
      }
      const auto at = static_cast<std::size_t>(i * n_rows + r);
      y[at] = sum;
      abs_sum[at] = sum_of_abs;
    }
  }
}

void add_bias_reference(std::span<const float> bias, int n, std::int64_t first_row,
                        std::int64_t n_rows, std::span<double> y, std::span<double> abs_sum) {
  check_size("y", y.size(), n * n_rows);
  check_size("abs_sum", abs_sum.size(), n * n_rows);
  if (first_row < 0 || first_row + n_rows > static_cast<std::int64_t>(bias.size())) {
    throw SpecError("reference: size of bias", fmt::format("{}", bias.size()),
                    fmt::format("{} and more", first_row + n_rows));
  }
  for (std::int64_t at = 0; at < n * n_rows; ++at) {
    const double value = bias[static_cast<std::size_t>(first_row + at % n_rows)];
    y[static_cast<std::size_t>(at)] += value;
    abs_sum[static_cast<std::size_t>(at)] += std::abs(value);
  }
}

double product_tolerance(std::int64_t cols, FormatId y_format, double want, double abs_sum) {
  const double of_sums = (static_cast<double>(cols) / 16 + 16) * 0x1p-24 * abs_sum;
  const double largest = std::abs(want) + of_sums;
  switch (y_format) {
    case FormatId::kF32:
      return of_sums;
    case FormatId::kF16:
      return of_sums + std::max(largest * 0x1p-11, 0x1p-25);
    case FormatId::kBF16:
      return of_sums + std::max(largest * 0x1p-8, 0x1p-134);
    default:
      throw SpecError("reference: output format", get_format(y_format).name, "f32, f16, bf16");
  }
}

double tensor_core_error(const KernelSpec& spec, double abs_sum, double x_abs_sum) {
  if (!spec.tensor_core_precision) return 0.0;
  constexpr double kScale = 0x1p-16;
  if (spec.activation == ActivationPolicy::kA16 && spec.x_format == FormatId::kF16)
    return (0x1p-11 + kScale) * abs_sum + 0x1p-25 * x_abs_sum;
  return (0x1p-9 + kScale) * abs_sum;
}

bool is_right_product(std::int64_t cols, FormatId y_format, double got, double want,
                      double abs_sum) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want)) return got == want;
  const double tolerance = product_tolerance(cols, y_format, want, abs_sum);
  if (std::isinf(got)) {
    constexpr double kF16Overflow = 65520;
    return y_format == FormatId::kF16 && std::signbit(got) == std::signbit(want) &&
           std::abs(want) + tolerance >= kF16Overflow;
  }
  return std::abs(got - want) <= tolerance;
}

BitDifference compare_bits(std::span<const float> got, std::span<const float> want) {
  check_size("got", got.size(), static_cast<std::int64_t>(want.size()));
  BitDifference difference;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const float g = got[i];
    const float w = want[i];
    if (std::bit_cast<std::uint32_t>(g) == std::bit_cast<std::uint32_t>(w)) continue;
    if (std::isnan(g) && std::isnan(w)) continue;
    if (!difference.first) difference.first = static_cast<std::int64_t>(i);
    ++difference.count;
    const double apart = std::isnan(g) || std::isnan(w)
                             ? std::numeric_limits<double>::infinity()
                             : std::abs(static_cast<double>(g) - static_cast<double>(w));
    difference.max_abs_difference = std::max(difference.max_abs_difference, apart);
  }
  return difference;
}

}  // namespace ktjit
