// The plain reference of quantising: what emitted quantise kernels are compared with. It is written from
// the definitions of the formats, in double, and shares no text with codegen or templates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/format.h"

namespace ktjit {

/// The format of a weight format's codes where they are floats of 4 to 8 bits: fp4_e2m1 of mxfp4 and
/// nvfp4, fp6_e2m3 and fp6_e3m2 of MXFP6; those and the FP8 formats are their own.
/// Errors: SpecError for other formats.
FormatId element_format(FormatId format);

/// Bits of one code: 8, 6 or 4. Errors: as element_format.
int code_bits(FormatId format);

/// The largest magnitude that encode_float gives: 448 for e4m3, 57344 for e5m2, 1.75 for e4b15, 240
/// and 57344 for the fnuz formats, 6 for e2m1, 7.5 for e2m3, 28 for e3m2. Errors: as element_format.
float largest_float(FormatId format);

/// The code that is nearest to `value`; of two, the even one.
///
/// Overflow, that is a value that would round beyond the largest finite code, and infinity:
///   saturating      the largest finite code with the value's sign
///   not saturating  e4m3 NaN, e5m2 infinity, both with the sign; the fnuz formats NaN (as torch)
///   e4b15, FP6, FP4 have neither NaN nor infinity: the largest code with the sign, in both modes
/// NaN:
///   saturating      0x7f: the sign is lost, as in NVIDIA's cvt.rn.satfinite
///   not saturating  0x7f with the sign, as torch
///   fnuz            0x80, their only NaN
///   e4b15, FP6, FP4 the largest code without a sign, as in NVIDIA's cvt: they have no NaN
/// Zero and what rounds to it keep their sign; the fnuz formats have no -0 and give 0.
/// Errors: as element_format.
std::uint8_t encode_float(FormatId format, double value, bool saturate);

/// One code of all f32 inputs whose bits are from `first` to the next run's.
struct CodeRun {
  std::uint32_t first;
  std::uint8_t code;
};

/// encode_float of all 2^32 f32 inputs, in the order of their bits; the first run begins at 0. Found from
/// the midpoints between neighbouring values, which are what the definition of rounding rests on.
std::vector<CodeRun> codes_of_all_f32(FormatId format, bool saturate);

/// Codes, one in a byte, as they lie in memory: a little-endian stream, code i from bit `bits` * i on.
std::vector<std::byte> pack_codes(std::span<const std::uint8_t> codes, int bits);

/// Codes and scales of quantised rows, as the bytes of their tensors.
struct QuantizedRows {
  std::vector<std::byte> codes;   ///< [rows, cols] of the format
  std::vector<std::byte> scales;  ///< as ScaleGrid describes it, empty without one
};

/// How rows are quantised.
struct QuantizeRules {
  FormatId format = FormatId::kFp8E4M3;
  std::optional<ScaleGrid> grid = {};  ///< none for a plain cast, and for q8_0 and q4_0
  bool saturate = true;                ///< of a plain cast
  float tensor_scale = 1;              ///< of nvfp4
};

/// Quantises a matrix x [rows, cols].
///
/// Without scales: encode_float of each element.
/// f32 scales: scale = max |x| / largest_float, code = encode_float(x / scale), both divisions IEEE's in
///   f32. A block whose scale comes out 0 (all zeros, or so small that the division underflows) has scale
///   1, and so codes 0 with the signs of x. NaNs don't count for the maximum: a NaN in x gives a NaN code
///   (1.75 in e4b15) and leaves its block alone; a block of NaNs only has scale 1. An infinity gives the
///   scale infinity, and so the block's numbers codes 0 and its infinities a NaN code.
/// E8M0 scales, by OCP's floor rule: scale = 2^(floor(log2 max |x|) - emax), where 2^emax is the power of
///   two in the largest number of the format; no less than 2^-127, which is also the scale of a block of
///   zeros (code 0). A NaN or an infinity in a block makes its scale NaN (code 255), its codes those of NaN.
/// nvfp4: a block's scale is the e4m3 code of max |x| / 6 / tensor_scale, both divisions in f32; elements are
///   divided by f32(code) * tensor_scale, rounded to f32. Where that is 0, codes are 0 with the signs of x.
///   A NaN or an infinity in a block makes its scale NaN (0x7f), its codes those of NaN.
/// q8_0, q4_0: as ggml's quantize_row_q8_0_ref and quantize_row_q4_0_ref. Those convert what has no int8
///   where an infinity is in the block, or max |x| so small that the reciprocal of d overflows: there the
///   code is 0, as on x86-64. A NaN in a block makes its d NaN (0x7e00) and its codes 0.
/// Errors: SpecError for a format or grid of other kinds, or if x has another size.
QuantizedRows quantize_reference(const QuantizeRules& rules, std::span<const float> x,
                                 std::int64_t rows, std::int64_t cols);

/// The tensor scale that `ktjit exec` and the C++ API choose for nvfp4: the largest finite |x| / (448 * 6) in
/// f32, so that no block's scale overflows; 1 where that is 0.
float nvfp4_tensor_scale(std::span<const float> x);

}  // namespace ktjit
