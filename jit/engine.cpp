// Validate the spec, emit text, make the key, find or compile, store, load.
#include "jit/engine.h"

#include <exception>
#include <fmt/format.h>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "jit/artifact_entry.h"
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

/// Calls `work(i)` for all i < count on up to `threads` threads, 0: as many as the process may use.
/// Rethrows the first error at the end.
void for_each_index(std::size_t count, int threads, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr error;
  std::mutex mutex;
  const auto run = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> pool;
    const int wanted = threads > 0 ? threads : runtime::usable_threads();
    const std::size_t extra = std::min<std::size_t>(count, static_cast<std::size_t>(wanted));
    for (std::size_t i = 1; i < extra; ++i) pool.emplace_back(run);
    run();
  }
  if (error) std::rethrow_exception(error);
}

/// Counts finished kernels and tells the caller, one at a time.
class ProgressCounter {
 public:
  ProgressCounter(std::size_t total, const Engine::Progress& progress)
      : total_(total), progress_(progress) {}

  void finish(const BuiltKernel& built) {
    const std::lock_guard lock(mutex_);
    ++done_;
    if (progress_) progress_(done_, total_, built);
  }

 private:
  std::mutex mutex_;
  std::size_t done_ = 0;
  std::size_t total_;
  const Engine::Progress& progress_;
};

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

Engine::Engine(std::vector<std::shared_ptr<Compiler>> compilers,
               cache::DiskCacheOptions cache_options, std::vector<std::string> not_usable)
    : compilers_(std::move(compilers)),
      not_usable_(std::move(not_usable)),
      cache_(std::move(cache_options)) {}

Compiler* Engine::find_compiler(const Target& target, ArtifactKind kind) const {
  for (const std::shared_ptr<Compiler>& compiler : compilers_) {
    if (compiler->serves(target, kind)) return compiler.get();
  }
  return nullptr;
}

Compiler& Engine::get_compiler(const Target& target, ArtifactKind kind) const {
  if (Compiler* compiler = find_compiler(target, kind)) return *compiler;
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

BuiltKernel Engine::find_or_make(const KernelSpec& spec, codegen::EmittedKernel emitted,
                                 ArtifactKind kind, cache::CacheKey key,
                                 const std::string& compiler_name,
                                 const std::function<Artifact()>& make) {
  const auto make_entry = [&] { return to_entry(make(), spec, emitted, compiler_name); };
  cache::KernelCache::Result result = cache_.get_or_make(key, make_entry);
  std::optional<Artifact> artifact = to_artifact(*result.entry, kind);
  if (!artifact) {  // whole, but not an entry that this version writes
    cache_.discard(key);
    result = cache_.get_or_make(key, make_entry);
    artifact = to_artifact(*result.entry, kind);
  }
  KTJIT_CHECK(artifact.has_value());
  return {spec,           std::move(emitted), *std::move(artifact), compiler_of(*result.entry),
          std::move(key), result.origin};
}

BuiltKernel Engine::build(const KernelSpec& spec, ArtifactKind kind) {
  codegen::EmittedKernel emitted = codegen::emit(spec);
  Compiler& compiler = get_compiler(spec.target, kind);
  cache::CacheKey key{request_fields(spec, emitted, artifact_kind_name(kind)),
                      compiler_fields(compiler.identity(spec.target, kind))};
  const CompileRequest request{emitted.source, emitted.entry_name, spec.target, kind};
  return find_or_make(spec, std::move(emitted), kind, std::move(key), compiler.name(),
                      [&] { return compiler.compile(request); });
}

cache::CacheKey Engine::key_for(const KernelSpec& spec, ArtifactKind kind) const {
  const codegen::EmittedKernel emitted = codegen::emit(spec);
  return {request_fields(spec, emitted, artifact_kind_name(kind)),
          compiler_fields(get_compiler(spec.target, kind).identity(spec.target, kind))};
}

Engine::Route Engine::route_to(runtime::Device& device, const Target& target) const {
  const ArtifactKind native = native_artifact_kind(target, device);
  std::string reason;
  const bool loads_native = device.can_load(target, native, &reason);
  if (loads_native && find_compiler(target, native) != nullptr) return Route::kNative;
  const bool links = target.is_cuda() && device.linker_identity().has_value() &&
                     device.can_load(target, ArtifactKind::kPtx, &reason);
  if (links && find_compiler(target, ArtifactKind::kPtx) != nullptr) return Route::kLinked;
  if (loads_native || links)
    get_compiler(target, native);  // throws: the device would, no compiler does
  throw ToolchainError(
      fmt::format("{} can't run {} code: {}", device.name(), target.name(), reason),
      device.description(), "choose another --target or --device");
}

BuiltKernel Engine::build_for(runtime::Device& device, const KernelSpec& spec) {
  if (route_to(device, spec.target) == Route::kNative)
    return build(spec, native_artifact_kind(spec.target, device));

  codegen::EmittedKernel emitted = codegen::emit(spec);
  Compiler& compiler = get_compiler(spec.target, ArtifactKind::kPtx);
  cache::CacheKey key{request_fields(spec, emitted, "linked cubin"),
                      compiler_fields(compiler.identity(spec.target, ArtifactKind::kPtx))};
  key.compiler.add("linker", std::string_view(*device.linker_identity()));
  const CompileRequest request{emitted.source, emitted.entry_name, spec.target, ArtifactKind::kPtx};
  return find_or_make(spec, std::move(emitted), ArtifactKind::kCubin, std::move(key),
                      compiler.name() + " and the driver", [&] {
                        const Artifact ptx = compiler.compile(request);
                        Artifact cubin = device.link_ptx(ptx);
                        cubin.compile_ms += ptx.compile_ms;
                        return cubin;
                      });
}

LoadedKernel Engine::load(runtime::Device& device, const KernelSpec& spec) {
  BuiltKernel built = build_for(device, spec);
  std::shared_ptr<const runtime::Kernel> kernel;
  try {
    kernel = device.load(built.artifact);
  } catch (const DriverError&) {
    if (!built.from_cache()) throw;
    cache_.discard(built.key);
    built = build_for(device, spec);
    kernel = device.load(built.artifact);
  }
  return {std::move(built), std::move(kernel)};
}

std::vector<LoadedKernel> Engine::load_all(runtime::Device& device,
                                           std::span<const KernelSpec> specs, int threads,
                                           const Progress& progress) {
  std::vector<LoadedKernel> loaded(specs.size());
  ProgressCounter counter(specs.size(), progress);
  for_each_index(specs.size(), threads, [&](std::size_t i) {
    loaded[i] = load(device, specs[i]);
    counter.finish(loaded[i].built);
  });
  return loaded;
}

std::vector<BuiltKernel> Engine::build_all(std::span<const KernelSpec> specs, ArtifactKind kind,
                                           int threads, const Progress& progress) {
  std::vector<BuiltKernel> built(specs.size());
  ProgressCounter counter(specs.size(), progress);
  for_each_index(specs.size(), threads, [&](std::size_t i) {
    built[i] = build(specs[i], kind);
    counter.finish(built[i]);
  });
  return built;
}

std::string Engine::describe_route(runtime::Device& device, const Target& target) const {
  if (route_to(device, target) == Route::kNative) {
    return fmt::format("{} code, made by {}", target.name(),
                       get_compiler(target, native_artifact_kind(target, device)).name());
  }
  return fmt::format("{} code as PTX made by {}, compiled for this device by the driver",
                     target.name(), get_compiler(target, ArtifactKind::kPtx).name());
}

}  // namespace ktjit
