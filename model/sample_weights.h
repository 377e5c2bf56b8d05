// Weights of the sample models: noise, the same at every call and on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/format.h"

namespace ktjit::model {

/// A [rows, cols] matrix whose decoded values deviate by about 1 / sqrt(cols); the name is the seed.
/// Integers are random bits.
/// REQUIRES: a float of 16 bits or more, a signed integer, or a format of ggml's.
std::vector<std::byte> make_sample_weights(std::string_view name, FormatId format,
                                           std::int64_t rows, std::int64_t cols);

/// The f32 weights of a norm: around 1.
std::vector<std::byte> make_sample_norm(std::string_view name, std::int64_t elements);

/// FP8 e4m3 codes, [rows, cols], none of them NaN.
std::vector<std::byte> make_sample_fp8(std::string_view name, std::int64_t rows, std::int64_t cols);

/// f32 scales, [rows, cols], that make make_sample_fp8's codes deviate by about
/// 1 / sqrt(weight_cols).
std::vector<std::byte> make_sample_fp8_scales(std::string_view name, std::int64_t rows,
                                              std::int64_t cols, std::int64_t weight_cols);

}  // namespace ktjit::model
