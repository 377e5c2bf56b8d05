#include "jit/bench_products.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numeric>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/interleaved_layout.h"
#include "core/launch_order.h"
#include "core/prepared_layout.h"
#include "jit/bench_launches.h"
#include "jit/reference_decode.h"
#include "jit/reference_encode.h"
#include "jit/reference_fused.h"
#include "jit/reference_ops.h"
#include "jit/row_sample.h"

namespace ktjit {
namespace {

bool is_moe(const BenchWork& work) { return has_experts(work.spec.op); }

std::int64_t experts_of(const BenchWork& work) { return is_moe(work) ? work.experts : 1; }

/// How many launches share a stack of experts, each with experts of its own.
std::int64_t id_sets(const BenchWork& work) {
  return work.spec.op == Op::kMoeMatvec ? std::max<std::int64_t>(work.experts / work.n, 1) : 1;
}

std::int64_t x_rows(const BenchWork& work) {
  return is_moe(work) ? (work.n + work.slots_per_x - 1) / work.slots_per_x : work.n;
}

/// Rows of the matrix behind weights argument `matrix`.
std::int64_t rows_of(const BenchWork& work, int matrix) {
  return work.spec.gate == Gate::kNone ? work.all_rows()[static_cast<std::size_t>(matrix)]
                                       : work.rows;
}

/// A vector of random values, as the device has them and as numbers.
struct Vector {
  std::vector<float> values;
  BufferPtr on_device;
};

class ProductOperands final : public BenchLaunches {
 public:
  ProductOperands(runtime::Device& device, runtime::Stream& stream, const BenchWork& work,
                  int copies, const LoadedKernel* prepare)
      : BenchLaunches(device), work_(work) {
    const KernelSpec& spec = work.spec;
    const auto sets = static_cast<int>(id_sets(work));
    const int stacks = (copies + sets - 1) / sets;
    upload_x(stream);
    for (int matrix = 0; matrix < weight_matrices(spec); ++matrix) {
      const std::int64_t rows = rows_of(work, matrix);
      weights_.emplace_back(device, stream, spec, experts_of(work), rows, matrix * stacks, stacks,
                            prepare);
      if (spec.bias) biases_.push_back(make_vector(stream, *spec.bias, experts_of(work), rows));
    }
    if (spec.residual) residual_ = make_vector(stream, *spec.residual, work.n, work.rows);
    if (is_moe(work)) upload_ids(stream);
    for (int copy = 0; copy < copies; ++copy) {
      std::vector<BufferPtr> results;
      for (const std::int64_t rows : work.all_rows())
        results.push_back(device.allocate(y_bytes(rows)));
      std::vector<std::uint64_t> arguments;
      for (const LaunchArgument& argument : launch_order(spec))
        arguments.push_back(value_of(argument, copy, results));
      add_copy(std::move(results), std::move(arguments));
    }
  }

  BenchCheck check(runtime::Stream& stream, int copy) const override {
    ErrorMeter meter;
    std::int64_t rows_checked = 0;
    std::string unwritten;
    const std::vector<std::int64_t> heights = work_.all_rows();
    for (std::size_t matrix = 0; matrix < heights.size(); ++matrix) {
      const std::int64_t rows = heights[matrix];
      std::vector<float> got(static_cast<std::size_t>(work_.n * rows));
      decode_row(work_.spec.y_format, download(stream, result(copy, matrix), 0, y_bytes(rows)),
                 got);
      const std::int64_t row_work = work_.n * work_.spec.layout.cols;
      for (std::int64_t row : sample_rows(rows, row_work, kMaxCheckedElements)) {
        check_row(copy, static_cast<int>(matrix), rows, row, got, meter);
        ++rows_checked;
      }
      const auto nan = std::find_if(got.begin(), got.end(), [](float y) { return std::isnan(y); });
      if (nan == got.end() || !unwritten.empty()) continue;
      const std::int64_t at = nan - got.begin();
      unwritten =
          fmt::format("y{}[{}, {}] is NaN or was not written",
                      heights.size() > 1 ? fmt::format("{}", matrix) : "", at / rows, at % rows);
    }
    BenchCheck check = to_check(meter, rows_checked);
    if (check.problem.empty()) check.problem = unwritten;
    return check;
  }

 private:
  std::size_t y_bytes(std::int64_t rows) const {
    return static_cast<std::size_t>(work_.n * rows) * element_bytes(work_.spec.y_format);
  }

  Vector make_vector(runtime::Stream& stream, FormatId format, std::int64_t n, std::int64_t cols) {
    BenchActivations made = make_bench_activations(format, n, cols);
    Vector vector{std::move(made.values), upload(device(), stream, made.bytes)};
    stream.synchronize();
    return vector;
  }

