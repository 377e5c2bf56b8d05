// The CUDA device on a fake driver: what is called, what is released, how failures come out.
#include "runtime/cuda_device.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "runtime/cuda_graph.h"
#include "runtime/cuda_stream.h"
#include "tests/runtime/fake_driver.h"

using namespace ktjit;
using namespace ktjit::runtime;
using Catch::Contains;
using ktjit::test::fake_context_stack;
using ktjit::test::FakeDriver;
using ktjit::test::kInjectedCode;

namespace {

Artifact make_artifact(ArtifactKind kind, const std::string& name = "scale") {
  Artifact artifact;
  artifact.kind = kind;
  artifact.entry_name = name;
  artifact.bytes.resize(16, std::byte{'x'});
  return artifact;
}

void check_clean(const FakeDriver& driver) {
  CHECK(driver.misuse == std::vector<std::string>());
  CHECK(driver.live.empty());
  CHECK(driver.capturing.empty());
  CHECK(fake_context_stack().empty());
}

// Uses every part of the device once.
void use_everything(const FakeDriver& driver) {
  const auto device = make_cuda_device(driver.api(), 1);
  const auto stream = device->make_stream();
  const auto buffer = device->allocate(64);
  device->fill(*stream, *buffer, std::byte{7});
  std::vector<std::byte> host(64);
  device->upload(*stream, host, *buffer, 0);
  device->download(*stream, *buffer, 0, host);
  const Artifact cubin = device->link_ptx(make_artifact(ArtifactKind::kPtx));
  const auto kernel = device->load(cubin);
  const std::uint64_t arguments[] = {buffer->address(), 64};
  const auto launch = [&] { kernel->launch(*stream, {2, 1, 128, 0}, arguments); };
  launch();
  kernel->launch(*stream, {2, 1, 128, 0, true}, arguments);
  const CudaGraph graph = CudaGraph::capture(*stream, launch);
  graph.launch(*stream);
  device->time_us(*stream, launch);
  device->free_memory_bytes();
  stream->synchronize();
}

}  // namespace

TEST_CASE("cuda device describes itself") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api(), 1);
    CHECK(device->name() == "cuda:1");
    CHECK(device->description() == "Fake GPU 1, compute capability 8.6, 24.0 GiB, driver 13.0");
    CHECK(device->native_target().name() == "sm_86");
    CHECK(device->linker_identity() == "CUDA driver 13.0 build 580.65.06 for sm_86");
    CHECK(device->total_memory_bytes() == std::size_t{24} << 30);
    CHECK(device->free_memory_bytes() == std::size_t{20} << 30);
    CHECK(device->last_level_cache_bytes() == 6 * 1024 * 1024);
    CHECK(device->info().bus_id == "0000:3B:00.0");
    CHECK(device->try_borrow({}) == nullptr);
  }
  check_clean(driver);
}

TEST_CASE("devices are listed without opening any") {
  FakeDriver driver;
  const auto devices = list_cuda_devices(*driver.api());
  REQUIRE(devices.size() == 2);
  CHECK(devices[1].ordinal == 1);
  CHECK(devices[1].name == "Fake GPU 1");
  CHECK(devices[1].compute_capability() == "8.6");
  CHECK(driver.live.empty());
  driver.init_code = cu::kErrorNoDevice;
  CHECK(list_cuda_devices(*driver.api()).empty());
  driver.init_code = 999;
  CHECK_THROWS_AS(list_cuda_devices(*driver.api()), DriverError);
}

TEST_CASE("device that doesn't exist, or is too old, is an error") {
  FakeDriver driver;
  CHECK_THROWS_WITH(make_cuda_device(driver.api(), 2),
                    Contains("cuDeviceGet") && Contains("cuda:2"));
  driver.major = 5;
  driver.minor = 2;
  CHECK_THROWS_AS(make_cuda_device(driver.api(), 0), ToolchainError);
  check_clean(driver);
}

