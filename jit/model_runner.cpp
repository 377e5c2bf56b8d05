// Plan, load all kernels, then tensor by tensor: upload, launch, time, check.
#include "jit/model_runner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "core/launch_order.h"
#include "core/missing_kernel_error.h"
#include "core/prepared_layout.h"
#include "jit/error_meter.h"
#include "jit/expert_stack.h"
#include "jit/reference_encode.h"
#include "jit/reference_fused.h"
#include "jit/reference_ops.h"
#include "jit/reference_prepared.h"
#include "jit/row_sample.h"

namespace ktjit {
namespace {

constexpr int kTimedLaunches = 3;
constexpr std::int64_t kMaxCheckedElements = std::int64_t{1} << 21;  // of one tensor, per op
constexpr std::size_t kMaxPieceBytes = std::size_t{1} << 30;         // of w and y together
constexpr std::byte kPoison{0xff};                                   // four of them are a NaN
constexpr std::int64_t kExpertSlots = 8;     // of a row of x, if there are so many experts
constexpr std::int64_t kExpertTokens = 6;    // rows of x that moe_matmul runs with
constexpr std::int64_t kMatmulColumns = 32;  // rows of x that matmul runs with

double ms_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

ScaledTensorView view_of(const model::TensorInfo& tensor) {
  return {tensor.format, tensor.rows(),     tensor.cols(),
          tensor.data,   tensor.scale_grid, tensor.scale_data};
}

bool is_prepared_in_file(const model::TensorInfo& tensor) {
  return tensor.layout == LayoutKind::kPrepared;
}

/// Rows of w and scales of a tensor that is native in the file, or restored by the plain reference.
class ReferenceRows {
 public:
  explicit ReferenceRows(const model::TensorInfo& tensor) : tensor_(tensor) {}

  /// A view that has the row, and its number there. Valid until the next call.
  std::pair<ScaledTensorView, std::int64_t> find(std::int64_t row) {
    if (!is_prepared_in_file(tensor_)) return {view_of(tensor_), row};
    const std::int64_t rows = tensor_.ne[1];  // of a matrix
    const auto bytes =
        static_cast<std::size_t>(prepared_bytes(tensor_.format, rows, tensor_.cols()));
    row_ = restore_reference(
        tensor_.format, rows, tensor_.cols(),
        tensor_.data.subspan(static_cast<std::size_t>(row / rows) * bytes, bytes), row % rows, 1);
    return {{tensor_.format, 1, tensor_.cols(), row_.data, tensor_.scale_grid, row_.scales}, 0};
  }

 private:
  const model::TensorInfo& tensor_;
  NativeWeights row_;
};

/// A range of a tensor's rows that goes through the device at once.
struct Piece {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

/// Cuts a tensor so that weights and decoded values of a piece fit the device, prepared and restored ones too if
/// there are such; pieces begin at a scale block.
std::vector<Piece> cut_into_pieces(const model::TensorInfo& tensor, const runtime::Device& device,
                                   bool is_prepared) {
  const std::size_t budget =
      std::max<std::size_t>(1, std::min(kMaxPieceBytes, device.free_memory_bytes() / 2));
  const auto prepared_row = [&] {
    const LayoutKind kind = is_prepared_in_file(tensor) ? LayoutKind::kPrepared
                                                        : rearranged_layout(device.native_target());
    const std::int64_t bytes =
        laid_out_bytes(kind, tensor.format, kUnitRows, tensor.cols()) / kUnitRows;
    return static_cast<std::size_t>(bytes) + model::row_bytes(tensor.format, tensor.cols());
  };
  const std::size_t bytes_per_row = model::row_bytes(tensor.format, tensor.cols()) +
                                    static_cast<std::size_t>(tensor.cols()) * sizeof(float) +
                                    (is_prepared ? prepared_row() : 0);
  std::int64_t rows_per_piece =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(budget / bytes_per_row));
  if (tensor.scale_grid && tensor.scale_grid->block_rows > 1) {
    const std::int64_t block = tensor.scale_grid->block_rows;
    rows_per_piece = std::max(block, rows_per_piece / block * block);
  }
  std::int64_t rows_side_by_side = tensor.rows();
  if (is_prepared_in_file(tensor)) {
    rows_per_piece = std::max<std::int64_t>(1, rows_per_piece / kUnitRows) * kUnitRows;
    if (tensor.ne[1] % kUnitRows != 0) rows_side_by_side = tensor.ne[1];  // then comes padding
  }
  std::vector<Piece> pieces;
  for (std::int64_t first = 0; first < tensor.rows(); first += rows_side_by_side) {
    for (std::int64_t row = 0; row < rows_side_by_side; row += rows_per_piece)
      pieces.push_back({first + row, std::min(rows_per_piece, rows_side_by_side - row)});
  }
  return pieces;
}

/// Bytes of a piece of a tensor that is prepared in the file.
std::span<const std::byte> prepared_piece(const model::TensorInfo& tensor, const Piece& piece) {
  const auto bytes = [&](std::int64_t rows) {
    return rows == 0 ? 0
                     : static_cast<std::size_t>(prepared_bytes(tensor.format, rows, tensor.cols()));
  };
  const std::int64_t rows = tensor.ne[1];
  const std::size_t first = static_cast<std::size_t>(piece.first_row / rows) * bytes(rows) +
                            bytes(piece.first_row % rows);
  return tensor.data.subspan(first, bytes(piece.rows));
}

/// Weights and scales of one piece, on the device: as they are in the file, and native ones that `restore` made of
/// prepared ones.
class PieceOnDevice {
 public:
  PieceOnDevice(runtime::Device& device, runtime::Stream& stream, const model::TensorInfo& tensor,
                const Piece& piece, const LoadedKernel* restore = nullptr) {
    if (is_prepared_in_file(tensor)) {
      restore_piece(device, stream, tensor, piece, *restore);
      return;
    }
    const std::size_t row_size = model::row_bytes(tensor.format, tensor.cols());
    weights_ = runtime::place_on_device(
        device, stream,
        tensor.data.subspan(static_cast<std::size_t>(piece.first_row) * row_size,
                            static_cast<std::size_t>(piece.rows) * row_size));
    arguments_ = {weights_->address()};
    if (!tensor.scale_grid) return;
    const ScaleGrid& grid = *tensor.scale_grid;
    const std::size_t scale_row_size =
        static_cast<std::size_t>(grid.cols_of_scales(tensor.cols())) *
        static_cast<std::size_t>(scale_type_bytes(grid.type));
    const std::int64_t first = grid.block_rows == 0 ? 0 : piece.first_row / grid.block_rows;
    // Of the tensor's scale, which some planes begin with, each piece has its copy.
    const auto header = static_cast<std::size_t>(grid.header_bytes());
    const std::span<const std::byte> scales = tensor.scale_data.subspan(
        header + static_cast<std::size_t>(first) * scale_row_size,
        static_cast<std::size_t>(grid.rows_of_scales(piece.rows)) * scale_row_size);
    if (header == 0) {
      scale_ = runtime::place_on_device(device, stream, scales);
    } else {
      scale_ = device.allocate(header + scales.size());
      device.upload(stream, tensor.scale_data.first(header), *scale_, 0);
      device.upload(stream, scales, *scale_, header);
    }
    arguments_.push_back(scale_->address());
  }

