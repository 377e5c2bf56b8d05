#include "cache/atomic_file.h"

#include <catch2/catch.hpp>
#include <sys/stat.h>

#include "tests/cache/cache_fixture.h"
#include "tests/cache/faulty_file_system.h"

namespace ktjit::cache::test {
namespace {

std::size_t files_in(const std::filesystem::path& path) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path),
                                                std::filesystem::directory_iterator()));
}

TEST_CASE("a file is written whole, with its mode, in place of the old one") {
  const TempDir temp;
  FaultyFileSystem files;
  files.most_bytes = 7;  // short writes are continued
  const auto dir = files.open_directory(temp.path().string());
  write_atomically(files, *dir, "name", "old", 0600);
  write_atomically(files, *dir, "name", "twenty bytes of text", 0600);
  CHECK(read_file(temp.path() / "name") == "twenty bytes of text");
  CHECK(files_in(temp.path()) == 1);
  struct stat status;
  REQUIRE(::stat((temp.path() / "name").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777u) == 0600);
}

TEST_CASE("whichever call fails, the old file stays and no temporary does") {
  const TempDir temp;
  FaultyFileSystem files;
  const auto dir = files.open_directory(temp.path().string());
  write_atomically(files, *dir, "name", "old", 0600);
  int failures = 0;
  for (int n = 0;; ++n) {
    files.fail_call(n, ENOSPC);
    try {
      write_atomically(files, *dir, "name", "new", 0600);
    } catch (const FileError& error) {
      CHECK(error.code() == std::errc::no_space_on_device);
      ++failures;
    }
    if (!files.has_failed()) break;
    CAPTURE(n);
    CHECK(read_file(temp.path() / "name") == "old");
    CHECK(files_in(temp.path()) == 1);
  }
  CHECK(failures == 4);  // create, write, sync, rename
  CHECK(read_file(temp.path() / "name") == "new");
}

TEST_CASE("a temporary that can't be removed has a name that tells what it is") {
  const TempDir temp;
  FaultyFileSystem files;
  const auto dir = files.open_directory(temp.path().string());
  files.fail_call(1, EIO, /*from_then_on=*/true);
  CHECK_THROWS_AS(write_atomically(files, *dir, "name", "new", 0600), FileError);
  REQUIRE(files_in(temp.path()) == 1);
  const auto left = std::filesystem::directory_iterator(temp.path())->path().filename().string();
  CHECK(is_temporary_name(left));
  CHECK_FALSE(EntryName::parse(left));
}

}  // namespace
}  // namespace ktjit::cache::test
