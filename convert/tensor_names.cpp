#include "convert/tensor_names.h"

#include <array>
#include <charconv>
#include <fmt/format.h>

#include "core/error.h"
#include "model/checkpoint_config.h"

namespace ktjit::convert {
namespace {

constexpr std::array kArchitectures = {
    Architecture{"llama", "llama", "LlamaForCausalLM", true, false, false},
    Architecture{"qwen2", "qwen2", "Qwen2ForCausalLM", false, false, false},
    Architecture{"qwen3", "qwen3", "Qwen3ForCausalLM", false, false, false},
    Architecture{"qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM", false, true, false},
    Architecture{"deepseek2", "deepseek_v3", "DeepseekV3ForCausalLM", false, true, true}};

struct NamePair {
  std::string_view hugging_face;
  std::string_view gguf;
};

// Of whole names; the part before ".weight" or ".bias".
constexpr std::array kOutside = {NamePair{"model.embed_tokens", "token_embd"},
                                 NamePair{"model.norm", "output_norm"},
                                 NamePair{"lm_head", "output"}};

// After "model.layers.N." and "blk.N.".
constexpr std::array kInLayer = {NamePair{"input_layernorm", "attn_norm"},
                                 NamePair{"post_attention_layernorm", "ffn_norm"},
                                 NamePair{"self_attn.q_proj", "attn_q"},
                                 NamePair{"self_attn.k_proj", "attn_k"},
                                 NamePair{"self_attn.v_proj", "attn_v"},
                                 NamePair{"self_attn.o_proj", "attn_output"},
                                 NamePair{"self_attn.q_norm", "attn_q_norm"},
                                 NamePair{"self_attn.k_norm", "attn_k_norm"},
                                 NamePair{"self_attn.q_a_proj", "attn_q_a"},
                                 NamePair{"self_attn.q_a_layernorm", "attn_q_a_norm"},
                                 NamePair{"self_attn.q_b_proj", "attn_q_b"},
                                 NamePair{"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
                                 NamePair{"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
                                 NamePair{"self_attn.kv_b_proj", "attn_kv_b"},
                                 NamePair{"mlp.gate_proj", "ffn_gate"},
                                 NamePair{"mlp.up_proj", "ffn_up"},
                                 NamePair{"mlp.down_proj", "ffn_down"},
                                 NamePair{"mlp.gate", "ffn_gate_inp"},
                                 NamePair{"mlp.experts.{}.gate_proj", "ffn_gate_exps"},
                                 NamePair{"mlp.experts.{}.up_proj", "ffn_up_exps"},
                                 NamePair{"mlp.experts.{}.down_proj", "ffn_down_exps"},
                                 NamePair{"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
                                 NamePair{"mlp.shared_experts.up_proj", "ffn_up_shexp"},
                                 NamePair{"mlp.shared_experts.down_proj", "ffn_down_shexp"}};

// DeepSeek's, the one name whose ending differs too.
constexpr NamePair kCorrectionBias = {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"};

constexpr std::string_view kHuggingFaceLayers = "model.layers.";
constexpr std::string_view kGgufLayers = "blk.";

/// "blk.12.attn_q.weight" as "12", "attn_q", ".weight".
struct LayerName {
  std::string_view number;
  std::string_view stem;
  std::string_view ending;
};

void split_ending(std::string_view& stem, std::string_view& ending) {
  for (const std::string_view known : {".weight", ".bias"}) {
    if (!stem.ends_with(known)) continue;
    ending = known;
    stem.remove_suffix(known.size());
    return;
  }
}

std::optional<LayerName> split_layer(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const std::size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos) return std::nullopt;
  LayerName parts{name.substr(0, dot), name.substr(dot + 1), {}};
  if (parts.number.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  return parts;
}

/// "mlp.experts.7.up_proj" with 7 as "{}".
std::string take_expert(std::string_view stem, std::optional<std::int64_t>& expert) {
  constexpr std::string_view kExperts = "mlp.experts.";
  if (!stem.starts_with(kExperts)) return std::string(stem);
  const std::string_view rest = stem.substr(kExperts.size());
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc()) return std::string(stem);
  expert = number;
  return fmt::format("{}{{}}{}", kExperts, std::string_view(end, rest.data() + rest.size()));
}

std::string known_architectures() {
  std::string names;
  for (const Architecture& one : kArchitectures)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", one.gguf);
  return names;
}

std::string architecture_name(const model::Model& model) {
  if (const auto name = model.metadata().find_string("general.architecture"))
    return std::string(*name);
  const model::MetadataValue* type = model::find_config(model.metadata(), "model_type");
  const auto* text = type == nullptr ? nullptr : std::get_if<std::string>(type);
  return text == nullptr ? "" : *text;
}

}  // namespace

const Architecture* find_known_architecture(const model::Model& model) {
  std::string name = architecture_name(model);
  if (name == "mistral") name = "llama";
  if (name == "deepseek_v2") name = "deepseek_v3";
  for (const Architecture& one : kArchitectures) {
    if (name == one.gguf || name == one.model_type) return &one;
  }
  return nullptr;
}

const Architecture& find_architecture(const model::Model& model) {
  if (const Architecture* found = find_known_architecture(model)) return *found;
  const std::string name = architecture_name(model);
  throw InputError(model.files().front().string(),
                   name.empty()
                       ? fmt::format("says nothing of its architecture, expected one whose names "
                                     "are known: {}",
                                     known_architectures())
                       : fmt::format("is a '{}', whose names are not known; known are {}", name,
                                     known_architectures()));
}

std::optional<Naming> naming_of(const model::Model& model) {
  for (const model::TensorInfo& tensor : model.tensors()) {
    if (tensor.name.starts_with(kGgufLayers) || tensor.name.starts_with("token_embd."))
      return Naming::kGguf;
    if (tensor.name.starts_with("model.") || tensor.name.starts_with("lm_head."))
      return Naming::kHuggingFace;
  }
  return std::nullopt;
}

std::optional<TranslatedName> to_gguf_name(std::string_view name) {
  const auto layer = split_layer(name, kHuggingFaceLayers);
  if (!layer) {
    std::string_view stem = name;
    std::string_view ending;
    split_ending(stem, ending);
    for (const NamePair& pair : kOutside) {
      if (stem == pair.hugging_face)
        return TranslatedName{fmt::format("{}{}", pair.gguf, ending), {}};
    }
    return std::nullopt;
  }
  if (layer->stem == kCorrectionBias.hugging_face)
    return TranslatedName{fmt::format("blk.{}.{}", layer->number, kCorrectionBias.gguf), {}};
  std::string_view stem = layer->stem;
  std::string_view ending;
  split_ending(stem, ending);
  TranslatedName result;
  const std::string wanted = take_expert(stem, result.expert);
  for (const NamePair& pair : kInLayer) {
    if (wanted != pair.hugging_face) continue;
    result.name = fmt::format("blk.{}.{}{}", layer->number, pair.gguf, ending);
    return result;
  }
  return std::nullopt;
}

std::optional<std::string> to_hugging_face_name(std::string_view name) {
  const auto layer = split_layer(name, kGgufLayers);
  std::string_view stem = layer ? layer->stem : name;
  if (layer && stem == kCorrectionBias.gguf)
    return fmt::format("model.layers.{}.{}", layer->number, kCorrectionBias.hugging_face);
  std::string_view ending;
  split_ending(stem, ending);
  if (!layer) {
    for (const NamePair& pair : kOutside) {
      if (stem == pair.gguf) return fmt::format("{}{}", pair.hugging_face, ending);
    }
    return std::nullopt;
  }
  for (const NamePair& pair : kInLayer) {
    if (stem == pair.gguf)
      return fmt::format("model.layers.{}.{}{}", layer->number, pair.hugging_face, ending);
  }
  return std::nullopt;
}

std::optional<std::int64_t> layer_of(std::string_view name) {
  for (const std::string_view prefix : {kHuggingFaceLayers, kGgufLayers}) {
    if (const auto layer = split_layer(name, prefix)) {
      std::int64_t number = 0;
      std::from_chars(layer->number.data(), layer->number.data() + layer->number.size(), number);
      return number;
    }
  }
  return std::nullopt;
}

bool is_routed_expert(std::string_view name) {
  return name.find("_exps.") != std::string_view::npos ||
         name.find(".mlp.experts.") != std::string_view::npos;
}

}  // namespace ktjit::convert
