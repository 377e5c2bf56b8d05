// The tree keeps its own rules, and the checker finds every violation that is planted.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/build/layering_rules.h"

namespace ktjit::test {
namespace {

namespace fs = std::filesystem;

/// C++ files, templates, CMake files and pages of the tree; not build folders or hidden ones.
std::vector<SourceFile> read_tree(const fs::path& root) {
  std::vector<SourceFile> files;
  for (fs::recursive_directory_iterator it(root), end; it != end; ++it) {
    const std::string name = it->path().filename();
    if (it->is_directory() && (name.starts_with('.') || name.starts_with("build")) &&
        it->path() != root / "tests" / "build") {
      it.disable_recursion_pending();
    }
    const std::string extension = it->path().extension();
    const bool wanted = extension == ".h" || extension == ".cpp" || extension == ".in" ||
                        extension == ".inc" || extension == ".cmake" || extension == ".md";
    if (!it->is_regular_file() || (!wanted && name != "CMakeLists.txt")) continue;
    std::ifstream stream(it->path(), std::ios::binary);
    files.push_back({it->path().lexically_relative(root).generic_string(),
                     {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()}});
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

using Violations = std::vector<std::string>;

const std::string kHeader = "// A header.\n#pragma once\n";

std::string includes(const std::string& what) { return "// A file.\n#include " + what + "\n"; }

/// Headers for the planted files to include, all well formed.
std::vector<SourceFile> small_tree() {
  std::vector<SourceFile> files;
  for (const char* path :
       {"core/format.h", "templates/embedded_templates.h", "codegen/emitter.h",
        "codegen/source_writer.h", "cache/kernel_cache.h", "cache/trust.h", "runtime/device.h",
        "runtime/unique_fd.h", "model/model.h", "jit/engine.h", "jit/worker_protocol.h",
        "worker/clang_job.h", "capi/handles.h", "cli/table.h", "tests/support/golden_data.h"}) {
    files.push_back({path, kHeader});
  }
  return files;
}

Violations violations_with(const std::string& path, const std::string& text) {
  std::vector<SourceFile> files = small_tree();
  files.push_back({path, text});
  return find_violations(files);
}

TEST_CASE("the tree keeps its rules") {
  const std::vector<SourceFile> files = read_tree(KTJIT_SOURCE_DIR);
  CHECK(files.size() > 100);
  for (const std::string& violation : find_violations(files)) {
    UNSCOPED_INFO(violation);
    CHECK(violation.empty());
  }
}

TEST_CASE("a tree that keeps the rules has no violations") {
  CHECK(find_violations(small_tree()).empty());
  CHECK(violations_with("jit/planner.cpp", includes("\"model/model.h\"")).empty());
  CHECK(violations_with("jit/planner.cpp", includes("<string>")).empty());
  CHECK(violations_with("cli/verb_emit.cpp", includes("\"codegen/emitter.h\"")).empty());
  CHECK(violations_with("cli/verb_emit.cpp", includes("<boost/program_options.hpp>")).empty());
  CHECK(violations_with("worker/main.cpp", includes("<clang/Basic/Version.h>")).empty());
  CHECK(
      violations_with("tests/jit/a_test.cpp", includes("\"tests/support/golden_data.h\"")).empty());
}

TEST_CASE("every arrow against the picture is found") {
  struct Arrow {
    std::string from;
    std::string to;
  };
  const std::vector<Arrow> arrows = {
      {"core/a.cpp", "codegen/emitter.h"},
      {"core/a.cpp", "jit/engine.h"},
      {"templates/a.h", "core/format.h"},
      {"codegen/a.cpp", "cache/kernel_cache.h"},
      {"codegen/a.cpp", "runtime/device.h"},
      {"codegen/a.cpp", "model/model.h"},
      {"codegen/a.cpp", "jit/engine.h"},
      {"cache/a.h", "codegen/emitter.h"},
      {"cache/a.h", "runtime/unique_fd.h"},
      {"cache/a.h", "jit/engine.h"},
      {"runtime/a.cpp", "model/model.h"},
      {"runtime/a.cpp", "cache/kernel_cache.h"},
      {"model/a.cpp", "runtime/unique_fd.h"},
      {"model/a.cpp", "codegen/emitter.h"},
      {"jit/a.cpp", "templates/embedded_templates.h"},
      {"jit/a.cpp", "worker/clang_job.h"},
      {"jit/a.cpp", "cli/table.h"},
      {"jit/worker_protocol.cpp", "core/format.h"},
      {"worker/main.cpp", "jit/engine.h"},
      {"worker/main.cpp", "core/format.h"},
      {"cli/a.cpp", "cache/trust.h"},
      {"cli/a.cpp", "codegen/source_writer.h"},
      {"cli/a.cpp", "runtime/unique_fd.h"},
      {"capi/a.cpp", "cache/trust.h"},
      {"capi/a.cpp", "cli/table.h"},
      {"capi/ktjit.h", "jit/engine.h"},
      {"jit/a.cpp", "capi/handles.h"},
      {"python/a.cpp", "jit/engine.h"},
      {"python/a.cpp", "capi/handles.h"},
      {"tests/capi/a_test.cpp", "jit/engine.h"},
      {"samples/01_a.cpp", "cli/table.h"},
      {"samples/01_a.cpp", "cache/kernel_cache.h"},
      {"tests/core/a_test.cpp", "codegen/emitter.h"},
      {"tests/cache/a_test.cpp", "jit/engine.h"},
      {"tests/jit/a_test.cpp", "worker/clang_job.h"},
      {"core/a.cpp", "tests/support/golden_data.h"},
      {"jit/a.cpp", "tests/support/golden_data.h"},
  };
  for (const auto& [from, to] : arrows) {
    INFO(from << " -> " << to);
    std::string text = includes('"' + to + '"') + "#pragma once\n";
    if (from == "jit/worker_protocol.cpp")
      text = "// A file.\n#include \"jit/worker_protocol.h\"\n#include \"" + to + "\"\n";
    const Violations found = violations_with(from, text);
    REQUIRE(found.size() == 1);
    CHECK_THAT(found[0], Catch::StartsWith(from + ": includes " + to + ", but "));
  }
}

TEST_CASE("an include is found however it is spaced") {
  CHECK(violations_with("core/a.cpp", "// A file.\n  #  include   \"jit/engine.h\"\n").size() == 1);
  CHECK(violations_with("core/a.cpp", "// A file.\n#include \"jit/engine.h\"").size() == 1);
  CHECK(violations_with("core/a.cpp", "// A file.\n// #include \"jit/engine.h\"\n").empty());
}

TEST_CASE("an include that is no path of the tree is found") {
  CHECK(violations_with("core/a.cpp", includes("\"format.h\"")) ==
        Violations{"core/a.cpp: includes format.h, which is no file of the tree"});
}

TEST_CASE("other projects' headers stay where they belong") {
  CHECK(violations_with("runtime/a.h", kHeader + "#include <cuda.h>\n") ==
        Violations{"runtime/a.h: includes <cuda.h>, but the build needs no CUDA toolkit"});
  CHECK(violations_with("jit/a.h", kHeader + "#include <nvrtc.h>\n").size() == 1);
  CHECK(violations_with("jit/a.cpp", includes("<cuda_fp16.h>")).size() == 1);
  CHECK(violations_with("jit/a.h", kHeader + "#include <llvm/IR/Module.h>\n").size() == 1);
  CHECK(violations_with("jit/a.cpp", includes("<clang/Basic/Version.h>")).size() == 1);
  CHECK(violations_with("jit/a.h", kHeader + "#include <boost/program_options.hpp>\n").size() == 1);
  CHECK(violations_with("model/a.cpp", includes("<iostream>")) ==
        Violations{"model/a.cpp: includes <iostream>, but the library prints nothing"});
  CHECK(violations_with("cli/a.cpp", includes("<iostream>")).empty());
  CHECK(violations_with("core/a.cpp", includes("<catch2/catch.hpp>")).size() == 1);
}

TEST_CASE("the environment is read in one file") {
  const std::string reads = "// A file.\nconst char* home = std::getenv(\"HOME\");\n";
  CHECK(violations_with("jit/options.cpp", reads).empty());
  CHECK(violations_with("tests/gpu/a_test.cpp", reads).empty());
  CHECK(violations_with("cache/a.cpp", reads) ==
        Violations{"cache/a.cpp: reads the environment; only jit/options.cpp does"});
  CHECK(violations_with("cli/a.cpp", "// A file.\nsecure_getenv(\"HOME\");\n").size() == 1);
  CHECK(violations_with("cli/a.cpp", "// A file.\nint forgetenvelope;\n").empty());
}

TEST_CASE("file names are unique") {
  CHECK(violations_with("model/format.h", kHeader) ==
        Violations{"model/format.h: has the same name as core/format.h"});
  CHECK(violations_with("cli/main.cpp", "// A program.\n").empty());
  std::vector<SourceFile> files = {{"core/CMakeLists.txt", ""},
                                   {"jit/CMakeLists.txt", ""},
                                   {"cli/main.cpp", "// One.\n"},
                                   {"worker/main.cpp", "// Two.\n"},
                                   {"tests/golden/dequant/f32_f32_sm_86.cpp", "x"},
                                   {"tests/golden/matvec/f32_f32_sm_86.cpp", "x"}};
  CHECK(find_violations(files).empty());
}

TEST_CASE("files begin with a comment, headers have a guard, sources their own header first") {
  CHECK(violations_with("core/a.h", "#pragma once\n") ==
        Violations{"core/a.h: doesn't begin with a comment"});
  CHECK(violations_with("core/a.cpp", "int a;\n") ==
        Violations{"core/a.cpp: doesn't begin with a comment"});
  CHECK(violations_with("core/a.h", "// A header.\n") ==
        Violations{"core/a.h: has no #pragma once"});
  CHECK(violations_with("core/format.cpp", includes("<string>")) ==
        Violations{"core/format.cpp: doesn't include core/format.h first"});
  CHECK(violations_with("core/format.cpp", "#include \"core/format.h\"\n").empty());
}

TEST_CASE("emitted text includes no header") {
  CHECK(violations_with("templates/cuda/a.cu.in", "#include <cuda_fp16.h>\n") ==
        Violations{"templates/cuda/a.cu.in: includes a header; emitted text has none"});
  CHECK(violations_with("templates/cuda/a.cu.in", "float x;\n").empty());
}

TEST_CASE("a new folder has to enter the table") {
  CHECK(violations_with("server/a.cpp", "// A file.\n").size() == 1);
}

}  // namespace
}  // namespace ktjit::test
