#include "cache/disk_cache.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <sys/stat.h>

#include "tests/cache/cache_fixture.h"

namespace ktjit::cache::test {
namespace {

namespace fs = std::filesystem;

std::uint32_t mode_of(const fs::path& path) {
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777u;
}

TEST_CASE("a stored entry is found, also by another instance") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  CHECK_FALSE(cache.find(make_key()));
  cache.store(make_key(), make_entry());
  CHECK(cache.find(make_key()) == make_entry());
  CHECK(DiskCache(options_for(temp.root(), log)).find(make_key()) == make_entry());
  CHECK_FALSE(cache.find(make_key("another text")));
  const DiskCacheStats stats = cache.stats();
  CHECK(stats.hits == 1);
  CHECK(stats.misses == 2);
  CHECK(stats.stores == 1);
  CHECK(stats.failed_stores == 0);
  CHECK(log.lines.empty());
}

TEST_CASE("missing parents of a root are made, and all folders are the user's alone") {
  const TempDir temp;
  Log log;
  const std::string root = (temp.path() / "a" / "b" / "cache").string();
  DiskCache cache(options_for(root + "/", log));
  cache.store(make_key(), make_entry());
  CHECK(cache.find(make_key()));
  CHECK(log.lines.empty());
  CHECK(mode_of(temp.path() / "a") == 0700);
  CHECK(mode_of(root) == 0700);
  CHECK(mode_of(shard_path(root, make_key())) == 0700);
  CHECK(mode_of(entry_path(root, make_key())) == 0600);
}

TEST_CASE("a store replaces the entry") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry("old"));
  cache.store(make_key(), make_entry("new"));
  CHECK(cache.find(make_key()) == make_entry("new"));
}

TEST_CASE("a corrupt cache entry is a miss, stays, and is rewritten by the next store") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry());
  const fs::path path = entry_path(temp.root(), make_key());
  const std::string good = read_file(path);

  std::string damaged = good;
  damaged.back() ^= 1;
  for (const std::string& content : {damaged, std::string(), good.substr(0, 100), good + "x"}) {
    write_file(path, content);
    CHECK_FALSE(cache.find(make_key()));
    CHECK(read_file(path) == content);
  }
  CHECK(cache.stats().rejected_for(RejectReason::kBadChecksum) == 1);
  CHECK(cache.stats().rejected_for(RejectReason::kTruncated) == 1);
  CHECK(cache.stats().rejected_for(RejectReason::kBadSizes) == 2);
  CHECK(log.lines.size() == 3);  // one for each reason
  cache.store(make_key(), make_entry());
  CHECK(read_file(path) == good);
  CHECK(cache.find(make_key()) == make_entry());
}

TEST_CASE("an entry under another key's name is a miss") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  const CacheKey left = make_key("left");
  const CacheKey right = make_key("right");
  cache.store(left, make_entry("left"));
  cache.store(right, make_entry("right"));
  const fs::path aside = temp.path() / "aside";
  fs::rename(entry_path(temp.root(), left), aside);
  fs::rename(entry_path(temp.root(), right), entry_path(temp.root(), left));
  fs::rename(aside, entry_path(temp.root(), right));
  CHECK_FALSE(cache.find(left));
  CHECK_FALSE(cache.find(right));
  CHECK(cache.stats().rejected_for(RejectReason::kOtherKey) == 2);
}

TEST_CASE("a request finds what every compiler made of it") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  CacheKey other = make_key();
  other.compiler.add("driver", "550");
  cache.store(make_key(), make_entry("one"));
  cache.store(other, make_entry("two"));
  cache.store(make_key("another request"), make_entry("three"));
  write_file(shard_path(temp.root(), make_key()) / "stranger", "x");

  auto found = cache.find_by_request(make_key().request);
  REQUIRE(found.size() == 2);
  if (found[0].key == other) std::swap(found[0], found[1]);
  CHECK(found[0].key == make_key());
  CHECK(found[0].entry == make_entry("one"));
  CHECK(found[1].key == other);
  CHECK(found[1].entry == make_entry("two"));
  CHECK(cache.find_by_request(make_key("never stored").request).empty());

  fs::rename(entry_path(temp.root(), other), entry_path(temp.root(), make_key()));
  CHECK(cache.find_by_request(make_key().request).empty());  // a file under another's name
}

TEST_CASE("read-only roots are searched after the writable one, and nothing is stored there") {
  const TempDir site;
  const TempDir own;
  Log log;
  DiskCache(options_for(site.root(), log)).store(make_key(), make_entry("site"));
  DiskCacheOptions options = options_for(own.root(), log);
  options.read_only = {RootOptions{(site.path() / "absent").string(), false},
                       RootOptions{site.root(), false}};
  DiskCache cache(std::move(options));
  CHECK(cache.find(make_key()) == make_entry("site"));
  CHECK(cache.find_by_request(make_key().request).size() == 1);
  REQUIRE(log.lines.size() == 1);  // the absent one, once
  CHECK_THAT(log.lines[0], Catch::Contains("absent': no such folder"));

  cache.store(make_key(), make_entry("own"));
  CHECK(cache.find(make_key()) == make_entry("own"));
  write_file(entry_path(own.root(), make_key()), "damaged");
  CHECK(cache.find(make_key()) == make_entry("site"));
  cache.discard(make_key());
  CHECK_FALSE(fs::exists(entry_path(own.root(), make_key())));
  CHECK(cache.find(make_key()) == make_entry("site"));
}

TEST_CASE("a cache without roots does nothing and says nothing") {
  Log log;
  DiskCacheOptions options;
  options.log = log.hook();
  DiskCache cache(std::move(options));
  cache.store(make_key(), make_entry());
  cache.discard(make_key());
  CHECK_FALSE(cache.find(make_key()));
  CHECK(log.lines.empty());
}

TEST_CASE("a moved cache still hits") {
  const TempDir temp;
  Log log;
  DiskCache(options_for(temp.root(), log)).store(make_key(), make_entry());
  const std::string moved = (temp.path() / "moved").string();
  fs::rename(temp.root(), moved);
  CHECK(DiskCache(options_for(moved, log)).find(make_key()) == make_entry());
}

TEST_CASE("a cache folder removed while in use is made again") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry());
  fs::remove_all(temp.root());
  CHECK_FALSE(cache.find(make_key()));
  cache.store(make_key(), make_entry());
  CHECK(cache.find(make_key()) == make_entry());
  CHECK(log.lines.empty());
}

// Not part of a plain run; "[.speed]" names it.
TEST_CASE("time of a lookup of a 30 KB entry", "[.speed]") {
  using Clock = std::chrono::steady_clock;
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  const CacheKey key = make_key(std::string(10000, 'k'));
  cache.store(key, make_entry(std::string(20000, 'a')));
  std::vector<double> times_us;
  for (int i = 0; i < 2000; ++i) {
    const auto start = Clock::now();
    REQUIRE(cache.find(key));
    const std::chrono::duration<double, std::micro> elapsed = Clock::now() - start;
    times_us.push_back(elapsed.count());
  }
  std::sort(times_us.begin(), times_us.end());
  WARN("median " << times_us[1000] << " us, 99th percentile " << times_us[1980] << " us");
  CHECK(times_us[1000] < 100);
}

}  // namespace
}  // namespace ktjit::cache::test
