// What the format forbids, each by a file that does it; and files cut at every byte.
#include "model/safetensors_part.h"

#include <catch2/catch.hpp>
#include <string>

#include "core/error.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

using namespace std::string_literals;

std::string message_for(std::string_view bytes) {
  const ScratchFolder folder;
  const auto path = folder.write("m.safetensors", bytes);
  return folder.shorten(error_of<InputError>([&] { read_safetensors_part(path); }));
}

std::string message_for(std::string_view header, std::size_t data_bytes) {
  return message_for(safetensors_bytes(header, data_bytes));
}

/// A header of these tensors, each '"name":{...}'.
std::string entry(std::string_view name, std::string_view dtype, std::string_view shape,
                  std::string_view offsets) {
  return "\"" + std::string(name) + R"(":{"dtype":")" + std::string(dtype) + R"(","shape":)" +
         std::string(shape) + R"(,"data_offsets":)" + std::string(offsets) + "}";
}

TEST_CASE("a sound file gives tensors in the order of their bytes, and its metadata") {
  const ScratchFolder folder;
  const std::string header =
      "{" + entry("b", "U8", "[3]", "[8,11]") + "," + R"("__metadata__":{"format":"pt","x":"1"},)" +
      entry("a", "F16", "[2,2]", "[0,8]") + "," + entry("scalar", "BF16", "[]", "[11,13]") + "," +
      entry("empty", "F64", "[0,7]", "[13,13]") + "}   ";
  const SafetensorsPart part =
      read_safetensors_part(folder.write("m.safetensors", safetensors_bytes(header, 13)));
  REQUIRE(part.tensors.size() == 4);
  const std::vector<std::byte> data = make_bytes(13);
  CHECK(part.tensors[0].name == "a");
  CHECK(part.tensors[0].shape == std::vector<std::int64_t>{2, 2});
  CHECK(same_bytes(part.tensors[0].data, std::span(data).first(8)));
  CHECK(part.tensors[1].name == "b");
  CHECK(same_bytes(part.tensors[1].data, std::span(data).subspan(8, 3)));
  CHECK(part.tensors[2].shape.empty());
  CHECK(part.tensors[2].format == FormatId::kBF16);
  CHECK(part.tensors[3].data.empty());
  CHECK(part.metadata ==
        std::vector<std::pair<std::string, std::string>>{{"format", "pt"}, {"x", "1"}});
}

TEST_CASE("a file without tensors is sound") { CHECK(message_for("{}", 0) == "no error"); }

TEST_CASE("holes, overlaps and bytes that belong to no tensor are refused") {
  const std::string a = entry("a", "U8", "[4]", "[0,4]");
  CHECK(message_for("{" + a + "," + entry("b", "U8", "[4]", "[3,7]") + "}", 7) ==
        "m.safetensors: tensor 'b': begins at byte 3 of the data, expected 4, where 'a' ends: they "
        "overlap");
  CHECK(
      message_for("{" + a + "," + entry("b", "U8", "[4]", "[5,9]") + "}", 9) ==
      "m.safetensors: tensor 'b': begins at byte 5 of the data, expected 4, where 'a' ends: there "
      "is a hole");
  CHECK(message_for("{" + entry("b", "U8", "[4]", "[1,5]") + "}", 5) ==
        "m.safetensors: tensor 'b': begins at byte 1 of the data, expected 0, where the header "
        "ends: there is a hole");
  CHECK(message_for("{" + a + "}", 5) ==
        "m.safetensors: has 1 bytes after its last tensor, expected none");
  CHECK(
      message_for("{" + a + "}", 3) ==
      "m.safetensors: tensor 'a': ends at byte 4 of the data, but the file has 3: it is cut short "
      "or damaged");
  CHECK(message_for("{" + a + "," + entry("b", "U8", "[4]", "[0,4]") + "}", 4) ==
        "m.safetensors: tensor 'b': begins at byte 0 of the data, expected 4, where 'a' ends: they "
        "overlap");
}