  /// Native ones.
  const runtime::Buffer& weights() const { return *weights_; }

  /// The launch arguments: those of the weights, then `more`.
  std::vector<std::uint64_t> arguments(std::initializer_list<std::uint64_t> more,
                                       LayoutKind layout = LayoutKind::kNative) const {
    std::vector<std::uint64_t> all = arguments_;
    if (layout == LayoutKind::kPrepared) all = {prepared_->address()};
    all.insert(all.end(), more);
    return all;
  }

  double restore_us() const { return restore_us_; }

 private:
  void restore_piece(runtime::Device& device, runtime::Stream& stream,
                     const model::TensorInfo& tensor, const Piece& piece,
                     const LoadedKernel& restore) {
    prepared_ = runtime::place_on_device(device, stream, prepared_piece(tensor, piece));
    weights_ = device.allocate(static_cast<std::size_t>(piece.rows) *
                               model::row_bytes(tensor.format, tensor.cols()));
    device.fill(stream, *weights_, kPoison);
    arguments_ = {weights_->address()};
    std::vector<std::uint64_t> there = {prepared_->address(), weights_->address()};
    if (tensor.scale_grid) {
      scale_ = device.allocate(
          static_cast<std::size_t>(tensor.scale_grid->plane_bytes(piece.rows, tensor.cols())));
      arguments_.push_back(scale_->address());
      there.push_back(scale_->address());
    }
    there.push_back(static_cast<std::uint64_t>(piece.rows));
    restore_us_ = device.time_us(stream, [&] { restore.launch(stream, piece.rows, there); });
  }

  std::unique_ptr<runtime::Buffer> prepared_;
  double restore_us_ = 0.0;
  std::unique_ptr<runtime::Buffer> weights_;
  std::unique_ptr<runtime::Buffer> scale_;
  std::vector<std::uint64_t> arguments_;
};

/// Median time of several launches, after one that warms up.
double median_time_us(runtime::Device& device, runtime::Stream& stream,
                      const std::function<void()>& launch) {
  launch();
  stream.synchronize();
  std::vector<double> times;
  for (int i = 0; i < kTimedLaunches; ++i) times.push_back(device.time_us(stream, launch));
  std::nth_element(times.begin(), times.begin() + kTimedLaunches / 2, times.end());
  return times[kTimedLaunches / 2];
}

/// One kernel's results over all pieces of a tensor.
struct Measured {
  KernelRun run;
  ErrorMeter meter;
};

/// The kernels of a group of tensors, of the plan's. Formats that only dequant reads have no products.
struct GroupKernels {
  const LoadedKernel* dequant = nullptr;
  const LoadedKernel* matvec = nullptr;
  const LoadedKernel* matmul = nullptr;
  const LoadedKernel* moe_matvec = nullptr;  ///< where a tensor of the group stacks experts
  const LoadedKernel* moe_matmul = nullptr;  ///< there as well
};

/// The kernels for any weights, and for formats with NaN codes the scan for them and the kernels for
/// weights that it found finite.
struct GroupChoice {
  GroupKernels any;
  const LoadedKernel* nan_scan = nullptr;
  GroupKernels finite;
  const LoadedKernel* prepare = nullptr;   ///< where matvec reads prepared weights
  const LoadedKernel* restore = nullptr;   ///< there, and where weights are prepared in the file
  const LoadedKernel* quantize = nullptr;  ///< where matmul takes afp8 activations
};

GroupChoice choice_of(std::span<const LoadedKernel* const> kernels) {
  GroupChoice choice;
  for (const LoadedKernel* kernel : kernels) {
    const KernelSpec& spec = kernel->built.spec;
    GroupKernels& set = spec.weights_finite ? choice.finite : choice.any;
    switch (spec.op) {
      case Op::kDequant:
        set.dequant = kernel;
        break;
      case Op::kMatvec:
        set.matvec = kernel;
        break;
      case Op::kMatmul:
        set.matmul = kernel;
        break;
      case Op::kNanScan:
        choice.nan_scan = kernel;
        break;
      case Op::kMoeMatvec:
        set.moe_matvec = kernel;
        break;
      case Op::kMoeMatmul:
        set.moe_matmul = kernel;
        break;
      case Op::kPrepare:
        choice.prepare = kernel;
        break;
      case Op::kRestore:
        choice.restore = kernel;
        break;
      case Op::kQuantize:
        choice.quantize = kernel;
        break;
      case Op::kReadTest:
        KTJIT_UNREACHABLE("an op that a plan has");
    }
  }
  return choice;
}

/// What a kernel of the plan's is launched on, as tuning sees it.
TuningSize size_of(const model::TensorInfo& tensor, Op op) {
  return {tensor.rows(), op == Op::kMatvec ? 1 : op == Op::kMatmul ? kMatmulColumns : 0};
}

class TensorRunner {
 public:
  TensorRunner(Engine& engine, runtime::Device& device, const model::TensorInfo& tensor,
               const GroupChoice& choice)
      : engine_(engine),
        device_(device),
        tensor_(tensor),
        choice_(choice),
        stream_(device.make_stream()),
        rows_(tensor),
        pieces_(cut_into_pieces(tensor, device,
                                choice.prepare != nullptr || is_prepared_in_file(tensor))),
        max_checked_elements_(std::max<std::int64_t>(
            1, kMaxCheckedElements / static_cast<std::int64_t>(pieces_.size()))) {}

