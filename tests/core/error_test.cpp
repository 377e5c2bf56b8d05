// The wording of every error type is pinned: people search for these lines.
#include "core/error.h"

#include <catch2/catch.hpp>
#include <string>

namespace ktjit {
namespace {

TEST_CASE("SpecError names the field, the value and what is allowed") {
  const SpecError error("cols", "255", "positive multiples of the q4_K block, 256");
  CHECK(error.what() ==
        std::string("cols is 255, allowed: positive multiples of the q4_K block, 256"));
  CHECK(error.field() == "cols");
}

TEST_CASE("InputError names the file and the problem") {
  const InputError error("model.gguf: tensor 'a'", "ends at byte 90, the file has 80");
  CHECK(error.what() == std::string("model.gguf: tensor 'a': ends at byte 90, the file has 80"));
  CHECK(error.where() == "model.gguf: tensor 'a'");
}

TEST_CASE("ToolchainError says what was looked for, where, and what to do") {
  const ToolchainError error("no libnvrtc was found", "/usr/local/cuda", "set KTJIT_NVRTC");
  CHECK(error.what() ==
        std::string("no libnvrtc was found (looked in: /usr/local/cuda); set KTJIT_NVRTC"));
}

TEST_CASE("CompileError has the options, the saved source and the whole log") {
  const CompileError error("read_test", "NVRTC 13.0", "-arch=sm_86", "/tmp/a.cu", "error: 1\n");
  CHECK(error.what() == std::string("NVRTC 13.0 failed to compile read_test\n"
                                    "  options: -arch=sm_86\n"
                                    "  source:  /tmp/a.cu\n"
                                    "error: 1\n"));
  CHECK(error.log() == "error: 1\n");
}

TEST_CASE("CompileError says that the source could not be saved") {
  const CompileError error("read_test", "NVRTC 13.0", "", "", "");
  CHECK_THAT(error.what(), Catch::Contains("\n  source:  (could not be saved)\n"));
}

TEST_CASE("DriverError has the call, the code, the device and what we were doing") {
  const DriverError error("cuModuleLoadData", 218, "CUDA_ERROR_INVALID_PTX", "cuda:0",
                          "loading dequant_q4_K");
  CHECK(error.what() == std::string("cuModuleLoadData failed with CUDA_ERROR_INVALID_PTX (218) on "
                                    "cuda:0 while loading dequant_q4_K"));
  CHECK(error.code() == 218);
}

TEST_CASE("KTJIT_CHECK throws InternalError with condition, file and line of the caller") {
  const int lines = 3;
  const unsigned before = __LINE__;
  try {
    KTJIT_CHECK(lines == 4);
    FAIL("the check held");
  } catch (const InternalError& error) {
    CHECK_THAT(error.what(),
               Catch::StartsWith("internal error: lines == 4 does not hold in ") &&
                   Catch::EndsWith("error_test.cpp:" + std::to_string(before + 2) + ")"));
  }
  CHECK_NOTHROW([&] { KTJIT_CHECK(lines == 3); }());
}

TEST_CASE("all errors are ktjit::Error") {
  CHECK_THROWS_AS(throw SpecError("a", "b", "c"), Error);
  CHECK_THROWS_AS(throw InputError("a", "b"), Error);
  CHECK_THROWS_AS(throw ToolchainError("a", "b", "c"), Error);
  CHECK_THROWS_AS(throw CompileError("a", "b", "c", "d", "e"), Error);
  CHECK_THROWS_AS(throw DriverError("a", 1, "b", "c", "d"), Error);
  CHECK_THROWS_AS(throw InternalError("a", std::source_location::current()), Error);
}

}  // namespace
}  // namespace ktjit
