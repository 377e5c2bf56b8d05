// The CUDA device on a real GPU, of compute capability 6.0 or more. Tests of newer PTX say so where
// the GPU is too old for them.
#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <fmt/format.h>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "runtime/cuda_context.h"
#include "runtime/cuda_device.h"
#include "runtime/cuda_graph.h"
#include "tests/gpu/gpu_ptx.h"

using namespace ktjit;
using namespace ktjit::runtime;
using namespace ktjit::test;
using Catch::Contains;

namespace {

std::shared_ptr<const DriverApi> driver() {
  static const std::shared_ptr<const DriverApi> api = try_load_driver();
  REQUIRE(api != nullptr);
  return api;
}

constexpr std::size_t kCount = 100000;
constexpr unsigned kThreads = 256;
constexpr LaunchGrid kGrid = {(kCount + kThreads - 1) / kThreads, 1, kThreads, 0};

std::vector<float> make_input() {
  std::vector<float> values(kCount);
  for (std::size_t i = 0; i < kCount; ++i) values[i] = static_cast<float>(i);
  return values;
}

// x on the device, and room for y.
struct AddOneData {
  explicit AddOneData(Device& device, Stream& stream)
      : x(device.allocate(kCount * sizeof(float))), y(device.allocate(kCount * sizeof(float))) {
    device.upload(stream, std::as_bytes(std::span(input)), *x, 0);
    device.fill(stream, *y, std::byte{0xff});
    stream.synchronize();
    arguments = {x->address(), y->address(), kCount};
  }

  void check(Device& device, Stream& stream) const {
    std::vector<float> output(kCount);
    device.download(stream, *y, 0, std::as_writable_bytes(std::span(output)));
    stream.synchronize();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < kCount; ++i) wrong += output[i] != input[i] + 1.0f;
    CHECK(wrong == 0);
  }

  std::vector<float> input = make_input();
  std::unique_ptr<Buffer> x;
  std::unique_ptr<Buffer> y;
  std::vector<std::uint64_t> arguments;
};

void run_add_one(Device& device, const std::string& header) {
  const Artifact cubin = device.link_ptx(make_add_one(header));
  INFO(cubin.log);
  CHECK(cubin.kind == ArtifactKind::kCubin);
  CHECK(cubin.resources.registers.value_or(0) > 0);
  CHECK(cubin.resources.stack_bytes == 0);
  const auto kernel = device.load(cubin);
  const auto stream = device.make_stream();
  const AddOneData data(device, *stream);
  kernel->launch(*stream, kGrid, data.arguments);
  data.check(device, *stream);
}

double us_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

}  // namespace

TEST_CASE("GPU is described") {
  const auto device = make_cuda_device(driver());
  WARN(device->name() << ": " << device->description() << "; native target "
                      << device->native_target().name() << "; " << *device->linker_identity()
                      << "; " << driver()->library);
  for (const CudaDeviceInfo& info : list_cuda_devices(*driver())) {
    WARN(fmt::format("{} {} {} L2 {} MiB, {} SMs, {} MHz, memory {} MHz x {} bits, smem {} bytes",
                     info.name, info.compute_capability(), info.bus_id, info.l2_bytes >> 20,
                     info.multiprocessors, info.clock_mhz, info.memory_clock_mhz,
                     info.memory_bus_bits, info.max_smem_bytes));
  }
  CHECK(device->total_memory_bytes() >= device->free_memory_bytes());
  CHECK(device->last_level_cache_bytes() > 0);
  CHECK(device->can_load(device->native_target(), ArtifactKind::kCubin, nullptr));
}

