// Samples are whole scale blocks, copied out as small tensors, so that the reference decodes them.
#include "jit/conversion_error.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "core/error.h"
#include "jit/reference_decode.h"
#include "jit/reference_encode.h"
#include "jit/reference_ops.h"

namespace ktjit {
namespace {

using model::TensorInfo;

constexpr std::array kAlternatives = {FormatId::kFp8E4M3, FormatId::kFp8E5M2, FormatId::kFp8E4B15,
                                      FormatId::kBF16,    FormatId::kF16,     FormatId::kQ8_0};
constexpr std::int64_t kQ8Block = 32;

bool is_fp8(FormatId format) { return get_format(format).family == FormatFamily::kFp8; }

/// The grid of scales after a conversion to FP8.
ScaleGrid converted_grid(const TensorInfo& tensor) {
  ScaleGrid grid = tensor.scale_grid.value_or(ScaleGrid{0, 0, ScaleType::kF32});
  grid.type = ScaleType::kF32;
  return grid;
}

/// Where a sample lies in its tensor: whole scale blocks, or the beginning of a large one.
struct Tile {
  std::int64_t first_row = 0;
  std::int64_t first_col = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};

/// How tiles are laid over a tensor: one begins every `step` rows or columns, and is `extent` long.
struct Tiling {
  std::int64_t step = 0;
  std::int64_t extent = 0;
};

std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

Tiling tile_rows(const ScaleGrid& grid) {
  constexpr std::int64_t kWanted = 16;
  constexpr std::int64_t kMost = 512;
  const std::int64_t step = round_up(kWanted, std::max<std::int64_t>(grid.block_rows, 1));
  return {step, std::min(step, kMost)};
}

Tiling tile_cols(const ScaleGrid& grid, std::int64_t cols) {
  constexpr std::int64_t kWanted = 512;  // fewer, and a page is read for a handful of values
  constexpr std::int64_t kMost = 65536;
  if (grid.block_rows == 1 && grid.block_cols == 0) return {cols, std::min(cols, kMost)};
  const std::int64_t block = std::max<std::int64_t>(grid.block_cols, 1);
  const std::int64_t whole_blocks = std::lcm(block, kQ8Block);
  if (whole_blocks > kMost) return {block, std::min(block, kMost) / kQ8Block * kQ8Block};
  const std::int64_t step = round_up(kWanted, whole_blocks);
  return {step, step};
}

/// All tiles of one tensor, numbered row by row.
class Tiles {
 public:
  explicit Tiles(const TensorInfo& tensor)
      : rows_(tensor.rows()),
        cols_(tensor.cols()),
        row_tiling_(tile_rows(converted_grid(tensor))),
        col_tiling_(tile_cols(converted_grid(tensor), cols_)),
        across_((cols_ + col_tiling_.step - 1) / col_tiling_.step) {}

  std::int64_t count() const {
    return across_ * ((rows_ + row_tiling_.step - 1) / row_tiling_.step);
  }
  Tile at(std::int64_t index) const {
    Tile tile;
    tile.first_row = index / across_ * row_tiling_.step;
    tile.first_col = index % across_ * col_tiling_.step;
    tile.rows = std::min(row_tiling_.extent, rows_ - tile.first_row);
    tile.cols = std::min(col_tiling_.extent, cols_ - tile.first_col);
    return tile;
  }

