#include "jit/bench_launches.h"

#include <utility>

#include "core/error.h"
#include "core/launch_order.h"
#include "core/prepared_layout.h"

namespace ktjit {
namespace {

constexpr std::byte kPoison{0xff};  // any float of it is a NaN

}  // namespace

std::size_t element_bytes(FormatId format) {
  return static_cast<std::size_t>(get_format(format).block_bytes);
}

BufferPtr upload(runtime::Device& device, runtime::Stream& stream,
                 std::span<const std::byte> host) {
  BufferPtr buffer = device.allocate(host.size());
  device.upload(stream, host, *buffer, 0);
  return buffer;
}

std::vector<std::uint64_t> DeviceWeights::arguments() const {
  std::vector<std::uint64_t> result = {codes->address()};
  if (scales) result.push_back(scales->address());
  return result;
}

DeviceWeights upload(runtime::Device& device, runtime::Stream& stream, const BenchWeights& weights,
                     int copy) {
  DeviceWeights result;
  result.codes = device.allocate(weights.code_bytes());
  weights.upload_codes(device, stream, copy, *result.codes);
  if (!weights.scales().empty()) result.scales = upload(device, stream, weights.scales());
  return result;
}

WeightCopies::WeightCopies(runtime::Device& device, runtime::Stream& stream, const KernelSpec& spec,
                           std::int64_t experts, std::int64_t rows, int first_copy, int copies,
                           const LoadedKernel* prepare)
    : experts_(experts),
      rows_(rows),
      cols_(spec.layout.cols),
      first_copy_(first_copy),
      codes_(weight_of(spec), experts * rows, spec.layout.cols),
      scaled_(weight_of(spec), rows, spec.layout.cols) {
  KTJIT_CHECK(prepare_spec_of(spec).has_value() == (prepare != nullptr));
  DeviceWeights native;
  for (int copy = 0; copy < copies; ++copy) {
    if (!native.codes) native.codes = device.allocate(codes_.code_bytes());
    codes_.upload_codes(device, stream, first_copy + copy, *native.codes);
    if (spec.scale && !native.scales) native.scales = upload_scales(device, stream, *spec.scale);
    stream.synchronize();
    if (prepare == nullptr) {
      on_device_.push_back(std::move(native));
      native = {};
    } else {
      on_device_.push_back(prepared(device, stream, spec, *prepare, native));
      stream.synchronize();  // before the next upload
    }
  }
}

BufferPtr WeightCopies::upload_scales(runtime::Device& device, runtime::Stream& stream,
                                      const ScaleGrid& grid) const {
  const auto stride = static_cast<std::size_t>(expert_scale_bytes(grid, rows_, cols_));
  std::vector<std::byte> planes;
  for (std::int64_t expert = 0; expert < experts_; ++expert) {
    planes.insert(planes.end(), scaled_.scales().begin(), scaled_.scales().end());
    if (expert + 1 < experts_) planes.resize(static_cast<std::size_t>(expert + 1) * stride);
  }
  BufferPtr buffer = upload(device, stream, planes);
  stream.synchronize();
  return buffer;
}

DeviceWeights WeightCopies::prepared(runtime::Device& device, runtime::Stream& stream,
                                     const KernelSpec& spec, const LoadedKernel& prepare,
                                     const DeviceWeights& native) const {
  const std::int64_t expert_bytes = laid_out_bytes(spec.layout.kind, spec.weight, rows_, cols_);
  const std::int64_t native_bytes = rows_ * row_bytes(get_format(spec.weight), cols_);
  DeviceWeights weights;
  weights.codes = device.allocate(static_cast<std::size_t>(experts_ * expert_bytes));
  for (std::int64_t expert = 0; expert < experts_; ++expert) {
    std::vector<std::uint64_t> arguments = {native.codes->address() +
                                            static_cast<std::uint64_t>(expert * native_bytes)};
    if (native.scales) {
      const std::int64_t stride = expert_scale_bytes(*spec.scale, rows_, cols_);
      arguments.push_back(native.scales->address() + static_cast<std::uint64_t>(expert * stride));
    }
    arguments.push_back(weights.codes->address() +
                        static_cast<std::uint64_t>(expert * expert_bytes));
    arguments.push_back(static_cast<std::uint64_t>(rows_));
    prepare.launch(stream, rows_, arguments);
  }
  return weights;
}

BenchRow WeightCopies::row(int copy, std::int64_t expert, std::int64_t row) const {
  BenchRow result = codes_.row(first_copy_ + copy, expert * rows_ + row);
  result.scales = scaled_.row(first_copy_ + copy, row).scales;
  return result;
}

std::span<const std::uint64_t> BenchLaunches::arguments(int copy) const {
  return arguments_[static_cast<std::size_t>(copy)];
}

void BenchLaunches::poison(runtime::Stream& stream, int copy) {
  for (const BufferPtr& result : results_[static_cast<std::size_t>(copy)])
    device_.fill(stream, *result, kPoison);
}

void BenchLaunches::add_copy(std::vector<BufferPtr> results, std::vector<std::uint64_t> arguments) {
  results_.push_back(std::move(results));
  arguments_.push_back(std::move(arguments));
}

runtime::Buffer& BenchLaunches::result(int copy, std::size_t matrix) const {
  return *results_[static_cast<std::size_t>(copy)][matrix];
}

std::vector<std::byte> BenchLaunches::download(runtime::Stream& stream,
                                               const runtime::Buffer& buffer, std::size_t offset,
                                               std::size_t bytes) const {
  std::vector<std::byte> host(bytes);
  device_.download(stream, buffer, offset, host);
  stream.synchronize();
  return host;
}

BenchCheck to_check(const ErrorMeter& meter, std::int64_t rows_checked) {
  return {rows_checked, meter.max_abs_error(), meter.max_rel_error(), meter.problem()};
}

}  // namespace ktjit
