// Upload, launch, download.
#include "jit/tensor_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>

#include "core/error.h"
#include "core/tensor_layout.h"
#include "jit/reference_encode.h"

namespace ktjit {
namespace {

constexpr std::int64_t kMatvecColumns = 8;  // the most that one launch of matvec takes

KernelSpec spec_of(const ScaledTensorView& tensor, Op op, const Target& target) {
  return make_spec(op, tensor.format, tensor.scale_grid, tensor.cols, target);
}

void check_sizes(const ScaledTensorView& tensor) {
  const auto expect = [](std::string_view what, std::size_t given, std::uint64_t expected) {
    if (given != expected)
      throw SpecError(what, fmt::format("{} bytes", given), fmt::format("{} bytes", expected));
  };
  if (tensor.rows < 1) throw SpecError("rows", fmt::format("{}", tensor.rows), "1 and more");
  expect("w", tensor.data.size(),
         static_cast<std::uint64_t>(tensor.rows) *
             static_cast<std::uint64_t>(row_bytes(get_format(tensor.format), tensor.cols)));
  if (tensor.scale_grid) {
    const ScaleGrid& grid = *tensor.scale_grid;
    expect("scale", tensor.scale_data.size(),
           static_cast<std::uint64_t>(grid.plane_bytes(tensor.rows, tensor.cols)));
  }
}

/// The tensor's bytes on the device, and the arguments that begin every launch.
struct TensorOnDevice {
  std::unique_ptr<runtime::Buffer> weights;
  std::unique_ptr<runtime::Buffer> scale;
  std::vector<std::uint64_t> arguments;
};

TensorOnDevice to_device(runtime::Device& device, runtime::Stream& stream,
                         const ScaledTensorView& tensor) {
  TensorOnDevice result;
  result.weights = runtime::place_on_device(device, stream, tensor.data);
  result.arguments = {result.weights->address()};
  if (tensor.scale_grid) {
    result.scale = runtime::place_on_device(device, stream, tensor.scale_data);
    result.arguments.push_back(result.scale->address());
  }
  return result;
}

KernelSpec quantize_spec(const WeightFormat& weight, std::int64_t cols, const Target& target) {
  return make_spec(Op::kQuantize, weight.id, weight.scale, cols, target);
}

/// Codes and scales (if the spec has groups) of x on the device; the kernel lives as long, since the
/// work is only queued.
struct QuantizedOnDevice {
  LoadedKernel kernel;
  std::unique_ptr<runtime::Buffer> codes;
  std::unique_ptr<runtime::Buffer> scales;
};

/// `tensor_scale`: of nvfp4.
QuantizedOnDevice quantize_on_device(Engine& engine, runtime::Device& device,
                                     runtime::Stream& stream, const KernelSpec& spec,
                                     const runtime::Buffer& x, std::int64_t rows,
                                     float tensor_scale = 1) {
  const std::int64_t cols = spec.layout.cols;
  QuantizedOnDevice result;
  result.kernel = engine.load(device, spec);
  result.codes =
      device.allocate(static_cast<std::size_t>(rows * row_bytes(get_format(spec.weight), cols)));
  std::vector<std::uint64_t> arguments = {x.address(), result.codes->address()};
  if (spec.scale) {
    result.scales = device.allocate(static_cast<std::size_t>(spec.scale->plane_bytes(rows, cols)));
    arguments.push_back(result.scales->address());
    if (spec.scale->header_bytes() != 0) {
      std::vector<std::byte> header(static_cast<std::size_t>(spec.scale->header_bytes()));
      std::memcpy(header.data(), &tensor_scale, sizeof(tensor_scale));
      device.upload(stream, header, *result.scales, 0);
    }
  }
  arguments.push_back(static_cast<std::uint64_t>(rows));
  result.kernel.launch(stream, rows, arguments);
  return result;
}

}  // namespace

std::vector<float> dequantize(Engine& engine, runtime::Device& device, const Target& target,
                              const ScaledTensorView& tensor) {
  check_sizes(tensor);
  const LoadedKernel kernel = engine.load(
      device, engine.tuned(device, spec_of(tensor, Op::kDequant, target), {tensor.rows, 0}));
  const auto stream = device.make_stream();
  TensorOnDevice w = to_device(device, *stream, tensor);

  std::vector<float> result(static_cast<std::size_t>(tensor.rows * tensor.cols));
  const auto y = device.allocate(result.size() * sizeof(float));
  w.arguments.insert(w.arguments.end(), {y->address(), static_cast<std::uint64_t>(tensor.rows)});
  kernel.launch(*stream, tensor.rows, w.arguments);
  device.download(*stream, *y, 0, std::as_writable_bytes(std::span(result)));
  stream->synchronize();
  return result;
}

std::vector<float> multiply(Engine& engine, runtime::Device& device, const Target& target,
                            const ScaledTensorView& tensor, std::span<const float> x,
                            std::int64_t n, ActivationPolicy activation) {
  const bool is_small = n <= kMatvecColumns && activation != ActivationPolicy::kAfp8;
  return multiply_by(is_small ? Op::kMatvec : Op::kMatmul, engine, device, target, tensor, x, n,
                     activation);
}

std::vector<float> multiply_by(Op op, Engine& engine, runtime::Device& device, const Target& target,
                               const ScaledTensorView& tensor, std::span<const float> x,
                               std::int64_t n, ActivationPolicy activation) {
  check_sizes(tensor);
  if (n < 1 || x.size() != static_cast<std::size_t>(n * tensor.cols)) {
    throw SpecError("x", fmt::format("{} numbers", x.size()),
                    fmt::format("n x {}, n = {}", tensor.cols, n));
  }
  KernelSpec spec = spec_of(tensor, op, target);
  spec.activation = activation;
  if (op == Op::kMatmul) spec.tuning = matmul_tuning(target, n);
  if (activation == ActivationPolicy::kAfp8) {
    spec.x_format = FormatId::kFp8E4M3;
    spec.x_scale = ScaleGrid{1, kActivationGroup, ScaleType::kF32};
  }
  const auto stream = device.make_stream();
  TensorOnDevice w = to_device(device, *stream, tensor);
  const auto x_buffer = device.allocate(x.size_bytes());
  device.upload(*stream, std::as_bytes(x), *x_buffer, 0);
  QuantizedOnDevice narrow;  // of afp8
  if (spec.x_scale) {
    narrow = quantize_on_device(engine, device, *stream,
                                quantize_spec({spec.x_format, spec.x_scale}, tensor.cols, target),
                                *x_buffer, n);
  }
  std::vector<float> result(static_cast<std::size_t>(n * tensor.rows));
  const auto y = device.allocate(result.size() * sizeof(float));

  const std::int64_t columns_a_launch = op == Op::kMatvec ? kMatvecColumns : n;
  std::vector<LoadedKernel> kernels;  // alive until the work is done
  for (std::int64_t first = 0; first < n; first += columns_a_launch) {
    const std::int64_t columns = std::min(columns_a_launch, n - first);
    if (op == Op::kMatvec) spec.x_columns = x_columns_for(static_cast<int>(columns));
    kernels.push_back(engine.load(device, engine.tuned(device, spec, {tensor.rows, columns})));
    std::vector<std::uint64_t> arguments = w.arguments;
    if (spec.x_scale) {
      arguments.insert(arguments.end(), {narrow.codes->address(), narrow.scales->address()});
    } else {
      arguments.push_back(x_buffer->address() +
                          static_cast<std::uint64_t>(first * tensor.cols) * sizeof(float));
    }
    arguments.insert(
        arguments.end(),
        {y->address() + static_cast<std::uint64_t>(first * tensor.rows) * sizeof(float),
         static_cast<std::uint64_t>(tensor.rows), static_cast<std::uint64_t>(columns)});
    kernels.back().launch(*stream, tensor.rows, arguments, columns);
  }
  device.download(*stream, *y, 0, std::as_writable_bytes(std::span(result)));
  stream->synchronize();
  return result;
}

std::vector<float> multiply_experts(Op op, Engine& engine, runtime::Device& device,
                                    const Target& target, const ExpertStackView& stack,
                                    std::span<const std::int32_t> ids, std::span<const float> x,
                                    std::int64_t slots_per_x) {
  const auto slots = static_cast<std::int64_t>(ids.size());
  if (slots == 0) throw SpecError("ids", "empty", "1 slot and more");
  if (slots_per_x < 1) throw SpecError("slots_per_x", fmt::format("{}", slots_per_x), "1 and more");
  const std::int64_t x_rows = (slots + slots_per_x - 1) / slots_per_x;
  if (x.size() != static_cast<std::size_t>(x_rows * stack.cols)) {
    throw SpecError("x", fmt::format("{} numbers", x.size()),
                    fmt::format("{} x {}", x_rows, stack.cols));
  }
  const ExpertStackView all = stack.first(stack.experts);  // whose bytes are no more than that
  KernelSpec spec = make_spec(op, stack.format, stack.scale_grid, stack.cols, target);
  if (op == Op::kMoeMatmul) spec.tuning = moe_matmul_tuning(target, slots, stack.experts);
  const LoadedKernel kernel = engine.load(device, spec);
  const auto stream = device.make_stream();
  const auto w = runtime::place_on_device(device, *stream, all.data);
  std::vector<std::uint64_t> arguments = {w->address()};
  std::unique_ptr<runtime::Buffer> scale;
  if (all.scale_grid) {
    scale = runtime::place_on_device(device, *stream, all.scale_data);
    arguments.push_back(scale->address());
  }
  const auto ids_there = runtime::place_on_device(device, *stream, std::as_bytes(ids));
  const auto x_there = runtime::place_on_device(device, *stream, std::as_bytes(x));
  std::vector<float> result(static_cast<std::size_t>(slots * stack.rows));
  const auto y = device.allocate(result.size() * sizeof(float));
  arguments.insert(arguments.end(), {ids_there->address(), x_there->address(), y->address()});
  for (const std::int64_t count : {stack.rows, slots, slots_per_x, stack.experts})
    arguments.push_back(static_cast<std::uint64_t>(count));
  kernel.launch(*stream, stack.rows, arguments, slots);
  device.download(*stream, *y, 0, std::as_writable_bytes(std::span(result)));
  stream->synchronize();
  return result;
}

QuantizedTensor quantize(Engine& engine, runtime::Device& device, const Target& target,
                         const WeightFormat& weight, std::span<const float> x, std::int64_t rows,
                         std::int64_t cols, bool saturate, std::optional<float> tensor_scale) {
  if (rows < 1 || x.size() != static_cast<std::size_t>(rows * cols)) {
    throw SpecError("x", fmt::format("{} numbers", x.size()), fmt::format("{} x {}", rows, cols));
  }
  const bool has_tensor_scale = weight.scale && weight.scale->header_bytes() != 0;
  if (tensor_scale) {
    const std::string given = fmt::format("{}", *tensor_scale);
    if (!has_tensor_scale)
      throw SpecError("tensor_scale", given, fmt::format("none with {}", weight.name()));
    if (!(*tensor_scale > 0) || std::isinf(*tensor_scale))
      throw SpecError("tensor_scale", given, "a positive number");
  } else if (has_tensor_scale) {
    tensor_scale = nvfp4_tensor_scale(x);
  }
  KernelSpec spec = quantize_spec(weight, cols, target);
  spec.saturate = saturate;
  const auto stream = device.make_stream();
  const auto x_buffer = device.allocate(x.size_bytes());
  device.upload(*stream, std::as_bytes(x), *x_buffer, 0);
  const QuantizedOnDevice narrow =
      quantize_on_device(engine, device, *stream, spec, *x_buffer, rows, tensor_scale.value_or(1));
  QuantizedTensor result;
  const auto fetch = [&](const runtime::Buffer& buffer, std::vector<std::byte>& bytes) {
    bytes.resize(buffer.bytes());
    device.download(*stream, buffer, 0, bytes);
  };
  fetch(*narrow.codes, result.codes);
  if (narrow.scales) fetch(*narrow.scales, result.scales);
  stream->synchronize();
  return result;
}

}  // namespace ktjit
