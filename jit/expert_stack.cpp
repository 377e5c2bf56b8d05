#include "jit/expert_stack.h"

#include <algorithm>
#include <fmt/format.h>
#include <string_view>

#include "core/error.h"
#include "core/launch_order.h"
#include "core/tensor_layout.h"

namespace ktjit {
namespace {

std::span<const std::byte> part_of(std::span<const std::byte> all, std::int64_t begin,
                                   std::int64_t count, std::string_view what) {
  const auto from = static_cast<std::size_t>(begin);
  const auto bytes = static_cast<std::size_t>(count);
  if (from <= all.size() && bytes <= all.size() - from) return all.subspan(from, bytes);
  throw SpecError(what, fmt::format("{} bytes", all.size()),
                  fmt::format("{} bytes and more", from + bytes));
}

/// Whether each expert's scales lie as they have to for moe_matvec.
bool is_stacked(const ScaleGrid& grid, std::int64_t rows) {
  return grid.header_bytes() == 0 && grid.block_rows > 0 && rows % grid.block_rows == 0;
}

}  // namespace

ScaledTensorView ExpertStackView::expert(std::int64_t index) const {
  if (index < 0 || index >= experts)
    throw SpecError("expert", fmt::format("{}", index), fmt::format("0 to {}", experts - 1));
  const std::int64_t bytes = rows * row_bytes(get_format(format), cols);
  ScaledTensorView one = {format,     rows, cols, part_of(data, index * bytes, bytes, "w"),
                          scale_grid, {}};
  if (scale_grid) {
    one.scale_data = part_of(scale_data, index * expert_scale_bytes(*scale_grid, rows, cols),
                             scale_grid->plane_bytes(rows, cols), "scale");
  }
  return one;
}

ExpertStackView ExpertStackView::first(std::int64_t count) const {
  const ScaledTensorView last = expert(count - 1);
  ExpertStackView some = *this;
  some.experts = count;
  const auto up_to = [](std::span<const std::byte> all, std::span<const std::byte> end) {
    return std::span(all.data(), end.data() + end.size());
  };
  some.data = up_to(data, last.data);
  if (scale_grid) some.scale_data = up_to(scale_data, last.scale_data);
  return some;
}

ExpertStack split_into_experts(const ScaledTensorView& matrix, std::int64_t experts) {
  if (experts < 1 || matrix.rows % experts != 0) {
    throw SpecError("experts", fmt::format("{}", experts),
                    fmt::format("a divisor of {} rows", matrix.rows));
  }
  ExpertStack stack;
  stack.view = {matrix.format, experts,           matrix.rows / experts, matrix.cols,
                matrix.data,   matrix.scale_grid, matrix.scale_data};
  const std::int64_t rows = stack.view.rows;
  if (!matrix.scale_grid || is_stacked(*matrix.scale_grid, rows)) return stack;

  const ScaleGrid& grid = *matrix.scale_grid;
  if (grid.block_rows > 0 && rows % grid.block_rows != 0 && experts > 1) {
    throw SpecError("scale", scale_grid_name(grid),
                    fmt::format("blocks that divide the {} rows of an expert", rows));
  }
  const std::int64_t header = grid.header_bytes();
  const std::int64_t plane = grid.plane_bytes(rows, matrix.cols);
  const std::int64_t stride = expert_scale_bytes(grid, rows, matrix.cols);
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    const std::int64_t begin = header + (grid.block_rows == 0 ? 0 : expert * (plane - header));
    const auto head = part_of(matrix.scale_data, 0, header, "scale");
    const auto body = part_of(matrix.scale_data, begin, plane - header, "scale");
    stack.scales.insert(stack.scales.end(), head.begin(), head.end());
    stack.scales.insert(stack.scales.end(), body.begin(), body.end());
    stack.scales.resize(static_cast<std::size_t>((expert + 1) * stride));
  }
  stack.view.scale_data = stack.scales;
  return stack;
}

std::int64_t experts_of(const model::TensorInfo& tensor) {
  const bool is_named = tensor.name.find("exps") != std::string::npos ||
                        tensor.name.find("experts") != std::string::npos;
  const bool is_stack = tensor.n_dims == 3 && tensor.elements() > 0;
  return is_named && is_stack ? tensor.ne[2] : 0;
}

}  // namespace ktjit
