// What another number format would do to a model's FP8 tensors: their size there, and the error of
// the conversion, measured on a sample of the model's own values.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/format.h"
#include "model/model.h"

namespace ktjit {

/// Formats that FP8 weights can be converted to: the FP8 ones that GPUs and Triton know, bf16, f16
/// and q8_0.
std::span<const FormatId> fp8_alternatives();

/// The error of converting FP8 tensors to one format.
struct ConversionError {
  FormatId format = FormatId::kF32;
  double rms = 0;  ///< root of sum d^2 / sum v^2: v the values, d what the conversion adds
  double max = 0;  ///< the worst sample's largest |d| / largest |v|
  std::string worst_tensor;
  std::uint64_t values = 0;     ///< that were converted
  std::uint64_t tensors = 0;    ///< that they are from
  std::uint64_t nan_codes = 0;  ///< left out
};

/// Values to measure on, in all.
constexpr std::int64_t kErrorSampleValues = 1 << 20;

/// Converts sampled blocks of the model's FP8 tensors to each of the formats and back.
///
/// Sample:  tensors are sorted into kinds by their names with numbers left out; each kind gives about
///          as many values, from whole scale blocks of tensors spread over the model. Kinds count by
///          their number of elements. The same for equal models.
/// Math:    v = f32(code) * f32(scale). e4m3 to e4b15: the same codes, scales x 256 (the difference of
///          the biases), which is exact. Else to FP8: scales in f32 on the tensor's own grid (one
///          a tensor if it has none; of the sample, where a block is larger than it), the largest |v|
///          of a block over the format's largest value; codes to nearest even. bf16, f16: to nearest
///          even, no scale. q8_0: ggml's, f16 scales of largest |v| / 127 for 32 values. A tensor that
///          has the format already stays as it is.
/// Result:  in the order of `formats`; none for a format that no sampled tensor can be converted to,
///          and none at all if the sample has no value but zeros and NaNs.
/// Errors:  SpecError for formats that aren't alternatives.
std::vector<ConversionError> measure_conversion_errors(
    const model::Model& model, std::span<const FormatId> formats,
    std::int64_t max_values = kErrorSampleValues);

/// Whether a tensor can have the format: q8_0 needs columns in blocks of 32.
bool can_convert(const model::TensorInfo& tensor, FormatId format);

/// Bytes of the FP8 tensor in the format, with its scales (f32) if it needs any.
/// REQUIRES: can_convert.
std::uint64_t converted_bytes(const model::TensorInfo& tensor, FormatId format);

}  // namespace ktjit
