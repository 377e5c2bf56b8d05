// Validate the spec, emit text, make the key, find or compile, store, load.
#include "jit/engine.h"

#include <algorithm>
#include <cstdio>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mutex>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/missing_kernel_error.h"
#include "jit/artifact_entry.h"
#include "jit/tiered_kernel.h"
#include "jit/tuner.h"
#include "runtime/host_limits.h"

namespace ktjit {
namespace {

/// What determines the artefact, whoever compiles it. The target's features are part of the spec's
/// meaning for the CPU, where they don't show in its name.
cache::KeyFields request_fields(const KernelSpec& spec, const codegen::EmittedKernel& emitted,
                                std::string_view kind) {
  cache::KeyFields fields;
  fields.add("kind", kind);
  fields.add("target",
             spec.target.is_cpu() ? std::string_view("cpu") : std::string_view(spec.target.name()));
  fields.add("features", fmt::format("{}", fmt::join(spec.target.cpu_features, ",")));
  // Sums may be contracted on CUDA and not on the CPU; decodes are written so that neither matters.
  fields.add("contract", spec.target.is_cuda());
  fields.add("flush_to_zero", false);
  fields.add("entry", emitted.entry_name);
  fields.add("text", emitted.source);
  return fields;
}

cache::KeyFields compiler_fields(const CompilerIdentity& identity) {
  cache::KeyFields fields;
  for (const auto& [name, value] : identity) fields.add(name, value);
  return fields;
}

std::vector<std::string> roots_of(const cache::DiskCacheOptions& options) {
  std::vector<std::string> roots;
  if (options.writable) roots.push_back(options.writable->path);
  for (const cache::RootOptions& root : options.read_only) roots.push_back(root.path);
  return roots;
}

/// "NVRTC 13.0" as 1300 and so on; 0 for other compilers.
int nvrtc_number(const std::string& compiler) {
  int major = 0;
  int minor = 0;
  if (std::sscanf(compiler.c_str(), "NVRTC %d.%d", &major, &minor) != 2) return 0;
  return 100 * major + minor;
}

constexpr std::string_view kLinkedKind = "linked cubin";

/// Null for a kernel that has one version.
const TieredKernel* to_tiered(const LoadedKernel& loaded) {
  return dynamic_cast<const TieredKernel*>(loaded.kernel.get());
}

}  // namespace

ArtifactKind native_artifact_kind(const Target& target) {
  return target.is_cuda() ? ArtifactKind::kCubin : ArtifactKind::kSharedObject;
}

ArtifactKind native_artifact_kind(const Target& target, const runtime::Device& device) {
  const bool simulates = device.can_load(target, ArtifactKind::kSimulatorObject, nullptr);
  return simulates ? ArtifactKind::kSimulatorObject : native_artifact_kind(target);
}

void LoadedKernel::launch(runtime::Stream& stream, std::int64_t rows,
                          std::span<const std::uint64_t> arguments, std::int64_t n) const {
  kernel->launch(stream, grid_for(built.emitted.launch, rows, n), arguments);
}

void LoadedKernel::launch(runtime::Stream& stream, std::span<const std::int64_t> rows,
                          std::span<const std::uint64_t> arguments, std::int64_t n) const {
  KTJIT_CHECK(rows.size() == static_cast<std::size_t>(built.spec.matrices));
  kernel->launch(stream, grid_for(built.emitted.launch, rows, n), arguments);
}

const LoadedKernel& LoadedKernel::current() const {
  const TieredKernel* tiered = to_tiered(*this);
  return tiered == nullptr ? *this : tiered->current();
}

void LoadedKernel::wait_full(const std::stop_token& stop) const {
  if (const TieredKernel* tiered = to_tiered(*this)) tiered->wait_full(stop);
}

void LoadedKernel::cancel_full() const {
  if (const TieredKernel* tiered = to_tiered(*this)) tiered->cancel_full();
}

Engine::Engine(std::vector<std::shared_ptr<Compiler>> compilers,
               cache::DiskCacheOptions cache_options, std::vector<std::string> not_usable,
               EngineOptions options)
    : compilers_(std::move(compilers)),
      not_usable_(std::move(not_usable)),
      options_(std::move(options)),
      roots_(roots_of(cache_options)),
      cache_(std::move(cache_options)),
      pool_(options_.threads) {}

Compiler* Engine::usable_compiler(const Target& target, ArtifactKind kind) const {
  return options_.sealed ? nullptr : find_compiler(target, kind);
}

Compiler* Engine::find_compiler(const Target& target, ArtifactKind kind) const {
  for (const std::shared_ptr<Compiler>& compiler : compilers_) {
    if (compiler->serves(target, kind) && compiler->is_present()) return compiler.get();
  }
  return nullptr;
}

Compiler& Engine::get_compiler(const Target& target, ArtifactKind kind) const {
  if (Compiler* compiler = find_compiler(target, kind)) return *compiler;
  for (const std::shared_ptr<Compiler>& compiler : compilers_) {
    if (compiler->serves(target, kind))
      compiler->identity(target, kind);  // throws: what is missing
  }
  std::vector<std::string> looked_at = not_usable_;
  for (const std::shared_ptr<Compiler>& compiler : compilers_)
    looked_at.push_back(compiler->name());
  throw ToolchainError(
      fmt::format("no compiler makes {} for {}", artifact_kind_name(kind), target.name()),
      looked_at.empty() ? "no compiler was found" : fmt::format("{}", fmt::join(looked_at, ", ")),
      target.is_cuda() && kind != ArtifactKind::kSimulatorObject
          ? "install NVRTC, for example the Python wheel nvidia-cuda-nvrtc-cu12 (12.9 knows sm_60 "
            "to "
            "sm_121 but for sm_88 and sm_110) or nvidia-cuda-nvrtc (13 knows sm_75 and up), or "
            "give "
            "its path by --nvrtc or KTJIT_NVRTC"
          : "build ktjit with its worker, ktjit-llvm");
}

Engine::Wanted Engine::want(const KernelSpec& spec, ArtifactKind kind) const {
  Wanted wanted;
  wanted.spec = spec;
  wanted.emitted = codegen::emit(spec);
  wanted.kind = kind;
  wanted.key.request = request_fields(spec, wanted.emitted, artifact_kind_name(kind));
  wanted.compiler = usable_compiler(spec.target, kind);
  if (wanted.compiler != nullptr)
    wanted.key.compiler = compiler_fields(wanted.compiler->identity(spec.target, kind));
  return wanted;
}

cache::CacheKey Engine::key_for(const KernelSpec& spec, ArtifactKind kind) const {
  return want(spec, kind).key;
}

Engine::Route Engine::route_to(runtime::Device& device, const Target& target) const {
  const ArtifactKind native = native_artifact_kind(target, device);
  std::string reason;
  const bool loads_native = device.can_load(target, native, &reason);
  if (loads_native && usable_compiler(target, native) != nullptr) return Route::kNative;
  const bool links = target.is_cuda() && device.linker_identity().has_value() &&
                     device.can_load(target, ArtifactKind::kPtx, &reason);
  if (links && usable_compiler(target, ArtifactKind::kPtx) != nullptr) return Route::kLinked;
  if (loads_native || links) return Route::kFound;
  throw ToolchainError(
      fmt::format("{} can't run {} code: {}", device.name(), target.name(), reason),
      device.description(), "choose another --target or --device");
}

Engine::Wanted Engine::want_for(runtime::Device& device, const KernelSpec& spec) const {
  if (spec.dependent_launch) device.check_dependent_launch();
  const Route route = route_to(device, spec.target);
  const ArtifactKind native = native_artifact_kind(spec.target, device);
  if (route == Route::kNative) return want(spec, native);

  Wanted wanted;
  wanted.spec = spec;
  wanted.emitted = codegen::emit(spec);
  wanted.kind = native;
  wanted.linker_identity = device.linker_identity().value_or("");
  cache::KeyFields linked = request_fields(spec, wanted.emitted, kLinkedKind);
  if (route == Route::kFound) {
    wanted.key.request = request_fields(spec, wanted.emitted, artifact_kind_name(native));
    if (!wanted.linker_identity.empty()) wanted.linked_request = std::move(linked);
    return wanted;
  }
  wanted.compiler = &get_compiler(spec.target, ArtifactKind::kPtx);
  wanted.linker = &device;
  wanted.key = {std::move(linked),
                compiler_fields(wanted.compiler->identity(spec.target, ArtifactKind::kPtx))};
  wanted.key.compiler.add("linker", std::string_view(wanted.linker_identity));
  if (device.can_load(spec.target, native, nullptr))
    wanted.native_request = request_fields(spec, wanted.emitted, artifact_kind_name(native));
  return wanted;
}

std::string Engine::Wanted::compiler_name() const {
  return linker == nullptr ? compiler->name() : compiler->name() + " and the driver";
}

std::optional<Engine::Wanted> Engine::want_quick(const Wanted& full) const {
  // What the driver compiles takes its time there.
  if (full.compiler == nullptr || full.linker != nullptr) return std::nullopt;
  const std::optional<std::string> option =
      full.compiler->quick_option(full.spec.op, full.spec.target, full.kind);
  if (!option) return std::nullopt;
  Wanted quick = full;
  quick.quality = Quality::kQuick;
  quick.key.request.add("quality", std::string_view("quick"));
  quick.key.compiler.add("quick-option", std::string_view(*option));
  return quick;
}

std::optional<BuiltKernel> Engine::find(const Wanted& wanted) {
  if (wanted.compiler == nullptr) {
    if (auto found = find_by_request(wanted)) return found;
    if (!options_.generic_kernel) return std::nullopt;
    const std::optional<KernelSpec> generic = options_.generic_kernel(wanted.spec);
    if (!generic) return std::nullopt;
    Wanted instead = wanted;
    instead.spec = *generic;
    instead.emitted = codegen::emit(*generic);
    instead.key.request =
        request_fields(*generic, instead.emitted, artifact_kind_name(wanted.kind));
    if (instead.linked_request)
      instead.linked_request = request_fields(*generic, instead.emitted, kLinkedKind);
    return find_by_request(instead);
  }
  if (const auto result = cache_.find(wanted.key)) {
    if (std::optional<Artifact> artifact = to_artifact(*result->entry, wanted.kind)) {
      return BuiltKernel{wanted.spec,          wanted.emitted,
                         std::move(*artifact), compiler_of(*result->entry),
                         wanted.key,           result->origin};
    }
  }
  if (!wanted.native_request) return std::nullopt;
  Wanted native = wanted;
  native.key = {*wanted.native_request, {}};
  return find_by_request(native);
}

// Smaller is better: the order of our compilers, then NVRTCs from the newest to the oldest, then
// the rest.
std::size_t Engine::preference(const cache::StoredEntry& entry, const Wanted& wanted) const {
  const std::string name = compiler_of(entry.entry);
  std::size_t rank = 0;
  for (const std::shared_ptr<Compiler>& compiler : compilers_) {
    const bool serves = compiler->serves(wanted.spec.target, wanted.kind) ||
                        compiler->serves(wanted.spec.target, ArtifactKind::kPtx);
    if (serves && name.starts_with(compiler->name())) return rank;
    ++rank;
  }
  constexpr std::size_t kNewest = 100'000;
  return rank + kNewest - static_cast<std::size_t>(std::clamp(nvrtc_number(name), 0, 99'999));
}

std::optional<BuiltKernel> Engine::find_by_request(const Wanted& wanted) {
  std::vector<cache::StoredEntry> found = cache_.disk().find_by_request(wanted.key.request);
  if (wanted.linked_request) {
    for (cache::StoredEntry& entry : cache_.disk().find_by_request(*wanted.linked_request)) {
      const std::string* linker = entry.key.compiler.find("linker");
      if (linker != nullptr && *linker == wanted.linker_identity) found.push_back(std::move(entry));
    }
  }
  std::stable_sort(found.begin(), found.end(), [&](const auto& a, const auto& b) {
    return preference(a, wanted) < preference(b, wanted);
  });
  for (cache::StoredEntry& entry : found) {
    std::optional<Artifact> artifact = to_artifact(entry.entry, wanted.kind);
    if (!artifact) continue;
    return BuiltKernel{wanted.spec,          wanted.emitted,
                       std::move(*artifact), compiler_of(entry.entry),
                       std::move(entry.key), cache::Origin::kDisk};
  }
  return std::nullopt;
}

std::vector<std::string> Engine::other_targets_of(const Wanted& wanted) {
  std::vector<Target> targets;
  if (wanted.spec.target.is_cuda()) {
    for (const CudaFacts& facts : all_cuda_facts()) {
      targets.push_back(make_cuda_target(facts.sm));
      for (const char suffix : facts.suffixes)
        targets.push_back(make_cuda_target(facts.sm, std::string(1, suffix)));
    }
  } else {
    for (const char* level : {"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"})
      targets.push_back(make_cpu_target(level, cpu_level_features(level)));
  }
  std::vector<std::string> there;
  for (const Target& target : targets) {
    if (target == wanted.spec.target) continue;
    Wanted other;
    other.spec = wanted.spec;
    other.spec.target = target;
    other.kind = wanted.kind;
    try {
      other.emitted = codegen::emit(other.spec);
    } catch (const SpecError&) {
      continue;  // not served there
    }
    other.key.request = request_fields(other.spec, other.emitted, artifact_kind_name(other.kind));
    if (find_by_request(other)) there.push_back(target.name());
  }
  return there;
}

void Engine::throw_missing(const Wanted& wanted) {
  if (!options_.sealed) get_compiler(wanted.spec.target, wanted.kind);  // throws: there is none
  throw MissingKernelError({wanted.emitted.entry_name, wanted.spec.target.name(),
                            std::string(artifact_kind_name(wanted.kind)),
                            wanted.key.request_digest().hex(), roots_, other_targets_of(wanted),
                            "nothing is compiled in sealed mode"});
}

BuiltKernel Engine::make(Wanted wanted, const std::stop_token& stop) {
  if (wanted.compiler == nullptr) throw_missing(wanted);
  Compiler& compiler = *wanted.compiler;
  const std::string compiler_name = wanted.compiler_name();
  const auto make_entry = [&] {
    Artifact artifact = compiler.compile(
        {wanted.emitted.source, wanted.emitted.entry_name, wanted.spec.target,
         wanted.linker == nullptr ? wanted.kind : ArtifactKind::kPtx, stop, wanted.quality});
    if (wanted.linker != nullptr) {
      const double compile_ms = artifact.compile_ms;
      artifact = wanted.linker->link_ptx(artifact);
      artifact.compile_ms += compile_ms;
    }
    if (wanted.quality == Quality::kFull)
      cache_.remember_cost(cost_name(wanted.spec, wanted.kind, compiler_name), artifact.compile_ms);
    return to_entry(artifact, wanted.spec, wanted.emitted, compiler_name);
  };
  cache::KernelCache::Result result = cache_.get_or_make(wanted.key, make_entry, stop);
  std::optional<Artifact> artifact = to_artifact(*result.entry, wanted.kind);
  if (!artifact) {  // whole, but not an entry that this version writes
    cache_.discard(wanted.key);
    result = cache_.get_or_make(wanted.key, make_entry, stop);
    artifact = to_artifact(*result.entry, wanted.kind);
  }
  KTJIT_CHECK(artifact.has_value());
  return {std::move(wanted.spec), std::move(wanted.emitted),
          *std::move(artifact),   compiler_of(*result.entry),
          std::move(wanted.key),  result.origin,
          wanted.quality};
}

BuiltKernel Engine::find_or_make(Wanted wanted, const std::stop_token& stop) {
  if (wanted.compiler == nullptr || wanted.native_request) {
    if (auto found = find(wanted)) return std::move(*found);
  }
  return make(std::move(wanted), stop);
}

BuiltKernel Engine::build(const KernelSpec& spec, ArtifactKind kind, const std::stop_token& stop) {
  return find_or_make(want(spec, kind), stop);
}

BuiltKernel Engine::build_for(runtime::Device& device, const KernelSpec& spec,
                              const std::stop_token& stop) {
  return find_or_make(want_for(device, spec), stop);
}

LoadedKernel Engine::load_built(runtime::Device& device, BuiltKernel built,
                                const std::stop_token& stop) {
  std::shared_ptr<const runtime::Kernel> kernel;
  try {
    kernel = device.load(built.artifact);
  } catch (const DriverError&) {
    if (!built.from_cache() || options_.sealed) throw;
    cache_.discard(built.key);
    Wanted again = want_for(device, built.spec);
    if (built.quality == Quality::kQuick) again = *want_quick(again);
    built = find_or_make(std::move(again), stop);
    kernel = device.load(built.artifact);
  }
  return {std::move(built), std::move(kernel)};
}

LoadedKernel Engine::load(runtime::Device& device, const KernelSpec& spec,
                          const std::stop_token& stop) {
  return load_built(device, build_for(device, spec, stop), stop);
}

KernelFuture Engine::load_async(std::shared_ptr<runtime::Device> device, const KernelSpec& spec,
                                Tiers tiers) {
  return pool_.submit(guess_cost_ms(spec), device,
                      [this, device, spec, tiers](const std::stop_token& stop) {
                        return tiers == Tiers::kQuickFirst ? load_quick_first(device, spec, stop)
                                                           : load(*device, spec, stop);
                      });
}

LoadedKernel Engine::load_quick_first(const std::shared_ptr<runtime::Device>& device,
                                      const KernelSpec& spec, const std::stop_token& stop) {
  Wanted full = want_for(*device, spec);
  std::optional<Wanted> quick = want_quick(full);
  if (!quick) return load_built(*device, find_or_make(std::move(full), stop), stop);
  if (std::optional<BuiltKernel> found = find(full))
    return load_built(*device, std::move(*found), stop);

  LoadedKernel result = load_built(*device, make(std::move(*quick), stop), stop);
  const auto tiered = std::make_shared<TieredKernel>(result);
  // Nobody has the kernel any more: nobody wants its full version.
  const auto replace = [this, device, spec,
                        weak = std::weak_ptr(tiered)](const std::stop_token& stop_full) {
    LoadedKernel loaded = load(*device, spec, stop_full);
    if (const std::shared_ptr<TieredKernel> kernel = weak.lock()) kernel->replace(loaded);
    return loaded;
  };
  tiered->expect_full(pool_.submit(guess_cost_ms(spec), device, replace, LoadRank::kReplace));
  result.kernel = tiered;
  return result;
}

/// Whether load would give it, without compiling it.
bool Engine::can_have(runtime::Device& device, const KernelSpec& spec) {
  try {
    const Wanted wanted = want_for(device, spec);
    return wanted.compiler != nullptr || find_by_request(wanted).has_value();
  } catch (const Error&) {
    return false;  // knobs that the emitter refuses, or a device that doesn't run the target
  }
}

std::optional<TunedKnobs> Engine::tuned_knobs(runtime::Device& device, const KernelSpec& spec,
                                              const TuningSize& size) {
  const bool is_default = spec.tuning == Tuning{} || spec.tuning == default_tuning(spec, size);
  if (!options_.tuning || !is_default) return std::nullopt;
  return tuning_.find_knobs(device, spec, size,
                            [&](const KernelSpec& tuned) { return can_have(device, tuned); });
}

KernelSpec Engine::tuned(runtime::Device& device, KernelSpec spec, const TuningSize& size) {
  if (const std::optional<TunedKnobs> knobs = tuned_knobs(device, spec, size)) {
    spec.tuning = knobs->tuning;
    return spec;
  }
  if (!is_matvec(spec.op) || spec.tuning != Tuning{}) return spec;
  KernelSpec of_size = spec;
  of_size.tuning = default_tuning(spec, size);
  return of_size.tuning != Tuning{} && can_have(device, of_size) ? of_size : spec;
}

double Engine::estimate_cost_ms(const Wanted& wanted) {
  if (wanted.compiler == nullptr) return 0;  // it will be refused at once
  return cache_.remembered_cost_ms(cost_name(wanted.spec, wanted.kind, wanted.compiler_name()))
      .value_or(guess_cost_ms(wanted.spec));
}

template <class Result>
std::vector<Result> Engine::get_all(std::span<const KernelSpec> specs, int threads,
                                    const Progress& progress, const std::stop_token& stop,
                                    const std::function<Wanted(const KernelSpec&)>& want_one,
                                    const std::function<Result(BuiltKernel)>& finish) {
  // Each spec once: firsts[k] is the place of the k-th different one, which_of[i] its k.
  std::vector<std::size_t> firsts;
  std::vector<std::size_t> which_of(specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto same = std::find_if(firsts.begin(), firsts.end(),
                                   [&](std::size_t first) { return specs[first] == specs[i]; });
    which_of[i] = static_cast<std::size_t>(same - firsts.begin());
    if (same == firsts.end()) firsts.push_back(i);
  }

  struct Miss {
    Wanted wanted;
    double cost_ms;
    std::size_t which;
  };
  std::vector<std::optional<Result>> results(firsts.size());
  std::vector<Miss> misses;
  std::mutex mutex;
  ProgressReporter reporter(firsts.size(), progress);
  for_each_index(firsts.size(), threads > 0 ? threads : runtime::usable_threads(), stop,
                 [&](std::size_t k) {
                   Wanted wanted = want_one(specs[firsts[k]]);
                   std::string name = wanted.emitted.entry_name;
                   if (std::optional<BuiltKernel> found = find(wanted)) {
                     results[k] = finish(std::move(*found));
                     reporter.found(name);
                     return;
                   }
                   const double cost_ms = estimate_cost_ms(wanted);
                   const std::lock_guard lock(mutex);
                   misses.push_back({std::move(wanted), cost_ms, k});
                 });

  std::sort(misses.begin(), misses.end(), [](const Miss& a, const Miss& b) {
    return std::tuple(-a.cost_ms, a.which) < std::tuple(-b.cost_ms, b.which);
  });
  if (!misses.empty()) {
    double cost_ms = 0;
    for (const Miss& miss : misses) cost_ms += miss.cost_ms;
    const int side_by_side = compile_threads(threads);
    reporter.start_compiles(cost_ms, side_by_side);
    for_each_index(misses.size(), side_by_side, stop, [&](std::size_t m) {
      const std::string name = misses[m].wanted.emitted.entry_name;
      BuiltKernel built = make(std::move(misses[m].wanted), stop);
      const bool cached = built.from_cache();
      results[misses[m].which] = finish(std::move(built));
      reporter.compiled(name, misses[m].cost_ms, cached);
    });
  }

  std::vector<Result> all;
  for (const std::size_t k : which_of) all.push_back(*results[k]);
  return all;
}

std::vector<LoadedKernel> Engine::load_all(runtime::Device& device,
                                           std::span<const KernelSpec> specs, int threads,
                                           const Progress& progress, const std::stop_token& stop) {
  return get_all<LoadedKernel>(
      specs, threads, progress, stop,
      [&](const KernelSpec& spec) { return want_for(device, spec); },
      [&](BuiltKernel built) { return load_built(device, std::move(built), stop); });
}

std::vector<BuiltKernel> Engine::build_all(std::span<const KernelSpec> specs,
                                           std::optional<ArtifactKind> kind, int threads,
                                           const Progress& progress, const std::stop_token& stop) {
  return get_all<BuiltKernel>(
      specs, threads, progress, stop,
      [&](const KernelSpec& spec) {
        return want(spec, kind.value_or(native_artifact_kind(spec.target)));
      },
      [](BuiltKernel built) { return built; });
}

std::string Engine::describe_route(runtime::Device& device, const Target& target) const {
  switch (route_to(device, target)) {
    case Route::kNative:
      return fmt::format("{} code, made by {}", target.name(),
                         get_compiler(target, native_artifact_kind(target, device)).name());
    case Route::kLinked:
      return fmt::format("{} code as PTX made by {}, compiled for this device by the driver",
                         target.name(), get_compiler(target, ArtifactKind::kPtx).name());
    case Route::kFound:
      return fmt::format("{} code from the cache and packs, {}", target.name(),
                         options_.sealed ? "sealed" : "as no compiler here makes it");
  }
  KTJIT_UNREACHABLE("a known route");
}

}  // namespace ktjit