 private:
  std::int64_t rows_;
  std::int64_t cols_;
  Tiling row_tiling_;
  Tiling col_tiling_;
  std::int64_t across_;
};

/// The scale blocks that a run of `count` rows or columns from `first` on lies in. `block` is 0 for
/// the whole extent.
struct BlockRange {
  std::int64_t first = 0;
  std::int64_t count = 1;
};
BlockRange blocks_of(std::int64_t first, std::int64_t count, std::int64_t block) {
  if (block == 0) return {};
  return {first / block, (first + count - 1) / block - first / block + 1};
}

/// A copy of the tile as a tensor of its own.
struct TileCopy {
  std::vector<std::byte> codes;
  std::vector<std::byte> scales;
  ScaledTensorView view;
};
TileCopy copy_tile(const TensorInfo& tensor, const Tile& tile) {
  TileCopy copy;
  const auto append = [](std::vector<std::byte>& to, std::span<const std::byte> from,
                         std::int64_t at, std::int64_t count) {
    const auto part = from.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count));
    to.insert(to.end(), part.begin(), part.end());
  };
  for (std::int64_t row = tile.first_row; row < tile.first_row + tile.rows; ++row)
    append(copy.codes, tensor.data, row * tensor.cols() + tile.first_col, tile.cols);
  copy.view = {tensor.format, tile.rows, tile.cols, {}, tensor.scale_grid, {}};
  if (tensor.scale_grid) {
    const ScaleGrid& grid = *tensor.scale_grid;
    const BlockRange rows = blocks_of(tile.first_row, tile.rows, grid.block_rows);
    const BlockRange cols = blocks_of(tile.first_col, tile.cols, grid.block_cols);
    const std::int64_t row_of_scales = grid.cols_of_scales(tensor.cols());
    const std::int64_t each = scale_type_bytes(grid.type);
    for (std::int64_t row = rows.first; row < rows.first + rows.count; ++row)
      append(copy.scales, tensor.scale_data, (row * row_of_scales + cols.first) * each,
             cols.count * each);
    // A tile that is cut out of a larger block has that block's scale.
    if (grid.block_rows > tile.rows) copy.view.scale_grid->block_rows = 0;
    if (grid.block_cols > tile.cols) copy.view.scale_grid->block_cols = 0;
  }
  copy.view.data = copy.codes;
  copy.view.scale_data = copy.scales;
  return copy;
}

float largest_magnitude(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  return largest;
}

std::array<float, 256> decode_all_codes(FormatId format) {
  std::array<std::byte, 256> codes{};
  for (std::size_t code = 0; code < codes.size(); ++code) codes[code] = std::byte(code);
  std::array<float, 256> values{};
  decode_row(format, codes, values);
  return values;
}

float round_trip(FormatId format, float value) {
  std::array<std::byte, 2> bits{};
  round_output(format, {&value, 1}, bits);
  float result = 0;
  decode_row(format, bits, {&result, 1});
  return result;
}

/// Values to FP8 and back: a scale for each block of the grid. Shapes: values, out [rows, cols].
void through_fp8(FormatId format, const ScaleGrid& grid, std::int64_t rows, std::int64_t cols,
                 std::span<const float> values, std::span<float> out) {
  const std::array<float, 256> decoded = decode_all_codes(format);
  const std::int64_t block_rows = grid.block_rows == 0 ? rows : grid.block_rows;
  const std::int64_t block_cols = grid.block_cols == 0 ? cols : grid.block_cols;
  for (std::int64_t row = 0; row < rows; row += block_rows) {
    for (std::int64_t col = 0; col < cols; col += block_cols) {
      const std::int64_t row_end = std::min(row + block_rows, rows);
      const auto width = static_cast<std::size_t>(std::min(block_cols, cols - col));
      const auto line = [&](std::int64_t r) { return static_cast<std::size_t>(r * cols + col); };
      float largest = 0;
      for (std::int64_t r = row; r < row_end; ++r)
        largest = std::max(largest, largest_magnitude(values.subspan(line(r), width)));
      float scale = largest / largest_float(format);
      if (scale == 0) scale = 1;
      for (std::int64_t r = row; r < row_end; ++r) {
        for (std::size_t at = line(r); at < line(r) + width; ++at)
          out[at] = decoded[encode_float(format, values[at] / scale, true)] * scale;
      }
    }
  }
}

/// Values to q8_0 and back, as ggml's reference quantiser. REQUIRES: cols is a multiple of 32.
void through_q8_0(std::span<const float> values, std::span<float> out) {
  for (std::size_t first = 0; first < values.size(); first += kQ8Block) {
    const auto block = values.subspan(first, kQ8Block);
    const float scale = largest_magnitude(block) / 127.0f;
    const float inverse = scale == 0 ? 0 : 1.0f / scale;
    const float stored = round_trip(FormatId::kF16, scale);
    for (std::size_t at = 0; at < block.size(); ++at)
      out[first + at] = std::round(block[at] * inverse) * stored;
  }
}

