// The plain reference of narrowing to FP8: what emitted quantise kernels are compared with. It is
// written from the definitions of the formats, in double, and shares no text with codegen or
// templates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/format.h"

namespace ktjit {

/// The largest magnitude that encode_fp8 gives: 448 for e4m3, 57344 for e5m2, 1.75 for e4b15, 240
/// and 57344 for the fnuz formats. Errors: as encode_fp8.
float largest_fp8(FormatId format);

/// The code of an FP8 format that is nearest to `value`; of two, the even one.
///
/// Overflow, that is a value that would round beyond the largest finite code, and infinity:
///   saturating      the largest finite code with the value's sign
///   not saturating  e4m3 NaN, e5m2 infinity, both with the sign; the fnuz formats NaN (as torch)
///   e4b15           has neither NaN nor infinity: the code of 1.75 with the sign, in both modes
/// NaN:
///   saturating      0x7f: the sign is lost, as in NVIDIA's cvt.rn.satfinite
///   not saturating  0x7f with the sign, as torch
///   fnuz            0x80, their only NaN
///   e4b15           0x7e, 1.75: the format has no NaN
/// Zero and what rounds to it keep their sign; the fnuz formats have no -0 and give 0.
/// Errors: SpecError for a format that isn't an FP8 one.
std::uint8_t encode_fp8(FormatId format, float value, bool saturate);

/// Codes and scales of quantised rows.
struct QuantizedRows {
  std::vector<std::byte> codes;  ///< [rows, cols]
  std::vector<float> scales;     ///< [rows, ceil(cols / group)]
};

/// Quantises each row in groups of `group` columns; the last group of a row may be smaller.
///
/// Math:    scale = max |x| / largest_fp8(format), code = encode_fp8(x / scale), saturating; both
///          divisions are IEEE's in f32. A group whose scale comes out 0 (all zeros, or so small
///          that the division underflows) has scale 1, and so codes 0 with the signs of x.
///          NaNs don't count for the maximum: a NaN in x gives a NaN code (1.75 in e4b15) and
///          leaves its group alone; a group of NaNs only has scale 1. An infinity gives the scale
///          infinity, and so the group's numbers codes 0 and its infinities a NaN code: all of the
///          group decodes to NaN.
/// Shapes:  x [rows, cols].
/// Errors:  as encode_fp8; SpecError if x has another size, or unless group >= 1.
QuantizedRows quantize_rows_reference(FormatId format, std::span<const float> x, std::int64_t rows,
                                      std::int64_t cols, std::int64_t group);

}  // namespace ktjit