  /// Runs dequant, matvec and matmul, as far as the group has them, on each piece while it is on the
  /// device; prepare and restore, where matvec reads prepared weights; then moe_matvec and moe_matmul, if the
  /// tensor stacks experts.
  std::vector<KernelRun> run() {
    const bool is_scanned = choice_.nan_scan != nullptr;
    const bool has_nans = is_scanned && find_nans(*choice_.nan_scan);
    const GroupKernels& kernels = is_scanned && !has_nans ? choice_.finite : choice_.any;
    const bool is_prepared = choice_.prepare != nullptr;
    const bool is_stored_prepared = is_prepared_in_file(tensor_);
    struct Product {
      const LoadedKernel* kernel;
      std::int64_t n;  // rows of x
      Measured measured;
    };
    std::vector<Product> products;
    for (const auto& [kernel, n] :
         {std::pair{kernels.matvec, std::int64_t{1}}, std::pair{kernels.matmul, kMatmulColumns}}) {
      if (kernel != nullptr) products.push_back({kernel, n, begin(*kernel, has_nans)});
    }
    Measured decoded = begin(*kernels.dequant, has_nans);
    Measured prepared, restored;
    if (is_prepared) prepared = begin(*choice_.prepare, has_nans);
    if (is_prepared || is_stored_prepared) restored = begin(*choice_.restore, has_nans);
    std::vector<float> x;
    std::unique_ptr<runtime::Buffer> x_buffer;
    if (!products.empty()) {
      x = make_x(kMatmulColumns);
      x_buffer = device_.allocate(x.size() * sizeof(float));
      device_.upload(*stream_, std::as_bytes(std::span(x)), *x_buffer, 0);
    }
    std::optional<QuantizedX> narrow;
    if (choice_.quantize != nullptr) narrow = quantize_x(x, *x_buffer);
    for (const Piece& piece : pieces_) {
      const PieceOnDevice w(device_, *stream_, tensor_, piece, choice_.restore);
      if (is_stored_prepared) check_restored(piece, w, restored);
      run_dequant(*kernels.dequant, piece, w, decoded);
      std::unique_ptr<runtime::Buffer> prepared_w;
      if (is_prepared) prepared_w = run_prepare(piece, w, prepared, restored);
      for (Product& product : products) {
        const KernelSpec& spec = product.kernel->built.spec;
        const bool was_prepared = spec.layout.kind != LayoutKind::kNative && prepared_w != nullptr;
        std::vector<std::uint64_t> operands =
            was_prepared ? std::vector{prepared_w->address()} : w.arguments({}, spec.layout.kind);
        if (spec.x_scale) {
          operands.insert(operands.end(), {narrow->codes->address(), narrow->scales->address()});
        } else {
          operands.push_back(x_buffer->address());
        }
        run_product(*product.kernel, product.n, piece, operands, spec.x_scale ? narrow->values : x,
                    product.measured);
      }
    }
    const double weight_bytes = static_cast<double>(tensor_.bytes());
    const double decoded_bytes =
        static_cast<double>(tensor_.elements()) * static_cast<double>(sizeof(float));
    std::vector<KernelRun> runs = {end(decoded, weight_bytes + decoded_bytes)};
    if (is_prepared || is_stored_prepared) {
      const double native_bytes =
          static_cast<double>(tensor_.rows()) *
          static_cast<double>(model::row_bytes(tensor_.format, tensor_.cols()));
      const double moved =
          native_bytes +
          (is_stored_prepared ? weight_bytes : static_cast<double>(prepared_bytes(tensor_.rows())));
      if (is_prepared) runs.push_back(end(prepared, moved));
      runs.push_back(end(restored, moved));
    }
    if (narrow) runs.push_back(std::move(narrow->run));
    for (Product& product : products) runs.push_back(end(product.measured, weight_bytes));
    if (experts_of(tensor_) > 0) {
      for (const LoadedKernel* kernel : {kernels.moe_matvec, kernels.moe_matmul})
        if (kernel != nullptr) runs.push_back(run_experts(*kernel, has_nans));
    }
    return runs;
  }

