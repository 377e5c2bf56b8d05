// Compiles CUDA text with one NVRTC library of this machine, in this process.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "jit/compiler.h"
#include "jit/nvrtc_search.h"

namespace ktjit {

class NvrtcLibrary;

/// Makes cubins for exactly the target's architecture, and PTX for its virtual one.
///
/// Errors:  ToolchainError if the library can't be opened, or doesn't compile for the target after
///          all. CompileError, with the text saved, if the text is refused.
///          InterruptedError: NVRTC 12.8 and up asks whether to go on after its front end and some
///          times while it optimises; an older one goes on to the end of the compile.
/// Threads: compiles run in parallel.
class NvrtcCompiler final : public Compiler {
 public:
  /// Opens nothing yet. Refused text is saved in `failed_source_folder`, or in the folder for
  /// temporary files if that is empty. Errors: ToolchainError if the candidate is not usable.
  explicit NvrtcCompiler(NvrtcCandidate candidate, std::filesystem::path failed_source_folder = {});
  ~NvrtcCompiler() override;

  const NvrtcCandidate& candidate() const { return candidate_; }
  /// Whether a compile has opened the library.
  bool is_open() const;

  std::string name() const override;
  bool serves(const Target& target, ArtifactKind kind) const override;
  CompilerIdentity identity(const Target& target, ArtifactKind kind) const override;
  /// From 12.9 on, for the cubins of matmul.
  std::optional<std::string> quick_option(Op op, const Target& target,
                                          ArtifactKind kind) const override;
  Artifact compile(const CompileRequest& request) override;

 private:
  const NvrtcLibrary& open_library();
  void check_serves(const NvrtcLibrary& library, const Target& target) const;

  NvrtcCandidate candidate_;
  std::filesystem::path failed_source_folder_;
  mutable std::mutex open_mutex_;
  std::unique_ptr<const NvrtcLibrary> library_;  // guarded by open_mutex_ until it is set
};

}  // namespace ktjit
