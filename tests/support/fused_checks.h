// Checks of moe_matvec and of fused matvec, as kernel_checks.h has them for the other ops.
#pragma once

#include "tests/support/kernel_checks.h"

namespace ktjit::test {

/// moe_matvec of every format: f32, f16 and bf16 activations; odd shapes; ids that repeat, are all the same, or
/// name no expert (their rows become NaN, and nothing is read for them); gates, bias, rounded y; within the
/// bounds of reference_fused.h, nothing around the result touched.
CheckResult check_moe_matvec(const Place& place);

/// moe_matmul of every format, likewise: experts with no slot, with one and with more than a tile has; tiles of several sizes;
/// FP8 activations too.
CheckResult check_moe_matmul(const Place& place);

/// moe_matmul at tensor-core precision of each weight that has it, with tiles of every size. sm_90a.
CheckResult check_moe_tensor_cores(const Place& place);

/// moe_matmul of more experts and of more slots than a CTA looks at together.
CheckResult check_many_experts(const Place& place);

/// matvec with gates, of two to four matrices of different heights, and with residuals (y's own memory among
/// them), each with bias and every kind of x and y.
CheckResult check_fused_matvec(const Place& place);

/// act(g) for g over all magnitudes, both signs, infinities and NaN, within gate_tolerance.
CheckResult check_gates(const Place& place);

}  // namespace ktjit::test
