// One make for each key, however many processes ask.
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <random>
#include <thread>

#include "cache/interrupted.h"
#include "cache/kernel_cache.h"
#include "cache/maintenance.h"
#include "tests/cache/cache_fixture.h"
#include "tests/cache/faulty_file_system.h"
#include "tests/cache/fleet.h"

namespace ktjit::cache::test {
namespace {

namespace fs = std::filesystem;

constexpr int kKeys = 8;

CacheKey key_of(int i) { return make_key("kernel " + std::to_string(i)); }

Entry entry_of(int i) {
  return make_entry("artefact " + std::to_string(i) + std::string(3000, 'x'));
}

Entry never() { throw Error("made again"); }

// Asks for all keys, beginning anywhere; true if each answer is right.
bool ask_for_all(const std::string& root, const Tally& tally, int first) {
  Log log;
  KernelCache cache(options_for(root, log));
  bool right = true;
  for (int k = 0; k < kKeys; ++k) {
    const int i = (first + k) % kKeys;
    const auto result = cache.get_or_make(key_of(i), [&] {
      tally.add(static_cast<char>('a' + i));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      return entry_of(i);
    });
    right = right && *result.entry == entry_of(i);
  }
  return right && log.lines.empty();
}

// Every entry that is there is whole, and the next process gets all from disk.
void check_all_whole(const std::string& root) {
  CHECK(Maintenance({root, false}).verify().damaged.empty());
  Log log;
  KernelCache cache(options_for(root, log));
  for (int i = 0; i < kKeys; ++i) {
    CHECK(*cache.get_or_make(key_of(i), never).entry == entry_of(i));
  }
}

TEST_CASE("64 processes on an empty root make each of 8 keys once in total") {
  constexpr std::size_t kProcesses = 64;
  const TempDir temp;
  const Tally tally(temp.path() / "tally");
  Fleet fleet;
  for (std::size_t p = 0; p < kProcesses; ++p) {
    fleet.add([&, p] { return ask_for_all(temp.root(), tally, static_cast<int>(p) % kKeys); });
  }
  fleet.start();
  CHECK(fleet.count_succeeded() == kProcesses);
  for (int i = 0; i < kKeys; ++i) CHECK(tally.count(static_cast<char>('a' + i)) == 1);
  check_all_whole(temp.root());
}

TEST_CASE("one of many processes killed at any moment costs at most one more make of a key") {
  constexpr std::size_t kProcesses = 12;
  constexpr int kTries = 8;
  std::mt19937 random(20261123);
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const TempDir temp;
    const Tally tally(temp.path() / "tally");
    Fleet fleet;
    for (std::size_t p = 0; p < kProcesses; ++p) {
      fleet.add([&, p] { return ask_for_all(temp.root(), tally, static_cast<int>(p) % kKeys); });
    }
    fleet.start();
    // A moment between the first make and some way through.
    const std::size_t victim = random() % kProcesses;
    tally.wait_for(1 + random() % 4);
    ::usleep(static_cast<useconds_t>(random() % 3000));
    fleet.kill(victim);
    fleet.succeeded(victim);
    CAPTURE(attempt, victim, tally.events());
    CHECK(fleet.count_succeeded() == kProcesses - 1);
    for (int i = 0; i < kKeys; ++i) {
      const std::size_t makes = tally.count(static_cast<char>('a' + i));
      CHECK(makes >= 1);
      CHECK(makes <= 2);
    }
    CHECK(tally.events().size() <= kKeys + 1);
    check_all_whole(temp.root());
  }
}

TEST_CASE("a waiter takes the entry that another process made") {
  const TempDir temp;
  const Tally tally(temp.path() / "tally");
  Fleet fleet;
  fleet.add([&] {
    Log log;
    KernelCache cache(options_for(temp.root(), log));
    const auto make = [&] {
      tally.add('m');
      tally.wait_for(2);
      return entry_of(0);
    };
    return cache.get_or_make(key_of(0), make).origin == Origin::kMade;
  });
  fleet.add([&] {
    Log log;
    KernelCache cache(options_for(temp.root(), log));
    tally.wait_for(1);
    std::thread letting_go([&] {
      while (cache.stats().disk.waits == 0) std::this_thread::yield();
      tally.add('w');
    });
    const auto result = cache.get_or_make(key_of(0), never);
    letting_go.join();
    return result.origin == Origin::kDisk && *result.entry == entry_of(0) &&
           cache.stats().disk.waits == 1 && cache.stats().disk.hits == 1 &&
           cache.stats().disk.misses == 0;
  });
  fleet.start();
  CHECK(fleet.count_succeeded() == 2);
}

// A process with the make lock of key 0, until it is killed; `then` runs instead if given.
std::size_t add_holder(Fleet& fleet, const TempDir& temp, const Tally& tally, bool fail = false) {
  return fleet.add([&temp, &tally, fail] {
    Log log;
    KernelCache cache(options_for(temp.root(), log));
    try {
      cache.get_or_make(key_of(0), [&]() -> Entry {
        tally.add('h');
        if (!fail) ::pause();
        tally.wait_for(2);
        throw Error("refused");
      });
    } catch (const Error&) {
      return true;
    }
    return false;
  });
}

TEST_CASE("when the holder dies, the next waiter makes") {
  const TempDir temp;
  const Tally tally(temp.path() / "tally");
  Fleet fleet;
  const auto holder = add_holder(fleet, temp, tally);
  fleet.start();
  tally.wait_for(1);
  Log log;
  KernelCache cache(options_for(temp.root(), log));
  std::thread killer([&] {
    while (cache.stats().disk.waits == 0) std::this_thread::yield();
    fleet.kill(holder);
  });
  CHECK(cache.get_or_make(key_of(0), [] { return entry_of(0); }).origin == Origin::kMade);
  killer.join();
  CHECK(log.lines.empty());
  CHECK(Maintenance({temp.root(), false}).verify().checked == 1);
}

TEST_CASE("when the holder's make fails, the next waiter makes") {
  const TempDir temp;
  const Tally tally(temp.path() / "tally");
  Fleet fleet;
  add_holder(fleet, temp, tally, /*fail=*/true);
  fleet.start();
  tally.wait_for(1);
  Log log;
  KernelCache cache(options_for(temp.root(), log));
  std::thread letting_go([&] {
    while (cache.stats().disk.waits == 0) std::this_thread::yield();
    tally.add('w');
  });
  CHECK(cache.get_or_make(key_of(0), [] { return entry_of(0); }).origin == Origin::kMade);
  letting_go.join();
  CHECK(fleet.count_succeeded() == 1);
  CHECK(log.lines.empty());
}

TEST_CASE("past the time limit a waiter makes as well, with one warning") {
  const TempDir temp;
  const Tally tally(temp.path() / "tally");
  Fleet fleet;
  add_holder(fleet, temp, tally);
  fleet.start();
  tally.wait_for(1);
  Log log;
  DiskCacheOptions options = options_for(temp.root(), log);
  options.lock_time_limit = std::chrono::milliseconds(30);
  KernelCache cache(std::move(options));
  CHECK(cache.get_or_make(key_of(0), [] { return entry_of(0); }).origin == Origin::kMade);
  cache.discard(key_of(0));
  CHECK(cache.get_or_make(key_of(0), [] { return entry_of(0); }).origin == Origin::kMade);
  REQUIRE(log.lines.size() == 1);
  CHECK_THAT(log.lines[0], Catch::Contains("for 30 ms"));
}

TEST_CASE("a waiter that is stopped leaves, waiting for a process or for a thread") {
  const TempDir temp;
  const Tally tally(temp.path() / "tally");
  Fleet fleet;
  add_holder(fleet, temp, tally);
  fleet.start();
  tally.wait_for(1);
  Log log;
  KernelCache cache(options_for(temp.root(), log));
  std::stop_source stop_first;
  std::stop_source stop_second;
  std::atomic<int> interrupted{0};
  const auto ask = [&](const std::stop_source& stop) {
    try {
      cache.get_or_make(key_of(0), never, stop.get_token());
    } catch (const Interrupted&) {
      ++interrupted;
    }
  };
  std::thread first([&] { ask(stop_first); });  // waits for the process
  while (cache.stats().disk.waits == 0) std::this_thread::yield();
  std::thread second([&] { ask(stop_second); });  // waits for the first thread
  stop_second.request_stop();
  second.join();
  CHECK(interrupted == 1);
  stop_first.request_stop();
  first.join();
  CHECK(interrupted == 2);
  CHECK(log.lines.empty());
}

TEST_CASE("stopping who makes does not stop who waits: that one makes") {
  const TempDir temp;
  Log log;
  KernelCache cache(options_for(temp.root(), log));
  std::atomic<bool> inside{false};
  std::stop_source stop;
  std::thread maker([&] {
    CHECK_THROWS_AS(cache.get_or_make(
                        key_of(0),
                        [&]() -> Entry {
                          inside = true;
                          while (!stop.stop_requested()) std::this_thread::yield();
                          throw Interrupted();
                        },
                        stop.get_token()),
                    Interrupted);
  });
  while (!inside) std::this_thread::yield();
  std::thread waiter([&] {
    const std::stop_source never_stopped;
    const auto result =
        cache.get_or_make(key_of(0), [] { return entry_of(0); }, never_stopped.get_token());
    CHECK(*result.entry == entry_of(0));
  });
  stop.request_stop();
  maker.join();
  waiter.join();
}

TEST_CASE("instances of one process make each key once") {
  const TempDir temp;
  std::atomic<int> makes{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      Log log;
      KernelCache cache(options_for(temp.root(), log));
      for (int i = 0; i < kKeys; ++i) {
        cache.get_or_make(key_of(i), [&] {
          ++makes;
          return entry_of(i);
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(makes == kKeys);
}

TEST_CASE("where locks fail there is one warning, and every process makes") {
  const int error_number = GENERATE(ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL, EIO);
  const TempDir temp;
  FaultyFileSystem files;
  files.fail_calls_named("try_lock", error_number);
  Log log;
  {
    KernelCache cache(options_for(temp.root(), log, files));
    for (int i = 0; i < kKeys; ++i) {
      CHECK(cache.get_or_make(key_of(i), [&] { return entry_of(i); }).origin == Origin::kMade);
    }
    KernelCache other(options_for(temp.root(), log, files));
    CHECK(other.get_or_make(key_of(0), never).origin == Origin::kDisk);
  }
  CHECK(log.lines.size() == 2);  // one of each instance
  CHECK(Maintenance({temp.root(), false}).stats().entries == kKeys);
}

TEST_CASE("a child forked while a thread makes an entry makes its own") {
  const TempDir temp;
  Log log;
  std::atomic<bool> inside{false};
  std::atomic<bool> go_on{false};
  KernelCache cache(options_for(temp.root(), log));
  std::thread maker([&] {
    cache.get_or_make(key_of(0), [&] {
      inside = true;
      while (!go_on) std::this_thread::yield();
      return entry_of(0);
    });
  });
  while (!inside) std::this_thread::yield();
  Fleet fleet;
  fleet.add([&] {
    // The parent's lock is still the parent's: this child waits for it like any process.
    const auto result = cache.get_or_make(key_of(0), never);
    return result.origin == Origin::kDisk && *result.entry == entry_of(0);
  });
  fleet.start();
  go_on = true;
  maker.join();
  CHECK(fleet.count_succeeded() == 1);
}

TEST_CASE("an entry cut anywhere, or with any byte flipped, is made again and healed") {
  const TempDir temp;
  Log log;
  const CacheKey key = make_key("k");
  const Entry entry = make_entry("artefact");
  {
    KernelCache(options_for(temp.root(), log)).get_or_make(key, [&] { return entry; });
  }
  const fs::path path = entry_path(temp.root(), key);
  const std::string good = read_file(path);
  const auto check_healed = [&](const std::string& damaged) {
    write_file(path, damaged);
    bool made = false;
    DiskCacheOptions options = options_for(temp.root(), log);
    options.max_bytes = 0;  // without scans
    KernelCache cache(std::move(options));
    const auto result = cache.get_or_make(key, [&] {
      made = true;
      return entry;
    });
    REQUIRE(made);
    REQUIRE(*result.entry == entry);
    REQUIRE(cache.disk().find(key) == entry);
  };
  for (std::size_t size = 0; size < good.size(); ++size) {
    CAPTURE(size);
    check_healed(good.substr(0, size));
  }
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    CAPTURE(at);
    check_healed(damaged);
  }
}

}  // namespace
}  // namespace ktjit::cache::test
