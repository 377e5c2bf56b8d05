// Upload, launch, download. Matrices whose rows are whole tiles of 16 are one to kernels.
#include "jit/prepared_ops.h"

#include <algorithm>
#include <fmt/format.h>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "core/tensor_layout.h"

namespace ktjit {
namespace {

constexpr std::int64_t kMatvecColumns = 8;  // the most that one launch of matvec takes

KernelSpec spec_of(Op op, const PreparedTensorView& tensor, const Target& target) {
  KernelSpec spec =
      make_spec(op, tensor.format, fixed_scale_grid(tensor.format), tensor.cols, target);
  spec.layout.kind = LayoutKind::kPrepared;
  return spec;
}

std::uint64_t matrix_bytes(const PreparedTensorView& tensor) {
  return static_cast<std::uint64_t>(prepared_bytes(tensor.format, tensor.rows, tensor.cols));
}

void check_size(const PreparedTensorView& tensor) {
  const std::uint64_t expected = static_cast<std::uint64_t>(tensor.matrices) * matrix_bytes(tensor);
  if (tensor.data.size() != expected)
    throw SpecError("w", fmt::format("{} bytes", tensor.data.size()),
                    fmt::format("{} bytes", expected));
}

/// The tensor as few matrices of many rows, where no padding lies between them.
PreparedTensorView joined(PreparedTensorView tensor) {
  if (tensor.rows % kUnitRows != 0) return tensor;
  tensor.rows *= tensor.matrices;
  tensor.matrices = 1;
  return tensor;
}

std::vector<float> download(runtime::Device& device, runtime::Stream& stream,
                            const runtime::Buffer& buffer, std::size_t count) {
  std::vector<float> values(count);
  device.download(stream, buffer, 0, std::as_writable_bytes(std::span(values)));
  stream.synchronize();
  return values;
}

}  // namespace

PreparedTensorView prepared_view(const model::TensorInfo& tensor) {
  KTJIT_CHECK(tensor.layout == LayoutKind::kPrepared);
  return {tensor.format, tensor.ne[2] * tensor.ne[3], tensor.ne[1], tensor.cols(), tensor.data};
}

bool reads_prepared(Op op, FormatId format, const Target& target) {
  constexpr int kFirstMatmulSm = 75;
  if (op == Op::kDequant) return dequantizes_prepared(format, target);
  if (op == Op::kMoeMatmul)
    return target.is_cuda() && target.sm >= kFirstMatmulSm && format != FormatId::kIQ1_M;
  return is_matvec(op) && target.is_cuda() && serves_prepared(format, target);
}

NativeWeights restore(Engine& engine, runtime::Device& device, const Target& target,
                      const PreparedTensorView& tensor) {
  check_size(tensor);
  const KernelSpec spec = spec_of(Op::kRestore, tensor, target);
  const LoadedKernel kernel = engine.load(device, spec);
  const auto stream = device.make_stream();
  const auto from = runtime::place_on_device(device, *stream, tensor.data);
  const auto native_size =
      static_cast<std::size_t>(tensor.rows * row_bytes(get_format(tensor.format), tensor.cols));
  const auto to = device.allocate(native_size);
  const auto matrices = static_cast<std::size_t>(tensor.matrices);
  NativeWeights native;
  native.data.resize(matrices * native_size);
  std::unique_ptr<runtime::Buffer> scale;
  std::vector<std::byte> plane;
  if (spec.scale) {
    plane.resize(static_cast<std::size_t>(spec.scale->plane_bytes(tensor.rows, tensor.cols)));
    scale = device.allocate(plane.size());
  }
  for (std::size_t matrix = 0; matrix < matrices; ++matrix) {
    std::vector<std::uint64_t> arguments = {from->address() + matrix * matrix_bytes(tensor),
                                            to->address()};
    if (scale) arguments.push_back(scale->address());
    arguments.push_back(static_cast<std::uint64_t>(tensor.rows));
    kernel.launch(*stream, tensor.rows, arguments);
    device.download(*stream, *to, 0,
                    std::span(native.data).subspan(matrix * native_size, native_size));
    if (scale) device.download(*stream, *scale, 0, plane);
    stream->synchronize();
    if (!scale) continue;
    // The plane of all matrices begins with one tensor's scale.
    const auto header = matrix == 0 ? 0 : static_cast<std::ptrdiff_t>(spec.scale->header_bytes());
    native.scales.insert(native.scales.end(), plane.begin() + header, plane.end());
  }
  return native;
}

std::vector<float> dequantize_prepared(Engine& engine, runtime::Device& device,
                                       const Target& target, const PreparedTensorView& all) {
  check_size(all);
  const PreparedTensorView tensor = joined(all);
  const LoadedKernel kernel = engine.load(
      device, engine.tuned(device, spec_of(Op::kDequant, tensor, target), {tensor.rows, 0}));
  const auto stream = device.make_stream();
  const auto w = runtime::place_on_device(device, *stream, tensor.data);
  const auto elements = static_cast<std::uint64_t>(tensor.rows * tensor.cols);
  const std::uint64_t count = static_cast<std::uint64_t>(tensor.matrices) * elements;
  const auto y = device.allocate(count * sizeof(float));
  for (std::uint64_t matrix = 0; matrix < static_cast<std::uint64_t>(tensor.matrices); ++matrix) {
    kernel.launch(*stream, tensor.rows,
                  std::vector{w->address() + matrix * matrix_bytes(tensor),
                              y->address() + matrix * elements * sizeof(float),
                              static_cast<std::uint64_t>(tensor.rows)});
  }
  return download(device, *stream, *y, count);
}

std::vector<float> multiply_prepared(Engine& engine, runtime::Device& device, const Target& target,
                                     const PreparedTensorView& all, std::span<const float> x,
                                     std::int64_t n) {
  check_size(all);
  if (n < 1 || x.size() != static_cast<std::size_t>(n * all.cols)) {
    throw SpecError("x", fmt::format("{} numbers", x.size()),
                    fmt::format("n x {}, n = {}", all.cols, n));
  }
  const PreparedTensorView tensor = joined(all);
  const auto rows = static_cast<std::size_t>(tensor.rows);
  const auto matrices = static_cast<std::size_t>(tensor.matrices);
  const auto stream = device.make_stream();
  const auto w = runtime::place_on_device(device, *stream, tensor.data);
  const auto x_there = runtime::place_on_device(device, *stream, std::as_bytes(x));
  const auto y = device.allocate(static_cast<std::size_t>(n) * rows * sizeof(float));
  std::vector<float> result(static_cast<std::size_t>(n) * matrices * rows);
  std::vector<LoadedKernel> kernels;  // alive until the work is done
  for (std::size_t matrix = 0; matrix < matrices; ++matrix) {
    for (std::int64_t first = 0; first < n; first += kMatvecColumns) {
      const std::int64_t columns = std::min(kMatvecColumns, n - first);
      KernelSpec spec = spec_of(Op::kMatvec, tensor, target);
      spec.x_columns = x_columns_for(static_cast<int>(columns));
      kernels.push_back(engine.load(device, engine.tuned(device, spec, {tensor.rows, columns})));
      const auto offset = static_cast<std::uint64_t>(first) * sizeof(float);
      kernels.back().launch(
          *stream, tensor.rows,
          std::vector{w->address() + matrix * matrix_bytes(tensor),
                      x_there->address() + offset * static_cast<std::uint64_t>(tensor.cols),
                      y->address() + offset * rows, static_cast<std::uint64_t>(tensor.rows),
                      static_cast<std::uint64_t>(columns)},
          columns);
    }
    const std::vector<float> part =
        download(device, *stream, *y, static_cast<std::size_t>(n) * rows);
    for (std::size_t j = 0; j < static_cast<std::size_t>(n); ++j)
      std::copy_n(part.data() + j * rows, rows, result.data() + (j * matrices + matrix) * rows);
  }
  return result;
}

std::vector<float> multiply_prepared_experts(Op op, Engine& engine, runtime::Device& device,
                                             const Target& target, const PreparedTensorView& tensor,
                                             std::span<const std::int32_t> ids,
                                             std::span<const float> x, std::int64_t slots_per_x) {
  check_size(tensor);
  const auto slots = static_cast<std::int64_t>(ids.size());
  if (slots == 0) throw SpecError("ids", "empty", "1 slot and more");
  if (slots_per_x < 1) throw SpecError("slots_per_x", fmt::format("{}", slots_per_x), "1 and more");
  const std::int64_t x_rows = (slots + slots_per_x - 1) / slots_per_x;
  if (x.size() != static_cast<std::size_t>(x_rows * tensor.cols)) {
    throw SpecError("x", fmt::format("{} numbers", x.size()),
                    fmt::format("{} x {}", x_rows, tensor.cols));
  }
  KernelSpec spec = spec_of(op, tensor, target);
  if (op == Op::kMoeMatmul) spec.tuning = moe_matmul_tuning(target, slots, tensor.matrices);
  const LoadedKernel kernel = engine.load(device, spec);
  const auto stream = device.make_stream();
  const auto w = runtime::place_on_device(device, *stream, tensor.data);
  const auto ids_there = runtime::place_on_device(device, *stream, std::as_bytes(ids));
  const auto x_there = runtime::place_on_device(device, *stream, std::as_bytes(x));
  const auto count = static_cast<std::size_t>(slots * tensor.rows);
  const auto y = device.allocate(count * sizeof(float));
  std::vector<std::uint64_t> arguments = {w->address(), ids_there->address(), x_there->address(),
                                          y->address()};
  for (const std::int64_t value : {tensor.rows, slots, slots_per_x, tensor.matrices})
    arguments.push_back(static_cast<std::uint64_t>(value));
  kernel.launch(*stream, tensor.rows, arguments, slots);
  return download(device, *stream, *y, count);
}

}  // namespace ktjit
