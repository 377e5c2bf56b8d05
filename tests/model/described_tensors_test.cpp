// Files that describe their U8 tensors: prepared weights and ggml's blocks come back as what they are, and every wrong
// description is refused with the tensor, the value and what was expected.
#include "model/described_tensors.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "tests/model/checkpoint_builder.h"

namespace ktjit::model {
namespace {

constexpr std::string_view kPrepared =
    R"({"format":"q4_K","layout":"units_16x256","version":1,"ne":[512,37],"scale":"none"})";
constexpr std::int64_t kPreparedBytes =
    3 * 2 * 16 * (128 + 16);  // tiles, units, rows, codes and head

std::vector<std::byte> numbered(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7);
  return bytes;
}

/// A file with one U8 tensor 'w' of so many bytes, described by this text.
struct DescribedFile {
  ScratchFolder folder;

  Model open(std::string_view descriptions, std::int64_t bytes = kPreparedBytes,
             FormatId dtype = FormatId::kU8) {
    SafetensorsWriter writer(folder / "model.safetensors");
    writer.set(std::string(kDescriptionsKey), std::string(descriptions));
    const std::int64_t shape[] = {bytes / get_format(dtype).block_bytes};
    const auto data = numbered(static_cast<std::size_t>(bytes));
    writer.add_tensor("w", dtype, shape, data);
    writer.finish();
    return open_model(folder / "model.safetensors");
  }

  /// The message when the fields of 'w' have `part` in place of `original`.
  std::string problem(std::string_view original, std::string_view part,
                      std::int64_t bytes = kPreparedBytes) {
    std::string text(kPrepared);
    const std::size_t at = text.find(original);
    REQUIRE(at != std::string::npos);
    text.replace(at, original.size(), part);
    return problem_of(fmt::format("{{\"w\":{}}}", text), bytes);
  }

