// The disk cache when the disk fails: every file call in turn, and every kind of folder that can't
// be used. No failure may reach the caller, damage an entry, or be reported more than once.
#include <catch2/catch.hpp>

#include "cache/atomic_file.h"
#include "cache/disk_cache.h"
#include "tests/cache/cache_fixture.h"
#include "tests/cache/faulty_file_system.h"

namespace ktjit::cache::test {
namespace {

namespace fs = std::filesystem;

bool has_temporary(const std::string& root) {
  for (const auto& item : fs::recursive_directory_iterator(root)) {
    if (is_temporary_name(item.path().filename().string())) return true;
  }
  return false;
}

TEST_CASE("whichever call of a lookup fails, it is a miss and the entry stays") {
  const int error_number = GENERATE(EIO, EACCES, EMFILE, ESTALE);
  const TempDir temp;
  FaultyFileSystem files;
  Log store_log;
  DiskCache(options_for(temp.root(), store_log, files)).store(make_key(), make_entry());
  const std::string good = read_file(entry_path(temp.root(), make_key()));
  int failures = 0;
  for (int n = 0;; ++n) {
    CAPTURE(n, error_number);
    Log log;
    DiskCache cache(options_for(temp.root(), log, files));
    files.fail_call(n, error_number);
    const auto found = cache.find(make_key());
    if (!files.has_failed()) {
      CHECK(found == make_entry());
      break;
    }
    ++failures;
    CHECK_FALSE(found);
    CHECK(cache.stats().misses == 1);
    CHECK(log.lines.size() == 1);
    CHECK(read_file(entry_path(temp.root(), make_key())) == good);
  }
  CHECK(failures == 9);  // open and stat of root, v1, shard and entry; read
}

TEST_CASE("a failed read of an entry has its own reason") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache cache(options_for(temp.root(), log, files));
  cache.store(make_key(), make_entry());
  files.fail_calls_named("read_some", EIO);
  CHECK_FALSE(cache.find(make_key()));
  CHECK_FALSE(cache.find(make_key()));
  CHECK(cache.stats().rejected_for(RejectReason::kReadFailed) == 2);
  CHECK(log.lines.size() == 1);
  files.fail_calls_named("", 0);
  CHECK(cache.find(make_key()) == make_entry());
}

TEST_CASE("whichever call of a first store fails, no damaged entry is served") {
  const bool from_then_on = GENERATE(false, true);
  int failures = 0;
  for (int n = 0;; ++n) {
    CAPTURE(n, from_then_on);
    const TempDir temp;
    FaultyFileSystem files;
    files.most_bytes = 100;  // several writes
    Log log;
    DiskCache cache(options_for(temp.root(), log, files));
    files.fail_call(n, ENOSPC, from_then_on);
    cache.store(make_key(), make_entry());
    const bool failed = files.has_failed();
    files.fail_call(-1, 0);
    const auto found = cache.find(make_key());
    if (!failed) {
      CHECK(found == make_entry());
      break;
    }
    ++failures;
    CHECK_FALSE(found);
    CHECK(cache.stats().failed_stores == 1);
    CHECK(log.lines.size() == 1);
    if (!from_then_on && fs::exists(temp.root())) CHECK_FALSE(has_temporary(temp.root()));
  }
  CHECK(failures > 15);
}

TEST_CASE("whichever call of a store fails, the previous entry survives it") {
  const TempDir temp;
  FaultyFileSystem files;
  files.most_bytes = 100;
  Log log;
  DiskCache cache(options_for(temp.root(), log, files));
  cache.store(make_key(), make_entry("old"));
  int failures = 0;
  for (int n = 0;; ++n) {
    CAPTURE(n);
    files.fail_call(n, EIO);
    cache.store(make_key(), make_entry("new"));
    const bool failed = files.has_failed();
    files.fail_call(-1, 0);
    const auto found = cache.find(make_key());
    if (!failed) {
      CHECK(found == make_entry("new"));
      break;
    }
    ++failures;
    CHECK(found == make_entry("old"));
    CHECK_FALSE(has_temporary(temp.root()));
  }
  CHECK(failures > 10);
  CHECK(log.lines.size() == 1);
}

TEST_CASE("whichever call of a lookup by request fails, nothing is thrown") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache cache(options_for(temp.root(), log, files));
  cache.store(make_key(), make_entry());
  for (int n = 0;; ++n) {
    CAPTURE(n);
    files.fail_call(n, EIO);
    const auto found = cache.find_by_request(make_key().request);
    if (!files.has_failed()) {
      CHECK(found.size() == 1);
      break;
    }
    CHECK(found.empty());
  }
}

TEST_CASE("short reads are continued") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache cache(options_for(temp.root(), log, files));
  cache.store(make_key(), make_entry());
  files.most_bytes = 1;
  CHECK(cache.find(make_key()) == make_entry());
}

TEST_CASE("a full or read-only disk costs one warning with a cure, and the run goes on") {
  const auto [call, error_number, cure] = GENERATE(table<std::string, int, std::string>({
      {"create_file_at", EROFS, "choose a cache folder that you can write to"},
      {"create_file_at", EACCES, "choose a cache folder that you can write to"},
      {"make_directory", EROFS, "choose a cache folder that you can write to"},
      {"make_directory_at", EACCES, "choose a cache folder that you can write to"},
      {"open_directory", EACCES, "choose a cache folder that you can write to"},
      {"write_some", ENOSPC, "free some space there"},
      {"sync", ENOSPC, "free some space there"},
      {"write_some", EDQUOT, "free some space there"},
      {"rename_at", EIO, "check the folder"},
  }));
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache cache(options_for(temp.root(), log, files));
  files.fail_calls_named(call, error_number);
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(cache.find(make_key()));
    cache.store(make_key(), make_entry());
  }
  REQUIRE(log.lines.size() == 1);
  CHECK_THAT(log.lines[0], Catch::Contains(temp.root()) && Catch::Contains(cure));
  CHECK(cache.stats().failed_stores == 3);
  CHECK(cache.stats().misses == 3);
}

TEST_CASE("a file in place of the cache folder costs one warning") {
  const TempDir temp;
  write_file(temp.root(), "not a folder");
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  for (int i = 0; i < 2; ++i) {
    CHECK_FALSE(cache.find(make_key()));
    cache.store(make_key(), make_entry());
  }
  REQUIRE(log.lines.size() == 1);
  CHECK(read_file(temp.root()) == "not a folder");
}

TEST_CASE("a file in place of a parent of the cache folder costs one warning") {
  const TempDir temp;
  write_file(temp.path() / "file", "not a folder");
  Log log;
  DiskCache cache(options_for((temp.path() / "file" / "cache").string(), log));
  cache.store(make_key(), make_entry());
  CHECK_FALSE(cache.find(make_key()));
  CHECK(log.lines.size() == 1);
}

TEST_CASE("an empty path costs one warning") {
  Log log;
  DiskCache cache(options_for("", log));
  cache.store(make_key(), make_entry());
  CHECK_FALSE(cache.find(make_key()));
  CHECK(log.lines.size() == 1);
}

}  // namespace
}  // namespace ktjit::cache::test
