// All 2^32 f32 inputs of every encoder on a real GPU: as its own code, which uses the hardware's conversions
// where it has some, and as sm_86 code, which has none.
#include <catch2/catch.hpp>

#include "jit/toolchain.h"
#include "tests/support/encode_proof.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {

TEST_CASE("GPU encodes all 2^32 f32 values to each float of 4 to 8 bits as its definition says") {
  Options options;
  options.cache_enabled = false;
  Toolchain toolchain(options, [](std::string_view) {});
  const auto device = toolchain.open_device("cuda");
  constexpr std::uint64_t kChunk = std::uint64_t{1} << 28;  // 1 GiB of inputs
  for (const Target& target : {device->native_target(), make_cuda_target(86)}) {
    const std::vector<FormatId> formats = test::narrow_floats();
    const test::CheckResult result =
        test::check_all_f32({toolchain.engine(), *device, target}, formats, kChunk);
    INFO(target.name() << ": " << result.first_problem);
    CHECK(result.wrong == 0);
    CHECK(result.values == static_cast<std::int64_t>(formats.size()) * 2 << 32);
  }
}

}  // namespace ktjit
