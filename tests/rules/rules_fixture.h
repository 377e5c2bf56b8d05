// Tensors and models for tests of rules: names, formats and shapes, without bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/model.h"

namespace ktjit::test {

/// A matrix [rows, cols], or a vector if `rows` is 0.
inline model::TensorInfo make_tensor(const std::string& name, FormatId format = FormatId::kBF16,
                                     std::int64_t rows = 256, std::int64_t cols = 512,
                                     const std::optional<ScaleGrid>& scale = std::nullopt) {
  model::TensorInfo tensor;
  tensor.name = name;
  tensor.format = format;
  tensor.ne = {cols, rows == 0 ? 1 : rows, 1, 1};
  tensor.n_dims = rows == 0 ? 1 : 2;
  tensor.scale_grid = scale;
  return tensor;
}

inline model::Model make_model(std::vector<model::TensorInfo> tensors) {
  model::Model::Contents contents{};
  contents.container = "test";
  contents.tensors = std::move(tensors);
  return model::Model(std::move(contents));
}

}  // namespace ktjit::test