TEST_CASE("memory is aligned to 256 bytes, filled, written and read") {
  const auto device = make_cuda_device(driver());
  const auto stream = device->make_stream();
  for (const std::size_t bytes : {1, 255, 256, 1000003}) {
    const auto buffer = device->allocate(bytes);
    CHECK(buffer->address() % 256 == 0);
    device->fill(*stream, *buffer, std::byte{0x5a});
    const std::vector<std::byte> one(1, std::byte{0x11});
    device->upload(*stream, one, *buffer, bytes - 1);
    std::vector<std::byte> all(bytes);
    device->download(*stream, *buffer, 0, all);
    stream->synchronize();
    CHECK(all.back() == std::byte{0x11});
    CHECK(std::count(all.begin(), all.end(), std::byte{0x5a}) == std::ptrdiff_t(bytes) - 1);
  }
}

TEST_CASE("memory that doesn't exist is a driver error") {
  const auto device = make_cuda_device(driver());
  CHECK_THROWS_WITH(device->allocate(std::size_t{1} << 50),
                    Contains("cuMemAlloc") && Contains("CUDA_ERROR_OUT_OF_MEMORY"));
}

TEST_CASE("PTX of older targets is linked and runs") {
  const auto device = make_cuda_device(driver());
  for (const auto& [target, header] :
       {std::pair{"sm_60", kSm60}, std::pair{"sm_75", kSm75}, std::pair{"sm_86", kSm86}}) {
    std::string reason;
    if (!device->can_load(parse_target(target, {}), ArtifactKind::kPtx, &reason)) {
      WARN("not run: " << reason);
      continue;
    }
    INFO(target);
    run_add_one(*device, header);
  }
}

TEST_CASE("PTX that is wrong is a compile error with the linker's words") {
  const auto device = make_cuda_device(driver());
  std::string message;
  try {
    device->link_ptx(
        make_ptx("k", kSm60 + "\n.address_size 64\n.visible .entry k() { nonsense; }\n"));
  } catch (const CompileError& error) {
    message = error.what();
  }
  CHECK_THAT(message, Contains("nonsense"));
}

TEST_CASE("PTX of a version from the future is a driver error that says who is older") {
  const auto device = make_cuda_device(driver());
  CHECK_THROWS_WITH(device->link_ptx(make_add_one(".version 99.0\n.target sm_60")),
                    Contains("older than the compiler"));
}

TEST_CASE("bytes that are no cubin are a driver error") {
  const auto device = make_cuda_device(driver());
  Artifact cubin = make_add_one(kSm60);
  cubin.kind = ArtifactKind::kCubin;
  std::fill(cubin.bytes.begin(), cubin.bytes.end(), std::byte{0});
  CHECK_THROWS_WITH(device->load(cubin), Contains("cuModuleLoadData") && Contains("add_one"));
}

TEST_CASE("kernel gets more than 48 KiB of shared memory where the GPU has it") {
  const auto device = make_cuda_device(driver());
  const auto kernel = device->load(device->link_ptx(make_smem_size()));
  const auto stream = device->make_stream();
  const auto result = device->allocate(4);
  const auto limit = static_cast<unsigned>(device->info().max_smem_bytes);
  for (const unsigned bytes : {1024u, 48 * 1024u, limit}) {
    const std::uint64_t arguments[] = {result->address()};
    kernel->launch(*stream, {1, 1, 1, bytes}, arguments);
    unsigned seen = 0;
    device->download(*stream, *result, 0, std::as_writable_bytes(std::span(&seen, 1)));
    stream->synchronize();
    CHECK(seen == bytes);
  }
  const std::uint64_t arguments[] = {result->address()};
  CHECK_THROWS_WITH(kernel->launch(*stream, {1, 1, 1, limit + 1024}, arguments),
                    Contains("cuLaunchKernel") && Contains("smem_size"));
}

TEST_CASE("two streams work side by side, on two threads") {
  const auto device = make_cuda_device(driver());
  const auto kernel = device->load(device->link_ptx(make_add_one(kSm60)));
  const auto work = [&] {
    const auto stream = device->make_stream();
    const AddOneData data(*device, *stream);
    for (int i = 0; i < 50; ++i) kernel->launch(*stream, kGrid, data.arguments);
    data.check(*device, *stream);
  };
  std::thread other(work);
  work();
  other.join();
}

