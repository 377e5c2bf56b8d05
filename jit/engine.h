// The main path: validate the spec, emit text, make the key, find or compile, store, load.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "cache/kernel_cache.h"
#include "codegen/emitter.h"
#include "core/artifact.h"
#include "core/kernel_spec.h"
#include "jit/compile_schedule.h"
#include "jit/compiler.h"
#include "jit/kernel_future.h"
#include "jit/tuning_store.h"
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
  Quality quality = Quality::kFull;

  bool from_cache() const { return origin != cache::Origin::kMade; }
};

/// A kernel that can be launched. Must not outlive the device it was loaded on.
struct LoadedKernel {
  BuiltKernel built;  ///< of the version that was loaded first; see current
  std::shared_ptr<const runtime::Kernel> kernel;

  /// Queues the op for `rows` rows of w. `arguments` as launch_order has them; `n`: rows of x of a product,
  /// slots of moe_matvec.
  /// Errors: SpecError for a count of rows that no grid serves; DriverError if the launch is
  /// refused.
  void launch(runtime::Stream& stream, std::int64_t rows, std::span<const std::uint64_t> arguments,
              std::int64_t n = 1) const;
  /// The same for several matrices (KernelSpec::matrices), each with its own count of rows.
  void launch(runtime::Stream& stream, std::span<const std::int64_t> rows,
              std::span<const std::uint64_t> arguments, std::int64_t n = 1) const;

  // For kernels of load_async(..., Tiers::kQuickFirst); others are full from the beginning.

  /// The version that launches take now; lives as long as `kernel`.
  const LoadedKernel& current() const;
  bool is_full() const { return current().built.quality == Quality::kFull; }
  /// Waits until launches take the full version. Before a stream of the device is captured, this or
  /// cancel_full has to be called: what is loaded meanwhile by another thread breaks a capture that is
  /// not in the relaxed or thread-local mode. A captured graph keeps the version that it captured, and
  /// so needs `kernel` to live.
  /// Errors: what Engine::load throws for the full version (launches go on with the quick one);
  /// InterruptedError if it was cancelled, the engine has ended, or `stop` ended the wait.
  void wait_full(const std::stop_token& stop = {}) const;
  /// Asks for the full version's load to stop, and doesn't wait: once wait_full throws
  /// InterruptedError nothing is being loaded. No effect on a full kernel.
  void cancel_full() const;
};

/// Which versions of a kernel load_async makes.
enum class Tiers {
  kFullOnly,
  /// Where the cache lacks the full version and the compiler has a quick one that measures as a gain
  /// (Compiler::quick_option): that one first, replaced by the full one when it is there.
  kQuickFirst,
};

struct EngineOptions {
  /// Kernels come from the cache and packs alone: no compiler is opened or started, and no driver
  /// links. They are looked up by what was asked for, whoever compiled them.
  bool sealed = false;
  /// Called with the spec of a kernel that is missing where nothing can compile it; the kernel of the
  /// spec it returns, if that is there, is given in its place (BuiltKernel::spec says so). May be
  /// called from several threads.
  std::function<std::optional<KernelSpec>(const KernelSpec& missing)> generic_kernel;
  int threads = 0;     ///< of load_async; 0: as many as the process may use
  bool tuning = true;  ///< false: tuned_knobs gives nothing
};

/// Threads: all members may be called from several threads; one spec is compiled once.
///
/// A stop token ends a call early with InterruptedError: what is done by then is kept in the cache,
/// no further compile starts, and the one under way ends as soon as its compiler lets it.
class Engine {
 public:
  using Progress = ProgressCallback;

  /// `compilers` in order of preference: the first that serves a target compiles for it.
  /// `not_usable` names compilers that were looked for in vain, with why, for messages.
  Engine(std::vector<std::shared_ptr<Compiler>> compilers, cache::DiskCacheOptions cache_options,
         std::vector<std::string> not_usable = {}, EngineOptions options = {});

  /// Emits a kernel and finds or makes an artefact of this kind for the spec's own target.
  /// Where no compiler serves the target, any compiler's from the cache or a pack will do.
  /// Errors: SpecError for the spec; ToolchainError if there is neither; CompileError. Sealed:
  /// MissingKernelError in place of the two.
  BuiltKernel build(const KernelSpec& spec, ArtifactKind kind, const std::stop_token& stop = {});

  /// The key under which build looks for the artefact, without compiler fields where no compiler
  /// serves the target. Opens no compiler. Errors: SpecError for the spec.
  cache::CacheKey key_for(const KernelSpec& spec, ArtifactKind kind) const;

  /// As build, with the kind that `device` can load. Where the target is another GPU's, or no
  /// compiler makes its machine code, PTX is made, the device's driver links it, and the result is cached.
  /// Errors: also ToolchainError if the device can't run the target, with the reason, or if its driver
  /// is too old for the dependent launches that the spec asks for.
  BuiltKernel build_for(runtime::Device& device, const KernelSpec& spec,
                        const std::stop_token& stop = {});

  /// build_for and load. A cached artefact that the device refuses is dropped and made again, once,
  /// unless the engine is sealed.
  LoadedKernel load(runtime::Device& device, const KernelSpec& spec,
                    const std::stop_token& stop = {});

