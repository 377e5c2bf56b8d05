// Packs: what is written is read back, whatever else is refused by name or is a miss, and lookups
// go by request too.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/disk_cache.h"
#include "cache/pack_file.h"
#include "cache/pack_writer.h"
#include "tests/cache/cache_fixture.h"
#include "tests/cache/faulty_file_system.h"

namespace ktjit::cache {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;
using namespace test;

const nlohmann::json kManifest = {{"model", "tiny"}, {"targets", {"sm_75", "sm_86"}}};

CacheKey key_of_compiler(std::string_view text, std::string_view identity) {
  CacheKey key = make_key(text);
  KeyFields compiler;
  compiler.add("prelude", "").add("flag", "-ftz=false").add("identity", identity);
  key.compiler = compiler;
  return key;
}

/// A folder with a pack of three entries.
struct PackBench {
  TempDir dir;
  Log log;
  std::string path = (dir.path() / "kernels.ktpack").string();
  std::vector<EntryToPack> entries = {{make_key("a"), make_entry("of a")},
                                      {make_key("b"), make_entry("of b")},
                                      {make_key("c"), make_entry("of c")}};

  PackReport write() { return write_pack(path, kManifest, entries); }
  PackFile open(bool shared = false) { return {posix_file_system(), {path, shared}}; }
  DiskCache make_cache(FileSystem& files = posix_file_system()) {
    DiskCacheOptions options;
    options.read_only.push_back({path});
    options.log = log.hook();
    options.files = &files;
    return DiskCache(std::move(options));
  }
};

/// The message of what opening throws, "" if it throws nothing. Any error but InputError fails.
std::string open_error(PackBench& bench) {
  try {
    bench.open();
    return "";
  } catch (const InputError& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("a pack gives back what was packed") {
  PackBench bench;
  const PackReport report = bench.write();
  CHECK(report.entries == 3);
  CHECK(report.size_bytes == fs::file_size(bench.path));
  const PackFile pack = bench.open();
  CHECK(pack.manifest() == kManifest);
  CHECK(pack.size_bytes() == report.size_bytes);
  REQUIRE(pack.items().size() == 3);
  CHECK(std::is_sorted(pack.items().begin(), pack.items().end(),
                       [](const PackItem& a, const PackItem& b) { return a.name < b.name; }));
  for (const EntryToPack& packed : bench.entries) {
    const PackItem* item = pack.find(name_of(packed.key));
    REQUIRE(item != nullptr);
    const EntryFile file = pack.read(*item);
    CHECK(file.bytes == encode_entry(packed.key.hashed().text, packed.entry));
  }
  CHECK(pack.find(name_of(make_key("d"))) == nullptr);
}

TEST_CASE("a note is found by its whole key alone, and counts as neither hit nor miss") {
  PackBench bench;
  bench.write();
  DiskCache cache = bench.make_cache();
  CHECK(cache.find_note(make_key("a")) == make_entry("of a"));
  CHECK_FALSE(cache.find_note(key_of_compiler("a", "another")).has_value());
  CHECK_FALSE(cache.find_note(make_key("d")).has_value());
  CHECK(cache.stats() == DiskCacheStats{});
  CHECK(
      cache.find(key_of_compiler("a", "another")).has_value());  // as a kernel, whoever compiled it
}

TEST_CASE("a pack without entries is one") {
  PackBench bench;
  bench.entries.clear();
  CHECK(bench.write().entries == 0);
  CHECK(bench.open().items().empty());
  CHECK_FALSE(bench.make_cache().find(make_key("a")));
  CHECK(bench.log.lines.empty());
}

TEST_CASE(
    "the order of entries and the day don't change a pack's bytes; an entry given twice counts "
    "once") {
  PackBench bench;
  bench.write();
  const std::string first = read_file(bench.path);
  std::reverse(bench.entries.begin(), bench.entries.end());
  bench.entries.push_back(bench.entries.front());
  CHECK(bench.write().entries == 3);
  CHECK(read_file(bench.path) == first);
}

TEST_CASE("a pack's entries are found by the disk cache, wherever the pack lies") {
  PackBench bench;
  bench.write();
  for (const EntryToPack& packed : bench.entries) {
    CHECK(bench.make_cache().find(packed.key) == packed.entry);
  }
  const fs::path moved = bench.dir.path() / "elsewhere" / "renamed.bin";
  fs::create_directory(moved.parent_path());
  fs::rename(bench.path, moved);
  bench.path = moved.string();
  DiskCache cache = bench.make_cache();
  CHECK(cache.find(make_key("a")) == make_entry("of a"));
  CHECK_FALSE(cache.find(make_key("d")));
  CHECK(cache.stats().hits == 1);
  CHECK(cache.stats().misses == 1);
  CHECK(bench.log.lines.empty());
}

TEST_CASE("a pack is followed through a link, as a root is") {
  PackBench bench;
  bench.write();
  const fs::path link = bench.dir.path() / "current.ktpack";
  fs::create_symlink("kernels.ktpack", link);
  bench.path = link.string();
  CHECK(bench.make_cache().find(make_key("a")));
}

TEST_CASE("a pack serves a request that another compiler was asked for, a folder does not") {
  PackBench bench;
  const CacheKey packed = key_of_compiler("a", "nvrtc 13.0");
  const CacheKey asked = key_of_compiler("a", "nvrtc 12.9");
  bench.entries = {{packed, make_entry("by 13.0")}};
  bench.write();
  CHECK(bench.make_cache().find(asked) == make_entry("by 13.0"));
  CHECK_FALSE(bench.make_cache().find(key_of_compiler("b", "nvrtc 13.0")));
  CHECK(bench.make_cache().find_by_request(asked.request).size() == 1);

  DiskCache folder(options_for(bench.dir.root(), bench.log));
  folder.store(packed, make_entry("by 13.0"));
  CHECK_FALSE(folder.find(asked));
}

TEST_CASE("the exact entry goes before another compiler's, and folders before packs") {
  PackBench bench;
  const CacheKey a = key_of_compiler("a", "nvrtc 12.9");
  const CacheKey b = key_of_compiler("a", "nvrtc 13.0");
  bench.entries = {{a, make_entry("by 12.9")}, {b, make_entry("by 13.0")}};
  bench.write();
  CHECK(bench.make_cache().find(a) == make_entry("by 12.9"));
  CHECK(bench.make_cache().find(b) == make_entry("by 13.0"));
  CHECK(bench.make_cache().find_by_request(a.request).size() == 2);

  DiskCacheOptions options = options_for(bench.dir.root(), bench.log);
  options.read_only.push_back({bench.path});
  DiskCache cache(options);
  cache.store(a, make_entry("in the folder"));
  CHECK(cache.find(a) == make_entry("in the folder"));
  CHECK(cache.find_by_request(a.request).size() == 3);
}

TEST_CASE("a pack's entry that was of no use is not found again by that cache") {
  PackBench bench;
  bench.write();
  DiskCache cache = bench.make_cache();
  REQUIRE(cache.find(make_key("a")));
  cache.discard(make_key("a"));
  CHECK_FALSE(cache.find(make_key("a")));
  CHECK(cache.find_by_request(make_key("a").request).empty());
  CHECK(cache.find(make_key("b")));
  CHECK(bench.make_cache().find(make_key("a")));
}

TEST_CASE("a pack cut at any length is refused by name, and never used") {
  PackBench bench;
  bench.write();
  const std::string whole = read_file(bench.path);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    INFO("cut to " << length << " bytes");
    write_file(bench.path, whole.substr(0, length));
    const std::string error = open_error(bench);
    REQUIRE_THAT(error, Contains(bench.path));
    REQUIRE_THAT(error, Contains(length == 0 ? "not a pack" : "cut"));
    Log log;
    std::swap(log, bench.log);
    DiskCache cache = bench.make_cache();
    REQUIRE_FALSE(cache.find(make_key("a")));
    REQUIRE_FALSE(cache.find(make_key("b")));
    REQUIRE(bench.log.lines.size() == 1);
    REQUIRE_THAT(bench.log.lines.front(), Contains("not used") && Contains(bench.path));
  }
  write_file(bench.path, whole + "x");
  CHECK_THAT(open_error(bench), Contains("cut or damaged"));
}

TEST_CASE("a pack with any byte flipped never gives a wrong entry, and says so") {
  PackBench bench;
  bench.write();
  const std::string whole = read_file(bench.path);
  const std::size_t entries_at = bench.open().items().front().offset;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    INFO("flipped byte " << at);
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x41);
    write_file(bench.path, bytes);
    // Header and index are checked when the pack is opened, entries when they are read.
    const std::string error = open_error(bench);
    if (at < entries_at) {
      REQUIRE_THAT(error, Contains(bench.path));
    } else {
      REQUIRE(error.empty());
    }
    bench.log.lines.clear();
    DiskCache cache = bench.make_cache();
    int hits = 0;
    for (const EntryToPack& packed : bench.entries) {
      const auto found = cache.find(packed.key);
      if (!found) continue;
      REQUIRE(*found == packed.entry);
      ++hits;
    }
    REQUIRE(hits == (at < entries_at ? 0 : 2));
    REQUIRE(bench.log.lines.size() == 1);
  }
}

