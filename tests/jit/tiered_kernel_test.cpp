// Kernels with a quick first version: what comes when, who hears of errors, and who ends what.
#include "jit/tiered_kernel.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <mutex>
#include <thread>
#include <vector>

#include "core/interrupted_error.h"
#include "core/missing_kernel_error.h"
#include "jit/engine.h"
#include "tests/jit/fake_toolchain.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

class FakeStream : public runtime::Stream {
 public:
  void synchronize() override {}
};

KernelSpec spec_of(Op op, std::int64_t cols = 512) {
  return test::make_spec(op, "q8_0", cols, make_cuda_target(90, "a"));
}

struct Bench {
  test::Gate quick_gate, full_gate;
  std::mutex mutex;
  std::vector<std::string> order;  ///< of compiles: "quick matmul", "full dequant"
  std::shared_ptr<test::FakeCompiler> compiler = std::make_shared<test::FakeCompiler>();
  std::shared_ptr<test::FakeDevice> device = std::make_shared<test::FakeDevice>();
  std::unique_ptr<Engine> engine;
  FakeStream stream;

  explicit Bench(int threads = 1, bool sealed = false) {
    compiler->has_quick = true;
    compiler->on_compile = [this](const CompileRequest& request) {
      const bool quick = request.quality == Quality::kQuick;
      {
        const std::lock_guard lock(mutex);
        const std::string& entry = request.entry_name;
        order.push_back((quick ? "quick " : "full ") + entry.substr(0, entry.find('_')));
      }
      (quick ? quick_gate : full_gate).pass(request.stop);
    };
    EngineOptions options;
    options.threads = threads;
    options.sealed = sealed;
    engine =
        std::make_unique<Engine>(std::vector<std::shared_ptr<Compiler>>{compiler},
                                 cache::DiskCacheOptions{}, std::vector<std::string>{}, options);
  }
  KernelFuture start(Op op = Op::kMatmul, std::int64_t cols = 512) {
    return engine->load_async(device, spec_of(op, cols), Tiers::kQuickFirst);
  }
  void launch(const LoadedKernel& kernel) {
    constexpr std::array<std::uint64_t, 5> kArguments = {};
    kernel.launch(stream, 1, kArguments, 1);
  }
};

using Order = std::vector<std::string>;

}  // namespace

TEST_CASE(
    "a future is ready with the quick version, and launches take the full one when it is there") {
  Bench bench;
  const KernelFuture future = bench.start();
  bench.quick_gate.open();
  const LoadedKernel& kernel = future.get();
  CHECK_FALSE(kernel.is_full());
  CHECK_FALSE(future.is_full());
  CHECK(kernel.current().built.quality == Quality::kQuick);
  bench.launch(kernel);
  CHECK(bench.device->quick_launches == 1);
  CHECK(bench.device->full_launches == 0);
  bench.full_gate.open();
  future.wait_full();
  CHECK(future.is_full());
  CHECK(kernel.is_full());
  CHECK(kernel.current().built.quality == Quality::kFull);
  bench.launch(kernel);
  CHECK(bench.device->quick_launches == 1);
  CHECK(bench.device->full_launches == 1);
  CHECK(bench.order == Order{"quick matmul", "full matmul"});
}

TEST_CASE("only quick versions have the quality in their key; full ones keep theirs") {
  Bench bench;
  bench.quick_gate.open();
  bench.full_gate.open();
  const KernelFuture future = bench.start();
  future.wait_full();
  const cache::CacheKey& quick = future.get().built.key;
  const cache::CacheKey& full = future.get().current().built.key;
  REQUIRE(quick.request.find("quality") != nullptr);
  CHECK(*quick.request.find("quality") == "quick");
  REQUIRE(quick.compiler.find("quick-option") != nullptr);
  CHECK(*quick.compiler.find("quick-option") == "--quick");
  CHECK(full.request.find("quality") == nullptr);
  CHECK(full.compiler.find("quick-option") == nullptr);
  CHECK(full.request_digest() != quick.request_digest());
  const cache::CacheKey asked = bench.engine->key_for(spec_of(Op::kMatmul), ArtifactKind::kCubin);
  CHECK(full.artifact_digest() == asked.artifact_digest());
}

TEST_CASE("a full version that the cache has is taken at once, and nothing quick is made") {
  Bench bench;
  bench.full_gate.open();
  bench.engine->load(*bench.device, spec_of(Op::kMatmul));
  const KernelFuture future = bench.start();
  CHECK(future.get().is_full());
  future.wait_full();
  CHECK(bench.order == Order{"full matmul"});
}

TEST_CASE("a quick version that the cache has is not compiled again") {
  Bench bench;
  bench.quick_gate.open();
  {
    const KernelFuture future = bench.start();
    future.wait();
  }
  const KernelFuture again = bench.start();
  CHECK_FALSE(again.get().is_full());
  bench.full_gate.open();
  again.wait_full();
  CHECK(std::count(bench.order.begin(), bench.order.end(), "quick matmul") == 1);
}

TEST_CASE("where a quick version is no gain the full one is made at once") {
  Bench bench;
  bench.full_gate.open();
  const KernelFuture future = bench.start(Op::kDequant);
  CHECK(future.get().is_full());
  CHECK(future.is_full());
  CHECK(bench.order == Order{"full dequant"});
}

