// A compiler and a GPU that only remember what they were asked for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/compiler.h"
#include "runtime/device.h"

namespace ktjit::test {

/// Holds compiles back until it is opened.
class Gate {
 public:
  void pass(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    const bool open = changed_.wait(lock, stop, [this] { return open_; });
    if (!open) throw InterruptedError("a test's compile");
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait_for(int compiles) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= compiles; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool open_ = false;
  int waiting_ = 0;
};

/// "Compiles" to the target's name and counts; a quick version's has " quick" behind it.
class FakeCompiler : public Compiler {
 public:
  std::string version = "1";
  bool makes_cubins = true;
  bool present = true;     ///< else its program is missing
  bool has_quick = false;  ///< versions of matmul
  std::atomic<int> compiles{0};
  std::function<void(const CompileRequest&)> on_compile;  ///< called first, may throw
  std::function<double(const CompileRequest&)> compile_ms_of;

  std::string name() const override { return "fake " + version; }
  bool serves(const Target& target, ArtifactKind kind) const override {
    return target.sm != 61 && (makes_cubins || kind != ArtifactKind::kCubin);
  }
  bool is_present() const override { return present; }
  CompilerIdentity identity(const Target&, ArtifactKind) const override {
    if (!present) throw ToolchainError("the fake's program is missing", "a test", "present = true");
    return {{"compiler", name()}};
  }
  std::optional<std::string> quick_option(Op op, const Target&, ArtifactKind) const override {
    return has_quick && op == Op::kMatmul ? std::optional<std::string>("--quick") : std::nullopt;
  }
  Artifact compile(const CompileRequest& request) override {
    ++compiles;
    if (on_compile) on_compile(request);
    Artifact artifact;
    artifact.kind = request.kind;
    artifact.entry_name = request.entry_name;
    const std::string text =
        request.target.name() + (request.quality == Quality::kQuick ? " quick" : "");
    for (char c : text) artifact.bytes.push_back(static_cast<std::byte>(c));
    artifact.resources.registers = 40;
    artifact.compile_ms = compile_ms_of ? compile_ms_of(request) : 1.5;
    artifact.log = "fine";
    return artifact;
  }
};

class FakeKernel : public runtime::Kernel {
 public:
  /// `launches` counts them; it may only end before the kernel if there are none.
  explicit FakeKernel(std::atomic<int>& launches) : launches_(launches) {}
  void launch(runtime::Stream&, const LaunchGrid&, std::span<const std::uint64_t>) const override {
    ++launches_;
  }
  KernelResources resources() const override { return {}; }

 private:
  std::atomic<int>& launches_;
};

/// A GPU of compute capability 9.0 that only remembers what it was given.
class FakeDevice : public runtime::Device {
 public:
  std::atomic<int> refuse_next_loads{0};
  std::atomic<int> links{0};
  std::atomic<int> quick_launches{0};
  std::atomic<int> full_launches{0};
  bool driver_is_old = false;
  std::string driver = "CUDA 13";  ///< of the speed identity

  std::string name() const override { return "cuda:0"; }
  std::string description() const override { return "fake GPU"; }
  std::vector<std::pair<std::string, std::string>> speed_identity() const override {
    return {{"device", "fake GPU"}, {"driver", driver}};
  }
  const Target& native_target() const override { return target_; }
  bool can_load(const Target& target, ArtifactKind kind, std::string* reason) const override {
    if (reason != nullptr) *reason = "it is a fake";
    if (kind == ArtifactKind::kPtx) return target.sm <= 90;
    return kind == ArtifactKind::kCubin && target.sm == 90;
  }
  std::size_t total_memory_bytes() const override { return 0; }
  std::size_t free_memory_bytes() const override { return 0; }
  std::size_t last_level_cache_bytes() const override { return 0; }
  std::unique_ptr<runtime::Buffer> allocate(std::size_t) override { return nullptr; }
  std::unique_ptr<runtime::Buffer> try_borrow(std::span<const std::byte>) override {
    return nullptr;
  }
  std::unique_ptr<runtime::Stream> make_stream() override { return nullptr; }
  void upload(runtime::Stream&, std::span<const std::byte>, runtime::Buffer&,
              std::size_t) override {}
  void download(runtime::Stream&, const runtime::Buffer&, std::size_t,
                std::span<std::byte>) override {}
  void fill(runtime::Stream&, runtime::Buffer&, std::byte) override {}
  std::optional<std::string> linker_identity() const override { return "driver 1"; }
  Artifact link_ptx(const Artifact& ptx) override {
    ++links;
    Artifact cubin = ptx;
    cubin.kind = ArtifactKind::kCubin;
    return cubin;
  }
  void check_dependent_launch() const override {
    if (driver_is_old) throw ToolchainError("no cuLaunchKernelEx", "a test", "a newer driver");
  }
  std::unique_ptr<runtime::Kernel> load(const Artifact& artifact) override {
    if (refuse_next_loads-- > 0)
      throw DriverError("cuModuleLoadData", 200, "CUDA_ERROR_INVALID_IMAGE", name(), "a test");
    const std::string text(reinterpret_cast<const char*>(artifact.bytes.data()),
                           artifact.bytes.size());
    return std::make_unique<FakeKernel>(text.ends_with(" quick") ? quick_launches : full_launches);
  }
  double time_us(runtime::Stream&, const std::function<void()>&) override { return 0; }

 private:
  Target target_ = make_cuda_target(90, "a");
};

}  // namespace ktjit::test
