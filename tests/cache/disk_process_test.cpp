// Several processes and one cache folder.
#include <catch2/catch.hpp>
#include <functional>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/disk_cache.h"
#include "tests/cache/cache_fixture.h"

namespace ktjit::cache::test {
namespace {

// Runs `work` in a child process once a byte can be read from `gate`; its result is the exit
// status.
pid_t start(int gate, const std::function<bool()>& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child > 0) return child;
  char byte = 0;
  const bool open = ::read(gate, &byte, 1) == 1;
  ::_exit(open && work() ? 0 : 1);
}

bool succeeded(pid_t child) {
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_CASE("two processes that store one key at once both succeed, and the entry is whole") {
  constexpr int kRounds = 50;
  const std::string large(200000, 'a');
  for (int round = 0; round < kRounds; ++round) {
    const TempDir temp;  // folders are made in the race too
    int gate[2];
    REQUIRE(::pipe(gate) == 0);
    pid_t children[2];
    for (pid_t& child : children) {
      child = start(gate[0], [&] {
        Log log;
        DiskCache cache(options_for(temp.root(), log));
        cache.store(make_key(), make_entry(large));
        return log.lines.empty() && cache.stats().stores == 1 &&
               cache.find(make_key()) == make_entry(large);
      });
    }
    REQUIRE(::write(gate[1], "go", 2) == 2);
    CAPTURE(round);
    CHECK(succeeded(children[0]));
    CHECK(succeeded(children[1]));
    ::close(gate[0]);
    ::close(gate[1]);
    Log log;
    CHECK(DiskCache(options_for(temp.root(), log)).find(make_key()) == make_entry(large));
    const auto shard = shard_path(temp.root(), make_key());
    CHECK(std::distance(std::filesystem::directory_iterator(shard), {}) == 1);
  }
}

TEST_CASE("a reader beside a writer always sees a whole entry") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry(std::string(1000, 'x')));
  int gate[2];
  REQUIRE(::pipe(gate) == 0);
  const pid_t writer = start(gate[0], [&] {
    for (std::size_t i = 0; i < 50; ++i) {
      cache.store(make_key(), make_entry(std::string(1000 + 1000 * i, 'x')));
    }
    return cache.stats().failed_stores == 0;
  });
  REQUIRE(::write(gate[1], "g", 1) == 1);
  int status = 0;
  int lookups = 0;
  while (::waitpid(writer, &status, WNOHANG) == 0) {
    REQUIRE(cache.find(make_key()));
    ++lookups;
  }
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(lookups > 0);
  ::close(gate[0]);
  ::close(gate[1]);
}

}  // namespace
}  // namespace ktjit::cache::test
