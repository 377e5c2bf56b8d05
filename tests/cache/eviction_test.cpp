#include "cache/eviction.h"

#include <catch2/catch.hpp>
#include <map>
#include <sys/stat.h>

#include "cache/atomic_file.h"
#include "cache/kernel_cache.h"
#include "cache/maintenance.h"
#include "tests/cache/cache_fixture.h"
#include "tests/cache/faulty_file_system.h"
#include "tests/cache/fleet.h"

namespace ktjit::cache::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::sys_seconds;

const sys_seconds kStart{std::chrono::hours(24 * 20000)};

CacheKey key_of(int i) { return make_key("kernel " + std::to_string(i)); }

std::uint64_t allocated(const fs::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return 0;
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

bool exists(const std::string& root, int i) { return fs::exists(entry_path(root, key_of(i))); }

// A root with entries 0 to 9 of different sizes, used an hour apart in that order.
struct AgedRoot {
  static constexpr int kEntries = 10;
  TempDir temp;
  std::string root = temp.root();
  FaultyFileSystem files;
  CacheRoot folder{files, RootOptions{root, false}};
  Log log;

  AgedRoot() {
    for (int i = 0; i < kEntries; ++i) {
      const std::string artifact(static_cast<std::size_t>(1000 + 9000 * (i % 3)), 'a');
      put_entry(root, key_of(i), kStart + std::chrono::hours(i), make_entry(artifact));
    }
  }
  std::uint64_t bytes(int first = 0) const {
    std::uint64_t sum = 0;
    for (int i = first; i < kEntries; ++i) sum += allocated(entry_path(root, key_of(i)));
    return sum;
  }
  int count() const {
    int entries = 0;
    for (int i = 0; i < kEntries; ++i) entries += exists(root, i);
    return entries;
  }
  DiskCacheOptions options(std::uint64_t max_bytes) {
    DiskCacheOptions result = options_for(root, log, files);
    result.max_bytes = max_bytes;
    return result;
  }
};

TEST_CASE("eviction goes by last use, to the limit and not one entry further") {
  for (int left = 0; left <= AgedRoot::kEntries; ++left) {
    AgedRoot aged;
    // The times of the files say the opposite.
    for (int i = 0; i < AgedRoot::kEntries; ++i) {
      fs::last_write_time(entry_path(aged.root, key_of(i)),
                          fs::file_time_type::clock::now() - std::chrono::hours(i));
    }
    const int gone = AgedRoot::kEntries - left;
    const std::uint64_t before = aged.bytes();
    const std::uint64_t limit = aged.bytes(gone);
    const Eviction report = evict_to(aged.folder, limit, Locking::kWorks);
    CAPTURE(left);
    CHECK(report.entries == static_cast<std::size_t>(gone));
    CHECK(report.bytes == before - limit);
    CHECK(report.left_entries == static_cast<std::size_t>(left));
    CHECK(report.left_bytes == limit);
    CHECK(report.problem.empty());
    for (int i = 0; i < AgedRoot::kEntries; ++i) CHECK(exists(aged.root, i) == (i >= gone));
    CHECK(evict_to(aged.folder, limit, Locking::kWorks).entries == 0);
  }
}

Entry make_note() {
  Entry note;
  note.manifest = {{"measured", 1.5}};
  return note;
}

TEST_CASE("notes go last, however long ago they were used") {
  AgedRoot aged;
  put_entry(aged.root, key_of(100), kStart - std::chrono::hours(2), make_note());
  put_entry(aged.root, key_of(101), kStart - std::chrono::hours(1), make_note());
  const std::uint64_t bytes_of_note = allocated(entry_path(aged.root, key_of(100)));
  CHECK(Maintenance({aged.root, false}).stats().notes == 2);

  CHECK(evict_to(aged.folder, 2 * bytes_of_note, Locking::kWorks).entries == AgedRoot::kEntries);
  CHECK(exists(aged.root, 100));
  CHECK(exists(aged.root, 101));
  CHECK(evict_to(aged.folder, bytes_of_note, Locking::kWorks).entries == 1);
  CHECK_FALSE(exists(aged.root, 100));
  CHECK(exists(aged.root, 101));
}

TEST_CASE("clear can leave the notes") {
  AgedRoot aged;
  put_entry(aged.root, key_of(100), kStart, make_note());
  Maintenance maintenance({aged.root, false});
  const ClearReport first = maintenance.clear(Maintenance::Notes::kKeep);
  CHECK(first.entries == AgedRoot::kEntries);
  CHECK(first.notes == 0);
  CHECK(exists(aged.root, 100));
  const ClearReport second = maintenance.clear();
  CHECK(second.entries == 1);
  CHECK(second.notes == 1);
  CHECK_FALSE(exists(aged.root, 100));
}

TEST_CASE("one byte less than what is there costs one entry") {
  AgedRoot aged;
  const Eviction report = evict_to(aged.folder, aged.bytes() - 1, Locking::kWorks);
  CHECK(report.entries == 1);
  CHECK_FALSE(exists(aged.root, 0));
}

TEST_CASE("entries without a good stamp go first, equal stamps by name") {
  AgedRoot aged;
  write_file(entry_path(aged.root, key_of(7)), std::string(5000, 'x'));
  CHECK(evict_to(aged.folder, aged.bytes() - 1, Locking::kWorks).entries == 1);
  CHECK_FALSE(exists(aged.root, 7));

  AgedRoot equal;
  std::map<EntryName, int> by_name;
  for (int i = 0; i < AgedRoot::kEntries; ++i) {
    put_entry(equal.root, key_of(i), kStart);
    by_name[name_of(key_of(i))] = i;
  }
  CHECK(evict_to(equal.folder, equal.bytes() - 1, Locking::kWorks).entries == 1);
  CHECK_FALSE(exists(equal.root, by_name.begin()->second));
}

TEST_CASE("an entry in use is never evicted, the next one goes instead") {
  AgedRoot aged;
  std::optional<DiskCache> user;
  user.emplace(aged.options(0));
  // Found, not renewed: the clock says that the stamp is fresh.
  aged.files.later = std::chrono::duration_cast<std::chrono::hours>(
      kStart - std::chrono::floor<std::chrono::seconds>(PosixFileSystem().now()));
  REQUIRE(user->find(key_of(0)));
  const Eviction report = evict_to(aged.folder, aged.bytes() - 1, Locking::kWorks);
  CHECK(report.entries == 1);
  CHECK(report.in_use_entries == 1);
  CHECK(exists(aged.root, 0));
  CHECK_FALSE(exists(aged.root, 1));
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).left_entries == 1);
  user.reset();
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).left_entries == 0);
}

