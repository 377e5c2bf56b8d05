// Which formats a tensor can be converted to, and what it takes there.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/format.h"
#include "model/model.h"

namespace ktjit::rules {

/// Formats that tensors can be converted to: f32, f16, bf16, the FP8 and MX ones, nvfp4, q8_0, q4_0.
std::span<const FormatId> conversion_targets();

/// Scales of FP8 where nothing else was asked for: one for 128 x 128, in f32, as FP8 checkpoints are
/// published.
constexpr ScaleGrid kUsualFp8Scale = {128, 128, ScaleType::kF32};

/// Whether the tensor has the format, and the scales if `format` has any.
bool has_format(const model::TensorInfo& tensor, const WeightFormat& format);

/// Why the tensor can't be converted to the format, with the value and the expectation: "has 704
/// columns, q4_K takes a multiple of 256"; empty if it can.
std::string conversion_problem(const model::TensorInfo& tensor, const WeightFormat& format);

/// Bytes of the tensor's elements in the format, scales in a tensor of their own not counted.
/// REQUIRES: no conversion_problem.
std::uint64_t converted_code_bytes(const model::TensorInfo& tensor, const WeightFormat& format);
/// Bytes of those scales, 0 if the format has none. REQUIRES: no conversion_problem.
std::uint64_t converted_scale_bytes(const model::TensorInfo& tensor, const WeightFormat& format);

}  // namespace ktjit::rules
