// Buffers are registered host memory, a launch is a parallel loop over CTAs, everything is synchronous.
#include "runtime/simulator_device.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/kernel_error.h"
#include "runtime/float_environment.h"
#include "runtime/host_cpu.h"
#include "runtime/host_limits.h"
#include "runtime/shared_object.h"
#include "runtime/simulator_cta.h"
#include "runtime/simulator_memory.h"

namespace ktjit::runtime {
namespace {

/// Fewer than a GPU has, so that the CTAs of persistent kernels come to share rows.
constexpr unsigned kMultiprocessors = 2;

constexpr const char* kName = "sim";
constexpr int kDefaultSm = 86;          // the cards that most need software decodes
constexpr unsigned kMaxThreads = 1024;  // of a CTA: CUDA C++ Programming Guide
constexpr std::size_t kCheckedBytes = std::size_t{64} << 20;  // see cpu_device.cpp

class SimulatorBuffer : public Buffer {
 public:
  SimulatorBuffer(std::shared_ptr<simulator::Memory> memory, std::size_t bytes)
      : memory_(std::move(memory)), begin_(memory_->allocate(bytes)), bytes_(bytes) {}
  ~SimulatorBuffer() override { memory_->free(begin_); }

  std::uint64_t address() const override { return begin_; }
  std::size_t bytes() const override { return bytes_; }

 private:
  std::shared_ptr<simulator::Memory> memory_;
  std::uint64_t begin_;
  std::size_t bytes_;
};

class SimulatorStream : public Stream {
 public:
  void synchronize() override {}
};

std::byte* place_in(const Buffer& buffer, std::size_t offset, std::size_t bytes) {
  KTJIT_CHECK(dynamic_cast<const SimulatorBuffer*>(&buffer) != nullptr);
  KTJIT_CHECK(offset <= buffer.bytes() && bytes <= buffer.bytes() - offset);
  return reinterpret_cast<std::byte*>(buffer.address()) + offset;
}

/// CTA runners that wait for work: their stacks take long to make.
class RunnerPool {
 public:
  std::unique_ptr<simulator::CtaRunner> take() {
    const std::scoped_lock lock(mutex_);
    if (idle_.empty()) return std::make_unique<simulator::CtaRunner>();
    auto runner = std::move(idle_.back());
    idle_.pop_back();
    return runner;
  }
  void give_back(std::unique_ptr<simulator::CtaRunner> runner) {
    const std::scoped_lock lock(mutex_);
    idle_.push_back(std::move(runner));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<simulator::CtaRunner>> idle_;
};

struct Shared {
  std::shared_ptr<Executor> executor;
  std::shared_ptr<simulator::Memory> memory = std::make_shared<simulator::Memory>();
  RunnerPool runners;
};

std::string triple(const std::uint32_t (&at)[3]) {
  return fmt::format("({}, {}, {})", at[0], at[1], at[2]);
}

class SimulatorKernel : public Kernel {
 public:
  SimulatorKernel(const Artifact& artifact, std::shared_ptr<Shared> device)
      : device_(std::move(device)),
        name_(artifact.entry_name),
        code_(artifact.bytes, artifact.entry_name),
        entry_(reinterpret_cast<simulator::KernelEntry>(code_.get_symbol(name_))),
        module_(static_cast<simulator::Module*>(code_.get_symbol(simulator::kModuleSymbol))) {
    if (module_->version != simulator::kVersion) {
      refuse(ENOEXEC, fmt::format("the object is of version {}, expected {}", module_->version,
                                  simulator::kVersion));
    }
    const simulator::Kernel* end = module_->kernels + module_->kernel_count;
    kernel_ = std::find_if(module_->kernels, end, [this](const simulator::Kernel& kernel) {
      return name_ == kernel.name;
    });
    if (kernel_ == end) refuse(ENOEXEC, "the object doesn't describe the kernel");
    module_->services = &simulator::services();
    const std::vector<std::string> missing = simulator::bind_instructions(*module_);
    if (!missing.empty()) {
      refuse(ENOTSUP, fmt::format("PTX that is not modelled: {}", fmt::join(missing, ", ")));
    }
    resources_.static_smem_bytes = static_cast<int>(module_->static_shared_bytes);
  }

