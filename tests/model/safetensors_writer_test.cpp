#include "model/safetensors_writer.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <set>

#include "core/error.h"
#include "model/open_model.h"
#include "model/safetensors_format.h"
#include "model/safetensors_part.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

using Shape = std::vector<std::int64_t>;

ByteSource source_of(std::vector<std::byte> bytes) {
  return [bytes](const ByteSink& sink) { sink(bytes); };
}

TEST_CASE("tensors of every dtype come back as they were, each aligned to its elements") {
  const ScratchFolder folder;
  SafetensorsWriter writer(folder / "m.safetensors");
  writer.set("format", "pt");
  std::size_t written = 0;
  for (const Format& format : all_formats()) {
    if (safetensors::dtype_name(format.id).empty()) continue;
    const Shape shape = {3, 4 * format.block_elems};
    writer.add_tensor(std::string(format.name), format.id, shape,
                      source_of(make_bytes(12 * static_cast<std::size_t>(format.block_bytes),
                                           static_cast<unsigned>(format.id))));
    ++written;
  }
  CHECK(written == 22);  // the dtypes of safetensors 0.8
  writer.finish();
  const SafetensorsPart part = read_safetensors_part(folder / "m.safetensors");
  CHECK(part.metadata.size() == 1);
  REQUIRE(part.tensors.size() == written);
  for (const StoredTensor& tensor : part.tensors) {
    CAPTURE(tensor.name);
    const Format& format = get_format(tensor.format);
    CHECK(tensor.name == format.name);
    CHECK(tensor.shape == Shape{3, 4 * format.block_elems});
    CHECK(same_bytes(tensor.data, make_bytes(12 * static_cast<std::size_t>(format.block_bytes),
                                             static_cast<unsigned>(format.id))));
    const auto offset = tensor.data.data() - part.file.bytes().data();
    if (format.block_elems == 1) CHECK(offset % format.block_bytes == 0);
  }
  // And as a model: every one is listed.
  CHECK(open_model(folder / "m.safetensors").tensors().size() == written);
}

TEST_CASE("scalars, empty tensors and names of any kind come back") {
  const ScratchFolder folder;
  SafetensorsWriter writer(folder / "m.safetensors");
  const std::vector<std::byte> eight = make_bytes(8);
  writer.add_tensor("a \"quoted\" \\ ü", FormatId::kI64, {}, eight);
  writer.add_tensor("empty", FormatId::kF32, Shape{4, 0}, std::span<const std::byte>());
  writer.finish();
  const SafetensorsPart part = read_safetensors_part(folder / "m.safetensors");
  REQUIRE(part.tensors.size() == 2);
  CHECK(part.tensors[0].name == "a \"quoted\" \\ ü");
  CHECK(part.tensors[0].shape.empty());
  CHECK(same_bytes(part.tensors[0].data, eight));
  CHECK(part.tensors[1].shape == Shape{4, 0});
}

TEST_CASE("what a safetensors file can't hold is refused") {
  const ScratchFolder folder;
  SafetensorsWriter writer(folder / "m.safetensors");
  const std::vector<std::byte> four = make_bytes(4);
  const auto add = [&](std::string name, FormatId format, const Shape& shape) {
    return error_of<SpecError>([&] { writer.add_tensor(name, format, shape, four); });
  };
  CHECK(add("a", FormatId::kQ4_K, {256})
            .starts_with("format of tensor 'a' is q4_K, allowed: one "
                         "with a dtype in safetensors: BOOL, F4, "));
  CHECK(add("a", FormatId::kF32, {-1}) ==
        "shape of tensor 'a' is [-1], allowed: extents of 0 or more, and a whole number of bytes "
        "below 2^63");
  CHECK(add("a", FormatId::kFp4E2M1, {7}) ==
        "shape of tensor 'a' is [7], allowed: extents of 0 or more, and a whole number of bytes "
        "below 2^63");
  CHECK(add("a", FormatId::kF32, {2}) ==
        "data of tensor 'a' is 4 bytes, allowed: 8 bytes, as its shape and format say");
  CHECK(add("__metadata__", FormatId::kF32, {1}) ==
        "tensor name is '__metadata__', allowed: UTF-8 without control characters, not empty, not "
        "__metadata__");
  CHECK(add("\xff", FormatId::kF32, {1}).starts_with("tensor name is '\\xff'"));
  CHECK(add("a", FormatId::kF32, {1}) == "no error");
  CHECK(add("a", FormatId::kF32, {1}) ==
        "tensor name is 'a', allowed: a name that is not taken yet");
  writer.set("k", "v");
  CHECK(error_of<SpecError>([&] { writer.set("k", "w"); }) ==
        "metadata key is 'k', allowed: a key that is not set yet");
  writer.add_tensor("short", FormatId::kF32, Shape{2}, source_of(make_bytes(4)));
  CHECK(error_of<SpecError>([&] { writer.finish(); }) ==
        "data of tensor 'short' is 4 bytes, allowed: 8 bytes, as its shape and format say");
  CHECK_FALSE(std::filesystem::exists(folder / "m.safetensors"));
}

TEST_CASE("shards are as large as they may be, and their index names every tensor") {
  const ScratchFolder folder;
  ShardedSafetensorsWriter writer(folder.path(), 100);
  const auto add = [&](std::string name, std::int64_t bytes) {
    writer.add_tensor(name, FormatId::kU8, Shape{bytes},
                      source_of(make_bytes(static_cast<std::size_t>(bytes))));
  };
  add("a", 60);
  add("b", 40);   // fills the first
  add("c", 1);    // the second
  add("d", 250);  // one for itself
  add("e", 50);
  writer.finish();
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder.path()))
    names.insert(file.path().filename());
  CHECK(names == std::set<std::string>{
                     "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                     "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                     "model.safetensors.index.json"});
  CHECK(read_safetensors_part(folder / "model-00001-of-00004.safetensors").tensors.size() == 2);
  const Model model = open_model(folder.path());
  CHECK(model.tensors().size() == 5);
  CHECK(model.get_tensor("d").part == 2);
  CHECK(same_bytes(model.get_tensor("d").data, make_bytes(250)));
}

TEST_CASE("one shard is enough: no numbers, no index") {
  const ScratchFolder folder;
  ShardedSafetensorsWriter writer(folder.path(), 100);
  writer.add_tensor("a", FormatId::kU8, Shape{100}, source_of(make_bytes(100)));
  writer.finish();
  CHECK(open_model(folder.path()).files() == std::vector{folder / "model.safetensors"});
}

}  // namespace
}  // namespace ktjit::model
