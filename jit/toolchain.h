// Assembles an engine and devices from what this machine has. Looking opens no compiler.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jit/engine.h"
#include "jit/llvm_compiler.h"
#include "jit/nvrtc_compiler.h"
#include "jit/options.h"
#include "runtime/cuda_device.h"
#include "runtime/device.h"

namespace ktjit {

/// Everything a process needs to build and run kernels.
class Toolchain {
 public:
  /// `log` gets warnings (a cache that can't be written and the like), one line each.
  Toolchain(Options options, std::function<void(std::string_view)> log);

  const Options& options() const { return options_; }
  Engine& engine() { return *engine_; }

  /// Opens "cuda", "cuda:1", "cpu" or "sim" (the simulator). An empty name picks the first GPU, else the CPU.
  /// Errors: SpecError for another name; ToolchainError if there is no such device, with what was
  /// tried.
  std::unique_ptr<runtime::Device> open_device(const std::string& name);
  /// Why an empty name gave the device it did: "no GPU: libcuda.so.1 not found". Empty before
  /// open_device.
  const std::string& device_choice_reason() const { return device_choice_reason_; }

  /// "sm_86", "cpu:x86-64-v3", ...; "cpu" is this machine's CPU. Errors: SpecError.
  Target get_target(const std::string& name) const;

  /// Every NVRTC found, in order of preference, usable or not, for `ktjit doctor`.
  const std::vector<NvrtcCandidate>& nvrtc_candidates() const { return nvrtc_candidates_; }
  /// The worker's client, which always exists; the program it starts may be missing.
  LlvmCompiler& llvm() { return *llvm_; }

  /// Compiler worker processes started so far, and compiler libraries opened.
  int workers_started() const;
  int compiler_libraries_opened() const;

 private:
  Options options_;
  std::vector<NvrtcCandidate> nvrtc_candidates_;
  std::vector<std::shared_ptr<NvrtcCompiler>> nvrtc_;
  std::shared_ptr<LlvmCompiler> llvm_;
  std::unique_ptr<Engine> engine_;
  std::string device_choice_reason_;
};

}  // namespace ktjit