TEST_CASE("bytes written to device memory come back") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    const auto stream = device->make_stream();
    const auto buffer = device->allocate(8);
    CHECK(buffer->bytes() == 8);
    device->fill(*stream, *buffer, std::byte{9});
    const std::vector<std::byte> three(3, std::byte{1});
    device->upload(*stream, three, *buffer, 2);
    std::vector<std::byte> all(8);
    device->download(*stream, *buffer, 0, all);
    stream->synchronize();
    std::string text;
    for (const std::byte byte : all) text += std::to_string(std::to_integer<int>(byte));
    CHECK(text == "99111999");
    std::vector<std::byte> nothing;
    device->upload(*stream, nothing, *buffer, 8);
    device->download(*stream, *buffer, 8, nothing);
    CHECK_THROWS_AS(device->upload(*stream, three, *buffer, 6), InternalError);
    CHECK_THROWS_AS(device->download(*stream, *buffer, 9, nothing), InternalError);
    CHECK(device->allocate(0)->bytes() == 0);
  }
  check_clean(driver);
}

TEST_CASE("launch passes grid, stream and arguments on") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
    CHECK(kernel->resources().registers == 40);
    CHECK(kernel->resources().stack_bytes == 16);
    CHECK(kernel->resources().static_smem_bytes == 1024);
    const auto first = device->make_stream();
    const auto second = device->make_stream();
    const std::uint64_t arguments[] = {0x123456789abcdef0, 3};
    kernel->launch(*first, {7, 2, 128, 60000}, arguments);
    kernel->launch(*second, {1, 1, 32, 0}, arguments);
    REQUIRE(driver.launches.size() == 2);
    CHECK(driver.launches[0].grid_x == 7);
    CHECK(driver.launches[0].grid_y == 2);
    CHECK(driver.launches[0].threads == 128);
    CHECK(driver.launches[0].smem_bytes == 60000);
    CHECK(driver.launches[0].first_argument == 0x123456789abcdef0);
    CHECK(driver.launches[0].stream != driver.launches[1].stream);
    const std::vector<std::uint64_t> many(33);
    CHECK_THROWS_AS(kernel->launch(*first, {1, 1, 32, 0}, many), InternalError);
  }
  check_clean(driver);
}

TEST_CASE("dependent launch goes through cuLaunchKernelEx with the attribute") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    CHECK_NOTHROW(device->check_dependent_launch());
    const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
    const auto stream = device->make_stream();
    const std::uint64_t arguments[] = {42, 7};
    kernel->launch(*stream, {5, 3, 64, 128, true}, arguments);
    kernel->launch(*stream, {5, 3, 64, 128, false}, arguments);
    REQUIRE(driver.launches.size() == 2);
    CHECK(driver.launches[0].is_dependent);
    CHECK_FALSE(driver.launches[1].is_dependent);
    for (const FakeDriver::Launch& launch : driver.launches) {
      CHECK(launch.grid_x == 5);
      CHECK(launch.grid_y == 3);
      CHECK(launch.threads == 64);
      CHECK(launch.smem_bytes == 128);
      CHECK(launch.first_argument == 42);
    }
    CHECK(driver.launches[0].stream == driver.launches[1].stream);
    driver.fail_call = driver.calls + 2;  // after cuCtxGetCurrent and cuCtxPushCurrent
    CHECK_THROWS_WITH(kernel->launch(*stream, {5, 3, 64, 128, true}, arguments),
                      Contains("cuLaunchKernelEx") && Contains("5 x 3"));
  }
  check_clean(driver);
}

TEST_CASE("driver without cuLaunchKernelEx serves no dependent launches, and says so before one") {
  FakeDriver driver;
  DriverApi older = *driver.api();
  older.launch_kernel_ex = nullptr;
  older.library = "libcuda.so.470.0";
  {
    const auto device = make_cuda_device(std::make_shared<const DriverApi>(older));
    CHECK_THROWS_WITH(device->check_dependent_launch(), Contains("cuLaunchKernelEx") &&
                                                            Contains("libcuda.so.470.0") &&
                                                            Contains("CUDA 11.8"));
    const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
    const auto stream = device->make_stream();
    const std::uint64_t arguments[] = {1};
    CHECK_NOTHROW(kernel->launch(*stream, {1, 1, 32, 0}, arguments));
    CHECK_THROWS_AS(kernel->launch(*stream, {1, 1, 32, 0, true}, arguments), InternalError);
  }
  check_clean(driver);
}

