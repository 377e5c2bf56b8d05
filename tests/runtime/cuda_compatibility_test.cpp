#include "runtime/cuda_compatibility.h"

#include <catch2/catch.hpp>
#include <string>

#include "core/error.h"

using namespace ktjit;
using ktjit::runtime::best_cuda_target;
using ktjit::runtime::cuda_code_runs_on;

namespace {

bool cubin_runs(const char* target, int device_sm) {
  return cuda_code_runs_on(device_sm, parse_target(target, {}), ArtifactKind::kCubin, nullptr);
}

bool ptx_runs(const char* target, int device_sm) {
  return cuda_code_runs_on(device_sm, parse_target(target, {}), ArtifactKind::kPtx, nullptr);
}

}  // namespace

TEST_CASE("cubin runs on its own version and later ones of the same major version") {
  CHECK(cubin_runs("sm_86", 86));
  CHECK(cubin_runs("sm_86", 89));
  CHECK(cubin_runs("sm_80", 86));
  CHECK(cubin_runs("sm_70", 75));
  CHECK(cubin_runs("sm_120", 121));
  CHECK_FALSE(cubin_runs("sm_89", 86));
  CHECK_FALSE(cubin_runs("sm_86", 90));
  CHECK_FALSE(cubin_runs("sm_90", 86));
  CHECK_FALSE(cubin_runs("sm_100", 110));
}

TEST_CASE("cubins are not exchanged with integrated chips") {
  CHECK(cubin_runs("sm_87", 87));
  CHECK_FALSE(cubin_runs("sm_80", 87));
  CHECK_FALSE(cubin_runs("sm_86", 87));
  CHECK_FALSE(cubin_runs("sm_87", 89));
  CHECK_FALSE(cubin_runs("sm_70", 72));
  CHECK(ptx_runs("sm_80", 87));
}

TEST_CASE("PTX runs on its own version and all later ones") {
  CHECK(ptx_runs("sm_75", 90));
  CHECK(ptx_runs("sm_86", 86));
  CHECK(ptx_runs("sm_60", 121));
  CHECK_FALSE(ptx_runs("sm_90", 89));
}

TEST_CASE("code with suffix a runs on exactly its own chip") {
  CHECK(cubin_runs("sm_90a", 90));
  CHECK(ptx_runs("sm_90a", 90));
  CHECK(cubin_runs("sm_100a", 100));
  CHECK_FALSE(cubin_runs("sm_100a", 103));
  CHECK_FALSE(ptx_runs("sm_90a", 100));
  CHECK_FALSE(ptx_runs("sm_100a", 103));
}

TEST_CASE("code with suffix f runs on its family from its own chip on") {
  CHECK(cubin_runs("sm_100f", 100));
  CHECK(cubin_runs("sm_100f", 103));
  CHECK(ptx_runs("sm_120f", 121));
  CHECK_FALSE(cubin_runs("sm_103f", 100));
  CHECK_FALSE(ptx_runs("sm_100f", 120));
}

TEST_CASE("reason says what runs where") {
  std::string reason;
  CHECK_FALSE(cuda_code_runs_on(86, parse_target("sm_90a", {}), ArtifactKind::kCubin, &reason));
  CHECK(
      reason ==
      "cubin for sm_90a doesn't run on compute capability 8.6: code with suffix a runs on exactly "
      "its own chip");
  CHECK_FALSE(cuda_code_runs_on(86, parse_target("cpu:x86-64-v3", {}), ArtifactKind::kSharedObject,
                                &reason));
  CHECK(reason == "shared object for cpu:x86-64-v3 is not code for a GPU");
  CHECK_FALSE(cuda_code_runs_on(86, parse_target("sm_86", {}), ArtifactKind::kLlvmIr, &reason));
}

TEST_CASE("best target is the chip's own, or the newest known before it") {
  CHECK(best_cuda_target(86).name() == "sm_86");
  CHECK(best_cuda_target(90).name() == "sm_90a");
  CHECK(best_cuda_target(62).name() == "sm_61");
  CHECK(best_cuda_target(107).name() == "sm_103");
  CHECK(best_cuda_target(140).name() == "sm_121");
  CHECK_THROWS_AS(best_cuda_target(52), ToolchainError);
}
