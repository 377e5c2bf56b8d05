#include "cache/ledger.h"

#include <catch2/catch.hpp>
#include <limits>

#include "cache/kernel_cache.h"
#include "tests/cache/cache_fixture.h"
#include "tests/cache/faulty_file_system.h"
#include "tests/cache/fleet.h"

namespace ktjit::cache::test {
namespace {

namespace fs = std::filesystem;

LedgerContent ledger_of(const std::string& root) {
  return read_ledger(CacheRoot(posix_file_system(), RootOptions{root, false}));
}

fs::path ledger_path(const std::string& root) {
  return fs::path(root) / kLayoutFolder / kLedgerFile;
}

Entry never() { throw Error("made again"); }

TEST_CASE("a ledger reads back, and what is none is empty") {
  LedgerContent content;
  content.statistics.hits = 7;
  content.statistics.evicted_bytes = std::uint64_t{1} << 40;
  content.statistics.rejected[static_cast<std::size_t>(RejectReason::kBadStamp)] = 3;
  content.costs["nvrtc matvec"] = {12.5, std::chrono::sys_seconds(std::chrono::seconds(1000))};
  const std::string text = encode_ledger(content);
  CHECK(decode_ledger(text) == content);
  for (std::size_t size = 0; size + 2 < text.size(); ++size) {
    CAPTURE(size);
    REQUIRE(decode_ledger(text.substr(0, size)) == LedgerContent{});
  }
  for (const char* other :
       {"[]", "{}", "null", R"({"version":2,"statistics":{"rejected":{}},"costs":{}})",
        R"({"version":1,"statistics":{"rejected":[]},"costs":{}})",
        R"({"version":1,"statistics":{"hits":"x","rejected":{}},"costs":{}})",
        R"({"version":1,"statistics":{"rejected":{}},"costs":{"a":1}})"}) {
    CAPTURE(other);
    CHECK(decode_ledger(other) == LedgerContent{});
  }
}

TEST_CASE("the ledger sums up what processes did") {
  const TempDir temp;
  Log log;
  {
    KernelCache cache(options_for(temp.root(), log));
    cache.get_or_make(make_key(), [] { return make_entry(); });
    CHECK_FALSE(fs::exists(ledger_path(temp.root())));  // once, at the end
  }
  KernelCache(options_for(temp.root(), log)).get_or_make(make_key(), never);
  write_file(entry_path(temp.root(), make_key()), "damaged");
  KernelCache(options_for(temp.root(), log)).get_or_make(make_key(), [] { return make_entry(); });
  const DiskCacheStats sum = ledger_of(temp.root()).statistics;
  CHECK(sum.hits == 1);
  CHECK(sum.misses == 2);
  CHECK(sum.makes == 2);
  CHECK(sum.stores == 2);
  CHECK(sum.rejected_for(RejectReason::kTruncated) == 1);
  const std::string before = read_file(ledger_path(temp.root()));
  {
    KernelCache idle(options_for(temp.root(), log));
  }
  CHECK(read_file(ledger_path(temp.root())) == before);
}

TEST_CASE("costs are remembered by later processes, later runs counting more") {
  const TempDir temp;
  Log log;
  {
    KernelCache cache(options_for(temp.root(), log));
    CHECK_FALSE(cache.remembered_cost_ms("matvec"));
    cache.remember_cost("matvec", 100);
    CHECK(cache.remembered_cost_ms("matvec") == 100.0);
    cache.remember_cost("matvec", std::numeric_limits<double>::quiet_NaN());
    cache.get_or_make(make_key(), [] { return make_entry(); });  // so that there is a folder
  }
  KernelCache cache(options_for(temp.root(), log));
  CHECK(cache.remembered_cost_ms("matvec") == 100.0);
  cache.remember_cost("matvec", 200);
  CHECK(*cache.remembered_cost_ms("matvec") == Approx(125));
  for (int i = 0; i < 30; ++i) cache.remember_cost("matvec", 200);
  CHECK(*cache.remembered_cost_ms("matvec") == Approx(200).epsilon(0.01));
  CHECK_FALSE(cache.remembered_cost_ms("matmul"));
}

TEST_CASE("without a disk costs are remembered for the process") {
  KernelCache cache(DiskCacheOptions{});
  cache.remember_cost(std::string(1000, 'n'), 3);
  CHECK(cache.remembered_cost_ms(std::string(1000, 'n')) == 3.0);
}

TEST_CASE("a damaged ledger is empty, and healed by the next process") {
  const TempDir temp;
  Log log;
  KernelCache(options_for(temp.root(), log)).get_or_make(make_key(), [] { return make_entry(); });
  for (const std::string& content :
       {std::string(), std::string("{\"version\":1"), std::string(5 << 20, ' ')}) {
    write_file(ledger_path(temp.root()), content);
    {
      KernelCache cache(options_for(temp.root(), log));
      CHECK_FALSE(cache.remembered_cost_ms("matvec"));
      cache.remember_cost("matvec", 5);
      CHECK(cache.find(make_key()));
    }
    CHECK(ledger_of(temp.root()).statistics.hits == 1);
    CHECK(ledger_of(temp.root()).costs.at("matvec").ms == 5);
  }
  CHECK(log.lines.empty());
}

TEST_CASE("the ledger keeps the costs that were seen last") {
  const TempDir temp;
  FaultyFileSystem files;
  Log log;
  const auto remember = [&](int first, int last) {
    KernelCache cache(options_for(temp.root(), log, files));
    cache.get_or_make(make_key(), [] { return make_entry(); });
    for (int i = first; i < last; ++i) cache.remember_cost("work " + std::to_string(i), i + 1);
  };
  const int most = static_cast<int>(Ledger::kMostCosts);
  remember(0, most);
  files.later = std::chrono::hours(1);
  remember(most, most + 10);
  const LedgerContent content = ledger_of(temp.root());
  CHECK(content.costs.size() == Ledger::kMostCosts);
  for (int i = most; i < most + 10; ++i) CHECK(content.costs.contains("work " + std::to_string(i)));
}

TEST_CASE("a link or another user's file in place of ledger or lock is not followed") {
  const TempDir temp;
  Log log;
  KernelCache(options_for(temp.root(), log)).get_or_make(make_key(), [] { return make_entry(); });
  const fs::path target = temp.path() / "target";
  write_file(target, "mine");
  const std::string name = GENERATE(std::string(kLedgerFile), std::string(kLockFile));
  const fs::path path = fs::path(temp.root()) / kLayoutFolder / name;
  fs::remove(path);
  fs::create_symlink(target, path);
  {
    KernelCache cache(options_for(temp.root(), log));
    CHECK(cache.get_or_make(make_key(), never).origin == Origin::kDisk);
    const auto made = cache.get_or_make(make_key("other"), [] { return make_entry(); });
    CHECK(made.origin == Origin::kMade);
  }
  CHECK(read_file(target) == "mine");
  CHECK(log.lines.size() == (name == kLockFile ? 1 : 0));
  fs::remove(path);
  write_file(path, "");
  fs::permissions(path, fs::perms::all);
  log.lines.clear();
  KernelCache(options_for(temp.root(), log)).get_or_make(make_key("third"), [] {
    return make_entry();
  });
  CHECK(log.lines.size() == (name == kLockFile ? 1 : 0));
}

TEST_CASE("processes that end at once are all counted") {
  constexpr std::size_t kProcesses = 16;
  const TempDir temp;
  Log log;
  KernelCache(options_for(temp.root(), log)).get_or_make(make_key(), [] { return make_entry(); });
  Fleet fleet;
  for (std::size_t i = 0; i < kProcesses; ++i) {
    fleet.add([&] {
      KernelCache cache(options_for(temp.root(), log));
      cache.remember_cost("work", 4);
      return cache.find(make_key()).has_value();
    });
  }
  fleet.start();
  CHECK(fleet.count_succeeded() == kProcesses);
  CHECK(ledger_of(temp.root()).statistics.hits == kProcesses);
  CHECK(ledger_of(temp.root()).costs.at("work").ms == Approx(4));
}

TEST_CASE("a forked child counts what it did itself, once") {
  const TempDir temp;
  Log log;
  std::optional<KernelCache> cache;  // a child destroys its copy, as an interpreter's end does
  cache.emplace(options_for(temp.root(), log));
  cache->get_or_make(make_key(), [] { return make_entry(); });
  Fleet fleet;
  fleet.add([&] {
    const bool missed = !cache->disk().find(make_key("never"));
    cache.reset();
    return missed;
  });
  fleet.add([&] {
    cache.reset();  // not used since the fork: nothing to add
    return true;
  });
  fleet.start();
  CHECK(fleet.count_succeeded() == 2);
  cache.reset();
  const DiskCacheStats sum = ledger_of(temp.root()).statistics;
  CHECK(sum.makes == 1);
  CHECK(sum.stores == 1);
  CHECK(sum.misses == 2);
}

}  // namespace
}  // namespace ktjit::cache::test