  void launch(Stream&, const LaunchGrid& grid,
              std::span<const std::uint64_t> arguments) const override {
    simulator::Launch launch = make_launch(grid, arguments);
    std::mutex mutex;
    std::optional<simulator::Fault> first;
    std::exception_ptr error;
    std::atomic<bool> stop = false;
    const unsigned grid_x = launch.grid[0];
    const std::int64_t ctas = std::int64_t{grid_x} * grid.y;
    device_->executor->parallel_for(ctas, [&](std::int64_t begin, std::int64_t end) {
      try {
        const ScopedFloatEnvironment environment;
        auto runner = device_->runners.take();
        for (std::int64_t i = begin; i < end && !stop; ++i) {
          auto fault = runner->run(launch, static_cast<std::uint32_t>(i % grid_x),
                                   static_cast<std::uint32_t>(i / grid_x));
          if (!fault) continue;
          stop = true;
          const std::scoped_lock lock(mutex);
          if (!first) first = std::move(fault);
        }
        device_->runners.give_back(std::move(runner));
      } catch (...) {
        stop = true;
        const std::scoped_lock lock(mutex);
        if (!error) error = std::current_exception();
      }
    });
    if (error) std::rethrow_exception(error);
    if (first) {
      throw KernelError(name_, triple(first->block), triple(first->thread),
                        static_cast<int>(first->site & 0xffffffffu), first->problem);
    }
  }

  KernelResources resources() const override { return resources_; }

 private:
  [[noreturn]] void refuse(int code, const std::string& problem) const {
    throw DriverError("load", code, problem, kName, fmt::format("loading kernel {}", name_));
  }

  simulator::Launch make_launch(const LaunchGrid& grid,
                                std::span<const std::uint64_t> arguments) const {
    const std::string doing = fmt::format("launching kernel {}", name_);
    const std::size_t given = arguments.size() + grid.tensor_maps.count;
    if (given != kernel_->parameters) {
      throw DriverError("launch", EINVAL,
                        fmt::format("{} arguments, expected {}", given, kernel_->parameters), kName,
                        doing);
    }
    if (grid.threads < 1 || grid.threads > kMaxThreads) {
      throw DriverError(
          "launch", EINVAL,
          fmt::format("{} threads per CTA, expected 1 to {}", grid.threads, kMaxThreads), kName,
          doing);
    }
    simulator::Launch launch;
    launch.entry = entry_;
    launch.module = module_;
    launch.memory = device_->memory.get();
    launch.arguments.assign(arguments.begin(), arguments.end());
    for (const TensorMapShape& shape : grid.tensor_maps) {
      launch.tensor_maps.push_back({arguments[static_cast<std::size_t>(shape.address_argument)],
                                    arguments[static_cast<std::size_t>(shape.rows_argument)],
                                    static_cast<std::uint64_t>(shape.row_bytes), shape.box_rows});
      constexpr std::uint64_t kAlignment = 16;  // of cuTensorMapEncodeTiled
      if (launch.tensor_maps.back().address % kAlignment != 0) {
        throw DriverError("launch", EINVAL,
                          fmt::format("a tensor map of {:#x}, expected a multiple of {}",
                                      launch.tensor_maps.back().address, kAlignment),
                          kName, doing);
      }
    }
    // Only now, since they don't move any more.
    for (const simulator::TensorMap& map : launch.tensor_maps)
      launch.arguments.push_back(reinterpret_cast<std::uint64_t>(&map));
    launch.buffers = device_->memory->live();
    launch.parameters.resize(launch.arguments.size());
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      if (kernel_->is_pointer[i] == 0) continue;
      if (const auto range = device_->memory->find(arguments[i])) launch.parameters[i] = *range;
    }
    launch.grid[0] = grid.limited_x(kMultiprocessors);
    launch.grid[1] = grid.y;
    launch.threads = grid.threads;
    launch.dynamic_shared_bytes = grid.smem_bytes;
    return launch;
  }

