// Pieces are whole tiles of rows of one matrix; tiles are what kernels take and what lies together in the output.
#include "convert/prepare_job.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "convert/piece_worker.h"
#include "convert/weight_source.h"

#include "core/error.h"
#include "core/prepared_layout.h"
#include "core/tensor_layout.h"
#include "model/described_tensors.h"

namespace ktjit::convert {
namespace {

constexpr std::uint64_t kPieceBytes = std::uint64_t{4} << 20;

/// Rows of a matrix that one piece has.
struct Rows {
  std::int64_t matrix;
  std::int64_t first;
  std::int64_t count;
};

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

/// A tensor's matrices cut into whole tiles.
class Tiles {
 public:
  explicit Tiles(const model::TensorInfo& tensor) : tensor_(tensor) {
    const auto tile_bytes = kUnitRows * model::row_bytes(tensor.format, tensor.cols());
    piece_rows_ =
        kUnitRows * static_cast<std::int64_t>(std::max<std::uint64_t>(kPieceBytes / tile_bytes, 1));
    pieces_a_matrix_ = (rows() - 1) / piece_rows_ + 1;
  }

  std::int64_t rows() const { return tensor_.ne[1]; }
  std::int64_t cols() const { return tensor_.cols(); }
  std::int64_t matrices() const { return tensor_.ne[2] * tensor_.ne[3]; }
  std::int64_t count() const { return matrices() * pieces_a_matrix_; }
  Rows at(std::int64_t piece) const {
    const std::int64_t first = piece % pieces_a_matrix_ * piece_rows_;
    return {piece / pieces_a_matrix_, first, std::min(piece_rows_, rows() - first)};
  }

  std::size_t prepared_size(std::int64_t rows) const {
    return rows == 0 ? 0 : to_size(prepared_bytes(tensor_.format, rows, cols()));
  }
  /// Where the rows begin in the tensor prepared.
  std::size_t prepared_offset(const Rows& rows_there) const {
    return to_size(rows_there.matrix) * prepared_size(rows()) + prepared_size(rows_there.first);
  }
  /// The rows' number in the tensor.
  std::int64_t row(const Rows& rows_there) const {
    return rows_there.matrix * rows() + rows_there.first;
  }

 private:
  const model::TensorInfo& tensor_;
  std::int64_t piece_rows_;
  std::int64_t pieces_a_matrix_;
};

WeightSource source_of(const model::TensorInfo& tensor) {
  WeightSource source;
  source.name = tensor.name;
  for (int i = std::max(tensor.n_dims, 2) - 1; i >= 0; --i)
    source.shape.push_back(tensor.ne[to_size(i)]);
  source.parts = {{&tensor, 0, tensor.rows()}};
  return source;
}

/// Rows of a native tensor, prepared and restored again: what is prepared, and whether that gave the same bytes.
struct Attempt {
  std::span<const std::byte> prepared;
  bool comes_back;
};

Attempt prepare_and_restore(const ScaledTensorView& rows, PieceWorker& worker) {
  const auto prepared = worker.prepare(rows);
  const PieceWorker::Codes back = worker.restore(rows.format, rows.rows, rows.cols, prepared);
  return {prepared, std::ranges::equal(back.codes, rows.data) &&
                        std::ranges::equal(back.scales, rows.scale_data)};
}

class PrepareJob : public TensorJob {
 public:
  explicit PrepareJob(const model::TensorInfo& tensor)
      : tensor_(tensor),
        tiles_(tensor),
        source_(source_of(tensor)),
        outputs_{described_output(tensor, LayoutKind::kPrepared)} {}

  const std::vector<OutputTensor>& outputs() const override { return outputs_; }
  std::int64_t pieces() const override { return tiles_.count(); }
  std::uint64_t piece_input_bytes(std::int64_t piece) const override {
    return static_cast<std::uint64_t>(tiles_.at(piece).count) * source_.row_bytes(0);
  }
  std::string recipe() const override {
    return fmt::format("{} prepared as {} version {}", get_format(tensor_.format).name,
                       kPreparedLayoutName, kPreparedLayoutVersion);
  }

  void produce(std::int64_t piece, PieceWorker& worker, const PieceSink& sink) const override {
    const Rows rows = tiles_.at(piece);
    std::vector<std::byte> scratch;
    const auto [prepared, comes_back] =
        prepare_and_restore(source_.view(rows.matrix, rows.first, rows.count, scratch), worker);
    if (!comes_back) {
      throw InputError(
          fmt::format("tensor '{}'", tensor_.name),
          fmt::format("rows {} to {} have changed since they were first read: what is prepared of "
                      "them doesn't give them back",
                      tiles_.row(rows), tiles_.row(rows) + rows.count - 1));
    }
    sink(0, tiles_.prepared_offset(rows), prepared);
  }

