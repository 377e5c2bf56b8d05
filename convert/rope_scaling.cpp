#include "convert/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <numbers>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "model/checkpoint_config.h"

namespace ktjit::convert {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFactors = "rope_freqs.weight";

/// Llama 3.1's kind: wavelengths above original / low are stretched by the factor, those below original / high
/// are not, and between them the two are mixed.
struct Llama3 {
  double factor;
  double low;
  double high;
  double original;  ///< positions

  /// What divides the frequency of pair `pair`, of heads of 2 `pairs` values.
  double divisor(double theta, std::size_t pair, std::size_t pairs) const {
    const double frequency =
        std::pow(theta, -static_cast<double>(pair) / static_cast<double>(pairs));
    const double turns = original * frequency / (2 * std::numbers::pi);
    if (turns < low) return factor;
    if (turns > high) return 1;
    const double smooth = (turns - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  }
};

std::vector<float> values_of(const model::TensorInfo& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), values.size() * sizeof(float));
  return values;
}

/// The parameters that give these divisors. The bounds are those of every published model, 1 and 4: others can
/// be had by another number of positions, but for their ratio.
std::optional<Llama3> find_llama3(const std::vector<float>& divisors, double theta) {
  if (divisors.empty()) return std::nullopt;
  const double factor = *std::ranges::max_element(divisors);
  for (double original = 1 << 10; original <= 1 << 22; original *= 2) {
    const Llama3 one{factor, 1, 4, original};
    bool fits = true;
    for (std::size_t i = 0; i < divisors.size(); ++i) {
      constexpr double kRounding = 1e-4;  // frequencies in f32, by whoever wrote the file
      const double expected = one.divisor(theta, i, divisors.size());
      fits = fits && std::abs(divisors[i] - expected) <= kRounding * expected;
    }
    if (fits) return one;
  }
  return std::nullopt;
}

/// YaRN's own factor of the attention's logits, by its paper.
double yarn_attention(double factor) { return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1; }

}  // namespace

RopeScaling rope_scaling_of_gguf(const model::Model& input, const Architecture& architecture) {
  const model::Metadata& metadata = input.metadata();
  const auto key = [&](std::string_view rest) {
    return fmt::format("{}.rope.scaling.{}", architecture.gguf, rest);
  };
  RopeScaling result;
  for (const model::TensorInfo& tensor : input.tensors()) {
    if (tensor.name.starts_with("rope_") && tensor.name != kFactors) {
      result.problem =
          fmt::format("tensor '{}', divisors of its own for each frequency", tensor.name);
      return result;
    }
  }
  auto factor = metadata.find_float(key("factor"));
  if (!factor) factor = metadata.find_float(fmt::format("{}.rope.scale_linear", architecture.gguf));
  const bool is_scaled = factor && *factor != 0 && *factor != 1;
  // As llama.cpp reads it: a factor alone is linear.
  const std::string type(metadata.find_string(key("type")).value_or("linear"));
  const auto original = metadata.find_uint(key("original_context_length"));
  const model::TensorInfo* divisors = input.find_tensor(kFactors);
  if (divisors != nullptr) {
    const double theta =
        metadata.find_float(fmt::format("{}.rope.freq_base", architecture.gguf)).value_or(10000.0);
    const auto llama3 = divisors->format == FormatId::kF32
                            ? find_llama3(values_of(*divisors), theta)
                            : std::nullopt;
    if (!llama3 || (is_scaled && type != "none")) {
      result.problem = fmt::format(
          "tensor '{}', whose divisors are not those of llama3 for 1024 to 4194304 "
          "positions, or a scaling beside them",
          kFactors);
    } else if (llama3->factor != 1) {
      result.config = {
          {"rope_type", "llama3"},
          {"factor", llama3->factor},
          {"low_freq_factor", llama3->low},
          {"high_freq_factor", llama3->high},
          {"original_max_position_embeddings", static_cast<std::uint64_t>(llama3->original)}};
    }
    return result;
  }
  if (!is_scaled || type == "none") return result;
  if (type == "linear") {
    result.config = {{"rope_type", "linear"}, {"factor", *factor}};
  } else if (type == "yarn") {
    result.config = {{"rope_type", "yarn"}, {"factor", *factor}};
    if (original) result.config["original_max_position_embeddings"] = *original;
    for (const char* beta : {"beta_fast", "beta_slow"}) {
      if (const auto value = metadata.find_float(key(fmt::format("yarn_{}", beta))))
        result.config[beta] = *value;
    }
    if (const auto attention = metadata.find_float(key("attn_factor"));
        attention && *attention != 1)
      result.config["attention_factor"] = *attention * yarn_attention(*factor);
    if (const auto multiplier = metadata.find_float(key("yarn_log_multiplier"))) {
      // llama.cpp has one number for both, 0.1 times config.json's; f32 keeps 7 digits of it.
      const double mscale = std::round(*multiplier * 10 * 1e6) / 1e6;
      result.config["mscale"] = mscale;
      result.config["mscale_all_dim"] = mscale;
    }
  } else {
    result.problem = fmt::format("{} = '{}'", key("type"), type);
  }
  return result;
}