 private:
  /// Of that many rows of the tensor.
  std::int64_t prepared_bytes(std::int64_t rows) const {
    return laid_out_bytes(rearranged_layout(device_.native_target()), tensor_.format, rows,
                          tensor_.cols());
  }

  /// Whether any code of the tensor is a NaN, by the device.
  bool find_nans(const LoadedKernel& nan_scan) {
    const auto found = device_.allocate(sizeof(std::uint32_t));
    device_.fill(*stream_, *found, std::byte{0});
    for (const Piece& piece : pieces_) {
      const PieceOnDevice w(device_, *stream_, tensor_, piece);
      const std::uint64_t arguments[] = {w.weights().address(), found->address(),
                                         static_cast<std::uint64_t>(piece.rows)};
      nan_scan.launch(*stream_, piece.rows, arguments);
      stream_->synchronize();  // before the piece is freed
    }
    std::uint32_t result = 0;
    device_.download(*stream_, *found, 0, std::as_writable_bytes(std::span(&result, 1)));
    stream_->synchronize();
    return result != 0;
  }

  void run_dequant(const LoadedKernel& kernel, const Piece& piece, const PieceOnDevice& w,
                   Measured& measured) {
    const std::size_t cols = static_cast<std::size_t>(tensor_.cols());
    const auto y = device_.allocate(static_cast<std::size_t>(piece.rows) * cols * sizeof(float));
    device_.fill(*stream_, *y, kPoison);
    const auto arguments = w.arguments({y->address(), static_cast<std::uint64_t>(piece.rows)},
                                       kernel.built.spec.layout.kind);
    measured.run.time_us +=
        median_time_us(device_, *stream_, [&] { kernel.launch(*stream_, piece.rows, arguments); });

    std::vector<float> got(cols), want(cols);
    for (std::int64_t row : sample_rows(piece.rows, tensor_.cols(), max_checked_elements_)) {
      device_.download(*stream_, *y, static_cast<std::size_t>(row) * cols * sizeof(float),
                       std::as_writable_bytes(std::span(got)));
      stream_->synchronize();
      const auto [view, at] = rows_.find(piece.first_row + row);
      decode_rows(view, at, 1, want);
      const bool row_is_right = compare_bits(got, want).equal();
      for (std::size_t c = 0; c < cols; ++c) {
        const bool is_right = row_is_right || compare_bits({&got[c], 1}, {&want[c], 1}).equal();
        measured.meter.add(got[c], want[c], is_right, piece.first_row + row,
                           static_cast<std::int64_t>(c));
      }
      ++measured.run.rows_checked;
    }
  }

  /// Compares what restore made of weights that are prepared in the file with what the plain reference makes.
  void check_restored(const Piece& piece, const PieceOnDevice& w, Measured& restored) {
    restored.run.time_us += w.restore_us();
    const std::size_t row_size = model::row_bytes(tensor_.format, tensor_.cols());
    std::vector<std::byte> got(row_size);
    for (std::int64_t row : sample_rows(piece.rows, tensor_.cols(), max_checked_elements_)) {
      device_.download(*stream_, w.weights(), static_cast<std::size_t>(row) * row_size, got);
      stream_->synchronize();
      const auto [view, at] = rows_.find(piece.first_row + row);
      for (std::size_t i = 0; i < row_size; ++i) {
        restored.meter.add(std::to_integer<int>(got[i]), std::to_integer<int>(view.data[i]),
                           got[i] == view.data[i], piece.first_row + row,
                           static_cast<std::int64_t>(i));
      }
      ++restored.run.rows_checked;
    }
  }

  /// The piece's weights prepared, and restored: that is compared, by the values that they mean, with the file's.
  std::unique_ptr<runtime::Buffer> run_prepare(const Piece& piece, const PieceOnDevice& w,
                                               Measured& prepared, Measured& restored) {
    const auto rows = static_cast<std::uint64_t>(piece.rows);
    const std::size_t row_size = model::row_bytes(tensor_.format, tensor_.cols());
    auto y = device_.allocate(static_cast<std::size_t>(prepared_bytes(piece.rows)));
    device_.fill(*stream_, *y, kPoison);
    const std::vector<std::uint64_t> there = w.arguments({y->address(), rows});
    prepared.run.time_us += median_time_us(
        device_, *stream_, [&] { choice_.prepare->launch(*stream_, piece.rows, there); });
    const auto native = device_.allocate(static_cast<std::size_t>(piece.rows) * row_size);
    device_.fill(*stream_, *native, kPoison);
    std::vector<std::uint64_t> back = {y->address(), native->address()};
    std::vector<std::byte> plane;  // of scales, if they are one of their own
    std::unique_ptr<runtime::Buffer> scale;
    if (tensor_.scale_grid) {
      plane.resize(
          static_cast<std::size_t>(tensor_.scale_grid->plane_bytes(piece.rows, tensor_.cols())));
      scale = device_.allocate(plane.size());
      device_.fill(*stream_, *scale, kPoison);
      back.push_back(scale->address());
    }
    back.push_back(rows);
    restored.run.time_us += median_time_us(
        device_, *stream_, [&] { choice_.restore->launch(*stream_, piece.rows, back); });

    std::vector<std::byte> bytes(row_size);
    std::vector<float> got(static_cast<std::size_t>(tensor_.cols())), want(got.size());
    if (scale) device_.download(*stream_, *scale, 0, plane);
    for (std::int64_t row : sample_rows(piece.rows, tensor_.cols(), max_checked_elements_)) {
      device_.download(*stream_, *native, static_cast<std::size_t>(row) * row_size, bytes);
      stream_->synchronize();
      std::vector<std::byte> scales;
      if (scale) scales = scales_of_row(plane, row);
      decode_rows({tensor_.format, 1, tensor_.cols(), bytes, tensor_.scale_grid, scales}, 0, 1,
                  got);
      decode_rows(view_of(tensor_), piece.first_row + row, 1, want);
      for (std::size_t c = 0; c < got.size(); ++c) {
        const bool is_right = compare_bits({&got[c], 1}, {&want[c], 1}).equal();
        for (Measured* measured : {&prepared, &restored}) {
          measured->meter.add(got[c], want[c], is_right, piece.first_row + row,
                              static_cast<std::int64_t>(c));
        }
      }
      ++prepared.run.rows_checked;
      ++restored.run.rows_checked;
    }
    return y;
  }

