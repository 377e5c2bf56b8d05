// Pieces are a few million elements whatever the device, so that they are numbered alike everywhere; within a
// piece, work is done in steps that the caches hold.
#include "convert/weight_job.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <numeric>
#include <optional>

#include "convert/piece_worker.h"

#include "core/error.h"
#include "core/tensor_layout.h"
#include "jit/reference_encode.h"

namespace ktjit::convert {
namespace {

constexpr std::int64_t kPieceElems = std::int64_t{4} << 20;
constexpr std::int64_t kHostStepElems = std::int64_t{64} << 10;  // f32: half of a usual L2

std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

/// Rows of a matrix that one piece makes.
struct Rows {
  std::int64_t matrix;
  std::int64_t first;
  std::int64_t count;
};

/// What all weights share: the source cut into pieces of whole steps of rows.
class WeightJob : public TensorJob {
 public:
  WeightJob(WeightSource source, std::vector<OutputTensor> outputs, std::int64_t step_rows,
            std::string recipe)
      : source_(std::move(source)), outputs_(std::move(outputs)), recipe_(std::move(recipe)) {
    if (source_.order != RowOrder::kAsIs) {
      KTJIT_CHECK(source_.head_rows > 0 && source_.rows() % source_.head_rows == 0);
      step_rows = std::lcm(step_rows, source_.head_rows);
      recipe_ += source_.order == RowOrder::kInterleave ? ", interleaved" : ", deinterleaved";
    }
    step_rows_ = std::lcm(step_rows, source_.scale_step_rows());
    const std::int64_t cols = std::max<std::int64_t>(source_.cols(), 1);
    piece_rows_ = round_up(std::max<std::int64_t>(kPieceElems / cols, 1), step_rows_);
    pieces_a_matrix_ = std::max<std::int64_t>((source_.rows() + piece_rows_ - 1) / piece_rows_, 1);
  }

  const std::vector<OutputTensor>& outputs() const override { return outputs_; }
  std::int64_t pieces() const override {
    return std::max<std::int64_t>(pieces_a_matrix_ * source_.matrices(), 1);
  }
  std::uint64_t piece_input_bytes(std::int64_t piece) const override {
    if (is_empty()) return 0;
    const Rows rows = rows_of(piece);
    return static_cast<std::uint64_t>(rows.count) * source_.row_bytes(rows.matrix);
  }
  std::string recipe() const override { return recipe_; }

  void produce(std::int64_t piece, PieceWorker& worker, const PieceSink& sink) const override {
    if (piece == 0) produce_constants(sink);
    if (is_empty()) return;
    const Rows rows = rows_of(piece);
    const std::int64_t step = worker.is_host() ? host_step() : rows.count;
    for (std::int64_t at = 0; at < rows.count; at += step) {
      produce_rows({rows.matrix, rows.first + at, std::min(step, rows.count - at)}, worker, sink);
    }
  }

 protected:
  virtual void produce_rows(const Rows& rows, PieceWorker& worker, const PieceSink& sink) const = 0;
  /// What depends on no rows: a type, one scale for all.
  virtual void produce_constants(const PieceSink&) const {}

  const WeightSource& source() const { return source_; }
  bool is_empty() const {
    return source_.cols() == 0 || source_.rows() == 0 || source_.matrices() == 0;
  }
  bool permutes() const { return source_.order != RowOrder::kAsIs; }

  Rows rows_of(std::int64_t piece) const {
    const std::int64_t matrix = piece / pieces_a_matrix_;
    const std::int64_t first = piece % pieces_a_matrix_ * piece_rows_;
    return {matrix, first, std::min(piece_rows_, source_.rows() - first)};
  }
  std::int64_t host_step() const {
    return round_up(std::max<std::int64_t>(kHostStepElems / source_.cols(), 1), step_rows_);
  }

  /// The place of a row in a tensor of rows of `row_bytes`.
  std::uint64_t row_offset(const Rows& rows, std::uint64_t row_bytes) const {
    return static_cast<std::uint64_t>(rows.matrix * source_.rows() + rows.first) * row_bytes;
  }

  ScaledTensorView view(const Rows& rows) const {
    static thread_local std::vector<std::byte> scratch;
    return source_.view(rows.matrix, rows.first, rows.count, scratch);
  }

