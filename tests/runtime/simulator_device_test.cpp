// The simulator's memory and what it refuses; kernels are run by tests/jit/simulator_test.cpp.
#include "runtime/simulator_device.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "runtime/simulator_memory.h"

namespace ktjit::runtime {

using Catch::Matchers::Contains;

TEST_CASE("the simulator's memory knows live buffers by exact size, and freed ones") {
  simulator::Memory memory;
  const std::uint64_t a = memory.allocate(100);
  const std::uint64_t empty = memory.allocate(0);
  CHECK(a % 256 == 0);
  REQUIRE(memory.find(a));
  CHECK(memory.find(a + 99)->begin == a);
  CHECK_FALSE(memory.find(a + 100));
  CHECK(memory.find(empty)->bytes == 0);
  CHECK(memory.live().size() == 2);
  CHECK_FALSE(memory.find_freed(a));

  memory.free(a);
  CHECK_FALSE(memory.find(a));
  REQUIRE(memory.find_freed(a + 99));
  CHECK(memory.find_freed(a + 99)->bytes == 100);
  CHECK_FALSE(memory.find_freed(a + 100));
  memory.free(empty);
}

TEST_CASE("a range holds what lies in it whole") {
  const simulator::MemoryRange range{1000, 16};
  CHECK(range.holds(1000, 16));
  CHECK(range.holds(1015, 1));
  CHECK_FALSE(range.holds(1001, 16));
  CHECK_FALSE(range.holds(999, 1));
  CHECK_FALSE(range.holds(1016, 1));
  CHECK_FALSE(range.holds(1000, ~std::uint64_t{0}));
}

TEST_CASE("the simulator loads simulator objects of CUDA targets only") {
  const auto device = make_simulator_device(make_tbb_executor(1));
  CHECK(device->name() == "sim");
  CHECK(device->native_target().name() == "sm_86");
  std::string reason;
  for (const char* target : {"sm_60", "sm_86", "sm_90a", "sm_121a"})
    CHECK(device->can_load(parse_target(target, {}), ArtifactKind::kSimulatorObject, &reason));
  CHECK_FALSE(device->can_load(make_cuda_target(86), ArtifactKind::kCubin, &reason));
  CHECK(reason == "the simulator loads simulator objects, not cubin");
  CHECK_FALSE(device->can_load(parse_target("cpu", {}), ArtifactKind::kSimulatorObject, &reason));
  CHECK(reason == "the simulator does not run code for cpu");

  Artifact artifact;
  artifact.kind = ArtifactKind::kSimulatorObject;
  artifact.entry_name = "k";
  artifact.bytes.resize(64);
  CHECK_THROWS_WITH(device->load(artifact), Contains("not an ELF file"));
}

TEST_CASE("the simulator's buffers hold what was uploaded, and nothing is borrowed") {
  const auto device = make_simulator_device(make_tbb_executor(1));
  const auto stream = device->make_stream();
  const auto buffer = device->allocate(8);
  device->fill(*stream, *buffer, std::byte{7});
  const std::vector<std::byte> part(3, std::byte{9});
  device->upload(*stream, part, *buffer, 5);
  std::vector<std::byte> got(8);
  device->download(*stream, *buffer, 0, got);
  CHECK(got[4] == std::byte{7});
  CHECK(got[5] == std::byte{9});
  CHECK(device->try_borrow(part) == nullptr);
}

}  // namespace ktjit::runtime
