// The disk cache when the disk fails: every file call in turn, and every kind of folder that can't
// be used. No failure may reach the caller, damage an entry, or be reported more than once.
#include <algorithm>
#include <catch2/catch.hpp>

#include "cache/atomic_file.h"
#include "cache/disk_cache.h"
#include "cache/kernel_cache.h"
#include "cache/maintenance.h"
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

TEST_CASE("whichever call of a lookup fails, it is a miss or harmless, and the entry stays") {
  const int error_number = GENERATE(EIO, EACCES, EMFILE);
  const TempDir temp;
  FaultyFileSystem files;
  Log store_log;
  DiskCache(options_for(temp.root(), store_log, files)).store(make_key(), make_entry());
  const std::string good = read_file(entry_path(temp.root(), make_key()));
  int misses = 0;
  int failures = 0;
  for (int n = 0;; ++n) {
    CAPTURE(n, error_number);
    Log log;
    DiskCache cache(options_for(temp.root(), log, files));
    files.fail_call(n, error_number);
    const auto found = cache.find(make_key());
    if (!files.has_failed()) {
      CHECK(found == make_entry());
      CHECK(log.lines.empty());
      break;
    }
    ++failures;
    misses += !found;
    CHECK((!found || found == make_entry()));
    CHECK(cache.stats().misses == (found ? 0 : 1));
    // A process that may not write the lock file opens it for reading, without a word.
    const bool is_silent = files.failed_call() == "open_for_update_at" && error_number == EACCES;
    CHECK(log.lines.size() == (is_silent ? 0 : 1));
    CHECK(read_file(entry_path(temp.root(), make_key())) == good);
  }
  CHECK(misses == 9);     // open and stat of root, v1, shard and entry; read
  CHECK(failures == 16);  // the lock that says it is in use: open and stat of root, v1, file; lock
}

TEST_CASE("a file that was replaced while it was opened is looked up again") {
  const bool from_then_on = GENERATE(false, true);
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  DiskCache(options_for(temp.root(), log, files)).store(make_key(), make_entry());
  for (int n = 0; n < 9; ++n) {
    CAPTURE(n, from_then_on);
    log.lines.clear();
    DiskCache cache(options_for(temp.root(), log, files));
    files.fail_call(n, ESTALE, from_then_on);
    const auto found = cache.find(make_key());
    files.fail_call(-1, 0);
    CHECK(found.has_value() == !from_then_on);
    CHECK(log.lines.size() == (from_then_on ? 1 : 0));
  }
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
    const std::string call = files.failed_call();
    files.fail_call(-1, 0);
    const auto found = cache.find(make_key());
    if (!failed) {
      CHECK(found == make_entry());
      break;
    }
    ++failures;
    CAPTURE(call);
    CHECK((!found || found == make_entry()));
    CHECK(cache.stats().failed_stores == (found ? 0 : 1));
    // The lock of a sweep ends without its call too.
    CHECK(log.lines.size() == (call == "unlock" ? 0 : 1));
    if (!from_then_on && fs::exists(temp.root())) CHECK_FALSE(has_temporary(temp.root()));
  }
  CHECK(failures > 30);
}

// A process on its whole way: look, lock, look, make, store, release, sweep; sweep and ledger at its
// end. Its two entries come out right, whatever fails.
void use_both_entries(const std::string& root, FaultyFileSystem& files, Log& log) {
  DiskCacheOptions options = options_for(root, log, files);
  options.max_bytes = 8000;  // so that there is something to evict
  KernelCache cache(std::move(options));
  cache.remember_cost("work", 1);
  for (const std::string text : {"stored before", "new"}) {
    const auto result = cache.get_or_make(make_key(text), [&] { return make_entry(text); });
    CHECK(*result.entry == make_entry(text));
  }
}

// How many calls the process makes before it comes to the ledger, which is the last it does.
int calls_before_ledger(const std::string& root) {
  FaultyFileSystem files;
  files.later = std::chrono::hours(3);
  Log log;
  use_both_entries(root, files, log);
  const auto& calls = files.calls;
  // The ledger opens the root twice, for the lock and to read.
  const auto last = std::find(calls.rbegin(), calls.rend(), "open_directory");
  const auto before = std::find(std::next(last), calls.rend(), "open_directory");
  REQUIRE(before != calls.rend());
  return static_cast<int>(calls.rend() - before) - 1;
}

TEST_CASE("whichever file-system call of a process fails, it gets its entries, with one warning") {
  const int error_number = GENERATE(EIO, ENOSPC, EACCES, EROFS, ENOLCK, ESTALE, EINVAL);
  const bool from_then_on = GENERATE(false, true);
  const TempDir filled;
  {
    Log log;
    DiskCache(options_for(filled.root(), log))
        .store(make_key("stored before"), make_entry("stored before"));
  }
  const auto copy_to = [&](const TempDir& temp) {
    fs::copy(filled.root(), temp.root(), fs::copy_options::recursive);
  };
  const TempDir first;
  copy_to(first);
  const int ledger_call = calls_before_ledger(first.root());
  REQUIRE(ledger_call > 60);
  for (int n = 0;; ++n) {
    const TempDir temp;
    copy_to(temp);
    FaultyFileSystem files;
    files.later = std::chrono::hours(3);  // stamps are old
    Log log;
    files.fail_call(n, error_number, from_then_on);
    use_both_entries(temp.root(), files, log);
    const std::string call = files.failed_call();
    const bool failed = files.has_failed();
    CAPTURE(n, from_then_on, error_number, call);
    CHECK(log.lines.size() <= 1);
    if (log.lines.empty() && n < ledger_call) {
      // Silent are stamps, giving a lock up, a lock file that can only be read, what others may
      // have removed or replaced; and the ledger, which comes last.
      const bool may_be_silent = call == "write_at" || call == "open_for_update_at" ||
                                 call == "read_some" || call == "unlock" || error_number == ESTALE;
      CHECK(may_be_silent);
    }
    // Nothing is half done, and no lock is left.
    CHECK(Maintenance({temp.root(), false}).verify().damaged.empty());
    if (!from_then_on) CHECK_FALSE(has_temporary(temp.root()));
    const CacheRoot root(posix_file_system(), RootOptions{temp.root(), false});
    const auto layout = root.open_layout(*root.open());
    REQUIRE(layout);
    const FileHandle lock = root.open_lock_file(*layout);
    CHECK(posix_file_system().try_lock(lock, 0, 0, LockKind::kExclusive));
    if (failed) continue;
    CHECK(log.lines.empty());
    CHECK(n > ledger_call);
    break;
  }
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
    const std::uint64_t stores = cache.stats().stores;
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
    const bool stored = cache.stats().stores > stores;
    CHECK(found == make_entry(stored ? "new" : "old"));
    if (stored) cache.store(make_key(), make_entry("old"));
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
