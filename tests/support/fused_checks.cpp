#include "tests/support/fused_checks.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/launch_order.h"
#include "core/prepared_layout.h"
#include "jit/reference_encode.h"
#include "jit/reference_fused.h"
#include "tests/support/kernel_cases.h"
#include "tests/support/kernel_inputs.h"

namespace ktjit::test {
namespace {

constexpr std::size_t kGuardBytes = 256;  // before and after each result; keeps its alignment
constexpr std::byte kGuard{0xa5};

bool has_blocks(FormatId format) { return get_format(format).block_elems > 1; }

/// What a check varies. `rows` has one count for each of the matrices; with a gate and with experts one.
struct FusedCase {
  Op op = Op::kMatvec;
  FormatId weight = FormatId::kF32;
  std::optional<ScaleGrid> grid = {};
  std::int64_t cols = 0;
  std::vector<std::int64_t> rows = {};
  FormatId x_format = FormatId::kF32;
  FormatId y_format = FormatId::kF32;
  std::optional<FormatId> bias = {};
  Gate gate = Gate::kNone;
  std::optional<FormatId> residual = {};
  bool residual_is_y = false;
  int n = 1;  ///< matvec: rows of x
  std::int64_t experts = 0;
  std::vector<std::int32_t> ids = {};
  std::int64_t slots_per_x = 1;
  bool dependent_launch = false;
  LayoutKind layout = LayoutKind::kNative;
  int x_tile = 0;                         ///< moe_matmul, on GPUs
  std::optional<ScaleGrid> x_scale = {};  ///< afp8
  bool tensor_core_precision = false;
};

KernelSpec spec_of(const FusedCase& one, const Target& target) {
  KernelSpec spec = make_spec(one.op, get_format(one.weight).name, one.cols, target);
  spec.scale = fixed_scale_grid(one.weight) ? fixed_scale_grid(one.weight) : one.grid;
  spec.x_format = one.x_format;
  spec.y_format = one.y_format;
  spec.bias = one.bias;
  spec.gate = one.gate;
  spec.matrices = static_cast<int>(one.rows.size());
  spec.residual = one.residual;
  spec.dependent_launch = one.dependent_launch;
  spec.layout.kind = one.layout;
  spec.constant_weights =
      one.dependent_launch && one.layout == LayoutKind::kPrepared && is_matvec(one.op);
  if (one.op == Op::kMatvec) spec.x_columns = x_columns_for(one.n);
  if (target.is_cuda()) spec.tuning.x_tile = one.x_tile;
  spec.tensor_core_precision = one.tensor_core_precision;
  if (one.x_scale) {
    spec.activation = ActivationPolicy::kAfp8;
    spec.x_format = FormatId::kFp8E4M3;
    spec.x_scale = one.x_scale;
  }
  return spec;
}

/// The weights of one launch argument: a stack of experts, or of one.
struct Weights {
  std::int64_t experts = 1;
  std::int64_t rows = 0;
  Bytes data;
  Bytes scales;
  std::vector<float> bias;  ///< [experts, rows]
  Bytes bias_bytes;
};

/// `shift` sets matrices of ggml's formats apart, whose rows repeat.
Weights make_stack(const KernelSpec& spec, std::int64_t experts, std::int64_t rows, int shift,
                   std::mt19937& random) {
  const std::int64_t cols = spec.layout.cols;
  Weights weights;
  weights.experts = experts;
  weights.rows = rows;
  weights.data = make_weights(spec.weight, experts * rows + shift, cols, random);
  weights.data.erase(weights.data.begin(),
                     weights.data.begin() + shift * row_bytes(get_format(spec.weight), cols));
  if (spec.scale) {
    const auto stride = static_cast<std::size_t>(expert_scale_bytes(*spec.scale, rows, cols));
    for (std::int64_t expert = 0; expert < experts; ++expert) {
      Bytes plane = make_scales(*spec.scale, rows, cols, random);
      if (expert + 1 < experts) plane.resize(stride);
      weights.scales.insert(weights.scales.end(), plane.begin(), plane.end());
    }
  }
  if (spec.bias) {
    weights.bias = normal_values(static_cast<std::size_t>(experts * rows), random);
    weights.bias_bytes = rounded_to(*spec.bias, weights.bias);
  }
  return weights;
}

ExpertStackView view_of(const KernelSpec& spec, const Weights& weights) {
  return {spec.weight,  weights.experts, weights.rows,  spec.layout.cols,
          weights.data, spec.scale,      weights.scales};
}

/// Sums in double with their sums of magnitudes.
struct Sums {
  std::vector<double> value;
  std::vector<double> magnitude;
};

/// Of each slot, or of each row of x, times the matrix, with its bias: [slots or n, rows].
Sums product_reference(const KernelSpec& spec, const FusedCase& one, const Weights& weights,
                       std::span<const float> x) {
  const bool is_moe = has_experts(spec.op);
  const std::size_t y_rows = is_moe ? one.ids.size() : static_cast<std::size_t>(one.n);
  const auto rows = static_cast<std::size_t>(weights.rows);
  Sums sums{std::vector<double>(y_rows * rows), std::vector<double>(y_rows * rows)};
  if (is_moe) {
    moe_matvec_reference(view_of(spec, weights), one.ids, x, one.slots_per_x, 0, weights.rows,
                         sums.value, sums.magnitude);
  } else {
    matvec_reference(view_of(spec, weights).expert(0), x, one.n, 0, weights.rows, sums.value,
                     sums.magnitude);
  }
  for (std::size_t i = 0; spec.bias && i < sums.value.size(); ++i) {
    if (std::isnan(sums.value[i])) continue;
    const std::size_t expert = is_moe ? static_cast<std::size_t>(one.ids[i / rows]) : 0;
    const double bias = weights.bias[expert * rows + i % rows];
    sums.value[i] += bias;
    sums.magnitude[i] += std::abs(bias);
  }
  return sums;
}

/// Memory on the device between guards.
class Guarded {
 public:
  Guarded(runtime::Device& device, runtime::Stream& stream, const Bytes& content)
      : all_(content.size() + 2 * kGuardBytes, kGuard) {
    std::copy(content.begin(), content.end(), all_.begin() + kGuardBytes);
    buffer_ = device.allocate(all_.size());
    device.upload(stream, all_, *buffer_, 0);
    stream.synchronize();
  }

