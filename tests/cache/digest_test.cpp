#include "cache/digest.h"

#include <catch2/catch.hpp>
#include <string>

using ktjit::cache::Digest;
using ktjit::cache::digest_of;

TEST_CASE("the digest is XXH3-128") {
  // The reference's value for no input and seed 0: xxHash's own sanity test.
  CHECK(digest_of("").hex() == "99aa06d3014798d86001c324468d497f");
}

TEST_CASE("hex digits are read back, and nothing else is") {
  const Digest digest{0x0123456789abcdef, 0xf};
  CHECK(digest.hex() == "0123456789abcdef000000000000000f");
  CHECK(Digest::parse(digest.hex()) == digest);
  CHECK_FALSE(Digest::parse(""));
  CHECK_FALSE(Digest::parse("0123456789abcdef000000000000000"));
  CHECK_FALSE(Digest::parse("0123456789abcdef000000000000000f0"));
  CHECK_FALSE(Digest::parse("0123456789ABCDEF000000000000000F"));
  CHECK_FALSE(Digest::parse("0123456789abcdef 00000000000000f"));
}

TEST_CASE("two pieces have the digest of the whole, wherever it is cut") {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 7);
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string_view whole = text;
    REQUIRE(digest_of(whole.substr(0, cut), whole.substr(cut)) == digest_of(whole));
  }
}
