#include "model/gguf_split.h"

#include <catch2/catch.hpp>

#include "model/gguf_reader.h"
#include "model/gguf_writer.h"
#include "model/open_model.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

TEST_CASE("names of parts are told from other names") {
  CHECK(parse_split_name("a-00001-of-00003.gguf") == SplitName{"a", 1, 3});
  CHECK(parse_split_name("a-b-00012-of-00012.gguf") == SplitName{"a-b", 12, 12});
  CHECK(parse_split_name("-00001-of-00001.gguf") == SplitName{"", 1, 1});
  for (std::string_view other :
       {"a.gguf", "a-00000-of-00003.gguf", "a-00004-of-00003.gguf", "a-0001-of-0003.gguf",
        "a-00001-of-00003.GGUF", "a00001-of-00003.gguf", "a-0000x-of-00003.gguf", "", ".gguf"}) {
    CHECK(!parse_split_name(other));
  }
  CHECK(split_file_name({"a-b", 2, 3}) == "a-b-00002-of-00003.gguf");
}

TEST_CASE("a split model opened from any part equals the whole one") {
  const Model whole = read_gguf(test_model("tiny-llama-q4_k_m.gguf"));
  for (int opened : {1, 2, 3}) {
    CAPTURE(opened);
    const Model split = open_model(test_model(split_file_name({"tiny-llama-q4_k_m", opened, 3})));
    CHECK(split.files().size() == 3);
    CHECK(split.files()[0].filename() == "tiny-llama-q4_k_m-00001-of-00003.gguf");
    CHECK(split.tensors().front().part == 0);
    CHECK(split.tensors().back().part == 2);
    CHECK(split.metadata().find_string("general.architecture") == "llama");
    REQUIRE(split.tensors().size() == whole.tensors().size());
    for (const TensorInfo& tensor : whole.tensors()) {
      CAPTURE(tensor.name);
      const TensorInfo& part = split.get_tensor(tensor.name);
      CHECK(part.format == tensor.format);
      CHECK(part.ne == tensor.ne);
      CHECK(same_bytes(part.data, tensor.data));
    }
  }
}

struct PartFacts {
  std::string file_name;
  std::uint16_t number;  ///< split.no, from 0
  std::uint16_t count = 2;
  std::int32_t tensor_count = 2;
  std::string tensor = "";  ///< named after the file if empty
};

std::filesystem::path write_part(const ScratchFolder& folder, const PartFacts& part) {
  const auto path = folder / part.file_name;
  GgufWriter writer(path);
  writer.set("split.no", part.number);
  writer.set("split.count", part.count);
  writer.set("split.tensors.count", part.tensor_count);
  const std::vector<std::byte> data = make_bytes(16);
  const std::vector<std::int64_t> ne = {4};
  writer.add_tensor(part.tensor.empty() ? "t" + std::to_string(part.number) : part.tensor,
                    FormatId::kF32, ne, data);
  writer.finish();
  return path;
}

std::string message_for(const ScratchFolder& folder, const std::filesystem::path& path) {
  return folder.shorten(error_of<InputError>([&] { read_gguf(path); }));
}

TEST_CASE("two good parts open") {
  const ScratchFolder folder;
  const auto first = write_part(folder, {"m-00001-of-00002.gguf", 0});
  const auto second = write_part(folder, {"m-00002-of-00002.gguf", 1});
  CHECK(message_for(folder, first) == "no error");
  CHECK(read_gguf(second).tensors().front().name == "t0");
}

TEST_CASE("missing parts are named") {
  const ScratchFolder folder;
  const auto second = write_part(folder, {"m-00002-of-00002.gguf", 1});
  CHECK(message_for(folder, second) ==
        "m-00002-of-00002.gguf: is part 2 of 2 of a split model, and 1 part is missing in its "
        "folder: m-00001-of-00002.gguf");
  const auto third = write_part(folder, {"n-00003-of-00009.gguf", 2, 9});
  CHECK(message_for(folder, third) ==
        "n-00003-of-00009.gguf: is part 3 of 9 of a split model, and 8 parts are missing in its "
        "folder: n-00001-of-00009.gguf, n-00002-of-00009.gguf, n-00004-of-00009.gguf, "
        "n-00005-of-00009.gguf, ...");
}

