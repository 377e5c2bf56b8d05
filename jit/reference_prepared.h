// The plain reference of prepared weights: what prepare and restore are compared with. It moves bit by bit, by where each
// bit of a code, a scale or a sign lies in native blocks and in a unit, and shares no text with codegen or templates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/format.h"
#include "jit/reference_ops.h"

namespace ktjit {

/// Native blocks and, of formats that keep them in a plane of their own, scales.
struct NativeWeights {
  std::vector<std::byte> data;
  std::vector<std::byte> scales;
};

/// What Op::kPrepare makes of a matrix: prepared_bytes(format, rows, cols) bytes.
/// Errors: SpecError if the format has no prepared layout, or the bytes don't fit the shape.
std::vector<std::byte> prepare_reference(const ScaledTensorView& weights);

/// What Op::kRestore makes of `n_rows` rows from `first_row` on of a prepared matrix [rows, cols]. The plane of scales is that
/// of the n_rows rows alone.
/// Errors: SpecError if the format has no prepared layout, the bytes don't fit the shape, or the rows lie outside of it.
NativeWeights restore_reference(FormatId format, std::int64_t rows, std::int64_t cols,
                                std::span<const std::byte> prepared, std::int64_t first_row,
                                std::int64_t n_rows);

}  // namespace ktjit