TEST_CASE("a size that the shape contradicts is refused") {
  CHECK(
      message_for("{" + entry("a", "F32", "[2,3]", "[0,20]") + "}", 20) ==
      "m.safetensors: tensor 'a': takes 24 bytes as F32 [2, 3], but its data_offsets are [0, 20]");
  CHECK(message_for("{" + entry("a", "U8", "[4]", "[4,0]") + "}", 4) ==
        "m.safetensors: tensor 'a': takes 4 bytes as U8 [4], but its data_offsets are [4, 0]");
  CHECK(message_for("{" + entry("a", "F4", "[3]", "[0,2]") + "}", 2) ==
        "m.safetensors: tensor 'a': is F4 [3], expected a whole number of bytes, less than 2^63");
  CHECK(message_for("{" + entry("a", "F32", "[4294967296,4294967296]", "[0,0]") + "}", 0) ==
        "m.safetensors: tensor 'a': is F32 [4294967296, 4294967296], expected a whole number of "
        "bytes, less than 2^63");
  CHECK(message_for("{" + entry("a", "F32", "[0,9223372036854775807,2]", "[0,0]") + "}", 0) ==
        "m.safetensors: tensor 'a': is F32 [0, 9223372036854775807, 2], expected a whole number of "
        "bytes, less than 2^63");
}

TEST_CASE("keys and names that occur twice are refused") {
  const std::string a = entry("a", "U8", "[4]", "[0,4]");
  CHECK(message_for("{" + a + "," + a + "}", 4) == "m.safetensors: has the tensor 'a' twice");
  CHECK(message_for(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0) ==
        "m.safetensors: tensor 'a': has the key 'dtype' twice");
  CHECK(message_for(R"({"__metadata__":{},"__metadata__":{}})", 0) ==
        "m.safetensors: has a header with the key '__metadata__' twice");
}

TEST_CASE("what a header may not hold is named") {
  const auto tensor = [](std::string_view fields) {
    return message_for("{\"a\":{" + std::string(fields) + "}}", 0);
  };
  const std::string a = "m.safetensors: tensor 'a': ";
  CHECK(tensor(R"("dtype":"F16","shape":[0])") == a + "has no data_offsets");
  CHECK(tensor("") == a + "has no dtype");
  CHECK(tensor(R"("dtype":"F17","shape":[0],"data_offsets":[0,0])") ==
        a + "has the unknown dtype 'F17', expected one of BOOL, F4, F6_E2M3, F6_E3M2, U8, I8, "
            "F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, I16, U16, F16, BF16, I32, U32, "
            "F32, C64, F64, I64, U64");
  CHECK(tensor(R"("dtype":7)") == a + "has the dtype 7, expected a string");
  CHECK(tensor(R"("shape":"x")") == a + "has the shape 'x', expected an array");
  CHECK(tensor(R"("shape":[-1])") == a + "has -1 in its shape, expected whole numbers, 0 or more");
  CHECK(tensor(R"("shape":[1.5])") ==
        a + "has a fraction in its shape, expected whole numbers, 0 or more");
  CHECK(tensor(R"("shape":[[1]])") ==
        a + "has an array in its shape, expected whole numbers, 0 or more");
  CHECK(tensor(R"("shape":[9223372036854775808])") ==
        a + "has the extent 9223372036854775808, expected less than 2^63");
  CHECK(tensor(R"("data_offsets":[0])") == a + "has 1 data_offsets, expected two");
  CHECK(tensor(R"("data_offsets":[0,0,0])") == a + "has more than two data_offsets");
  CHECK(tensor(R"("data_offsets":[0,null])") ==
        a + "has null in its data_offsets, expected whole numbers, 0 or more");
  CHECK(tensor(R"("note":"x")") ==
        a + "has the field 'note', expected dtype, shape and data_offsets");
  CHECK(message_for(R"({"a":[1]})", 0) == a + "is an array in the header, expected an object");
  CHECK(message_for(R"({"__metadata__":{"x":1}})", 0) ==
        "m.safetensors: has the value 1 in __metadata__ under 'x', expected a string");
  CHECK(message_for(R"({"__metadata__":{"x":{}}})", 0) ==
        "m.safetensors: has the value an object in __metadata__ under 'x', expected a string");
  CHECK(message_for(R"({"__metadata__":null})", 0) ==
        "m.safetensors: has the __metadata__ null, expected an object of strings");
  CHECK(message_for(R"({"":{}})", 0) ==
        "m.safetensors: has a tensor of the name '', expected one or more characters that are no "
        "control characters");
  CHECK(message_for(R"({"a\nb":{}})", 0) ==
        "m.safetensors: has a tensor of the name 'a\\nb', expected one or more characters that are "
        "no control characters");
}

