// Each check of the reader, broken on purpose: what the owner of the file is told.
#include <catch2/catch.hpp>
#include <limits>

#include "model/gguf_reader.h"
#include "tests/model/model_test_files.h"

namespace ktjit::model {
namespace {

/// The message for a file "m.gguf" of these bytes, without the folder.
std::string message_for(const GgufBytes& file) {
  const ScratchFolder folder;
  const auto path = folder.write("m.gguf", file.bytes());
  return folder.shorten(error_of<InputError>([&] { read_gguf(path); }));
}

/// The message for one tensor and `data_bytes` of data.
std::string message_for_tensor(std::vector<std::int64_t> ne, std::uint32_t type_id,
                               std::uint64_t offset = 0, std::size_t data_bytes = 4096) {
  GgufBytes file(1);
  file.tensor("w", std::move(ne), type_id, offset).pad().zeros(data_bytes);
  return message_for(file);
}

GgufBytes one_pair(std::string_view key) {
  GgufBytes file(0, 1);
  file.text(key);
  return file;
}

TEST_CASE("versions that are not read are refused by name") {
  CHECK(message_for(GgufBytes(0, 0, 1)) ==
        "m.gguf: is GGUF version 1, of August 2023, expected version 2 or 3; make it again from "
        "the original model");
  CHECK(message_for(GgufBytes(0, 0, 4)) == "m.gguf: is GGUF version 4, expected version 2 or 3");
  CHECK(message_for(GgufBytes(0, 0, 0)) == "m.gguf: is GGUF version 0, expected version 2 or 3");
  CHECK(message_for(GgufBytes(0, 0, 0x03000000)) ==
        "m.gguf: is a big-endian GGUF file (version field 0x03000000), expected a little-endian "
        "one; convert it with gguf-py's gguf_convert_endian.py");
}

TEST_CASE("counts that the file can't hold are refused before memory is taken") {
  constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
  CHECK(message_for(GgufBytes(kHuge, 0)) ==
        "m.gguf: says it has 18446744073709551615 tensors, at least 33 bytes each, but the file "
        "has 0 more bytes: it is cut short or damaged");
  CHECK(message_for(GgufBytes(0, kHuge)) ==
        "m.gguf: says it has 18446744073709551615 metadata pairs, at least 14 bytes each, but the "
        "file has 0 more bytes: it is cut short or damaged");
  CHECK(message_for(one_pair("k").u32(kArray).u32(kU64).u64(kHuge / 8 + 1).zeros(64)) ==
        "m.gguf: says it has 2305843009213693952 elements in metadata 'k', at least 8 bytes each, "
        "but the file has 64 more bytes: it is cut short or damaged");
  CHECK(message_for(one_pair("k").u32(kArray).u32(kString).u64(9).zeros(64)) ==
        "m.gguf: says it has 9 elements in metadata 'k', at least 8 bytes each, but the file has "
        "64 more bytes: it is cut short or damaged");
  CHECK(message_for(one_pair("k").u32(kString).u64(kHuge).zeros(3)) ==
        "m.gguf: metadata 'k' at byte 37 says it is 18446744073709551615 bytes long, but the file "
        "has 3 more bytes: it is cut short or damaged");
}

TEST_CASE("a file that ends inside a field says which") {
  CHECK(message_for(one_pair("key").u32(kU64).u32(1)) ==
        "m.gguf: ends at byte 43, inside metadata 'key': it is cut short or damaged");
}

TEST_CASE("metadata that is not as GGUF says is refused") {
  const auto u32_pair = [](GgufBytes& file, std::string_view key) {
    file.text(key).u32(kU32).u32(1);
  };
  GgufBytes twice(0, 2);
  u32_pair(twice, "general.x");
  u32_pair(twice, "general.x");
  CHECK(message_for(twice) == "m.gguf: has the metadata key 'general.x' twice");

  CHECK(message_for(one_pair("").u32(kU32).u32(1)) ==
        "m.gguf: the key of metadata pair 1 of 1 is empty");
  CHECK(message_for(one_pair("a\xff").u32(kU32).u32(1)) ==
        "m.gguf: the key of metadata pair 1 of 1 is 'a\\xff', expected UTF-8");
  CHECK(message_for(one_pair("a\nb").u32(kU32).u32(1)) ==
        "m.gguf: the key of metadata pair 1 of 1 is 'a\\nb', which has a control character");
  CHECK(message_for(one_pair(std::string(65536, 'k')).u32(kU32).u32(1)) ==
        "m.gguf: the key of metadata pair 1 of 1 is 65536 bytes long, expected at most 65535");
  CHECK(message_for(one_pair("k").u32(13).zeros(16)) ==
        "m.gguf: metadata 'k' has the unknown type id 13, expected 0 to 12");
  CHECK(message_for(one_pair("k").u32(kArray).u32(99).u64(0)) ==
        "m.gguf: metadata 'k' has the unknown type id 99, expected 0 to 12");
  CHECK(message_for(one_pair("k").u32(kArray).u32(kArray).u64(1).u32(kU8).u64(0)) ==
        "m.gguf: metadata 'k' is an array of arrays, which ggml does not read");
  CHECK(message_for(one_pair("k").u32(kBool).number(std::uint8_t{2})) ==
        "m.gguf: metadata 'k' is a bool of value 2, expected 0 or 1");
  CHECK(message_for(one_pair("general.name").u32(kString).text("caf\xe9")) ==
        "m.gguf: metadata 'general.name' is 'caf\\xe9', expected UTF-8");
}

TEST_CASE("an alignment that is no power of two or too small is refused") {
  const auto message = [](std::uint32_t alignment) {
    return message_for(one_pair("general.alignment").u32(kU32).u32(alignment));
  };
  const std::string expected = ", expected a power of two that is a multiple of 8";
  for (std::uint32_t wrong : {0u, 1u, 4u, 24u, 33u, 0xffffffffu}) {
    CHECK(message(wrong) ==
          "m.gguf: metadata 'general.alignment' is " + std::to_string(wrong) + expected);
  }
  for (std::uint32_t right : {8u, 16u, 64u, 0x80000000u}) CHECK(message(right) == "no error");
  CHECK(message_for(one_pair("general.alignment").u32(kU64).u64(32)) ==
        "m.gguf: metadata 'general.alignment' is of type u64, expected u32");
}

TEST_CASE("tensor names are checked") {
  GgufBytes twice(2);
  twice.tensor("w", {1}, kTypeF32, 0).tensor("w", {1}, kTypeF32, 32).pad().zeros(36);
  CHECK(message_for(twice) == "m.gguf: has the tensor 'w' twice");
  const auto message = [](std::string_view name) {
    GgufBytes file(1);
    file.tensor(name, {1}, kTypeF32, 0).pad().zeros(4);
    return message_for(file);
  };
  CHECK(message("\xc3(") == "m.gguf: the name of tensor 1 of 1 is '\\xc3(', expected UTF-8");
  CHECK(message(std::string_view("w\0x", 3)) ==
        "m.gguf: the name of tensor 1 of 1 is 'w\\x00x', which has a control character");
  GgufBytes empty(1);
  empty.tensor("", {1, 1}, kTypeF32, 0).pad().zeros(4);
  CHECK(message_for(empty) == "m.gguf: the name of tensor 1 of 1 is empty");
}

TEST_CASE("tensor shapes are checked") {
  CHECK(message_for_tensor({}, kTypeF32) ==
        "m.gguf: tensor 'w': has 0 dimensions, expected 1 to 4");
  CHECK(message_for_tensor({1, 1, 1, 1, 1}, kTypeF32) ==
        "m.gguf: tensor 'w': has 5 dimensions, expected 1 to 4");
  CHECK(message_for_tensor({32, -1}, kTypeF32) ==
        "m.gguf: tensor 'w': has the extent -1 in dimension 1, expected 0 or more");
  CHECK(message_for_tensor({100, 2}, kTypeQ4_0) ==
        "m.gguf: tensor 'w': has 100 columns, not a multiple of 32, the block of q4_0");
  constexpr std::int64_t kBig = std::int64_t{1} << 32;
  CHECK(message_for_tensor({kBig, kBig}, kTypeF32) ==
        "m.gguf: tensor 'w': has the shape [4294967296, 4294967296], more than 2^63 - 1 elements");
  CHECK(message_for_tensor({0, kBig, kBig}, kTypeF32) ==
        "m.gguf: tensor 'w': has the shape [0, 4294967296, 4294967296], more than 2^63 - 1 "
        "elements");
  CHECK(message_for_tensor({kBig, kBig / 4}, kTypeF32) ==
        "m.gguf: tensor 'w': has the shape [4294967296, 1073741824] in f32, more than 2^63 - 1 "
        "bytes");
}

TEST_CASE("type ids that ggml removed are refused with a cure") {
  struct Removed {
    std::uint32_t id;
    std::string name;
    std::string cure;
  };
  const std::string again = "quantise the original model again";
  for (const auto& [id, name, cure] : {
           Removed{4, "q4_2", again},
           Removed{5, "q4_3", again},
           Removed{31, "q4_0_4_4", again + " as q4_0"},
           Removed{32, "q4_0_4_8", again + " as q4_0"},
           Removed{33, "q4_0_8_8", again + " as q4_0"},
           Removed{36, "iq4_nl_4_4", again + " as iq4_nl"},
           Removed{37, "iq4_nl_4_8", again + " as iq4_nl"},
           Removed{38, "iq4_nl_8_8", again + " as iq4_nl"},
       }) {
    CHECK(message_for_tensor({256}, id) == "m.gguf: tensor 'w': has type id " + std::to_string(id) +
                                               " (" + name + "), which ggml removed; " + cure);
  }
}

TEST_CASE("unknown type ids are refused by number") {
  for (std::uint32_t id : {43u, 139u, 0xffffffffu}) {
    CHECK(message_for_tensor({256}, id) ==
          "m.gguf: tensor 'w': has the unknown type id " + std::to_string(id) +
              ", expected one of ggml's, 0 to 42; a fork of ggml (ik_llama.cpp) or a newer one may "
              "have written it");
  }
}

TEST_CASE("every type id of the format table is read") {
  for (const Format& format : all_formats()) {
    if (format.ggml_type < 0) continue;
    CAPTURE(format.name);
    GgufBytes file(1);
    file.tensor("w", {format.block_elems, 3}, static_cast<std::uint32_t>(format.ggml_type), 0);
    file.pad().zeros(3 * static_cast<std::size_t>(format.block_bytes));
    CHECK(message_for(file) == "no error");
  }
}

TEST_CASE("tensor data must lie inside the file") {
  CHECK(message_for_tensor({1025}, kTypeF32) ==
        "m.gguf: tensor 'w': takes 4100 bytes as f32 [1025], but the file, of 4160 bytes, has 4096 "
        "for it: it is cut short or damaged");
  CHECK(message_for_tensor({1}, kTypeF32, 0xffffffffffffffe0u) ==
        "m.gguf: tensor 'w': takes 4 bytes as f32 [1], but the file, of 4160 bytes, has 0 for it: "
        "it is cut short or damaged");
  CHECK(message_for_tensor({1}, kTypeF32, 0, 0) ==
        "m.gguf: tensor 'w': takes 4 bytes as f32 [1], but the file, of 64 bytes, has 0 for it: it "
        "is cut short or damaged");
}

TEST_CASE("tensor offsets are aligned and begin at 0") {
  CHECK(message_for_tensor({1}, kTypeF32, 33) ==
        "m.gguf: tensor 'w': has the offset 33, not a multiple of the alignment 32");
  CHECK(message_for_tensor({1}, kTypeF32, 64) ==
        "m.gguf: tensor 'w': is the first in the data and has the offset 64, expected 0");
}

/// The message for a tensor "a" of this type and a tensor "b" of one f32 at this offset.
std::string message_for_pair(std::vector<std::int64_t> ne, std::uint32_t type_id,
                             std::uint64_t offset_of_b) {
  GgufBytes file(2);
  file.tensor("a", std::move(ne), type_id, 0).tensor("b", {1}, kTypeF32, offset_of_b).pad();
  return message_for(file.zeros(offset_of_b + 4096));
}

TEST_CASE("tensors fill the data without overlap or gap") {
  CHECK(message_for_pair({64}, kTypeF32, 256) == "no error");
  CHECK(message_for_pair({64}, kTypeF32, 224) ==
        "m.gguf: tensor 'a': takes 256 bytes as f32 [64], but the file gives it 224 up to tensor "
        "'b': its type id 0, its shape or its offset is wrong");
  CHECK(message_for_pair({64}, kTypeF32, 288) ==
        "m.gguf: tensor 'a': takes 256 bytes as f32 [64], but the file gives it 288 up to tensor "
        "'b': its type id 0, its shape or its offset is wrong");
  // The same offset for both: the smaller one is taken as the first.
  CHECK(message_for_pair({64}, kTypeF32, 0) ==
        "m.gguf: tensor 'b': takes 4 bytes as f32 [1], but the file gives it 0 up to tensor 'a': "
        "its type id 0, its shape or its offset is wrong");
}

TEST_CASE("type id 42 with one byte an element is a fork's FP8 type") {
  const std::string problem =
      ": takes 1152 bytes as q2_0 [128, 32], but the file gives it 4096, one byte an element: type "
      "id 42 is q2_0 in ggml and an FP8 type in a fork, which seems to have written this file; "
      "convert it with that fork";
  CHECK(message_for_pair({128, 32}, kTypeQ2_0, 4096) == "m.gguf: tensor 'a'" + problem);
  CHECK(message_for_tensor({128, 32}, kTypeQ2_0, 0, 4096) == "m.gguf: tensor 'w'" + problem);
  CHECK(message_for_pair({128, 32}, kTypeQ2_0, 1152) == "no error");
  CHECK(message_for_tensor({128, 32}, kTypeQ2_0, 0, 1152) == "no error");
  CHECK(message_for_tensor({100, 32}, kTypeQ2_0) ==
        "m.gguf: tensor 'w': has 100 columns, not a multiple of 64, the block of q2_0; some forks "
        "of ggml use its type id 42 for an FP8 type");
}

TEST_CASE("names in messages can't drive a terminal") {
  GgufBytes file(1);
  file.tensor(
      "w\xc2\x9b"
      "31m",
      {100}, kTypeQ4_0, 0);
  CHECK(message_for(file.pad().zeros(64)) ==
        "m.gguf: tensor 'w\\xc2\\x9b31m': has 100 columns, not a multiple of 32, the block of "
        "q4_0");
}

}  // namespace
}  // namespace ktjit::model