  /// Makes x, as values and on the device.
  void upload_x(runtime::Stream& stream) {
    const KernelSpec& spec = work_.spec;
    const std::int64_t n = x_rows(work_), cols = spec.layout.cols;
    if (!spec.x_scale) {
      Vector x = make_vector(stream, spec.x_format, n, cols);
      x_ = std::move(x.values);
      x_on_device_.codes = std::move(x.on_device);
      return;
    }
    const BenchActivations wide = make_bench_activations(FormatId::kF32, n, cols);
    const QuantizedRows narrow =
        quantize_reference({.format = spec.x_format, .grid = spec.x_scale}, wide.values, n, cols);
    x_.resize(wide.values.size());
    decode_rows({spec.x_format, n, cols, narrow.codes, spec.x_scale, narrow.scales}, 0, n, x_);
    x_on_device_ = {upload(device(), stream, narrow.codes),
                    upload(device(), stream, narrow.scales)};
    stream.synchronize();
  }

  /// moe_matmul: for each row of x experts that are different, as a router chooses them.
  std::vector<std::int32_t> routed_ids() const {
    std::vector<std::int32_t> all(static_cast<std::size_t>(work_.experts));
    std::iota(all.begin(), all.end(), 0);
    std::mt19937 random(11);
    std::vector<std::int32_t> ids;
    for (std::int64_t slot = 0; slot < work_.n; ++slot) {
      const std::int64_t of_x = slot % work_.slots_per_x;
      if (of_x == 0) std::shuffle(all.begin(), all.end(), random);
      ids.push_back(all[static_cast<std::size_t>(of_x % work_.experts)]);
    }
    return ids;
  }

  /// A set of different experts for each launch on a stack, none in two sets; moe_matmul: one for all.
  void upload_ids(runtime::Stream& stream) {
    if (work_.spec.op == Op::kMoeMatmul) {
      ids_.push_back(routed_ids());
      ids_on_device_.push_back(upload(device(), stream, std::as_bytes(std::span(ids_.back()))));
      stream.synchronize();
      return;
    }
    std::vector<std::int32_t> all(static_cast<std::size_t>(work_.experts));
    std::iota(all.begin(), all.end(), 0);
    std::mt19937 random(11);
    std::shuffle(all.begin(), all.end(), random);
    for (std::int64_t set = 0; set < id_sets(work_); ++set) {
      std::vector<std::int32_t> ids;
      for (std::int64_t slot = 0; slot < work_.n; ++slot)
        ids.push_back(all[static_cast<std::size_t>((set * work_.n + slot) % work_.experts)]);
      ids_on_device_.push_back(upload(device(), stream, std::as_bytes(std::span(ids))));
      stream.synchronize();
      ids_.push_back(std::move(ids));
    }
  }

  std::uint64_t value_of(const LaunchArgument& argument, int copy,
                         const std::vector<BufferPtr>& results) const {
    const auto matrix = static_cast<std::size_t>(argument.matrix);
    switch (argument.role) {
      case ArgumentRole::kWeights:
        return weights_[matrix].on_device(stack_of(copy)).codes->address();
      case ArgumentRole::kScale:
        return weights_[matrix].on_device(stack_of(copy)).scales->address();
      case ArgumentRole::kIds:
        return ids_on_device_[set_of(copy)]->address();
      case ArgumentRole::kX:
        return x_on_device_.codes->address();
      case ArgumentRole::kXScale:
        return x_on_device_.scales->address();
      case ArgumentRole::kBias:
        return biases_[matrix].on_device->address();
      case ArgumentRole::kResidual:
        return residual_.on_device->address();
      case ArgumentRole::kY:
        return results[matrix]->address();
      case ArgumentRole::kRows:
        return static_cast<std::uint64_t>(work_.all_rows()[matrix]);
      case ArgumentRole::kN:
      case ArgumentRole::kSlots:
        return static_cast<std::uint64_t>(work_.n);
      case ArgumentRole::kSlotsPerX:
        return static_cast<std::uint64_t>(work_.slots_per_x);
      case ArgumentRole::kExperts:
        return static_cast<std::uint64_t>(work_.experts);
      case ArgumentRole::kFound:
        break;
    }
    KTJIT_UNREACHABLE("an argument of a product");
  }

  int stack_of(int copy) const { return copy / static_cast<int>(id_sets(work_)); }
  std::size_t set_of(int copy) const {
    return static_cast<std::size_t>(copy % static_cast<int>(id_sets(work_)));
  }

  std::int64_t expert_of(int copy, std::int64_t slot) const {
    return is_moe(work_) ? ids_[set_of(copy)][static_cast<std::size_t>(slot)] : 0;
  }
  /// The row of x that y's row (or slot) j is made of.
  std::span<const float> x_of(std::int64_t j) const {
    const auto cols = static_cast<std::size_t>(work_.spec.layout.cols);
    const auto row = static_cast<std::size_t>(is_moe(work_) ? j / work_.slots_per_x : j);
    return std::span(x_).subspan(row * cols, cols);
  }