TEST_CASE("caller's context and stream are used and left as they are") {
  const DriverApi& api = *driver();
  REQUIRE(api.init(0) == 0);
  CuContext context = nullptr;
  REQUIRE(api.primary_ctx_retain(&context, 0) == 0);
  REQUIRE(api.ctx_push_current(context) == 0);
  CuStream callers = nullptr;
  REQUIRE(api.stream_create(&callers, 0) == 0);
  {
    const auto device = adopt_cuda_context(driver(), context);
    CHECK(device->name() == "cuda:0");
    const auto kernel = device->load(device->link_ptx(make_add_one(kSm60)));
    for (void* wrapped : {static_cast<void*>(callers), static_cast<void*>(nullptr)}) {
      const auto stream = device->wrap_stream(wrapped);
      const AddOneData data(*device, *stream);
      kernel->launch(*stream, kGrid, data.arguments);
      data.check(*device, *stream);
    }
    CuContext current = nullptr;
    CHECK(api.ctx_get_current(&current) == 0);
    CHECK(current == context);
  }
  CHECK(api.stream_synchronize(callers) == 0);
  CHECK(api.stream_destroy(callers) == 0);
  CHECK(api.ctx_pop_current(&context) == 0);
  CHECK(api.primary_ctx_release(0) == 0);
}

TEST_CASE("captured graph does the work at each launch") {
  const auto device = make_cuda_device(driver());
  const auto kernel = device->load(device->link_ptx(make_add_one(kSm60)));
  const auto stream = device->make_stream();
  const AddOneData data(*device, *stream);
  const CudaGraph graph = CudaGraph::capture(*stream, [&] {
    kernel->launch(*stream, kGrid, data.arguments);
    kernel->launch(*stream, kGrid, data.arguments);
  });
  for (int i = 0; i < 3; ++i) {
    device->fill(*stream, *data.y, std::byte{0});
    graph.launch(*stream);
    data.check(*device, *stream);
  }
}

TEST_CASE("load under capture is a named error, and other threads may load") {
  const auto device = make_cuda_device(driver());
  const Artifact cubin = device->link_ptx(make_add_one(kSm60));
  const auto stream = device->make_stream();
  CHECK_THROWS_WITH(CudaGraph::capture(*stream, [&] { device->load(cubin); }),
                    Contains("while a stream is being captured"));
  const auto kernel = device->load(cubin);
  const AddOneData data(*device, *stream);
  const CudaGraph graph = CudaGraph::capture(*stream, [&] {
    kernel->launch(*stream, kGrid, data.arguments);
    std::thread([&] { CHECK(device->load(cubin) != nullptr); }).join();
  });
  graph.launch(*stream);
  data.check(*device, *stream);
}

// What the driver does by itself differs between versions, so it is shown and not required.
TEST_CASE("load while a stream is captured that we were not told of") {
  const auto device = make_cuda_device(driver());
  const Artifact cubin = device->link_ptx(make_add_one(kSm60));
  const auto context = CudaContext::retain_primary(driver(), 0);
  const CurrentContext current(*context);
  const DriverApi& api = *driver();
  for (const int mode : {0, 1, 2}) {  // global, thread-local, relaxed
    CuStream stream = nullptr;
    REQUIRE(api.stream_create(&stream, cu::kStreamNonBlocking) == 0);
    REQUIRE(api.stream_begin_capture(stream, mode) == 0);
    std::string outcome = "accepted";
    try {
      device->load(cubin);
    } catch (const DriverError& error) {
      outcome = error.what();
    }
    CuGraph graph = nullptr;
    const int ended = api.stream_end_capture(stream, &graph);
    WARN(fmt::format("capture mode {}: load {}; capture ended with {}", mode, outcome, ended));
    if (graph != nullptr) api.graph_destroy(graph);
    api.stream_destroy(stream);
  }
}