TEST_CASE("launch makes the tensor maps of its arguments, with the context current") {
  FakeDriver driver;
  LaunchGrid grid{5, 1, 64, 128};
  grid.tensor_maps = {
      {TensorMapShape{.address_argument = 0, .rows_argument = 2, .row_bytes = 640, .box_rows = 32},
       TensorMapShape{.address_argument = 1, .rows_argument = 3, .row_bytes = 640, .box_rows = 8}},
      2};
  {
    const auto device = make_cuda_device(driver.api());
    const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
    const auto stream = device->make_stream();
    const std::uint64_t arguments[] = {0x1000, 0x2000, 300, 7};
    for (const bool is_dependent : {false, true}) {
      grid.is_dependent = is_dependent;
      kernel->launch(*stream, grid, arguments);
    }
    REQUIRE(driver.launches.size() == 2);
    REQUIRE(driver.tensor_maps.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
      const FakeDriver::TensorMap& map = driver.tensor_maps[i];
      CHECK(map.address == (i % 2 == 0 ? 0x1000 : 0x2000));
      CHECK(map.sizes[0] == 640);
      CHECK(map.sizes[1] == (i % 2 == 0 ? 300 : 7));
      CHECK(map.stride == 640);
      CHECK(map.box[0] == 128);
      CHECK(map.box[1] == (i % 2 == 0 ? 32 : 8));
    }
    driver.fail_call = driver.calls + 2;  // after cuCtxGetCurrent and cuCtxPushCurrent
    CHECK_THROWS_WITH(kernel->launch(*stream, grid, arguments),
                      Contains("cuTensorMapEncodeTiled") &&
                          Contains("300 rows of 640 bytes at 0x1000 for scale"));
    CHECK(driver.launches.size() == 2);
    const std::vector<std::uint64_t> many(31);
    CHECK_THROWS_AS(kernel->launch(*stream, grid, many), InternalError);
  }
  check_clean(driver);
}

TEST_CASE("driver without cuTensorMapEncodeTiled says so at a launch that needs maps") {
  FakeDriver driver;
  DriverApi older = *driver.api();
  older.tensor_map_encode_tiled = nullptr;
  {
    const auto device = make_cuda_device(std::make_shared<const DriverApi>(older));
    const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
    const auto stream = device->make_stream();
    const std::uint64_t arguments[] = {0x1000, 5};
    LaunchGrid grid{1, 1, 32, 0};
    CHECK_NOTHROW(kernel->launch(*stream, grid, arguments));
    grid.tensor_maps = {
        {TensorMapShape{.address_argument = 0, .rows_argument = 1, .row_bytes = 16, .box_rows = 8}},
        1};
    CHECK_THROWS_WITH(kernel->launch(*stream, grid, arguments), Contains("cuTensorMapEncodeTiled"));
    CHECK(driver.launches.size() == 1);
  }
  check_clean(driver);
}

TEST_CASE("kernel may use all shared memory that the device gives on request") {
  FakeDriver driver;
  SECTION("more than 48 KiB") {
    make_cuda_device(driver.api())->load(make_artifact(ArtifactKind::kCubin));
    CHECK(driver.dynamic_smem_limit == 99 * 1024);
  }
  SECTION("no more than 48 KiB on Pascal") {
    driver.major = 6;
    driver.minor = 1;
    driver.max_smem_bytes = 48 * 1024;
    make_cuda_device(driver.api())->load(make_artifact(ArtifactKind::kCubin));
    CHECK(driver.dynamic_smem_limit == 0);
  }
}

TEST_CASE("stream of another kind of device is refused") {
  struct OtherStream : Stream {
    void synchronize() override {}
  };
  FakeDriver driver;
  const auto device = make_cuda_device(driver.api());
  const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
  OtherStream stream;
  const std::uint64_t arguments[] = {1};
  CHECK_THROWS_AS(kernel->launch(stream, {1, 1, 32, 0}, arguments), InternalError);
}

TEST_CASE("caller's context stays current, and is ours only during a call") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    CHECK(fake_context_stack().empty());
    const auto callers = reinterpret_cast<CuContext>(0x77);
    fake_context_stack().push_back(callers);
    const auto buffer = device->allocate(16);
    CHECK(fake_context_stack() == std::vector<CuContext>{callers});
    fake_context_stack().clear();
    std::thread([&] {
      device->allocate(16);
      CHECK(fake_context_stack().empty());
    }).join();
  }
  check_clean(driver);
}