  /// The plane of scales of one row, from that of a piece.
  std::vector<std::byte> scales_of_row(std::span<const std::byte> plane, std::int64_t row) const {
    const auto header = static_cast<std::size_t>(tensor_.scale_grid->header_bytes());
    const std::size_t bytes =
        static_cast<std::size_t>(tensor_.scale_grid->plane_bytes(1, tensor_.cols())) - header;
    std::vector<std::byte> scales(plane.begin(),
                                  plane.begin() + static_cast<std::ptrdiff_t>(header));
    const auto body = plane.subspan(header + static_cast<std::size_t>(row) * bytes, bytes);
    scales.insert(scales.end(), body.begin(), body.end());
    return scales;
  }

  /// matmul's x in FP8, on the device.
  struct QuantizedX {
    std::unique_ptr<runtime::Buffer> codes;
    std::unique_ptr<runtime::Buffer> scales;
    std::vector<float> values;  ///< what they mean, [kMatmulColumns, cols]
    KernelRun run;
  };

  /// Quantises x [kMatmulColumns, cols]; codes and scales are compared with the reference's, by what they mean.
  QuantizedX quantize_x(std::span<const float> x, const runtime::Buffer& x_buffer) {
    const KernelSpec& spec = choice_.quantize->built.spec;
    const std::int64_t rows = kMatmulColumns;
    const std::int64_t cols = tensor_.cols();
    QuantizedX result;
    result.codes = device_.allocate(x.size());
    result.scales = device_.allocate(static_cast<std::size_t>(spec.scale->plane_bytes(rows, cols)));
    const std::uint64_t arguments[] = {x_buffer.address(), result.codes->address(),
                                       result.scales->address(), static_cast<std::uint64_t>(rows)};
    Measured measured = begin(*choice_.quantize, false);
    measured.run.format = spec.weight;
    measured.run.scale = spec.scale;
    measured.run.rows = rows;
    measured.run.time_us = median_time_us(
        device_, *stream_, [&] { choice_.quantize->launch(*stream_, rows, arguments); });
    std::vector<std::byte> codes(result.codes->bytes()), scales(result.scales->bytes());
    device_.download(*stream_, *result.codes, 0, codes);
    device_.download(*stream_, *result.scales, 0, scales);
    stream_->synchronize();
    const QuantizedRows want = quantize_reference({spec.weight, spec.scale}, x, rows, cols);
    result.values.resize(x.size());
    std::vector<float> wanted(x.size());
    decode_rows({spec.weight, rows, cols, codes, spec.scale, scales}, 0, rows, result.values);
    decode_rows({spec.weight, rows, cols, want.codes, spec.scale, want.scales}, 0, rows, wanted);
    for (std::size_t at = 0; at < wanted.size(); ++at) {
      measured.meter.add(result.values[at], wanted[at],
                         compare_bits({&result.values[at], 1}, {&wanted[at], 1}).equal(),
                         static_cast<std::int64_t>(at) / cols,
                         static_cast<std::int64_t>(at) % cols);
    }
    measured.run.rows_checked = rows;
    result.run = end(measured, static_cast<double>(x.size_bytes() + codes.size() + scales.size()));
    return result;
  }

