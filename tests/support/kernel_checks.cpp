// Runs kernels on guarded buffers and compares with the plain reference.
#include "tests/support/kernel_checks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <random>
#include <vector>

#include "jit/reference_decode.h"
#include "jit/reference_ops.h"
#include "tests/support/golden_data.h"
#include "tests/support/kernel_cases.h"

namespace ktjit::test {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::size_t kGuardBytes = 256;  // before and after each result; keeps its alignment
constexpr std::byte kGuard{0xa5};

Bytes bytes_of(std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

/// A buffer on the device, with the bytes given.
std::unique_ptr<runtime::Buffer> upload(runtime::Device& device, runtime::Stream& stream,
                                        const Bytes& bytes) {
  auto buffer = device.allocate(bytes.size());
  device.upload(stream, bytes, *buffer, 0);
  return buffer;
}

/// Launches a kernel whose result lies between guards. Returns the result and counts overwritten
/// guard bytes.
Bytes run_guarded(const Place& place, const LoadedKernel& kernel, const std::vector<Bytes>& inputs,
                  std::size_t result_bytes, std::int64_t rows, std::int64_t n,
                  CheckResult& result) {
  const auto stream = place.device.make_stream();
  std::vector<std::unique_ptr<runtime::Buffer>> buffers;
  std::vector<std::uint64_t> arguments;
  for (const Bytes& input : inputs) {
    buffers.push_back(upload(place.device, *stream, input));
    arguments.push_back(buffers.back()->address());
  }
  const auto y = place.device.allocate(result_bytes + 2 * kGuardBytes);
  place.device.fill(*stream, *y, kGuard);
  arguments.push_back(y->address() + kGuardBytes);
  arguments.push_back(static_cast<std::uint64_t>(rows));
  if (n > 0) arguments.push_back(static_cast<std::uint64_t>(n));
  kernel.launch(*stream, rows, arguments);
  Bytes all(result_bytes + 2 * kGuardBytes);
  place.device.download(*stream, *y, 0, all);
  stream->synchronize();

  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool is_guard = i < kGuardBytes || i >= kGuardBytes + result_bytes;
    if (!is_guard || all[i] == kGuard) continue;
    ++result.wrong;
    if (result.first_problem.empty()) {
      result.first_problem =
          fmt::format("{}: guard byte {} of y was written", kernel.built.emitted.entry_name,
                      static_cast<std::int64_t>(i) - static_cast<std::int64_t>(kGuardBytes));
    }
  }
  ++result.kernels;
  return {all.begin() + kGuardBytes,
          all.begin() + static_cast<std::ptrdiff_t>(kGuardBytes + result_bytes)};
}

std::vector<float> widened(FormatId format, const Bytes& bytes) {
  std::vector<float> values(bytes.size() /
                            static_cast<std::size_t>(get_format(format).block_bytes));
  decode_row(format, bytes, values);
  return values;
}

void compare_exactly(std::span<const float> got, std::span<const float> want, std::string_view what,
                     CheckResult& result) {
  const BitDifference difference = compare_bits(got, want);
  result.values += static_cast<std::int64_t>(got.size());
  result.wrong += difference.count;
  if (difference.first && result.first_problem.empty()) {
    const std::size_t at = static_cast<std::size_t>(*difference.first);
    result.first_problem =
        fmt::format("{}: value {} is {:a}, expected {:a}", what, at, got[at], want[at]);
  }
}

/// dequant of a tensor to `y_format`, compared bit for bit.
void check_dequant(const Place& place, const ScaledTensorView& tensor, FormatId y_format,
                   CheckResult& result) {
  KernelSpec spec =
      make_spec(Op::kDequant, get_format(tensor.format).name, tensor.cols, place.target);
  spec.scale = tensor.scale_grid;
  spec.y_format = y_format;
  const LoadedKernel kernel = place.engine.load(place.device, spec);

  std::vector<float> want(static_cast<std::size_t>(tensor.rows * tensor.cols));
  decode_rows(tensor, 0, tensor.rows, want);
  Bytes rounded(want.size() * static_cast<std::size_t>(get_format(y_format).block_bytes));
  round_output(y_format, want, rounded);

  std::vector<Bytes> inputs = {Bytes(tensor.data.begin(), tensor.data.end())};
  if (tensor.scale_grid) inputs.emplace_back(tensor.scale_data.begin(), tensor.scale_data.end());
  const Bytes got = run_guarded(place, kernel, inputs, rounded.size(), tensor.rows, 0, result);
  compare_exactly(widened(y_format, got), widened(y_format, rounded),
                  kernel.built.emitted.entry_name, result);
}

ScaledTensorView view_of(FormatId format, std::int64_t rows, std::int64_t cols, const Bytes& data) {
  return {format, rows, cols, data, std::nullopt, {}};
}

std::vector<FormatId> served_fp8_formats() {
  std::vector<FormatId> formats = served_formats();
  std::erase_if(formats,
                [](FormatId format) { return get_format(format).family != FormatFamily::kFp8; });
  return formats;
}

/// Valid weights of moderate size, made for one format.
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
  if (facts.family == FormatFamily::kFloat) {
    Bytes data(values.size() * static_cast<std::size_t>(facts.block_bytes));
    round_output(format, values, data);
    return data;
  }
  Bytes data(values.size());
  for (std::byte& code : data) {  // finite codes only
    do code = static_cast<std::byte>(random());
    while ((code & std::byte{0x7f}) >= std::byte{0x78});
  }
  return data;
}

