#include "jit/nvrtc_search.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "tests/jit/fake_elf.h"
#include "tests/jit/scratch_folder.h"

namespace fs = std::filesystem;
using ktjit::find_nvrtc;
using ktjit::NvrtcCandidate;
using ktjit::NvrtcSearch;
using ktjit::NvrtcVersion;
using ktjit::test::elf_with_build_id;
using ktjit::test::ScratchFolder;

namespace {

// Looks only where the test says.
NvrtcSearch bare_search() {
  NvrtcSearch search;
  search.loader_path = false;
  search.toolkit_folders = false;
  return search;
}

fs::path write_pair(const ScratchFolder& root, const fs::path& folder, const std::string& library,
                    const std::string& builtins) {
  root.write(folder / builtins, elf_with_build_id("\x0b"));
  return root.write(folder / library, elf_with_build_id("\x0a"));
}

NvrtcCandidate only_candidate(const NvrtcSearch& search) {
  const auto found = find_nvrtc(search);
  REQUIRE(found.size() == 1);
  return found.front();
}

}  // namespace

TEST_CASE("explicit path is a library, its folder or a toolkit") {
  const ScratchFolder root;
  const fs::path library =
      write_pair(root, "cuda/lib64", "libnvrtc.so.13", "libnvrtc-builtins.so.13.0");
  NvrtcSearch search = bare_search();
  for (const fs::path& path : {library, root.path() / "cuda/lib64", root.path() / "cuda"}) {
    search.explicit_path = path;
    const NvrtcCandidate candidate = only_candidate(search);
    CHECK(candidate.problem == "");
    CHECK(candidate.library == library);
    CHECK(candidate.builtins == root.path() / "cuda/lib64/libnvrtc-builtins.so.13.0");
    CHECK(candidate.version == NvrtcVersion{13, 0});
    CHECK(candidate.library_id == "0a");
    CHECK(candidate.builtins_id == "0b");
    CHECK(candidate.found_by == "explicit path");
  }
}

TEST_CASE("explicit path without a library is listed as unusable") {
  const ScratchFolder root;
  NvrtcSearch search = bare_search();
  for (const fs::path& path : {root.path(), root.path() / "missing.so"}) {
    search.explicit_path = path;
    const NvrtcCandidate candidate = only_candidate(search);
    CHECK_FALSE(candidate.usable());
    CHECK(candidate.library == path);
    CHECK(candidate.problem == "there is no libnvrtc");
  }
}

TEST_CASE("places are searched in the documented order") {
  const ScratchFolder root;
  write_pair(root, "explicit", "libnvrtc.so.12", "libnvrtc-builtins.so.12.1");
  write_pair(root, "extra", "libnvrtc.so.12", "libnvrtc-builtins.so.12.2");
  write_pair(root, "home/lib64", "libnvrtc.so.12", "libnvrtc-builtins.so.12.3");
  write_pair(root, "venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib", "libnvrtc.so.12",
             "libnvrtc-builtins.so.12.4");
  write_pair(root, "venv/lib/python3.11/site-packages/nvidia/cu13/lib", "libnvrtc.so.13",
             "libnvrtc-builtins.so.13.1");
  write_pair(root, "unpacked/nvidia/cuda_nvrtc/lib", "libnvrtc.so.12", "libnvrtc-builtins.so.12.5");
  NvrtcSearch search = bare_search();
  search.explicit_path = root.path() / "explicit";
  search.extra_folders = {root.path() / "extra"};
  search.cuda_home = root.path() / "home";
  search.python_environments = {root.path() / "venv", root.path() / "unpacked"};
  std::string order;
  for (const NvrtcCandidate& candidate : find_nvrtc(search)) {
    CHECK(candidate.problem == "");
    order += candidate.version.text() + " " + candidate.found_by + "\n";
  }
  CHECK(order ==
        "12.1 explicit path\n12.2 extra folder\n12.3 CUDA_HOME\n13.1 Python environment\n"
        "12.4 Python environment\n12.5 Python environment\n");
}

TEST_CASE("library that several links name is listed once") {
  const ScratchFolder root;
  const fs::path library =
      write_pair(root, "lib", "libnvrtc.so.12.4.127", "libnvrtc-builtins.so.12.4.127");
  fs::create_symlink("libnvrtc.so.12.4.127", root.path() / "lib/libnvrtc.so.12");
  fs::create_symlink("libnvrtc.so.12", root.path() / "lib/libnvrtc.so");
  fs::create_symlink("libnvrtc-builtins.so.12.4.127",
                     root.path() / "lib/libnvrtc-builtins.so.12.4");
  fs::create_directory_symlink("lib", root.path() / "lib64");
  NvrtcSearch search = bare_search();
  search.cuda_home = root.path();
  const NvrtcCandidate candidate = only_candidate(search);
  CHECK(candidate.problem == "");
  CHECK(candidate.library == library);
  CHECK(candidate.version == NvrtcVersion{12, 4});
}