  /// Rows of bytes in the output's order.
  std::span<const std::byte> in_order(std::span<const std::byte> bytes,
                                      std::size_t row_bytes) const {
    if (!permutes()) return bytes;
    static thread_local std::vector<std::byte> permuted;
    permuted.resize(bytes.size());
    const auto rows = static_cast<std::int64_t>(bytes.size() / row_bytes);
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t from = source_row(source_.order, source_.head_rows, row);
      std::memcpy(permuted.data() + static_cast<std::size_t>(row) * row_bytes,
                  bytes.data() + static_cast<std::size_t>(from) * row_bytes, row_bytes);
    }
    return permuted;
  }

  [[noreturn]] void fail(const Rows& rows, std::string_view problem) const {
    throw InputError(
        fmt::format("tensor '{}'", source_.first().name),
        fmt::format("rows {} to {} {}", rows.first, rows.first + rows.count - 1, problem));
  }

 private:
  WeightSource source_;
  std::vector<OutputTensor> outputs_;
  std::string recipe_;
  std::int64_t step_rows_ = 1;
  std::int64_t piece_rows_ = 1;
  std::int64_t pieces_a_matrix_ = 1;
};

std::string format_text(const WeightFormat& format) {
  return format.scale ? fmt::format("{} {}", format.name(), scale_grid_name(format.scale))
                      : std::string(format.name());
}

class CopyJob : public WeightJob {
 public:
  CopyJob(WeightSource source, std::vector<OutputTensor> outputs)
      : WeightJob(source, std::move(outputs), 1, "copied") {}

 private:
  void produce_rows(const Rows& rows, PieceWorker&, const PieceSink& sink) const override {
    const ScaledTensorView w = view(rows);
    const std::uint64_t bytes = model::row_bytes(w.format, w.cols);
    sink(0, row_offset(rows, bytes), in_order(w.data, bytes));
    if (!w.scale_grid || w.scale_grid->block_rows == 0) return;
    const auto header = static_cast<std::size_t>(w.scale_grid->header_bytes());
    const auto scales = w.scale_data.subspan(header);
    const std::uint64_t at = scale_offset(source(), *w.scale_grid, rows.matrix, rows.first);
    // One scale a row follows its row; blocks of whole heads stay where they are.
    const bool moves = w.scale_grid->block_rows == 1;
    sink(1, at,
         moves ? in_order(scales, scales.size() / static_cast<std::size_t>(rows.count)) : scales);
  }

  void produce_constants(const PieceSink& sink) const override {
    const model::TensorInfo& tensor = source().first();
    if (!tensor.scale_grid) return;
    const auto header = static_cast<std::size_t>(tensor.scale_grid->header_bytes());
    if (tensor.scale_grid->block_rows == 0) sink(1, 0, tensor.scale_data.subspan(header));
    if (header != 0) sink(2, 0, tensor.scale_data.first(sizeof(float)));
  }
};

class RawJob : public WeightJob {
 public:
  RawJob(WeightSource source, std::vector<OutputTensor> outputs)
      : WeightJob(source, std::move(outputs), 1, "ggml's bytes") {}

 private:
  void produce_rows(const Rows& rows, PieceWorker&, const PieceSink& sink) const override {
    const ScaledTensorView w = view(rows);
    const std::uint64_t bytes = model::row_bytes(w.format, w.cols);
    sink(0, row_offset(rows, bytes), in_order(w.data, bytes));
  }
  void produce_constants(const PieceSink& sink) const override {
    const std::int64_t type = get_format(source().first().format).ggml_type;
    sink(1, 0, std::as_bytes(std::span(&type, 1)));
  }
};

class FloatJob : public WeightJob {
 public:
  FloatJob(WeightSource source, FormatId to, std::vector<OutputTensor> outputs)
      : WeightJob(source, std::move(outputs), 1, std::string(get_format(to).name)), to_(to) {}

 private:
  void produce_rows(const Rows& rows, PieceWorker& worker, const PieceSink& sink) const override {
    const std::uint64_t bytes = model::row_bytes(to_, source().cols());
    sink(0, row_offset(rows, bytes), in_order(worker.decode(view(rows), to_), bytes));
  }

  FormatId to_;
};

/// Codes and scales as kernels make them, which may need the tensor's scale of NVFP4.
class QuantizeJob : public WeightJob {
 public:
  QuantizeJob(WeightSource source, const WeightFormat& to, std::vector<OutputTensor> outputs)
      : WeightJob(source, std::move(outputs),
                  to.scale ? std::max<std::int64_t>(to.scale->block_rows, 1) : 1, format_text(to)),
        to_(to) {}