  std::shared_ptr<Shared> device_;
  std::string name_;
  SharedObject code_;
  simulator::KernelEntry entry_;
  simulator::Module* module_;
  const simulator::Kernel* kernel_ = nullptr;
  KernelResources resources_;
};

class SimulatorDevice : public Device {
 public:
  explicit SimulatorDevice(std::shared_ptr<Executor> executor)
      : host_(detect_host_cpu()), target_(make_cuda_target(kDefaultSm)) {
    shared_->executor = std::move(executor);
  }

  std::string name() const override { return kName; }
  std::string description() const override {
    const int threads = shared_->executor->concurrency();
    return fmt::format("CUDA simulated on {}, {} thread{}", host_.model, threads,
                       threads == 1 ? "" : "s");
  }
  const Target& native_target() const override { return target_; }

  bool can_load(const Target& target, ArtifactKind kind, std::string* reason) const override {
    std::string problem;
    if (!target.is_cuda()) {
      problem = fmt::format("the simulator does not run code for {}", target.name());
    } else if (kind != ArtifactKind::kSimulatorObject) {
      problem = kind_problem(kind);
    }
    if (reason != nullptr) *reason = problem;
    return problem.empty();
  }

  std::size_t total_memory_bytes() const override { return host_memory().total_bytes; }
  std::size_t free_memory_bytes() const override { return host_memory().available_bytes; }
  std::size_t last_level_cache_bytes() const override { return host_.last_level_cache_bytes; }

  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    if (bytes >= kCheckedBytes && bytes > free_memory_bytes()) {
      throw DriverError("allocate", ENOMEM, "not enough memory", kName,
                        fmt::format("allocating {} bytes", bytes));
    }
    return std::make_unique<SimulatorBuffer>(shared_->memory, bytes);
  }
  /// Nothing is borrowed: a buffer has its own exact size, and kernels may write to it.
  std::unique_ptr<Buffer> try_borrow(std::span<const std::byte>) override { return nullptr; }
  std::unique_ptr<Stream> make_stream() override { return std::make_unique<SimulatorStream>(); }

  void upload(Stream&, std::span<const std::byte> from, Buffer& to, std::size_t offset) override {
    std::byte* at = place_in(to, offset, from.size());
    if (!from.empty()) std::memcpy(at, from.data(), from.size());
  }
  void download(Stream&, const Buffer& from, std::size_t offset, std::span<std::byte> to) override {
    const std::byte* at = place_in(from, offset, to.size());
    if (!to.empty()) std::memcpy(to.data(), at, to.size());
  }
  void fill(Stream&, Buffer& buffer, std::byte value) override {
    std::memset(place_in(buffer, 0, buffer.bytes()), std::to_integer<int>(value), buffer.bytes());
  }

  std::unique_ptr<Kernel> load(const Artifact& artifact) override {
    if (artifact.kind != ArtifactKind::kSimulatorObject) {
      throw DriverError("load", ENOEXEC, kind_problem(artifact.kind), kName,
                        fmt::format("loading kernel {}", artifact.entry_name));
    }
    return std::make_unique<SimulatorKernel>(artifact, shared_);
  }

  double time_us(Stream&, const std::function<void()>& enqueue) override {
    const auto start = std::chrono::steady_clock::now();
    enqueue();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
        .count();
  }

 private:
  static std::string kind_problem(ArtifactKind kind) {
    return fmt::format("the simulator loads simulator objects, not {}", artifact_kind_name(kind));
  }

  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  HostCpu host_;
  Target target_;
};

}  // namespace

std::unique_ptr<Device> make_simulator_device(std::shared_ptr<Executor> executor) {
  return std::make_unique<SimulatorDevice>(std::move(executor));
}

}  // namespace ktjit::runtime
