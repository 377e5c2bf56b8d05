#include "model/checkpoint_scales.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <functional>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

/// Blocks that published checkpoints use, the most usual first.
constexpr std::array kUsualBlocks = {BlockShape{128, 128}, BlockShape{1, 32},  BlockShape{1, 128},
                                     BlockShape{32, 32},   BlockShape{64, 64}, BlockShape{256, 256},
                                     BlockShape{1, 64},    BlockShape{1, 16}};

std::int64_t product(std::span<const std::int64_t> extents) {
  return std::accumulate(extents.begin(), extents.end(), std::int64_t{1}, std::multiplies<>());
}

/// Rows and columns of the scales of one matrix.
struct PlaneShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  bool operator==(const PlaneShape&) const = default;
};

PlaneShape plane_of(const ScaleGrid& grid, const StackShape& weights) {
  return {grid.rows_of_scales(weights.rows), grid.cols_of_scales(weights.cols)};
}

/// The plane of each matrix; nothing if the shape goes with no stack of these.
std::optional<PlaneShape> find_plane(const StackShape& weights, std::size_t weight_rank,
                                     std::span<const std::int64_t> shape) {
  const std::size_t rank = shape.size();
  if (weight_rank <= 2) {
    if (rank == 1 && shape[0] == weights.rows) return PlaneShape{shape[0], 1};
    if (rank == 1 && weights.rows == 1) return PlaneShape{1, shape[0]};
    if (rank == 2) return PlaneShape{shape[0], shape[1]};
    // NVIDIA's Model Optimizer keeps the dimensions that it reduced.
    if (rank == 4 && shape[1] == 1 && shape[3] == 1) return PlaneShape{shape[0], shape[2]};
    return std::nullopt;
  }
  if (rank == weight_rank && product(shape.first(rank - 2)) == weights.experts)
    return PlaneShape{shape[rank - 2], shape[rank - 1]};
  if (product(shape) == weights.experts) return PlaneShape{1, 1};
  if (rank == weight_rank - 1 && product(shape) == weights.all_rows())
    return PlaneShape{weights.rows, 1};
  return std::nullopt;
}

std::string block_text(const BlockShape& block) {
  return fmt::format("{}x{}", block.rows, block.cols);
}

[[noreturn]] void fail_shape(const std::string& where, const StackShape& weights,
                             const StoredTensor& scale, std::optional<BlockShape> block) {
  const std::string stack =
      weights.experts == 1 ? std::string() : fmt::format("{}, ", weights.experts);
  const std::string matrix = fmt::format("[{}{}, {}]", stack, weights.rows, weights.cols);
  std::string expected = fmt::format("one scale for all, a row, or a usual block of {}", matrix);
  if (block) {
    const PlaneShape plane = plane_of({block->rows, block->cols}, weights);
    expected = fmt::format("[{}{}, {}], one for each {} block of {}", stack, plane.rows, plane.cols,
                           block_text(*block), matrix);
  }
  throw InputError(
      where, fmt::format("its scale '{}' has the shape {}, expected {}", escape_text(scale.name),
                         shape_to_text(scale.shape), expected));
}

/// "[3, 7]", of the index-th element.
std::string place_text(const StoredTensor& scale, std::int64_t index) {
  std::vector<std::int64_t> place(scale.shape.size());
  for (std::size_t i = place.size(); i-- > 0;) {
    place[i] = index % scale.shape[i];
    index /= scale.shape[i];
  }
  return shape_to_text(place);
}

/// Calls `decode` for each scale's index.
template <typename Decode>
OddScales check_values(const std::string& where, const StoredTensor& scale, std::int64_t count,
                       Decode decode) {
  OddScales odd;
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = decode(i);
    if (!std::isfinite(value)) {
      throw InputError(where,
                       fmt::format("its scale '{}' is {} at {}, expected a finite number",
                                   escape_text(scale.name), std::isnan(value) ? "NaN" : "infinite",
                                   place_text(scale, i)));
    }
    odd.zeros += value == 0.0f ? 1 : 0;
    odd.negatives += value < 0.0f ? 1 : 0;
  }
  return odd;
}

