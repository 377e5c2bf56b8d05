// The seam between the engine and the compilers: text in, artefact out.
#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "core/artifact.h"
#include "core/kernel_spec.h"
#include "core/target.h"

namespace ktjit {

/// How much a compiler optimises.
enum class Quality {
  kFull,
  kQuick,  ///< the same results from slower code, compiled sooner: to begin with
};

/// One kernel's text and what to make of it.
struct CompileRequest {
  std::string source;      ///< CUDA text for CUDA targets, C++ text for CPU targets
  std::string entry_name;  ///< the extern "C" symbol
  Target target;
  ArtifactKind kind = ArtifactKind::kCubin;
  std::stop_token stop = {};         ///< ends the compile, as soon as the compiler can be ended
  Quality quality = Quality::kFull;  ///< kQuick: only where quick_option gives one
};

/// Named values that, with the request, determine the artefact: prelude, flags, build ids,
/// versions. Never a path or a time.
using CompilerIdentity = std::vector<std::pair<std::string, std::string>>;

/// Threads: all members may be called from several threads at once.
class Compiler {
 public:
  virtual ~Compiler() = default;

  /// For people: "NVRTC 13.0", "LLVM 19.1.7".
  virtual std::string name() const = 0;
  /// Whether this compiler can make `kind` for `target`.
  virtual bool serves(const Target& target, ArtifactKind kind) const = 0;
  /// Whether it is there: a program that it needs may be missing, and then `identity` says so.
  virtual bool is_present() const { return true; }
  /// Opens no compiler library and starts no worker, so a warm start stays cheap.
  virtual CompilerIdentity identity(const Target& target, ArtifactKind kind) const = 0;
  /// What this compiler is told for a quick version, where that measures as a gain in compile time
  /// (docs/COMPILING.md); nothing elsewhere. Beside `identity` it determines the quick artefact.
  virtual std::optional<std::string> quick_option(Op, const Target&, ArtifactKind) const {
    return std::nullopt;
  }
  /// Errors: CompileError if the text is refused or the compiler dies; ToolchainError if the
  /// compiler can't be opened or started; InterruptedError if `request.stop` asked for it.
  virtual Artifact compile(const CompileRequest& request) = 0;
};

}  // namespace ktjit
