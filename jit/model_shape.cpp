// Keys: llama.cpp's gguf-py constants and Hugging Face's configuration classes (August 2026).
#include "jit/model_shape.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/format.h>
#include <limits>
#include <string_view>
#include <utility>

namespace ktjit {
namespace {

using model::Metadata;
using model::TensorInfo;

/// Beyond this a number of layers, heads or values is damage, not a model.
constexpr std::uint64_t kPlausible = std::uint64_t{1} << 32;

/// One of the two vocabularies of keys.
struct KeyNames {
  std::string_view gguf;    ///< after "<architecture>."
  std::string_view config;  ///< in config.json
};

/// Looks keys up in the vocabularies that the model has: folders with both kinds of files have both,
/// and GGUF's come first.
class Facts {
 public:
  explicit Facts(const Metadata& metadata) : metadata_(metadata) {
    if (const auto arch = metadata.find_string("general.architecture")) {
      architecture_ = *arch;
      gguf_prefix_ = architecture_ + ".";
    } else {
      architecture_ = metadata.find_string("config.model_type").value_or("");
    }
    // Models that see or hear keep the text model's configuration below a key of its own.
    for (const std::string_view nested : {"", "text_config.", "llm_config.", "language_config."}) {
      const std::string prefix = fmt::format("config.{}", nested);
      if (!metadata.find_uint(prefix + "num_hidden_layers")) continue;
      config_prefix_ = prefix;
      break;
    }
  }

  const std::string& architecture() const { return architecture_; }
  bool is_config() const { return gguf_prefix_.empty(); }

  const model::MetadataValue* find(const KeyNames& names) const {
    for (const std::string& key : keys_of(names)) {
      if (const model::MetadataValue* value = metadata_.find(key)) return value;
    }
    return nullptr;
  }
  std::optional<std::uint64_t> number(const KeyNames& names) const {
    for (const std::string& key : keys_of(names)) {
      const auto value = metadata_.find_uint(key);
      if (value && *value <= kPlausible) return value;
    }
    return std::nullopt;
  }
  /// A number that isn't zero: writers say "none" by a zero.
  std::optional<std::uint64_t> positive(const KeyNames& names) const {
    const auto value = number(names);
    return value && *value > 0 ? value : std::nullopt;
  }
  /// One number a layer.
  std::vector<std::uint64_t> numbers(const KeyNames& names, std::uint64_t layers) const {
    std::optional<std::vector<std::uint64_t>> values;
    for (const std::string& key : keys_of(names)) {
      if (!values) values = metadata_.find_uints(key);
    }
    if (!values || values->empty()) return {};
    if (std::ranges::any_of(*values, [](std::uint64_t value) { return value > kPlausible; }))
      return {};
    if (values->size() == 1) values->assign(static_cast<std::size_t>(layers), values->front());
    if (values->size() < layers) return {};
    values->resize(static_cast<std::size_t>(layers));
    return *std::move(values);
  }
  std::optional<bool> flag(const KeyNames& names) const {
    for (const std::string& key : keys_of(names)) {
      if (const auto value = metadata_.find_bool(key)) return value;
    }
    return std::nullopt;
  }
  std::span<const std::string> strings(const KeyNames& names) const {
    for (const std::string& key : keys_of(names)) {
      if (const auto values = metadata_.find_strings(key); !values.empty()) return values;
    }
    return {};
  }
  /// Whether any key of this architecture begins so.
  bool any_key_begins(const KeyNames& names) const {
    const std::vector<std::string> starts = keys_of(names);
    return std::ranges::any_of(metadata_.entries(), [&](const Metadata::Entry& entry) {
      return std::ranges::any_of(
          starts, [&](const std::string& start) { return entry.key.starts_with(start); });
    });
  }

 private:
  std::vector<std::string> keys_of(const KeyNames& names) const {
    std::vector<std::string> keys;
    if (!gguf_prefix_.empty() && !names.gguf.empty())
      keys.push_back(gguf_prefix_ + std::string(names.gguf));
    if (!config_prefix_.empty() && !names.config.empty())
      keys.push_back(config_prefix_ + std::string(names.config));
    return keys;
  }