TEST_CASE("an entry is in use until the last process that loaded it has ended, however it ends") {
  AgedRoot aged;
  const Tally tally(aged.temp.path() / "tally");
  Fleet fleet;
  const auto user = [&] {
    DiskCache cache(aged.options(0));
    if (!cache.find(key_of(3))) return false;
    tally.add('f');
    ::pause();
    return true;
  };
  fleet.add(user);
  fleet.add(user);
  fleet.start();
  tally.wait_for(2);
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).left_entries == 1);
  fleet.kill(0);
  fleet.succeeded(0);
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).left_entries == 1);
  fleet.kill(1);
  fleet.succeeded(1);
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).left_entries == 0);
}

TEST_CASE("a forked child that uses the cache keeps entries in use beyond its parent's end") {
  AgedRoot aged;
  const Tally tally(aged.temp.path() / "tally");
  std::optional<DiskCache> parent;
  parent.emplace(aged.options(0));
  REQUIRE(parent->find(key_of(3)));
  Fleet fleet;
  const auto child = fleet.add([&] {
    const bool found = parent->find(key_of(4)).has_value();
    tally.add('f');
    ::pause();
    return found;
  });
  fleet.start();
  tally.wait_for(1);
  parent.reset();
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).left_entries == 2);
  fleet.kill(child);
  fleet.succeeded(child);
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).left_entries == 0);
}