  /// matvec or matmul with the first n rows of x; `operands`: the addresses of weights, in the kernel's layout,
  /// and of x.
  void run_product(const LoadedKernel& kernel, std::int64_t n, const Piece& piece,
                   const std::vector<std::uint64_t>& operands, std::span<const float> x,
                   Measured& measured) {
    std::vector<float> got(static_cast<std::size_t>(n * piece.rows));
    const auto y = device_.allocate(got.size() * sizeof(float));
    device_.fill(*stream_, *y, kPoison);
    std::vector<std::uint64_t> arguments = operands;
    arguments.insert(arguments.end(), {y->address(), static_cast<std::uint64_t>(piece.rows),
                                       static_cast<std::uint64_t>(n)});
    measured.run.time_us += median_time_us(
        device_, *stream_, [&] { kernel.launch(*stream_, piece.rows, arguments, n); });
    device_.download(*stream_, *y, 0, std::as_writable_bytes(std::span(got)));
    stream_->synchronize();

    const auto x_used = x.first(static_cast<std::size_t>(n * tensor_.cols()));
    std::vector<double> want(static_cast<std::size_t>(n)), sum_of_magnitudes(want.size());
    for (std::int64_t row : sample_rows(piece.rows, n * tensor_.cols(), max_checked_elements_)) {
      const auto [view, at_row] = rows_.find(piece.first_row + row);
      matvec_reference(view, x_used, static_cast<int>(n), at_row, 1, want, sum_of_magnitudes);
      for (std::int64_t j = 0; j < n; ++j) {
        const std::size_t at = static_cast<std::size_t>(j);
        const double y_row = got[static_cast<std::size_t>(j * piece.rows + row)];
        const bool is_right = is_right_product(tensor_.cols(), FormatId::kF32, y_row, want[at],
                                               sum_of_magnitudes[at]);
        measured.meter.add(y_row, want[at], is_right, j, piece.first_row + row);
      }
      ++measured.run.rows_checked;
    }
  }

  /// The stack's experts prepared, one after another; `scale`: their planes of scales, or null.
  std::unique_ptr<runtime::Buffer> prepare_experts(const ExpertStackView& stack,
                                                   const runtime::Buffer& native,
                                                   const runtime::Buffer* scale) {
    const auto bytes =
        static_cast<std::uint64_t>(ktjit::prepared_bytes(stack.format, stack.rows, stack.cols));
    const auto experts = static_cast<std::uint64_t>(stack.experts);
    auto prepared = device_.allocate(experts * bytes);
    for (std::uint64_t expert = 0; expert < experts; ++expert) {
      std::vector<std::uint64_t> arguments = {native.address() +
                                              expert * (stack.data.size() / experts)};
      if (scale != nullptr) {
        const std::int64_t plane = expert_scale_bytes(*stack.scale_grid, stack.rows, stack.cols);
        arguments.push_back(scale->address() + expert * static_cast<std::uint64_t>(plane));
      }
      arguments.push_back(prepared->address() + expert * bytes);
      arguments.push_back(static_cast<std::uint64_t>(stack.rows));
      choice_.prepare->launch(*stream_, stack.rows, arguments);
    }
    stream_->synchronize();  // before the native bytes are freed
    return prepared;
  }

  /// The first experts of the tensor, as the kernel reads them.
  struct Experts {
    std::int64_t experts = 0;
    std::int64_t rows = 0;  ///< of one
    std::unique_ptr<runtime::Buffer> w;
    std::unique_ptr<runtime::Buffer> scale;
  };

  /// As many as a piece may hold.
  Experts load_experts(const LoadedKernel& kernel) {
    const bool reads_prepared = kernel.built.spec.layout.kind == LayoutKind::kPrepared;
    const std::int64_t all = experts_of(tensor_);
    const std::size_t budget = std::min(kMaxPieceBytes, device_.free_memory_bytes() / 2);
    const std::int64_t count = std::clamp<std::int64_t>(
        static_cast<std::int64_t>(budget / (tensor_.bytes() / all)), 1, all);
    Experts experts{count, tensor_.rows() / all, {}, {}};
    if (is_prepared_in_file(tensor_)) {
      experts.w = runtime::place_on_device(
          device_, *stream_,
          tensor_.data.first(tensor_.data.size() / static_cast<std::size_t>(all) *
                             static_cast<std::size_t>(count)));
      if (!reads_prepared) restore_experts(experts);
      return experts;
    }
    const ExpertStack whole = split_into_experts(view_of(tensor_), all);
    const ExpertStackView stack = whole.view.first(count);
    experts.w = runtime::place_on_device(device_, *stream_, stack.data);
    if (stack.scale_grid)
      experts.scale = runtime::place_on_device(device_, *stream_, stack.scale_data);
    if (reads_prepared) {
      experts.w = prepare_experts(stack, *experts.w, experts.scale.get());
      experts.scale.reset();
    }
    return experts;
  }

  /// Makes native experts, one after another, of prepared ones.
  void restore_experts(Experts& experts) {
    const auto count = static_cast<std::uint64_t>(experts.experts);
    const std::uint64_t prepared_size = experts.w->bytes() / count;
    const std::uint64_t native_size =
        static_cast<std::uint64_t>(experts.rows) * model::row_bytes(tensor_.format, tensor_.cols());
    const auto prepared = std::exchange(experts.w, device_.allocate(count * native_size));
    std::uint64_t plane = 0;
    if (tensor_.scale_grid) {
      plane = static_cast<std::uint64_t>(
          expert_scale_bytes(*tensor_.scale_grid, experts.rows, tensor_.cols()));
      experts.scale = device_.allocate(count * plane);
    }
    for (std::uint64_t expert = 0; expert < count; ++expert) {
      std::vector<std::uint64_t> arguments = {prepared->address() + expert * prepared_size,
                                              experts.w->address() + expert * native_size};
      if (experts.scale) arguments.push_back(experts.scale->address() + expert * plane);
      arguments.push_back(static_cast<std::uint64_t>(experts.rows));
      choice_.restore->launch(*stream_, experts.rows, arguments);
    }
    stream_->synchronize();  // before the prepared bytes are freed
  }