  /// Starts what load does on a thread of the engine's, the kernels that take longest first, and
  /// returns. The device lives as long as the load or its future.
  ///
  /// kQuickFirst: where a quick version is made, the future is ready with it, and its errors are the
  /// future's. The full version is then compiled and loaded after all kernels that have none yet, for
  /// as long as the future or a copy of the LoadedKernel lives and the engine does; its errors are
  /// reported by wait_full alone. Both versions stay loaded until the kernel ends. A sealed engine
  /// makes neither. See LoadedKernel::wait_full for stream captures.
  KernelFuture load_async(std::shared_ptr<runtime::Device> device, const KernelSpec& spec,
                          Tiers tiers = Tiers::kFullOnly);

  /// The knobs that were measured to be the fastest for this spec on devices of this kind, for launches of
  /// about this size (tuning_record.h), if there is a record and their kernel can be had. Nothing for a
  /// spec whose own knobs were chosen: other than none, and than default_tuning's for the size. The first call
  /// for a spec reads the cache; later ones take about a microsecond. Errors: none.
  std::optional<TunedKnobs> tuned_knobs(runtime::Device& device, const KernelSpec& spec,
                                        const TuningSize& size = {});
  /// The spec with these knobs; if there are none, of a matvec without knobs with default_tuning's, if their kernel can be
  /// had; else as it is: what to load where speed matters.
  KernelSpec tuned(runtime::Device& device, KernelSpec spec, const TuningSize& size = {});
  /// The records, for who measures and packs.
  TuningStore& tuning() { return tuning_; }

  /// Loads many kernels: first those that the cache has, then the others, compiled slowest first on
  /// `threads` threads (0: as many as the process may use; see compile_threads). Equal specs are
  /// compiled and loaded once. Results in the order of `specs`.
  /// Errors: the first that occurs, after the compiles under way have ended.
  std::vector<LoadedKernel> load_all(runtime::Device& device, std::span<const KernelSpec> specs,
                                     int threads, const Progress& progress = {},
                                     const std::stop_token& stop = {});
  /// As load_all without a device: artefacts of `kind` for the specs' own targets; without a kind,
  /// of each target's own (native_artifact_kind).
  std::vector<BuiltKernel> build_all(std::span<const KernelSpec> specs,
                                     std::optional<ArtifactKind> kind, int threads,
                                     const Progress& progress = {},
                                     const std::stop_token& stop = {});

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
    kFound,   ///< nothing here makes it: the cache or a pack has to have it
  };
  /// A kernel that is wanted, with all that is known before it is found or made.
  struct Wanted {
    KernelSpec spec;
    codegen::EmittedKernel emitted;
    ArtifactKind kind = ArtifactKind::kCubin;  ///< of the result
    cache::CacheKey key;                       ///< `compiler` is empty where there is none
    Compiler* compiler = nullptr;              ///< none: it can only be found, by the request
    runtime::Device* linker = nullptr;         ///< its driver links what the compiler makes
    /// The request of a kernel that this device's driver linked, which will do too.
    std::optional<cache::KeyFields> linked_request;
    std::string linker_identity;
    Quality quality = Quality::kFull;
    /// The request of the target's own machine code, which will do in place of what the driver would
    /// link, whoever made it.
    std::optional<cache::KeyFields> native_request;

    /// Who makes it, for people. REQUIRES: `compiler`.
    std::string compiler_name() const;
  };
  Wanted want(const KernelSpec& spec, ArtifactKind kind) const;
  Wanted want_for(runtime::Device& device, const KernelSpec& spec) const;
  /// The quick version, where that is a gain.
  std::optional<Wanted> want_quick(const Wanted& full) const;
  LoadedKernel load_quick_first(const std::shared_ptr<runtime::Device>& device,
                                const KernelSpec& spec, const std::stop_token& stop);
  std::optional<BuiltKernel> find(const Wanted& wanted);
  std::optional<BuiltKernel> find_by_request(const Wanted& wanted);
  BuiltKernel make(Wanted wanted, const std::stop_token& stop);
  BuiltKernel find_or_make(Wanted wanted, const std::stop_token& stop);
  LoadedKernel load_built(runtime::Device& device, BuiltKernel built, const std::stop_token& stop);
  [[noreturn]] void throw_missing(const Wanted& wanted);
  std::vector<std::string> other_targets_of(const Wanted& wanted);
  std::size_t preference(const cache::StoredEntry& entry, const Wanted& wanted) const;
  double estimate_cost_ms(const Wanted& wanted);
  bool can_have(runtime::Device& device, const KernelSpec& spec);
  template <class Result>
  std::vector<Result> get_all(std::span<const KernelSpec> specs, int threads,
                              const Progress& progress, const std::stop_token& stop,
                              const std::function<Wanted(const KernelSpec&)>& want_one,
                              const std::function<Result(BuiltKernel)>& finish);
  Route route_to(runtime::Device& device, const Target& target) const;
  /// The first that is there and serves the target; null if none does.
  Compiler* find_compiler(const Target& target, ArtifactKind kind) const;
  /// As find_compiler; null in a sealed engine.
  Compiler* usable_compiler(const Target& target, ArtifactKind kind) const;
  Compiler& get_compiler(const Target& target, ArtifactKind kind) const;

  std::vector<std::shared_ptr<Compiler>> compilers_;
  std::vector<std::string> not_usable_;
  EngineOptions options_;
  std::vector<std::string> roots_;  // of the cache, for messages
  cache::KernelCache cache_;
  TuningStore tuning_{cache_.disk()};
  LoadPool pool_;  // the first to end
};

/// The kind of artefact that code for this target is kept as: cubin, or shared object.
ArtifactKind native_artifact_kind(const Target& target);
/// The kind that this device loads: for the simulator, one of its own.
ArtifactKind native_artifact_kind(const Target& target, const runtime::Device& device);

}  // namespace ktjit
