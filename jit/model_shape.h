// What a model's metadata, or its tensors' shapes, tell about its architecture: as much as memory and
// speed at decode depend on. GGUF keys and Hugging Face's config.json (keys "config.<path>").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/model.h"

namespace ktjit {

/// Layers that keep the same number of values for each token of the context.
struct CachedLayers {
  std::uint64_t layers = 0;
  std::uint64_t values_per_token = 0;          ///< keys and values of one layer
  std::optional<std::uint64_t> window_tokens;  ///< older tokens are dropped: sliding windows

  bool operator==(const CachedLayers&) const = default;
};

/// The cache of keys and values.
struct KvCache {
  std::vector<CachedLayers> layers;  ///< empty if the model doesn't tell
  std::string rule;          ///< in words: "61 layers x (512 + 64), MLA", or why nothing is known
  bool upper_bound = false;  ///< layers with windows are counted as if they had none

  bool known() const { return !layers.empty(); }
};

struct ModelShape {
  std::string architecture;                   ///< "llama", "deepseek_v3"; empty if unknown
  std::optional<std::uint64_t> layers;        ///< that a decoded token passes; without MTP layers
  std::optional<std::uint64_t> experts;       ///< routed experts of a layer
  std::optional<std::uint64_t> experts_used;  ///< of them, for one token
  KvCache kv_cache;
};

/// Errors: none; what the model doesn't tell, or tells beyond reason, is left out.
ModelShape read_model_shape(const model::Model& model);

/// Keys and values are taken as 16-bit floats.
constexpr std::uint64_t kKvValueBytes = 2;

/// Bytes of keys and values for `context` tokens; nothing if unknown, or beyond 2^64.
/// Formula: sum over layers of values_per_token * min(context, window) * 2.
std::optional<std::uint64_t> kv_cache_bytes(const KvCache& cache, std::int64_t context);

/// The longest context whose keys and values fit; 0 if none, nothing if the cache is unknown.
std::optional<std::int64_t> longest_context(const KvCache& cache, std::uint64_t bytes);

/// What a token that is decoded reads of a tensor.
enum class TensorRole {
  kDense,      ///< all of it
  kLookup,     ///< one row: embeddings
  kExpert,     ///< the share of the experts that are used
  kNotDecoded  ///< nothing: vision and audio towers, layers that predict further tokens
};

/// The role of each tensor of the model, in its order, by the names that llama.cpp, Hugging Face and
/// KTransformers give. An embedding that serves as output layer too is read whole: kDense.
std::vector<TensorRole> roles_of(const model::Model& model, const ModelShape& shape);

/// How wide a model is, in values for one token: what activations take.
struct ActivationWidth {
  std::uint64_t layer = 0;   ///< into and out of the widest matrix product of a layer
  std::uint64_t logits = 0;  ///< out of the output layer
};
ActivationWidth activation_width(const model::Model& model, const ModelShape& shape);

}  // namespace ktjit