  /// moe_matvec with one row of x for all slots, each slot with an expert of its own, from the first to the
  /// last; moe_matmul with several such rows, each of whose experts come after those of the row before. Of a tensor
  /// that is too large for a piece, the first experts alone.
  KernelRun run_experts(const LoadedKernel& kernel, bool has_nans) {
    const Experts stack = load_experts(kernel);
    const std::int64_t slots_per_x = std::min(kExpertSlots, stack.experts);
    const std::int64_t x_rows = kernel.built.spec.op == Op::kMoeMatmul ? kExpertTokens : 1;
    const std::int64_t slots = x_rows * slots_per_x;
    std::vector<std::int32_t> ids;
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      const std::int64_t last = std::max<std::int64_t>(slots_per_x - 1, 1);
      const std::int64_t first =
          (slots_per_x - 1 - slot % slots_per_x) * (stack.experts - 1) / last;
      ids.push_back(static_cast<std::int32_t>((first + slot / slots_per_x) % stack.experts));
    }
    const std::vector<float> x = make_x(x_rows);
    std::vector<float> got(static_cast<std::size_t>(slots * stack.rows));

    Measured measured = begin(kernel, has_nans);
    measured.run.rows = stack.rows;
    std::vector<std::uint64_t> arguments = {stack.w->address()};
    if (stack.scale) arguments.push_back(stack.scale->address());
    const auto ids_there =
        runtime::place_on_device(device_, *stream_, std::as_bytes(std::span(ids)));
    const auto x_there = runtime::place_on_device(device_, *stream_, std::as_bytes(std::span(x)));
    const auto y = device_.allocate(got.size() * sizeof(float));
    device_.fill(*stream_, *y, kPoison);
    arguments.insert(arguments.end(), {ids_there->address(), x_there->address(), y->address()});
    for (const std::int64_t count : {stack.rows, slots, slots_per_x, stack.experts})
      arguments.push_back(static_cast<std::uint64_t>(count));
    measured.run.time_us = median_time_us(
        device_, *stream_, [&] { kernel.launch(*stream_, stack.rows, arguments, slots); });
    device_.download(*stream_, *y, 0, std::as_writable_bytes(std::span(got)));
    stream_->synchronize();

    const auto cols = static_cast<std::size_t>(tensor_.cols());
    std::vector<double> want(ids.size()), sum_of_magnitudes(ids.size());
    for (std::int64_t row :
         sample_rows(stack.rows, slots * tensor_.cols(), max_checked_elements_)) {
      for (std::size_t slot = 0; slot < ids.size(); ++slot) {
        const auto [view, at] = rows_.find(ids[slot] * stack.rows + row);
        const std::size_t x_row = slot / static_cast<std::size_t>(slots_per_x);
        matvec_reference(view, std::span(x).subspan(x_row * cols, cols), 1, at, 1,
                         std::span(want).subspan(slot, 1),
                         std::span(sum_of_magnitudes).subspan(slot, 1));
        const double y_row =
            got[slot * static_cast<std::size_t>(stack.rows) + static_cast<std::size_t>(row)];
        const bool is_right = is_right_product(tensor_.cols(), FormatId::kF32, y_row, want[slot],
                                               sum_of_magnitudes[slot]);
        measured.meter.add(y_row, want[slot], is_right, static_cast<std::int64_t>(slot), row);
      }
      ++measured.run.rows_checked;
    }
    std::ranges::sort(ids);
    const auto used = std::ranges::unique(ids).begin() - ids.begin();
    return end(measured, static_cast<double>(tensor_.bytes() /
                                             static_cast<std::uint64_t>(experts_of(tensor_))) *
                             static_cast<double>(used));
  }

  /// [n, cols]
  std::vector<float> make_x(std::int64_t n) const {
    std::vector<float> x(static_cast<std::size_t>(n * tensor_.cols()));
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i + 1)));
    return x;
  }

  Measured begin(const LoadedKernel& kernel, bool has_nans) const {
    Measured measured;
    KernelRun& run = measured.run;
    run.tensor = tensor_.name;
    run.op = kernel.built.spec.op;
    run.layout = kernel.built.spec.layout.kind;
    run.format = tensor_.format;
    run.scale = tensor_.scale_grid;
    run.rows = tensor_.rows();
    run.cols = tensor_.cols();
    run.lowering = kernel.built.emitted.lowering.summary;
    if (has_nans) run.lowering += ", has NaN or infinite codes (scanned)";
    const KernelSpec& spec = kernel.built.spec;
    run.tuned = engine_.tuned_knobs(device_, without_tuning(spec), size_of(tensor_, spec.op));
    if (run.tuned && run.tuned->tuning != spec.tuning) run.tuned.reset();
    run.cached = kernel.built.from_cache();
    run.compile_ms = run.cached ? 0.0 : kernel.built.artifact.compile_ms;
    return measured;
  }

  KernelRun end(Measured& measured, double bytes_moved) const {
    KernelRun& run = measured.run;
    run.gbps = run.time_us > 0 ? bytes_moved / run.time_us / 1e3 : 0.0;
    run.fits_in_cache = bytes_moved < 2.0 * static_cast<double>(device_.last_level_cache_bytes());
    run.max_abs_err = measured.meter.max_abs_error();
    run.max_rel_err = measured.meter.max_rel_error();
    run.problem = measured.meter.problem();
    run.ok = run.problem.empty() && run.rows_checked > 0;
    return run;
  }

  Engine& engine_;
  runtime::Device& device_;
  const model::TensorInfo& tensor_;
  GroupChoice choice_;
  std::unique_ptr<runtime::Stream> stream_;
  ReferenceRows rows_;
  std::vector<Piece> pieces_;
  std::int64_t max_checked_elements_;  // of one piece, per op
};

}  // namespace

