// Builds of many kernels with a fake compiler: what comes first, what is compiled at all, and what a
// stop leaves.
#include <algorithm>
#include <catch2/catch.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/interrupted_error.h"
#include "jit/engine.h"
#include "tests/jit/fake_toolchain.h"
#include "tests/jit/scratch_folder.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

struct Bench {
  test::ScratchFolder folder;
  std::shared_ptr<test::FakeCompiler> compiler = std::make_shared<test::FakeCompiler>();

  std::unique_ptr<Engine> make_engine() {
    cache::DiskCacheOptions options;
    options.writable = cache::RootOptions{(folder.path() / "cache").string()};
    return std::make_unique<Engine>(std::vector<std::shared_ptr<Compiler>>{compiler}, options);
  }
};

std::vector<KernelSpec> specs_of_all_ops() {
  const Target target = make_cuda_target(90, "a");
  std::vector<KernelSpec> specs;
  for (const char* format : {"q8_0", "fp8_e4m3"}) {
    for (const Op op : {Op::kDequant, Op::kMatvec, Op::kMatmul})
      specs.push_back(test::make_spec(op, format, 512, target));
  }
  return specs;
}

/// The order in which compiles begin, as kernel names.
std::vector<std::string> compile_order(Bench& bench, const std::vector<KernelSpec>& specs) {
  std::vector<std::string> order;
  bench.compiler->on_compile = [&](const CompileRequest& request) {
    order.push_back(request.entry_name);
  };
  bench.make_engine()->build_all(specs, ArtifactKind::kCubin, 1);
  bench.compiler->on_compile = nullptr;
  return order;
}

}  // namespace

TEST_CASE("what is guessed to be slowest is compiled first, results stay in the caller's order") {
  Bench bench;
  const std::vector<KernelSpec> specs = specs_of_all_ops();
  const std::vector<std::string> order = compile_order(bench, specs);
  REQUIRE(order.size() == 6);
  CHECK(order[0].starts_with("matmul_fp8_e4m3"));
  CHECK(order[1].starts_with("matmul_q8_0"));
  CHECK(order[2].starts_with("matvec_"));
  CHECK(order[3].starts_with("matvec_"));
  CHECK(order[5].starts_with("dequant_"));
  const auto built = bench.make_engine()->build_all(specs, ArtifactKind::kCubin, 2);
  for (std::size_t i = 0; i < specs.size(); ++i) CHECK(built[i].spec == specs[i]);
}

TEST_CASE("a remembered time counts more than a guess") {
  Bench bench;
  bench.compiler->compile_ms_of = [](const CompileRequest& request) {
    return request.entry_name.starts_with("dequant_q8_0") ? 9999.0 : 1.0;
  };
  const auto engine = bench.make_engine();
  engine->build_all(specs_of_all_ops(), ArtifactKind::kCubin, 1);

  std::vector<KernelSpec> others = specs_of_all_ops();
  for (KernelSpec& spec : others)
    spec = test::make_spec(spec.op, get_format(spec.weight).name, 1024, spec.target);
  std::vector<std::string> order;
  bench.compiler->on_compile = [&](const CompileRequest& request) {
    order.push_back(request.entry_name);
  };
  engine->build_all(others, ArtifactKind::kCubin, 1);
  REQUIRE(order.size() == 6);
  CHECK(order[0].starts_with("dequant_q8_0"));
}

TEST_CASE("kernels that are cached are not queued behind compiles") {
  Bench bench;
  std::vector<KernelSpec> specs = specs_of_all_ops();
  bench.make_engine()->build_all(std::span(specs).first(3), ArtifactKind::kCubin, 1);

  std::size_t done_at_first_compile = 0;
  BuildProgress last;
  bench.compiler->on_compile = [&](const CompileRequest&) {
    if (done_at_first_compile == 0) done_at_first_compile = last.done;
  };
  bench.make_engine()->build_all(specs, ArtifactKind::kCubin, 1,
                                 [&](const BuildProgress& build) { last = build; });
  CHECK(done_at_first_compile == 3);
  CHECK(last.done == 6);
  CHECK(last.cached == 3);
}

