// The main path: validate the spec, emit text, make the key, find or compile, store, load.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/kernel_cache.h"
#include "codegen/emitter.h"
#include "core/artifact.h"
#include "core/kernel_spec.h"
#include "jit/compiler.h"
#include "runtime/device.h"

namespace ktjit {

/// A kernel with its artefact, from the cache or a compiler.
struct BuiltKernel {
  KernelSpec spec;
  codegen::EmittedKernel emitted;
  Artifact artifact;
  std::string compiler;  ///< name of who made it: "NVRTC 13.0"
  cache::CacheKey key;
  cache::Origin origin = cache::Origin::kMade;

  bool from_cache() const { return origin != cache::Origin::kMade; }
};

/// A kernel that can be launched. Must not outlive the device it was loaded on.
struct LoadedKernel {
  BuiltKernel built;
  std::shared_ptr<const runtime::Kernel> kernel;

  /// Queues the op for `rows` rows of w. `arguments` as codegen::emit orders them; `n`: rows of x, for
  /// products.
  /// Errors: SpecError for a count of rows that no grid serves; DriverError if the launch is
  /// refused.
  void launch(runtime::Stream& stream, std::int64_t rows, std::span<const std::uint64_t> arguments,
              std::int64_t n = 1) const;
};

/// Threads: all members may be called from several threads; one spec is compiled once.
class Engine {
 public:
  /// Called after each kernel of build_all: how many are done, of how many, and the last one.
  using Progress =
      std::function<void(std::size_t done, std::size_t total, const BuiltKernel& last)>;

  /// `compilers` in order of preference: the first that serves a target compiles for it.
  /// `not_usable` names compilers that were looked for in vain, with why, for messages.
  Engine(std::vector<std::shared_ptr<Compiler>> compilers, cache::DiskCacheOptions cache_options,
         std::vector<std::string> not_usable = {});

  /// Emits a kernel and finds or makes an artefact of this kind for the spec's own target.
  /// Errors: SpecError for the spec; ToolchainError if no compiler serves the target; CompileError.
  BuiltKernel build(const KernelSpec& spec, ArtifactKind kind);

  /// The key under which build looks for the artefact. Opens no compiler.
  /// Errors: SpecError for the spec; ToolchainError if no compiler serves the target.
  cache::CacheKey key_for(const KernelSpec& spec, ArtifactKind kind) const;

  /// As build, with the kind that `device` can load. Where the target is another GPU's, or no
  /// compiler makes its machine code, PTX is made, the device's driver links it, and the result is cached.
  /// Errors: also ToolchainError if the device can't run the target, with the reason.
  BuiltKernel build_for(runtime::Device& device, const KernelSpec& spec);

  /// build_for and load. A cached artefact that the device refuses is dropped and made again, once.
  LoadedKernel load(runtime::Device& device, const KernelSpec& spec);

  /// Loads many kernels, compiling on `threads` threads (0: as many as the process may use).
  /// Results in the order of `specs`. Errors: the first that occurs, after the compiles under way
  /// have ended.
  std::vector<LoadedKernel> load_all(runtime::Device& device, std::span<const KernelSpec> specs,
                                     int threads, const Progress& progress = {});
  /// As load_all without a device: artefacts of `kind` for the specs' own targets.
  std::vector<BuiltKernel> build_all(std::span<const KernelSpec> specs, ArtifactKind kind,
                                     int threads, const Progress& progress = {});

  /// How a kernel for this target gets to this device, in words.
  /// Errors: ToolchainError if it can't, with the reason.
  std::string describe_route(runtime::Device& device, const Target& target) const;

  cache::KernelCacheStats cache_stats() const { return cache_.stats(); }
  std::span<const std::shared_ptr<Compiler>> compilers() const { return compilers_; }

 private:
  /// How a target's code gets to a device.
  enum class Route {
    kNative,  ///< a compiler makes what the device loads
    kLinked,  ///< a compiler makes PTX, the device's driver machine code
  };
  Route route_to(runtime::Device& device, const Target& target) const;
  Compiler* find_compiler(const Target& target, ArtifactKind kind) const;
  Compiler& get_compiler(const Target& target, ArtifactKind kind) const;
  BuiltKernel find_or_make(const KernelSpec& spec, codegen::EmittedKernel emitted,
                           ArtifactKind kind, cache::CacheKey key, const std::string& compiler_name,
                           const std::function<Artifact()>& make);

  std::vector<std::shared_ptr<Compiler>> compilers_;
  std::vector<std::string> not_usable_;
  cache::KernelCache cache_;
};

/// The kind of artefact that code for this target is kept as: cubin, or shared object.
ArtifactKind native_artifact_kind(const Target& target);
/// The kind that this device loads: for the simulator, one of its own.
ArtifactKind native_artifact_kind(const Target& target, const runtime::Device& device);

}  // namespace ktjit