template <typename T>
T load(std::span<const std::byte> bytes, std::int64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + static_cast<std::size_t>(index) * sizeof value, sizeof value);
  return value;
}

}  // namespace

StackShape stack_shape(std::span<const std::int64_t> shape) {
  StackShape stack;
  if (!shape.empty()) stack.cols = shape.back();
  if (shape.size() > 1) stack.rows = shape[shape.size() - 2];
  if (shape.size() > 2) stack.experts = product(shape.first(shape.size() - 2));
  return stack;
}

ScaleCover find_cover(const std::string& where, const StackShape& weights, std::size_t weight_rank,
                      const StoredTensor& scale, std::optional<BlockShape> block,
                      bool must_be_blocks) {
  const auto plane = find_plane(weights, weight_rank, scale.shape);
  const auto fits = [&](const ScaleGrid& grid) {
    return plane && *plane == plane_of(grid, weights);
  };
  if (block && fits({block->rows, block->cols})) return {{block->rows, block->cols}};
  if (block && must_be_blocks) fail_shape(where, weights, scale, block);
  if (product(scale.shape) == 1) return {{0, 0}, weights.experts != 1};
  for (const ScaleGrid& grid : {ScaleGrid{0, 0}, ScaleGrid{1, 0}, ScaleGrid{0, 1}}) {
    if (fits(grid)) return {grid};
  }
  if (!block) {
    for (const BlockShape& usual : kUsualBlocks) {
      if (fits({usual.rows, usual.cols})) return {{usual.rows, usual.cols}, false, true};
    }
  }
  fail_shape(where, weights, scale, block);
}

std::optional<ScaleGrid> flatten_grid(const ScaleCover& cover, const StackShape& weights) {
  ScaleGrid grid = cover.grid;
  if (weights.experts == 1 || cover.whole || grid.block_rows == 1) return grid;
  if (grid.block_rows == 0) grid.block_rows = weights.rows;  // a scale a matrix, or a column of it
  if (weights.rows % grid.block_rows != 0) return std::nullopt;
  return grid;
}

OddScales check_scales(const std::string& where, const StoredTensor& scale, ScaleType type,
                       std::span<const std::byte> bytes) {
  const auto count = static_cast<std::int64_t>(bytes.size()) / scale_type_bytes(type);
  switch (type) {
    case ScaleType::kF32:
      return check_values(where, scale, count,
                          [&](std::int64_t i) { return load<float>(bytes, i); });
    case ScaleType::kBF16:
      return check_values(where, scale, count, [&](std::int64_t i) {
        return std::bit_cast<float>(std::uint32_t{load<std::uint16_t>(bytes, i)} << 16);
      });
    case ScaleType::kE8M0: {  // a power of two but for one code
      constexpr int kNan = 0xff;
      const void* nan = bytes.empty() ? nullptr : std::memchr(bytes.data(), kNan, bytes.size());
      if (nan == nullptr) return {};
      const auto at = static_cast<const std::byte*>(nan) - bytes.data();
      throw InputError(where, fmt::format("its scale '{}' is NaN at {}, expected a finite number",
                                          escape_text(scale.name), place_text(scale, at)));
    }
    case ScaleType::kE4M3:
      break;
  }
  KTJIT_UNREACHABLE("a scale type without a header");
}

OddScales check_e4m3_scales(const std::string& where, const StoredTensor& scale) {
  return check_values(
      where, scale, static_cast<std::int64_t>(scale.data.size()), [&](std::int64_t i) {
        const int code = std::to_integer<int>(scale.data[static_cast<std::size_t>(i)]);
        const int magnitude = code & 0x7f;
        if (magnitude == 0x7f) return std::nanf("");
        // Its size doesn't matter here, only that it is zero or has a sign.
        return static_cast<float>(code & 0x80 ? -magnitude : magnitude);
      });
}

}  // namespace ktjit::model
