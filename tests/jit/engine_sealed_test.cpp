// Sealed engines: what is found, by whom it may have been compiled, and what a missing kernel says.
#include <catch2/catch.hpp>

#include "core/missing_kernel_error.h"
#include "jit/engine.h"
#include "tests/jit/fake_toolchain.h"
#include "tests/jit/scratch_folder.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

using Catch::Matchers::Contains;
using test::FakeCompiler;
using test::FakeDevice;

/// Not opened, not started, not asked to compile.
class UntouchedCompiler : public FakeCompiler {
 public:
  Artifact compile(const CompileRequest& request) override {
    FAIL("asked to compile " << request.entry_name);
    return {};
  }
};

struct Bench {
  test::ScratchFolder folder;
  FakeDevice device;

  std::string cache_path() const { return (folder.path() / "cache").string(); }

  std::unique_ptr<Engine> make_engine(std::vector<std::shared_ptr<Compiler>> compilers,
                                      EngineOptions options = {}) const {
    cache::DiskCacheOptions cache;
    cache.writable = cache::RootOptions{cache_path()};
    return std::make_unique<Engine>(std::move(compilers), cache, std::vector<std::string>{},
                                    options);
  }
  std::unique_ptr<Engine> make_sealed(EngineOptions options = {}) const {
    options.sealed = true;
    return make_engine({std::make_shared<UntouchedCompiler>()}, options);
  }
  /// Compiles with a compiler of this version, which makes PTX alone or cubins too.
  void fill(const KernelSpec& spec, const std::string& version, bool through_driver = false) {
    auto compiler = std::make_shared<FakeCompiler>();
    compiler->version = version;
    compiler->makes_cubins = !through_driver;
    if (through_driver) {
      make_engine({compiler})->build_for(device, spec);
    } else {
      make_engine({compiler})->build(spec, ArtifactKind::kCubin);
    }
  }
};

KernelSpec q8_dequant(int sm, const char* suffix = "") {
  return test::make_spec(Op::kDequant, "q8_0", 512, make_cuda_target(sm, suffix));
}

}  // namespace

TEST_CASE("a sealed engine finds a kernel whoever compiled it, and compiles nothing") {
  Bench bench;
  bench.fill(q8_dequant(90, "a"), "of long ago");
  const auto engine = bench.make_sealed();
  const LoadedKernel loaded = engine->load(bench.device, q8_dequant(90, "a"));
  CHECK(loaded.built.compiler == "fake of long ago");
  CHECK(loaded.built.origin == cache::Origin::kDisk);
  CHECK(engine->build(q8_dequant(90, "a"), ArtifactKind::kCubin).from_cache());
  CHECK(engine->describe_route(bench.device, make_cuda_target(90, "a")) ==
        "sm_90a code from the cache and packs, sealed");
}

TEST_CASE("of several compilers' kernels a sealed engine takes the one it would have used") {
  Bench bench;
  const KernelSpec spec = q8_dequant(90, "a");
  for (const char* version : {"7", "1", "3"}) bench.fill(spec, version);
  const auto chosen = [&](std::vector<std::string> preferred) {
    std::vector<std::shared_ptr<Compiler>> compilers;
    for (const std::string& version : preferred) {
      compilers.push_back(std::make_shared<UntouchedCompiler>());
      static_cast<UntouchedCompiler&>(*compilers.back()).version = version;
    }
    EngineOptions options;
    options.sealed = true;
    return bench.make_engine(compilers, options)->build(spec, ArtifactKind::kCubin).compiler;
  };
  CHECK(chosen({"3", "1"}) == "fake 3");
  CHECK(chosen({"none such", "1", "3"}) == "fake 1");
  CHECK(chosen({}) == chosen({}));
}

TEST_CASE("a missing kernel is an error that names kernel, target, key, places, targets and cure") {
  Bench bench;
  bench.fill(q8_dequant(86), "1");
  bench.fill(q8_dequant(75), "1");
  const auto engine = bench.make_sealed();
  try {
    engine->build(q8_dequant(90, "a"), ArtifactKind::kCubin);
    FAIL("it is not there");
  } catch (const MissingKernelError& error) {
    CHECK(error.missing().kernel == "dequant_q8_0_y_f32_c512");
    CHECK(error.missing().target == "sm_90a");
    CHECK(error.missing().kind == "cubin");
    CHECK(error.missing().request_digest.size() == 32);
    CHECK(error.missing().looked_in == std::vector<std::string>{bench.cache_path()});
    CHECK(error.missing().other_targets == std::vector<std::string>{"sm_75", "sm_86"});
    CHECK_THAT(error.what(), Contains("dequant_q8_0_y_f32_c512 for sm_90a") &&
                                 Contains(error.missing().request_digest) &&
                                 Contains(bench.cache_path()) && Contains("sm_75, sm_86") &&
                                 Contains("ktjit build MODEL --target sm_90a --pack FILE"));
  }
}

TEST_CASE("load_all of a sealed engine gives what is there, or the error of what isn't") {
  Bench bench;
  std::vector<KernelSpec> specs;
  for (int i = 1; i <= 5; ++i) {
    specs.push_back(test::make_spec(Op::kMatvec, "q8_0", 32 * i, make_cuda_target(90, "a")));
    bench.fill(specs.back(), "1");
  }
  const auto engine = bench.make_sealed();
  BuildProgress last;
  CHECK(
      engine->load_all(bench.device, specs, 2, [&](const BuildProgress& b) { last = b; }).size() ==
      5);
  CHECK(last.cached == 5);
  specs.push_back(q8_dequant(90, "a"));
  CHECK_THROWS_AS(engine->load_all(bench.device, specs, 2), MissingKernelError);
}

