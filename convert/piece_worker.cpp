#include "convert/piece_worker.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "core/tensor_layout.h"
#include "runtime/cpu_device.h"
#include "runtime/executor.h"

namespace ktjit::convert {
namespace {

class CallingThread : public runtime::Executor {
 public:
  int concurrency() const override { return 1; }
  void parallel_for(std::int64_t count,
                    const std::function<void(std::int64_t, std::int64_t)>& body) override {
    if (count > 0) body(0, count);
  }
};

}  // namespace

std::unique_ptr<runtime::Device> make_single_thread_cpu() {
  return runtime::make_cpu_device(std::make_shared<CallingThread>());
}

Machine::Machine(Engine& engine, runtime::Device& device, Target target)
    : engine_(engine),
      device_(device),
      target_(std::move(target)),
      is_host_(device.name() == "cpu") {}

const LoadedKernel& Machine::kernel(const KernelSpec& spec) {
  const std::scoped_lock lock(mutex_);
  for (const auto& kernel : kernels_) {
    if (kernel->built.spec == spec) return *kernel;
  }
  kernels_.push_back(std::make_unique<LoadedKernel>(engine_.load(device_, spec)));
  // Looked up by what was asked for: the engine may have given another kernel in its place.
  kernels_.back()->built.spec = spec;
  return *kernels_.back();
}

/// Memory on one device that grows to the largest piece, and where results are copied to.
class PieceWorker::Buffers {
 public:
  explicit Buffers(Machine& machine) : machine_(machine), stream_(machine.device().make_stream()) {}

  runtime::Stream& stream() { return *stream_; }

  /// Input bytes where kernels read them.
  std::uint64_t place(std::unique_ptr<runtime::Buffer>& buffer, std::span<const std::byte> bytes) {
    if (machine_.is_host()) return reinterpret_cast<std::uintptr_t>(bytes.data());
    reserve(buffer, bytes.size());
    machine_.device().upload(*stream_, bytes, *buffer, 0);
    return buffer->address();
  }

  std::uint64_t reserve(std::unique_ptr<runtime::Buffer>& buffer, std::size_t bytes) {
    if (buffer == nullptr || buffer->bytes() < bytes) {
      buffer.reset();
      buffer = machine_.device().allocate(bytes);
    }
    return buffer->address();
  }

  /// Results where the CPU reads them; synchronize comes before they are read.
  std::span<const std::byte> fetch(const runtime::Buffer& buffer, std::vector<std::byte>& copy,
                                   std::size_t bytes) {
    if (machine_.is_host()) return {reinterpret_cast<const std::byte*>(buffer.address()), bytes};
    copy.resize(std::max(copy.size(), bytes));
    const auto to = std::span(copy).first(bytes);
    machine_.device().download(*stream_, buffer, 0, to);
    return to;
  }

  std::unique_ptr<runtime::Buffer> w, w_scale, x, y, codes, scales;
  std::vector<std::byte> y_copy, codes_copy, scales_copy;

  /// Queues the decode of rows to `to`.
  void decode(const ScaledTensorView& rows, FormatId format, std::uint64_t to) {
    KernelSpec spec =
        make_spec(Op::kDequant, rows.format, rows.scale_grid, rows.cols, machine_.target());
    spec.y_format = format;
    const LoadedKernel& kernel = machine_.kernel(spec);
    std::vector<std::uint64_t> arguments = {place(w, rows.data)};
    if (rows.scale_grid) arguments.push_back(place(w_scale, rows.scale_data));
    arguments.insert(arguments.end(), {to, static_cast<std::uint64_t>(rows.rows)});
    kernel.launch(*stream_, rows.rows, arguments);
  }

