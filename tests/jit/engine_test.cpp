// The main path with a fake compiler and a fake device: what is compiled when, and what is kept.
#include "jit/engine.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/jit/fake_toolchain.h"
#include "tests/jit/scratch_folder.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

using test::FakeCompiler;
using test::FakeDevice;

struct Bench {
  test::ScratchFolder folder;
  std::shared_ptr<FakeCompiler> compiler = std::make_shared<FakeCompiler>();
  FakeDevice device;

  Engine make_engine() {
    cache::DiskCacheOptions options;
    options.writable = cache::RootOptions{(folder.path() / "cache").string()};
    return Engine({compiler}, options);
  }
};

KernelSpec q8_dequant(const Target& target) {
  return test::make_spec(Op::kDequant, "q8_0", 512, target);
}

}  // namespace

TEST_CASE("a kernel is compiled once, then comes from memory, then from disk") {
  Bench bench;
  const KernelSpec spec = q8_dequant(make_cuda_target(90, "a"));
  {
    Engine engine = bench.make_engine();
    CHECK(engine.build(spec, ArtifactKind::kCubin).origin == cache::Origin::kMade);
    CHECK(engine.build(spec, ArtifactKind::kCubin).origin == cache::Origin::kMemory);
  }
  Engine engine = bench.make_engine();
  const BuiltKernel built = engine.build(spec, ArtifactKind::kCubin);
  CHECK(built.origin == cache::Origin::kDisk);
  CHECK(bench.compiler->compiles == 1);
  CHECK(built.artifact.resources.registers == 40);
  CHECK(built.artifact.compile_ms == 1.5);
  CHECK(built.artifact.log == "fine");
  CHECK(built.artifact.entry_name == built.emitted.entry_name);
  CHECK(built.compiler == "fake 1");
}

TEST_CASE("another spec, target, kind or compiler version is another kernel") {
  Bench bench;
  Engine engine = bench.make_engine();
  const Target sm_90a = make_cuda_target(90, "a");
  int expected = 0;
  const auto builds = [&](const KernelSpec& spec, ArtifactKind kind) {
    engine.build(spec, kind);
    CHECK(bench.compiler->compiles == ++expected);
  };
  KernelSpec spec = q8_dequant(sm_90a);
  builds(spec, ArtifactKind::kCubin);
  builds(spec, ArtifactKind::kPtx);
  spec.layout.cols = 1024;
  builds(spec, ArtifactKind::kCubin);
  spec.y_format = FormatId::kF16;
  builds(spec, ArtifactKind::kCubin);
  spec.target = make_cuda_target(90);
  builds(spec, ArtifactKind::kCubin);
  spec.target = make_cpu_target("native", {"avx"});
  builds(spec, ArtifactKind::kSharedObject);
  spec.target = make_cpu_target("native", {"avx", "avx2"});
  builds(spec, ArtifactKind::kSharedObject);
  bench.compiler->version = "2";
  builds(spec, ArtifactKind::kSharedObject);
}

TEST_CASE("another GPU's code goes through PTX and the driver, and the result is cached") {
  Bench bench;
  const KernelSpec spec = q8_dequant(make_cuda_target(86));
  {
    Engine engine = bench.make_engine();
    CHECK_FALSE(engine.load(bench.device, spec).built.from_cache());
    CHECK(engine.describe_route(bench.device, spec.target).find("PTX") != std::string::npos);
  }
  Engine engine = bench.make_engine();
  CHECK(engine.load(bench.device, spec).built.from_cache());
  CHECK(bench.device.links == 1);
  CHECK(bench.compiler->compiles == 1);
}

TEST_CASE(
    "where no compiler makes machine code for the device's own target, PTX and the driver do") {
  Bench bench;
  bench.compiler->makes_cubins = false;
  Engine engine = bench.make_engine();
  CHECK(engine.describe_route(bench.device, make_cuda_target(90)).find("PTX") != std::string::npos);
  CHECK(engine.load(bench.device, q8_dequant(make_cuda_target(90))).built.artifact.kind ==
        ArtifactKind::kCubin);
  CHECK(bench.device.links == 1);
}

TEST_CASE("a target that the device can't run is refused with the reason") {
  Bench bench;
  Engine engine = bench.make_engine();
  CHECK_THROWS_WITH(engine.load(bench.device, q8_dequant(make_cuda_target(120))),
                    Catch::Contains("cuda:0 can't run sm_120 code: it is a fake"));
  CHECK_THROWS_AS(engine.describe_route(bench.device, make_cuda_target(120)), ToolchainError);
}

TEST_CASE("a target without a compiler is refused, with what was looked at") {
  Bench bench;
  Engine engine = bench.make_engine();
  CHECK_THROWS_WITH(
      engine.build(q8_dequant(make_cuda_target(61)), ArtifactKind::kCubin),
      Catch::Contains("no compiler makes cubin for sm_61") && Catch::Contains("fake 1"));
}

TEST_CASE("a cached kernel that the device refuses is made again, once") {
  Bench bench;
  const KernelSpec spec = q8_dequant(make_cuda_target(90, "a"));
  bench.make_engine().load(bench.device, spec);
  Engine engine = bench.make_engine();
  bench.device.refuse_next_loads = 1;
  CHECK_FALSE(engine.load(bench.device, spec).built.from_cache());
  CHECK(bench.compiler->compiles == 2);
  bench.device.refuse_next_loads = 2;
  CHECK_THROWS_AS(engine.load(bench.device, spec), DriverError);
}

TEST_CASE("dependent launches that the driver lacks are refused at load, before a compile") {
  Bench bench;
  Engine engine = bench.make_engine();
  KernelSpec spec = q8_dequant(make_cuda_target(90, "a"));
  spec.dependent_launch = true;
  bench.device.driver_is_old = true;
  CHECK_THROWS_WITH(engine.load(bench.device, spec), Catch::Contains("cuLaunchKernelEx"));
  CHECK(engine.cache_stats().made == 0);
  bench.device.driver_is_old = false;
  CHECK(engine.load(bench.device, spec).built.emitted.launch.dependent_launch);
}

TEST_CASE("many kernels load on several threads, results in order, progress counted") {
  Bench bench;
  Engine engine = bench.make_engine();
  std::vector<KernelSpec> specs;
  for (int i = 1; i <= 20; ++i) {
    specs.push_back(test::make_spec(Op::kMatvec, "q8_0", 32 * i, make_cuda_target(90, "a")));
  }
  std::vector<std::size_t> seen;
  const auto loaded = engine.load_all(bench.device, specs, 4, [&](const BuildProgress& build) {
    CHECK(build.total == 20);
    CHECK(build.cached == 0);
    seen.push_back(build.done);
  });
  REQUIRE(loaded.size() == 20);
  for (std::size_t i = 0; i < loaded.size(); ++i) CHECK(loaded[i].built.spec == specs[i]);
  CHECK(seen.size() == 21);  // once before the first compile
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(bench.compiler->compiles == 20);
}

TEST_CASE("an error of one kernel reaches the caller of load_all") {
  Bench bench;
  Engine engine = bench.make_engine();
  std::vector<KernelSpec> specs(8, q8_dequant(make_cuda_target(90, "a")));
  specs[5].layout.cols = 33;
  CHECK_THROWS_AS(engine.load_all(bench.device, specs, 3), SpecError);
}

}  // namespace ktjit
