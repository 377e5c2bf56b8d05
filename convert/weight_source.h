// Where an output tensor's numbers come from: rows of the input's tensors, put together or taken apart.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jit/reference_ops.h"
#include "model/model.h"

namespace ktjit::convert {

/// Rows of one tensor of an open model, which outlives this.
struct RowRange {
  const model::TensorInfo* tensor = nullptr;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

/// llama.cpp stores the rows of a llama's q and k, head by head, with those of the two halves of a rotary
/// pair side by side; Hugging Face's files have one half after the other.
enum class RowOrder {
  kAsIs,
  kInterleave,    ///< to llama.cpp's order: row 2 i + h of a head comes from row h * size / 2 + i
  kDeinterleave,  ///< to Hugging Face's
};

/// One tensor of the output, before its format is chosen: `matrices` matrices [rows, cols] of equal shape.
struct WeightSource {
  std::string name;                 ///< in the output, without what stands for the format
  std::vector<std::int64_t> shape;  ///< row-major, as the output has it
  std::vector<RowRange>
      parts;  ///< their rows, one after another, are the matrices'; no matrix is in two
  RowOrder order = RowOrder::kAsIs;
  std::int64_t head_rows = 0;  ///< rows of one head where the order changes, a divisor of rows

  std::int64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  std::int64_t rows() const { return shape.size() < 2 ? 1 : shape[shape.size() - 2]; }
  std::int64_t matrices() const;
  /// Format of the first part; the others' are the same where the tensor can be copied.
  const model::TensorInfo& first() const { return *parts.front().tensor; }

  /// Rows of one matrix where they lie in the input, in its order: the bytes and the scales, of which those of
  /// NVFP4 are put together in `scratch`.
  /// REQUIRES: first_row is a multiple of the input's scale_step_rows.
  ScaledTensorView view(std::int64_t matrix, std::int64_t first_row, std::int64_t rows,
                        std::vector<std::byte>& scratch) const;
  /// Views may begin at multiples of this: the least common multiple of the parts' blocks of scales, in rows.
  std::int64_t scale_step_rows() const;
  /// Bytes of the input that `rows` rows of a matrix take, without scales.
  std::uint64_t row_bytes(std::int64_t matrix) const;
};

/// The row of the input that becomes row `row` of the output, both counted in the matrix.
std::int64_t source_row(RowOrder order, std::int64_t head_rows, std::int64_t row);

}  // namespace ktjit::convert
