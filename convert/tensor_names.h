// The names of tensors in GGUF files and in Hugging Face's checkpoints, for the architectures that both have.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/model.h"

namespace ktjit::convert {

enum class Naming { kGguf, kHuggingFace };

/// An architecture whose names are known both ways.
struct Architecture {
  std::string_view gguf;        ///< general.architecture
  std::string_view model_type;  ///< of config.json
  std::string_view class_name;  ///< config.json's architectures
  bool permutes_heads;          ///< llama.cpp reorders the rows of q and k
  bool has_experts;
  bool is_mla;  ///< DeepSeek's compressed attention
};

/// By a GGUF file's general.architecture, or config.json's model_type ("deepseek_v3", "mistral").
/// Errors: InputError that names it and the known ones: llama, qwen2, qwen3, qwen3moe, deepseek2.
const Architecture& find_architecture(const model::Model& model);
/// Nothing where the other throws.
const Architecture* find_known_architecture(const model::Model& model);

/// What names the model's tensors have, by "blk." or "model."; nothing if neither is there.
std::optional<Naming> naming_of(const model::Model& model);

/// A name, and of routed experts, which Hugging Face keeps one by one and GGUF stacked, which one.
struct TranslatedName {
  std::string name;
  std::optional<std::int64_t> expert;
};

/// "blk.0.attn_q.weight" of "model.layers.0.self_attn.q_proj.weight"; "blk.3.ffn_up_exps.weight" and 7 of
/// "model.layers.3.mlp.experts.7.up_proj.weight". Nothing for other names.
std::optional<TranslatedName> to_gguf_name(std::string_view hugging_face);

/// The reverse. Of stacked experts the name has "{}" where the expert's number goes.
std::optional<std::string> to_hugging_face_name(std::string_view gguf);

/// "model.layers.12." or "blk.12." gives 12.
std::optional<std::int64_t> layer_of(std::string_view name);

/// Routed experts by either naming: "_exps." or ".mlp.experts.".
bool is_routed_expert(std::string_view name);

}  // namespace ktjit::convert
