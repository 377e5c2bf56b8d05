// The experts of a layer in one tensor: matrices of one format and shape, one after another, as moe_matvec
// takes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/format.h"
#include "jit/reference_ops.h"
#include "model/model.h"

namespace ktjit {

/// Matrices [rows, cols] of one format, one after another, and their planes of scales likewise, each
/// expert_scale_bytes from the last. Does not own the bytes.
struct ExpertStackView {
  FormatId format = FormatId::kF32;
  std::int64_t experts = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::span<const std::byte> data;
  std::optional<ScaleGrid> scale_grid;
  std::span<const std::byte> scale_data;

  /// One of the matrices. Errors: SpecError if there is none of that index, or data and scale_data are too
  /// short for it.
  ScaledTensorView expert(std::int64_t index) const;
  /// The first `count` experts. Errors: as expert.
  ExpertStackView first(std::int64_t count) const;
};

/// A stack, with its scales where they had to be copied.
struct ExpertStack {
  ExpertStackView view;
  std::vector<std::byte> scales;  ///< that view.scale_data refers to, or empty
};

/// The experts of a matrix [experts * rows, cols] with one plane of scales, as models are read. A scale that all
/// rows share, or the header of the plane, is copied for each expert.
/// Errors: SpecError if the rows don't divide into so many experts, or a scale block lies in two of them.
ExpertStack split_into_experts(const ScaledTensorView& matrix, std::int64_t experts);

/// How many experts a model's tensor stacks: of three dimensions, with "exps" or "experts" in its name
/// ("blk.0.ffn_up_exps.weight", "model.layers.0.mlp.experts.down_proj"); 0 for other tensors.
std::int64_t experts_of(const model::TensorInfo& tensor);

}  // namespace ktjit