  bool needs_survey() const override { return to_.scale && to_.scale->header_bytes() != 0; }
  void survey(std::int64_t piece, PieceWorker& worker) override {
    if (is_empty()) return;
    const Rows all = rows_of(piece);
    for (std::int64_t at = 0; at < all.count; at += host_step()) {
      const Rows rows{all.matrix, all.first + at, std::min(host_step(), all.count - at)};
      largest_.add(worker.decode_on_host(view(rows)));
    }
  }

 protected:
  /// The largest finite magnitude that any thread has seen.
  class Largest {
   public:
    void add(std::span<const float> values) {
      std::uint32_t largest = 0;
      for (const float value : values) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(value) & 0x7fffffffu;
        largest = std::max(largest, bits < 0x7f800000u ? bits : 0u);
      }
      std::uint32_t before = bits_.load();
      while (before < largest && !bits_.compare_exchange_weak(before, largest)) {
      }
    }
    float value() const { return std::bit_cast<float>(bits_.load()); }

   private:
    std::atomic<std::uint32_t> bits_ = 0;
  };

  const WeightFormat& to() const { return to_; }
  float largest() const { return largest_.value(); }

  void give_codes(const Rows& rows, std::span<const std::byte> codes, const PieceSink& sink) const {
    sink(0, row_offset(rows, model::row_bytes(to_.id, source().cols())), codes);
  }

  /// Values in the output's order, on the CPU.
  std::span<float> values_in_order(const Rows& rows, PieceWorker& worker) const {
    const std::span<float> values = worker.decode_on_host(view(rows));
    if (!permutes()) return values;
    const auto ordered =
        in_order(std::as_bytes(values), static_cast<std::size_t>(source().cols()) * sizeof(float));
    std::memcpy(values.data(), ordered.data(), ordered.size());
    return values;
  }

 private:
  void produce_rows(const Rows& rows, PieceWorker& worker, const PieceSink& sink) const override {
    const float tensor_scale = needs_survey() ? scale_of_tensor() : 1.0f;
    const PieceWorker::Codes made =
        permutes() ? worker.quantize_on_host(values_in_order(rows, worker), source().cols(), to_,
                                             tensor_scale)
                   : worker.requantize(view(rows), to_, tensor_scale);
    give_codes(rows, made.codes, sink);
    if (!to_.scale) return;
    const auto scales = made.scales.subspan(static_cast<std::size_t>(to_.scale->header_bytes()));
    check_scales(rows, scales);
    sink(1, scale_offset(source(), *to_.scale, rows.matrix, rows.first), scales);
  }

  void produce_constants(const PieceSink& sink) const override {
    if (!needs_survey()) return;
    const float scale = scale_of_tensor();
    sink(2, 0, std::as_bytes(std::span(&scale, 1)));
  }

  float scale_of_tensor() const {
    const float largest = largest_.value();
    return nvfp4_tensor_scale(std::span(&largest, 1));
  }

  /// Readers refuse scales that are no finite numbers.
  void check_scales(const Rows& rows, std::span<const std::byte> scales) const {
    bool is_finite = true;
    if (to_.scale->type == ScaleType::kF32) {
      for (std::size_t at = 0; at < scales.size(); at += sizeof(float)) {
        float scale = 0;
        std::memcpy(&scale, scales.data() + at, sizeof scale);
        is_finite = is_finite && std::isfinite(scale);
      }
    } else {
      const std::byte nan{to_.scale->type == ScaleType::kE8M0 ? std::uint8_t{0xff}
                                                              : std::uint8_t{0x7f}};
      is_finite = std::ranges::find(scales, nan) == scales.end();
    }
    if (!is_finite)
      fail(rows, fmt::format("hold NaN or infinity, which no scale of {} serves", to_.name()));
  }

  WeightFormat to_;
  Largest largest_;
};

/// Scales of a kind that no kernel chooses: values are divided here, and kernels narrow what comes out.
class HostScaleJob : public QuantizeJob {
 public:
  using QuantizeJob::QuantizeJob;

  bool needs_survey() const override { return to().scale->block_rows == 0; }

