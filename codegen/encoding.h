// How f32 becomes the codes of a format: what the quantise kernels of both emitters are made from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/lowering.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// A float of 4 to 8 bits as the target of rounding.
struct Encoding {
  FormatId element;     ///< the format of the codes: fp4_e2m1 of mxfp4
  int code_bits;        ///< 8, 6 or 4
  int mantissa_bits;    ///< of a code
  int bias;             ///< of its exponent
  float largest;        ///< finite value that encoding gives at most
  float clamp;          ///< magnitudes beyond it become it: `largest`, or the number after it
  unsigned clamp_code;  ///< its code, without sign
  unsigned nan_code;    ///< without sign
  bool nan_keeps_sign;
  bool has_negative_zero;

  /// Whether a NaN's code is that of the clamp, with or without a sign.
  bool nan_is_clamped() const { return nan_code == clamp_code; }
  /// The exponent of the power of two in `largest`: OCP's emax.
  int largest_exponent() const;
};

/// Whether quantize serves the format.
bool can_quantize_to(FormatId format);

/// Whether the format is one of ggml's blocks, which carry their own scales: q8_0, q4_0.
bool is_quantized_block(FormatId format);

/// Errors: SpecError with the served formats if the format's codes are no floats of 4 to 8 bits.
Encoding encoding_of(FormatId format, bool saturate);

/// How the target rounds to the spec's format, and why. Errors: SpecError with the served formats.
Lowering quantize_lowering(const KernelSpec& spec);

/// One line for the kernel's header: what w is, and the scales.
std::string quantize_math(const KernelSpec& spec);

}  // namespace ktjit::codegen
