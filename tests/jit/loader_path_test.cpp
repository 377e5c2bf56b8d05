#include "jit/loader_path.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <string>

#include "tests/jit/fake_elf.h"
#include "tests/jit/scratch_folder.h"

namespace fs = std::filesystem;
using ktjit::find_in_loader_cache;
using ktjit::test::bytes_of;
using ktjit::test::ScratchFolder;

namespace {

// A cache of glibc's new format with two entries.
std::string make_cache() {
  const std::string names[] = {"libfirst.so.1", "libnvrtc.so.13"};
  const std::string paths[] = {"/lib/libfirst.so.1", "/opt/lib/libnvrtc.so.13"};
  std::string strings;
  std::string entries;
  const std::uint32_t strings_at = 48 + 2 * 24;
  for (int i = 0; i < 2; ++i) {
    const auto name_at = static_cast<std::uint32_t>(strings_at + strings.size());
    strings += names[i] + '\0';
    const auto path_at = static_cast<std::uint32_t>(strings_at + strings.size());
    strings += paths[i] + '\0';
    entries += bytes_of(std::int32_t{0x303}) + bytes_of(name_at) + bytes_of(path_at) +
               bytes_of(std::uint32_t{0}) + bytes_of(std::uint64_t{0});
  }
  return "glibc-ld.so.cache1.1" + bytes_of(std::uint32_t{2}) +
         bytes_of(static_cast<std::uint32_t>(strings.size())) + std::string(20, '\0') + entries +
         strings;
}

}  // namespace

TEST_CASE("loader's folders hold the C library") {
  const auto folders = ktjit::loader_folders();
  CHECK(std::any_of(folders.begin(), folders.end(),
                    [](const fs::path& folder) { return fs::exists(folder / "libc.so.6"); }));
}

TEST_CASE("loader's cache is searched by the start of a file name") {
  const ScratchFolder folder;
  const fs::path cache = folder.write("cache", make_cache());
  CHECK(find_in_loader_cache("libnvrtc.so", cache) ==
        std::vector<fs::path>{"/opt/lib/libnvrtc.so.13"});
  CHECK(find_in_loader_cache("lib", cache).size() == 2);
  CHECK(find_in_loader_cache("nvrtc", cache).empty());
}

TEST_CASE("missing, cut or changed loader's cache does no harm") {
  const ScratchFolder folder;
  CHECK(find_in_loader_cache("lib", folder.path() / "missing").empty());
  CHECK(find_in_loader_cache("lib", folder.path()).empty());
  const std::string whole = make_cache();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    CHECK(find_in_loader_cache("lib", folder.write("cache", whole.substr(0, at))).size() <= 2);
    std::string damaged = whole;
    damaged[at] = '\xff';
    CHECK(find_in_loader_cache("lib", folder.write("cache", damaged)).size() <= 2);
  }
}