TEST_CASE("a sealed engine without a cache looked nowhere") {
  EngineOptions options;
  options.sealed = true;
  Engine engine({}, cache::DiskCacheOptions{}, {}, options);
  CHECK_THROWS_WITH(engine.build(q8_dequant(86), ArtifactKind::kCubin),
                    Contains("nothing, no cache is in use"));
}

TEST_CASE("the caller's generic kernel takes the place of a missing one, if that is there") {
  Bench bench;
  const KernelSpec generic = q8_dequant(90, "a");
  bench.fill(generic, "1");
  KernelSpec special = generic;
  special.y_format = FormatId::kF16;
  KernelSpec asked_for;
  EngineOptions options;
  options.generic_kernel = [&](const KernelSpec& missing) -> std::optional<KernelSpec> {
    asked_for = missing;
    return generic;
  };
  const auto engine = bench.make_sealed(options);
  const LoadedKernel loaded = engine->load(bench.device, special);
  CHECK(asked_for == special);
  CHECK(loaded.built.spec == generic);
  CHECK(loaded.built.emitted.entry_name == "dequant_q8_0_y_f32_c512");

  options.generic_kernel = [](const KernelSpec& missing) { return std::optional(missing); };
  CHECK_THROWS_AS(bench.make_sealed(options)->load(bench.device, special), MissingKernelError);
  options.generic_kernel = [](const KernelSpec&) { return std::nullopt; };
  CHECK_THROWS_AS(bench.make_sealed(options)->load(bench.device, special), MissingKernelError);
}

TEST_CASE("a kernel that this device's driver linked is found, another driver's is not") {
  Bench bench;
  bench.fill(q8_dequant(86), "1", /*through_driver=*/true);
  CHECK(bench.device.links == 1);
  CHECK(bench.make_sealed()->load(bench.device, q8_dequant(86)).built.artifact.kind ==
        ArtifactKind::kCubin);
  CHECK(bench.device.links == 1);

  class OtherDriver : public FakeDevice {
    std::optional<std::string> linker_identity() const override { return "driver 2"; }
  } other;
  CHECK_THROWS_AS(bench.make_sealed()->load(other, q8_dequant(86)), MissingKernelError);
}

TEST_CASE("a sealed engine doesn't replace a kernel that the device refuses") {
  Bench bench;
  bench.fill(q8_dequant(90, "a"), "1");
  const auto engine = bench.make_sealed();
  bench.device.refuse_next_loads = 1;
  CHECK_THROWS_AS(engine->load(bench.device, q8_dequant(90, "a")), DriverError);
  CHECK_NOTHROW(engine->load(bench.device, q8_dequant(90, "a")));  // and it is still there
}

TEST_CASE("a target that the device can't run is refused sealed as well") {
  Bench bench;
  CHECK_THROWS_AS(bench.make_sealed()->load(bench.device, q8_dequant(120)), ToolchainError);
}

TEST_CASE("without a compiler for a target an engine that isn't sealed takes what is there") {
  Bench bench;
  bench.fill(q8_dequant(90, "a"), "1");
  const auto engine = bench.make_engine({});
  CHECK(engine->load(bench.device, q8_dequant(90, "a")).built.from_cache());
  CHECK_THROWS_WITH(engine->load(bench.device, q8_dequant(90)),
                    Contains("no compiler makes cubin for sm_90"));
}

TEST_CASE("a compiler whose program is missing is no compiler: what is there serves, else its error") {
  Bench bench;
  const KernelSpec spec = q8_dequant(90, "a");
  const auto absent = std::make_shared<UntouchedCompiler>();
  absent->present = false;
  CHECK_THROWS_WITH(bench.make_engine({absent})->load(bench.device, spec),
                    Contains("the fake's program is missing"));
  bench.fill(spec, "of long ago");
  CHECK(bench.make_engine({absent})->load(bench.device, spec).built.compiler == "fake of long ago");
}

TEST_CASE("machine code that is there comes before what a driver would have to link") {
  Bench bench;
  const KernelSpec spec = q8_dequant(90, "a");
  bench.fill(spec, "of long ago");
  const auto makes_ptx = std::make_shared<UntouchedCompiler>();
  makes_ptx->makes_cubins = false;
  const auto engine = bench.make_engine({makes_ptx});
  CHECK(engine->load(bench.device, spec).built.compiler == "fake of long ago");
  const KernelSpec specs[] = {spec};
  CHECK(engine->load_all(bench.device, specs, 1).front().built.from_cache());
  CHECK(bench.device.links == 0);
}

TEST_CASE("a damaged kernel is missing in sealed mode, not served") {
  Bench bench;
  bench.fill(q8_dequant(90, "a"), "1");
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(bench.folder.path() / "cache")) {
    if (file.path().extension() == ".ktk") std::filesystem::resize_file(file, file.file_size() - 1);
  }
  CHECK_THROWS_AS(bench.make_sealed()->load(bench.device, q8_dequant(90, "a")), MissingKernelError);
}

}  // namespace ktjit