/// e4m3's codes read as e4b15, whose exponents are 8 smaller. The format has no NaN.
void through_same_codes(const TileCopy& copy, std::span<float> out) {
  constexpr float kBetweenBiases = 256;  // 2^(15 - 7)
  ScaledTensorView as_e4b15 = copy.view;
  as_e4b15.format = FormatId::kFp8E4B15;
  decode_rows(as_e4b15, 0, as_e4b15.rows, out);
  for (float& value : out) value *= kBetweenBiases;
}

void convert_and_back(FormatId format, const TensorInfo& tensor, const TileCopy& copy,
                      std::span<const float> values, std::span<float> out) {
  if (format == tensor.format) {
    std::ranges::copy(values, out.begin());
  } else if (format == FormatId::kBF16 || format == FormatId::kF16) {
    std::ranges::transform(values, out.begin(),
                           [&](float value) { return round_trip(format, value); });
  } else if (format == FormatId::kQ8_0) {
    through_q8_0(values, out);
  } else if (format == FormatId::kFp8E4B15 && tensor.format == FormatId::kFp8E4M3) {
    through_same_codes(copy, out);
  } else {
    through_fp8(format, converted_grid(tensor), copy.view.rows, copy.view.cols, values, out);
  }
}

/// Sums over the samples of one kind of tensors.
struct KindSums {
  double difference_squares = 0;
  double value_squares = 0;
  std::uint64_t values = 0;
};

/// What is found for one format, while samples come in.
struct Tally {
  std::map<std::string, KindSums> kinds;
  std::set<const TensorInfo*> tensors;
  double max = 0;
  std::string worst_tensor;

  void add(const std::string& kind, const TensorInfo& tensor, std::span<const float> values,
           std::span<const float> converted) {
    KindSums& sums = kinds[kind];
    double largest_difference = 0;
    for (std::size_t at = 0; at < values.size(); ++at) {
      const double difference = static_cast<double>(converted[at]) - values[at];
      sums.difference_squares += difference * difference;
      sums.value_squares += static_cast<double>(values[at]) * values[at];
      largest_difference = std::max(largest_difference, std::fabs(difference));
    }
    sums.values += values.size();
    tensors.insert(&tensor);
    const double largest = largest_magnitude(values);
    if (largest > 0 && (largest_difference / largest > max || worst_tensor.empty())) {
      max = largest_difference / largest;
      worst_tensor = tensor.name;
    }
  }
};

/// "blk.3.ffn_up.weight" and "blk.17.ffn_up.weight" are of one kind.
std::string kind_of(std::string_view name) {
  std::string kind;
  for (const char c : name) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!digit) kind += c;
    if (digit && (kind.empty() || kind.back() != '#')) kind += '#';
  }
  return kind;
}

/// Tensors of one kind, and where each one's tiles begin if all are numbered in one go.
struct Kind {
  std::vector<const TensorInfo*> tensors;
  std::vector<std::int64_t> first_tile;
  std::int64_t tiles = 0;
  double elements = 0;
};

std::map<std::string, Kind> sort_into_kinds(const model::Model& model) {
  std::map<std::string, Kind> kinds;
  for (const TensorInfo& tensor : model.tensors()) {
    if (!is_fp8(tensor.format) || tensor.elements() == 0) continue;
    Kind& kind = kinds[kind_of(tensor.name)];
    kind.tensors.push_back(&tensor);
    kind.first_tile.push_back(kind.tiles);
    kind.tiles += Tiles(tensor).count();
    kind.elements += static_cast<double>(tensor.elements());
  }
  return kinds;
}

/// Numbers of tiles: all of them, or about `wanted`, one anywhere in each of as many equal parts.
std::vector<std::int64_t> choose_tiles(std::int64_t all, std::int64_t wanted,
                                       std::mt19937_64& random) {
  std::vector<std::int64_t> chosen;
  if (all <= wanted) {
    chosen.resize(static_cast<std::size_t>(all));
    std::iota(chosen.begin(), chosen.end(), std::int64_t{0});
    return chosen;
  }
  const double part = static_cast<double>(all) / static_cast<double>(wanted);
  for (std::int64_t at = 0; at < wanted; ++at) {
    const double within = static_cast<double>(random() >> 11) * 0x1p-53;  // [0, 1)
    const auto tile = static_cast<std::int64_t>((static_cast<double>(at) + within) * part);
    if (tile < all && (chosen.empty() || tile > chosen.back())) chosen.push_back(tile);
  }
  return chosen;
}

