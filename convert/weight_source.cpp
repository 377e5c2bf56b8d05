#include "convert/weight_source.h"

#include <cstring>
#include <numeric>

#include "core/error.h"

namespace ktjit::convert {

std::int64_t WeightSource::matrices() const {
  std::int64_t count = 1;
  for (std::size_t i = 0; i + 2 < shape.size(); ++i) count *= shape[i];
  return count;
}

namespace {

struct Place {
  const model::TensorInfo* tensor;
  std::int64_t row;  ///< in the tensor
};

Place place_of(const WeightSource& source, std::int64_t matrix) {
  std::int64_t row = matrix * source.rows();
  for (const RowRange& part : source.parts) {
    if (row < part.rows) return {part.tensor, part.first_row + row};
    row -= part.rows;
  }
  KTJIT_UNREACHABLE("a matrix of the source");
}

}  // namespace

ScaledTensorView WeightSource::view(std::int64_t matrix, std::int64_t first_row,
                                    std::int64_t view_rows, std::vector<std::byte>& scratch) const {
  const auto [tensor, matrix_row] = place_of(*this, matrix);
  KTJIT_CHECK(tensor->layout == LayoutKind::kNative);
  const std::int64_t row = matrix_row + first_row;
  const std::uint64_t bytes = model::row_bytes(tensor->format, tensor->cols());
  ScaledTensorView view{tensor->format, view_rows, tensor->cols(), {}, tensor->scale_grid, {}};
  view.data = tensor->data.subspan(static_cast<std::size_t>(row) * bytes,
                                   static_cast<std::size_t>(view_rows) * bytes);
  if (!tensor->scale_grid) return view;
  const ScaleGrid& grid = *tensor->scale_grid;
  const auto header = static_cast<std::size_t>(grid.header_bytes());
  std::size_t skipped = 0;
  if (grid.block_rows > 0) {
    KTJIT_CHECK(row % grid.block_rows == 0);
    skipped = static_cast<std::size_t>(row / grid.block_rows * grid.cols_of_scales(view.cols)) *
              static_cast<std::size_t>(scale_type_bytes(grid.type));
  }
  const auto plane = static_cast<std::size_t>(grid.plane_bytes(view_rows, view.cols)) - header;
  const auto scales = tensor->scale_data.subspan(header + skipped, plane);
  if (header == 0) {
    view.scale_data = scales;
    return view;
  }
  scratch.resize(header + plane);
  std::memcpy(scratch.data(), tensor->scale_data.data(), header);
  std::memcpy(scratch.data() + header, scales.data(), plane);
  view.scale_data = scratch;
  return view;
}

std::int64_t WeightSource::scale_step_rows() const {
  std::int64_t step = 1;
  for (const RowRange& part : parts) {
    const auto& grid = part.tensor->scale_grid;
    if (grid && grid->block_rows > 0) step = std::lcm(step, grid->block_rows);
  }
  return step;
}

std::uint64_t WeightSource::row_bytes(std::int64_t matrix) const {
  const auto [tensor, row] = place_of(*this, matrix);
  return model::row_bytes(tensor->format, tensor->cols());
}

std::int64_t source_row(RowOrder order, std::int64_t head_rows, std::int64_t row) {
  if (order == RowOrder::kAsIs) return row;
  const std::int64_t in_head = row % head_rows;
  const std::int64_t half = head_rows / 2;
  const std::int64_t from = order == RowOrder::kInterleave ? in_head % 2 * half + in_head / 2
                                                           : in_head % half * 2 + in_head / half;
  return row - in_head + from;
}

}  // namespace ktjit::convert
