// The launch path in C++, on a libcuda of make-believe (tests/support/fake_cuda.c): repeated launches allocate
// nothing and take no lock. Names are longer than a std::string holds in itself, so no string is made either.
#include <catch2/catch.hpp>
#include <dlfcn.h>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>

#include "jit/engine.h"
#include "runtime/cpu_device.h"
#include "runtime/cuda_device.h"
#include "runtime/cuda_graph.h"
#include "runtime/cuda_stream.h"
#include "runtime/executor.h"
#include "tests/support/call_counters.h"

namespace ktjit {
namespace {

constexpr int kLaunches = 1000;

/// The fake's own count; nothing where libcuda.so.1 is not the fake.
long (*fake_function(const char* name))() {
  void* cuda = ::dlopen("libcuda.so.1", RTLD_NOW);
  return cuda == nullptr ? nullptr : reinterpret_cast<long (*)()>(::dlsym(cuda, name));
}

std::unique_ptr<runtime::CudaDevice> open_fake() {
  if (fake_function("fake_cuda_launches") == nullptr)
    FAIL("libcuda.so.1 is not the fake: run by CTest, which sets LD_LIBRARY_PATH");
  return runtime::make_cuda_device(runtime::try_load_driver());
}

Artifact make_cubin() {
  Artifact cubin;
  cubin.kind = ArtifactKind::kCubin;
  cubin.entry_name = "matvec_of_a_name_that_is_longer_than_sixteen_characters";
  cubin.bytes.resize(64);
  return cubin;
}

LoadedKernel make_loaded(runtime::Device& device, bool dependent) {
  LoadedKernel loaded;
  loaded.built.emitted.launch = {.rows_per_cta = 8,
                                 .column_tiles = 2,
                                 .threads = 256,
                                 .x_rows_per_cta = 64,
                                 .dependent_launch = dependent};
  loaded.kernel = device.load(make_cubin());
  return loaded;
}

struct Counted {
  long allocations, frees, locks;
};

template <class Launch>
Counted count_repeated(Launch&& launch) {
  launch();
  const call_counts before = get_call_counts();
  for (int i = 0; i < kLaunches; ++i) launch();
  const call_counts after = get_call_counts();
  return {after.allocations - before.allocations, after.frees - before.frees,
          after.locks - before.locks};
}

void check_nothing(const Counted& counted) {
  CHECK(counted.allocations == 0);
  CHECK(counted.frees == 0);
  CHECK(counted.locks == 0);
}

constexpr std::uint64_t kArguments[] = {1, 2, 3, 4, 5, 6, 7, 8};

}  // namespace

TEST_CASE("the counters see allocations, long strings and locks of every kind") {
  CHECK(count_repeated([] { ::operator delete(::operator new(8)); }).allocations >= kLaunches);
  CHECK(count_repeated([] { std::string(64, 'x'); }).frees >= kLaunches);
  std::string longer(32, 'x');
  CHECK(count_repeated([&] { const std::string copy = longer; }).allocations >= kLaunches);
  std::mutex mutex;
  CHECK(count_repeated([&] { const std::lock_guard lock(mutex); }).locks == kLaunches);
  std::shared_mutex shared;
  CHECK(count_repeated([&] { const std::shared_lock lock(shared); }).locks == kLaunches);
  CHECK(count_repeated([&] { const std::unique_lock lock(mutex, std::try_to_lock); }).locks ==
        kLaunches);
  check_nothing(count_repeated([] {}));
}

TEST_CASE("repeated launch on CUDA allocates nothing and takes no lock") {
  const auto device = open_fake();
  const auto launches = fake_function("fake_cuda_launches");
  const auto dependent_launches = fake_function("fake_cuda_dependent_launches");
  const long before = launches();
  const auto stream = device->make_stream();
  const auto kernel = device->load(make_cubin());
  check_nothing(count_repeated([&] { kernel->launch(*stream, {4, 1, 128, 0}, kArguments); }));
  for (bool dependent : {false, true}) {
    const LoadedKernel loaded = make_loaded(*device, dependent);
    check_nothing(count_repeated([&] { loaded.launch(*stream, 1000, kArguments, 100); }));
    // As the C interface does it: the caller's stream, wrapped for the call.
    check_nothing(count_repeated([&] {
      runtime::CudaStream borrowed = device->borrow_stream(nullptr);
      loaded.launch(borrowed, 1000, kArguments, 100);
    }));
  }
  CHECK(launches() - before == 5 * (kLaunches + 1));
  CHECK(dependent_launches() == 2 * (kLaunches + 1));

  // On another thread, where the context has to be made current each time.
  Counted elsewhere{1, 1, 1};
  std::thread([&] {
    elsewhere = count_repeated([&] { kernel->launch(*stream, {4, 1, 128, 0}, kArguments); });
  }).join();
  check_nothing(elsewhere);

  const auto graph = runtime::CudaGraph::capture(
      *stream, [&] { kernel->launch(*stream, {4, 1, 128, 0}, kArguments); });
  check_nothing(count_repeated([&] { graph.launch(*stream); }));
}

TEST_CASE("refused launch may allocate: its message has all names and numbers") {
  const auto device = open_fake();
  const auto stream = device->make_stream();
  const LoadedKernel loaded = make_loaded(*device, false);
  const Counted counted = count_repeated([&] {
    try {
      loaded.launch(*stream, 0, kArguments, 1);
    } catch (const std::exception&) {
    }
  });
  CHECK(counted.allocations >= kLaunches);
}

}  // namespace ktjit