TEST_CASE("a damaged entry in a pack is a miss with one warning, the other entries serve") {
  PackBench bench;
  const CacheKey other = key_of_compiler("a", "nvrtc 13.0");
  bench.entries = {{make_key("a"), make_entry("of a")}, {other, make_entry("by another")}};
  bench.write();
  const PackItem item = *bench.open().find(name_of(make_key("a")));
  std::string bytes = read_file(bench.path);
  bytes[item.offset + item.size_bytes - 1] ^= 1;
  write_file(bench.path, bytes);
  DiskCache cache = bench.make_cache();
  // The same request, made by another compiler, takes its place.
  CHECK(cache.find(make_key("a")) == make_entry("by another"));
  CHECK(cache.find(make_key("a")) == make_entry("by another"));
  CHECK(cache.stats().rejected_for(RejectReason::kBadChecksum) == 2);
  REQUIRE(bench.log.lines.size() == 1);
  CHECK_THAT(bench.log.lines.front(), Contains("bad checksum") && Contains(bench.path));
}

TEST_CASE("what is no pack is refused by name") {
  PackBench bench;
  CHECK_THAT(open_error(bench), Contains("no such pack"));
  write_file(bench.path, "GGUF and so on, a model that somebody gave for a pack of kernels ...");
  CHECK_THAT(open_error(bench), Contains("not a pack of kernels"));
  write_file(bench.path, "");
  CHECK_THAT(open_error(bench), Contains("not a pack of kernels"));
  fs::remove(bench.path);
  fs::create_directory(bench.path);
  CHECK_THAT(open_error(bench), Contains("not a regular file"));
  fs::remove(bench.path);
  REQUIRE(::mkfifo(bench.path.c_str(), 0600) == 0);  // opening it must not wait for a writer
  CHECK_THAT(open_error(bench), Contains("not a regular file"));
  CHECK_FALSE(bench.make_cache().find(make_key("a")));
  CHECK(bench.log.lines.size() == 1);
}