void check_one_matvec(const Place& place, FormatId format, std::int64_t rows, std::int64_t cols,
                      const std::optional<ScaleGrid>& grid, FormatId x_format, int n,
                      std::mt19937& random, CheckResult& result) {
  KernelSpec spec = make_spec(Op::kMatvec, get_format(format).name, cols, place.target);
  spec.x_format = x_format;
  spec.x_columns = x_columns_for(n);
  spec.scale = grid;
  const LoadedKernel kernel = place.engine.load(place.device, spec);

  const Bytes w = make_weights(format, rows, cols, random);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n * cols));
  for (float& value : x) value = normal(random);
  Bytes x_bytes(x.size() * static_cast<std::size_t>(get_format(x_format).block_bytes));
  round_output(x_format, x, x_bytes);
  x = widened(x_format, x_bytes);

  std::vector<Bytes> inputs = {w};
  ScaledTensorView tensor = view_of(format, rows, cols, w);
  Bytes scales;
  if (grid) {
    std::vector<float> values(
        static_cast<std::size_t>(grid->rows_of_scales(rows) * grid->cols_of_scales(cols)));
    for (float& value : values) value = std::abs(normal(random));
    scales = bytes_of(values);
    tensor.scale_grid = grid;
    tensor.scale_data = scales;
    inputs.push_back(scales);
  }
  inputs.push_back(x_bytes);
  const Bytes got_bytes = run_guarded(
      place, kernel, inputs, static_cast<std::size_t>(n * rows) * sizeof(float), rows, n, result);
  const std::vector<float> got = widened(FormatId::kF32, got_bytes);

  std::vector<double> want(got.size()), magnitude(got.size());
  matvec_reference(tensor, x, n, 0, rows, want, magnitude);
  const double bound = (static_cast<double>(cols) / 16 + 16) * 0x1p-24;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ++result.values;
    if (std::abs(static_cast<double>(got[i]) - want[i]) <= bound * magnitude[i]) continue;
    ++result.wrong;
    if (result.first_problem.empty()) {
      result.first_problem =
          fmt::format("{}, {} rows, n = {}: y[{}, {}] is {}, expected {} within {}",
                      kernel.built.emitted.entry_name, rows, n, i / static_cast<std::size_t>(rows),
                      i % static_cast<std::size_t>(rows), got[i], want[i], bound * magnitude[i]);
    }
  }
}

}  // namespace

void CheckResult::merge(const CheckResult& other) {
  kernels += other.kernels;
  values += other.values;
  wrong += other.wrong;
  if (first_problem.empty()) first_problem = other.first_problem;
}

