#include "convert/verify.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <exception>
#include <fmt/format.h>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "convert/weight_source.h"

#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/reference_encode.h"
#include "jit/reference_ops.h"
#include "runtime/host_limits.h"

namespace ktjit::convert {
namespace {

constexpr std::int64_t kStepElems = std::int64_t{1} << 18;

/// Where one matrix of an output tensor lies in the model that was read.
struct OutputRows {
  const model::TensorInfo* tensor;
  std::int64_t first_row;
};

/// The tensor as the reader lists it: itself, or matrix by matrix as NAME[0] and so on.
OutputRows find_rows(const model::Model& output, const ConvertedTensor& wanted,
                     std::int64_t matrix) {
  if (const model::TensorInfo* tensor = output.find_tensor(wanted.name))
    return {tensor, matrix * wanted.weights.rows()};
  return {output.find_tensor(fmt::format("{}[{}]", wanted.name, matrix)), 0};
}

/// Half a step of a small float at a value of this magnitude, both in units of the scale.
class FloatSteps {
 public:
  explicit FloatSteps(FormatId format) : format_(element_format(format)) {
    switch (format_) {
      case FormatId::kFp8E4M3:
        set(3, -6);
        break;
      case FormatId::kFp8E5M2:
        set(2, -14);
        break;
      case FormatId::kFp8E4B15:
        set(3, -14);
        break;
      case FormatId::kFp8E4M3Fnuz:
        set(3, -7);
        break;
      case FormatId::kFp8E5M2Fnuz:
        set(2, -15);
        break;
      case FormatId::kFp4E2M1:
        set(1, 0);
        break;
      case FormatId::kFp6E2M3:
        set(3, 0);
        break;
      case FormatId::kFp6E3M2:
        set(2, -2);
        break;
      default:
        KTJIT_UNREACHABLE("a float of 4 to 8 bits");
    }
    largest_ = largest_float(format_);
  }

  /// Largest magnitude that rounds to the largest code.
  double limit() const { return largest_ + half_step(largest_); }
  double half_step(double magnitude) const {
    const int exponent =
        magnitude > 0 ? std::max(std::ilogb(magnitude), smallest_normal_) : smallest_normal_;
    return std::ldexp(0.5, exponent - mantissa_bits_);
  }

 private:
  void set(int mantissa_bits, int smallest_normal) {
    mantissa_bits_ = mantissa_bits;
    smallest_normal_ = smallest_normal;
  }

  FormatId format_;
  int mantissa_bits_ = 0;
  int smallest_normal_ = 0;
  double largest_ = 0;
};

float half_at(const std::byte* at) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                          : exponent == 31
                              ? INFINITY
                              : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// The scale that an element of the output was stored with, 1 where there is none.
double scale_of(const ScaledTensorView& view, std::int64_t row, std::int64_t col) {
  if (view.format == FormatId::kQ8_0 || view.format == FormatId::kQ4_0) {
    const Format& format = get_format(view.format);
    const std::int64_t block = (row * view.cols + col) / format.block_elems;
    return std::fabs(half_at(view.data.data() + block * format.block_bytes));
  }
  if (!view.scale_grid) return 1;
  const ScaleGrid& grid = *view.scale_grid;
  const std::int64_t scale_row = grid.block_rows == 0 ? 0 : row / grid.block_rows;
  const std::int64_t scale_col = grid.block_cols == 0 ? 0 : col / grid.block_cols;
  const std::byte* at =
      view.scale_data.data() + grid.header_bytes() +
      (scale_row * grid.cols_of_scales(view.cols) + scale_col) * scale_type_bytes(grid.type);
  float scale = 0;
  switch (grid.type) {
    case ScaleType::kF32:
      std::memcpy(&scale, at, sizeof scale);
      return scale;
    case ScaleType::kBF16: {
      std::uint16_t bits = 0;
      std::memcpy(&bits, at, sizeof bits);
      return std::bit_cast<float>(std::uint32_t{bits} << 16);
    }
    case ScaleType::kE8M0:
      return std::ldexp(1.0, std::to_integer<int>(*at) - 127);
    case ScaleType::kE4M3: {
      std::memcpy(&scale, view.scale_data.data(), sizeof scale);
      const int code = std::to_integer<int>(*at);
      const int exponent = code >> 3 & 15;
      const double value =
          exponent == 0 ? std::ldexp(code & 7, -9) : std::ldexp(8 + (code & 7), exponent - 10);
      return value * scale;
    }
  }
  KTJIT_UNREACHABLE("a known scale type");
}

/// What one tensor's rows add up to; several threads add theirs.
struct Sums {
  double max_abs = 0;
  double square_difference = 0;
  double square_in = 0;
  double square_out = 0;
  double product = 0;
  std::int64_t finite = 0;
  TensorError counts;

