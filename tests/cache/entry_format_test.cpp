#include "cache/entry_format.h"

#include <catch2/catch.hpp>

#include "tests/cache/cache_fixture.h"

namespace ktjit::cache::test {
namespace {

using Decoded = std::variant<Entry, RejectReason>;

const std::string kKeyText = make_key().hashed().text;

std::optional<RejectReason> rejection(const Decoded& decoded) {
  const auto* reason = std::get_if<RejectReason>(&decoded);
  return reason ? std::optional(*reason) : std::nullopt;
}

TEST_CASE("an entry reads back as it was") {
  Entry entry = make_entry(std::string("\0\xff\n artifact", 12));
  entry.blobs.add("sass", std::string(100000, 'x'));
  const std::string file = encode_entry(kKeyText, entry);
  CHECK(std::get<Entry>(decode_entry_of(kKeyText, file)) == entry);
  const auto decoded = std::get<DecodedEntry>(decode_entry(file));
  CHECK(decoded.key_text == kKeyText);
  CHECK(decoded.entry == entry);
  CHECK(encode_entry(kKeyText, entry) == file);
}

TEST_CASE("an empty entry reads back") {
  CHECK(std::get<Entry>(decode_entry_of("", encode_entry("", Entry{}))) == Entry{});
}

TEST_CASE("an entry cut at any byte is rejected, and so is one with more") {
  const std::string file = encode_entry(kKeyText, make_entry());
  for (std::size_t size = 0; size < file.size(); ++size) {
    CAPTURE(size);
    const auto reason = rejection(decode_entry_of(kKeyText, file.substr(0, size)));
    CHECK(reason == (size < kHeaderBytes ? RejectReason::kTruncated : RejectReason::kBadSizes));
  }
  CHECK(rejection(decode_entry_of(kKeyText, file + '\0')) == RejectReason::kBadSizes);
}

TEST_CASE("an entry with any bit of any byte flipped is rejected") {
  const std::string file = encode_entry(kKeyText, make_entry());
  for (std::size_t at = 0; at < file.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      CAPTURE(at, bit);
      REQUIRE(rejection(decode_entry_of(kKeyText, damaged)));
    }
  }
}

TEST_CASE("each damage has its name") {
  const std::string file = encode_entry(kKeyText, make_entry());
  const auto with = [&](std::size_t at, char byte) {
    std::string damaged = file;
    damaged[at] = byte;
    return rejection(decode_entry_of(kKeyText, damaged));
  };
  CHECK(with(0, 'x') == RejectReason::kBadMagic);
  CHECK(with(8, 1) == RejectReason::kWrongVersion);
  CHECK(with(12, 1) == RejectReason::kBadChecksum);
  CHECK(with(16, 0) == RejectReason::kBadSizes);
  CHECK(with(31, '\xff') == RejectReason::kBadSizes);  // a size near 2^64
  CHECK(with(48, '\x55') == RejectReason::kBadChecksum);
  CHECK(with(64, 'x') == RejectReason::kBadStamp);
  CHECK(with(71, 'x') == RejectReason::kBadStamp);
  CHECK(with(72, 'x') == RejectReason::kBadChecksum);
  CHECK(with(file.size() - 1, 'x') == RejectReason::kBadChecksum);
  CHECK(rejection(decode_entry_of("another key", file)) == RejectReason::kOtherKey);
}

TEST_CASE("a manifest that is no object is refused before it is written") {
  Entry entry = make_entry();
  entry.manifest = nlohmann::json::array();
  CHECK_THROWS_AS(encode_entry(kKeyText, entry), InternalError);
}

TEST_CASE("a manifest with bytes that are not UTF-8 is stored with replacements") {
  Entry entry = make_entry();
  entry.manifest["log"] = "caf\xe9";
  const auto decoded = std::get<Entry>(decode_entry_of(kKeyText, encode_entry(kKeyText, entry)));
  CHECK(decoded.manifest["log"] == "caf\xef\xbf\xbd");
}

}  // namespace
}  // namespace ktjit::cache::test