TEST_CASE("without locks what was used within ten minutes counts as in use") {
  AgedRoot aged;
  put_entry(aged.root, key_of(4), std::chrono::floor<std::chrono::seconds>(aged.files.now()));
  const Eviction report = evict_to(aged.folder, 0, Locking::kFails);
  CHECK(report.in_use_entries == 1);
  CHECK(report.left_entries == 1);
  CHECK(exists(aged.root, 4));
  aged.files.later = std::chrono::hours(1);
  CHECK(evict_to(aged.folder, 0, Locking::kFails).left_entries == 0);
}

TEST_CASE("one process sweeps at a time, the others leave it to that one") {
  AgedRoot aged;
  const auto layout = aged.folder.open_layout(*aged.folder.open());
  HeldLock sweeping = try_sweep_lock(aged.folder, *layout);
  REQUIRE(sweeping);
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).busy);
  CHECK(aged.count() == AgedRoot::kEntries);
  sweeping.release();
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).entries == AgedRoot::kEntries);
}

TEST_CASE("a sweep removes temporaries of dead writers, and nothing that is not ours") {
  AgedRoot aged;
  const fs::path shard = shard_path(aged.root, key_of(0));
  const fs::path layout = fs::path(aged.root) / kLayoutFolder;
  for (const fs::path& folder : {shard, layout}) write_file(folder / "writing-1-2-3.tmp", "half");
  const std::vector<fs::path> strangers = {layout / "stranger", shard / "stranger.ktk",
                                           fs::path(aged.root) / "stranger"};
  for (const fs::path& path : strangers) write_file(path, "mine");
  fs::create_directory(layout / "zz");
  CHECK(evict_to(aged.folder, kNoSizeLimit, Locking::kWorks).temporaries == 0);
  aged.files.later = std::chrono::hours(2);
  CHECK(evict_to(aged.folder, 0, Locking::kWorks).temporaries == 2);
  for (const fs::path& path : strangers) CHECK(read_file(path) == "mine");
  CHECK(fs::exists(layout / "zz"));
}

TEST_CASE("whichever call of a sweep fails, it throws or goes on, and removes no more than asked") {
  const int error_number = GENERATE(EIO, ENOENT, EBUSY);
  int failures = 0;
  for (int n = 0;; ++n) {
    CAPTURE(n, error_number);
    AgedRoot aged;
    evict_to(aged.folder, kNoSizeLimit, Locking::kWorks);  // makes the lock file
    const std::uint64_t limit = aged.bytes(4);
    aged.files.fail_call(n, error_number);
    bool thrown = false;
    Eviction report;
    try {
      report = evict_to(aged.folder, limit, Locking::kWorks);
    } catch (const FileError&) {
      thrown = true;
    }
    const bool failed = aged.files.has_failed();
    aged.files.fail_call(-1, 0);
    if (!failed) {
      CHECK(aged.bytes() == limit);
      break;
    }
    ++failures;
    // Newer entries go only in place of older ones that could not be removed or were not seen.
    CHECK(aged.count() >= AgedRoot::kEntries - 5);
    if (thrown) CHECK(aged.count() == AgedRoot::kEntries);
    if (!thrown && error_number == EIO && aged.count() != AgedRoot::kEntries - 4) {
      CHECK_FALSE(report.problem.empty());
    }
    // No lock is left behind: the next sweep does the rest.
    CHECK_FALSE(evict_to(aged.folder, limit, Locking::kWorks).busy);
    CHECK(aged.bytes() <= limit);
  }
  CHECK(failures > 50);
}

TEST_CASE("entries that vanish during a sweep count as gone") {
  // Another sweeper on a file system without locks.
  class Racing : public PosixFileSystem {
   public:
    bool remove_file_at(const FileHandle& dir, const std::string& name) override {
      PosixFileSystem::remove_file_at(dir, name);
      return PosixFileSystem::remove_file_at(dir, name);
    }
  };
  AgedRoot aged;
  Racing files;
  const Eviction report =
      evict_to(CacheRoot(files, RootOptions{aged.root, false}), aged.bytes(4), Locking::kFails);
  CHECK(report.entries == 0);
  CHECK(report.left_entries == 6);
  CHECK(aged.count() == 6);
}