TEST_CASE("variant libraries and other files are no candidates") {
  const ScratchFolder root;
  for (const char* name : {"libnvrtc.alt.so.13", "libnvrtc_static.a", "libnvrtc.so.txt",
                           "libnvrtc.so.13.backup", "libnvrtc-builtins.so.13.0"}) {
    root.write(name, elf_with_build_id("\x0a"));
  }
  NvrtcSearch search = bare_search();
  search.extra_folders = {root.path()};
  CHECK(find_nvrtc(search).empty());
}

TEST_CASE("every version of 11.x calls itself 11.2 and takes its minor version from the builtins") {
  const ScratchFolder root;
  write_pair(root, "", "libnvrtc.so.11.2", "libnvrtc-builtins.so.11.8");
  NvrtcSearch search = bare_search();
  search.extra_folders = {root.path()};
  const NvrtcCandidate candidate = only_candidate(search);
  CHECK(candidate.problem == "");
  CHECK(candidate.version == NvrtcVersion{11, 8});
}

TEST_CASE("candidate that can't be used says why") {
  const ScratchFolder root;
  NvrtcSearch search = bare_search();
  search.extra_folders = {root.path()};
  const auto problem = [&] {
    const NvrtcCandidate candidate = only_candidate(search);
    CHECK_FALSE(candidate.usable());
    return candidate.problem;
  };
  using Catch::Contains;
  SECTION("no builtins beside it") {
    root.write("libnvrtc.so.13", elf_with_build_id("\x0a"));
    root.write("libnvrtc-builtins.so.12.9", elf_with_build_id("\x0b"));
    CHECK_THAT(problem(), Contains("libnvrtc-builtins.so.13.* is not beside it"));
  }
  SECTION("builtins of another minor version beside it") {
    write_pair(root, "", "libnvrtc.so.12.4.127", "libnvrtc-builtins.so.12.9");
    CHECK_THAT(problem(), Contains("libnvrtc-builtins.so.12.4 is not beside it"));
  }
  SECTION("builtins of several versions beside it") {
    write_pair(root, "", "libnvrtc.so.12", "libnvrtc-builtins.so.12.4");
    root.write("libnvrtc-builtins.so.12.9", elf_with_build_id("\x0b"));
    CHECK_THAT(problem(), Contains("several versions of libnvrtc-builtins.so.12"));
  }
  SECTION("too old") {
    write_pair(root, "", "libnvrtc.so.11.2", "libnvrtc-builtins.so.11.4");
    CHECK_THAT(problem(), Contains("version 11.4 is older than 11.8"));
  }
  SECTION("damaged") {
    write_pair(root, "", "libnvrtc.so.13", "libnvrtc-builtins.so.13.0");
    root.write("libnvrtc.so.13", "not a library");
    CHECK_THAT(problem(), Contains("damaged, or has no build id"));
  }
  SECTION("builtins damaged") {
    write_pair(root, "", "libnvrtc.so.13", "libnvrtc-builtins.so.13.0");
    root.write("libnvrtc-builtins.so.13.0", "");
    CHECK_THAT(problem(), Contains("libnvrtc-builtins.so.13.0 is damaged"));
  }
}

TEST_CASE("architectures are known for versions of the table, between and behind them") {
  const auto serves = [](int major, int minor, const char* target) {
    return ktjit::nvrtc_serves({major, minor}, ktjit::parse_target(target, {}));
  };
  CHECK(serves(11, 8, "sm_60"));
  CHECK(serves(11, 8, "sm_90"));
  CHECK_FALSE(serves(11, 8, "sm_90a"));
  CHECK_FALSE(serves(11, 8, "sm_100"));
  CHECK_FALSE(serves(11, 7, "sm_86"));
  CHECK(serves(12, 6, "sm_90a"));
  CHECK_FALSE(serves(12, 6, "sm_100"));
  CHECK(serves(12, 8, "sm_100a"));
  CHECK_FALSE(serves(12, 8, "sm_100f"));
  CHECK(serves(12, 9, "sm_121f"));
  CHECK(serves(12, 9, "sm_61"));
  CHECK_FALSE(serves(13, 0, "sm_61"));
  CHECK(serves(13, 4, "sm_75"));
  CHECK(serves(14, 0, "sm_110a"));
  CHECK_FALSE(serves(13, 0, "cpu"));
}
