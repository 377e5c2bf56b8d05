// Which entry comes nearest to a key, and what is said of the two.
#include "cache/nearest_entry.h"

#include <array>
#include <catch2/catch.hpp>

#include "cache/disk_cache.h"
#include "cache/pack_writer.h"
#include "tests/cache/cache_fixture.h"

namespace ktjit::cache {
namespace {

using Catch::Matchers::Contains;
using namespace test;
using Match = NearestEntry::Match;

constexpr std::array<std::string_view, 2> kFirst = {"entry", "target"};

CacheKey make_kernel_key(std::string_view entry, std::string_view target, std::string_view text,
                         std::string_view identity = "nvrtc 12.4") {
  CacheKey key;
  key.request.add("target", target).add("entry", entry).add("text", text);
  key.compiler.add("flags", "-ftz=false").add("identity", identity);
  return key;
}

struct Shelf {
  TempDir dir;
  Log log;
  std::string pack = (dir.path() / "a.ktpack").string();

  void store(const CacheKey& key) {
    DiskCache(options_for(dir.root(), log)).store(key, make_entry());
  }
  NearestEntry nearest(const CacheKey& key, std::vector<RootOptions> roots = {}) {
    if (roots.empty()) roots.push_back({dir.root()});
    return find_nearest(roots, std::vector{key}, kFirst).at(0);
  }
};

}  // namespace

TEST_CASE("an empty or absent cache has nothing near") {
  Shelf shelf;
  CHECK(shelf.nearest(make_key()).match == Match::kNothing);
}

TEST_CASE("the entry of the key itself differs in nothing") {
  Shelf shelf;
  const CacheKey key = make_kernel_key("dequant", "sm_86", "text");
  shelf.store(key);
  shelf.store(make_kernel_key("dequant", "sm_75", "text"));
  const NearestEntry found = shelf.nearest(key);
  CHECK(found.match == Match::kExact);
  CHECK(found.root == shelf.dir.root());
  CHECK(found.name == name_of(key));
  CHECK(found.request.empty());
  CHECK(found.compiler.empty());
}

TEST_CASE("another compiler's entry of the same request is nearer than any other") {
  Shelf shelf;
  const CacheKey key = make_kernel_key("dequant", "sm_86", "text", "nvrtc 13.0");
  shelf.store(make_kernel_key("dequant", "sm_86", "text", "nvrtc 12.9"));
  shelf.store(make_kernel_key("dequant", "sm_86", "other", "nvrtc 13.0"));
  const NearestEntry found = shelf.nearest(key);
  CHECK(found.match == Match::kRequest);
  CHECK(found.request.empty());
  REQUIRE(found.compiler.size() == 1);
  CHECK(found.compiler[0].name == "identity");
  CHECK(found.compiler[0].left == "nvrtc 13.0");
  CHECK(found.compiler[0].right == "nvrtc 12.9");
}

TEST_CASE(
    "of other requests, those of the kernel, then of the target, then of a like name, come first") {
  Shelf shelf;
  const CacheKey key = make_kernel_key("dequant_q4", "sm_86", "text");
  const auto nearest_entry = [&] { return *shelf.nearest(key).key.request.find("entry"); };
  shelf.store(make_kernel_key("matvec_q4", "sm_75", "text"));
  CHECK(nearest_entry() == "matvec_q4");
  shelf.store(make_kernel_key("dequant_q8", "sm_75", "x"));
  CHECK(nearest_entry() == "dequant_q8");
  shelf.store(make_kernel_key("matmul", "sm_86", "x"));
  CHECK(nearest_entry() == "matmul");
  shelf.store(make_kernel_key("dequant_q4", "sm_61", "y", "another"));
  CHECK(nearest_entry() == "dequant_q4");
  const NearestEntry found = shelf.nearest(key);
  CHECK(found.match == Match::kOther);
  CHECK(found.request.size() == 2);
  CHECK(found.compiler.size() == 1);
}

TEST_CASE("a damaged entry of the key is named, and is no match") {
  Shelf shelf;
  const CacheKey key = make_kernel_key("dequant", "sm_86", "text");
  shelf.store(key);
  write_file(entry_path(shelf.dir.root(), key), "damaged");
  const NearestEntry found = shelf.nearest(key);
  CHECK(found.match == Match::kNothing);
  REQUIRE(found.damaged);
  CHECK_THAT(*found.damaged, Contains("shorter than a header"));
}

TEST_CASE("of another compiler's entries a pack's is named, since it serves") {
  Shelf shelf;
  const CacheKey key = make_kernel_key("dequant", "sm_86", "text", "nvrtc 13.0");
  shelf.store(make_kernel_key("dequant", "sm_86", "text", "nvrtc 12.9"));
  write_pack(shelf.pack, nlohmann::json::object(),
             {{make_kernel_key("dequant", "sm_86", "text", "nvrtc 11.8"), make_entry()}});
  const NearestEntry found = shelf.nearest(key, {{shelf.dir.root()}, {shelf.pack}});
  CHECK(found.match == Match::kRequest);
  CHECK(found.in_pack);
  CHECK(found.root == shelf.pack);
  write_file(shelf.pack, "damaged");
  CHECK_THROWS_AS(shelf.nearest(key, {{shelf.pack}}), InputError);
}

TEST_CASE("two texts part at the first line that differs") {
  const TextDifference middle = first_difference("a\nb\nc\n", "a\nB\nc\n");
  CHECK(middle.line == 2);
  CHECK(middle.left == "b");
  CHECK(middle.right == "B");
  const TextDifference end = first_difference("a\nb", "a\n");
  CHECK(end.line == 2);
  CHECK(end.left == "b");
  CHECK(end.right.empty());
  CHECK(first_difference("same start", "same end").line == 1);
  CHECK(first_difference("", "x").right == "x");
  CHECK(first_difference("a\nlong line", "a\nlong lane").right == "long lane");
}

}  // namespace ktjit::cache