TEST_CASE("a pack of another version says so") {
  PackBench bench;
  bench.write();
  std::string bytes = read_file(bench.path);
  bytes[8] = 2;
  write_file(bench.path, bytes);
  CHECK_THAT(open_error(bench), Contains("format version 2") && Contains("reads version 1"));
}

TEST_CASE("a pack that others can write is not trusted, unless it is declared shared") {
  PackBench bench;
  bench.write();
  ::chmod(bench.path.c_str(), 0664);
  CHECK_THAT(open_error(bench), Contains("by its group") && Contains("chmod g-w"));
  CHECK_NOTHROW(bench.open(/*shared=*/true));
  CHECK_FALSE(bench.make_cache().find(make_key("a")));
  CHECK(bench.log.lines.size() == 1);
  ::chmod(bench.path.c_str(), 0666);
  CHECK_THAT(open_error(bench), Contains("by every user"));
  CHECK_THROWS_AS(bench.open(/*shared=*/true), InputError);
}

TEST_CASE("a pack of another user is not trusted") {
  if (::geteuid() != 0) return;  // only root can give files away
  PackBench bench;
  bench.write();
  REQUIRE(::chown(bench.path.c_str(), 12345, 12345) == 0);
  CHECK_THAT(open_error(bench), Contains("belongs to user 12345"));
  CHECK_NOTHROW(bench.open(/*shared=*/true));
}

