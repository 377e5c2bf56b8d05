// The jobs of conversions: copies, decodes to floats of 16 and 32 bits, and quantising with scales that are
// chosen or given.
#pragma once

#include <memory>
#include <string>

#include "convert/tensor_job.h"
#include "convert/weight_outputs.h"
#include "convert/weight_source.h"

#include "core/format.h"

namespace ktjit::convert {

/// The input's bytes, and its scales, as they are: rows in the source's order.
/// REQUIRES: can_copy.
std::unique_ptr<TensorJob> make_copy_job(WeightSource source, std::vector<OutputTensor> outputs);

/// Whether all parts have the format, and the scales can follow their rows.
bool can_copy(const WeightSource& source, const WeightFormat& format);

/// ggml's bytes and their type: outputs of raw_outputs.
std::unique_ptr<TensorJob> make_raw_job(WeightSource source, std::vector<OutputTensor> outputs);

/// f32, f16 or bf16, each value rounded once to nearest even.
std::unique_ptr<TensorJob> make_float_job(WeightSource source, FormatId to,
                                          std::vector<OutputTensor> outputs);

/// Codes and scales. The scale of a block is chosen from its largest magnitude, as jit/reference_encode.h says
/// for f32 and E8M0 scales; bf16 scales are the f32 ones rounded to nearest, and one scale for a tensor is
/// that of one block.
/// Errors of produce: InputError that names the tensor if a block has values that no finite scale serves.
std::unique_ptr<TensorJob> make_quantize_job(WeightSource source, WeightFormat to,
                                             std::vector<OutputTensor> outputs);

/// Codes of x / scale with the scales of another tensor, which are copied: with those that a tensor was
/// decoded with, e4m3 -> bf16 -> e4m3 gives the codes that were there.
/// REQUIRES: `scales` outlives the job and has the source's shape and FP8 scales.
std::unique_ptr<TensorJob> make_given_scale_job(WeightSource source,
                                                const model::TensorInfo& scales,
                                                std::vector<OutputTensor> outputs);

}  // namespace ktjit::convert