namespace {

/// The read test as the device's own code; sealed, as code of the model's target; if it is in no pack
/// either, nothing.
std::optional<LoadedKernel> load_read_test(Engine& engine, runtime::Device& device,
                                           const Target& target) {
  for (const Target* choice : {&device.native_target(), &target}) {
    try {
      return engine.load(device, make_read_test_spec(*choice));
    } catch (const MissingKernelError&) {
      // What is compared with it is not shown then.
    }
  }
  return std::nullopt;
}

}  // namespace

double measure_read_gbps(Engine& engine, runtime::Device& device, const Target& target) {
  constexpr int kPasses = 5;
  const std::optional<LoadedKernel> kernel = load_read_test(engine, device, target);
  if (!kernel) return 0.0;

  const std::size_t at_least = 8 * device.last_level_cache_bytes();
  const std::size_t wanted = std::clamp(at_least, std::size_t{256} << 20, std::size_t{1} << 30);
  const std::int64_t rows = static_cast<std::int64_t>(
      std::min(wanted, device.free_memory_bytes() / 2) / kReadTestRowBytes);
  if (rows < 1) return 0.0;
  const std::size_t bytes = static_cast<std::size_t>(rows) * kReadTestRowBytes;
  const auto stream = device.make_stream();
  const auto w = device.allocate(bytes);
  const auto y = device.allocate(static_cast<std::size_t>(rows) * sizeof(std::uint32_t));
  device.fill(*stream, *w, std::byte{0x5a});
  device.fill(*stream, *y, std::byte{0});
  double best_us = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < kPasses; ++pass) {
    const std::uint64_t arguments[] = {w->address(), y->address(),
                                       static_cast<std::uint64_t>(rows)};
    best_us = std::min(best_us,
                       device.time_us(*stream, [&] { kernel->launch(*stream, rows, arguments); }));
  }
  return static_cast<double>(bytes) / best_us / 1e3;
}

RunReport run_model(Engine& engine, runtime::Device& device, const Target& target,
                    const model::Model& model, const RunOptions& options) {
  return run_tensors(engine, device, target, plan_all(model, options.matvec_layout), options);
}

RunReport run_tensors(Engine& engine, runtime::Device& device, const Target& target,
                      std::span<const PlannedTensor> tensors, const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  RunReport report;
  report.device = device.name();
  report.device_description = device.description();
  report.target = target.name();
  report.route = engine.describe_route(device, target);
  Plan plan = make_plan(tensors, target);
  report.skipped = std::move(plan.skipped);

  // Each tensor's kernels have the knobs for its size; most tensors of a group share them.
  struct Work {
    const model::TensorInfo* tensor;
    std::vector<std::size_t> kernels;  // places in specs
  };
  std::vector<KernelSpec> specs;
  std::vector<Work> work;
  for (const TensorGroup& group : plan.groups) {
    const auto first_of_group = static_cast<std::ptrdiff_t>(specs.size());
    bool has_experts = false;
    for (const model::TensorInfo* tensor : group.tensors) {
      // One tensor of each group, and one that stacks experts: it has a kernel that others don't need.
      const bool is_first = tensor == group.tensors.front();
      const bool brings_experts = !has_experts && experts_of(*tensor) > 0;
      has_experts = has_experts || brings_experts;
      if (!options.all_tensors && !is_first && !brings_experts) continue;
      Work& item = work.emplace_back(Work{tensor, {}});
      for (const KernelSpec& kernel : group.kernels) {
        KernelSpec spec = engine.tuned(device, kernel, size_of(*item.tensor, kernel.op));
        const auto known = std::find(specs.begin() + first_of_group, specs.end(), spec);
        item.kernels.push_back(static_cast<std::size_t>(known - specs.begin()));
        if (known == specs.end()) specs.push_back(std::move(spec));
      }
    }
  }
  std::vector<LoadedKernel> kernels;
  try {
    kernels =
        engine.load_all(device, specs, options.compile_threads, options.on_kernel, options.stop);
  } catch (const InterruptedError&) {
    report.interrupted = true;
    return report;
  }
  report.ready_ms = ms_since(start);
  for (const LoadedKernel& kernel : kernels)
    ++(kernel.built.from_cache() ? report.cache_hits : report.compiled);

  if (!work.empty()) report.read_gbps = measure_read_gbps(engine, device, target);

  for (std::size_t i = 0; i < work.size(); ++i) {
    if (options.stop.stop_requested()) {
      report.interrupted = true;
      break;
    }
    std::vector<const LoadedKernel*> of_tensor;
    for (const std::size_t place : work[i].kernels) of_tensor.push_back(&kernels[place]);
    std::optional<OwnedTensor> loaded;
    if (options.load) loaded = options.load(*work[i].tensor);
    const model::TensorInfo& tensor = loaded ? loaded->tensor : *work[i].tensor;
    TensorRunner runner(engine, device, tensor, choice_of(of_tensor));
    for (KernelRun& run : runner.run()) {
      report.kernels.push_back(std::move(run));
    }
    if (options.on_tensor) options.on_tensor(i + 1, work.size(), work[i].tensor->name);
  }
  report.ok = !report.kernels.empty() && !report.interrupted &&
              std::all_of(report.kernels.begin(), report.kernels.end(),
                          [](const KernelRun& run) { return run.ok; });
  return report;
}

}  // namespace ktjit