TEST_CASE("a part with a name that does not lead to the others is refused") {
  const ScratchFolder folder;
  const std::string problem =
      ": is part 2 of 2 of a split model by its metadata, expected a name that ends with "
      "'-00002-of-00002.gguf' so that the other parts can be found";
  CHECK(message_for(folder, write_part(folder, {"renamed.gguf", 1})) == "renamed.gguf" + problem);
  CHECK(message_for(folder, write_part(folder, {"m-00001-of-00002.gguf", 1})) ==
        "m-00001-of-00002.gguf" + problem);
}

TEST_CASE("parts of different models are refused") {
  const ScratchFolder folder;
  const auto first = write_part(folder, {"m-00001-of-00002.gguf", 0});
  write_part(folder, {"m-00002-of-00002.gguf", 0, 1});
  CHECK(message_for(folder, first) ==
        "m-00002-of-00002.gguf: is a whole model by its metadata, expected part 2 of 2 as its name "
        "says");
  write_part(folder, {"m-00002-of-00002.gguf", 2, 3});
  CHECK(message_for(folder, first) ==
        "m-00002-of-00002.gguf: is part 3 of 3 by its metadata, expected part 2 of 2 as its name "
        "says");
  write_part(folder, {"m-00002-of-00002.gguf", 1, 2, 5});
  CHECK(message_for(folder, first) ==
        "m-00002-of-00002.gguf: has another 'split.tensors.count' than the other parts, expected "
        "parts of one model");
  write_part(folder, {"m-00002-of-00002.gguf", 1, 2, 2, "t0"});
  CHECK(message_for(folder, first) ==
        "m-00002-of-00002.gguf: tensor 't0': is in m-00001-of-00002.gguf too, expected one of each "
        "name");
}

TEST_CASE("the parts must have as many tensors as they say") {
  const ScratchFolder folder;
  const auto first = write_part(folder, {"m-00001-of-00002.gguf", 0, 2, 7});
  write_part(folder, {"m-00002-of-00002.gguf", 1, 2, 7});
  CHECK(message_for(folder, first) ==
        "m-00001-of-00002.gguf: metadata 'split.tensors.count' is 7, but the 2 parts have 2 "
        "tensors");
}

TEST_CASE("a damaged part is named") {
  const ScratchFolder folder;
  const auto first = write_part(folder, {"m-00001-of-00002.gguf", 0});
  folder.write("m-00002-of-00002.gguf", "");
  CHECK(message_for(folder, first) ==
        "m-00002-of-00002.gguf: is empty (0 bytes), expected a GGUF or a safetensors file");
}

TEST_CASE("split metadata of a wrong kind is refused") {
  const ScratchFolder folder;
  CHECK(message_for(folder, write_part(folder, {"m-00001-of-00002.gguf", 2})) ==
        "m-00001-of-00002.gguf: metadata 'split.no' is 2, expected 0 to 1");
  GgufBytes text(0, 1);
  text.text("split.count").u32(kString).text("two");
  CHECK(message_for(folder, folder.write("m.gguf", text.bytes())) ==
        "m.gguf: metadata 'split.count' is 'two', expected a number of parts");
  GgufBytes lonely(0, 1);
  lonely.text("split.count").u32(kU16).number(std::uint16_t{2});
  CHECK(message_for(folder, folder.write("m.gguf", lonely.bytes())) ==
        "m.gguf: metadata 'split.no' is missing, expected 0 to 1");
}

}  // namespace
}  // namespace ktjit::model
