// The plain reference of what kernels compute with decoded rows: scaling, rounding, matrix-vector
// products; and the comparison of their results. Slow and clear on purpose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/format.h"
#include "core/kernel_spec.h"

namespace ktjit {

/// A tensor of shape [rows, cols], rows one after another without padding, and the scales that its
/// format keeps in a tensor of their own, if any. Does not own the bytes.
struct ScaledTensorView {
  FormatId format = FormatId::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::span<const std::byte> data;
  std::optional<ScaleGrid> scale_grid;
  std::span<const std::byte> scale_data;  ///< laid out as ScaleGrid says; empty without a grid
};

/// Decodes rows to f32 and multiplies them by their scales.
///
/// Shapes:  out [n_rows, cols].
/// Math:    f32(code) * f32(scale), one rounding; an e8m0 scale is 2^(code - 127), 255 is NaN.
/// Errors:  SpecError if the sizes of data, scale_data or out do not fit the shape, if the rows lie
///          outside of the tensor, or as decode_row.
/// Threads: as decode_row.
void decode_rows(const ScaledTensorView& tensor, std::int64_t first_row, std::int64_t n_rows,
                 std::span<float> out);

/// Rounds f32 values to the format of a kernel's output: f32 (a copy of the bits), f16 or bf16.
///
/// Shapes:  out [in.size() * block_bytes], little-endian.
/// Math:    to nearest, ties to even; overflow gives infinity, NaN stays NaN, subnormals are kept.
/// Errors:  SpecError if the format is another one, or if out has another size.
void round_output(FormatId out_format, std::span<const float> in, std::span<std::byte> out);

/// Multiplies rows of the tensor by n vectors.
///
/// Shapes:  x [n, cols]; y, abs_sum [n, n_rows].
/// Math:    y[i, r] = sum over c of w[first_row + r, c] * x[i, c], w as decode_rows has it.
///          Products are exact and sums are in double, in the order of c. abs_sum is the same sum
///          of |w * x|: a kernel that adds f32 products in any order stays within
///          cols * 2^-24 * abs_sum of y, to first order.
/// Errors:  as decode_rows; SpecError if x, y or abs_sum have other sizes.
void matvec_reference(const ScaledTensorView& tensor, std::span<const float> x, int n,
                      std::int64_t first_row, std::int64_t n_rows, std::span<double> y,
                      std::span<double> abs_sum);

/// Adds a product's bias: y[i, r] += bias[first_row + r], and |bias| to abs_sum.
///
/// Shapes:  bias [rows]; y, abs_sum [n, n_rows].
/// Errors:  SpecError if the sizes disagree.
void add_bias_reference(std::span<const float> bias, int n, std::int64_t first_row,
                        std::int64_t n_rows, std::span<double> y, std::span<double> abs_sum);

/// How far a kernel's y may lie from matvec_reference's: at most cols / 16 products are added in
/// one chain, then a few partial sums, all in f32, so (cols / 16 + 16) * 2^-24 * abs_sum; and y is
/// rounded once to its format, so half a step there. FP8 activations are exact beside their scales,
/// so they have the same bound.
/// Errors:  SpecError unless y_format is f32, f16 or bf16.
double product_tolerance(std::int64_t cols, FormatId y_format, double want, double abs_sum);

/// Whether `got` is as near to `want` as the tolerance allows; NaN for NaN, and infinity for
/// infinity or for what overflows y's format.
bool is_right_product(std::int64_t cols, FormatId y_format, double got, double want,
                      double abs_sum);

/// By how much KernelSpec::tensor_core_precision may change a product on top of that. a16: each weight is rounded once to x's
/// format, by at most 2^-9 of it (bf16), or 2^-11 of it and at least 2^-25 (f16), and its scale may be off by 2^-17 before;
/// x_abs_sum is the sum of the magnitudes of x. afp8: 2^-9 of the magnitudes, where an H200's errors stayed far below. 0 if
/// the spec doesn't ask for it.
double tensor_core_error(const KernelSpec& spec, double abs_sum, double x_abs_sum);

/// How two arrays differ.
struct BitDifference {
  std::int64_t count = 0;             ///< elements that differ
  std::optional<std::int64_t> first;  ///< index of the first of them
  double max_abs_difference = 0;      ///< infinity if one side of a pair is NaN

  bool equal() const { return count == 0; }
};

/// Compares bit by bit, so that +0 and -0 differ, but any NaN equals any NaN.
/// Errors: SpecError if the sizes differ.
BitDifference compare_bits(std::span<const float> got, std::span<const float> want);

}  // namespace ktjit
