// Weights, scales and activations that tests give to kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "core/format.h"

namespace ktjit::test {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(std::span<const float> values);
std::vector<float> widened(FormatId format, const Bytes& bytes);

/// Valid weights of moderate size, made for one format. Those of ggml's formats repeat after 8 rows.
Bytes make_weights(FormatId format, std::int64_t rows, std::int64_t cols, std::mt19937& random);
/// A plane of positive scales of moderate size, as the grid's type has them.
Bytes make_scales(const ScaleGrid& grid, std::int64_t rows, std::int64_t cols,
                  std::mt19937& random);
std::vector<float> normal_values(std::size_t count, std::mt19937& random);
/// `values` rounded to the format; they become what the bytes say.
Bytes rounded_to(FormatId format, std::vector<float>& values);

}  // namespace ktjit::test