  void add(const Sums& other) {
    max_abs = std::max(max_abs, other.max_abs);
    square_difference += other.square_difference;
    square_in += other.square_in;
    square_out += other.square_out;
    product += other.product;
    finite += other.finite;
    counts.elements += other.counts.elements;
    counts.saturated += other.counts.saturated;
    counts.nan_in += other.counts.nan_in;
    counts.nan_out += other.counts.nan_out;
    if (counts.problem.empty()) counts.problem = other.counts.problem;
  }

  TensorError result(const ConvertedTensor& tensor) const {
    TensorError error = counts;
    error.name = tensor.name;
    error.from = tensor.from;
    error.to = tensor.to;
    error.max_abs = max_abs;
    if (finite > 0) error.rms = std::sqrt(square_difference / static_cast<double>(finite));
    if (square_in > 0) error.relative = std::sqrt(square_difference / square_in);
    const double norms = std::sqrt(square_in) * std::sqrt(square_out);
    error.cosine = norms > 0 ? product / norms : square_in == square_out ? 1.0 : 0.0;
    return error;
  }
};

/// Rows of one matrix of one tensor.
struct Step {
  std::size_t tensor;
  std::int64_t matrix;
  std::int64_t first;
  std::int64_t rows;
};

class Verifier {
 public:
  Verifier(const Conversion& conversion, const model::Model& output)
      : conversion_(conversion), output_(output), sums_(conversion.tensors.size()) {
    for (std::size_t i = 0; i < conversion.tensors.size(); ++i) add_steps(i);
  }

  VerifyReport run(const VerifyOptions& options) {
    std::atomic<std::size_t> next = 0;
    std::exception_ptr failure;
    std::uint64_t done = 0;
    const auto take = [&] {
      try {
        for (std::size_t i = next++; i < steps_.size(); i = next++) {
          if (options.stop.stop_requested()) throw InterruptedError("the check");
          const Sums sums = compare(steps_[i]);
          const std::scoped_lock lock(mutex_);
          sums_[steps_[i].tensor].add(sums);
          done += bytes_of(steps_[i]);
          if (options.on_progress) options.on_progress(done, total_);
        }
      } catch (...) {
        next = steps_.size();
        const std::scoped_lock lock(mutex_);
        if (!failure) failure = std::current_exception();
      }
    };
    {
      const int threads = options.threads > 0 ? options.threads : runtime::usable_threads();
      std::vector<std::jthread> others;
      for (int i = 1; i < threads; ++i) others.emplace_back(take);
      take();
    }
    if (failure) std::rethrow_exception(failure);
    VerifyReport report;
    for (std::size_t i = 0; i < sums_.size(); ++i) {
      report.tensors.push_back(sums_[i].result(conversion_.tensors[i]));
      report.ok = report.ok && report.tensors.back().problem.empty();
    }
    return report;
  }