  /// A row's product with x's row (or slot) j, and its sum of magnitudes.
  std::pair<double, double> product(int copy, int matrix, std::int64_t row, std::int64_t j) const {
    const auto at = static_cast<std::size_t>(matrix);
    const std::int64_t expert = expert_of(copy, j);
    const BenchRow w = weights_[at].row(stack_of(copy), expert, row);
    double sum = 0, magnitude = 0;
    matvec_reference(w.view(), x_of(j), 1, 0, 1, {&sum, 1}, {&magnitude, 1});
    const auto add = [&](double term) {
      sum += term;
      magnitude += std::abs(term);
    };
    if (!biases_.empty())
      add(biases_[at].values[static_cast<std::size_t>(expert * rows_of(work_, matrix) + row)]);
    if (residual_.on_device) add(residual_.values[static_cast<std::size_t>(j * work_.rows + row)]);
    return {sum, magnitude};
  }

  /// With a8: by how much rounding x may change the row's product, half a step of each x times the weights.
  double rounding_of_x(int copy, int matrix, std::int64_t row, std::int64_t j) const {
    if (work_.spec.activation != ActivationPolicy::kA8) return 0;
    constexpr std::size_t kUnit = kInterleavedCols;
    constexpr float kSteps = 127;  // of the largest of a unit
    const std::span<const float> x = x_of(j);
    const std::size_t cols = x.size();
    std::vector<float> half_steps(cols);
    for (std::size_t first = 0; first < cols; first += kUnit) {
      const std::size_t end = std::min(first + kUnit, cols);
      float largest = 0;
      for (std::size_t c = first; c < end; ++c) largest = std::max(largest, std::abs(x[c]));
      for (std::size_t c = first; c < end; ++c) half_steps[c] = largest / kSteps / 2;
    }
    const BenchRow w =
        weights_[static_cast<std::size_t>(matrix)].row(stack_of(copy), expert_of(copy, j), row);
    double sum = 0, magnitude = 0;
    matvec_reference(w.view(), half_steps, 1, 0, 1, {&sum, 1}, {&magnitude, 1});
    return magnitude;
  }

  double magnitude_of_x(std::int64_t j) const {
    double sum = 0;
    for (const float x : x_of(j)) sum += std::abs(x);
    return sum;
  }

  void check_row(int copy, int matrix, std::int64_t rows, std::int64_t row,
                 const std::vector<float>& got, ErrorMeter& meter) const {
    const KernelSpec& spec = work_.spec;
    for (std::int64_t j = 0; j < work_.n; ++j) {
      const double y = got[static_cast<std::size_t>(j * rows + row)];
      const auto [sum, magnitude] = product(copy, matrix, row, j);
      if (spec.gate == Gate::kNone) {
        const double slack = rounding_of_x(copy, matrix, row, j) +
                             tensor_core_error(spec, magnitude, magnitude_of_x(j));
        const bool has_slack = slack > 0 && std::isfinite(slack) && std::isfinite(sum);
        const double nearest = has_slack ? std::clamp(y, sum - slack, sum + slack) : sum;
        meter.add(y, sum, is_right_product(spec.layout.cols, spec.y_format, y, nearest, magnitude),
                  j, row);
        continue;
      }
      const auto [up, up_magnitude] = product(copy, 1, row, j);
      const Bounded want =
          gated_reference(spec.gate, spec.layout.cols, spec.y_format, sum, magnitude, up,
                          up_magnitude, tensor_core_error(spec, magnitude, magnitude_of_x(j)),
                          tensor_core_error(spec, up_magnitude, magnitude_of_x(j)));
      meter.add(y, want.value, is_right(y, want), j, row);
    }
  }

  BenchWork work_;
  std::vector<WeightCopies> weights_;  // of each matrix
  std::vector<float> x_;               // [x_rows, cols], as the kernel sees it
  DeviceWeights x_on_device_;
  std::vector<Vector> biases_;  // of each matrix, [experts, rows], or none
  Vector residual_;             // [n, rows], or nothing
  std::vector<std::vector<std::int32_t>> ids_;
  std::vector<BufferPtr> ids_on_device_;
};

}  // namespace

BenchBytes product_bytes(const BenchWork& work) {
  const KernelSpec& spec = work.spec;
  const std::int64_t cols = spec.layout.cols;
  const std::int64_t used = std::min(work.n, experts_of(work));  // experts in a launch
  BenchBytes bytes;
  for (int matrix = 0; matrix < weight_matrices(spec); ++matrix) {
    const std::int64_t rows = rows_of(work, matrix);
    const std::size_t w = file_bytes(weight_of(spec), rows, cols);
    const std::size_t on_device =
        spec.layout.kind == LayoutKind::kNative
            ? w
            : static_cast<std::size_t>(laid_out_bytes(spec.layout.kind, spec.weight, rows, cols));
    bytes.streamed += static_cast<std::size_t>(is_moe(work) ? used : 1) * w;
    bytes.copy += static_cast<std::size_t>(experts_of(work)) * on_device /
                  static_cast<std::size_t>(id_sets(work));
  }
  for (const std::int64_t rows : work.all_rows())
    bytes.copy += file_bytes({spec.y_format, {}}, rows, work.n);
  return bytes;
}

std::unique_ptr<BenchOperands> make_product_operands(runtime::Device& device,
                                                     runtime::Stream& stream, const BenchWork& work,
                                                     int copies, const LoadedKernel* prepare) {
  return std::make_unique<ProductOperands>(device, stream, work, copies, prepare);
}

}  // namespace ktjit
