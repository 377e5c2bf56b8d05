// Buffers are host memory, a launch is a parallel loop over tiles, everything is synchronous.
#include "runtime/cpu_device.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>
#include <utility>
#include <vector>

#include "core/error.h"
#include "runtime/float_environment.h"
#include "runtime/host_cpu.h"
#include "runtime/host_limits.h"
#include "runtime/shared_object.h"

namespace ktjit::runtime {
namespace {

constexpr const char* kName = "cpu";
constexpr std::size_t kAlignment = 256;
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
// Above this an allocation is checked against the memory that is left: Linux hands out more than it
// has, and ends the process when it is used.
constexpr std::size_t kCheckedBytes = std::size_t{64} << 20;

class CpuBuffer : public Buffer {
 public:
  CpuBuffer(std::byte* data, std::size_t bytes) : data_(data), bytes_(bytes) {}

  std::uint64_t address() const override { return reinterpret_cast<std::uintptr_t>(data_); }
  std::size_t bytes() const override { return bytes_; }
  const std::byte* data() const { return data_; }
  virtual std::byte* writable_data() = 0;

 protected:
  std::byte* data_;
  std::size_t bytes_;
};

class OwnedBuffer : public CpuBuffer {
 public:
  using CpuBuffer::CpuBuffer;
  ~OwnedBuffer() override { free(data_); }
  std::byte* writable_data() override { return data_; }
};

class BorrowedBuffer : public CpuBuffer {
 public:
  explicit BorrowedBuffer(std::span<const std::byte> host)
      : CpuBuffer(const_cast<std::byte*>(host.data()), host.size()) {}
  std::byte* writable_data() override {
    KTJIT_UNREACHABLE("a borrowed buffer is read-only");
    return nullptr;
  }
};

class CpuStream : public Stream {
 public:
  void synchronize() override {}
};

/// Memory of one launch or thread, kept for the next one, so that launches allocate only where they need more than any before.
struct Scratch {
  std::unique_ptr<void, void (*)(void*)> data{nullptr, &free};
  std::size_t bytes = 0;

  /// Contents undefined, aligned to kAlignment. Errors: DriverError if memory is short.
  void* at_least(std::size_t wanted) {
    if (wanted <= bytes) return data.get();
    *this = {};
    void* made = nullptr;
    const bool is_large = wanted >= kHugePageBytes / 2;
    if (is_large) wanted = (wanted + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    const int code = posix_memalign(&made, is_large ? kHugePageBytes : kAlignment, wanted);
    if (code == 0 && is_large) madvise(made, wanted, MADV_HUGEPAGE);
    if (code != 0) {
      throw DriverError("posix_memalign", code, std::strerror(code), kName,
                        fmt::format("allocating {} bytes of scratch", wanted));
    }
    data.reset(made);
    bytes = wanted;
    return made;
  }
};

enum class ScratchOf { kLaunch, kThread };

/// The calling thread's memory for as long as this lives. While it waits for the others, an executor's thread may do other
/// work, launches too, so it is taken, not shared.
template <ScratchOf kOf>
class TakenScratch {
 public:
  TakenScratch() : scratch_(std::exchange(kept(), {})) {}
  ~TakenScratch() { kept() = std::move(scratch_); }
  TakenScratch(const TakenScratch&) = delete;
  TakenScratch& operator=(const TakenScratch&) = delete;

  void* at_least(std::size_t wanted) { return scratch_.at_least(wanted); }

 private:
  static Scratch& kept() {
    thread_local Scratch scratch;
    return scratch;
  }

  Scratch scratch_;
};

/// A kernel may have, beside its entry,
///   ENTRY_begin          told of each launch before its tiles run; with ENTRY_begin_tiles, of that many tiles in ranges,
///                        in parallel
///   ENTRY_scratch_bytes  goes with it: memory of the launch, as one argument more
///   ENTRY_thread_bytes   memory of each thread that runs tiles, as one argument more after that
class CpuKernel : public Kernel {
 public:
  CpuKernel(const Artifact& artifact, std::shared_ptr<Executor> executor)
      : code_(artifact.bytes, artifact.entry_name),
        entry_(reinterpret_cast<Entry>(code_.get_symbol(artifact.entry_name))),
        begin_(code_.find_symbol(artifact.entry_name + "_begin")),
        begin_tiles_(find_size(artifact, "_begin_tiles")),
        thread_bytes_(find_size(artifact, "_thread_bytes")),
        executor_(std::move(executor)),
        resources_(artifact.resources) {
    if (begin_ != nullptr) {
      scratch_bytes_ =
          reinterpret_cast<Size>(code_.get_symbol(artifact.entry_name + "_scratch_bytes"));
    }
  }

