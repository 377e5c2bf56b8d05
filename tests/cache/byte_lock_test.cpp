#include "cache/byte_lock.h"

#include <catch2/catch.hpp>

#include "tests/cache/cache_fixture.h"
#include "tests/cache/fleet.h"

namespace ktjit::cache::test {
namespace {

// A lock file, and handles of it.
struct LockFolder {
  TempDir temp;
  FileHandle directory = std::move(*posix_file_system().open_directory(temp.path().string()));

  LockFolder() { write_file(temp.path() / "lock", ""); }
  LockHandle open() const {
    return {posix_file_system(),
            std::move(*posix_file_system().open_for_update_at(directory, "lock"))};
  }
};

TEST_CASE("bytes of the lock file: two for each artefact, and two of the root's") {
  const Digest most{~std::uint64_t{0}, ~std::uint64_t{0}};
  CHECK(make_lock_byte(Digest{8, 0}) == 2);
  CHECK(use_lock_byte(Digest{8, 0}) == 3);
  CHECK(make_lock_byte(Digest{}) == 0);
  CHECK(use_lock_byte(most) == (std::uint64_t{1} << 62) - 1);
  CHECK(kSweepLockByte > use_lock_byte(most));
  CHECK(kLedgerLockByte > kSweepLockByte);
}

TEST_CASE("an exclusive lock excludes other handles of the same process") {
  const LockFolder folder;
  LockHandle one = folder.open();
  LockHandle two = folder.open();
  CHECK(one.try_lock(4, LockKind::kExclusive));
  CHECK_FALSE(two.try_lock(4, LockKind::kExclusive));
  CHECK_FALSE(two.try_lock(4, LockKind::kShared));
  CHECK(two.try_lock(5, LockKind::kExclusive));
  one.unlock(4);
  CHECK(two.try_lock(4, LockKind::kShared));
  CHECK(one.try_lock(4, LockKind::kShared));
  CHECK_FALSE(folder.open().try_lock(4, LockKind::kExclusive));
  CHECK(folder.open().try_lock(kSweepLockByte, LockKind::kExclusive));
}

TEST_CASE("a held lock ends with its value") {
  const LockFolder folder;
  LockHandle other = folder.open();
  {
    LockHandle handle = folder.open();
    REQUIRE(handle.try_lock(2, LockKind::kExclusive));
    HeldLock held(std::move(handle), 2);
    HeldLock moved = std::move(held);
    CHECK(moved);
    CHECK_FALSE(other.try_lock(2, LockKind::kExclusive));
    held = std::move(moved);
    CHECK_FALSE(other.try_lock(2, LockKind::kExclusive));
  }
  CHECK(other.try_lock(2, LockKind::kExclusive));
}

TEST_CASE("a lock dies with its holder") {
  const LockFolder folder;
  const Tally tally(folder.temp.path() / "tally");
  LockHandle other = folder.open();
  Fleet fleet;
  const auto child = fleet.add([&] {
    LockHandle handle = folder.open();
    if (!handle.try_lock(2, LockKind::kExclusive)) return false;
    tally.add('l');
    ::pause();
    return true;
  });
  fleet.start();
  tally.wait_for(1);
  CHECK_FALSE(other.try_lock(2, LockKind::kExclusive));
  fleet.kill(child);
  CHECK_FALSE(fleet.succeeded(child));
  CHECK(other.try_lock(2, LockKind::kExclusive));
}

TEST_CASE("a forked child neither releases nor keeps its parent's lock") {
  const LockFolder folder;
  const Tally tally(folder.temp.path() / "tally");
  LockHandle other = folder.open();
  LockHandle handle = folder.open();
  REQUIRE(handle.try_lock(2, LockKind::kExclusive));
  HeldLock held(std::move(handle), 2);
  Fleet fleet;
  fleet.add([&] {
    held.release();  // as its destructor would
    return true;
  });
  fleet.start();
  CHECK(fleet.count_succeeded() == 1);
  CHECK_FALSE(other.try_lock(2, LockKind::kExclusive));

  Fleet staying;
  const auto child = staying.add([&] {
    tally.add('s');
    ::pause();
    return true;
  });
  staying.start();
  tally.wait_for(1);
  held.release();
  CHECK(other.try_lock(2, LockKind::kExclusive));
  staying.kill(child);
}

}  // namespace
}  // namespace ktjit::cache::test
