// What a tensor is for, by its name: the groups that rules speak of.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "model/model.h"

namespace ktjit::rules {

/// Every tensor is in exactly one group. Names are those of llama.cpp's GGUF files, of Hugging Face's
/// checkpoints, and of KTransformers' hybrids.
enum class NameGroup {
  kNorm,           ///< blk.0.attn_norm, layers.0.input_layernorm, self_attn.q_a_layernorm, ...
  kOutput,         ///< output.weight, lm_head.weight
  kEmbedding,      ///< token_embd, embed_tokens, positions and token types
  kRouter,         ///< ffn_gate_inp, exp_probs_b, mlp.gate.weight, e_score_correction_bias
  kBias,           ///< other names that end in bias, and vectors of attention and FFN
  kSharedExperts,  ///< ffn_up_shexp, mlp.shared_experts.up_proj
  kExperts,        ///< routed: ffn_up_exps, mlp.experts.0.up_proj, ffn_up.0 of old Mixtrals
  kAttention,      ///< attn_q, self_attn.q_proj, ...: matrices
  kFfn,            ///< dense: ffn_up, mlp.up_proj: matrices
  kOther,
};

/// "norm", "shared_experts", ...
std::string_view name_group_name(NameGroup group);
/// All groups, in the order of the type.
std::span<const NameGroup> all_name_groups();
/// Nothing for a name that is no group's.
std::optional<NameGroup> find_name_group(std::string_view name);

NameGroup name_group_of(const model::TensorInfo& tensor);

/// The number of the tensor's layer: 12 of "blk.12.attn_q.weight", "model.layers.12.mlp.gate.weight".
/// Nothing for tensors outside of layers.
std::optional<std::int64_t> layer_of(std::string_view tensor_name);

}  // namespace ktjit::rules
