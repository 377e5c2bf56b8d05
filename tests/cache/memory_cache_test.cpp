#include "cache/memory_cache.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "tests/cache/cache_fixture.h"

namespace ktjit::cache::test {
namespace {

TEST_CASE("threads that ask for one key share one make") {
  constexpr int kThreads = 8;
  constexpr int kRounds = 20;
  for (int round = 0; round < kRounds; ++round) {
    MemoryCache cache;
    std::atomic<int> makes{0};
    std::atomic<int> made_here{0};
    std::atomic<int> same{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        const auto result = cache.get_or_make(make_key(), [&] {
          ++makes;
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          return make_entry();
        });
        made_here += result.made_here;
        same += *result.entry == make_entry();
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(makes == 1);
    CHECK(made_here == 1);
    CHECK(same == kThreads);
  }
}

TEST_CASE("different keys are made in parallel") {
  MemoryCache cache;
  std::atomic<int> inside{0};
  const auto meet = [&] {
    ++inside;
    while (inside < 2) std::this_thread::yield();  // hangs if one make waits for the other
    return make_entry();
  };
  std::thread other([&] { cache.get_or_make(make_key("other"), meet); });
  cache.get_or_make(make_key(), meet);
  other.join();
  CHECK(inside == 2);
}

TEST_CASE("a failed make reaches everybody who waited, and is not kept") {
  MemoryCache cache;
  std::atomic<int> makes{0};
  std::atomic<int> failures{0};
  std::atomic<bool> waiter_started{false};
  std::thread waiter;
  const auto ask = [&](const std::function<Entry()>& make) {
    try {
      cache.get_or_make(make_key(), make);
    } catch (const std::runtime_error& error) {
      failures += error.what() == std::string("refused");
    }
  };
  ask([&]() -> Entry {
    ++makes;
    waiter = std::thread([&] {
      waiter_started = true;
      ask([&]() -> Entry {
        ++makes;
        throw std::runtime_error("refused");
      });
    });
    while (!waiter_started) std::this_thread::yield();
    // Time for the other thread to reach its wait; if it is late it makes (and fails) on its own.
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    throw std::runtime_error("refused");
  });
  waiter.join();
  CHECK(failures == 2);
  CHECK(makes == 1);
  CHECK_FALSE(cache.find(make_key()));

  const auto result = cache.get_or_make(make_key(), [] { return make_entry(); });
  CHECK(result.made_here);
  CHECK(*cache.find(make_key()) == make_entry());
}

TEST_CASE("an inserted entry is found until it is discarded") {
  MemoryCache cache;
  CHECK_FALSE(cache.find(make_key()));
  cache.insert(make_key(), make_entry("one"));
  CHECK(*cache.insert(make_key(), make_entry("two")) == make_entry("two"));
  CHECK(*cache.find(make_key()) == make_entry("one"));
  cache.discard(make_key());
  CHECK_FALSE(cache.find(make_key()));
}

}  // namespace
}  // namespace ktjit::cache::test