TEST_CASE("an open pack goes on serving when its name goes, or is taken by another") {
  PackBench bench;
  bench.write();
  DiskCache cache = bench.make_cache();
  bench.entries = {{make_key("z"), make_entry("of z")}};
  bench.write();
  CHECK(cache.find(make_key("a")) == make_entry("of a"));
  fs::remove(bench.path);
  CHECK(cache.find(make_key("b")) == make_entry("of b"));
}

TEST_CASE("a pack that is cut while it is open is a miss with a warning") {
  PackBench bench;
  bench.write();
  DiskCache cache = bench.make_cache();
  fs::resize_file(bench.path, 100);
  CHECK_FALSE(cache.find(make_key("a")));
  CHECK(bench.log.lines.size() == 1);
}

TEST_CASE("any failing call while a pack is read is a miss with a warning, or does no harm") {
  PackBench bench;
  bench.write();
  bool failed = true;
  int n = 0;
  for (; failed; ++n) {
    INFO("call " << n);
    REQUIRE(n < 100);
    FaultyFileSystem files;
    files.most_bytes = 50;  // many reads
    bench.log.lines.clear();
    files.fail_call(n, EIO);
    DiskCache cache = bench.make_cache(files);
    const auto found = cache.find(make_key("a"));
    failed = files.has_failed();
    REQUIRE(found.has_value() == !failed);
    REQUIRE(bench.log.lines.size() == (failed ? 1u : 0u));
  }
  CHECK(n > 10);
}

TEST_CASE("a pack is written whole or not at all, whichever call fails") {
  PackBench bench;
  bench.write();
  const std::string before = read_file(bench.path);
  bench.entries.push_back({make_key("more"), make_entry("of more")});
  int n = 0;
  for (;; ++n) {
    INFO("call " << n);
    REQUIRE(n < 1000);
    FaultyFileSystem files;
    files.most_bytes = 100;
    files.fail_call(n, ENOSPC);
    try {
      write_pack(bench.path, kManifest, bench.entries, files);
    } catch (const PackWriteError& error) {
      CHECK_THAT(error.what(), Contains(bench.path) && Contains("No space left"));
    }
    if (!files.has_failed()) break;
    REQUIRE(read_file(bench.path) == before);
    REQUIRE(std::distance(fs::directory_iterator(bench.dir.path()), {}) == 1);
  }
  CHECK(n > 10);
  CHECK(bench.open().items().size() == 4);
}

TEST_CASE("a pack replaces packs, damaged ones too, and no other file") {
  PackBench bench;
  bench.write();
  std::string bytes = read_file(bench.path);
  bytes.resize(20);
  write_file(bench.path, bytes);
  CHECK_NOTHROW(check_pack_target(bench.path));
  bench.write();
  CHECK(bench.open().items().size() == 3);

  write_file(bench.path, "my notes");
  CHECK_THROWS_AS(check_pack_target(bench.path), SpecError);
  CHECK_THROWS_WITH(bench.write(), Contains("is no pack of kernels"));
  CHECK(read_file(bench.path) == "my notes");
  write_file(bench.path, "");
  CHECK_THROWS_AS(bench.write(), SpecError);
  fs::remove(bench.path);
  fs::create_directory(bench.path);
  CHECK_THROWS_WITH(bench.write(), Contains("is not a regular file"));
  bench.path = (bench.dir.path() / "absent" / "x.ktpack").string();
  CHECK_THROWS_AS(check_pack_target(bench.path), PackWriteError);
  bench.path = (bench.dir.path() / "").string();
  CHECK_THROWS_AS(check_pack_target(bench.path), SpecError);
}

}  // namespace ktjit::cache
