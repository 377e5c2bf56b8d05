// Runs kernels on guarded buffers and compares with the plain reference.
#include "tests/support/kernel_checks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "codegen/lowering.h"
#include "core/codebooks.h"
#include "jit/reference_decode.h"
#include "jit/reference_encode.h"
#include "jit/reference_ops.h"
#include "tests/support/golden_data.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/kernel_inputs.h"

namespace ktjit::test {
namespace {

constexpr std::size_t kGuardBytes = 256;  // before and after each result; keeps its alignment
constexpr std::byte kGuard{0xa5};

/// A buffer on the device, with the bytes given.
std::unique_ptr<runtime::Buffer> upload(runtime::Device& device, runtime::Stream& stream,
                                        const Bytes& bytes) {
  auto buffer = device.allocate(bytes.size());
  device.upload(stream, bytes, *buffer, 0);
  return buffer;
}

/// Launches a kernel whose results lie between guards: arguments are the inputs, the results, rows
/// and, if there is one, n. Returns the results, which begin as they are given, and counts overwritten
/// guard bytes.
std::vector<Bytes> run_guarded(const Place& place, const LoadedKernel& kernel,
                               const std::vector<Bytes>& inputs,
                               const std::vector<Bytes>& results_before, std::int64_t rows,
                               std::int64_t n, CheckResult& result) {
  const auto stream = place.device.make_stream();
  std::vector<std::unique_ptr<runtime::Buffer>> buffers;
  std::vector<std::uint64_t> arguments;
  for (const Bytes& input : inputs) {
    buffers.push_back(upload(place.device, *stream, input));
    arguments.push_back(buffers.back()->address());
  }
  std::vector<Bytes> all;
  for (const Bytes& before : results_before) {
    Bytes& guarded = all.emplace_back(before.size() + 2 * kGuardBytes, kGuard);
    std::copy(before.begin(), before.end(), guarded.begin() + kGuardBytes);
    buffers.push_back(upload(place.device, *stream, guarded));
    arguments.push_back(buffers.back()->address() + kGuardBytes);
  }
  arguments.push_back(static_cast<std::uint64_t>(rows));
  if (n > 0) arguments.push_back(static_cast<std::uint64_t>(n));
  stream->synchronize();
  kernel.launch(*stream, rows, arguments, std::max<std::int64_t>(n, 1));
  for (std::size_t i = 0; i < all.size(); ++i)
    place.device.download(*stream, *buffers[inputs.size() + i], 0, all[i]);
  stream->synchronize();

  for (Bytes& guarded : all) {
    const std::size_t end = guarded.size() - kGuardBytes;
    for (std::size_t i = 0; i < guarded.size(); ++i) {
      if ((i >= kGuardBytes && i < end) || guarded[i] == kGuard) continue;
      ++result.wrong;
      if (result.first_problem.empty()) {
        result.first_problem = fmt::format(
            "{}: guard byte {} of a result was written", kernel.built.emitted.entry_name,
            static_cast<std::int64_t>(i) - static_cast<std::int64_t>(kGuardBytes));
      }
    }
    guarded =
        Bytes(guarded.begin() + kGuardBytes, guarded.begin() + static_cast<std::ptrdiff_t>(end));
  }
  ++result.kernels;
  return all;
}

/// As above, for kernels with one result, which begins as zeros.
Bytes run_guarded(const Place& place, const LoadedKernel& kernel, const std::vector<Bytes>& inputs,
                  std::size_t result_bytes, std::int64_t rows, std::int64_t n,
                  CheckResult& result) {
  const std::vector<Bytes> before(1, Bytes(result_bytes));
  return run_guarded(place, kernel, inputs, before, rows, n, result).front();
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
                   CheckResult& result, bool weights_finite = false, const Tuning& tuning = {}) {
  if (result.cases++ % place.every != 0) return;
  KernelSpec spec =
      make_spec(Op::kDequant, get_format(tensor.format).name, tensor.cols, place.target);
  spec.scale = tensor.scale_grid;
  spec.y_format = y_format;
  spec.weights_finite = weights_finite;
  spec.tuning = tuning;
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

/// Codes of 6 bits as MXFP6 has them: that of element i at bits 6 i and up.
Bytes packed_in_6_bits(std::span<const unsigned> codes) {
  Bytes bytes(codes.size() * 6 / 8);
  for (std::size_t i = 0; i < codes.size() * 6; ++i) {
    const unsigned bit = codes[i / 6] >> (i % 6) & 1u;
    bytes[i / 8] |= static_cast<std::byte>(bit << (i % 8));
  }
  return bytes;
}

/// What a check of a product varies beside the shape.
struct ProductCase {
  Op op = Op::kMatvec;
  FormatId weight = FormatId::kF32;
  std::optional<ScaleGrid> grid = {};
  FormatId x_format = FormatId::kF32;  ///< fp8_e4m3: afp8, with groups of x_group columns
  std::int64_t x_group = 128;
  FormatId y_format = FormatId::kF32;
  std::optional<FormatId> bias = {};
  bool weights_finite = false;
  float x_magnitude = 1.0f;
  std::optional<std::byte> spoilt = {};  ///< put in place of the middle code of the last row
};

void check_product(const Place& place, const ProductCase& product, std::int64_t rows,
                   std::int64_t cols, int n, std::mt19937& random, CheckResult& result) {
  if (result.cases++ % place.every != 0) return;
  KernelSpec spec = make_spec(product.op, get_format(product.weight).name, cols, place.target);
  const bool is_afp8 = product.x_format == FormatId::kFp8E4M3;
  spec.x_format = product.x_format;
  spec.y_format = product.y_format;
  spec.bias = product.bias;
  spec.weights_finite = product.weights_finite;
  if (product.op == Op::kMatvec) spec.x_columns = x_columns_for(n);
  spec.scale = fixed_scale_grid(product.weight) ? fixed_scale_grid(product.weight) : product.grid;
  if (is_afp8) {
    spec.activation = ActivationPolicy::kAfp8;
    spec.x_scale = ScaleGrid{1, product.x_group, ScaleType::kF32};
  }
  const LoadedKernel kernel = place.engine.load(place.device, spec);

  Bytes w = make_weights(product.weight, rows, cols, random);
  if (product.spoilt) w[w.size() - static_cast<std::size_t>(cols) / 2 - 1] = *product.spoilt;
  std::vector<Bytes> inputs = {w};
  ScaledTensorView tensor = view_of(product.weight, rows, cols, w);
  Bytes scales;
  if (spec.scale) {
    scales = make_scales(*spec.scale, rows, cols, random);
    tensor.scale_grid = spec.scale;
    tensor.scale_data = scales;
    inputs.push_back(scales);
  }
  std::vector<float> x = normal_values(static_cast<std::size_t>(n * cols), random);
  for (float& value : x) value *= product.x_magnitude;
  if (is_afp8) {
    const QuantizedRows codes = quantize_reference(
        {.format = product.x_format, .grid = ScaleGrid{1, product.x_group, ScaleType::kF32}}, x, n,
        cols);
    inputs.push_back(codes.codes);
    inputs.push_back(codes.scales);
    decode_rows({product.x_format, n, cols, codes.codes, spec.x_scale, inputs.back()}, 0, n, x);
  } else {
    inputs.push_back(rounded_to(product.x_format, x));
  }
  std::vector<float> bias;
  if (product.bias) {
    bias = normal_values(static_cast<std::size_t>(rows), random);
    inputs.push_back(rounded_to(*product.bias, bias));
  }
  const std::size_t y_bytes = static_cast<std::size_t>(get_format(product.y_format).block_bytes);
  const std::vector<float> got = widened(
      product.y_format, run_guarded(place, kernel, inputs,
                                    static_cast<std::size_t>(n * rows) * y_bytes, rows, n, result));

  std::vector<double> want(got.size()), magnitude(got.size());
  matvec_reference(tensor, x, n, 0, rows, want, magnitude);
  if (product.bias) add_bias_reference(bias, n, 0, rows, want, magnitude);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ++result.values;
    if (is_right_product(cols, product.y_format, got[i], want[i], magnitude[i])) continue;
    ++result.wrong;
    if (result.first_problem.empty()) {
      result.first_problem =
          fmt::format("{}, {} rows, n = {}: y[{}, {}] is {}, expected {} within {}",
                      kernel.built.emitted.entry_name, rows, n, i / static_cast<std::size_t>(rows),
                      i % static_cast<std::size_t>(rows), got[i], want[i],
                      product_tolerance(cols, product.y_format, want[i], magnitude[i]));
    }
  }
}

void check_one_matvec(const Place& place, FormatId format, std::int64_t rows, std::int64_t cols,
                      const std::optional<ScaleGrid>& grid, FormatId x_format, int n,
                      std::mt19937& random, CheckResult& result) {
  check_product(place, {.weight = format, .grid = grid, .x_format = x_format}, rows, cols, n,
                random, result);
}

/// Compares bytes: codes, or scales as their bits.
void compare_bytes(const Bytes& got, const Bytes& want, std::string_view what,
                   CheckResult& result) {
  result.values += static_cast<std::int64_t>(want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (got[i] == want[i]) continue;
    ++result.wrong;
    if (result.first_problem.empty()) {
      result.first_problem =
          fmt::format("{}: byte {} is {:#04x}, expected {:#04x}", what, i,
                      std::to_integer<int>(got[i]), std::to_integer<int>(want[i]));
    }
  }
}

/// quantize of x by the reference's rules, codes and scales compared bit for bit.
void check_quantize_of(const Place& place, const QuantizeRules& rules, FormatId x_format,
                       const Bytes& x_bytes, std::int64_t cols, CheckResult& result,
                       int alignment = 16) {
  KernelSpec spec = ktjit::make_spec(Op::kQuantize, rules.format, rules.grid, cols, place.target);
  spec.x_format = x_format;
  spec.saturate = rules.saturate;
  spec.layout.base_alignment_bytes = alignment;
  const LoadedKernel kernel = place.engine.load(place.device, spec);

  std::vector<float> x = widened(x_format, x_bytes);
  for (std::size_t i = 0; i < x.size(); ++i) {  // widened loses the sign of NaNs
    const std::size_t bytes = x_bytes.size() / x.size();
    if (std::isnan(x[i]) && (x_bytes[i * bytes + bytes - 1] & std::byte{0x80}) != std::byte{0})
      x[i] = std::copysign(x[i], -1.0f);
  }
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / cols;
  QuantizedRows reference = quantize_reference(rules, x, rows, cols);
  std::vector<Bytes> want = {std::move(reference.codes)};
  std::vector<Bytes> before = {Bytes(want[0].size())};
  if (rules.grid) {
    want.push_back(std::move(reference.scales));
    before.emplace_back(want[1].size());  // zeros, but for the tensor's scale
    std::copy_n(want[1].begin(), rules.grid->header_bytes(), before[1].begin());
  }
  std::vector<Bytes> got = run_guarded(place, kernel, {x_bytes}, before, rows, 0, result);
  const bool keeps_sign =
      !rules.saturate && (rules.format == FormatId::kFp8E4M3 || rules.format == FormatId::kFp8E5M2);
  for (std::size_t i = 0; keeps_sign && i < x.size(); ++i) {  // GPUs lose the sign of an f16 NaN
    if (!std::isnan(x[i])) continue;
    got[0][i] &= std::byte{0x7f};
    want[0][i] &= std::byte{0x7f};
  }
  for (std::size_t i = 0; i < want.size(); ++i)
    compare_bytes(got[i], want[i], kernel.built.emitted.entry_name, result);
}

/// A number and the nearest f32, of two the even one.
template <typename T>
struct NumberCase {
  T number;
  float nearest;
};

/// All numbers of a type that f32 has exactly.
template <typename T>
std::vector<NumberCase<T>> all_numbers() {
  std::vector<NumberCase<T>> cases;
  for (int i = std::numeric_limits<T>::min(); i <= std::numeric_limits<T>::max(); ++i)
    cases.push_back({static_cast<T>(i), static_cast<float>(i)});
  return cases;
}

/// dequant of the numbers, repeated so that each meets each place in a run, in rows that runs divide and rows that
/// they don't.
template <typename T>
void check_number_rows(const Place& place, FormatId format, const std::vector<NumberCase<T>>& cases,
                       CheckResult& result) {
  for (std::int64_t cols : {1, 7, 8, 9, 16, 17, 64, 77}) {
    const std::int64_t rows = (static_cast<std::int64_t>(cases.size()) + 16) / cols + 17;
    std::vector<T> numbers(static_cast<std::size_t>(rows * cols));
    std::vector<float> want(numbers.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = cases[i % cases.size()].number;
      want[i] = cases[i % cases.size()].nearest;
    }
    const LoadedKernel kernel = place.engine.load(
        place.device, make_spec(Op::kDequant, get_format(format).name, cols, place.target));
    const auto bytes = std::as_bytes(std::span(numbers));
    const Bytes got = run_guarded(place, kernel, {Bytes(bytes.begin(), bytes.end())},
                                  want.size() * sizeof(float), rows, 0, result);
    compare_exactly(widened(FormatId::kF32, got), want, kernel.built.emitted.entry_name, result);
    for (FormatId y_format : {FormatId::kF16, FormatId::kBF16})
      check_dequant(place, view_of(format, rows, cols, Bytes(bytes.begin(), bytes.end())), y_format,
                    result);
  }
}

/// Rows of normal values with rows of zeros, of very small and very large ones, and with NaN and infinity
/// among them; 23 rows.
std::vector<float> odd_rows(std::int64_t cols, std::mt19937& random) {
  constexpr std::int64_t kRows = 23;
  std::vector<float> x = normal_values(static_cast<std::size_t>(kRows * cols), random);
  const auto row = [&](std::int64_t r) {
    return std::span(x).subspan(static_cast<std::size_t>(r * cols), static_cast<std::size_t>(cols));
  };
  std::ranges::fill(row(3), 0.0f);
  std::ranges::fill(row(4), -0.0f);
  for (float& value : row(5)) value *= 1e-42f;  // f32 scales underflow, or are subnormal
  for (float& value : row(6)) value *= 1e-36f;
  for (float& value : row(7)) value *= 1e37f;  // f16: infinities
  row(8).front() = std::numeric_limits<float>::quiet_NaN();
  std::ranges::fill(row(9), std::numeric_limits<float>::quiet_NaN());
  row(10).back() = -std::numeric_limits<float>::infinity();
  std::ranges::fill(row(11), 1.0f);
  for (std::size_t i = 0; i < row(12).size(); ++i)
    row(12)[i] = i % 2 == 0 ? -0.5f : 0.5f;  // equal magnitudes
  for (std::size_t i = 0; i < row(13).size(); ++i)
    row(13)[i] = static_cast<float>(i % 255) - 127;  // halves
  for (std::size_t i = 0; i < row(14).size(); ++i)
    row(14)[i] = std::ldexp(1.0f, static_cast<int>(i % 270) - 149);
  for (float& value : row(15)) value *= 3e-39f;  // ggml: the reciprocal of d overflows, or nearly
  for (float& value : row(16)) value *= 1e6f;    // ggml: d overflows f16
  return x;
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

CheckResult check_block_bytes(const Place& place) {
  constexpr std::int64_t kBlocks = 1023;
  CheckResult result;
  std::mt19937 random(23);
  for (FormatId format : served_formats()) {
    const Format& facts = get_format(format);
    if (facts.family != FormatFamily::kGgml) continue;
    Bytes blocks;
    for (int block = 0; block < kBlocks; ++block) {
      for (int i = 0; i < facts.block_bytes; ++i)
        blocks.push_back(static_cast<std::byte>(block < 256 ? block + 37 * i : random()));
    }
    for (std::int64_t blocks_per_row : {1, 3, 11}) {
      const ScaledTensorView tensor =
          view_of(format, kBlocks / blocks_per_row, blocks_per_row * facts.block_elems, blocks);
      for (FormatId y_format : {FormatId::kF32, FormatId::kF16, FormatId::kBF16})
        check_dequant(place, tensor, y_format, result);
    }
  }
  return result;
}

CheckResult check_dequant_knobs(const Place& place) {
  // Columns: CTAs that fit, a last one that doesn't, several rows a CTA.
  struct Case {
    FormatId format;
    FormatId y_format;
    std::int64_t cols;
  };
  constexpr std::array kCases = {Case{FormatId::kQ6_K, FormatId::kF32, 8192},
                                 Case{FormatId::kQ3_K, FormatId::kBF16, 6144},
                                 Case{FormatId::kGgmlMxfp4, FormatId::kF32, 4608},
                                 Case{FormatId::kIQ2_XXS, FormatId::kF32, 6144},
                                 Case{FormatId::kQ8_0, FormatId::kF16, 4352},
                                 Case{FormatId::kFp8E4M3, FormatId::kBF16, 1104},
                                 Case{FormatId::kFp8E4M3, FormatId::kF32, 520}};
  constexpr std::int64_t kRows = 5;
  CheckResult result;
  std::mt19937 random(29);
  for (const Case& one : kCases) {
    Bytes codes(static_cast<std::size_t>(kRows * row_bytes(get_format(one.format), one.cols)));
    for (std::byte& byte : codes) byte = static_cast<std::byte>(random());
    const ScaledTensorView tensor = view_of(one.format, kRows, one.cols, codes);
    for (DataPath w_path : {DataPath::kDirect, DataPath::kShared}) {
      const bool is_one_row_a_cta = one.cols >= 4096;
      if (w_path == DataPath::kShared && !is_one_row_a_cta) continue;
      for (DataPath y_path : {DataPath::kDirect, DataPath::kShared}) {
        for (int runs : {1, 2, 4}) {
          Tuning tuning{.threads = 256 / runs, .runs_per_thread = runs};  // 8 blocks of 256 a CTA
          tuning.w_path = w_path;
          tuning.y_path = y_path;
          check_dequant(place, tensor, one.y_format, result, false, tuning);
        }
      }
    }
  }
  return result;
}

CheckResult check_numbers(const Place& place) {
  CheckResult result;
  check_number_rows<std::int8_t>(place, FormatId::kI8, all_numbers<std::int8_t>(), result);
  check_number_rows<std::int16_t>(place, FormatId::kI16, all_numbers<std::int16_t>(), result);
  check_number_rows<std::int32_t>(place, FormatId::kI32,
                                  {{0, 0.0f},
                                   {-1, -1.0f},
                                   {0x1000001, 0x1p+24f},         // halfway, down to even
                                   {0x1000003, 0x1.000004p+24f},  // halfway, up to even
                                   {-0x1000003, -0x1.000004p+24f},
                                   {0x2000001, 0x1p+25f},
                                   {0x2000003, 0x1.000002p+25f},
                                   {0x7fffffff, 0x1p+31f},
                                   {0x7fffffbf, 0x1.fffffep+30f},
                                   {0x7fffffc0, 0x1p+31f},
                                   {std::numeric_limits<std::int32_t>::min(), -0x1p+31f}},
                                  result);
  constexpr std::int64_t kTwo54 = std::int64_t{1} << 54;
  constexpr std::int64_t kHalfStep = std::int64_t{1} << 30;  // of f32 there
  check_number_rows<std::int64_t>(place, FormatId::kI64,
                                  {{0, 0.0f},
                                   {-7, -7.0f},
                                   {(std::int64_t{1} << 53) + 1, 0x1p+53f},
                                   {0x1000001, 0x1p+24f},
                                   {0x1000003, 0x1.000004p+24f},
                                   {kTwo54 + kHalfStep, 0x1p+54f},
                                   // Through f64 it would be halfway, and go down.
                                   {kTwo54 + kHalfStep + 1, 0x1.000002p+54f},
                                   {-kTwo54 - kHalfStep - 1, -0x1.000002p+54f},
                                   {kTwo54 + 3 * kHalfStep - 1, 0x1.000002p+54f},
                                   {kTwo54 + 3 * kHalfStep, 0x1.000004p+54f},
                                   {std::numeric_limits<std::int64_t>::max(), 0x1p+63f},
                                   {std::numeric_limits<std::int64_t>::min(), -0x1p+63f}},
                                  result);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  check_number_rows<double>(place, FormatId::kF64,
                            {{0.0, 0.0f},
                             {-0.0, -0.0f},
                             {1.0 / 3, 0x1.555556p-2f},
                             {1 + 0x1p-24, 1.0f},  // halfway, down to even
                             {1 + 0x1p-24 + 0x1p-52, 1 + 0x1p-23f},
                             {1 + 0x3p-24, 1 + 0x1p-22f},  // halfway, up to even
                             {-1 - 0x3p-24, -1 - 0x1p-22f},
                             {0x1.fffffep+127, 0x1.fffffep+127f},
                             {0x1.fffffefffffffp+127, 0x1.fffffep+127f},
                             {0x1.ffffffp+127, kInfinity},  // halfway to 2^128
                             {-0x1p+1000, -kInfinity},
                             {0x1.fffffffp-127, 0x1p-126f},
                             {0x1p-149, 0x1p-149f},
                             {0x3p-150, 0x1p-148f},  // halfway between subnormals, up to even
                             {0x1p-150, 0.0f},
                             {0x1.0000000000001p-150, 0x1p-149f},
                             {-0x1p-150, -0.0f},
                             {0x1p-1074, 0.0f},
                             {std::numeric_limits<double>::infinity(), kInfinity},
                             {std::nan(""), std::nanf("")}},
                            result);
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
  for (FormatId format : product_formats()) {
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
    if (has_blocks) {
      const int block = get_format(format).block_elems;
      for (std::int64_t rows : {1, 3, 4, 5, 7, 8, 9, 31})
        check_one_matvec(place, format, rows, block, std::nullopt, FormatId::kF32, 1, random,
                         result);
      check_one_matvec(place, format, 13, 3 * block, std::nullopt, FormatId::kF16, 2, random,
                       result);
      continue;
    }
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

CheckResult check_codebooks(const Place& place) {
  constexpr std::int64_t kRows = 129;  // 16 times each of 2048 entries, on the average
  constexpr std::int64_t kCols = 2048;
  CheckResult result;
  std::mt19937 random(13);
  for (FormatId format : served_formats()) {
    if (find_codebook(format) == nullptr) continue;
    Bytes blocks(static_cast<std::size_t>(kRows * row_bytes(get_format(format), kCols)));
    for (std::byte& byte : blocks) byte = static_cast<std::byte>(random());
    check_dequant(place, view_of(format, kRows, kCols, blocks), FormatId::kF32, result);
  }
  return result;
}

CheckResult check_fp4_codes(const Place& place) {
  CheckResult result;
  for (FormatId format : {FormatId::kMxfp4, FormatId::kNvfp4}) {
    if (!codegen::is_served(format)) continue;
    const ScaleGrid grid = *fixed_scale_grid(format);
    // Row r has the scale code r, with each pair of codes in each byte of a run.
    constexpr std::int64_t kRows = 256;
    const std::int64_t cols = 8 * 512;
    Bytes data, scales;
    if (grid.type == ScaleType::kE4M3) {
      scales = bytes_of(std::vector<float>{0.0037f});
      scales.resize(static_cast<std::size_t>(grid.header_bytes()));
    }
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t i = 0; i < cols / 2; ++i)
        data.push_back(static_cast<std::byte>(i / 8 + i % 8));
      scales.insert(scales.end(), static_cast<std::size_t>(grid.cols_of_scales(cols)),
                    static_cast<std::byte>(row));
    }
    const ScaledTensorView tensor = {format, kRows, cols, data, grid, scales};
    for (FormatId y_format : {FormatId::kF32, FormatId::kF16, FormatId::kBF16})
      check_dequant(place, tensor, y_format, result);
  }
  return result;
}

CheckResult check_mx_codes(const Place& place) {
  CheckResult result;
  constexpr std::int64_t kRows = 256;  // row r has the scale code r
  constexpr int kRun = 16;             // the longest run that is decoded at a time
  const ScaleGrid grid = {1, 32, ScaleType::kE8M0};
  const auto check = [&](FormatId format, const Bytes& row_data, std::int64_t cols) {
    Bytes data, scales;
    for (std::int64_t row = 0; row < kRows; ++row) {
      data.insert(data.end(), row_data.begin(), row_data.end());
      scales.insert(scales.end(), static_cast<std::size_t>(grid.cols_of_scales(cols)),
                    static_cast<std::byte>(row));
    }
    const ScaledTensorView tensor = {format, kRows, cols, data, grid, scales};
    for (FormatId y_format : {FormatId::kF32, FormatId::kF16, FormatId::kBF16})
      check_dequant(place, tensor, y_format, result);
  };
  // In each row each code stands at each place of a run.
  for (FormatId format : {FormatId::kMxfp6E2M3, FormatId::kMxfp6E3M2}) {
    std::vector<unsigned> codes;
    for (int i = 0; i < 64 * kRun; ++i)
      codes.push_back(static_cast<unsigned>(i / kRun + i % kRun) % 64);
    check(format, packed_in_6_bits(codes), 64 * kRun);
  }
  for (FormatId format : served_fp8_formats()) {  // MXFP8, and what has no such name
    Bytes codes;
    for (int i = 0; i < 256 * kRun; ++i)
      codes.push_back(static_cast<std::byte>(i / kRun + i % kRun));
    check(format, codes, 256 * kRun);
  }
  return result;
}

CheckResult check_matmul(const Place& place) {
  using enum FormatId;
  CheckResult result;
  std::mt19937 random(7);
  const auto check = [&](const ProductCase& product, std::int64_t rows, std::int64_t cols, int n) {
    check_product(place, product, rows, cols, n, random, result);
  };
  constexpr Op kMatmul = Op::kMatmul;
  for (FormatId format : product_formats()) {
    const bool has_blocks = get_format(format).block_elems > 1;
    for (FormatId x_format : {kF32, kF16, kBF16}) {
      for (const auto& [rows, n] :
           {std::pair<std::int64_t, int>{1, 1}, {17, 5}, {64, 50}, {131, 97}})
        check({.op = kMatmul, .weight = format, .x_format = x_format}, rows, has_blocks ? 768 : 520,
              n);
    }
    for (int n : {1, 2, 3, 7, 8, 15, 16, 17, 48, 49})
      check({.op = kMatmul, .weight = format}, 19, has_blocks ? 256 : 77, n);
    if (has_blocks) {
      const int block = get_format(format).block_elems;
      for (std::int64_t rows : {1, 15, 16, 17, 63, 64, 65})
        check({.op = kMatmul, .weight = format}, rows, block, 9);
      check({.op = kMatmul, .weight = format, .x_format = kF16}, 13, 3 * block, 5);
      continue;
    }
    for (std::int64_t cols : {1, 7, 8, 9, 15, 16, 17, 255, 256, 257})
      check({.op = kMatmul, .weight = format, .x_format = kF16}, 5, cols, 9);
  }
  for (FormatId format : served_fp8_formats()) {
    for (const ScaleGrid& grid :
         {ScaleGrid{0, 0}, ScaleGrid{1, 0}, ScaleGrid{128, 128}, ScaleGrid{32, 5},
          ScaleGrid{128, 128, ScaleType::kBF16}, ScaleGrid{1, 32, ScaleType::kE8M0}}) {
      check({.op = kMatmul, .weight = format, .grid = grid}, 131, 264, 33);
      check({.op = kMatmul, .weight = format, .grid = grid, .x_format = kBF16}, 37, 77, 9);
    }
  }
  // Activations far outside of f16's range, above and below.
  for (FormatId format : {kFp8E4M3, kFp8E5M2, kFp8E4M3Fnuz, kFp8E5M2Fnuz, kF16}) {
    for (FormatId x_format : {kF32, kBF16}) {
      for (float magnitude : {0x1p+90f, 0x1p-100f}) {
        check({.op = kMatmul, .weight = format, .x_format = x_format, .x_magnitude = magnitude}, 35,
              264, 21);
      }
    }
  }
  // afp8: groups of 128 as act_quant has them, and others.
  for (FormatId format : {kFp8E4M3, kFp8E5M2, kBF16, kQ4_K}) {
    for (std::int64_t group : {128, 32, 5}) {
      const std::optional<ScaleGrid> grid =
          has_separate_scales(format) ? std::optional(ScaleGrid{128, 128}) : std::nullopt;
      const ProductCase product = {
          .op = kMatmul, .weight = format, .grid = grid, .x_format = kFp8E4M3, .x_group = group};
      check(product, 130, 512, 20);
      if (get_format(format).block_elems == 1) check(product, 19, 333, 3);
    }
  }
  return result;
}

CheckResult check_epilogues(const Place& place) {
  using enum FormatId;
  CheckResult result;
  std::mt19937 random(11);
  for (Op op : {Op::kMatvec, Op::kMatmul}) {
    for (FormatId y_format : {kF32, kF16, kBF16}) {
      for (std::optional<FormatId> bias : {std::optional<FormatId>{}, std::optional{kF32},
                                           std::optional{kF16}, std::optional{kBF16}}) {
        for (FormatId weight : {kFp8E4M3, kQ4_K}) {
          check_product(place, {.op = op, .weight = weight, .y_format = y_format, .bias = bias}, 37,
                        256, op == Op::kMatvec ? 3 : 21, random, result);
        }
      }
    }
  }
  return result;
}

CheckResult check_nan_weights(const Place& place) {
  using enum FormatId;
  CheckResult result;
  std::mt19937 random(13);
  for (Op op : {Op::kMatvec, Op::kMatmul}) {
    const int n = op == Op::kMatvec ? 2 : 18;
    for (const auto& [format, codes] : {std::pair{kFp8E4M3, std::vector{0x7f, 0xff}},
                                        {kFp8E5M2, std::vector{0x7c, 0x7d, 0xff}},
                                        {kFp8E4M3Fnuz, std::vector{0x80}},
                                        {kFp8E5M2Fnuz, std::vector{0x80}}}) {
      for (int code : codes) {  // NaN, or infinity, in one row only
        for (FormatId x_format : {kF32, kBF16}) {
          check_product(place,
                        {.op = op,
                         .weight = format,
                         .x_format = x_format,
                         .spoilt = static_cast<std::byte>(code)},
                        5, 264, n, random, result);
        }
      }
      for (FormatId x_format : {kF32, kBF16}) {
        ProductCase finite = {
            .op = op, .weight = format, .x_format = x_format, .weights_finite = true};
        check_product(place, finite, 37, 264, n, random, result);
        finite.grid = ScaleGrid{128, 128};
        check_product(place, finite, 37, 264, n, random, result);
      }
    }
  }
  // All codes but the NaNs, by the dequant that relies on it.
  for (FormatId format : {kFp8E4M3, kFp8E5M2, kFp8E4M3Fnuz, kFp8E5M2Fnuz}) {
    Bytes data;
    for (int code = 0; code < 256; ++code) {
      float value = 0;
      const std::byte byte{static_cast<unsigned char>(code)};
      decode_row(format, {&byte, 1}, {&value, 1});
      data.push_back(std::isnan(value) ? std::byte{1} : byte);
    }
    check_dequant(place, view_of(format, 1, 256, data), kF32, result, true);
  }
  return result;
}

CheckResult check_quantize(const Place& place) {
  CheckResult result;
  Bytes all_inputs;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    all_inputs.push_back(static_cast<std::byte>(bits & 0xff));
    all_inputs.push_back(static_cast<std::byte>(bits >> 8));
  }
  std::mt19937 random(17);
  std::vector<float> values;
  for (int i = 0; i < 4096 * 13; ++i) {  // magnitudes from below the subnormals to overflow
    std::uniform_real_distribution<float> exponent(-30, 20);
    values.push_back(std::copysign(std::exp2(exponent(random)), random() % 2 == 0 ? 1.0f : -1.0f));
  }
  for (FormatId format : narrow_floats()) {
    for (bool saturate : {true, false}) {
      const QuantizeRules rules{.format = format, .saturate = saturate};
      for (FormatId x_format : {FormatId::kF16, FormatId::kBF16})
        check_quantize_of(place, rules, x_format, all_inputs, 4096, result);
      const int multiple =
          get_format(format).block_elems;  // columns that end in the middle of a quad
      const std::int64_t cols = multiple == 1 ? 13 : multiple == 2 ? 26 : 52;
      check_quantize_of(place, rules, FormatId::kF32, bytes_of(values), cols, result);
    }
  }
  return result;
}

CheckResult check_quantize_groups(const Place& place) {
  using enum FormatId;
  CheckResult result;
  std::mt19937 random(19);
  const auto check = [&](QuantizeRules rules, FormatId x_format, std::int64_t cols,
                         int alignment = 16) {
    std::vector<float> x = odd_rows(cols, random);
    const Bytes bytes = rounded_to(x_format, x);
    check_quantize_of(place, rules, x_format, bytes, cols, result, alignment);
  };
  // f32 scales: groups that are cut, that are smaller than a quad, and one of a whole row.
  for (FormatId format : {kFp8E4M3, kFp8E5M2, kFp8E4B15, kFp8E4M3Fnuz, kFp8E5M2Fnuz}) {
    for (FormatId x_format : {kF32, kF16, kBF16}) {
      if (x_format != kF32 && format != kFp8E4M3) continue;
      for (const auto& [cols, group] : {std::pair<std::int64_t, std::int64_t>{512, 128},
                                        {300, 128},
                                        {77, 32},
                                        {35, 5},
                                        {1, 1},
                                        {64, 512}}) {
        check({.format = format, .grid = ScaleGrid{1, group, ScaleType::kF32}}, x_format, cols);
      }
    }
  }
  // Blocks of rows and columns, cut at both edges, whole rows, and groups of more columns than registers hold.
  for (const auto& [cols, grid] : {std::pair<std::int64_t, ScaleGrid>{300, {4, 128}},
                                   {77, {5, 20}},
                                   {96, {128, 0}},
                                   {2600, {1, 0}},
                                   {2600, {2, 2200}},
                                   {160, {8, 32, ScaleType::kE8M0}},
                                   {77, {3, 9, ScaleType::kE8M0}}}) {
    for (FormatId format : {kFp8E4M3, kFp8E5M2Fnuz})
      check({.format = format, .grid = grid}, kF32, cols);
    check({.format = kFp8E4M3, .grid = grid}, kBF16, cols);
  }
  // OCP's MX formats and nvfp4, and ggml's blocks.
  const ScaleGrid mx = {1, 32, ScaleType::kE8M0};
  for (FormatId x_format : {kF32, kF16, kBF16}) {
    for (std::int64_t cols : {32, 160}) {
      for (FormatId format : {kFp8E4M3, kFp8E5M2, kMxfp6E2M3, kMxfp6E3M2, kMxfp4})
        check({.format = format, .grid = mx}, x_format, cols);
      for (FormatId format : {kQ8_0, kQ4_0}) check({.format = format}, x_format, cols);
      for (float tensor_scale : {1.0f, 0x1.234p-12f, 0x1p-140f, 0x1p+100f}) {
        check({.format = kNvfp4, .grid = fixed_scale_grid(kNvfp4), .tensor_scale = tensor_scale},
              x_format, cols);
      }
    }
    check({.format = kFp8E4M3, .grid = mx}, x_format, 77);
    check({.format = kMxfp4, .grid = mx}, x_format, 64, 4);
    check({.format = kMxfp6E3M2, .grid = mx}, x_format, 64, 4);
    for (FormatId format : {kQ8_0, kQ4_0}) check({.format = format}, x_format, 64, 4);
  }
  return result;
}

CheckResult check_nan_scan(const Place& place) {
  CheckResult result;
  for (const auto& [format, nans] :
       {std::pair{FormatId::kFp8E4M3, std::vector{0x7f, 0xff}},
        {FormatId::kFp8E5M2, std::vector{0x7c, 0x7d, 0x7e, 0x7f, 0xfc, 0xfd, 0xfe, 0xff}},
        {FormatId::kFp8E4M3Fnuz, std::vector{0x80}},
        {FormatId::kFp8E5M2Fnuz, std::vector{0x80}}}) {
    for (const auto& [rows, cols] :
         {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 77}, {130, 512}}) {
      const LoadedKernel kernel = place.engine.load(
          place.device, make_spec(Op::kNanScan, get_format(format).name, cols, place.target));
      Bytes codes;
      for (int i = 0; i < rows * cols; ++i) {
        const int code = i % 256;
        codes.push_back(std::ranges::count(nans, code) > 0 ? std::byte{0x78}
                                                           : static_cast<std::byte>(code));
      }
      const auto check = [&](const Bytes& w, unsigned char want) {
        Bytes expected(sizeof(std::uint32_t));
        expected[0] = std::byte{want};
        compare_bytes(run_guarded(place, kernel, {w}, expected.size(), rows, 0, result), expected,
                      kernel.built.emitted.entry_name, result);
      };
      check(codes, 0);
      for (int nan : nans) {
        for (std::size_t at : {std::size_t{0}, codes.size() / 2, codes.size() - 1}) {
          Bytes spoilt = codes;
          spoilt[at] = static_cast<std::byte>(nan);
          check(spoilt, 1);
        }
      }
    }
  }
  return result;
}

}  // namespace ktjit::test
