// Shards: which files belong together, and indices that lie.
#include "model/safetensors_files.h"

#include <catch2/catch.hpp>

#include "model/gguf_writer.h"
#include "model/open_model.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

/// A file with one U8 tensor of four bytes for each name.
std::string file_of(std::vector<std::string> names) {
  std::string header = "{";
  for (std::size_t i = 0; i < names.size(); ++i) {
    header += (i == 0 ? "\"" : ",\"") + names[i] +
              R"(":{"dtype":"U8","shape":[4],"data_offsets":[)" + std::to_string(4 * i) + "," +
              std::to_string(4 * i + 4) + "]}";
  }
  return safetensors_bytes(header + "}", 4 * names.size());
}

std::string message_for(const ScratchFolder& folder, const std::filesystem::path& path) {
  return folder.shorten(error_of<InputError>([&] { open_model(path); }));
}

void write_two_shards(const ScratchFolder& folder) {
  folder.write("model-00001-of-00002.safetensors", file_of({"a", "b"}));
  folder.write("model-00002-of-00002.safetensors", file_of({"c"}));
}

constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kIndex = R"({"metadata":{"total_size":12},"weight_map":{
  "a":"model-00001-of-00002.safetensors",
  "b":"model-00001-of-00002.safetensors",
  "c":"model-00002-of-00002.safetensors"}})";

TEST_CASE("names of shards are told from other names") {
  CHECK(parse_shard_name("model-00001-of-00003.safetensors") == ShardName{"model", 1, 3});
  CHECK(parse_shard_name("a-b-00000-of-00061.safetensors") == ShardName{"a-b", 0, 61});
  for (const char* name :
       {"model.safetensors", "model-00004-of-00003.safetensors", "model-0001-of-0003.safetensors",
        "-00001-of-00003.safetensors", "model-00001-of-00003.gguf",
        "model-0000x-of-00003.safetensors", "model_00001-of-00003.safetensors"}) {
    INFO(name);
    CHECK_FALSE(parse_shard_name(name).has_value());
  }
}

TEST_CASE("the folder, the index and any shard open the same checkpoint") {
  for (const bool has_index : {true, false}) {
    const ScratchFolder folder;
    write_two_shards(folder);
    if (has_index) folder.write(kIndexName, kIndex);
    std::vector<std::filesystem::path> ways = {folder.path(),
                                               folder / "model-00002-of-00002.safetensors"};
    if (has_index) ways.push_back(folder / kIndexName);
    for (const auto& way : ways) {
      const Model model = open_model(way);
      CHECK(model.files().size() == 2);
      CHECK(model.tensors().size() == 3);
      CHECK(model.get_tensor("c").part == 1);
      CHECK(model.notes().empty());
    }
  }
}

TEST_CASE("KTransformers counts shards from 0 to the number that it calls the count") {
  const ScratchFolder folder;
  folder.write("model-00000-of-00002.safetensors", file_of({"a"}));
  folder.write("model-00001-of-00002.safetensors", file_of({"b"}));
  const std::string missing =
      ": is a shard of 3, of which 1 is missing in its folder: model-00002-of-00002.safetensors";
  CHECK(message_for(folder, folder.path()) == "model-00000-of-00002.safetensors" + missing);
  folder.write("model-00002-of-00002.safetensors", file_of({"c"}));
  CHECK(open_model(folder / "model-00001-of-00002.safetensors").tensors().size() == 3);
}

TEST_CASE("a missing shard is named") {
  const ScratchFolder folder;
  write_two_shards(folder);
  std::filesystem::remove(folder / "model-00001-of-00002.safetensors");
  CHECK(message_for(folder, folder.path()) ==
        "model-00002-of-00002.safetensors: is a shard of 2, of which 1 is missing in its folder: "
        "model-00001-of-00002.safetensors");
  folder.write(kIndexName, kIndex);
  const std::string by_index =
      "model.safetensors.index.json: names 2 shards, of which 1 is missing in its folder: "
      "model-00001-of-00002.safetensors";
  CHECK(message_for(folder, folder.path()) == by_index);
  CHECK(message_for(folder, folder / "model-00002-of-00002.safetensors") == by_index);
  std::filesystem::remove(folder / "model-00002-of-00002.safetensors");
  CHECK(message_for(folder, folder.path()) ==
        "model.safetensors.index.json: names 2 shards, of which 2 are missing in its folder: "
        "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors");
}