TEST_CASE("exception inside a capture leaves the stream usable") {
  const auto device = make_cuda_device(driver());
  const auto kernel = device->load(device->link_ptx(make_add_one(kSm60)));
  const auto stream = device->make_stream();
  const AddOneData data(*device, *stream);
  CHECK_THROWS_WITH(CudaGraph::capture(*stream,
                                       [&] {
                                         kernel->launch(*stream, kGrid, data.arguments);
                                         throw std::runtime_error("mine");
                                       }),
                    "mine");
  kernel->launch(*stream, kGrid, data.arguments);
  data.check(*device, *stream);
}

TEST_CASE("work is timed by the device's clock") {
  const auto device = make_cuda_device(driver());
  const auto kernel = device->load(device->link_ptx(make_add_one(kSm60)));
  const auto stream = device->make_stream();
  const AddOneData data(*device, *stream);
  const auto time = [&](int launches) {
    return device->time_us(*stream, [&] {
      for (int i = 0; i < launches; ++i) kernel->launch(*stream, kGrid, data.arguments);
    });
  };
  time(10);
  const double few = time(10);
  const double many = time(1000);
  WARN(fmt::format("10 launches {:.1f} us, 1000 launches {:.1f} us", few, many));
  CHECK(few > 0);
  CHECK(many > few);
}

TEST_CASE("launch costs little more on the host than the driver's own call") {
  const auto device = make_cuda_device(driver());
  const DriverApi& api = *driver();
  const Artifact cubin = device->link_ptx(make_add_one(kSm60));
  const auto kernel = device->load(cubin);
  const auto stream = device->make_stream();
  const AddOneData data(*device, *stream);
  const LaunchGrid grid = {1, 1, 32, 0};

  const auto context = CudaContext::retain_primary(driver(), 0);
  CuModule module = nullptr;
  CuFunction function = nullptr;
  CuStream raw_stream = nullptr;
  const CurrentContext current(*context);
  REQUIRE(api.module_load_data(&module, cubin.bytes.data()) == 0);
  REQUIRE(api.module_get_function(&function, module, "add_one") == 0);
  REQUIRE(api.stream_create(&raw_stream, cu::kStreamNonBlocking) == 0);
  std::vector<std::uint64_t> values = data.arguments;
  void* pointers[] = {&values[0], &values[1], &values[2]};

  // Few enough launches a round that the queue never fills and makes the host wait.
  constexpr int kLaunches = 200;
  constexpr int kRounds = 60;
  const auto median_us = [&](auto launch, auto wait) {
    std::vector<double> rounds;
    for (int round = 0; round < kRounds; ++round) {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kLaunches; ++i) launch();
      rounds.push_back(us_since(start) / kLaunches);
      wait();
    }
    std::sort(rounds.begin(), rounds.end());
    return rounds[rounds.size() / 2];
  };
  const auto raw = [&] {
    return median_us(
        [&] { api.launch_kernel(function, 1, 1, 1, 32, 1, 1, 0, raw_stream, pointers, nullptr); },
        [&] { api.stream_synchronize(raw_stream); });
  };
  const auto ours = [&] {
    return median_us([&] { kernel->launch(*stream, grid, data.arguments); },
                     [&] { stream->synchronize(); });
  };
  raw();
  ours();
  const double raw_us = raw();
  const double ours_us = ours();
  double elsewhere_us = 0;
  std::thread([&] { elsewhere_us = ours(); }).join();
  WARN(
      fmt::format("a launch takes {:.3f} us through the driver, {:.3f} us through us, {:.3f} us "
                  "on a thread without a current context",
                  raw_us, ours_us, elsewhere_us));
  CHECK(ours_us < raw_us + 1.5);
  api.stream_destroy(raw_stream);
  api.module_unload(module);
}

// Last in this file: a trap makes the context unusable until all references to it are gone.
TEST_CASE("kernel that traps is a driver error, and destructors stay silent") {
  const auto device = make_cuda_device(driver());
  const auto kernel = device->load(device->link_ptx(make_trap()));
  const auto stream = device->make_stream();
  const auto buffer = device->allocate(16);
  kernel->launch(*stream, {1, 1, 1, 0}, {});
  CHECK_THROWS_AS(stream->synchronize(), DriverError);
}