std::optional<ConversionError> sum_up(FormatId format, const Tally& tally,
                                      const std::map<std::string, Kind>& kinds) {
  ConversionError error;
  error.format = format;
  double differences = 0;
  double values = 0;
  for (const auto& [name, sums] : tally.kinds) {
    if (sums.values == 0) continue;
    const double weight = kinds.at(name).elements / static_cast<double>(sums.values);
    differences += weight * sums.difference_squares;
    values += weight * sums.value_squares;
    error.values += sums.values;
  }
  if (values == 0) return std::nullopt;
  error.rms = std::sqrt(differences / values);
  error.max = tally.max;
  error.worst_tensor = tally.worst_tensor;
  error.tensors = tally.tensors.size();
  return error;
}

}  // namespace

std::span<const FormatId> fp8_alternatives() { return kAlternatives; }

bool can_convert(const TensorInfo& tensor, FormatId format) {
  return format != FormatId::kQ8_0 || tensor.cols() % kQ8Block == 0;
}

std::uint64_t converted_bytes(const TensorInfo& tensor, FormatId format) {
  const std::uint64_t codes =
      static_cast<std::uint64_t>(tensor.rows()) * model::row_bytes(format, tensor.cols());
  if (!is_fp8(format)) return codes;
  if (format == tensor.format) return tensor.bytes() + tensor.scale_data.size();
  return codes + static_cast<std::uint64_t>(
                     converted_grid(tensor).plane_bytes(tensor.rows(), tensor.cols()));
}

std::vector<ConversionError> measure_conversion_errors(const model::Model& model,
                                                       std::span<const FormatId> formats,
                                                       std::int64_t max_values) {
  for (const FormatId format : formats) {
    if (std::ranges::find(kAlternatives, format) == kAlternatives.end()) {
      throw SpecError("format", get_format(format).name,
                      "fp8_e4m3, fp8_e5m2, fp8_e4b15, bf16, f16, q8_0");
    }
  }
  const std::map<std::string, Kind> kinds = sort_into_kinds(model);
  std::vector<Tally> tallies(formats.size());
  std::uint64_t nan_codes = 0;
  std::mt19937_64 random(1);
  std::vector<float> values;
  std::vector<float> converted;
  for (const auto& [name, kind] : kinds) {
    const Tile typical = Tiles(*kind.tensors.front()).at(0);
    const std::int64_t share = max_values / static_cast<std::int64_t>(kinds.size());
    const std::int64_t wanted = std::max<std::int64_t>(1, share / (typical.rows * typical.cols));
    for (const std::int64_t number : choose_tiles(kind.tiles, wanted, random)) {
      const auto after = std::ranges::upper_bound(kind.first_tile, number);
      const auto index_of_tensor = static_cast<std::size_t>(after - kind.first_tile.begin()) - 1;
      const TensorInfo& tensor = *kind.tensors[index_of_tensor];
      const Tile tile = Tiles(tensor).at(number - kind.first_tile[index_of_tensor]);
      const TileCopy copy = copy_tile(tensor, tile);
      values.resize(static_cast<std::size_t>(tile.rows * tile.cols));
      decode_rows(copy.view, 0, tile.rows, values);
      std::vector<std::size_t> left_out;  // NaN codes; scales that are NaN or too large
      for (std::size_t index = 0; index < values.size(); ++index) {
        if (!std::isfinite(values[index])) left_out.push_back(index);
      }
      for (const std::size_t index : left_out) values[index] = 0;
      nan_codes += left_out.size();
      converted.resize(values.size());
      for (std::size_t index = 0; index < formats.size(); ++index) {
        if (!can_convert(tensor, formats[index])) continue;
        convert_and_back(formats[index], tensor, copy, values, converted);
        for (const std::size_t at_nan : left_out) converted[at_nan] = 0;
        tallies[index].add(name, tensor, values, converted);
      }
    }
  }
  std::vector<ConversionError> errors;
  for (std::size_t index = 0; index < formats.size(); ++index) {
    if (auto error = sum_up(formats[index], tallies[index], kinds)) {
      error->nan_codes = nan_codes;
      errors.push_back(*std::move(error));
    }
  }
  return errors;
}

}  // namespace ktjit
