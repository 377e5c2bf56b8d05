#include "rules/name_group.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <utility>

#include "core/error.h"

namespace ktjit::rules {
namespace {

constexpr std::array<std::pair<NameGroup, std::string_view>, 10> kNames = {{
    {NameGroup::kNorm, "norm"},
    {NameGroup::kOutput, "output"},
    {NameGroup::kEmbedding, "embedding"},
    {NameGroup::kRouter, "router"},
    {NameGroup::kBias, "bias"},
    {NameGroup::kSharedExperts, "shared_experts"},
    {NameGroup::kExperts, "experts"},
    {NameGroup::kAttention, "attention"},
    {NameGroup::kFfn, "ffn"},
    {NameGroup::kOther, "other"},
}};

constexpr auto kGroups = [] {
  std::array<NameGroup, kNames.size()> groups{};
  for (std::size_t at = 0; at < kNames.size(); ++at) groups[at] = kNames[at].first;
  return groups;
}();

using Parts = std::initializer_list<std::string_view>;

bool has_any(std::string_view name, Parts parts) {
  return std::ranges::any_of(
      parts, [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

bool starts_with_any(std::string_view name, Parts parts) {
  return std::ranges::any_of(parts, [&](std::string_view part) { return name.starts_with(part); });
}

/// "blk.0.ffn_gate.3.weight": the form that Mixtral's experts had before they were stacked.
bool is_old_expert(std::string_view name) {
  for (const std::string_view marker : {".ffn_gate.", ".ffn_up.", ".ffn_down."}) {
    const std::size_t at = name.find(marker);
    if (at == std::string_view::npos || at + marker.size() == name.size()) continue;
    const char next = name[at + marker.size()];
    if (next >= '0' && next <= '9') return true;
  }
  return false;
}

}  // namespace

std::string_view name_group_name(NameGroup group) {
  for (const auto& [value, name] : kNames) {
    if (value == group) return name;
  }
  KTJIT_UNREACHABLE("a known group");
}

std::span<const NameGroup> all_name_groups() { return kGroups; }

std::optional<NameGroup> find_name_group(std::string_view name) {
  for (const auto& [value, known] : kNames) {
    if (known == name) return value;
  }
  return std::nullopt;
}

NameGroup name_group_of(const model::TensorInfo& tensor) {
  const std::string_view name = tensor.name;
  const bool is_vector = tensor.n_dims < 2;
  if (has_any(name, {"norm.", "layernorm", "LayerNorm", "_norm_", ".ln_1.", ".ln_2.", ".ln_f."}) ||
      name.ends_with("norm") || starts_with_any(name, {"ln_f."}))
    return NameGroup::kNorm;
  if (starts_with_any(name, {"output.", "lm_head.", "embed_out."}) || has_any(name, {".lm_head."}))
    return NameGroup::kOutput;
  if (has_any(name, {"token_embd", "embed_tokens", "word_embeddings", "tok_embeddings", "wte.",
                     "wpe.", "token_types", "position_embd"}))
    return NameGroup::kEmbedding;
  if (has_any(name, {"ffn_gate_inp", "exp_probs_b", ".mlp.gate.", "block_sparse_moe.gate.",
                     ".router.", "shared_expert_gate."}))
    return NameGroup::kRouter;
  if (name.ends_with("bias") || name.ends_with("biases")) return NameGroup::kBias;
  if (has_any(name, {"_shexp.", "shared_expert.", "shared_experts."}))
    return NameGroup::kSharedExperts;
  if (has_any(name, {"_exps.", ".experts."}) || is_old_expert(name)) return NameGroup::kExperts;
  if (has_any(name, {".attn_", ".self_attn.", ".attention.", ".linear_attn.", ".attn."}))
    return is_vector ? NameGroup::kBias : NameGroup::kAttention;
  if (has_any(name, {".ffn_", ".mlp.", ".feed_forward."}))
    return is_vector ? NameGroup::kBias : NameGroup::kFfn;
  return NameGroup::kOther;
}

std::optional<std::int64_t> layer_of(std::string_view tensor_name) {
  for (const std::string_view marker : {"blk.", "layers.", "h."}) {
    for (std::size_t at = tensor_name.find(marker); at != std::string_view::npos;
         at = tensor_name.find(marker, at + 1)) {
      if (at != 0 && tensor_name[at - 1] != '.') continue;
      std::int64_t layer = 0;
      const char* begin = tensor_name.data() + at + marker.size();
      const char* end = tensor_name.data() + tensor_name.size();
      const auto [rest, error] = std::from_chars(begin, end, layer);
      if (error == std::errc() && layer >= 0 && rest != end && *rest == '.') return layer;
    }
  }
  return std::nullopt;
}

}  // namespace ktjit::rules
