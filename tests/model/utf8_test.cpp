#include "model/utf8.h"

#include <catch2/catch.hpp>

namespace ktjit::model {
namespace {

std::string encode(std::uint32_t code_point) {
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | (code_point >> shift & 0x3f));
  };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) return {static_cast<char>(0xc0 | code_point >> 6), tail(0)};
  if (code_point < 0x10000) return {static_cast<char>(0xe0 | code_point >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | code_point >> 18), tail(12), tail(6), tail(0)};
}

TEST_CASE("every code point is UTF-8, surrogates and what lies beyond are not") {
  std::size_t wrong = 0;
  for (std::uint32_t code_point = 0; code_point < 0x110800; ++code_point) {
    const bool is_surrogate = code_point >= 0xd800 && code_point < 0xe000;
    const bool expected = !is_surrogate && code_point < 0x110000;
    if (is_valid_utf8(encode(code_point)) != expected) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("malformed sequences are not UTF-8") {
  for (std::string_view bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",
                               "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "a\xff"}) {
    CHECK(!is_valid_utf8(bad));
  }
  CHECK(is_valid_utf8(""));
}

TEST_CASE("escapes keep text readable and terminals safe") {
  CHECK(escape_text("plain \xc3\xa9") == "plain \xc3\xa9");
  CHECK(escape_text("\x1b[31m\t\\\x7f") == "\\x1b[31m\\t\\\\\\x7f");
  CHECK(escape_text("\xff\xc3") == "\\xff\\xc3");
  CHECK(escape_text("\xc2\x9b") == "\\xc2\\x9b");
  CHECK(escape_text("abcdef", 3) == "abc... (6 bytes)");
  CHECK(escape_text("ab\xc3\xa9", 3) == "ab... (4 bytes)");  // no sequence is cut in two
  CHECK(escape_text("abc", 3) == "abc");
}

}  // namespace
}  // namespace ktjit::model
