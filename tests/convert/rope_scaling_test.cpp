// Rope scaling between GGUF's metadata and config.json: taken, or refused by name.
#include "convert/rope_scaling.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <numbers>
#include <vector>

#include "convert/conversion_plan.h"

#include "core/error.h"
#include "model/gguf_writer.h"
#include "model/open_model.h"
#include "model/safetensors_writer.h"
#include "tests/jit/scratch_folder.h"

namespace ktjit::convert {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;
using Json = nlohmann::ordered_json;

/// A GGUF file with these keys, and the divisors of frequencies that it may have.
fs::path make_gguf(const fs::path& folder, std::string_view architecture,
                   const std::function<void(model::GgufWriter&)>& set,
                   const std::vector<float>& divisors = {},
                   const std::string& divisors_name = "rope_freqs.weight") {
  const fs::path path = folder / "model.gguf";
  model::GgufWriter writer(path);
  writer.set("general.architecture", std::string(architecture));
  set(writer);
  const std::vector<float> embedding(64 * 8, 0.5f);
  const auto add = [&](const std::string& name, const std::vector<float>& values,
                       std::vector<std::int64_t> ne) {
    writer.add_tensor(name, FormatId::kF32, ne, [&values](const model::ByteSink& sink) {
      sink(std::as_bytes(std::span(values)));
    });
  };
  add("token_embd.weight", embedding, {64, 8});
  if (!divisors.empty()) add(divisors_name, divisors, {static_cast<std::int64_t>(divisors.size())});
  writer.finish();
  return path;
}

/// config.json of the file under Hugging Face's names.
Json config_of(const fs::path& gguf) {
  const model::Model input = model::open_model(gguf);
  ConvertRequest request;
  request.input = &input;
  request.names = Naming::kHuggingFace;
  request.choose = keep_all();
  const Conversion conversion = plan_conversion(request);
  for (const Conversion::Text& text : conversion.texts) {
    if (text.name == "config.json") return Json::parse(text.content);
  }
  return {};
}

/// Llama 3.1's, as llama.cpp's converter computes them.
std::vector<float> llama3_divisors(double theta, double factor, double low, double high,
                                   double original, int pairs) {
  std::vector<float> divisors;
  for (int i = 0; i < pairs; ++i) {
    const double wavelength =
        2 * std::numbers::pi * std::pow(theta, static_cast<double>(i) / pairs);
    if (wavelength < original / high) {
      divisors.push_back(1);
    } else if (wavelength > original / low) {
      divisors.push_back(static_cast<float>(factor));
    } else {
      const double smooth = (original / wavelength - low) / (high - low);
      divisors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
    }
  }
  return divisors;
}

}  // namespace

TEST_CASE("a GGUF file's rope scaling becomes config.json's") {
  const test::ScratchFolder folder;
  const auto scaling = [&](std::string_view architecture, auto&& set,
                           const std::vector<float>& divisors = {}) {
    const Json config = config_of(make_gguf(folder.path(), architecture, set, divisors));
    return config.contains("rope_scaling") ? config["rope_scaling"] : Json();
  };
  const auto nothing = [](model::GgufWriter&) {};
  CHECK(scaling("llama", nothing).is_null());
  CHECK(scaling("llama", [](model::GgufWriter& writer) {
          writer.set("llama.rope.scaling.type", std::string("none"));
          writer.set("llama.rope.scaling.factor", 4.0f);
        }).is_null());
  CHECK(scaling("llama", [](model::GgufWriter& writer) {
          writer.set("llama.rope.scaling.factor", 4.0f);
        }) == Json{{"rope_type", "linear"}, {"factor", 4.0}});
  CHECK(scaling("llama", [](model::GgufWriter& writer) {
          writer.set("llama.rope.scale_linear", 2.0f);
        }) == Json{{"rope_type", "linear"}, {"factor", 2.0}});
  CHECK(scaling("qwen3",
                [](model::GgufWriter& writer) {
                  writer.set("qwen3.rope.scaling.type", std::string("yarn"));
                  writer.set("qwen3.rope.scaling.factor", 4.0f);
                  writer.set("qwen3.rope.scaling.original_context_length", 32768u);
                }) ==
        Json{{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}});
  CHECK(scaling("deepseek2",
                [](model::GgufWriter& writer) {
                  writer.set("deepseek2.rope.scaling.type", std::string("yarn"));
                  writer.set("deepseek2.rope.scaling.factor", 40.0f);
                  writer.set("deepseek2.rope.scaling.original_context_length", 4096u);
                  writer.set("deepseek2.rope.scaling.yarn_log_multiplier", 0.0707f);
                }) == Json{{"rope_type", "yarn"},
                           {"factor", 40.0},
                           {"original_max_position_embeddings", 4096},
                           {"mscale", 0.707},
                           {"mscale_all_dim", 0.707}});
  const auto theta = [](model::GgufWriter& writer) {
    writer.set("llama.rope.freq_base", 500000.0f);
  };
  for (const double factor : {8.0, 32.0}) {  // Llama 3.1, 3.2
    CHECK(scaling("llama", theta, llama3_divisors(500000, factor, 1, 4, 8192, 64)) ==
          Json{{"rope_type", "llama3"},
               {"factor", factor},
               {"low_freq_factor", 1.0},
               {"high_freq_factor", 4.0},
               {"original_max_position_embeddings", 8192}});
  }
  CHECK(scaling("llama", theta, std::vector<float>(64, 1.0f)).is_null());
}

