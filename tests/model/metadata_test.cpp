#include "model/metadata.h"

#include <catch2/catch.hpp>

namespace ktjit::model {
namespace {

TEST_CASE("values print on one line") {
  CHECK(value_to_text(std::uint8_t{65}) == "65");
  CHECK(value_to_text(std::int8_t{-5}) == "-5");
  CHECK(value_to_text(true) == "true");
  CHECK(value_to_text(0.1f) == "0.1");
  CHECK(value_to_text(1e-5) == "1e-05");
  CHECK(value_to_text("two\nlines") == "'two\\nlines'");
  CHECK(value_to_text(std::string(50, 'x'), 8, 10) == "'xxxxxxxxxx... (50 bytes)'");
  CHECK(value_to_text(std::vector<std::int32_t>{}) == "[]");
  CHECK(value_to_text(std::vector<std::int32_t>{1, -2}) == "[1, -2]");
  CHECK(value_to_text(std::vector<std::uint8_t>{1, 2, 3}, 2) == "[1, 2, ... 3 in all]");
  CHECK(value_to_text(std::vector<bool>{true, false}, 0) == "[... 2 in all]");
  CHECK(value_to_text(std::vector<std::string>{"a", "b"}) == "['a', 'b']");
}

TEST_CASE("values know their type and size") {
  CHECK(value_type_name(std::uint16_t{1}) == "u16");
  CHECK(value_type_name("x") == "str");
  CHECK(value_type_name(std::vector<double>{1}) == "array of f64");
  CHECK(value_type_name(std::vector<bool>{}) == "array of bool");
  CHECK(value_count(7u) == 1);
  CHECK(value_count(std::vector<float>(5)) == 5);
}

TEST_CASE("getters find values of their kind only") {
  Metadata metadata;
  CHECK(metadata.add("u8", std::uint8_t{200}));
  CHECK(metadata.add("negative", -1));
  CHECK(metadata.add("large", ~std::uint64_t{0}));
  CHECK(metadata.add("flag", true));
  CHECK(metadata.add("half", 0.5f));
  CHECK(metadata.add("text", "abc"));
  CHECK(metadata.add("heads", std::vector<std::int32_t>{4, 8}));
  CHECK(metadata.add("signed", std::vector<std::int32_t>{4, -8}));
  CHECK(metadata.add("texts", std::vector<std::string>{"a", "b"}));
  CHECK(!metadata.add("text", "again"));

  CHECK(metadata.find_uint("u8") == 200);
  CHECK(metadata.find_uint("large") == ~std::uint64_t{0});
  for (const char* key : {"negative", "flag", "half", "text", "heads", "absent"}) {
    CHECK(!metadata.find_uint(key));
  }
  CHECK(metadata.find_float("half") == 0.5);
  CHECK(!metadata.find_float("u8"));
  CHECK(metadata.find_bool("flag") == true);
  CHECK(!metadata.find_bool("u8"));
  CHECK(metadata.find_string("text") == "abc");
  CHECK(!metadata.find_string("texts"));
  CHECK(metadata.find_uints("heads") == std::vector<std::uint64_t>{4, 8});
  CHECK(metadata.find_uints("u8") == std::vector<std::uint64_t>{200});
  CHECK(!metadata.find_uints("signed"));
  CHECK(!metadata.find_uints("text"));
  CHECK(metadata.find_strings("texts").size() == 2);
  CHECK(metadata.find_strings("text").empty());
  CHECK(metadata.entries().front().key == "u8");
}

}  // namespace
}  // namespace ktjit::model
