// KTransformers' merge script stores ggml tensors as their bytes in one dimension, without a shape.
// What the rest of the checkpoint says about the shape is put together here.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/format.h"
#include "model/metadata.h"
#include "model/stored_tensor.h"

namespace ktjit::model {

/// In ggml's order.
struct RawShape {
  std::array<std::int64_t, 4> ne = {1, 1, 1, 1};
  int n_dims = 1;
};

class HybridShapes {
 public:
  using FindTensor = std::function<const StoredTensor*(std::string_view name)>;

  /// Both must outlive this.
  HybridShapes(FindTensor find_tensor, const Metadata& metadata)
      : find_tensor_(std::move(find_tensor)), metadata_(metadata) {}

  /// The shape of a tensor of so many elements. Routed experts ("blk.3.ffn_down_exps.weight") get
  /// theirs from the layer's router "blk.3.ffn_gate_inp.weight", [experts, hidden], or else from
  /// config.json's n_routed_experts (num_experts, num_local_experts) and hidden_size; embeddings
  /// from the length of a norm or from hidden_size. Nothing if these don't say.
  ///
  /// Errors: InputError with `where` if they say what the number of elements, or config.json's
  /// moe_intermediate_size, contradicts.
  std::optional<RawShape> find_shape(const std::string& where, std::string_view name,
                                     std::int64_t elements) const;

 private:
  struct Layer {
    std::int64_t experts;
    std::int64_t hidden;
  };
  std::optional<Layer> find_layer(std::string_view prefix) const;
  std::optional<std::int64_t> find_hidden() const;

  FindTensor find_tensor_;
  const Metadata& metadata_;
};

/// Rows of 256 elements, or of one block where 256 doesn't divide: the elements in their order, for
/// a tensor whose shape nothing tells. REQUIRES: a whole number of blocks.
RawShape shape_as_rows(FormatId format, std::int64_t elements);

}  // namespace ktjit::model