TEST_CASE("an index that lies is refused") {
  const ScratchFolder folder;
  write_two_shards(folder);
  const auto message_with = [&](std::string_view weight_map) {
    folder.write(kIndexName, "{\"weight_map\":" + std::string(weight_map) + "}");
    return message_for(folder, folder.path());
  };
  const std::string one = "\"model-00001-of-00002.safetensors\"";
  const std::string two = "\"model-00002-of-00002.safetensors\"";
  CHECK(message_with("{\"a\":" + one + ",\"b\":" + one + ",\"c\":" + two + ",\"d\":" + two + "}") ==
        "model.safetensors.index.json: says tensor 'd' is in model-00002-of-00002.safetensors, "
        "which lacks it");
  CHECK(message_with("{\"a\":" + one + ",\"c\":" + two + "}") ==
        "model-00001-of-00002.safetensors: tensor 'b': is not in the index "
        "model.safetensors.index.json");
  CHECK(message_with("{\"a\":" + one + ",\"b\":" + two + ",\"c\":" + two + "}") ==
        "model-00001-of-00002.safetensors: tensor 'b': is in model-00002-of-00002.safetensors by "
        "the index model.safetensors.index.json");
  CHECK(message_with("{\"a\":\"../x.safetensors\"}") ==
        "model.safetensors.index.json: names the shard \"../x.safetensors\" for tensor 'a', "
        "expected a file of its own folder");
  CHECK(
      message_with("{\"a\":7}") ==
      "model.safetensors.index.json: names the shard 7 for tensor 'a', expected a file of its own "
      "folder");
  CHECK(message_with("[]") ==
        "model.safetensors.index.json: has no object 'weight_map', expected an index of shards");
  CHECK(message_with("{}") == "model.safetensors.index.json: has an empty 'weight_map'");
  CHECK(message_with("{\"a\":" + one + ",\"a\":" + one + "}") ==
        "model.safetensors.index.json: has the key 'a' twice");
  folder.write(kIndexName, "{");
  CHECK_THAT(message_for(folder, folder.path()),
             Catch::Matchers::StartsWith("model.safetensors.index.json: is no JSON: parse error"));
  folder.write(kIndexName, "{\"x\":" + std::string(40, '[') + std::string(40, ']') + "}");
  CHECK(message_for(folder, folder.path()) ==
        "model.safetensors.index.json: is nested deeper than 32 levels");
}

TEST_CASE("a tensor in two shards is refused") {
  const ScratchFolder folder;
  folder.write("model-00001-of-00002.safetensors", file_of({"a"}));
  folder.write("model-00002-of-00002.safetensors", file_of({"a"}));
  CHECK(message_for(folder, folder.path()) ==
        "model-00002-of-00002.safetensors: tensor 'a': is in model-00001-of-00002.safetensors too, "
        "expected each tensor in one shard");
}

TEST_CASE("files beside a checkpoint are a note with an index, and refused without") {
  const ScratchFolder folder;
  write_two_shards(folder);
  folder.write("consolidated.safetensors", file_of({"z"}));
  CHECK(message_for(folder, folder.path()) ==
        ": has 3 safetensors files that are not shards of one checkpoint, and no index, expected "
        "the path of one of them: consolidated.safetensors, model-00001-of-00002.safetensors, "
        "model-00002-of-00002.safetensors");
  CHECK(open_model(folder / "consolidated.safetensors").tensors().size() == 1);
  folder.write(kIndexName, kIndex);
  const Model model = open_model(folder.path());
  REQUIRE(model.notes().size() == 1);
  CHECK(folder.shorten(model.notes()[0]) ==
        " has 1 safetensors file that its index doesn't name, not read: consolidated.safetensors");
}

TEST_CASE("GGUF beside safetensors is one model, and safetensors' tensors win") {
  const ScratchFolder folder;
  folder.write("model.safetensors", file_of({"a", "b"}));
  const std::vector<std::byte> data = make_bytes(32 * 4);
  GgufWriter writer(folder / "x.gguf");
  writer.set("general.architecture", "llama");
  const std::vector<std::int64_t> ne = {32};
  writer.add_tensor("b", FormatId::kF32, ne, data);
  writer.add_tensor("c", FormatId::kF32, ne, data);
  writer.finish();
  const Model model = open_model(folder.path());
  CHECK(model.container() == "safetensors + GGUF");
  CHECK(model.files() == std::vector{folder / "model.safetensors", folder / "x.gguf"});
  REQUIRE(model.tensors().size() == 3);
  CHECK(model.get_tensor("b").format == FormatId::kU8);
  CHECK(model.get_tensor("c").part == 1);
  CHECK(same_bytes(model.get_tensor("c").data, data));
  CHECK(model.metadata().find_string("general.architecture") == "llama");
  REQUIRE(model.notes().size() == 1);
  CHECK(model.notes()[0] ==
        "1 tensor is in both the safetensors and the GGUF files, those of safetensors are served: "
        "'b'");
  std::filesystem::copy_file(folder / "x.gguf", folder / "y.gguf");
  CHECK(message_for(folder, folder.path()) ==
        ": has 2 GGUF models, expected one or the path of one of them: x.gguf, y.gguf");
}

}  // namespace
}  // namespace ktjit::model