  void launch(Stream&, const LaunchGrid& grid,
              std::span<const std::uint64_t> arguments) const override {
    static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
    const std::int64_t tiles = std::int64_t{grid.x} * grid.y;
    if (begin_ == nullptr) {
      return run(entry_, tiles, reinterpret_cast<const unsigned long long*>(arguments.data()));
    }
    TakenScratch<ScratchOf::kLaunch> scratch;
    Values values{};
    KTJIT_CHECK(arguments.size() <= kMaxArguments);
    std::ranges::copy(arguments, values.begin());
    const auto bytes = static_cast<std::size_t>(scratch_bytes_(values.data()));
    values[arguments.size()] = reinterpret_cast<std::uintptr_t>(scratch.at_least(bytes));
    if (begin_tiles_ != nullptr) {
      run(reinterpret_cast<Entry>(begin_), begin_tiles_(values.data()), values.data());
    } else {
      const ScopedFloatEnvironment environment;
      reinterpret_cast<Begin>(begin_)(values.data());
    }
    if (thread_bytes_ == nullptr) return run(entry_, tiles, values.data());
    run_with_memory(tiles, values, arguments.size() + 1);
  }

  KernelResources resources() const override { return resources_; }

 private:
  using Entry = void (*)(const unsigned long long* arguments, long long tile_begin,
                         long long tile_end);
  using Begin = void (*)(const unsigned long long* arguments);
  using Size = long long (*)(const unsigned long long* arguments);
  static constexpr std::size_t kMaxArguments = 32;  // more than any launch order has
  using Values = std::array<unsigned long long, kMaxArguments + 2>;

  Size find_size(const Artifact& artifact, const char* suffix) const {
    return reinterpret_cast<Size>(code_.find_symbol(artifact.entry_name + suffix));
  }

  void run(Entry entry, std::int64_t tiles, const unsigned long long* values) const {
    executor_->parallel_for(tiles, [&](std::int64_t begin, std::int64_t end) {
      const ScopedFloatEnvironment environment;
      entry(values, begin, end);
    });
  }

  /// As run, with memory of the thread's own as the argument `at`.
  void run_with_memory(std::int64_t tiles, const Values& values, std::size_t at) const {
    const auto bytes = static_cast<std::size_t>(thread_bytes_(values.data()));
    std::atomic_flag is_short;  // an executor's bodies don't throw
    executor_->parallel_for(tiles, [&](std::int64_t begin, std::int64_t end) {
      TakenScratch<ScratchOf::kThread> own;
      Values with_own = values;
      try {
        with_own[at] = reinterpret_cast<std::uintptr_t>(own.at_least(bytes));
      } catch (const DriverError&) {
        is_short.test_and_set();
        return;
      }
      const ScopedFloatEnvironment environment;
      entry_(with_own.data(), begin, end);
    });
    if (is_short.test()) {
      throw DriverError("posix_memalign", ENOMEM, std::strerror(ENOMEM), kName,
                        fmt::format("allocating {} bytes for a thread", bytes));
    }
  }

  SharedObject code_;
  Entry entry_;
  void* begin_;
  Size begin_tiles_;
  Size thread_bytes_;
  Size scratch_bytes_ = nullptr;
  std::shared_ptr<Executor> executor_;
  KernelResources resources_;
};

const std::byte* readable(const Buffer& buffer, std::size_t offset, std::size_t bytes) {
  const auto* cpu = dynamic_cast<const CpuBuffer*>(&buffer);
  KTJIT_CHECK(cpu != nullptr);
  KTJIT_CHECK(offset <= buffer.bytes() && bytes <= buffer.bytes() - offset);
  return cpu->data() + offset;
}

std::byte* writable(Buffer& buffer, std::size_t offset, std::size_t bytes) {
  readable(buffer, offset, bytes);
  return static_cast<CpuBuffer&>(buffer).writable_data() + offset;
}

/// The features people know a CPU by.
std::string vector_features(const Target& target) {
  constexpr std::pair<const char*, const char*> kShown[] = {
      {"avx2", "AVX2"},        {"avx512f", "AVX-512"}, {"avx512vnni", "VNNI"},
      {"avxvnni", "AVX-VNNI"}, {"avx512bf16", "BF16"}, {"amx-tile", "AMX"},
      {"f16c", "F16C"},        {"fma", "FMA"}};
  std::vector<std::string> names;
  for (const auto& [feature, name] : kShown) {
    if (target.has_cpu_feature(feature)) names.emplace_back(name);
  }
  return names.empty() ? "SSE2" : fmt::format("{}", fmt::join(names, ", "));
}

class CpuDevice : public Device {
 public:
  explicit CpuDevice(std::shared_ptr<Executor> executor)
      : executor_(std::move(executor)),
        host_(detect_host_cpu()),
        target_(make_cpu_target("native", host_.features)) {}