TEST_CASE("a process sweeps at its first store, and is within the limit at its end") {
  AgedRoot aged;
  const std::uint64_t limit = aged.bytes(7);
  {
    DiskCache cache(aged.options(limit));
    CHECK(cache.find(key_of(5)));  // in use and recent
    CHECK(aged.count() == AgedRoot::kEntries);
    cache.store(make_key("new"), make_entry());
    CHECK(aged.count() < 4);
    CHECK(exists(aged.root, 5));
    CHECK(cache.stats().evicted_entries == static_cast<std::uint64_t>(10 - aged.count()));
  }
  CHECK(Maintenance({aged.root, false}).stats().allocated_bytes <= limit);
  CHECK(aged.log.lines.empty());
}

TEST_CASE("a process that stores past the limit sweeps when it may have passed it") {
  const TempDir temp;
  Log log;
  DiskCacheOptions options = options_for(temp.root(), log);
  options.max_bytes = 100000;
  {
    DiskCache cache(std::move(options));
    for (int i = 0; i < 60; ++i) cache.store(key_of(i), make_entry(std::string(5000, 'x')));
    CHECK(cache.stats().stores == 60);
    // All of them are in use by this process.
    CHECK(Maintenance({temp.root(), false}).stats().entries == 60);
  }
  const RootStats left = Maintenance({temp.root(), false}).stats();
  CHECK(left.allocated_bytes <= 100000);
  CHECK(left.allocated_bytes > 100000 - 8192 - 1);
  CHECK(log.lines.empty());
}

TEST_CASE("no limit, no eviction") {
  AgedRoot aged;
  DiskCacheOptions options = aged.options(0);
  if (GENERATE(false, true)) options.max_bytes.reset();
  {
    DiskCache(std::move(options)).store(make_key("new"), make_entry());
  }
  CHECK(aged.count() == AgedRoot::kEntries);
}

// Whoever ends last: entries that were in use when another process swept are removed then.
TEST_CASE("the root is within its limit when the last of many processes has ended") {
  constexpr std::size_t kProcesses = 12;
  const std::uint64_t limit = 40000;
  const TempDir temp;
  Log log;
  const auto options = [&] {
    DiskCacheOptions result = options_for(temp.root(), log);
    result.max_bytes = limit;
    return result;
  };
  for (int round = 0; round < 5; ++round) {
    const Tally tally(temp.path() / ("tally" + std::to_string(round)));
    Fleet fleet;
    for (std::size_t i = 0; i < kProcesses; ++i) {
      fleet.add([&, i] {
        KernelCache cache(options());
        for (int k = 0; k < 6; ++k) {
          const int which = round * 100 + (static_cast<int>(i % 3) * 4 + k) % 12;
          const std::string artifact(5000, 'x');
          cache.get_or_make(key_of(which), [&] { return make_entry(artifact); });
        }
        tally.add('d');
        tally.wait_for(kProcesses);  // all of them end at once
        return true;
      });
    }
    fleet.start();
    CHECK(fleet.count_succeeded() == kProcesses);
    CAPTURE(round);
    CHECK(Maintenance({temp.root(), false}).stats().allocated_bytes <= limit);
  }
}

TEST_CASE("a process that only loaded sweeps at its end what another had to leave") {
  AgedRoot aged;
  std::optional<DiskCache> reader;
  const std::uint64_t limit = 1;
  reader.emplace(aged.options(limit));
  REQUIRE(reader->find(key_of(2)));
  DiskCache(aged.options(limit)).store(make_key("new"), make_entry());
  CHECK(aged.count() == 1);
  CHECK(exists(aged.root, 2));
  reader.reset();
  CHECK(aged.count() == 0);
  CHECK(aged.log.lines.empty());
}

}  // namespace
}  // namespace ktjit::cache::test
