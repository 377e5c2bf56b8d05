#include "cache/kernel_cache.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "cache/maintenance.h"
#include "tests/cache/cache_fixture.h"

namespace ktjit::cache::test {
namespace {

Entry never() { throw Error("made again"); }

TEST_CASE("an entry comes from make, then from memory, then in the next process from disk") {
  const TempDir temp;
  Log log;
  KernelCache cache(options_for(temp.root(), log));
  CHECK_FALSE(cache.find(make_key()));
  CHECK(cache.get_or_make(make_key(), [] { return make_entry(); }).origin == Origin::kMade);
  CHECK(cache.get_or_make(make_key(), never).origin == Origin::kMemory);
  CHECK(cache.find(make_key())->origin == Origin::kMemory);

  KernelCache next(options_for(temp.root(), log));
  CHECK(next.get_or_make(make_key(), never).origin == Origin::kDisk);
  CHECK(next.get_or_make(make_key(), never).origin == Origin::kMemory);

  KernelCache asking(options_for(temp.root(), log));
  const auto found = asking.find(make_key());
  REQUIRE(found);
  CHECK(found->origin == Origin::kDisk);
  CHECK(*found->entry == make_entry());
  CHECK(asking.find(make_key())->origin == Origin::kMemory);

  const KernelCacheStats stats = cache.stats();
  CHECK(stats.made == 1);
  CHECK(stats.from_memory == 2);
  CHECK(stats.disk.misses == 1);
  CHECK(stats.disk.stores == 1);
  CHECK(next.stats().disk.hits == 1);
  CHECK(to_text(Origin::kMade) == "made");
}

TEST_CASE("a damaged entry is made again and rewritten") {
  const TempDir temp;
  Log log;
  KernelCache(options_for(temp.root(), log)).get_or_make(make_key(), [] { return make_entry(); });
  write_file(entry_path(temp.root(), make_key()), "damaged");
  KernelCache cache(options_for(temp.root(), log));
  CHECK(cache.get_or_make(make_key(), [] { return make_entry(); }).origin == Origin::kMade);
  CHECK(KernelCache(options_for(temp.root(), log)).find(make_key()));
}

TEST_CASE("a discarded entry is made again") {
  const TempDir temp;
  Log log;
  KernelCache cache(options_for(temp.root(), log));
  cache.get_or_make(make_key(), [] { return make_entry("refused by the driver"); });
  cache.discard(make_key());
  const auto result = cache.get_or_make(make_key(), [] { return make_entry("good"); });
  CHECK(result.origin == Origin::kMade);
  CHECK(*KernelCache(options_for(temp.root(), log)).find(make_key())->entry == make_entry("good"));
}

TEST_CASE("what make throws reaches the caller and nothing is stored") {
  const TempDir temp;
  Log log;
  KernelCache cache(options_for(temp.root(), log));
  CHECK_THROWS_AS(cache.get_or_make(make_key(), never), Error);
  CHECK(Maintenance({temp.root(), false}).stats().entries == 0);
  CHECK(cache.get_or_make(make_key(), [] { return make_entry(); }).origin == Origin::kMade);
}

TEST_CASE("threads share one make and one store") {
  const TempDir temp;
  Log log;
  KernelCache cache(options_for(temp.root(), log));
  std::atomic<int> makes{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 10; ++k) {
        cache.get_or_make(make_key(std::to_string((i + k) % 10)), [&] {
          ++makes;
          return make_entry();
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(makes == 10);
  CHECK(cache.stats().disk.stores == 10);
  CHECK(cache.stats().from_memory == 70);
  CHECK(log.lines.empty());
}

TEST_CASE("without a disk the memory still serves") {
  KernelCache cache(DiskCacheOptions{});
  CHECK(cache.get_or_make(make_key(), [] { return make_entry(); }).origin == Origin::kMade);
  CHECK(cache.get_or_make(make_key(), never).origin == Origin::kMemory);
}

}  // namespace
}  // namespace ktjit::cache::test