TEST_CASE("adopted context is used and not released") {
  FakeDriver driver;
  const auto callers = reinterpret_cast<CuContext>(0x77);
  {
    const auto device = adopt_cuda_context(driver.api(), callers);
    CHECK(device->name() == "cuda:1");
    fake_context_stack().push_back(callers);
    const int before = driver.calls;
    const auto buffer = device->allocate(16);
    CHECK(driver.calls == before + 2);  // cuCtxGetCurrent, cuMemAlloc: it is current already
    fake_context_stack().clear();
  }
  check_clean(driver);
}

TEST_CASE("wrapped stream is used and not destroyed") {
  FakeDriver driver;
  const std::uintptr_t callers = driver.make_handle();
  {
    const auto device = make_cuda_device(driver.api());
    const auto stream = device->wrap_stream(reinterpret_cast<void*>(callers));
    const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
    const std::uint64_t arguments[] = {1};
    kernel->launch(*stream, {1, 1, 32, 0}, arguments);
    stream->synchronize();
    CHECK(driver.launches.back().stream == callers);
  }
  CHECK(driver.live == std::set<std::uintptr_t>{callers});
  CHECK(driver.misuse.empty());
}

TEST_CASE("stream borrowed for one call gets the launch, and loads don't ask it") {
  FakeDriver driver;
  const std::uintptr_t callers = driver.make_handle();
  {
    const auto device = make_cuda_device(driver.api());
    const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
    const std::uint64_t arguments[] = {1};
    CudaStream borrowed = device->borrow_stream(reinterpret_cast<void*>(callers));
    kernel->launch(borrowed, {1, 1, 32, 0}, arguments);
    CHECK(driver.launches.back().stream == callers);
    driver.capturing.insert(callers);
    CHECK_FALSE(device->is_capturing_on_this_thread());
    const auto wrapped = device->wrap_stream(reinterpret_cast<void*>(callers));
    CHECK(device->is_capturing_on_this_thread());
    driver.capturing.clear();
  }
  CHECK(driver.live == std::set<std::uintptr_t>{callers});
  CHECK(driver.misuse.empty());
}

TEST_CASE("buffers, streams and kernels may outlive the device object") {
  FakeDriver driver;
  {
    auto device = make_cuda_device(driver.api());
    const auto buffer = device->allocate(16);
    const auto stream = device->make_stream();
    const auto kernel = device->load(make_artifact(ArtifactKind::kCubin));
    device.reset();
    stream->synchronize();
  }
  check_clean(driver);
}

TEST_CASE("load while this thread captures a stream is a named error") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    const auto load = [&] { return device->load(make_artifact(ArtifactKind::kCubin)); };
    const auto message = Contains("loading kernel scale while a stream is being captured");
    SECTION("in our own capture") {
      const auto stream = device->make_stream();
      CHECK_THROWS_WITH(CudaGraph::capture(*stream, load), message);
      CHECK(load() != nullptr);
    }
    SECTION("in a capture of a wrapped stream") {
      const std::uintptr_t callers = driver.make_handle();
      const auto stream = device->wrap_stream(reinterpret_cast<void*>(callers));
      driver.capturing.insert(callers);
      CHECK_THROWS_WITH(load(), message);
      std::thread([&] { CHECK(load() != nullptr); }).join();
      driver.capturing.clear();
      driver.drop(callers, "test");
    }
    SECTION("where only the driver knows") {
      driver.load_code = cu::kErrorStreamCaptureUnsupported;
      CHECK_THROWS_WITH(load(), message);
    }
  }
  check_clean(driver);
}

TEST_CASE("capture moves a stream to the thread that captures it") {
  FakeDriver driver;
  const auto device = make_cuda_device(driver.api());
  std::unique_ptr<Stream> stream;
  std::thread([&] { stream = device->make_stream(); }).join();
  CHECK_THROWS_AS(
      CudaGraph::capture(*stream, [&] { device->load(make_artifact(ArtifactKind::kCubin)); }),
      DriverError);
}

