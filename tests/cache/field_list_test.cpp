#include "cache/field_list.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ktjit::cache {
namespace {

std::string text_of(const FieldList& list) {
  std::string text;
  list.append_text("list", text);
  return text;
}

FieldList list_of(std::initializer_list<Field> fields) {
  FieldList list;
  for (const Field& field : fields) list.add(field.name, field.value);
  return list;
}

TEST_CASE("a list has the documented text") {
  FieldList list;
  list.add("arch", "sm_90a").add("text", "a\nb").add("rows", 7).add("fast", false);
  CHECK(text_of(list) == "list 4\narch 6\nsm_90a\ntext 3\na\nb\nrows 1\n7\nfast 5\nfalse\n");
  CHECK(text_of(list).size() <= list.text_bytes("list"));
}

TEST_CASE("lists that join to the same characters have different texts") {
  const std::vector<FieldList> lists = {
      FieldList(),
      list_of({{"a", ""}}),
      list_of({{"a", "bc"}}),
      list_of({{"ab", "c"}}),
      list_of({{"a", "b"}, {"a", "c"}}),
      list_of({{"a", "c"}, {"a", "b"}}),
      list_of({{"a", "b"}, {"c", ""}}),
      list_of({{"a", ""}, {"b", "c"}}),
      list_of({{"a", "\nb 1\nc"}}),
      list_of({{"a", "\nb 1\nc\n"}}),
      list_of({{"a", std::string("b\0", 2)}}),
      list_of({{"a", "b"}}),
  };
  for (std::size_t i = 0; i < lists.size(); ++i) {
    for (std::size_t j = 0; j < lists.size(); ++j) {
      CAPTURE(i, j);
      CHECK((text_of(lists[i]) == text_of(lists[j])) == (i == j));
    }
    std::string text = text_of(lists[i]) + "more";
    std::string_view rest = text;
    CHECK(FieldList::parse("list", rest) == lists[i]);
    CHECK(rest == "more");
  }
}

TEST_CASE("a text that is cut, or of another heading, is no list") {
  const std::string text = text_of(list_of({{"a", "value"}, {"b", ""}}));
  for (std::size_t size = 0; size < text.size(); ++size) {
    std::string_view cut = std::string_view(text).substr(0, size);
    CAPTURE(size);
    CHECK_FALSE(FieldList::parse("list", cut));
    CHECK(cut.size() == size);
  }
  std::string_view whole = text;
  CHECK_FALSE(FieldList::parse("lists", whole));
}

TEST_CASE("sizes that no text can have are refused") {
  for (const char* text : {"list 1\na 99999999999999999999999\nx\n", "list 1\na -1\nx\n",
                           "list 1\na 18446744073709551615\nx\n", "list 99999999\n", "list \n",
                           "list 1\n 1\nx\n", "list 1\na 1 \nx\n", "list"}) {
    std::string_view rest = text;
    CAPTURE(text);
    CHECK_FALSE(FieldList::parse("list", rest));
  }
}

TEST_CASE("a field's name must be a plain word") {
  FieldList list;
  for (const char* name : {"", "a b", "a\n", "A", "\xc3\xa9"}) {
    CHECK_THROWS_AS(list.add(name, "x"), InternalError);
  }
}

TEST_CASE("differences are named field by field") {
  const FieldList left = list_of({{"arch", "sm_86"}, {"flag", "-a"}, {"flag", "-b"}, {"x", "1"}});
  const FieldList right = list_of({{"arch", "sm_90"}, {"flag", "-a"}, {"y", "2"}, {"x", "1"}});
  const auto found = differences(left, right);
  REQUIRE(found.size() == 3);
  CHECK(found[0].name == "arch");
  CHECK(found[0].left == "sm_86");
  CHECK(found[0].right == "sm_90");
  CHECK(found[1].name == "flag");
  CHECK(found[1].left == "-b");
  CHECK_FALSE(found[1].right);
  CHECK(found[2].name == "y");
  CHECK_FALSE(found[2].left);
  CHECK(differences(left, left).empty());
}

TEST_CASE("a difference in order alone is named too") {
  const auto found =
      differences(list_of({{"a", "1"}, {"b", "2"}}), list_of({{"b", "2"}, {"a", "1"}}));
  REQUIRE(found.size() == 1);
  CHECK(found[0].name == "(order)");
}

}  // namespace
}  // namespace ktjit::cache
