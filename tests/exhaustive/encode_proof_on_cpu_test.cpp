// All 2^32 f32 inputs of every encoder on this machine's CPU.
#include <array>
#include <catch2/catch.hpp>

#include "jit/toolchain.h"
#include "tests/support/encode_proof.h"

namespace ktjit {
namespace {

/// Both modes of one format.
void prove(FormatId format) {
  Options options;
  options.cache_enabled = false;
  options.worker = KTJIT_WORKER_PATH;
  Toolchain toolchain(options, [](std::string_view) {});
  const auto device = toolchain.open_device("cpu");
  constexpr std::uint64_t kChunk = std::uint64_t{1} << 24;  // 64 MiB of inputs
  const test::CheckResult result = test::check_all_f32(
      {toolchain.engine(), *device, toolchain.get_target("cpu")}, std::array{format}, kChunk);
  INFO(result.first_problem);
  CHECK(result.wrong == 0);
  CHECK(result.values == std::int64_t{2} << 32);
}

}  // namespace

TEST_CASE("CPU encodes all 2^32 f32 values to fp8_e4m3 as its definition says") {
  prove(FormatId::kFp8E4M3);
}
TEST_CASE("CPU encodes all 2^32 f32 values to fp8_e5m2 as its definition says") {
  prove(FormatId::kFp8E5M2);
}
TEST_CASE("CPU encodes all 2^32 f32 values to fp8_e4b15 as its definition says") {
  prove(FormatId::kFp8E4B15);
}
TEST_CASE("CPU encodes all 2^32 f32 values to fp8_e4m3fnuz as its definition says") {
  prove(FormatId::kFp8E4M3Fnuz);
}
TEST_CASE("CPU encodes all 2^32 f32 values to fp8_e5m2fnuz as its definition says") {
  prove(FormatId::kFp8E5M2Fnuz);
}
TEST_CASE("CPU encodes all 2^32 f32 values to fp6_e2m3 as its definition says") {
  prove(FormatId::kFp6E2M3);
}
TEST_CASE("CPU encodes all 2^32 f32 values to fp6_e3m2 as its definition says") {
  prove(FormatId::kFp6E3M2);
}
TEST_CASE("CPU encodes all 2^32 f32 values to fp4_e2m1 as its definition says") {
  prove(FormatId::kFp4E2M1);
}

}  // namespace ktjit
