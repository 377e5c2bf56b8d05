#include "model/hybrid_shapes.h"

#include <fmt/format.h>

#include "core/error.h"
#include "model/checkpoint_config.h"

namespace ktjit::model {
namespace {

std::optional<std::int64_t> positive(std::optional<std::uint64_t> value) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 31;  // no model's extent comes near
  if (!value || *value == 0 || *value > kMost) return std::nullopt;
  return static_cast<std::int64_t>(*value);
}

}  // namespace

std::optional<HybridShapes::Layer> HybridShapes::find_layer(std::string_view prefix) const {
  const StoredTensor* router = find_tensor_(fmt::format("{}ffn_gate_inp.weight", prefix));
  if (router != nullptr && router->shape.size() == 2 && router->shape[0] > 0 &&
      router->shape[1] > 0) {
    return Layer{router->shape[0], router->shape[1]};
  }
  std::optional<std::int64_t> experts;
  for (const char* key : {"n_routed_experts", "num_experts", "num_local_experts"}) {
    if (!experts) experts = positive(find_config_uint(metadata_, key));
  }
  const auto hidden = find_hidden();
  if (!experts || !hidden) return std::nullopt;
  return Layer{*experts, *hidden};
}

std::optional<std::int64_t> HybridShapes::find_hidden() const {
  if (const auto hidden = positive(find_config_uint(metadata_, "hidden_size"))) return hidden;
  for (const char* name : {"output_norm.weight", "blk.0.attn_norm.weight"}) {
    const StoredTensor* norm = find_tensor_(name);
    if (norm != nullptr && norm->shape.size() == 1 && norm->shape[0] > 0) return norm->shape[0];
  }
  return std::nullopt;
}

std::optional<RawShape> HybridShapes::find_shape(const std::string& where, std::string_view name,
                                                 std::int64_t elements) const {
  const auto after_layer = name.find('.', name.find('.') + 1);
  const std::string_view role =
      after_layer == std::string_view::npos ? name : name.substr(after_layer + 1);
  const bool is_down = role == "ffn_down_exps.weight";
  const bool is_up = role == "ffn_gate_exps.weight" || role == "ffn_up_exps.weight";
  if (name.starts_with("blk.") && (is_down || is_up)) {
    const auto layer = find_layer(name.substr(0, after_layer + 1));
    if (!layer) return std::nullopt;
    const std::int64_t known = layer->experts * layer->hidden;
    if (elements % known != 0 || elements == 0) {
      throw InputError(where, fmt::format("has {} elements, expected a multiple of {} experts x {} "
                                          "hidden",
                                          elements, layer->experts, layer->hidden));
    }
    const std::int64_t inner = elements / known;
    const auto announced = positive(find_config_uint(metadata_, "moe_intermediate_size"));
    if (announced && *announced != inner) {
      throw InputError(where,
                       fmt::format("has {} elements, {} x {} x {}, but config.json gives "
                                   "moe_intermediate_size {}",
                                   elements, layer->experts, layer->hidden, inner, *announced));
    }
    if (is_down) return RawShape{{inner, layer->hidden, layer->experts, 1}, 3};
    return RawShape{{layer->hidden, inner, layer->experts, 1}, 3};
  }
  if (name == "token_embd.weight" || name == "output.weight") {
    const auto hidden = find_hidden();
    if (hidden && elements % *hidden == 0) return RawShape{{*hidden, elements / *hidden, 1, 1}, 2};
  }
  return std::nullopt;
}

RawShape shape_as_rows(FormatId id, std::int64_t elements) {
  constexpr std::int64_t kColumns = 256;
  const std::int64_t cols = elements % kColumns == 0 && kColumns % get_format(id).block_elems == 0
                                ? kColumns
                                : get_format(id).block_elems;
  return {{cols, elements / cols, 1, 1}, 2};
}

}  // namespace ktjit::model
