// The compiler that needs no CUDA toolkit: Clang, LLVM and lld in worker processes. C++ text
// becomes a shared object for this CPU, CUDA text becomes PTX for GPUs that NVRTC no longer knows.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "jit/compiler.h"
#include "jit/worker_process.h"

namespace ktjit {

struct LlvmCompilerOptions {
  /// The worker program. Empty: `ktjit-llvm` next to the running program, then in
  /// ../libexec/ktjit/.
  std::filesystem::path worker;
  int max_workers = 0;  ///< processes side by side; 0: as many as the process may use CPUs
  std::chrono::milliseconds timeout = std::chrono::seconds(120);  ///< for one compile
  /// Where text that failed to compile is saved; empty: the folder for temporary files.
  std::filesystem::path dump_dir;
};

/// Serves CPU targets (shared object, assembly, LLVM IR), sm_60 to sm_90a (PTX, LLVM IR) and every CUDA
/// target for the simulator (simulator object).
///
/// Errors:  CompileError if the text is refused, or the worker dies or is too slow; the next
/// compile
///          starts a new one. ToolchainError if there is no worker program. InterruptedError: a
///          worker that is compiling is ended.
/// Threads: any number; compiles beyond max_workers wait for their turn.
class LlvmCompiler : public Compiler {
 public:
  explicit LlvmCompiler(LlvmCompilerOptions options = {});
  ~LlvmCompiler() override;

  std::string name() const override;
  bool serves(const Target& target, ArtifactKind kind) const override;
  bool is_present() const override { return find_worker().has_value(); }
  /// Errors: ToolchainError if there is no worker program: it is part of the identity.
  CompilerIdentity identity(const Target& target, ArtifactKind kind) const override;
  /// For matmul on the CPU.
  std::optional<std::string> quick_option(Op op, const Target& target,
                                          ArtifactKind kind) const override;
  Artifact compile(const CompileRequest& request) override;

  /// The worker program, if there is one.
  std::optional<std::filesystem::path> find_worker() const;
  /// How many workers have been started so far.
  int workers_started() const;
  /// Process ids of the workers that live now, for tests and `doctor`.
  std::vector<pid_t> worker_pids() const;

 private:
  class Lease;

  std::vector<std::filesystem::path> places() const;
  std::filesystem::path get_worker() const;
  std::unique_ptr<WorkerProcess> acquire(const CompileRequest& request);
  void release(std::unique_ptr<WorkerProcess> worker);

  LlvmCompilerOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::unique_ptr<WorkerProcess>> idle_;
  std::vector<pid_t> pids_;  ///< of workers that live
  int in_use_ = 0;           ///< leased out or being started
  int started_ = 0;
  std::uint64_t next_id_ = 1;
  mutable std::optional<std::string> worker_build_id_;
};

}  // namespace ktjit