TEST_CASE("full versions wait until every kernel has a first one") {
  Bench bench;
  const KernelFuture first = bench.start();
  bench.quick_gate.wait_for(1);  // holds the only thread
  const KernelFuture second = bench.start(Op::kMatmul, 1024);
  const KernelFuture third = bench.start(Op::kDequant);
  bench.full_gate.open();
  bench.quick_gate.open();
  for (const KernelFuture* future : {&first, &second, &third}) future->wait_full();
  CHECK(bench.order ==
        Order{"quick matmul", "quick matmul", "full dequant", "full matmul", "full matmul"});
}

TEST_CASE("an error of the quick version is the future's") {
  Bench bench;
  bench.compiler->on_compile = [](const CompileRequest& request) {
    if (request.quality == Quality::kQuick)
      throw CompileError(request.entry_name, "fake", "--quick", "", "refused");
  };
  const KernelFuture future = bench.start();
  CHECK_THROWS_AS(future.get(), CompileError);
  CHECK_THROWS_AS(future.wait_full(), CompileError);
  CHECK_FALSE(future.is_full());
}

TEST_CASE("an error of the full version is told by wait_full alone, and the quick one goes on") {
  Bench bench;
  bench.compiler->on_compile = [](const CompileRequest& request) {
    if (request.quality == Quality::kFull)
      throw CompileError(request.entry_name, "fake", "", "", "refused");
  };
  const KernelFuture future = bench.start();
  CHECK_THROWS_AS(future.wait_full(), CompileError);
  CHECK_THROWS_AS(future.get().wait_full(), CompileError);
  CHECK_FALSE(future.is_full());
  bench.launch(future.get());
  CHECK(bench.device->quick_launches == 1);
}

TEST_CASE("cancelling a kernel that is ready keeps its quick version for good") {
  Bench bench;
  bench.quick_gate.open();
  const KernelFuture future = bench.start();
  future.wait();
  bench.full_gate.wait_for(1);
  future.cancel();
  CHECK_THROWS_AS(future.wait_full(), InterruptedError);
  CHECK_FALSE(future.get().is_full());
  bench.launch(future.get());
  CHECK(bench.device->quick_launches == 1);
}

TEST_CASE("cancelling during the quick version's compile leaves nothing under way") {
  Bench bench;
  const KernelFuture future = bench.start();
  bench.quick_gate.wait_for(1);
  future.cancel();
  CHECK_THROWS_AS(future.get(), InterruptedError);
  CHECK_THROWS_AS(future.wait_full(), InterruptedError);
  CHECK(bench.order == Order{"quick matmul"});
}

TEST_CASE("the full version goes on while somebody has the kernel, and ends with it") {
  Bench bench;
  bench.quick_gate.open();
  LoadedKernel kept;
  {
    const KernelFuture future = bench.start();
    kept = future.get();
  }
  bench.full_gate.wait_for(1);
  SECTION("kept") {
    bench.full_gate.open();
    kept.wait_full();
    CHECK(kept.is_full());
  }
  SECTION("given up: the stop alone ends the compile, and with it the device") {
    std::weak_ptr<test::FakeDevice> device = bench.device;
    kept = {};
    bench.device.reset();
    while (!device.expired()) std::this_thread::yield();
    CHECK(bench.order == Order{"quick matmul", "full matmul"});
  }
}

TEST_CASE("an engine that ends cancels full versions, and the quick ones live on") {
  Bench bench;
  bench.quick_gate.open();
  const KernelFuture under_way = bench.start();
  under_way.wait();
  bench.full_gate.wait_for(1);
  bench.engine.reset();
  CHECK_THROWS_AS(under_way.wait_full(), InterruptedError);
  bench.launch(under_way.get());
  CHECK(bench.device->quick_launches == 1);
}

TEST_CASE("a sealed engine makes no quick version") {
  Bench bench(1, true);
  CHECK_THROWS_AS(bench.start().get(), MissingKernelError);
  CHECK(bench.order.empty());
}

TEST_CASE("a stop ends the wait for the full version, not its compile") {
  Bench bench;
  bench.quick_gate.open();
  const KernelFuture future = bench.start();
  std::stop_source stop;
  std::thread waiter(
      [&] { CHECK_THROWS_AS(future.wait_full(stop.get_token()), InterruptedError); });
  bench.full_gate.wait_for(1);
  stop.request_stop();
  waiter.join();
  bench.full_gate.open();
  future.wait_full();
  CHECK(future.is_full());
}

TEST_CASE("launches from many threads go on while the version changes") {
  Bench bench;
  bench.quick_gate.open();
  const KernelFuture future = bench.start();
  const LoadedKernel& kernel = future.get();
  std::vector<std::thread> launchers;
  std::atomic<int> launches{0};
  for (int i = 0; i < 4; ++i) {
    launchers.emplace_back([&] {
      int after = 0;
      while (after < 100) {
        if (kernel.is_full()) ++after;
        bench.launch(kernel);
        ++launches;
      }
    });
  }
  while (bench.device->quick_launches < 100) std::this_thread::yield();
  bench.full_gate.open();
  for (std::thread& launcher : launchers) launcher.join();
  CHECK(bench.device->full_launches >= 400);
  CHECK(bench.device->quick_launches + bench.device->full_launches == launches);
}

}  // namespace ktjit