  std::uint64_t address() const { return buffer_->address() + kGuardBytes; }

  /// The content now; overwritten guard bytes are counted.
  Bytes read(runtime::Device& device, runtime::Stream& stream, const std::string& name,
             CheckResult& result) {
    device.download(stream, *buffer_, 0, all_);
    stream.synchronize();
    const std::size_t end = all_.size() - kGuardBytes;
    for (std::size_t i = 0; i < all_.size(); ++i) {
      if ((i >= kGuardBytes && i < end) || all_[i] == kGuard) continue;
      ++result.wrong;
      if (result.first_problem.empty()) {
        result.first_problem =
            fmt::format("{}: guard byte {} of a result was written", name,
                        static_cast<std::int64_t>(i) - static_cast<std::int64_t>(kGuardBytes));
      }
    }
    return {all_.begin() + kGuardBytes, all_.begin() + static_cast<std::ptrdiff_t>(end)};
  }

 private:
  Bytes all_;
  std::unique_ptr<runtime::Buffer> buffer_;
};

/// What a launch is given and leaves.
struct Launch {
  std::vector<Weights> weights;  ///< one for each matrix
  Bytes x;
  Bytes x_scale;
  Bytes ids;
  Bytes residual;
  std::vector<Bytes> y;  ///< before, then after
};

/// The experts of a stack, prepared one after another.
std::unique_ptr<runtime::Buffer> prepare(const Place& place, runtime::Stream& stream,
                                         const KernelSpec& spec, const Weights& weights,
                                         std::uint64_t native, std::uint64_t scales) {
  const auto bytes = prepared_bytes(spec.weight, weights.rows, spec.layout.cols);
  auto prepared = place.device.allocate(static_cast<std::size_t>(weights.experts * bytes));
  const std::int64_t cols = spec.layout.cols;
  const LoadedKernel kernel = place.engine.load(
      place.device, make_spec(Op::kPrepare, spec.weight, spec.scale, cols, spec.target));
  const std::int64_t native_bytes = weights.rows * row_bytes(get_format(spec.weight), cols);
  for (std::int64_t expert = 0; expert < weights.experts; ++expert) {
    std::vector<std::uint64_t> arguments = {native +
                                            static_cast<std::uint64_t>(expert * native_bytes)};
    if (spec.scale) {
      arguments.push_back(
          scales +
          static_cast<std::uint64_t>(expert * expert_scale_bytes(*spec.scale, weights.rows, cols)));
    }
    arguments.push_back(prepared->address() + static_cast<std::uint64_t>(expert * bytes));
    arguments.push_back(static_cast<std::uint64_t>(weights.rows));
    kernel.launch(stream, weights.rows, arguments);
  }
  stream.synchronize();
  return prepared;
}

void run(const Place& place, const LoadedKernel& kernel, const FusedCase& one, Launch& launch,
         CheckResult& result) {
  const KernelSpec& spec = kernel.built.spec;
  const auto stream = place.device.make_stream();
  std::vector<std::unique_ptr<runtime::Buffer>> inputs;
  std::vector<Guarded> results;
  for (const Bytes& y : launch.y) results.emplace_back(place.device, *stream, y);
  const auto put = [&](const Bytes& bytes) {
    inputs.push_back(place.device.allocate(bytes.size()));
    place.device.upload(*stream, bytes, *inputs.back(), 0);
    stream->synchronize();
    return inputs.back()->address();
  };
  const auto value_of = [&](const LaunchArgument& argument) -> std::uint64_t {
    const auto matrix = static_cast<std::size_t>(argument.matrix);
    switch (argument.role) {
      case ArgumentRole::kWeights: {
        const std::uint64_t native = put(launch.weights[matrix].data);
        if (one.layout == LayoutKind::kNative) return native;
        const Bytes& scales = launch.weights[matrix].scales;
        inputs.push_back(prepare(place, *stream, spec, launch.weights[matrix], native,
                                 scales.empty() ? 0 : put(scales)));
        return inputs.back()->address();
      }
      case ArgumentRole::kScale:
        return put(launch.weights[matrix].scales);
      case ArgumentRole::kBias:
        return put(launch.weights[matrix].bias_bytes);
      case ArgumentRole::kIds:
        return put(launch.ids);
      case ArgumentRole::kX:
        return put(launch.x);
      case ArgumentRole::kResidual:
        return one.residual_is_y ? results.front().address() : put(launch.residual);
      case ArgumentRole::kY:
        return results[matrix].address();
      case ArgumentRole::kRows:
        return static_cast<std::uint64_t>(one.rows[matrix]);
      case ArgumentRole::kN:
        return static_cast<std::uint64_t>(one.n);
      case ArgumentRole::kSlots:
        return one.ids.size();
      case ArgumentRole::kSlotsPerX:
        return static_cast<std::uint64_t>(one.slots_per_x);
      case ArgumentRole::kExperts:
        return static_cast<std::uint64_t>(one.experts);
      case ArgumentRole::kXScale:
        return put(launch.x_scale);
      case ArgumentRole::kFound:
        break;
    }
    KTJIT_UNREACHABLE("an argument of a product");
  };
  std::vector<std::uint64_t> arguments;
  for (const LaunchArgument& argument : launch_order(spec)) arguments.push_back(value_of(argument));
  const std::int64_t y_rows =
      has_experts(spec.op) ? static_cast<std::int64_t>(one.ids.size()) : one.n;
  kernel.launch(*stream, one.rows, arguments, y_rows);
  stream->synchronize();
  for (std::size_t i = 0; i < results.size(); ++i)
    launch.y[i] = results[i].read(place.device, *stream, kernel.built.emitted.entry_name, result);
  ++result.kernels;
}

void compare(const KernelSpec& spec, std::span<const float> got, std::span<const Sums> sums,
             std::string_view what, CheckResult& result) {
  constexpr double kNoF16X = 0.0;  // only f16 weights have errors by magnitudes of x
  for (std::size_t i = 0; i < got.size(); ++i) {
    ++result.values;
    const double value = sums[0].value[i];
    const double magnitude = sums[0].magnitude[i];
    Bounded want = {value, 0};
    bool right = false;
    if (spec.gate == Gate::kNone) {
      const double slack = tensor_core_error(spec, magnitude, kNoF16X);
      const double nearest = slack > 0 && std::isfinite(value)
                                 ? std::clamp<double>(got[i], value - slack, value + slack)
                                 : value;
      right = is_right_product(spec.layout.cols, spec.y_format, got[i], nearest, magnitude);
      if (!std::isnan(value))
        want.tolerance = product_tolerance(spec.layout.cols, spec.y_format, value, magnitude);
    } else {
      want = gated_reference(spec.gate, spec.layout.cols, spec.y_format, value, magnitude,
                             sums[1].value[i], sums[1].magnitude[i],
                             tensor_core_error(spec, magnitude, kNoF16X),
                             tensor_core_error(spec, sums[1].magnitude[i], kNoF16X));
      right = is_right(got[i], want);
    }
    if (right) continue;
    ++result.wrong;
    if (result.first_problem.empty()) {
      result.first_problem = fmt::format("{}: y[{}] is {}, expected {} within {}", what, i, got[i],
                                         want.value, want.tolerance);
    }
  }
}

void check(const Place& place, const FusedCase& one, std::mt19937& random, CheckResult& result) {
  if (result.cases++ % place.every != 0) return;
  const KernelSpec spec = spec_of(one, place.target);
  const LoadedKernel kernel = place.engine.load(place.device, spec);
  const bool is_moe = has_experts(spec.op);
  const auto slots = static_cast<std::int64_t>(one.ids.size());

  Launch launch;
  for (int i = 0; i < weight_matrices(spec); ++i) {
    const std::int64_t rows = one.rows[spec.gate == Gate::kNone ? static_cast<std::size_t>(i) : 0];
    launch.weights.push_back(make_stack(spec, is_moe ? one.experts : 1, rows, 3 * i, random));
  }
  const std::int64_t x_rows = is_moe ? (slots + one.slots_per_x - 1) / one.slots_per_x : one.n;
  std::vector<float> x = normal_values(static_cast<std::size_t>(x_rows * one.cols), random);
  if (one.x_scale) {
    const QuantizedRows codes =
        quantize_reference({.format = spec.x_format, .grid = one.x_scale}, x, x_rows, one.cols);
    launch.x = codes.codes;
    launch.x_scale = codes.scales;
    decode_rows({spec.x_format, x_rows, one.cols, codes.codes, one.x_scale, codes.scales}, 0,
                x_rows, x);
  } else {
    launch.x = rounded_to(spec.x_format, x);
  }
  const auto id_bytes = std::as_bytes(std::span(one.ids));
  launch.ids.assign(id_bytes.begin(), id_bytes.end());
  const std::int64_t y_rows = is_moe ? slots : one.n;
  const auto y_elem = static_cast<std::size_t>(get_format(spec.y_format).block_bytes);
  for (const std::int64_t rows : one.rows)
    launch.y.emplace_back(static_cast<std::size_t>(y_rows * rows) * y_elem);
  std::vector<float> residual;
  if (spec.residual) {
    residual = normal_values(static_cast<std::size_t>(y_rows * one.rows[0]), random);
    launch.residual = rounded_to(*spec.residual, residual);
    if (one.residual_is_y) launch.y[0] = launch.residual;
  }
  run(place, kernel, one, launch, result);

  const std::string& name = kernel.built.emitted.entry_name;
  std::vector<Sums> sums;
  for (const Weights& weights : launch.weights)
    sums.push_back(product_reference(spec, one, weights, x));
  for (std::size_t i = 0; i < residual.size(); ++i) {
    sums[0].value[i] += residual[i];
    sums[0].magnitude[i] += std::abs(residual[i]);
  }
  for (std::size_t i = 0; i < launch.y.size(); ++i) {
    const std::vector<float> got = widened(spec.y_format, launch.y[i]);
    const std::span<const Sums> all(sums);
    compare(spec, got, spec.gate == Gate::kNone ? all.subspan(i, 1) : all,
            fmt::format("{}, matrix {} of {} rows", name, i, one.rows[i]), result);
  }
}

/// The formats whose products the place checks.
std::vector<FormatId> formats_at(const Place& place) {
  std::vector<FormatId> formats = product_formats();
  if (place.layout == LayoutKind::kPrepared) {
    std::erase_if(formats, [&](FormatId one) { return !serves_prepared(one, place.target); });
  }
  return formats;
}

/// Ids of experts 0 to experts - 1, as routers give them, and worse.
std::vector<std::vector<std::int32_t>> make_ids(std::int32_t experts) {
  constexpr std::int32_t kLowest = std::numeric_limits<std::int32_t>::min();
  constexpr std::int32_t kHighest = std::numeric_limits<std::int32_t>::max();
  const std::int32_t last = experts - 1;
  return {{last, 0, 2, 1, last, 2, 0, 1, 1},
          {2, 2, 2, 2, 2, 2, 2, 2},
          {0, -1, last, experts, 1, kLowest, kHighest},
          {last}};
}

}  // namespace

CheckResult check_moe_matvec(const Place& place) {
  using enum FormatId;
  constexpr std::int32_t kExperts = 5;
  CheckResult result;
  std::mt19937 random(31);
  const bool may_depend = place.target.is_cuda() && place.target.sm >= 90;
  for (FormatId format : formats_at(place)) {
    const bool blocks = has_blocks(format);
    const FusedCase one = {.op = Op::kMoeMatvec,
                           .weight = format,
                           .cols = blocks ? 768 : 264,
                           .rows = {17},
                           .experts = kExperts,
                           .layout = place.layout};
    for (const auto& ids : make_ids(kExperts)) {
      for (FormatId x_format : {kF32, kF16, kBF16}) {
        FusedCase each = one;
        each.ids = ids;
        each.x_format = x_format;
        each.slots_per_x = x_format == kF16 ? 1 : x_format == kF32 ? 8 : 3;
        each.dependent_launch = may_depend && x_format == kBF16;
        check(place, each, random, result);
      }
      FusedCase odd = one;
      odd.ids = ids;
      odd.cols = blocks ? get_format(format).block_elems : 77;
      odd.rows = {ids.size() == 1 ? 1 : 37};
      odd.gate = Gate::kSilu;
      odd.bias = kF32;
      odd.slots_per_x = 4;
      check(place, odd, random, result);
    }
    FusedCase rounded = one;
    rounded.ids = make_ids(kExperts)[2];
    rounded.rows = {7};
    rounded.bias = kBF16;
    for (FormatId y_format : {kF16, kBF16}) {
      rounded.y_format = y_format;
      rounded.gate = y_format == kF16 ? Gate::kNone : Gate::kGeluTanh;
      check(place, rounded, random, result);
    }
  }
  for (FormatId format : formats_at(place)) {
    if (!has_separate_scales(format) || fixed_scale_grid(format)) continue;
    for (const ScaleGrid& grid :
         {ScaleGrid{0, 0}, ScaleGrid{1, 0}, ScaleGrid{0, 1}, ScaleGrid{128, 128, ScaleType::kBF16},
          ScaleGrid{32, 5, ScaleType::kE8M0}}) {
      FusedCase scaled = {.op = Op::kMoeMatvec,
                          .weight = format,
                          .grid = grid,
                          .cols = grid.block_cols == 5 ? 77 : 264,
                          .rows = {131},
                          .experts = kExperts,
                          .ids = make_ids(kExperts)[0],
                          .slots_per_x = 8};
      check(place, scaled, random, result);
      scaled.gate = Gate::kSilu;
      scaled.ids = make_ids(kExperts)[2];
      check(place, scaled, random, result);
    }
  }
  return result;
}

namespace {

/// Ids of so many slots: of five experts one has a slot, one more of them than a tile has, and one none; others no expert
/// has.
std::vector<std::int32_t> ids_of_tokens(std::size_t slots, std::mt19937& random) {
  std::vector<std::int32_t> ids(slots, 1);
  for (std::size_t i = 0; i < slots; ++i) {
    const auto chance = random() % 8;
    if (chance < 2) ids[i] = 0;
    if (chance == 2) ids[i] = 3;
    if (chance == 3) ids[i] = random() % 2 == 0 ? -1 : 5;
  }
  ids[slots / 2] = 4;
  return ids;
}

/// Whether the target has a moe_matmul of such weights.
bool serves_moe_matmul(FormatId format, const Place& place) {
  if (place.layout == LayoutKind::kNative) return true;
  return format != FormatId::kIQ1_M && place.target.is_cuda() && place.target.sm >= 75;
}

}  // namespace

CheckResult check_moe_matmul(const Place& place) {
  using enum FormatId;
  constexpr std::int32_t kExperts = 5;
  CheckResult result;
  std::mt19937 random(41);
  const bool may_depend = place.target.is_cuda() && place.target.sm >= 90;
  for (FormatId format : formats_at(place)) {
    if (!serves_moe_matmul(format, place)) continue;
    const bool blocks = has_blocks(format);
    const FusedCase one = {.op = Op::kMoeMatmul,
                           .weight = format,
                           .cols = blocks ? 768 : 264,
                           .rows = {37},
                           .experts = kExperts,
                           .layout = place.layout};
    for (FormatId x_format : {kF32, kF16, kBF16}) {
      FusedCase each = one;
      each.x_format = x_format;
      each.slots_per_x = x_format == kF16 ? 1 : x_format == kF32 ? 8 : 3;
      each.x_tile = x_format == kF16 ? 64 : x_format == kF32 ? 16 : 32;
      each.ids = ids_of_tokens(x_format == kF16 ? 150 : 71, random);
      check(place, each, random, result);
      each.gate = x_format == kF16 ? Gate::kGeluTanh : Gate::kSilu;
      each.rows = {70};
      each.dependent_launch = may_depend && x_format == kBF16;
      each.y_format = x_format == kF32 ? kF32 : kBF16;
      check(place, each, random, result);
    }
    FusedCase odd = one;
    odd.cols = blocks ? get_format(format).block_elems : 77;
    odd.rows = {131};
    odd.bias = kF32;
    odd.slots_per_x = 4;
    odd.x_tile = 16;
    for (const auto& ids : make_ids(kExperts)) {
      odd.ids = ids;
      odd.gate = odd.gate == Gate::kNone ? Gate::kSilu : Gate::kNone;
      check(place, odd, random, result);
    }
    odd.ids = {-1, 5, 7};
    odd.bias = kBF16;
    check(place, odd, random, result);
  }
  for (FormatId format : formats_at(place)) {
    if (!has_separate_scales(format) || fixed_scale_grid(format)) continue;
    for (const ScaleGrid& grid :
         {ScaleGrid{0, 0}, ScaleGrid{1, 0}, ScaleGrid{0, 1}, ScaleGrid{128, 128, ScaleType::kBF16},
          ScaleGrid{32, 32}, ScaleGrid{32, 5, ScaleType::kE8M0}}) {
      FusedCase scaled = {.op = Op::kMoeMatmul,
                          .weight = format,
                          .grid = grid,
                          .cols = grid.block_cols == 5 ? 77 : 264,
                          .rows = {131},
                          .experts = kExperts,
                          .ids = ids_of_tokens(40, random),
                          .slots_per_x = 8,
                          .x_tile = 16};
      check(place, scaled, random, result);
      scaled.gate = Gate::kSilu;
      check(place, scaled, random, result);
      scaled.x_scale = ScaleGrid{1, grid.block_cols == 5 ? 5 : 128};
      check(place, scaled, random, result);
    }
  }
  return result;
}

CheckResult check_moe_tensor_cores(const Place& place) {
  using enum FormatId;
  CheckResult result;
  std::mt19937 random(47);
  const auto add = [&](FusedCase one) {
    one.op = Op::kMoeMatmul;
    one.experts = 5;
    if (!one.x_scale) one.x_format = kBF16;
    one.tensor_core_precision = true;
    const std::int64_t cols = one.cols;
    for (const int x_tile : {16, 32, 64, 128}) {
      one.x_tile = x_tile;
      one.ids = ids_of_tokens(static_cast<std::size_t>(x_tile + x_tile / 2), random);
      one.slots_per_x = x_tile == 32 ? 1 : 8;
      one.rows = {x_tile == 64 ? 130 : 75};
      one.gate = x_tile % 48 == 16 ? Gate::kNone : Gate::kSilu;  // 16, 64: none
      one.bias = x_tile == 16 || x_tile == 128 ? std::optional(kF32) : std::nullopt;
      one.y_format = x_tile >= 64 ? kBF16 : kF32;
      one.cols = x_tile == 64 ? cols : 2 * cols;
      check(place, one, random, result);
    }
  };
  for (FormatId format : formats_at(place)) {
    if (place.layout == LayoutKind::kPrepared && format != kIQ1_M)
      add({.weight = format, .cols = 256, .layout = place.layout});
  }
  if (place.layout == LayoutKind::kPrepared) return result;
  add({.weight = kBF16, .cols = 208});
  add({.weight = kFp8E5M2, .cols = 160});
  add({.weight = kFp8E4M3, .grid = ScaleGrid{128, 128}, .cols = 272});
  add({.weight = kFp8E4M3, .grid = ScaleGrid{128, 128}, .cols = 272, .x_scale = ScaleGrid{1, 128}});
  return result;
}

CheckResult check_many_experts(const Place& place) {
  CheckResult result;
  std::mt19937 random(43);
  FusedCase many = {.op = Op::kMoeMatmul,
                    .weight = FormatId::kQ8_0,
                    .cols = 32,
                    .rows = {3},
                    .experts = 1100,
                    .layout = place.layout,
                    .x_tile = 16};
  for (const std::int32_t id : {1099, 0, 511, 512, 513, 1023, 1024, 512, 1099, 1100, 0})
    many.ids.push_back(id);
  check(place, many, random, result);
  FusedCase slots = many;
  slots.experts = 2;
  slots.rows = {1};
  slots.ids.assign(8500, 1);  // more than 32 of each thread
  for (std::size_t i = 0; i < slots.ids.size(); i += 1 + random() % 60) slots.ids[i] = 0;
  slots.x_tile = 64;
  slots.slots_per_x = 100;
  check(place, slots, random, result);
  return result;
}

CheckResult check_fused_matvec(const Place& place) {
  using enum FormatId;
  CheckResult result;
  std::mt19937 random(37);
  const bool may_depend = place.target.is_cuda() && place.target.sm >= 90;
  for (FormatId format : formats_at(place)) {
    const bool blocks = has_blocks(format);
    const std::optional<ScaleGrid> grid =
        has_separate_scales(format) ? std::optional(ScaleGrid{32, 32}) : std::nullopt;
    const FusedCase one = {.weight = format,
                           .grid = grid,
                           .cols = blocks ? 768 : 264,
                           .rows = {37},
                           .layout = place.layout};
    const auto with = [&](FormatId x_format, int n, auto change) {
      FusedCase each = one;
      each.x_format = x_format;
      each.n = n;
      change(each);
      check(place, each, random, result);
    };
    for (const auto& [x_format, n] : {std::pair{kF32, 1}, {kF16, 3}, {kBF16, 8}}) {
      with(x_format, n, [](FusedCase& c) { c.gate = Gate::kSilu; });
      with(x_format, n, [](FusedCase& c) {
        c.gate = Gate::kGeluTanh;
        c.rows = {1};
        c.bias = kF16;
        c.y_format = kBF16;
      });
      with(x_format, n, [](FusedCase& c) { c.rows = {37, 5}; });
      with(x_format, n, [&](FusedCase& c) {
        c.rows = {64, 1, 19};
        c.bias = kF32;
        c.dependent_launch = may_depend;
      });
      with(x_format, n, [](FusedCase& c) {
        c.rows = {3, 41, 2, 8};
        c.y_format = kF16;
      });
      with(x_format, n, [](FusedCase& c) { c.residual = kF32; });
      with(x_format, n, [](FusedCase& c) {
        c.residual = kF32;
        c.residual_is_y = true;
        c.bias = kBF16;
      });
      with(x_format, n, [&](FusedCase& c) {
        c.residual = c.y_format = kBF16;
        c.residual_is_y = true;
        c.dependent_launch = may_depend;
      });
      with(x_format, n, [](FusedCase& c) {
        c.residual = kF16;
        c.bias = kBF16;
      });
      if (blocks) continue;
      for (const std::int64_t cols : {1, 9, 77}) {
        with(x_format, n, [&](FusedCase& c) {
          c.gate = Gate::kSilu;
          c.cols = cols;
        });
        with(x_format, n, [&](FusedCase& c) {
          c.rows = {7, 9};
          c.cols = cols;
        });
      }
    }
  }
  return result;
}

CheckResult check_gates(const Place& place) {
  CheckResult result;
  std::vector<float> values = {0.0f,
                               -0.0f,
                               std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::quiet_NaN(),
                               -87.4f,
                               -103.9f,
                               -104.1f,
                               -1e30f,
                               1e30f};
  for (int i = 0; i < 4096; ++i) {  // every exponent, then steps of 1 / 16 where act bends
    const float magnitude = std::exp2(static_cast<float>(i) / 16.0f - 128.0f);
    values.insert(values.end(), {magnitude, -magnitude});
    values.push_back(static_cast<float>(i - 2048) / 16.0f);
  }
  for (Gate gate : {Gate::kSilu, Gate::kGeluTanh}) {
    if (result.cases++ % place.every != 0) continue;
    // One column, x and w_up 1: y is act of the weight.
    const FusedCase one = {
        .cols = 1, .rows = {static_cast<std::int64_t>(values.size())}, .gate = gate};
    const LoadedKernel kernel = place.engine.load(place.device, spec_of(one, place.target));
    Launch launch;
    launch.weights.resize(2);
    launch.weights[0].data = bytes_of(values);
    launch.weights[1].data = bytes_of(std::vector<float>(values.size(), 1.0f));
    launch.x = bytes_of(std::vector<float>{1.0f});
    launch.y.emplace_back(values.size() * sizeof(float));
    run(place, kernel, one, launch, result);
    const std::vector<float> got = widened(FormatId::kF32, launch.y[0]);
    for (std::size_t i = 0; i < got.size(); ++i) {
      ++result.values;
      const double g = values[i];
      const double want = gate_reference(gate, g);
      const bool right = std::isnan(want)
                             ? std::isnan(got[i])
                             : got[i] == want || std::abs(got[i] - want) <= gate_tolerance(gate, g);
      if (right) continue;
      ++result.wrong;
      if (result.first_problem.empty()) {
        result.first_problem =
            fmt::format("{} of {:a} is {:a}, expected {:a}", gate_name(gate), g, got[i], want);
      }
    }
  }
  return result;
}

}  // namespace ktjit::test
