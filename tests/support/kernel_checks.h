// What every kernel must satisfy on every device: written once, run on the CPU, on GPUs natively
// and as other targets' code.
#pragma once

#include <cstdint>
#include <string>

#include "jit/engine.h"
#include "runtime/device.h"

namespace ktjit::test {

/// What a check tried, and what was wrong first.
struct CheckResult {
  std::int64_t kernels = 0;
  std::int64_t cases = 0;   ///< of dequant and products, left out ones included
  std::int64_t values = 0;  ///< compared
  std::int64_t wrong = 0;   ///< values that differ, or guard bytes that were written
  std::string first_problem;

  void merge(const CheckResult& other);
};

/// Where a check runs.
struct Place {
  Engine& engine;
  runtime::Device& device;
  Target target;
  /// Of the cases of dequant and products, runs the first and each `every`-th after it.
  std::int64_t every = 1;
  /// Of the weights in moe_matvec and fused matvec; prepared: of the formats that the target reads so.
  LayoutKind layout = LayoutKind::kNative;
};

/// dequant of every golden vector to f32, f16 and bf16: bit for bit, and no byte around the result
/// touched.
CheckResult check_golden_dequant(const Place& place);

/// dequant of ggml's formats, to f32, f16 and bf16: blocks whose bytes each take all 256 values, and random ones;
/// infinite, NaN and subnormal scales are among them.
CheckResult check_block_bytes(const Place& place);

/// dequant at every setting of its knobs, where rows fill CTAs and where they don't: bit for bit. CUDA only.
CheckResult check_dequant_knobs(const Place& place);

/// dequant of integers and f64 to the nearest f32: all i8 and i16, the others around ties, overflow and subnormals,
/// against values written down; and to f16 and bf16.
CheckResult check_numbers(const Place& place);

/// All 256 codes of every served FP8 format, at every position of a run, to f32.
CheckResult check_fp8_codes(const Place& place);

/// FP8 dequant with scales of every shape and type, blocks that don't divide the matrix among them.
CheckResult check_scaled_dequant(const Place& place);

/// matvec of every format that has one: f32, f16 and bf16 activations, 1 to 8 columns, odd shapes; within
/// (cols / 16 + 16) * 2^-24 * sum |w x| of the sum in double, nothing around the result touched.
CheckResult check_matvec(const Place& place);

/// mxfp4 and nvfp4 dequant: every pair of codes in every byte of a run, with every scale code.
CheckResult check_fp4_codes(const Place& place);

/// dequant of random blocks of every served format with a codebook, d infinite or NaN among them: each
/// entry, with all kinds of signs and every scale.
CheckResult check_codebooks(const Place& place);

/// dequant of MXFP6, and of FP8 with scales of MX: every code at every place of a run, with every scale
/// code.
CheckResult check_mx_codes(const Place& place);

/// matmul of every format that has one: f32, f16 and bf16 activations, and FP8 ones with scales of groups;
/// odd shapes around every tile, scales of every shape; the bound of check_matvec.
CheckResult check_matmul(const Place& place);

/// Products with each format of bias and of y.
CheckResult check_epilogues(const Place& place);

/// FP8 weights with NaN codes give NaN in the rows that have them, infinities too; the forms that a
/// scan allows are right for all other codes.
CheckResult check_nan_weights(const Place& place);

/// quantize as a plain cast to every float of 4 to 8 bits, saturating and not: all f16 and bf16 inputs, and
/// f32 ones with columns that end within a quad, bit for bit.
CheckResult check_quantize(const Place& place);

/// quantize with scales to FP8 (groups, blocks, whole rows; f32 and e8m0), MXFP8, MXFP6, MXFP4, NVFP4, and to
/// q8_0 and q4_0: codes and scales bit for bit; blocks of zeros, of subnormals, of huge values, with NaN and
/// infinity, of equal magnitudes, and ones that an edge cuts.
CheckResult check_quantize_groups(const Place& place);

/// nan_scan finds each NaN code wherever it lies, and nothing else.
CheckResult check_nan_scan(const Place& place);

}  // namespace ktjit::test
