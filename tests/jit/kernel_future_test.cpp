// Loads on threads of the engine's: order, cancellation, and the end of engine, device and future in
// any order.
#include "jit/kernel_future.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "core/interrupted_error.h"
#include "jit/engine.h"
#include "tests/jit/fake_toolchain.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

using test::Gate;

struct Bench {
  Gate gate;
  std::shared_ptr<test::FakeCompiler> compiler = std::make_shared<test::FakeCompiler>();
  std::shared_ptr<test::FakeDevice> device = std::make_shared<test::FakeDevice>();

  Bench() {
    compiler->on_compile = [this](const CompileRequest& request) { gate.pass(request.stop); };
  }
  std::unique_ptr<Engine> make_engine(int threads) {
    EngineOptions options;
    options.threads = threads;
    return std::make_unique<Engine>(std::vector<std::shared_ptr<Compiler>>{compiler},
                                    cache::DiskCacheOptions{}, std::vector<std::string>{}, options);
  }
};

KernelSpec spec_of(Op op, std::int64_t cols = 512) {
  return test::make_spec(op, "q8_0", cols, make_cuda_target(90, "a"));
}

}  // namespace

TEST_CASE("a future gives the kernel to everybody who asks, as often as they ask") {
  Bench bench;
  const auto engine = bench.make_engine(2);
  const KernelFuture future = engine->load_async(bench.device, spec_of(Op::kDequant));
  bench.gate.wait_for(1);
  CHECK_FALSE(future.is_ready());
  std::vector<std::thread> askers;
  std::atomic<int> answers{0};
  for (int i = 0; i < 4; ++i) {
    askers.emplace_back([&] {
      if (future.get().kernel != nullptr) ++answers;
    });
  }
  bench.gate.open();
  for (std::thread& asker : askers) asker.join();
  CHECK(answers == 4);
  CHECK(future.is_ready());
  CHECK(future.get().built.spec == spec_of(Op::kDequant));
}

TEST_CASE("an error of a load reaches who asks for it, each time") {
  Bench bench;
  bench.gate.open();
  const auto engine = bench.make_engine(1);
  KernelSpec wrong = spec_of(Op::kDequant);
  wrong.layout.cols = 33;
  const KernelFuture future = engine->load_async(bench.device, wrong);
  CHECK_THROWS_AS(future.get(), SpecError);
  CHECK_THROWS_AS(future.get(), SpecError);
}

TEST_CASE("what takes longest is loaded first, and no more at a time than there are threads") {
  Bench bench;
  const auto engine = bench.make_engine(1);
  std::vector<std::string> order;
  bench.compiler->on_compile = [&](const CompileRequest& request) {
    order.push_back(request.entry_name);
    bench.gate.pass(request.stop);
  };
  std::vector<KernelFuture> futures;
  futures.push_back(engine->load_async(bench.device, spec_of(Op::kDequant, 1024)));
  bench.gate.wait_for(1);  // holds the only thread
  for (const Op op : {Op::kDequant, Op::kMatvec, Op::kMatmul})
    futures.push_back(engine->load_async(bench.device, spec_of(op)));
  bench.gate.open();
  for (const KernelFuture& future : futures) future.wait();
  REQUIRE(order.size() == 4);
  CHECK(order[1].starts_with("matmul"));
  CHECK(order[2].starts_with("matvec"));
  CHECK(order[3].starts_with("dequant"));
}

TEST_CASE("a load that has not begun is cancelled at once, and never compiled") {
  Bench bench;
  const auto engine = bench.make_engine(1);
  const KernelFuture first = engine->load_async(bench.device, spec_of(Op::kDequant));
  bench.gate.wait_for(1);
  const KernelFuture second = engine->load_async(bench.device, spec_of(Op::kMatvec));
  second.cancel();
  CHECK(second.is_ready());
  CHECK_THROWS_AS(second.get(), InterruptedError);
  bench.gate.open();
  CHECK(first.get().kernel != nullptr);
  CHECK(bench.compiler->compiles == 1);
}

TEST_CASE("a compile under way is told to stop, and the kernel can be asked for again") {
  Bench bench;
  const auto engine = bench.make_engine(1);
  const KernelFuture future = engine->load_async(bench.device, spec_of(Op::kDequant));
  bench.gate.wait_for(1);
  future.cancel();
  CHECK_THROWS_AS(future.get(), InterruptedError);
  bench.gate.open();
  const KernelFuture again = engine->load_async(bench.device, spec_of(Op::kDequant));
  CHECK(again.get().kernel != nullptr);
}

TEST_CASE("cancelling what is ready changes nothing") {
  Bench bench;
  bench.gate.open();
  const auto engine = bench.make_engine(1);
  const KernelFuture future = engine->load_async(bench.device, spec_of(Op::kDequant));
  future.wait();
  future.cancel();
  CHECK(future.get().kernel != nullptr);
}

TEST_CASE("a future that ends first cancels its load, which holds the device until then") {
  Bench bench;
  const auto engine = bench.make_engine(1);
  std::weak_ptr<test::FakeDevice> device = bench.device;
  {
    const KernelFuture future = engine->load_async(bench.device, spec_of(Op::kDequant));
    bench.gate.wait_for(1);
    bench.device.reset();
    CHECK_FALSE(device.expired());
  }
  // Nobody opens the gate: the stop alone ends the load, and with it the device.
  while (!device.expired()) std::this_thread::yield();
  CHECK(bench.compiler->compiles == 1);
}

TEST_CASE("an engine that ends cancels what is left and leaves no thread behind") {
  Bench bench;
  std::vector<KernelFuture> futures;
  {
    const auto engine = bench.make_engine(2);
    for (int i = 1; i <= 8; ++i)
      futures.push_back(engine->load_async(bench.device, spec_of(Op::kDequant, 32 * i)));
    bench.gate.wait_for(1);
  }
  for (const KernelFuture& future : futures) {
    CHECK(future.is_ready());
    CHECK_THROWS_AS(future.get(), InterruptedError);
  }
}

TEST_CASE("assigning to a future cancels what it held") {
  Bench bench;
  const auto engine = bench.make_engine(1);
  KernelFuture future = engine->load_async(bench.device, spec_of(Op::kDequant));
  bench.gate.wait_for(1);
  future = engine->load_async(bench.device, spec_of(Op::kMatvec));
  bench.gate.open();
  CHECK(future.get().built.spec.op == Op::kMatvec);
  future = KernelFuture();
  CHECK_FALSE(future.is_valid());
}

TEST_CASE("loads of one kernel by several futures compile it once") {
  Bench bench;
  const auto engine = bench.make_engine(4);
  std::vector<KernelFuture> futures;
  for (int i = 0; i < 8; ++i)
    futures.push_back(engine->load_async(bench.device, spec_of(Op::kDequant)));
  bench.gate.wait_for(1);
  bench.gate.open();
  for (const KernelFuture& future : futures) CHECK(future.get().kernel != nullptr);
  CHECK(bench.compiler->compiles == 1);
}

}  // namespace ktjit