 private:
  void add_steps(std::size_t index) {
    const ConvertedTensor& tensor = conversion_.tensors[index];
    const WeightSource& source = tensor.weights;
    for (std::int64_t matrix = 0; matrix < source.matrices(); ++matrix) {
      const std::string problem = shape_problem(tensor, matrix);
      if (!problem.empty()) {
        sums_[index].counts.problem = problem;
        return;
      }
    }
    if (source.cols() == 0 || source.rows() == 0) return;
    std::int64_t step = source.scale_step_rows();
    if (source.order != RowOrder::kAsIs) step = std::lcm(step, source.head_rows);
    if (tensor.format.scale && tensor.format.scale->block_rows > 0)
      step = std::lcm(step, tensor.format.scale->block_rows);
    const std::int64_t rows = std::max<std::int64_t>(kStepElems / source.cols() / step, 1) * step;
    for (std::int64_t matrix = 0; matrix < source.matrices(); ++matrix) {
      for (std::int64_t first = 0; first < source.rows(); first += rows) {
        steps_.push_back({index, matrix, first, std::min(rows, source.rows() - first)});
        total_ += bytes_of(steps_.back());
      }
    }
  }

  std::uint64_t bytes_of(const Step& step) const {
    return conversion_.tensors[step.tensor].weights.row_bytes(step.matrix) *
           static_cast<std::uint64_t>(step.rows);
  }

  std::string shape_problem(const ConvertedTensor& tensor, std::int64_t matrix) const {
    const OutputRows rows = find_rows(output_, tensor, matrix);
    if (rows.tensor == nullptr) return "is not in the output";
    if (rows.tensor->format != tensor.format.id)
      return fmt::format("is read as {}", get_format(rows.tensor->format).name);
    if (rows.tensor->cols() != tensor.weights.cols() ||
        rows.tensor->rows() < rows.first_row + tensor.weights.rows()) {
      return fmt::format("is read with the shape {}", shape_to_text(*rows.tensor));
    }
    if (tensor.format.scale.has_value() != rows.tensor->scale_grid.has_value())
      return "is read with other scales";
    return "";
  }

  Sums compare(const Step& step) const {
    const ConvertedTensor& tensor = conversion_.tensors[step.tensor];
    const WeightSource& source = tensor.weights;
    const OutputRows rows = find_rows(output_, tensor, step.matrix);
    std::vector<std::byte> scratch_in;
    std::vector<std::byte> scratch_out;
    const ScaledTensorView in = source.view(step.matrix, step.first, step.rows, scratch_in);
    WeightSource written;  // the same rows of the output
    written.shape = {rows.tensor->rows(), rows.tensor->cols()};
    written.parts = {{rows.tensor, 0, rows.tensor->rows()}};
    const ScaledTensorView out =
        written.view(0, rows.first_row + step.first, step.rows, scratch_out);
    Sums sums;
    sums.counts.elements = step.rows * source.cols();
    if (tensor.is_copy) {
      if (!is_copy(source, in, out)) sums.counts.problem = "its bytes are not the input's";
      if (!has_numbers(in.format)) return sums;
    }
    const auto count = static_cast<std::size_t>(step.rows * source.cols());
    std::vector<float> before(count);
    std::vector<float> after(count);
    decode_rows(in, 0, step.rows, before);
    decode_rows(out, 0, step.rows, after);
    add_rows(tensor, step, before, after, out, sums);
    return sums;
  }

  static bool has_numbers(FormatId id) { return get_format(id).family != FormatFamily::kStored; }

  static bool is_copy(const WeightSource& source, const ScaledTensorView& in,
                      const ScaledTensorView& out) {
    const std::uint64_t bytes = model::row_bytes(in.format, in.cols);
    for (std::int64_t row = 0; row < in.rows; ++row) {
      const std::int64_t from = source_row(source.order, source.head_rows, row);
      if (std::memcmp(out.data.data() + static_cast<std::uint64_t>(row) * bytes,
                      in.data.data() + static_cast<std::uint64_t>(from) * bytes, bytes) != 0) {
        return false;
      }
    }
    return true;  // that scales are in their places shows in the values
  }