 private:
  const model::TensorInfo& tensor_;
  Tiles tiles_;
  WeightSource source_;
  std::vector<OutputTensor> outputs_;
};

class RestoreJob : public TensorJob {
 public:
  RestoreJob(const model::TensorInfo& tensor, std::vector<OutputTensor> outputs)
      : tensor_(tensor), tiles_(tensor), outputs_(std::move(outputs)) {
    KTJIT_CHECK(tensor.layout == LayoutKind::kPrepared);
  }

  const std::vector<OutputTensor>& outputs() const override { return outputs_; }
  std::int64_t pieces() const override { return tiles_.count(); }
  std::uint64_t piece_input_bytes(std::int64_t piece) const override {
    return tiles_.prepared_size(tiles_.at(piece).count);
  }
  std::string recipe() const override {
    return fmt::format("{} restored", get_format(tensor_.format).name);
  }

  void produce(std::int64_t piece, PieceWorker& worker, const PieceSink& sink) const override {
    const Rows rows = tiles_.at(piece);
    const PieceWorker::Codes native = worker.restore(
        tensor_.format, rows.count, tiles_.cols(),
        tensor_.data.subspan(tiles_.prepared_offset(rows), tiles_.prepared_size(rows.count)));
    const auto first_row = static_cast<std::uint64_t>(tiles_.row(rows));
    sink(0, first_row * (native.codes.size() / static_cast<std::uint64_t>(rows.count)),
         native.codes);
    if (!tensor_.scale_grid) return;
    const auto header = to_size(tensor_.scale_grid->header_bytes());
    const auto scales = native.scales.subspan(header);
    sink(1, first_row * (scales.size() / static_cast<std::uint64_t>(rows.count)), scales);
    constexpr std::size_t kTensorScaleBytes = 4;
    if (header != 0 && piece == 0) sink(2, 0, native.scales.first(kTensorScaleBytes));
  }

 private:
  const model::TensorInfo& tensor_;
  Tiles tiles_;
  std::vector<OutputTensor> outputs_;
};

class BytesJob : public TensorJob {
 public:
  BytesJob(const model::TensorInfo& tensor, OutputTensor output)
      : tensor_(tensor), outputs_{std::move(output)} {
    KTJIT_CHECK(outputs_.front().bytes == tensor.data.size());
  }

  const std::vector<OutputTensor>& outputs() const override { return outputs_; }
  std::int64_t pieces() const override {
    return static_cast<std::int64_t>(
        std::max<std::uint64_t>((tensor_.data.size() + kPieceBytes - 1) / kPieceBytes, 1));
  }
  std::uint64_t piece_input_bytes(std::int64_t piece) const override { return part(piece).size(); }
  std::string recipe() const override { return "its bytes"; }

  void produce(std::int64_t piece, PieceWorker&, const PieceSink& sink) const override {
    sink(0, static_cast<std::uint64_t>(piece) * kPieceBytes, part(piece));
  }

 private:
  std::span<const std::byte> part(std::int64_t piece) const {
    const std::uint64_t first = static_cast<std::uint64_t>(piece) * kPieceBytes;
    return tensor_.data.subspan(first, std::min(kPieceBytes, tensor_.data.size() - first));
  }

  const model::TensorInfo& tensor_;
  std::vector<OutputTensor> outputs_;
};

}  // namespace

std::unique_ptr<TensorJob> make_prepare_job(const model::TensorInfo& tensor) {
  return std::make_unique<PrepareJob>(tensor);
}

std::unique_ptr<TensorJob> make_restore_job(const model::TensorInfo& tensor,
                                            std::vector<OutputTensor> outputs) {
  return std::make_unique<RestoreJob>(tensor, std::move(outputs));
}

std::unique_ptr<TensorJob> make_bytes_job(const model::TensorInfo& tensor, OutputTensor output) {
  return std::make_unique<BytesJob>(tensor, std::move(output));
}

bool comes_back_whole(const model::TensorInfo& tensor, PieceWorker& worker) {
  constexpr std::array kWithEquals = {FormatId::kTQ1_0, FormatId::kGgmlNvfp4, FormatId::kMxfp4,
                                      FormatId::kNvfp4};
  if (std::ranges::find(kWithEquals, tensor.format) == kWithEquals.end()) return true;
  const Tiles tiles(tensor);
  const WeightSource source = source_of(tensor);
  std::vector<std::byte> scratch;
  for (std::int64_t piece = 0; piece < tiles.count(); ++piece) {
    const Rows rows = tiles.at(piece);
    const auto view = source.view(rows.matrix, rows.first, rows.count, scratch);
    if (!prepare_and_restore(view, worker).comes_back) return false;
  }
  return true;
}

OutputTensor described_output(const model::TensorInfo& tensor, LayoutKind layout) {
  OutputTensor output;
  output.name = tensor.name;
  output.dtype = FormatId::kU8;
  output.description = model::description_of(tensor);
  output.description->layout = layout;
  const std::int64_t bytes = model::described_bytes(*output.description);
  output.shape = {bytes};
  output.bytes = static_cast<std::uint64_t>(bytes);
  return output;
}

}  // namespace ktjit::convert
