// The plain reference of what fused products compute: rows of experts chosen by ids, gates, residuals. In
// double, beside reference_ops.h. Slow and clear on purpose.
#pragma once

#include <cstdint>
#include <span>

#include "core/kernel_spec.h"
#include "jit/expert_stack.h"
#include "jit/reference_ops.h"

namespace ktjit {

/// Multiplies rows of the experts that `ids` name, each slot's by its x.
///
/// Shapes:  ids [slots]; x [ceil(slots / slots_per_x), cols]; y, abs_sum [slots, n_rows].
/// Math:    y[s, r] = sum over c of w[ids[s], first_row + r, c] * x[s / slots_per_x, c], and abs_sum, as
///          matvec_reference; NaN where ids[s] is no expert.
/// Errors:  as matvec_reference; SpecError if slots_per_x is below 1.
void moe_matvec_reference(const ExpertStackView& stack, std::span<const std::int32_t> ids,
                          std::span<const float> x, std::int64_t slots_per_x,
                          std::int64_t first_row, std::int64_t n_rows, std::span<double> y,
                          std::span<double> abs_sum);

/// act(g) as Gate defines it, in double. Both give NaN for -infinity (0 times infinity).
double gate_reference(Gate gate, double g);

/// How far a kernel's act(g) may lie from gate_reference's for the same g: 2^-21 of |act(g)| and 2^-140 for
/// silu, 2^-21 of |g| for gelu_tanh (whose exponent is rounded too).
double gate_tolerance(Gate gate, double g);

/// A value with how far a kernel's may lie from it.
struct Bounded {
  double value = 0;
  double tolerance = 0;
};

/// act(g) * u from the sums behind g and u and their sums of magnitudes, as matvec_reference has them.
///
/// Math:    the tolerance joins that of both sums (product_tolerance), times 1.13, the steepest slope of
///          either function, for g's, that of act, and the rounding to y_format. The sums may be off by more_g_error and
///          more_u_error on top of that.
/// Errors:  SpecError unless y_format is f32, f16 or bf16.
Bounded gated_reference(Gate gate, std::int64_t cols, FormatId y_format, double g, double g_abs_sum,
                        double u, double u_abs_sum, double more_g_error = 0,
                        double more_u_error = 0);

/// Whether `got` is as near as the tolerance allows; NaN for NaN.
bool is_right(double got, const Bounded& want);

}  // namespace ktjit
