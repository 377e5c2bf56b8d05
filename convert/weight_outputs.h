// How a weight lies in the output's files: which tensors hold its codes and its scales, under which names.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tensor_job.h"
#include "convert/weight_source.h"

#include "core/format.h"

namespace ktjit::convert {

enum class Container { kSafetensors, kGguf };

/// "blk.0.attn_q" of "blk.0.attn_q.weight", "a.b" of "a.b.weight_packed" and "a.b_blocks"; else the name.
std::string_view weight_stem(std::string_view name);

/// The tensors of a weight, codes first, then scales, then NVFP4's scale of the tensor. In safetensors, by what
/// the names end with after ".weight" (docs/CHECKPOINTS.md lists who reads them):
///   FP8, blocks           _scale_inv, [.., rows of scales, columns of scales]
///   FP8, a row or tensor  _scale, [.., rows, 1] or [1]
///   mxfp8, mxfp6          _scale, U8, [.., rows, cols / 32]
///   mxfp4                 .weight_packed and .weight_scale, U8
///   nvfp4                 U8, _scale F8_E4M3, _scale_2 F32
/// `scale_suffix` replaces _scale_inv or _scale: scales that are copied keep the name they had.
/// Errors: SpecError that names the tensor if the container can't hold the format, or the format the shape.
std::vector<OutputTensor> weight_outputs(Container container, const WeightSource& source,
                                         const WeightFormat& format,
                                         std::string_view scale_suffix = {});

/// A tensor of ggml's bytes in safetensors, as KTransformers has it: U8 [bytes], and the type's id, I64 [],
/// named .ggml_type in place of .weight. Errors: SpecError if the format has no type id.
std::vector<OutputTensor> raw_outputs(const WeightSource& source, FormatId format);

/// Where the scales of a row of blocks begin in their tensor, in bytes, NVFP4's without the plane's header.
std::uint64_t scale_offset(const WeightSource& source, const ScaleGrid& grid, std::int64_t matrix,
                           std::int64_t row);

}  // namespace ktjit::convert
