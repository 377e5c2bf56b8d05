// Every PTX instruction that the simulator models, on a real GPU.
#include "tests/gpu/ptx_conformance.h"

#include <catch2/catch.hpp>
#include <cstdio>

#include "jit/toolchain.h"

namespace ktjit {

TEST_CASE("GPU executes every modelled PTX instruction as its model says") {
  Options options;
  options.cache_enabled = false;
  Toolchain toolchain(options, [](std::string_view) {});
  const auto device = toolchain.open_device("cuda");
  const Target target = device->native_target();
  Compiler* nvrtc = nullptr;
  for (const auto& compiler : toolchain.engine().compilers())
    if (nvrtc == nullptr && compiler->serves(target, ArtifactKind::kCubin)) nvrtc = compiler.get();
  REQUIRE(nvrtc != nullptr);

  int agree = 0, differ = 0, not_here = 0, unproved = 0, in_kernels = 0;
  long long compared = 0;
  for (const runtime::PtxInstruction& entry : runtime::all_ptx_instructions()) {
    const std::string name(entry.opcode);
    if (!entry.proved_in_kernels.empty()) {
      ++in_kernels;
      continue;
    }
    if (!entry.exists_on(target)) {
      if (!entry.unproved.empty()) {
        std::printf("unproved: %s: %s\n", name.c_str(), std::string(entry.unproved).c_str());
        ++unproved;
      } else {
        INFO(name << " is not unproved, but " << target.name() << " doesn't have it");
        CHECK(target.sm < 90);  // an older GPU proves less
        ++not_here;
      }
      continue;
    }
    INFO(name << " with " << entry.operands << " operands");
    try {
      const test::PtxCheckResult check =
          test::check_ptx_instruction(entry, {*nvrtc, *device, target});
      compared += check.compared;
      INFO(check.wrong << " of " << check.compared << " differ: " << check.first_problem);
      CHECK(check.wrong == 0);
      CHECK(check.compared >= 0x10000);
      ++(check.wrong == 0 ? agree : differ);
    } catch (const std::exception& error) {
      FAIL_CHECK(error.what());
      ++differ;
    }
  }
  std::printf(
      "%s: %d PTX instructions agree with their models in %lld results, %d differ, "
      "%d don't exist there, %d are unproved, %d are proved by kernels only\n",
      target.name().c_str(), agree, compared, differ, not_here, unproved, in_kernels);
  CHECK(agree + differ + not_here + unproved + in_kernels ==
        static_cast<int>(runtime::all_ptx_instructions().size()));
  CHECK(differ == 0);
}

}  // namespace ktjit
