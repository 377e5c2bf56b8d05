#include "model/gguf_writer.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "model/gguf_reader.h"
#include "model/output_file.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

using Shape = std::vector<std::int64_t>;

template <typename T>
std::vector<MetadataValue> values_of() {
  using Limits = std::numeric_limits<T>;
  const std::vector<T> edges = {Limits::lowest(), Limits::max(), T{0}, T{1}};
  std::vector<MetadataValue> values = {edges, std::vector<T>()};
  values.insert(values.end(), edges.begin(), edges.end());
  return values;
}

std::vector<MetadataValue> all_kinds_of_values() {
  std::vector<MetadataValue> values;
  const auto append = [&](const std::vector<MetadataValue>& more) {
    values.insert(values.end(), more.begin(), more.end());
  };
  append(values_of<std::uint8_t>());
  append(values_of<std::int8_t>());
  append(values_of<std::uint16_t>());
  append(values_of<std::int16_t>());
  append(values_of<std::uint32_t>());
  append(values_of<std::int32_t>());
  append(values_of<std::uint64_t>());
  append(values_of<std::int64_t>());
  append(values_of<float>());
  append(values_of<double>());
  append({true, false, std::vector<bool>{true, false, true}, std::vector<bool>()});
  append({std::string(), "text", std::string("with\0zero", 9), "\xc3\xa9\n"});
  append({std::vector<std::string>{"", "a", std::string(1000, 'x')}, std::vector<std::string>()});
  return values;
}

TEST_CASE("metadata of every type comes back as it was") {
  const ScratchFolder folder;
  const std::vector<MetadataValue> values = all_kinds_of_values();
  GgufWriter writer(folder / "m.gguf");
  for (std::size_t i = 0; i < values.size(); ++i) writer.set("key" + std::to_string(i), values[i]);
  writer.finish();
  const Model model = read_gguf(folder / "m.gguf");
  CHECK(model.version() == 3);
  REQUIRE(model.metadata().entries().size() == values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i, value_type_name(values[i]));
    CHECK(model.metadata().entries()[i].key == "key" + std::to_string(i));
    CHECK(model.metadata().entries()[i].value == values[i]);
  }
}

TEST_CASE("a NaN keeps its place in metadata") {
  const ScratchFolder folder;
  GgufWriter writer(folder / "m.gguf");
  writer.set("nan", std::numeric_limits<float>::quiet_NaN());
  writer.finish();
  const auto value = read_gguf(folder / "m.gguf").metadata().find_float("nan");
  REQUIRE(value);
  CHECK(std::isnan(*value));
}

TEST_CASE("tensors of every format come back as they were, at any alignment") {
  for (std::uint32_t alignment : {8u, 32u, 64u, 4096u}) {
    CAPTURE(alignment);
    const ScratchFolder folder;
    GgufWriter writer(folder / "m.gguf", alignment);
    std::vector<std::vector<std::byte>> data;
    for (const Format& format : all_formats()) {
      data.push_back(make_bytes(3 * 2 * static_cast<std::size_t>(format.block_bytes),
                                static_cast<unsigned>(data.size())));
    }
    for (const Format& format : all_formats()) {
      if (format.ggml_type < 0) continue;
      const Shape ne = {2 * format.block_elems, 3};
      writer.add_tensor(std::string(format.name), format.id, ne,
                        data[static_cast<std::size_t>(format.id)]);
    }
    writer.finish();
    const Model model = read_gguf(folder / "m.gguf");
    CHECK(model.alignment() == alignment);
    CHECK(model.notes().empty());
    CHECK(model.tensors().size() == 35);  // ggml's types
    for (const TensorInfo& tensor : model.tensors()) {
      CAPTURE(tensor.name);
      CHECK(get_format(tensor.format).name == tensor.name);
      CHECK(tensor.n_dims == 2);
      CHECK(tensor.rows() == 3);
      CHECK(same_bytes(tensor.data, data[static_cast<std::size_t>(tensor.format)]));
      CHECK((tensor.data.data() - model.tensors()[0].data.data()) % alignment == 0);
    }
  }
}

