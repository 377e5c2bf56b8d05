// Files appear whole; what is no file is written to and stays what it is.
#include "model/output_file.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

namespace ktjit::model {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Folder {
  std::filesystem::path path = [] {
    char name[] = "/tmp/ktjit-output-XXXXXX";
    return std::filesystem::path(::mkdtemp(name));
  }();
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("output appears at commit, in place of an older file") {
  const Folder folder;
  const std::filesystem::path path = folder.path / "out";
  std::ofstream(path) << "old";
  OutputFile file(path);
  file.write(bytes_of("new"));
  CHECK(content_of(path) == "old");
  file.commit();
  CHECK(content_of(path) == "new");
}

TEST_CASE("output without a commit leaves nothing behind") {
  const Folder folder;
  {
    OutputFile(folder.path / "out").write(bytes_of("lost"));
  }
  CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("a full disk is an error that names the file, and a device stays a device") {
  OutputFile file("/dev/full");
  file.write(bytes_of("something"));
  CHECK_THROWS_WITH(file.commit(), "/dev/full: cannot be written: No space left on device");
  CHECK(std::filesystem::is_character_file("/dev/full"));
}

TEST_CASE("a pipe gets what is written") {
  const Folder folder;
  const std::filesystem::path pipe = folder.path / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  OutputFile file(pipe);
  file.write(bytes_of("through"));
  file.commit();
  char read[16] = {};
  CHECK(::read(reader, read, sizeof(read)) == 7);
  CHECK(std::string_view(read) == "through");
  ::close(reader);
  CHECK(std::filesystem::is_fifo(pipe));
}

TEST_CASE("a folder is no output file") {
  const Folder folder;
  CHECK_THROWS_AS(OutputFile(folder.path), OutputError);
  CHECK(std::filesystem::is_directory(folder.path));
}

}  // namespace ktjit::model