TEST_CASE("equal specs are compiled and loaded once, and counted once") {
  Bench bench;
  test::FakeDevice device;
  const std::vector<KernelSpec> one = specs_of_all_ops();
  std::vector<KernelSpec> specs = one;
  specs.insert(specs.end(), one.begin(), one.end());
  std::size_t total = 0;
  const auto loaded = bench.make_engine()->load_all(
      device, specs, 3, [&](const BuildProgress& build) { total = build.total; });
  CHECK(bench.compiler->compiles == 6);
  CHECK(total == 6);
  REQUIRE(loaded.size() == 12);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(loaded[i].kernel == loaded[i + 6].kernel);
    CHECK(loaded[i + 6].built.spec == specs[i]);
  }
}

TEST_CASE("each target's own kind is built where none is asked for") {
  Bench bench;
  const std::vector<KernelSpec> specs = {
      test::make_spec(Op::kDequant, "q8_0", 512, make_cuda_target(86)),
      test::make_spec(Op::kDequant, "q8_0", 512, make_cpu_target("native", {"avx"}))};
  const auto built = bench.make_engine()->build_all(specs, std::nullopt, 2);
  CHECK(built[0].artifact.kind == ArtifactKind::kCubin);
  CHECK(built[1].artifact.kind == ArtifactKind::kSharedObject);
}

TEST_CASE("no more kernels are compiled side by side than asked for") {
  Bench bench;
  std::mutex mutex;
  int now = 0;
  int most = 0;
  bench.compiler->on_compile = [&](const CompileRequest&) {
    {
      const std::lock_guard lock(mutex);
      most = std::max(most, ++now);
    }
    std::this_thread::yield();
    const std::lock_guard lock(mutex);
    --now;
  };
  bench.make_engine()->build_all(specs_of_all_ops(), ArtifactKind::kCubin, 2);
  CHECK(most <= 2);
}

TEST_CASE("a stopped build begins no further compile, keeps what is done, and says so") {
  Bench bench;
  const std::vector<KernelSpec> specs = specs_of_all_ops();
  std::stop_source stop;
  bench.compiler->on_compile = [&](const CompileRequest& request) {
    CHECK(request.stop.stop_possible());
    if (bench.compiler->compiles == 2) stop.request_stop();
  };
  CHECK_THROWS_AS(
      bench.make_engine()->build_all(specs, ArtifactKind::kCubin, 1, {}, stop.get_token()),
      InterruptedError);
  CHECK(bench.compiler->compiles == 2);  // the second was under way and may end

  bench.compiler->on_compile = nullptr;
  std::size_t cached = 0;
  bench.make_engine()->build_all(specs, ArtifactKind::kCubin, 1,
                                 [&](const BuildProgress& build) { cached = build.cached; });
  CHECK(cached == 2);
  CHECK(bench.compiler->compiles == 6);
}

TEST_CASE("a compile that ends because of a stop leaves nothing, and the next call compiles") {
  Bench bench;
  const auto engine = bench.make_engine();
  const KernelSpec spec = specs_of_all_ops()[0];
  std::stop_source stop;
  bench.compiler->on_compile = [&](const CompileRequest& request) {
    stop.request_stop();
    throw InterruptedError("the compile of " + request.entry_name);
  };
  CHECK_THROWS_AS(engine->build(spec, ArtifactKind::kCubin, stop.get_token()), InterruptedError);
  bench.compiler->on_compile = nullptr;
  CHECK(engine->build(spec, ArtifactKind::kCubin).origin == cache::Origin::kMade);
}

TEST_CASE("of two callers of one kernel, the one who isn't stopped gets it") {
  Bench bench;
  const auto engine = bench.make_engine();
  const KernelSpec spec = specs_of_all_ops()[0];
  std::stop_source stop;
  bench.compiler->on_compile = [&](const CompileRequest& request) {
    // The first compile goes on until it is stopped.
    while (request.stop.stop_possible() && !request.stop.stop_requested())
      std::this_thread::yield();
    if (request.stop.stop_requested()) throw InterruptedError("the first");
  };
  bool first_was_stopped = false;
  std::thread first([&] {
    try {
      engine->build(spec, ArtifactKind::kCubin, stop.get_token());
    } catch (const InterruptedError&) {
      first_was_stopped = true;
    }
  });
  while (bench.compiler->compiles == 0) std::this_thread::yield();
  std::optional<BuiltKernel> got;
  std::thread second([&] { got = engine->build(spec, ArtifactKind::kCubin); });
  stop.request_stop();
  first.join();
  second.join();
  CHECK(first_was_stopped);
  CHECK(got.has_value());
  CHECK(bench.compiler->compiles == 2);
}

}  // namespace ktjit
