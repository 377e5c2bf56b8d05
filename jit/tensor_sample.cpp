#include "jit/tensor_sample.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <span>

#include "core/error.h"
#include "jit/reference_ops.h"
#include "jit/ruled_model.h"

namespace ktjit {
namespace {

using model::TensorInfo;

constexpr std::int64_t kRows = 128;
constexpr std::int64_t kCols = 512;
constexpr std::size_t kTensors = 8;

/// Where a sample of `length` begins in `extent`: on a multiple, about two thirds in, past what the first
/// rows and columns may have of their own.
std::int64_t begin_of(std::int64_t extent, std::int64_t length) {
  return extent / length * 2 / 3 * length;
}

}  // namespace

void ErrorSums::add(const ErrorSums& other) {
  difference_squares += other.difference_squares;
  value_squares += other.value_squares;
  values += other.values;
}

TensorSample::TensorSample(const TensorInfo& tensor) {
  const std::int64_t cols = std::min(kCols, tensor.cols());
  const std::int64_t first_col = begin_of(tensor.cols(), cols);
  const std::int64_t first_row = begin_of(tensor.rows(), std::min(kRows, tensor.rows()));
  const std::int64_t rows = std::min(kRows, tensor.rows() - first_row);
  if (tensor.layout != LayoutKind::kNative) {
    throw SpecError(fmt::format("layout of tensor '{}'", tensor.name), "prepared in the file",
                    "native where errors of formats are measured: restore the model first");
  }
  const ScaledTensorView view = {tensor.format, tensor.rows(),     tensor.cols(),
                                 tensor.data,   tensor.scale_grid, tensor.scale_data};
  std::vector<float> row(static_cast<std::size_t>(tensor.cols()));
  for (std::int64_t at = 0; at < rows; ++at) {
    decode_rows(view, first_row + at, 1, row);
    const auto part =
        std::span(row).subspan(static_cast<std::size_t>(first_col), static_cast<std::size_t>(cols));
    values_.insert(values_.end(), part.begin(), part.end());
  }
  for (float& value : values_) {
    if (!std::isfinite(value)) value = 0;
  }
  block_.name = tensor.name;
  block_.format = FormatId::kF32;
  block_.ne = {cols, rows, 1, 1};
  block_.n_dims = 2;
}

ErrorSums TensorSample::error_as(const WeightFormat& format) const {
  TensorInfo block = block_;
  block.data = std::as_bytes(std::span(values_));
  const OwnedTensor converted = convert_tensor(block, format);
  const TensorInfo& there = converted.tensor;
  std::vector<float> back(values_.size());
  decode_rows(
      {there.format, there.rows(), there.cols(), there.data, there.scale_grid, there.scale_data}, 0,
      there.rows(), back);
  ErrorSums sums;
  for (std::size_t at = 0; at < back.size(); ++at) {
    const double difference = static_cast<double>(back[at]) - values_[at];
    sums.difference_squares += difference * difference;
    sums.value_squares += static_cast<double>(values_[at]) * values_[at];
  }
  sums.values = back.size();
  return sums;
}

ErrorSums sample_error(const std::vector<const TensorInfo*>& tensors, const WeightFormat& format) {
  ErrorSums sums;
  const std::size_t count = std::min(kTensors, tensors.size());
  for (std::size_t at = 0; at < count; ++at)
    sums.add(TensorSample(*tensors[at * tensors.size() / count]).error_as(format));
  return sums;
}

}  // namespace ktjit