  static void add_rows(const ConvertedTensor& tensor, const Step& step,
                       std::span<const float> before, std::span<const float> after,
                       const ScaledTensorView& out, Sums& sums) {
    const WeightSource& source = tensor.weights;
    const std::int64_t cols = source.cols();
    const Tolerance tolerance(tensor);
    for (std::int64_t row = 0; row < step.rows; ++row) {
      const std::int64_t from = source_row(source.order, source.head_rows, row);
      for (std::int64_t col = 0; col < cols; ++col) {
        const double x = before[static_cast<std::size_t>(from * cols + col)];
        const double y = after[static_cast<std::size_t>(row * cols + col)];
        if (!std::isfinite(x) || !std::isfinite(y)) {
          sums.counts.nan_in += std::isfinite(x) ? 0 : 1;
          sums.counts.nan_out += std::isfinite(y) ? 0 : 1;
          if (std::isfinite(x) && sums.counts.problem.empty())
            sums.counts.problem = problem_at(step, row, col, x, y);
          continue;
        }
        const double difference = std::fabs(x - y);
        ++sums.finite;
        sums.max_abs = std::max(sums.max_abs, difference);
        sums.square_difference += difference * difference;
        sums.square_in += x * x;
        sums.square_out += y * y;
        sums.product += x * y;
        if (difference == 0) continue;
        const double scale = tolerance.needs_scale() ? scale_of(out, row, col) : 1;
        if (tolerance.saturates(x, scale)) {
          ++sums.counts.saturated;
        } else if (difference > tolerance.of(x, scale) && sums.counts.problem.empty()) {
          sums.counts.problem = problem_at(step, row, col, x, y);
        }
      }
    }
  }

  static std::string problem_at(const Step& step, std::int64_t row, std::int64_t col, double x,
                                double y) {
    return fmt::format("[{}, {}, {}] was {} and is {}", step.matrix, step.first + row, col, x, y);
  }

  /// How far a value of the output may lie from the input's.
  class Tolerance {
   public:
    explicit Tolerance(const ConvertedTensor& tensor)
        : format_(tensor.format), is_copy_(tensor.is_copy) {
      const FormatFamily family = get_format(format_.id).family;
      if (family == FormatFamily::kFp8 || family == FormatFamily::kMx) steps_.emplace(format_.id);
    }

    bool needs_scale() const { return get_format(format_.id).family != FormatFamily::kFloat; }

    bool saturates(double x, double scale) const {
      return !is_copy_ && steps_ && std::fabs(x) > steps_->limit() * scale;
    }

    double of(double x, double scale) const {
      if (is_copy_) return 0;
      const double magnitude = std::fabs(x);
      if (steps_) {
        // The division and the product are rounded to f32, the scale of nvfp4 as well.
        return steps_->half_step(scale == 0 ? 0 : magnitude / scale) * scale * 1.0001 +
               magnitude * 1e-6 + 0x1p-126;
      }
      switch (format_.id) {
        case FormatId::kF32:
          return magnitude * 0x1p-24;
        case FormatId::kF16:
          return magnitude * 0x1p-11 + 0x1p-25;
        case FormatId::kBF16:
          return magnitude * 0x1p-8 + 0x1p-134;
        case FormatId::kQ8_0:  // the scale is rounded to f16 after the codes are chosen
          return 0.5 * scale + magnitude * 0x1p-10 + 128 * 0x1p-25;
        case FormatId::kQ4_0:
          return scale + magnitude * 0x1p-10 + 8 * 0x1p-25;
        default:
          return 0;
      }
    }

   private:
    WeightFormat format_;
    bool is_copy_;
    std::optional<FloatSteps> steps_;
  };

  const Conversion& conversion_;
  const model::Model& output_;
  std::mutex mutex_;
  std::vector<Sums> sums_;
  std::vector<Step> steps_;
  std::uint64_t total_ = 0;
};

}  // namespace

VerifyReport verify_conversion(const Conversion& conversion, const model::Model& output,
                               const VerifyOptions& options) {
  return Verifier(conversion, output).run(options);
}

}  // namespace ktjit::convert
