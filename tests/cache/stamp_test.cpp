#include "cache/stamp.h"

#include <catch2/catch.hpp>
#include <cstdint>

#include "tests/cache/cache_fixture.h"
#include "tests/cache/faulty_file_system.h"

namespace ktjit::cache::test {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using std::chrono::sys_seconds;

sys_seconds at(std::int64_t count) { return sys_seconds(seconds(count)); }

TEST_CASE("a stamp reads back, and times that don't fit are cut") {
  constexpr std::int64_t kLatest = (std::int64_t{1} << 40) - 1;
  for (const std::int64_t count : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1795334400},
                                   std::int64_t{1} << 39, kLatest}) {
    const std::string bytes = encode_stamp(at(count));
    CHECK(bytes.size() == kStampBytes);
    CHECK(decode_stamp(bytes) == at(count));
  }
  CHECK(decode_stamp(encode_stamp(at(-5))) == at(0));
  CHECK(decode_stamp(encode_stamp(at(kLatest + 1))) == at(kLatest));
}

TEST_CASE("a stamp with any byte changed to any other value is none") {
  for (const std::int64_t count : {std::int64_t{0}, std::int64_t{1795334400}}) {
    const std::string good = encode_stamp(at(count));
    for (std::size_t i = 0; i < kStampBytes; ++i) {
      for (int change = 1; change < 256; ++change) {
        std::string damaged = good;
        damaged[i] = static_cast<char>(damaged[i] ^ change);
        CAPTURE(count, i, change);
        REQUIRE_FALSE(decode_stamp(damaged));
      }
    }
  }
  CHECK_FALSE(decode_stamp(std::string(kStampBytes, '\0')));
  CHECK_FALSE(decode_stamp(std::string(kStampBytes, '\xff')));
}

// The stamp in the entry's file.
sys_seconds stored_stamp(const std::string& root) {
  const auto stamp = stamp_of(read_file(entry_path(root, make_key())));
  REQUIRE(stamp);
  return *stamp;
}

TEST_CASE("a store sets the stamp, and a hit renews it when it is over an hour old") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  const auto now = [&] { return std::chrono::floor<seconds>(files.now()); };
  const auto before = now();
  DiskCache(options_for(temp.root(), log, files)).store(make_key(), make_entry());
  const sys_seconds stored = stored_stamp(temp.root());
  CHECK(stored >= before);
  CHECK(stored <= now());

  const auto find = [&] {
    CHECK(DiskCache(options_for(temp.root(), log, files)).find(make_key()) == make_entry());
  };
  find();
  CHECK(stored_stamp(temp.root()) == stored);  // fresh enough: nothing is written
  files.later = hours(2);
  find();
  const sys_seconds renewed = stored_stamp(temp.root());
  CHECK(renewed >= stored + hours(2));
  files.later = hours(0);  // the stamp is from the future now: a clock was wrong
  find();
  CHECK(stored_stamp(temp.root()) <= now());
  files.later = hours(30 * 24);
  DiskCache by_request(options_for(temp.root(), log, files));
  CHECK(by_request.find_by_request(make_key().request).size() == 1);
  CHECK(stored_stamp(temp.root()) >= stored + hours(30 * 24));
  CHECK(log.lines.empty());
}

TEST_CASE("stamps in read-only roots stay as they are") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache(options_for(temp.root(), log, files)).store(make_key(), make_entry());
  const std::string before = read_file(entry_path(temp.root(), make_key()));
  files.later = hours(5);
  DiskCacheOptions options;
  options.read_only = {RootOptions{temp.root(), false}};
  options.files = &files;
  CHECK(DiskCache(std::move(options)).find(make_key()));
  CHECK(read_file(entry_path(temp.root(), make_key())) == before);
}

TEST_CASE("a stamp that can't be renewed costs nothing and says nothing") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache(options_for(temp.root(), log, files)).store(make_key(), make_entry());
  files.later = hours(5);
  files.fail_calls_named("write_at", EROFS);
  DiskCache cache(options_for(temp.root(), log, files));
  CHECK(cache.find(make_key()) == make_entry());
  CHECK(cache.find(make_key()) == make_entry());
  CHECK(log.lines.empty());
}

TEST_CASE("a damaged stamp is a miss with its own reason, after a second look") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache cache(options_for(temp.root(), log, files));
  cache.store(make_key(), make_entry());
  const auto path = entry_path(temp.root(), make_key());
  const std::string good = read_file(path);
  std::string damaged = good;
  damaged[kStampAt] = static_cast<char>(damaged[kStampAt] ^ 1);
  write_file(path, damaged);
  files.calls.clear();
  CHECK_FALSE(cache.find(make_key()));
  CHECK(cache.stats().rejected_for(RejectReason::kBadStamp) == 1);
  CHECK(std::count(files.calls.begin(), files.calls.end(), "read_some") == 2);
  CHECK(log.lines.size() == 1);
}

// Another version's file may have taken the name since it was read: none of its bytes is touched.
TEST_CASE("a stamp is written into files of this format only") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache(options_for(temp.root(), log, files)).store(make_key(), make_entry());
  const CacheRoot root(files, RootOptions{temp.root(), false});
  const auto shard = root.open_shard(*root.open_layout(*root.open()), name_of(make_key()).shard());
  REQUIRE(shard);
  const auto path = entry_path(temp.root(), make_key());
  std::string other = read_file(path);
  other[8] = 1;
  for (const std::string& content : {other, std::string("short"), std::string()}) {
    write_file(path, content);
    root.write_stamp(*shard, name_of(make_key()).file_name(), at(1));
    CHECK(read_file(path) == content);
  }
}

}  // namespace
}  // namespace ktjit::cache::test