void add_rope_scaling(const model::Model& input, const Architecture& architecture,
                      model::Metadata& result) {
  const model::Metadata& metadata = input.metadata();
  const std::string where = input.files().front().string();
  const auto find = [&](std::string_view name) -> const model::MetadataValue* {
    for (const std::string_view group : {"rope_scaling", "rope_parameters"}) {
      if (const auto* value = model::find_config(metadata, fmt::format("{}.{}", group, name)))
        return value;
    }
    return nullptr;
  };
  const auto number = [&](std::string_view name) -> std::optional<double> {
    const model::MetadataValue* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (const auto* real = std::get_if<double>(value)) return *real;
    if (const auto* whole = std::get_if<std::int64_t>(value)) return static_cast<double>(*whole);
    return std::nullopt;
  };
  const model::MetadataValue* named = find("rope_type");
  if (named == nullptr) named = find("type");
  const auto* type = named == nullptr ? nullptr : std::get_if<std::string>(named);
  if (type == nullptr || *type == "default") return;
  if (*type != "linear" && *type != "yarn") {
    throw InputError(where, fmt::format("its config.json has rope_scaling of type '{}', which GGUF "
                                        "says by a tensor that is not made here; linear and yarn "
                                        "are taken",
                                        *type));
  }
  const auto key = [&](std::string_view rest) {
    return fmt::format("{}.rope.scaling.{}", architecture.gguf, rest);
  };
  const auto factor = number("factor");
  if (!factor)
    throw InputError(where,
                     fmt::format("its config.json has rope_scaling '{}' without a factor", *type));
  result.add(key("type"), *type);
  result.add(key("factor"), static_cast<float>(*factor));
  if (*type == "linear") return;
  if (const auto original = number("original_max_position_embeddings"))
    result.add(key("original_context_length"), static_cast<std::uint32_t>(*original));
  for (const char* beta : {"beta_fast", "beta_slow"}) {
    if (const auto value = number(beta))
      result.add(key(fmt::format("yarn_{}", beta)), static_cast<float>(*value));
  }
  if (const auto attention = number("attention_factor"))
    result.add(key("attn_factor"), static_cast<float>(*attention / yarn_attention(*factor)));
  const auto mscale = number("mscale");
  const auto all = number("mscale_all_dim");
  if (mscale && all && *mscale != *all) {
    throw InputError(where, fmt::format("its config.json has mscale {} and mscale_all_dim {}; GGUF "
                                        "has one number for both",
                                        *mscale, *all));
  }
  if (all) result.add(key("yarn_log_multiplier"), static_cast<float>(*all * 0.1));
}

}  // namespace ktjit::convert
