#include "convert/tensor_choice.h"

#include <array>
#include <string_view>

namespace ktjit::convert {
namespace {

bool has_any(std::string_view name, std::span<const std::string_view> parts) {
  for (const std::string_view part : parts) {
    if (name.find(part) != std::string_view::npos) return true;
  }
  return false;
}

constexpr std::array<std::string_view, 8> kEmbeddings = {
    "token_embd",  "embed_tokens", "lm_head", "position_embd",
    "token_types", "wte.",         "wpe.",    "per_layer_token_embd"};
constexpr std::array<std::string_view, 4> kRouters = {"ffn_gate_inp", ".mlp.gate.", ".router.",
                                                      "block_sparse_moe.gate."};

/// Whether elements are numbers that a conversion may round: neither integers nor bare codes.
bool holds_weights(const model::TensorInfo& tensor) {
  const FormatFamily family = get_format(tensor.format).family;
  return family != FormatFamily::kInteger && family != FormatFamily::kStored;
}

}  // namespace

TensorRole role_of(const model::TensorInfo& tensor) {
  const std::string& name = tensor.name;
  if (tensor.n_dims < 2 || tensor.rows() < 1 || tensor.cols() < 1 || !holds_weights(tensor) ||
      name.ends_with(".bias") || name.find("norm") != std::string::npos) {
    return TensorRole::kOther;
  }
  if (name == "output.weight" || has_any(name, kEmbeddings)) return TensorRole::kEmbedding;
  if (has_any(name, kRouters)) return TensorRole::kRouter;
  return TensorRole::kLinear;
}

ChooseTensor choose_linears(WeightFormat format, bool all) {
  return [format, all](const model::TensorInfo& tensor) -> TensorChoice {
    switch (role_of(tensor)) {
      case TensorRole::kLinear:
        return {format, ""};
      case TensorRole::kEmbedding:
        if (all) return {format, "--all"};
        return {std::nullopt, "embeddings and output keep their format"};
      case TensorRole::kRouter:
        if (all) return {format, "--all"};
        return {std::nullopt, "routers keep their format"};
      case TensorRole::kOther:
        break;
    }
    return {std::nullopt, "norms, biases and all of one dimension keep their format"};
  };
}

ChooseTensor keep_all() {
  return [](const model::TensorInfo&) -> TensorChoice { return {}; };
}

}  // namespace ktjit::convert