TEST_CASE("exception inside a capture ends it and comes through") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    const auto stream = device->make_stream();
    CHECK_THROWS_WITH(CudaGraph::capture(*stream, [] { throw std::runtime_error("mine"); }),
                      "mine");
  }
  check_clean(driver);
}

TEST_CASE("PTX is linked to a cubin that can be loaded") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    const Artifact ptx = make_artifact(ArtifactKind::kPtx);
    const Artifact cubin = device->link_ptx(ptx);
    CHECK(driver.linked_text == std::string(16, 'x'));
    CHECK(cubin.kind == ArtifactKind::kCubin);
    CHECK(cubin.entry_name == "scale");
    CHECK(std::memcmp(cubin.bytes.data(), "machine code", cubin.bytes.size()) == 0);
    CHECK_THAT(cubin.log, Contains("used 10 registers"));
    CHECK(cubin.resources.registers == 40);
    CHECK_FALSE(cubin.resources.spill_bytes);
    CHECK(device->load(cubin) != nullptr);
    CHECK_THROWS_WITH(device->load(ptx), Contains("allowed: cubin (PTX has to be linked first)"));
  }
  check_clean(driver);
}

TEST_CASE("PTX that the linker refuses is an error with the linker's words") {
  FakeDriver driver;
  driver.link_error_log = "ptxas application ptx input, line 7; error";
  {
    const auto device = make_cuda_device(driver.api());
    const auto link = [&] { device->link_ptx(make_artifact(ArtifactKind::kPtx)); };
    driver.link_code = cu::kErrorInvalidPtx;
    CHECK_THROWS_AS(link(), CompileError);
    CHECK_THROWS_WITH(link(), Contains("line 7; error") && Contains("scale"));
    driver.link_code = cu::kErrorUnsupportedPtxVersion;
    CHECK_THROWS_AS(link(), DriverError);
    CHECK_THROWS_WITH(link(), Contains("driver 13.0 is older than the compiler"));
  }
  check_clean(driver);
}

TEST_CASE("kernel that is not in its cubin is a driver error") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    CHECK_THROWS_WITH(device->load(make_artifact(ArtifactKind::kCubin, "missing")),
                      Contains("cuModuleGetFunction") && Contains("loading kernel missing"));
  }
  check_clean(driver);
}

TEST_CASE("work is timed in microseconds") {
  FakeDriver driver;
  {
    const auto device = make_cuda_device(driver.api());
    const auto stream = device->make_stream();
    CHECK(device->time_us(*stream, [] {}) == 250.0);
    CHECK_THROWS_WITH(device->time_us(*stream, [] { throw std::runtime_error("mine"); }), "mine");
  }
  check_clean(driver);
}

TEST_CASE("every driver call may fail: always a driver error, never a leak") {
  FakeDriver whole;
  use_everything(whole);
  check_clean(whole);
  int thrown = 0;
  for (int call = 0; call < whole.calls; ++call) {
    FakeDriver driver;
    driver.fail_call = call;
    CAPTURE(call);
    bool failed = false;
    std::string message;
    try {
      use_everything(driver);
    } catch (const DriverError& error) {
      failed = true;
      message = error.what();
      CHECK(error.code() == kInjectedCode);
    }
    INFO(driver.failed_call);
    // Failures of releases and of leaving a context have nobody to tell.
    const bool release = driver.failed_call.find("Destroy") != std::string::npos ||
                         driver.failed_call.find("Unload") != std::string::npos ||
                         driver.failed_call.find("Free") != std::string::npos ||
                         driver.failed_call.find("Release") != std::string::npos ||
                         driver.failed_call == "cuCtxPopCurrent";
    if (release) CHECK_FALSE(failed);
    if (failed) {
      ++thrown;
      CHECK_THAT(message, Contains(driver.failed_call + " failed with CUDA_ERROR_UNKNOWN (999)"));
      CHECK_THAT(message, Contains("cuda:1") || Contains("the driver"));
    }
    check_clean(driver);
  }
  CHECK(thrown > whole.calls / 2);
}

TEST_CASE("driver that is not there is told with a reason") {
  std::string why_not;
  const auto api = try_load_driver(&why_not);
  if (api == nullptr) {
    CHECK_THAT(why_not, Contains("libcuda.so.1"));
  } else {
    CHECK(why_not.empty());
    CHECK_FALSE(api->library.empty());
  }
}