TEST_CASE("shapes of one to four dimensions and zero elements come back") {
  const ScratchFolder folder;
  GgufWriter writer(folder / "m.gguf");
  const std::vector<Shape> shapes = {{3}, {3, 2}, {3, 2, 5}, {3, 2, 5, 7}, {0}, {3, 0}, {1, 1}};
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    std::size_t count = 1;
    for (std::int64_t extent : shapes[i]) count *= static_cast<std::size_t>(extent);
    writer.add_tensor("t" + std::to_string(i), FormatId::kI8, shapes[i],
                      [count](const ByteSink& sink) { sink(make_bytes(count)); });
  }
  writer.finish();
  const Model model = read_gguf(folder / "m.gguf");
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const TensorInfo& tensor = model.tensors()[i];
    CHECK(Shape(tensor.ne.begin(), tensor.ne.begin() + tensor.n_dims) == shapes[i]);
    CHECK(same_bytes(tensor.data, make_bytes(tensor.data.size())));
  }
}

TEST_CASE("a streamed tensor equals one from memory") {
  const ScratchFolder folder;
  const std::vector<std::byte> data = make_bytes(300'000);
  const Shape ne = {300'000};
  GgufWriter whole(folder / "whole.gguf");
  whole.add_tensor("w", FormatId::kI8, ne, data);
  whole.finish();
  for (std::size_t piece : {1u, 1000u, 65536u, 100'000u}) {
    GgufWriter streamed(folder / "streamed.gguf");
    streamed.add_tensor("w", FormatId::kI8, ne, [&](const ByteSink& sink) {
      for (std::size_t at = 0; at < data.size(); at += piece) {
        sink(std::span(data).subspan(at, std::min(piece, data.size() - at)));
      }
    });
    streamed.finish();
    CHECK(read_file(folder / "streamed.gguf") == read_file(folder / "whole.gguf"));
  }
}

TEST_CASE("a model of llama.cpp's, copied, is the same file") {
  const ScratchFolder folder;
  for (std::string_view name : {"tiny-llama-q4_k_m.gguf", "tiny-qwen2-iq4_xs.gguf",
                                "tiny-gemma2-q2_k.gguf", "tiny-vocab-only.gguf"}) {
    CAPTURE(name);
    const Model model = read_gguf(test_model(name));
    GgufWriter writer(folder / name);
    for (const Metadata::Entry& entry : model.metadata().entries()) {
      writer.set(entry.key, entry.value);
    }
    for (const TensorInfo& tensor : model.tensors()) writer.add_tensor(tensor);
    writer.finish();
    CHECK(read_file(folder / name) == read_file(test_model(name)));
  }
}

TEST_CASE("what a GGUF file can't hold is refused") {
  const ScratchFolder folder;
  GgufWriter writer(folder / "m.gguf");
  const std::vector<std::byte> data = make_bytes(36);
  const auto add = [&](std::string name, FormatId format, Shape ne) {
    return error_of<SpecError>([&] { writer.add_tensor(name, format, ne, data); });
  };
  CHECK(add("w", FormatId::kQ4_0, {32, 2}) == "no error");
  CHECK(add("w", FormatId::kQ4_0, {32, 2}) ==
        "tensor name is 'w', allowed: a name that is not taken yet");
  CHECK(add("x", FormatId::kQ4_0, {32, 3}) ==
        "data of tensor 'x' is 36 bytes, allowed: 54 bytes, as its shape and format say");
  CHECK(add("x", FormatId::kQ4_0, {32, 2}) == "no error");  // the refused one left nothing behind
  CHECK(add("y", FormatId::kQ4_0, {36}) ==
        "shape of tensor 'y' is [36], allowed: columns that are a multiple of 32, the block of "
        "q4_0");
  CHECK(add("y", FormatId::kF32, {}) == "shape of tensor 'y' is [], allowed: 1 to 4 dimensions");
  CHECK(add("y", FormatId::kF32, {1, 1, 1, 1, 9}) ==
        "shape of tensor 'y' is [1, 1, 1, 1, 9], allowed: 1 to 4 dimensions");
  CHECK(add("y", FormatId::kF32, {-9, 1}) ==
        "shape of tensor 'y' is [-9, 1], allowed: extents of 0 or more");
  CHECK(add("y", FormatId::kF32, {std::int64_t{1} << 40, std::int64_t{1} << 40}) ==
        "shape of tensor 'y' is [1099511627776, 1099511627776], allowed: less than 2^63 bytes");
  CHECK(add("y", FormatId::kFp8E4M3, {36}) ==
        "format of tensor 'y' is fp8_e4m3, allowed: a format that has a type id in GGUF");
  CHECK(add(std::string(64, 'n'), FormatId::kI8, {36}) ==
        "tensor name is '" + std::string(64, 'n') +
            "', allowed: 1 to 63 bytes of UTF-8 without control characters");
  CHECK(add("", FormatId::kI8, {36}) ==
        "tensor name is '', allowed: 1 to 63 bytes of UTF-8 without control characters");

  const auto set = [&](std::string key, MetadataValue value) {
    return error_of<SpecError>([&] { writer.set(key, value); });
  };
  CHECK(set("k", 1u) == "no error");
  CHECK(set("k", 1u) == "metadata key is 'k', allowed: a key that is not set yet");
  CHECK(set("\xff", 1u) ==
        "metadata key is '\\xff', allowed: 1 to 65535 bytes of UTF-8 without control characters");
  CHECK(set("general.name", "\xff") == "metadata 'general.name' is '\\xff', allowed: UTF-8");
  CHECK(set("tokenizer.ggml.tokens", std::vector<std::string>{"\xff"}) == "no error");
  CHECK(set("general.alignment", 64u) ==
        "general.alignment is 64, allowed: 32 as u32, the writer's alignment");
  CHECK(set("general.alignment", 32u) == "no error");
  CHECK(error_of<SpecError>([&] { GgufWriter(folder / "m.gguf", 48); }) ==
        "alignment is 48, allowed: a power of two that is a multiple of 8");
}

std::vector<std::string> list(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

TEST_CASE("a write that fails leaves the old file and nothing else") {
  const ScratchFolder folder;
  folder.write("m.gguf", "old");
  const Shape ne = {100};
  for (std::size_t given : {99u, 101u}) {
    GgufWriter writer(folder / "m.gguf");
    writer.add_tensor("w", FormatId::kI8, ne,
                      [given](const ByteSink& sink) { sink(make_bytes(given)); });
    CHECK(error_of<SpecError>([&] { writer.finish(); }) ==
          "data of tensor 'w' is " + std::to_string(given) +
              " bytes, allowed: 100 bytes, as its shape and format say");
  }
  CHECK(list(folder.path()) == std::vector<std::string>{"m.gguf"});
  CHECK(read_file(folder / "m.gguf") == "old");

  GgufWriter writer(folder / "m.gguf");
  writer.finish();
  CHECK(list(folder.path()) == std::vector<std::string>{"m.gguf"});
  CHECK(read_file(folder / "m.gguf").starts_with("GGUF"));
}

TEST_CASE("a place that takes no file is an OutputError") {
  const ScratchFolder folder;
  CHECK(folder.shorten(error_of<OutputError>([&] {
    GgufWriter(folder / "none/m.gguf").finish();
  })) == "none/m.gguf: cannot be created: No such file or directory");
  std::filesystem::create_directory(folder / "taken");
  CHECK(folder.shorten(error_of<OutputError>([&] { GgufWriter(folder / "taken").finish(); })) ==
        "taken: cannot be opened: Is a directory");
  CHECK(list(folder.path()) == std::vector<std::string>{"taken"});
}

}  // namespace
}  // namespace ktjit::model