  std::string problem_of(const std::string& descriptions, std::int64_t bytes = kPreparedBytes,
                         FormatId dtype = FormatId::kU8) {
    try {
      open(descriptions, bytes, dtype);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no error";
  }
};

}  // namespace

TEST_CASE("tensors that a file describes come back with format, layout and shape") {
  const ScratchFolder folder;
  const std::map<std::string, TensorDescription> descriptions = {
      {"a.prepared", {FormatId::kQ4_K, LayoutKind::kPrepared, {512, 37}}},
      {"b.native", {FormatId::kQ6_K, LayoutKind::kNative, {256, 3}}},
      {"c.experts", {FormatId::kMxfp4, LayoutKind::kPrepared, {64, 17, 5}}}};
  SafetensorsWriter writer(folder / "model.safetensors");
  writer.set(std::string(kDescriptionsKey), descriptions_to_text(descriptions));
  std::map<std::string, std::vector<std::byte>> data;
  for (const auto& [name, description] : descriptions) {
    data[name] = numbered(static_cast<std::size_t>(described_bytes(description)));
    const std::int64_t shape[] = {described_bytes(description)};
    writer.add_tensor(name, FormatId::kU8, shape, data[name]);
  }
  const std::vector<float> norm(7, 1.0f);
  const std::int64_t norm_shape[] = {7};
  const auto norm_bytes = bytes_of(norm);
  writer.add_tensor("d.norm", FormatId::kF32, norm_shape, norm_bytes);
  writer.finish();

  const Model model = open_model(folder / "model.safetensors");
  REQUIRE(model.tensors().size() == 4);
  CHECK(model.get_tensor("d.norm").format == FormatId::kF32);
  for (const auto& [name, description] : descriptions) {
    const TensorInfo& tensor = model.get_tensor(name);
    INFO(name);
    CHECK(tensor.format == description.format);
    CHECK(tensor.layout == description.layout);
    CHECK(description_of(tensor).ne == description.ne);
    CHECK(std::ranges::equal(tensor.data, data[name]));
  }
  CHECK(model.get_tensor("a.prepared").bytes() == kPreparedBytes);
  CHECK(model.get_tensor("c.experts").bytes() ==
        static_cast<std::uint64_t>(5 * prepared_bytes(FormatId::kMxfp4, 17, 64)));
  CHECK(model.get_tensor("c.experts").scale_grid == fixed_scale_grid(FormatId::kMxfp4));
  CHECK(model.get_tensor("c.experts").scale_data.empty());
}

TEST_CASE(
    "a wrong description is an error that names the tensor, the value and what was expected") {
  DescribedFile file;
  CHECK(file.open(fmt::format("{{\"w\":{}}}", kPrepared)).get_tensor("w").rows() == 37);
  const auto says = [](const std::string& message, std::initializer_list<const char*> parts) {
    INFO(message);
    for (const char* part : parts) CHECK(message.find(part) != std::string::npos);
  };
  says(file.problem("q4_K", "q4_L"), {"model.safetensors", "'w'", "unknown format", "q4_L"});
  says(file.problem("q4_K", "q8_K", 37 * 2 * 292), {"'w'", "q8_K", "units_16x256"});
  says(file.problem("units_16x256", "units_8x128"),
       {"'w'", "units_8x128", "expected native or units_16x256"});
  says(file.problem(R"("version":1)", R"("version":2)"), {"'w'", "version 2", "expected 1"});
  says(file.problem(R"("version":1)", R"("version":"1")"), {"'w'", "expected 1"});
  says(file.problem(R"("version":1,)", ""), {"'w'", "without 'version'"});
  says(file.problem("[512,37]", "[500,37]"), {"'w'", "500 columns", "256"});
  says(file.problem("[512,37]", "[512,-37]"), {"'w'", "1 to 4 positive numbers"});
  says(file.problem("[512,37]", "[]"), {"'w'", "1 to 4 positive numbers"});
  says(file.problem("[512,37]", "[512,9007199254740993,9007199254740993]"), {"'w'", "2^63"});
  says(file.problem("[512,37]", "[512,49]"),
       {"'w'", fmt::format("{} bytes", kPreparedBytes).c_str(), "expected", "units_16x256"});
  says(file.problem(R"("none")", R"("1x32 e8m0")"), {"'w'", "1x32 e8m0", "expected 'none'"});
  says(file.problem("units_16x256", "native", 37 * 288 + 1),
       {"'w'", "10657 bytes", "expected 10656"});
  says(file.problem_of("{\"v\":{}}"), {"ktjit.tensors", "'v'", "lacks"});
  says(file.problem_of("[1]"), {"ktjit.tensors", "no object"});
  says(file.problem_of("{\"w\":"), {"ktjit.tensors", "no JSON"});
  says(file.problem_of("{\"w\":3}"), {"'w'", "no object"});
  says(file.problem_of(fmt::format("{{\"w\":{}}}", kPrepared), kPreparedBytes, FormatId::kF32),
       {"'w'", "f32", "expected U8 [bytes]"});
}

TEST_CASE("metadata of every type comes back bit for bit from a text") {
  Metadata metadata;
  metadata.add("u8", std::uint8_t{255});
  metadata.add("i8", std::int8_t{-128});
  metadata.add("u64", std::numeric_limits<std::uint64_t>::max());
  metadata.add("i64", std::numeric_limits<std::int64_t>::min());
  metadata.add("f32", std::numeric_limits<float>::quiet_NaN());
  metadata.add("f64", -0.1);
  metadata.add("bool", true);
  metadata.add("text", std::string("caf\u00e9 \"quoted\"\n"));
  metadata.add("no UTF-8", std::string("\xff\x00z", 3));
  metadata.add("texts", std::vector<std::string>{"a", "\xfe", ""});
  metadata.add("bools", std::vector<bool>{true, false, true});
  metadata.add("floats", std::vector<float>{1.5f, -0.0f});
  metadata.add("none", std::vector<std::int32_t>{});
  Metadata back;
  add_metadata_of_text("file", metadata_to_text(metadata), back);
  REQUIRE(back.entries().size() == metadata.entries().size());
  for (std::size_t i = 0; i < back.entries().size(); ++i) {
    const auto& [key, value] = back.entries()[i];
    INFO(key);
    CHECK(key == metadata.entries()[i].key);
    CHECK(value.index() == metadata.entries()[i].value.index());
    if (key != "f32") CHECK(value == metadata.entries()[i].value);
  }
  for (const char* text :
       {"", "{}", "[1]", "[[\"k\",\"u9\",1]]", "[[\"k\",\"str\",{\"hex\":\"zz\"}]]"})
    CHECK_THROWS_AS(add_metadata_of_text("file", text, back), InputError);
}

}  // namespace ktjit::model