CheckResult check_golden_dequant(const Place& place) {
  CheckResult result;
  for (const GoldenEntry& golden : load_golden()) {
    if (!codegen::is_served(golden.format)) continue;
    const ScaledTensorView tensor = view_of(golden.format, static_cast<std::int64_t>(golden.rows),
                                            static_cast<std::int64_t>(golden.cols), golden.encoded);
    for (FormatId y_format : {FormatId::kF32, FormatId::kF16, FormatId::kBF16}) {
      check_dequant(place, tensor, y_format, result);
    }
  }
  return result;
}

CheckResult check_fp8_codes(const Place& place) {
  constexpr std::int64_t kRows =
      16;  // row r begins with code r, so that each code meets each place in a run
  constexpr std::int64_t kCodes = 256;
  CheckResult result;
  for (FormatId format : served_fp8_formats()) {
    Bytes codes;
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t i = 0; i < kCodes; ++i) codes.push_back(static_cast<std::byte>(row + i));
    }
    check_dequant(place, view_of(format, kRows, kCodes, codes), FormatId::kF32, result);
  }
  return result;
}

CheckResult check_scaled_dequant(const Place& place) {
  CheckResult result;
  std::mt19937 random(3);
  struct Shape {
    std::int64_t rows, cols;
  };
  for (const Shape& shape : {Shape{300, 264}, Shape{37, 77}, Shape{1, 1}}) {
    for (ScaleType type : {ScaleType::kF32, ScaleType::kBF16, ScaleType::kE8M0}) {
      for (const ScaleGrid& grid :
           {ScaleGrid{0, 0, type}, ScaleGrid{1, 0, type}, ScaleGrid{0, 1, type},
            ScaleGrid{128, 128, type}, ScaleGrid{1, 128, type}, ScaleGrid{32, 5, type}}) {
        for (FormatId format : served_fp8_formats()) {
          Bytes codes(static_cast<std::size_t>(shape.rows * shape.cols));
          for (std::byte& code : codes) code = static_cast<std::byte>(random());
          Bytes scales(static_cast<std::size_t>(grid.rows_of_scales(shape.rows) *
                                                grid.cols_of_scales(shape.cols)) *
                       static_cast<std::size_t>(scale_type_bytes(type)));
          for (std::byte& byte : scales) byte = static_cast<std::byte>(random());
          ScaledTensorView tensor = view_of(format, shape.rows, shape.cols, codes);
          tensor.scale_grid = grid;
          tensor.scale_data = scales;
          check_dequant(place, tensor, FormatId::kF32, result);
        }
      }
    }
  }
  return result;
}

CheckResult check_matvec(const Place& place) {
  CheckResult result;
  std::mt19937 random(5);
  for (FormatId format : served_formats()) {
    const bool has_blocks = get_format(format).block_elems > 1;
    for (FormatId x_format : {FormatId::kF32, FormatId::kF16, FormatId::kBF16}) {
      for (int n : {1, 3, 8}) {
        for (std::int64_t rows : {1, 17, 64}) {
          check_one_matvec(place, format, rows, has_blocks ? 768 : 264, std::nullopt, x_format, n,
                           random, result);
        }
      }
    }
    for (int n = 1; n <= 8; ++n) {
      check_one_matvec(place, format, 19, has_blocks ? 256 : 77, std::nullopt, FormatId::kF32, n,
                       random, result);
    }
    if (has_blocks) continue;
    for (std::int64_t cols : {1, 7, 8, 9, 15, 16, 17}) {
      check_one_matvec(place, format, 5, cols, std::nullopt, FormatId::kF16, 2, random, result);
    }
  }
  for (FormatId format : served_fp8_formats()) {
    for (const ScaleGrid& grid :
         {ScaleGrid{0, 0}, ScaleGrid{1, 0}, ScaleGrid{128, 128}, ScaleGrid{32, 5}}) {
      check_one_matvec(place, format, 131, 264, grid, FormatId::kF32, 2, random, result);
      check_one_matvec(place, format, 37, 77, grid, FormatId::kF16, 1, random, result);
    }
  }
  return result;
}

}  // namespace ktjit::test