TEST_CASE("what config.json can't say of positions, heads and experts is an error that names it") {
  const test::ScratchFolder folder;
  const auto check = [&](const std::string& words, auto&& set,
                         const std::vector<float>& divisors = {},
                         const std::string& divisors_name = "rope_freqs.weight") {
    CHECK_THROWS_WITH(config_of(make_gguf(folder.path(), "llama", set, divisors, divisors_name)),
                      Contains(words) && Contains("can't say") && Contains("model.gguf"));
  };
  const auto nothing = [](model::GgufWriter&) {};
  check("llama.rope.scaling.type = 'longrope'", [](model::GgufWriter& writer) {
    writer.set("llama.rope.scaling.type", std::string("longrope"));
    writer.set("llama.rope.scaling.factor", 4.0f);
  });
  check("rope_freqs.weight", nothing, {1, 2, 3, 4});
  check("rope_factors_long.weight", nothing, {1, 2, 3, 4}, "rope_factors_long.weight");
  check("llama.expert_count = 8",
        [](model::GgufWriter& writer) { writer.set("llama.expert_count", 8u); });
  check("llama.rope.dimension_count = 32", [](model::GgufWriter& writer) {
    writer.set("llama.attention.key_length", 64u);
    writer.set("llama.rope.dimension_count", 32u);
  });
}

TEST_CASE("config.json's rope scaling becomes GGUF's keys, or is refused by name") {
  const test::ScratchFolder folder;
  const fs::path checkpoint = folder.path() / "hf";
  fs::create_directories(checkpoint);
  const std::vector<float> norm(8, 1.0f);
  model::SafetensorsWriter writer(checkpoint / "model.safetensors");
  writer.add_tensor("model.norm.weight", FormatId::kF32, std::vector<std::int64_t>{8},
                    std::as_bytes(std::span(norm)));
  writer.finish();
  const auto keys = [&](const std::string& words) {
    std::ofstream(checkpoint / "config.json") << R"({"model_type": "llama", )" << words << "}";
    const model::Model input = model::open_model(checkpoint);
    model::Metadata result;
    add_rope_scaling(input, find_architecture(input), result);
    std::string text;
    for (const auto& [key, value] : result.entries())
      text += fmt::format("{}={} ", key, model::value_to_text(value));
    return text;
  };
  CHECK(keys(R"("rope_scaling": null)").empty());
  CHECK(keys(R"("rope_parameters": {"rope_type": "default", "rope_theta": 10000.0})").empty());
  CHECK(keys(R"("rope_scaling": {"type": "linear", "factor": 2})") ==
        "llama.rope.scaling.type='linear' llama.rope.scaling.factor=2 ");
  CHECK(keys(R"("rope_parameters": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16,
               "original_max_position_embeddings": 32768, "mscale": 1.0, "mscale_all_dim": 1.0})") ==
        "llama.rope.scaling.type='yarn' llama.rope.scaling.factor=4 "
        "llama.rope.scaling.original_context_length=32768 llama.rope.scaling.yarn_beta_fast=16 "
        "llama.rope.scaling.yarn_log_multiplier=0.1 ");
  CHECK_THROWS_WITH(keys(R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0})"),
                    Contains("'llama3'") && Contains("linear and yarn"));
  CHECK_THROWS_WITH(keys(R"("rope_scaling": {"rope_type": "linear"})"),
                    Contains("without a factor"));
  CHECK_THROWS_WITH(
      keys(R"("rope_scaling": {"type": "yarn", "factor": 4, "mscale": 1, "mscale_all_dim": 0.5})"),
      Contains("mscale 1 and mscale_all_dim 0.5"));
}

}  // namespace ktjit::convert
