#include "convert/model_config.h"

#include <array>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "convert/rope_scaling.h"

#include "core/error.h"
#include "model/checkpoint_config.h"

namespace ktjit::convert {
namespace {

using Json = nlohmann::ordered_json;

enum class Kind { kCount, kNumber, kFlag };
enum class Of { kAll, kExperts, kMla };

/// One hyperparameter under both names; that of GGUF follows the architecture's.
struct Parameter {
  std::string_view config;
  std::string_view gguf;
  Kind kind;
  Of of;
};

constexpr std::array kParameters = {
    Parameter{"num_hidden_layers", "block_count", Kind::kCount, Of::kAll},
    Parameter{"max_position_embeddings", "context_length", Kind::kCount, Of::kAll},
    Parameter{"hidden_size", "embedding_length", Kind::kCount, Of::kAll},
    Parameter{"intermediate_size", "feed_forward_length", Kind::kCount, Of::kAll},
    Parameter{"num_attention_heads", "attention.head_count", Kind::kCount, Of::kAll},
    Parameter{"num_key_value_heads", "attention.head_count_kv", Kind::kCount, Of::kAll},
    Parameter{"rope_theta", "rope.freq_base", Kind::kNumber, Of::kAll},
    Parameter{"rms_norm_eps", "attention.layer_norm_rms_epsilon", Kind::kNumber, Of::kAll},
    Parameter{"vocab_size", "vocab_size", Kind::kCount, Of::kAll},
    Parameter{"num_experts_per_tok", "expert_used_count", Kind::kCount, Of::kExperts},
    Parameter{"moe_intermediate_size", "expert_feed_forward_length", Kind::kCount, Of::kExperts},
    Parameter{"n_shared_experts", "expert_shared_count", Kind::kCount, Of::kMla},
    Parameter{"first_k_dense_replace", "leading_dense_block_count", Kind::kCount, Of::kMla},
    Parameter{"q_lora_rank", "attention.q_lora_rank", Kind::kCount, Of::kMla},
    Parameter{"kv_lora_rank", "attention.kv_lora_rank", Kind::kCount, Of::kMla},
    Parameter{"qk_rope_head_dim", "rope.dimension_count", Kind::kCount, Of::kMla},
    Parameter{"routed_scaling_factor", "expert_weights_scale", Kind::kNumber, Of::kMla},
    Parameter{"n_group", "expert_group_count", Kind::kCount, Of::kMla},
    Parameter{"topk_group", "expert_group_used_count", Kind::kCount, Of::kMla},
    Parameter{"norm_topk_prob", "expert_weights_norm", Kind::kFlag, Of::kExperts}};

bool serves(const Parameter& parameter, const Architecture& architecture) {
  if (parameter.of == Of::kExperts) return architecture.has_experts;
  return parameter.of == Of::kAll || architecture.is_mla;
}

std::string_view experts_key(const Architecture& architecture) {
  return architecture.is_mla ? "n_routed_experts" : "num_experts";
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// config.json beside the input's files.
std::optional<Json> read_config(const model::Model& input) {
  const std::filesystem::path path = input.files().front().parent_path() / "config.json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    return Json::parse(read_text(path));
  } catch (const nlohmann::json::exception& error) {
    throw InputError(path.string(), fmt::format("is no JSON: {}", error.what()));
  }
}

constexpr std::uint32_t kSoftmax = 1;  // llama.cpp's LLAMA_EXPERT_GATING_FUNC_TYPE_*
constexpr std::uint32_t kSigmoid = 2;

/// What transformers calls a dtype; f32 for what it has no weights of.
std::string_view torch_dtype(FormatId format) {
  if (format == FormatId::kBF16) return "bfloat16";
  return format == FormatId::kF16 ? "float16" : "float32";
}

/// config.json of a GGUF file's metadata, and what of it config.json has no words for.
struct TranslatedConfig {
  Json config;
  std::vector<std::string> problems;
};

TranslatedConfig config_of_gguf(const model::Model& input, const Architecture& architecture,
                                FormatId floats) {
  const model::Metadata& metadata = input.metadata();
  const auto key = [&](std::string_view rest) {
    return fmt::format("{}.{}", architecture.gguf, rest);
  };
  std::vector<std::string> problems;
  Json config = {{"architectures", {architecture.class_name}},
                 {"model_type", architecture.model_type}};
  for (const Parameter& parameter : kParameters) {
    if (!serves(parameter, architecture)) continue;
    const std::string name = key(parameter.gguf);
    const std::string to(parameter.config);
    if (parameter.kind == Kind::kCount) {
      if (const auto value = metadata.find_uint(name)) {
        config[to] = *value;
      } else if (metadata.find(name) != nullptr) {
        problems.push_back(fmt::format("{}, which has another number for each layer", name));
      }
    } else if (parameter.kind == Kind::kNumber) {
      if (const auto value = metadata.find_float(name)) config[to] = *value;
    } else if (const auto value = metadata.find_bool(name)) {
      config[to] = *value;
    }
  }
  if (const auto experts = metadata.find_uint(key("expert_count")); experts && *experts > 0) {
    config[std::string(experts_key(architecture))] = *experts;
    if (!architecture.has_experts)
      problems.push_back(fmt::format("{} = {}", key("expert_count"), *experts));
  }
  const model::TensorInfo* embedding = input.find_tensor("token_embd.weight");
  if (!config.contains("vocab_size") && embedding != nullptr)
    config["vocab_size"] = embedding->rows();
  auto key_length = metadata.find_uint(key("attention.key_length_mla"));
  if (!key_length) key_length = metadata.find_uint(key("attention.key_length"));
  auto value_length = metadata.find_uint(key("attention.value_length_mla"));
  if (!value_length) value_length = metadata.find_uint(key("attention.value_length"));
  const auto rope = metadata.find_uint(key("rope.dimension_count"));
  if (architecture.is_mla) {
    if (key_length && rope && *key_length >= *rope)
      config["qk_nope_head_dim"] = *key_length - *rope;
    if (value_length) config["v_head_dim"] = *value_length;
    const bool is_sigmoid = metadata.find_uint(key("expert_gating_func")) == kSigmoid;
    config["scoring_func"] = is_sigmoid ? "sigmoid" : "softmax";
    if (!is_sigmoid) {  // DeepSeek-V2's, which readers have under its own name
      config["architectures"] = {"DeepseekV2ForCausalLM"};
      config["model_type"] = "deepseek_v2";
    }
    // Where GGUF says nothing, llama.cpp has no groups and no compressed q; readers' defaults are V3's.
    for (const char* name : {"n_group", "topk_group"}) {
      if (!config.contains(name)) config[name] = 1;
    }
    if (!config.contains("q_lora_rank")) config["q_lora_rank"] = nullptr;
  } else {
    if (const auto head = key_length ? key_length : rope) config["head_dim"] = *head;
    if (key_length && rope && *rope != *key_length) {
      problems.push_back(
          fmt::format("{} = {} of heads of {}", key("rope.dimension_count"), *rope, *key_length));
    }
    // llama.cpp scales the chosen experts' weights to a sum of 1 whatever the file says.
    if (architecture.has_experts && !config.contains("norm_topk_prob"))
      config["norm_topk_prob"] = true;
    // Qwen2's class has biases of q, k and v always, the others' have them of all four or of none.
    const bool has_bias = input.find_tensor("blk.0.attn_q.bias") != nullptr;
    if (architecture.gguf != "qwen2" && has_bias) {
      config["attention_bias"] = true;
      if (input.find_tensor("blk.0.attn_output.bias") == nullptr)
        problems.emplace_back("biases of q without one of attn_output");
    }
  }
  RopeScaling rope_scaling = rope_scaling_of_gguf(input, architecture);
  if (!rope_scaling.problem.empty()) problems.push_back(rope_scaling.problem);
  if (!rope_scaling.config.is_null()) config["rope_scaling"] = std::move(rope_scaling.config);
  config["tie_word_embeddings"] = input.find_tensor("output.weight") == nullptr;
  config["torch_dtype"] = torch_dtype(floats);
  return {std::move(config), std::move(problems)};
}

Json quantization_config(const QuantizationFacts& facts) {
  const WeightFormat& format = *facts.format;
  const bool is_fp8_block = get_format(format.id).family == FormatFamily::kFp8 && format.scale &&
                            format.scale->block_rows != 0 && format.scale->block_cols != 0 &&
                            format.name() == get_format(format.id).name;
  if (!is_fp8_block) {
    // No reader's name: one that doesn't know it has to say so rather than misread.
    return {{"quant_method", "ktjit"},
            {"format", format.name()},
            {"scales", scale_grid_name(format.scale)},
            {"modules_to_not_convert", facts.not_converted}};
  }
  std::string short_name(get_format(format.id).name);
  if (short_name.starts_with("fp8_")) short_name.erase(0, 4);
  Json config = {{"activation_scheme", "dynamic"},
                 {"fmt", short_name},
                 {"quant_method", "fp8"},
                 {"weight_block_size", {format.scale->block_rows, format.scale->block_cols}},
                 {"modules_to_not_convert", facts.not_converted}};
  if (format.scale->type == ScaleType::kE8M0) config["scale_fmt"] = "ue8m0";
  return config;
}

}  // namespace

std::string make_config(const model::Model& input, const QuantizationFacts& facts, FormatId floats,
                        bool is_for_readers, std::vector<std::string>& notes) {
  std::optional<Json> config = read_config(input);
  if (!config && input.metadata().find_string("general.architecture")) {
    if (const Architecture* architecture = find_known_architecture(input)) {
      TranslatedConfig translated = config_of_gguf(input, *architecture, floats);
      for (const std::string& problem : translated.problems) {
        const std::string message =
            fmt::format("has {}, which config.json of {} can't say", problem,
                        translated.config["model_type"].get<std::string>());
        if (is_for_readers) throw InputError(input.files().front().string(), message);
        notes.push_back(fmt::format("the model {}", message));
      }
      config = std::move(translated.config);
    }
  }
  if (!config && !facts.format) return "";
  if (!config) config = Json::object();
  if (!facts.is_as_before) {
    config->erase("quantization_config");
    config->erase("compression_config");
    if (facts.format) (*config)["quantization_config"] = quantization_config(facts);
  }
  return config->dump(2) + "\n";
}

model::Metadata make_metadata(const model::Model& input, FormatId file_format) {
  model::Metadata result;
  const model::Metadata& metadata = input.metadata();
  // llama.cpp's LLAMA_FTYPE: what most weights are.
  const auto file_type = [&]() -> std::uint32_t {
    switch (file_format) {
      case FormatId::kF32:
        return 0;
      case FormatId::kF16:
        return 1;
      case FormatId::kQ4_0:
        return 2;
      case FormatId::kQ8_0:
        return 7;
      case FormatId::kBF16:
        return 32;
      default:
        return 1024;  // guessed from the tensors
    }
  };
  if (metadata.find_string("general.architecture")) {
    for (const auto& [key, value] : metadata.entries()) {
      // Of the file that it was, and of a config.json that lies beside it.
      if (key.starts_with("split.") || key == "general.alignment" || key == "general.file_type" ||
          key.starts_with("config.")) {
        continue;
      }
      result.add(key, value);
    }
    result.add("general.file_type", file_type());
    return result;
  }
  const Architecture& architecture = find_architecture(input);
  const auto key = [&](std::string_view rest) {
    return fmt::format("{}.{}", architecture.gguf, rest);
  };
  const auto count = [&](std::string_view name) { return model::find_config_uint(metadata, name); };
  const auto add_count = [&](std::string_view name, std::optional<std::uint64_t> value) {
    if (value) result.add(key(name), static_cast<std::uint32_t>(*value));
  };
  result.add("general.architecture", std::string(architecture.gguf));
  result.add("general.file_type", file_type());
  for (const Parameter& parameter : kParameters) {
    if (!serves(parameter, architecture)) continue;
    if (parameter.kind == Kind::kCount) {
      add_count(parameter.gguf, count(parameter.config));
      continue;
    }
    const model::MetadataValue* value = model::find_config(metadata, parameter.config);
    if (value == nullptr)  // rope_theta, as newer files have it
      value = model::find_config(metadata, fmt::format("rope_parameters.{}", parameter.config));
    if (value == nullptr) continue;
    if (const auto* flag = std::get_if<bool>(value)) {
      result.add(key(parameter.gguf), *flag);
    } else if (const auto* number = std::get_if<double>(value)) {
      result.add(key(parameter.gguf), static_cast<float>(*number));
    } else if (const auto whole = count(parameter.config)) {
      result.add(key(parameter.gguf), static_cast<float>(*whole));
    }
  }
  add_rope_scaling(input, architecture, result);
  if (architecture.has_experts) {
    auto experts = count(experts_key(architecture));
    if (!experts) experts = count("num_local_experts");  // as newer files have it
    add_count("expert_count", experts);
  }
  if (architecture.is_mla) {
    const auto nope = count("qk_nope_head_dim");
    const auto rope = count("qk_rope_head_dim");
    if (nope && rope) add_count("attention.key_length", *nope + *rope);
    add_count("attention.value_length", count("v_head_dim"));
    // Where config.json doesn't say it, V3's readers score by the sigmoid and V2's by softmax.
    const auto text = [&](std::string_view name) {
      const model::MetadataValue* value = model::find_config(metadata, name);
      const auto* words = value == nullptr ? nullptr : std::get_if<std::string>(value);
      return words == nullptr ? std::string() : *words;
    };
    const std::string scoring = text("scoring_func");
    const bool is_sigmoid =
        scoring.empty() ? text("model_type") == "deepseek_v3" : scoring == "sigmoid";
    if (!scoring.empty() && scoring != "sigmoid" && scoring != "softmax") {
      throw InputError(input.files().front().string(),
                       fmt::format("its config.json has scoring_func '{}'; GGUF has sigmoid and "
                                   "softmax",
                                   scoring));
    }
    result.add(key("expert_gating_func"), is_sigmoid ? kSigmoid : kSoftmax);
  } else if (const auto head = count("head_dim")) {
    add_count("attention.key_length", head);
    add_count("attention.value_length", head);
    add_count("rope.dimension_count", head);
  }
  return result;
}

}  // namespace ktjit::convert
