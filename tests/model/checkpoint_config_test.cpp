#include "model/checkpoint_config.h"

#include <catch2/catch.hpp>

#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

Metadata metadata_of(std::string_view json) {
  const ScratchFolder folder;
  Metadata metadata;
  add_config(folder.write("config.json", json), "config", metadata);
  return metadata;
}

TEST_CASE("config.json becomes metadata under its paths, with its types") {
  const Metadata metadata = metadata_of(R"({
    "model_type": "deepseek_v3", "num_hidden_layers": 61, "rope_theta": 10000.5, "tie": false,
    "nothing": null, "empty": [], "huge": 18446744073709551615, "eos": [1, -2],
    "architectures": ["A", "B"], "mixed": [1, 2.5], "flags": [true, false],
    "quantization_config": {"weight_block_size": [128, 64], "quant_method": "fp8"},
    "layers": [{"kind": "x"}, [7]]})");
  CHECK(metadata.find_string("config.model_type") == "deepseek_v3");
  CHECK(metadata.find_uint("config.num_hidden_layers") == 61);
  CHECK(metadata.find_float("config.rope_theta") == 10000.5);
  CHECK(metadata.find_bool("config.tie") == false);
  CHECK(metadata.find("config.nothing") == nullptr);
  CHECK(metadata.find("config.empty") == nullptr);
  CHECK(metadata.find_uint("config.huge") == 18446744073709551615u);
  CHECK(*metadata.find("config.eos") == MetadataValue(std::vector<std::int64_t>{1, -2}));
  CHECK(metadata.find_strings("config.architectures").size() == 2);
  CHECK(*metadata.find("config.mixed") == MetadataValue(std::vector<double>{1, 2.5}));
  CHECK(*metadata.find("config.flags") == MetadataValue(std::vector<bool>{true, false}));
  CHECK(metadata.find_uints("config.quantization_config.weight_block_size") ==
        std::vector<std::uint64_t>{128, 64});
  CHECK(metadata.find_string("config.layers.0.kind") == "x");
  CHECK(metadata.find_uints("config.layers.1") == std::vector<std::uint64_t>{7});
  CHECK(find_weight_block(metadata, "f") == BlockShape{128, 64});
  CHECK(announces_quantisation(metadata));
}

TEST_CASE("blocks are found where compressed-tensors and models of several inputs keep them") {
  CHECK(find_weight_block(metadata_of(R"({"text_config": {"quantization_config":
        {"weight_block_size": [32, 32]}}})"),
                          "f") == BlockShape{32, 32});
  CHECK(find_weight_block(metadata_of(R"({"quantization_config": {"config_groups": {"group_0":
        {"weights": {"strategy": "block", "block_structure": [128, 128]}}}}})"),
                          "f") == BlockShape{128, 128});
  CHECK_FALSE(
      find_weight_block(metadata_of(R"({"quantization_config": {"weight_block_size": null}})"), "f")
          .has_value());
  CHECK_FALSE(announces_quantisation(metadata_of(R"({"hidden_size": 5})")));
}

TEST_CASE("a config.json that is wrong is refused, one that is not there is none") {
  const auto message_for = [](std::string_view json) {
    const ScratchFolder folder;
    const auto path = folder.write("config.json", json);
    return folder.shorten(error_of<InputError>([&] {
      Metadata metadata;
      add_config(path, "config", metadata);
      find_weight_block(metadata, "config.json");
    }));
  };
  CHECK(message_for("[]") == "config.json: is JSON, but array, expected an object");
  CHECK(message_for(R"({"a": 1, "b": {"a": 2, "a": 3}})") == "config.json: has the key 'a' twice");
  CHECK(message_for(R"({"quantization_config": {"weight_block_size": [128]}})") ==
        "config.json: quantization_config gives the block [128], expected two positive numbers");
  CHECK(message_for(R"({"quantization_config": {"weight_block_size": [0, 128]}})") ==
        "config.json: quantization_config gives the block [0, 128], expected two positive numbers");
  CHECK_THAT(message_for(""), Catch::Matchers::StartsWith("config.json: is no JSON: parse error"));
  Metadata metadata;
  add_config("/nonexistent/config.json", "config", metadata);
  CHECK(metadata.entries().empty());
}

}  // namespace
}  // namespace ktjit::model