 private:
  void produce_rows(const Rows& rows, PieceWorker& worker, const PieceSink& sink) const override {
    const ScaleGrid& grid = *to().scale;
    const std::span<float> values = values_in_order(rows, worker);
    static thread_local std::vector<std::byte> stored;
    stored.clear();
    const std::int64_t cols = source().cols();
    const std::int64_t block_rows = grid.block_rows == 0 ? rows.count : grid.block_rows;
    const std::int64_t block_cols = grid.block_cols == 0 ? cols : grid.block_cols;
    for (std::int64_t row = 0; row < rows.count; row += block_rows) {
      const std::int64_t end_row = std::min(row + block_rows, rows.count);
      for (std::int64_t col = 0; col < cols; col += block_cols) {
        const std::int64_t end_col = std::min(col + block_cols, cols);
        const auto of_row = [&](std::int64_t r) {
          return values.subspan(static_cast<std::size_t>(r * cols + col),
                                static_cast<std::size_t>(end_col - col));
        };
        float magnitude = largest();
        if (!needs_survey()) {
          magnitude = 0;
          for (std::int64_t r = row; r < end_row; ++r) {
            for (const float value : of_row(r)) magnitude = std::max(magnitude, std::fabs(value));
          }
        }
        if (std::isinf(magnitude))
          fail(rows, fmt::format("hold infinity, which no scale of {} serves", to().name()));
        const float scale = store_scale(magnitude, stored);
        for (std::int64_t r = row; r < end_row; ++r) {
          for (float& value : of_row(r)) value /= scale;
        }
      }
    }
    give_codes(rows, worker.quantize_on_host(values, cols, {to().id, std::nullopt}, 1).codes, sink);
    if (!needs_survey()) sink(1, scale_offset(source(), grid, rows.matrix, rows.first), stored);
  }

  void produce_constants(const PieceSink& sink) const override {
    if (!needs_survey()) return;
    std::vector<std::byte> stored;
    store_scale(largest(), stored);
    sink(1, 0, stored);
  }

  /// The scale for a block with this largest magnitude, as it is stored; its bytes are appended.
  float store_scale(float magnitude, std::vector<std::byte>& bytes) const {
    const auto append = [&](const auto& value) {
      const auto part = std::as_bytes(std::span(&value, 1));
      bytes.insert(bytes.end(), part.begin(), part.end());
    };
    const float largest_code = largest_float(to().id);
    switch (to().scale->type) {
      case ScaleType::kF32: {
        const float scale = magnitude / largest_code;
        append(scale == 0 ? 1.0f : scale);
        return scale == 0 ? 1.0f : scale;
      }
      case ScaleType::kBF16: {
        const auto bits = std::bit_cast<std::uint32_t>(magnitude / largest_code);
        auto rounded = static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
        constexpr std::uint16_t kOne = 0x3f80;
        if (rounded == 0) rounded = kOne;
        append(rounded);
        return std::bit_cast<float>(std::uint32_t{rounded} << 16);
      }
      case ScaleType::kE8M0: {
        const int exponent =
            magnitude == 0 ? -127 : std::ilogb(magnitude) - std::ilogb(largest_code);
        const auto code = static_cast<std::uint8_t>(std::clamp(exponent, -127, 127) + 127);
        append(code);
        return std::ldexp(1.0f, code - 127);
      }
      case ScaleType::kE4M3:
        break;
    }
    KTJIT_UNREACHABLE("a scale of one level");
  }
};

class GivenScaleJob : public QuantizeJob {
 public:
  GivenScaleJob(WeightSource source, const model::TensorInfo& scales,
                std::vector<OutputTensor> outputs)
      : QuantizeJob(std::move(source), {scales.format, scales.scale_grid}, std::move(outputs)),
        scales_(scales) {}

  bool needs_survey() const override { return false; }
  std::string recipe() const override { return QuantizeJob::recipe() + ", scales given"; }

