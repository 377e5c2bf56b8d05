// Upload, launch, download.
#include "jit/tensor_ops.h"

#include <algorithm>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit {
namespace {

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

}  // namespace

std::vector<float> dequantize(Engine& engine, runtime::Device& device, const Target& target,
                              const ScaledTensorView& tensor) {
  check_sizes(tensor);
  const LoadedKernel kernel = engine.load(device, spec_of(tensor, Op::kDequant, target));
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
  check_sizes(tensor);
  if (n < 1 || x.size() != static_cast<std::size_t>(n * tensor.cols)) {
    throw SpecError("x", fmt::format("{} numbers", x.size()),
                    fmt::format("n x {}, n = {}", tensor.cols, n));
  }
  constexpr std::int64_t kMaxColumns = 8;
  const auto stream = device.make_stream();
  TensorOnDevice w = to_device(device, *stream, tensor);
  const auto x_buffer = device.allocate(x.size_bytes());
  device.upload(*stream, std::as_bytes(x), *x_buffer, 0);
  std::vector<float> result(static_cast<std::size_t>(n * tensor.rows));
  const auto y = device.allocate(result.size() * sizeof(float));

  std::vector<LoadedKernel> kernels;  // alive until the work is done
  for (std::int64_t first = 0; first < n; first += kMaxColumns) {
    const std::int64_t columns = std::min(kMaxColumns, n - first);
    KernelSpec spec = spec_of(tensor, Op::kMatvec, target);
    spec.activation = activation;
    spec.x_columns = x_columns_for(static_cast<int>(columns));
    kernels.push_back(engine.load(device, spec));
    std::vector<std::uint64_t> arguments = w.arguments;
    arguments.insert(
        arguments.end(),
        {x_buffer->address() + static_cast<std::uint64_t>(first * tensor.cols) * sizeof(float),
         y->address() + static_cast<std::uint64_t>(first * tensor.rows) * sizeof(float),
         static_cast<std::uint64_t>(tensor.rows), static_cast<std::uint64_t>(columns)});
    kernels.back().launch(*stream, tensor.rows, arguments);
  }
  device.download(*stream, *y, 0, std::as_writable_bytes(std::span(result)));
  stream->synchronize();
  return result;
}

}  // namespace ktjit
