// What the scales of a checkpoint's tensor cover, told from the shapes of both, and whether their
// values can be used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/format.h"
#include "model/checkpoint_config.h"
#include "model/stored_tensor.h"

namespace ktjit::model {

/// A tensor as a stack of matrices, of elements (a byte of packed FP4 has two).
struct StackShape {
  std::int64_t experts = 1;  ///< all dimensions but the last two, multiplied
  std::int64_t rows = 1;
  std::int64_t cols = 1;

  std::int64_t all_rows() const { return experts * rows; }
};

StackShape stack_shape(std::span<const std::int64_t> shape);

/// How scales cover a stack of matrices.
struct ScaleCover {
  ScaleGrid grid;         ///< of one matrix; type is not set
  bool whole = false;     ///< one scale for all matrices together
  bool is_guess = false;  ///< the block is nowhere said, but fits the shapes
};

/// Tells what scales of that shape cover: the whole tensor ([], [1]), each matrix of a stack
/// ([experts], [experts, 1, 1]), each row ([rows], [rows, 1]), each column ([1, cols]), or blocks.
/// `block` is the block that the checkpoint announces, if it does; `must_be_blocks` refuses rows and
/// columns where it is given. Without an announced block, 128 x 128 and other usual ones are tried.
///
/// Errors: InputError with `where` that says which shape was expected.
ScaleCover find_cover(const std::string& where, const StackShape& weights, std::size_t weight_rank,
                      const StoredTensor& scale, std::optional<BlockShape> block,
                      bool must_be_blocks);

/// The grid of the matrix [experts * rows, cols] that is the stack, or nothing if a block would lie
/// in two matrices of it.
std::optional<ScaleGrid> flatten_grid(const ScaleCover& cover, const StackShape& weights);

struct OddScales {
  std::int64_t zeros = 0;
  std::int64_t negatives = 0;
};

/// Counts scales that are odd. Errors: InputError with `where` and the place of the first NaN or
/// infinite one. `type` is any but kE4M3; for codes of E4M3 see check_e4m3_scales.
OddScales check_scales(const std::string& where, const StoredTensor& scale, ScaleType type,
                       std::span<const std::byte> bytes);
OddScales check_e4m3_scales(const std::string& where, const StoredTensor& scale);

}  // namespace ktjit::model