 private:
  void produce_rows(const Rows& rows, PieceWorker& worker, const PieceSink& sink) const override {
    const ScaleGrid& grid = *scales_.scale_grid;
    const std::span<float> values = values_in_order(rows, worker);
    const std::int64_t cols = source().cols();
    const std::int64_t block_cols = grid.block_cols == 0 ? cols : grid.block_cols;
    const std::int64_t first = rows.matrix * source().rows() + rows.first;
    for (std::int64_t row = 0; row < rows.count; ++row) {
      const std::int64_t scale_row = grid.block_rows == 0 ? 0 : (first + row) / grid.block_rows;
      for (std::int64_t col = 0; col < cols; col += block_cols) {
        const float scale = scale_at(scale_row * grid.cols_of_scales(cols) + col / block_cols);
        const auto count = static_cast<std::size_t>(std::min(block_cols, cols - col));
        for (float& value : values.subspan(static_cast<std::size_t>(row * cols + col), count))
          value /= scale;
      }
    }
    give_codes(rows, worker.quantize_on_host(values, cols, {to().id, std::nullopt}, 1).codes, sink);
  }

  void produce_constants(const PieceSink& sink) const override { sink(1, 0, scales_.scale_data); }

  float scale_at(std::int64_t index) const {
    const auto* at = scales_.scale_data.data() + index * scale_type_bytes(scales_.scale_grid->type);
    float scale = 0;
    switch (scales_.scale_grid->type) {
      case ScaleType::kF32:
        std::memcpy(&scale, at, sizeof scale);
        break;
      case ScaleType::kBF16: {
        std::uint16_t bits = 0;
        std::memcpy(&bits, at, sizeof bits);
        scale = std::bit_cast<float>(std::uint32_t{bits} << 16);
        break;
      }
      case ScaleType::kE8M0:
        scale = std::ldexp(1.0f, std::to_integer<int>(*at) - 127);
        break;
      case ScaleType::kE4M3:
        KTJIT_UNREACHABLE("a scale of one level");
    }
    return scale == 0 ? 1.0f : scale;  // what is decoded with 0 is 0 whatever divides it
  }

  const model::TensorInfo& scales_;
};

}  // namespace

std::unique_ptr<TensorJob> make_copy_job(WeightSource source, std::vector<OutputTensor> outputs) {
  return std::make_unique<CopyJob>(std::move(source), std::move(outputs));
}

bool can_copy(const WeightSource& source, const WeightFormat& format) {
  const bool is_same = std::ranges::all_of(source.parts, [&](const RowRange& part) {
    return WeightFormat{part.tensor->format, part.tensor->scale_grid} == format;
  });
  if (!is_same) return false;
  if (!format.scale) return true;
  const ScaleGrid& grid = *format.scale;
  // A scale, or a second level of scales, that all rows share is one tensor's alone.
  const bool is_shared = grid.block_rows == 0 || grid.header_bytes() != 0;
  if (is_shared && source.parts.size() > 1) {
    return std::ranges::all_of(source.parts, [&](const RowRange& part) {
      const auto bytes = grid.block_rows == 0 ? part.tensor->scale_data
                                              : part.tensor->scale_data.first(sizeof(float));
      const auto first = source.first().scale_data.first(bytes.size());
      return std::ranges::equal(bytes, first);
    });
  }
  return source.order == RowOrder::kAsIs || grid.block_rows <= 1 ||
         grid.block_rows % source.head_rows == 0;
}

std::unique_ptr<TensorJob> make_raw_job(WeightSource source, std::vector<OutputTensor> outputs) {
  return std::make_unique<RawJob>(std::move(source), std::move(outputs));
}

std::unique_ptr<TensorJob> make_float_job(WeightSource source, FormatId to,
                                          std::vector<OutputTensor> outputs) {
  return std::make_unique<FloatJob>(std::move(source), to, std::move(outputs));
}

std::unique_ptr<TensorJob> make_quantize_job(WeightSource source, WeightFormat to,
                                             std::vector<OutputTensor> outputs) {
  if (kernels_choose_scales(to))
    return std::make_unique<QuantizeJob>(std::move(source), to, std::move(outputs));
  if (to.scale->block_rows == 0 && to.scale->block_cols != 0) {
    throw SpecError(fmt::format("scales of tensor '{}'", source.name), scale_grid_name(to.scale),
                    "blocks of one row and more, row, tensor or none");
  }
  return std::make_unique<HostScaleJob>(std::move(source), to, std::move(outputs));
}

std::unique_ptr<TensorJob> make_given_scale_job(WeightSource source,
                                                const model::TensorInfo& scales,
                                                std::vector<OutputTensor> outputs) {
  return std::make_unique<GivenScaleJob>(std::move(source), scales, std::move(outputs));
}

}  // namespace ktjit::convert