  const Metadata& metadata_;
  std::string architecture_;
  std::string gguf_prefix_;    ///< empty without GGUF metadata
  std::string config_prefix_;  ///< empty without config.json
};

/// Which tokens a layer keeps.
enum class LayerKind { kFull, kWindow, kNoCache };

/// How many layers there are for one that sees everything, where files don't say it. Source:
/// llama.cpp's src/llama-model.cpp (set_swa_pattern) and the models' cards.
struct WindowPeriod {
  std::string_view architecture;
  std::uint64_t period;
};
constexpr std::array kWindowPeriods = {
    WindowPeriod{"gemma2", 2},  WindowPeriod{"gemma3", 6},  WindowPeriod{"gemma3_text", 6},
    WindowPeriod{"cohere2", 4}, WindowPeriod{"gpt-oss", 2},
};

std::vector<LayerKind> periodic(std::uint64_t layers, std::uint64_t period, LayerKind others) {
  std::vector<LayerKind> kinds(static_cast<std::size_t>(layers), others);
  for (std::size_t at = period - 1; at < kinds.size(); at += period) kinds[at] = LayerKind::kFull;
  return kinds;
}

/// The kind of each layer. `upper_bound` is set if windows exist but not where.
std::vector<LayerKind> layer_kinds(const Facts& facts, std::uint64_t layers, bool has_window,
                                   bool* upper_bound) {
  const auto types = facts.strings({"", "layer_types"});
  if (types.size() >= layers) {
    std::vector<LayerKind> kinds;
    for (const std::string& type : types.first(static_cast<std::size_t>(layers))) {
      const bool window = type == "sliding_attention" || type == "chunked_attention";
      const bool none = type.find("linear") != std::string::npos || type == "mamba" ||
                        type == "recurrent" || type == "conv";
      kinds.push_back(none                   ? LayerKind::kNoCache
                      : window && has_window ? LayerKind::kWindow
                                             : LayerKind::kFull);
    }
    return kinds;
  }
  if (const auto period = facts.positive({"full_attention_interval", "full_attention_interval"})) {
    return periodic(layers, *period, LayerKind::kNoCache);
  }
  if (!has_window) return std::vector(static_cast<std::size_t>(layers), LayerKind::kFull);

  constexpr KeyNames kPattern = {"attention.sliding_window_pattern", "sliding_window_pattern"};
  if (const model::MetadataValue* value = facts.find(kPattern)) {
    if (const auto* windows = std::get_if<std::vector<bool>>(value);
        windows != nullptr && windows->size() >= layers) {
      std::vector<LayerKind> kinds;
      for (std::size_t at = 0; at < layers; ++at)
        kinds.push_back((*windows)[at] ? LayerKind::kWindow : LayerKind::kFull);
      return kinds;
    }
    if (const auto period = facts.positive(kPattern))
      return periodic(layers, *period, LayerKind::kWindow);
  }
  for (const WindowPeriod& known : kWindowPeriods) {
    if (known.architecture == facts.architecture())
      return periodic(layers, known.period, LayerKind::kWindow);
  }
  // config.json without types: all layers have the window (Mistral). Qwen2 says from which on.
  if (facts.is_config()) {
    const std::uint64_t first = facts.number({"", "max_window_layers"}).value_or(0);
    std::vector<LayerKind> kinds(static_cast<std::size_t>(layers), LayerKind::kWindow);
    std::fill_n(kinds.begin(), std::min(first, layers), LayerKind::kFull);
    return kinds;
  }
  *upper_bound = true;
  return std::vector(static_cast<std::size_t>(layers), LayerKind::kFull);
}

/// Collects layers, equal neighbours counted together.
void add_layer(std::vector<CachedLayers>& groups, const CachedLayers& layer) {
  if (layer.layers == 0 || layer.values_per_token == 0) return;
  const auto same = std::ranges::find_if(groups, [&](const CachedLayers& group) {
    return group.values_per_token == layer.values_per_token &&
           group.window_tokens == layer.window_tokens;
  });
  if (same != groups.end()) {
    same->layers += layer.layers;
  } else {
    groups.push_back(layer);
  }
}

std::string group_rule(const CachedLayers& group, std::string_view values) {
  std::string text =
      fmt::format("{} {} x {}", group.layers, group.layers == 1 ? "layer" : "layers", values);
  if (group.window_tokens) text += fmt::format(" in a window of {}", *group.window_tokens);
  return text;
}

/// One compressed vector and one rotated key for each token and layer.
KvCache latent_cache(const Facts& facts, std::uint64_t layers, std::uint64_t rank) {
  const auto rope = facts.positive({"rope.dimension_count", "qk_rope_head_dim"});
  if (!rope) return {{}, "kv_lora_rank is there, but not the size of the rotated key", false};
  std::uint64_t values = rank + *rope;
  std::string text = fmt::format("({} + {})", rank, *rope);
  if (const auto index = facts.positive({"attention.indexer.key_length", "index_head_dim"})) {
    values += *index;
    text = fmt::format("({} + {} + {} of the indexer)", rank, *rope, *index);
  }
  KvCache cache;
  cache.layers.push_back({layers, values, std::nullopt});
  cache.rule = group_rule(cache.layers.front(), text) + ", MLA";
  return cache;
}

KvCache plain_cache(const Facts& facts, std::uint64_t layers) {
  const auto heads = facts.positive({"attention.head_count", "num_attention_heads"});
  std::vector<std::uint64_t> kv_heads =
      facts.numbers({"attention.head_count_kv", "num_key_value_heads"}, layers);
  if (kv_heads.empty() && heads) kv_heads.assign(static_cast<std::size_t>(layers), *heads);
  if (kv_heads.empty()) return {{}, "the number of heads is not there", false};

  auto key_size = facts.positive({"attention.key_length", "head_dim"});
  if (!key_size && heads) {
    const auto width = facts.positive({"embedding_length", "hidden_size"});
    if (width) key_size = *width / *heads;
  }
  if (!key_size) return {{}, "the size of a head is not there", false};
  const std::uint64_t value_size =
      facts.positive({"attention.value_length", "v_head_dim"}).value_or(*key_size);

  auto window = facts.positive({"attention.sliding_window", "sliding_window"});
  if (!window) window = facts.positive({"attention.chunk_size", "attention_chunk_size"});
  if (facts.flag({"", "use_sliding_window"}) == false) window.reset();
  const bool uniform_heads =
      std::ranges::all_of(kv_heads, [&](std::uint64_t n) { return n == kv_heads.front(); });
  const bool recurrent =
      facts.any_key_begins({"ssm.", "mamba_"}) || facts.any_key_begins({"wkv", "ssm_"});
  const bool says_which = !facts.strings({"", "layer_types"}).empty() || !uniform_heads ||
                          facts.number({"full_attention_interval", "full_attention_interval"});
  if (recurrent && !says_which) return {{}, "it has recurrent layers and doesn't say which", false};

  KvCache cache;
  const std::vector<LayerKind> kinds =
      layer_kinds(facts, layers, window.has_value(), &cache.upper_bound);
  for (std::size_t at = 0; at < layers; ++at) {
    if (kinds[at] == LayerKind::kNoCache) continue;
    CachedLayers layer{1, kv_heads[at] * (*key_size + value_size), std::nullopt};
    if (kinds[at] == LayerKind::kWindow) layer.window_tokens = window;
    add_layer(cache.layers, layer);
  }
  std::vector<std::string> rules;
  for (const CachedLayers& group : cache.layers) {
    const std::uint64_t n = group.values_per_token / (*key_size + value_size);
    rules.push_back(
        group_rule(group, fmt::format("{} heads x ({} + {})", n, *key_size, value_size)));
  }
  cache.rule = cache.known() ? fmt::format("{}", fmt::join(rules, " + ")) : "no layer keeps any";
  if (cache.upper_bound) {
    cache.rule += fmt::format(", at most: layers with a window of {} are not named", *window);
  }
  return cache;
}

bool ends_with_any(std::string_view text, std::initializer_list<std::string_view> ends) {
  return std::ranges::any_of(ends, [&](std::string_view end) { return text.ends_with(end); });
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// Without metadata: the projections that write the cache say how wide it is.
KvCache cache_from_tensors(const model::Model& model) {
  std::vector<CachedLayers> latent;
  std::vector<CachedLayers> plain;
  for (const TensorInfo& tensor : model.tensors()) {
    const auto rows = static_cast<std::uint64_t>(tensor.rows());
    if (ends_with_any(tensor.name, {"attn_kv_a_mqa.weight", "kv_a_proj_with_mqa.weight"})) {
      add_layer(latent, {1, rows, std::nullopt});
    } else if (ends_with_any(tensor.name, {".attn_k.weight", ".self_attn.k_proj.weight"})) {
      add_layer(plain, {1, 2 * rows, std::nullopt});  // keys and values of equal width
    }
  }
  KvCache cache;
  cache.layers = latent.empty() ? plain : latent;
  if (cache.layers.empty()) {
    cache.rule = "neither metadata nor tensors of keys and values tell";
    return cache;
  }
  std::vector<std::string> rules;
  for (const CachedLayers& group : cache.layers)
    rules.push_back(group_rule(group, fmt::format("{}", group.values_per_token)));
  cache.rule = fmt::format("{}{}, by the tensors' shapes", fmt::join(rules, " + "),
                           latent.empty() ? "" : ", MLA");
  return cache;
}

/// The number after the first `marker` that has one: "blk.12.", "layers.12.".
std::optional<std::uint64_t> layer_of(std::string_view name) {
  for (const std::string_view marker : {"blk.", "layers."}) {
    const std::size_t at = name.find(marker);
    if (at == std::string_view::npos) continue;
    std::uint64_t layer = 0;
    const char* begin = name.data() + at + marker.size();
    const auto [rest, error] = std::from_chars(begin, name.data() + name.size(), layer);
    if (error == std::errc() && rest != begin) return layer;
  }
  return std::nullopt;
}

/// Without metadata: one more than the largest number of a layer.
std::optional<std::uint64_t> layers_of_tensors(const model::Model& model) {
  std::optional<std::uint64_t> layers;
  for (const TensorInfo& tensor : model.tensors()) {
    const auto layer = layer_of(tensor.name);
    if (layer && *layer < kPlausible) layers = std::max(layers.value_or(0), *layer + 1);
  }
  return layers;
}

bool is_expert(std::string_view name) {
  if (contains(name, "_exps.") || contains(name, ".experts.")) return true;
  // The old form of Mixtral's: blk.0.ffn_gate.3.weight.
  for (const std::string_view marker : {".ffn_gate.", ".ffn_up.", ".ffn_down."}) {
    const std::size_t at = name.find(marker);
    if (at == std::string_view::npos) continue;
    const std::string_view rest = name.substr(at + marker.size());
    if (!rest.empty() && rest.front() >= '0' && rest.front() <= '9') return true;
  }
  return false;
}

bool is_output_layer(std::string_view name) {
  return name == "output.weight" || ends_with_any(name, {"lm_head.weight"});
}

bool is_word_embedding(std::string_view name) {
  return name == "token_embd.weight" ||
         ends_with_any(name, {"embed_tokens.weight", "wte.weight", "word_embeddings.weight",
                              "tok_embeddings.weight"});
}

bool is_other_lookup(std::string_view name) {
  return ends_with_any(name, {"token_types.weight", "position_embd.weight", "wpe.weight",
                              "per_layer_token_embd.weight", "embed_tokens_per_layer.weight"});
}

TensorRole role_by_name(std::string_view name, const ModelShape& shape) {
  for (const std::string_view part : {"vision", "visual.", "v.blk.", "v.patch", "mm.", "audio",
                                      "multi_modal_projector", "mtp.", "nextn", "enc.blk."}) {
    const std::size_t at = name.find(part);
    if (at == 0 || (at != std::string_view::npos && name[at - 1] == '.'))
      return TensorRole::kNotDecoded;
  }
  if (const auto layer = layer_of(name); layer && shape.layers && *layer >= *shape.layers)
    return TensorRole::kNotDecoded;
  if (is_expert(name)) return TensorRole::kExpert;
  if (is_word_embedding(name) || is_other_lookup(name)) return TensorRole::kLookup;
  return TensorRole::kDense;
}

}  // namespace

ModelShape read_model_shape(const model::Model& model) {
  const Facts facts(model.metadata());
  ModelShape shape;
  shape.architecture = facts.architecture();
  shape.layers = facts.positive({"block_count", "num_hidden_layers"});
  // GGUF counts the layers that predict further tokens, config.json doesn't.
  const auto further = facts.positive({"nextn_predict_layers", ""});
  if (shape.layers && further && *further < *shape.layers) *shape.layers -= *further;
  for (const std::string_view name : {"n_routed_experts", "num_experts", "num_local_experts"}) {
    if (!shape.experts) shape.experts = facts.positive({"expert_count", name});
  }
  for (const std::string_view name :
       {"num_experts_per_tok", "num_experts_per_token", "top_k_experts"}) {
    if (!shape.experts_used) shape.experts_used = facts.positive({"expert_used_count", name});
  }

  constexpr std::uint64_t kMostLayers = 100'000;  // a vector is made of them
  if (!shape.layers || *shape.layers > kMostLayers) {
    shape.layers = layers_of_tensors(model);
    shape.kv_cache = cache_from_tensors(model);
  } else if (facts.find({"", "compress_ratios"}) != nullptr) {
    shape.kv_cache.rule = "its cache is compressed in a way that is not known here";
  } else if (const auto rank = facts.positive({"attention.kv_lora_rank", "kv_lora_rank"})) {
    shape.kv_cache = latent_cache(facts, *shape.layers, *rank);
  } else {
    shape.kv_cache = plain_cache(facts, *shape.layers);
  }
  return shape;
}

std::optional<std::uint64_t> kv_cache_bytes(const KvCache& cache, std::int64_t context) {
  if (!cache.known() || context < 0) return std::nullopt;
  std::uint64_t total = 0;
  for (const CachedLayers& group : cache.layers) {
    const std::uint64_t tokens =
        std::min(static_cast<std::uint64_t>(context),
                 group.window_tokens.value_or(std::numeric_limits<std::uint64_t>::max()));
    std::uint64_t bytes = kKvValueBytes;
    for (const std::uint64_t factor : {group.layers, group.values_per_token, tokens}) {
      if (__builtin_mul_overflow(bytes, factor, &bytes)) return std::nullopt;
    }
    if (__builtin_add_overflow(total, bytes, &total)) return std::nullopt;
  }
  return total;
}

std::optional<std::int64_t> longest_context(const KvCache& cache, std::uint64_t bytes) {
  if (!cache.known()) return std::nullopt;
  const auto fits = [&](std::int64_t context) {
    const auto need = kv_cache_bytes(cache, context);
    return need && *need <= bytes;
  };
  std::int64_t low = 0;
  std::int64_t high = std::int64_t{1} << 40;
  if (fits(high)) return high;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

std::vector<TensorRole> roles_of(const model::Model& model, const ModelShape& shape) {
  const bool has_output_layer = std::ranges::any_of(
      model.tensors(), [](const TensorInfo& tensor) { return is_output_layer(tensor.name); });
  std::vector<TensorRole> roles;
  for (const TensorInfo& tensor : model.tensors()) {
    const bool tied = !has_output_layer && is_word_embedding(tensor.name);
    roles.push_back(tied ? TensorRole::kDense : role_by_name(tensor.name, shape));
  }
  return roles;
}

ActivationWidth activation_width(const model::Model& model, const ModelShape& shape) {
  ActivationWidth width;
  for (const TensorInfo& tensor : model.tensors()) {
    const auto rows = static_cast<std::uint64_t>(tensor.ne[1]);
    const auto cols = static_cast<std::uint64_t>(tensor.ne[0]);
    if (is_output_layer(tensor.name) || is_word_embedding(tensor.name)) {
      width.logits = std::max(width.logits, rows);
    } else if (layer_of(tensor.name) && tensor.n_dims >= 2) {
      const std::uint64_t copies = is_expert(tensor.name) ? shape.experts_used.value_or(1) : 1;
      width.layer = std::max(width.layer, copies * (rows + cols));
    }
  }
  return width;
}

}  // namespace ktjit