TEST_CASE("a header that is no JSON, or no UTF-8, is refused") {
  using Catch::Matchers::StartsWith;
  CHECK_THAT(message_for("{\"a\":}", 0),
             StartsWith("m.safetensors: has a header that is no JSON: parse error at line 1"));
  CHECK_THAT(message_for("{} x", 0), StartsWith("m.safetensors: has a header that is no JSON"));
  CHECK_THAT(message_for("{\"\xff\":{}}", 0),
             StartsWith("m.safetensors: has a header that is no JSON"));
  CHECK(message_for("[]", 0) == "m.safetensors: has a header that begins with '[]', expected '{'");
  CHECK(message_for(" {}", 0) ==
        "m.safetensors: has a header that begins with ' {}', expected '{'");
  // Nesting is refused at its second level, so depth costs nothing.
  CHECK(message_for("{\"a\":" + std::string(1'000'000, '[') + "}", 0) ==
        "m.safetensors: tensor 'a': is an array in the header, expected an object");
}

TEST_CASE("the header's length is checked before it is used") {
  CHECK(message_for("") == "m.safetensors: is empty (0 bytes), expected a safetensors file");
  CHECK(message_for("\x10\0\0"s) ==
        "m.safetensors: ends at byte 3, inside the header's length: it is cut short");
  CHECK(message_for("\x10\0\0\0\0\0\0\0{}"s) ==
        "m.safetensors: says its header has 16 bytes, but the file has 2 more: it is cut short or "
        "damaged");
  CHECK(message_for("\x01\xe1\xf5\x05\0\0\0\0{}"s) ==
        "m.safetensors: says its header has 100000001 bytes, expected at most 100000000; the file "
        "is of an unknown kind and begins with the bytes "
        "'\\x01\\xe1\\xf5\\x05\\x00\\x00\\x00\\x00{}'");
  CHECK(message_for("\0\0\0\0\0\0\0\0"s) ==
        "m.safetensors: has a header that begins with '', expected '{'");
}

TEST_CASE("a file cut at any byte, or with any bit of its header changed, is read or refused") {
  const std::string sound = safetensors_bytes("{" + entry("a", "F32", "[2,3]", "[0,24]") + "," +
                                                  R"("__metadata__":{"k":"v"},)" +
                                                  entry("b", "F8_E4M3", "[5]", "[24,29]") + "}",
                                              29);
  REQUIRE(message_for(sound) == "no error");
  const ScratchFolder folder;
  const auto outcome = [&](std::string_view bytes) {
    const auto path = folder.write("m.safetensors", bytes);
    return error_of<InputError>([&] { read_safetensors_part(path); });
  };
  for (std::size_t size = 0; size < sound.size(); ++size) {
    const std::string message = outcome(std::string_view(sound).substr(0, size));
    INFO(size << ": " << message);
    CHECK(message != "no error");
    CHECK_FALSE(message.starts_with("another error"));
  }
  for (std::size_t at = 0; at < sound.size() - 29; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = sound;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      const std::string message = outcome(changed);
      if (!message.starts_with("another error")) continue;
      FAIL_CHECK(at << "." << bit << ": " << message);
    }
  }
}

}  // namespace
}  // namespace ktjit::model