 private:
  Machine& machine_;
  std::unique_ptr<runtime::Stream> stream_;
};

PieceWorker::PieceWorker(Machine& fast, Machine& host)
    : fast_(fast),
      host_(host),
      fast_buffers_(std::make_unique<Buffers>(fast)),
      host_buffers_(std::make_unique<Buffers>(host)) {
  KTJIT_CHECK(host.is_host());
}

PieceWorker::~PieceWorker() = default;

std::span<const std::byte> PieceWorker::decode(const ScaledTensorView& rows, FormatId format) {
  Buffers& buffers = *fast_buffers_;
  const auto bytes = static_cast<std::size_t>(rows.rows * row_bytes(get_format(format), rows.cols));
  buffers.decode(rows, format, buffers.reserve(buffers.y, bytes));
  const auto result = buffers.fetch(*buffers.y, buffers.y_copy, bytes);
  buffers.stream().synchronize();
  return result;
}

std::span<float> PieceWorker::decode_on_host(const ScaledTensorView& rows) {
  Buffers& buffers = *host_buffers_;
  const auto count = static_cast<std::size_t>(rows.rows * rows.cols);
  const std::uint64_t x = buffers.reserve(buffers.x, count * sizeof(float));
  buffers.decode(rows, FormatId::kF32, x);
  return {reinterpret_cast<float*>(x), count};
}

PieceWorker::Codes PieceWorker::quantize(Machine& machine, Buffers& buffers, std::uint64_t x,
                                         std::int64_t rows, std::int64_t cols,
                                         const WeightFormat& to, float tensor_scale) {
  const KernelSpec spec = make_spec(Op::kQuantize, to.id, to.scale, cols, machine.target());
  const LoadedKernel& kernel = machine.kernel(spec);
  const auto code_bytes = static_cast<std::size_t>(rows * row_bytes(get_format(to.id), cols));
  std::vector<std::uint64_t> arguments = {x, buffers.reserve(buffers.codes, code_bytes)};
  std::size_t scale_bytes = 0;
  std::vector<std::byte> header;  // of nvfp4's plane; lives until the stream is synchronised
  if (to.scale) {
    scale_bytes = static_cast<std::size_t>(to.scale->plane_bytes(rows, cols));
    arguments.push_back(buffers.reserve(buffers.scales, scale_bytes));
    header.resize(static_cast<std::size_t>(to.scale->header_bytes()));
    if (!header.empty()) {
      std::memcpy(header.data(), &tensor_scale, sizeof tensor_scale);
      machine.device().upload(buffers.stream(), header, *buffers.scales, 0);
    }
  }
  arguments.push_back(static_cast<std::uint64_t>(rows));
  kernel.launch(buffers.stream(), rows, arguments);
  Codes result;
  result.codes = buffers.fetch(*buffers.codes, buffers.codes_copy, code_bytes);
  if (to.scale) result.scales = buffers.fetch(*buffers.scales, buffers.scales_copy, scale_bytes);
  buffers.stream().synchronize();
  return result;
}

PieceWorker::Codes PieceWorker::requantize(const ScaledTensorView& rows, const WeightFormat& to,
                                           float tensor_scale) {
  Buffers& buffers = *fast_buffers_;
  const std::uint64_t x =
      buffers.reserve(buffers.x, static_cast<std::size_t>(rows.rows * rows.cols) * sizeof(float));
  buffers.decode(rows, FormatId::kF32, x);
  return quantize(fast_, buffers, x, rows.rows, rows.cols, to, tensor_scale);
}

PieceWorker::Codes PieceWorker::quantize_on_host(std::span<const float> x, std::int64_t cols,
                                                 const WeightFormat& to, float tensor_scale) {
  return quantize(host_, *host_buffers_, reinterpret_cast<std::uintptr_t>(x.data()),
                  static_cast<std::int64_t>(x.size()) / cols, cols, to, tensor_scale);
}

std::span<const std::byte> PieceWorker::prepare(const ScaledTensorView& rows) {
  Buffers& buffers = *fast_buffers_;
  const LoadedKernel& kernel = fast_.kernel(
      make_spec(Op::kPrepare, rows.format, rows.scale_grid, rows.cols, fast_.target()));
  const auto bytes = static_cast<std::size_t>(prepared_bytes(rows.format, rows.rows, rows.cols));
  std::vector<std::uint64_t> arguments = {buffers.place(buffers.w, rows.data)};
  if (rows.scale_grid) arguments.push_back(buffers.place(buffers.w_scale, rows.scale_data));
  arguments.insert(arguments.end(),
                   {buffers.reserve(buffers.y, bytes), static_cast<std::uint64_t>(rows.rows)});
  kernel.launch(buffers.stream(), rows.rows, arguments);
  const auto result = buffers.fetch(*buffers.y, buffers.y_copy, bytes);
  buffers.stream().synchronize();
  return result;
}

PieceWorker::Codes PieceWorker::restore(FormatId format, std::int64_t rows, std::int64_t cols,
                                        std::span<const std::byte> prepared) {
  Buffers& buffers = *fast_buffers_;
  KernelSpec spec = make_spec(Op::kRestore, format, fixed_scale_grid(format), cols, fast_.target());
  spec.layout.kind = LayoutKind::kPrepared;
  const LoadedKernel& kernel = fast_.kernel(spec);
  const auto bytes = static_cast<std::size_t>(rows * row_bytes(get_format(format), cols));
  std::vector<std::uint64_t> arguments = {buffers.place(buffers.w, prepared),
                                          buffers.reserve(buffers.codes, bytes)};
  std::size_t scale_bytes = 0;
  if (spec.scale) {
    scale_bytes = static_cast<std::size_t>(spec.scale->plane_bytes(rows, cols));
    arguments.push_back(buffers.reserve(buffers.scales, scale_bytes));
  }
  arguments.push_back(static_cast<std::uint64_t>(rows));
  kernel.launch(buffers.stream(), rows, arguments);
  Codes result;
  result.codes = buffers.fetch(*buffers.codes, buffers.codes_copy, bytes);
  if (spec.scale) result.scales = buffers.fetch(*buffers.scales, buffers.scales_copy, scale_bytes);
  buffers.stream().synchronize();
  return result;
}

bool kernels_choose_scales(const WeightFormat& format) {
  if (!format.scale || fixed_scale_grid(format.id)) return true;
  const ScaleGrid& grid = *format.scale;
  return grid.block_rows >= 1 && (grid.type == ScaleType::kF32 || grid.type == ScaleType::kE8M0);
}

}  // namespace ktjit::convert