  std::string name() const override { return kName; }
  std::string description() const override {
    const int threads = executor_->concurrency();
    return fmt::format("{}, {} thread{} ({})", host_.model, threads, threads == 1 ? "" : "s",
                       vector_features(target_));
  }
  const Target& native_target() const override { return target_; }

  bool can_load(const Target& target, ArtifactKind kind, std::string* reason) const override {
    const std::string problem = loading_problem(target, kind);
    if (reason != nullptr) *reason = problem;
    return problem.empty();
  }

  std::size_t total_memory_bytes() const override { return host_memory().total_bytes; }
  std::size_t free_memory_bytes() const override { return host_memory().available_bytes; }
  std::size_t last_level_cache_bytes() const override { return host_.last_level_cache_bytes; }

  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    const std::string doing = fmt::format("allocating {} bytes", bytes);
    if (bytes >= kCheckedBytes && bytes > free_memory_bytes())
      throw DriverError("allocate", ENOMEM, "not enough memory", kName, doing);
    const std::size_t alignment = bytes >= kHugePageBytes ? kHugePageBytes : kAlignment;
    void* data = nullptr;
    const int code = posix_memalign(&data, alignment, std::max<std::size_t>(bytes, 1));
    if (code != 0) throw DriverError("posix_memalign", code, std::strerror(code), kName, doing);
    // A hint: where the kernel can't, small pages serve.
    if (bytes >= kHugePageBytes) madvise(data, bytes, MADV_HUGEPAGE);
    return std::make_unique<OwnedBuffer>(static_cast<std::byte*>(data), bytes);
  }

  std::unique_ptr<Buffer> try_borrow(std::span<const std::byte> host) override {
    return std::make_unique<BorrowedBuffer>(host);
  }

  std::unique_ptr<Stream> make_stream() override { return std::make_unique<CpuStream>(); }

  void upload(Stream&, std::span<const std::byte> from, Buffer& to, std::size_t offset) override {
    std::byte* at = writable(to, offset, from.size());
    if (!from.empty()) std::memcpy(at, from.data(), from.size());
  }
  void download(Stream&, const Buffer& from, std::size_t offset, std::span<std::byte> to) override {
    const std::byte* at = readable(from, offset, to.size());
    if (!to.empty()) std::memcpy(to.data(), at, to.size());
  }
  void fill(Stream&, Buffer& buffer, std::byte value) override {
    std::memset(writable(buffer, 0, buffer.bytes()), std::to_integer<int>(value), buffer.bytes());
  }

  std::unique_ptr<Kernel> load(const Artifact& artifact) override {
    if (artifact.kind != ArtifactKind::kSharedObject) {
      throw DriverError("load", ENOEXEC, kind_problem(artifact.kind), kName,
                        fmt::format("loading kernel {}", artifact.entry_name));
    }
    return std::make_unique<CpuKernel>(artifact, executor_);
  }

  double time_us(Stream&, const std::function<void()>& enqueue) override {
    const auto start = std::chrono::steady_clock::now();
    enqueue();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
        .count();
  }

 private:
  static std::string kind_problem(ArtifactKind kind) {
    return fmt::format("the CPU loads shared objects, not {}", artifact_kind_name(kind));
  }

  /// "" if the artefact can be loaded.
  std::string loading_problem(const Target& target, ArtifactKind kind) const {
    if (!target.is_cpu()) return fmt::format("the CPU does not run code for {}", target.name());
    if (kind != ArtifactKind::kSharedObject) return kind_problem(kind);
    std::vector<std::string> missing;
    for (const std::string& feature : target.cpu_features) {
      if (!target_.has_cpu_feature(feature)) missing.push_back(feature);
    }
    if (missing.empty()) return "";
    return fmt::format("this CPU lacks {}", fmt::join(missing, ", "));
  }

  std::shared_ptr<Executor> executor_;
  HostCpu host_;
  Target target_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(std::shared_ptr<Executor> executor) {
  return std::make_unique<CpuDevice>(std::move(executor));
}

}  // namespace ktjit::runtime
