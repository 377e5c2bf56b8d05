// Kernels: emit, build, load, describe, launch.
#include <fmt/format.h>
#include <utility>

#include "capi/abi_struct.h"
#include "capi/describe_kernel.h"
#include "capi/handles.h"
#include "capi/launch_arguments.h"
#include "capi/status.h"

#include "codegen/emitter.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "runtime/driver_api.h"

ktjit_kernel::ktjit_kernel(std::shared_ptr<ktjit::capi::DeviceState> its_device,
                           ktjit::LoadedKernel kernel, bool is_built)
    : device(std::move(its_device)),
      loaded(std::move(kernel)),
      built(is_built),
      texts{loaded.built.spec.target.name(), ktjit::to_text(loaded.built.spec), {}} {}

namespace ktjit::capi {
namespace {

KernelSpec spec_for(const DeviceState& state, const ktjit_kernel_desc* desc) {
  return to_spec(desc, state.context->toolchain, &state.device->native_target());
}

/// The spec with the knobs that were measured for its rows, and what they gained.
struct TunedSpec {
  KernelSpec spec;
  std::string text;  // empty if the knobs are the default's
};

TunedSpec tuned_spec_for(const DeviceState& state, const ktjit_kernel_desc* desc) {
  TunedSpec result{spec_for(state, desc), {}};
  const ktjit_kernel_desc given = read_struct(desc, "desc");
  if (given.rows < 0) throw SpecError("rows", fmt::format("{}", given.rows), "0 and more");
  Engine& engine = state.context->toolchain.engine();
  const TuningSize size{given.rows, given.x_columns};
  const std::optional<TunedKnobs> knobs = engine.tuned_knobs(*state.device, result.spec, size);
  if (knobs && knobs->tuning != result.spec.tuning) result.text = tuned_text(*knobs);
  result.spec = engine.tuned(*state.device, result.spec, size);
  return result;
}

void require_loaded(const ktjit_kernel& kernel) {
  if (kernel.loaded.kernel == nullptr)
    throw SpecError("kernel", "one that is not loaded", "one of ktjit_kernel_load");
}

std::unique_ptr<ktjit_kernel> to_handle(const std::shared_ptr<DeviceState>& state,
                                        LoadedKernel kernel, std::string tuned) {
  auto handle = std::make_unique<ktjit_kernel>(state, std::move(kernel), true);
  handle->texts.tuned = std::move(tuned);
  return handle;
}

/// Keeps the caller's stream known to the device, so that a load finds out whether it is being
/// captured. Errors: DriverError, which becomes KTJIT_ERROR_CAPTURE, if one of this thread is.
std::unique_ptr<runtime::Stream> refuse_capture(const DeviceState& state, void* stream,
                                                const KernelSpec& spec) {
  if (state.cuda == nullptr) {
    state.with_stream(stream, [](runtime::Stream&) {});
    return nullptr;
  }
  std::unique_ptr<runtime::Stream> known;
  if (stream != nullptr) known = state.cuda->wrap_stream(stream);
  if (state.cuda->is_capturing_on_this_thread()) {
    throw DriverError("ktjit_kernel_load", runtime::cu::kErrorStreamCaptureUnsupported,
                      "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", state.name,
                      fmt::format("loading kernel {} while a stream is being captured; load before "
                                  "the capture",
                                  kernel_name(spec)));
  }
  return known;
}

ktjit_status load_async(ktjit_device* device, const ktjit_kernel_desc* desc, Tiers tiers,
                        ktjit_future** future) {
  return guarded([&] {
    require(device, "device");
    require(future, "future");
    TunedSpec tuned = tuned_spec_for(*device->state, desc);
    Engine& engine = device->state->context->toolchain.engine();
    *future =
        new ktjit_future{device->state, engine.load_async(device->state->device, tuned.spec, tiers),
                         std::move(tuned.text)};
  });
}

ktjit_counts read_counts(const ktjit_counts* given) {
  ktjit_counts counts = read_struct(given, "counts");
  if (counts.n == 0) counts.n = 1;
  return counts;
}

void launch(const ktjit_kernel& kernel, void* stream, const ktjit_counts& counts,
            const ktjit_arguments* arguments) {
  const LoadedKernel& loaded = kernel.loaded;
  require_loaded(kernel);
  const LaunchArguments ordered(loaded.built.spec, counts, read_struct(arguments, "arguments"));
  kernel.device->with_stream(stream, [&](runtime::Stream& on) {
    loaded.launch(on, ordered.rows(), ordered.values(), ordered.n());
  });
}

int32_t or_unknown(const std::optional<int>& value) { return value ? *value : -1; }

/// What the compiler said, and what the loader found out, which is more.
KernelResources resources_of(const LoadedKernel& loaded) {
  KernelResources resources = loaded.built.artifact.resources;
  if (loaded.kernel == nullptr) return resources;
  const KernelResources found = loaded.kernel->resources();
  if (found.registers) resources.registers = found.registers;
  if (found.stack_bytes) resources.stack_bytes = found.stack_bytes;
  if (found.static_smem_bytes) resources.static_smem_bytes = found.static_smem_bytes;
  return resources;
}

ktjit_kernel_info info_of(const ktjit_kernel& kernel) {
  const LoadedKernel& current = kernel.loaded.current();
  const BuiltKernel& built = current.built;
  ktjit_kernel_info info = ktjit_kernel_info_init();
  info.name = built.emitted.entry_name.c_str();
  info.target = kernel.texts.target.c_str();
  info.spec = kernel.texts.spec.c_str();
  if (!kernel.texts.tuned.empty()) info.tuned = kernel.texts.tuned.c_str();
  info.lowering = built.emitted.lowering.summary.c_str();
  info.source = built.emitted.source.c_str();
  info.from_cache = -1;
  info.compile_ms = -1;
  info.registers = info.spill_bytes = info.stack_bytes = info.static_smem_bytes = -1;
  info.is_loaded = kernel.loaded.kernel != nullptr;
  if (!kernel.built) return info;
  const Artifact& artifact = built.artifact;
  info.compiler = built.compiler.c_str();
  info.artifact_kind = artifact_kind_name(artifact.kind).data();
  info.artifact = artifact.bytes.data();
  info.artifact_bytes = artifact.bytes.size();
  info.compile_ms = artifact.compile_ms;
  info.from_cache = built.from_cache();
  const KernelResources resources = resources_of(current);
  info.registers = or_unknown(resources.registers);
  info.spill_bytes = or_unknown(resources.spill_bytes);
  info.stack_bytes = or_unknown(resources.stack_bytes);
  info.static_smem_bytes = or_unknown(resources.static_smem_bytes);
  return info;
}

}  // namespace
}  // namespace ktjit::capi

using namespace ktjit::capi;
using ktjit::KernelSpec;

ktjit_status ktjit_prepared_bytes(const char* format, int64_t rows, int64_t cols, uint64_t* bytes) {
  return guarded([&] {
    require(format, "format");
    require(bytes, "bytes");
    *bytes = static_cast<uint64_t>(ktjit::prepared_bytes(ktjit::get_format(format).id, rows, cols));
  });
}

ktjit_status ktjit_prepared_bytes_for(const char* target, const char* format, int64_t rows,
                                      int64_t cols, uint64_t* bytes) {
  return guarded([&] {
    require(target, "target");
    require(format, "format");
    require(bytes, "bytes");
    const ktjit::LayoutKind kind = ktjit::rearranged_layout(ktjit::parse_target(target, {}));
    *bytes = static_cast<uint64_t>(
        ktjit::laid_out_bytes(kind, ktjit::get_format(format).id, rows, cols));
  });
}

ktjit_status ktjit_kernel_emit(ktjit_context* context, const ktjit_kernel_desc* desc,
                               ktjit_kernel** kernel) {
  return guarded([&] {
    require(context, "context");
    require(kernel, "kernel");
    ktjit::LoadedKernel emitted;
    emitted.built.spec = to_spec(desc, context->state->toolchain, nullptr);
    emitted.built.emitted = ktjit::codegen::emit(emitted.built.spec);
    *kernel = new ktjit_kernel(nullptr, std::move(emitted), false);
  });
}

ktjit_status ktjit_kernel_build(ktjit_context* context, const ktjit_kernel_desc* desc,
                                ktjit_kernel** kernel) {
  return guarded([&] {
    require(context, "context");
    require(kernel, "kernel");
    ktjit::Toolchain& toolchain = context->state->toolchain;
    const KernelSpec spec = to_spec(desc, toolchain, nullptr);
    ktjit::LoadedKernel built;
    built.built = toolchain.engine().build(spec, ktjit::native_artifact_kind(spec.target));
    *kernel = new ktjit_kernel(nullptr, std::move(built), true);
  });
}

ktjit_status ktjit_kernel_load(ktjit_device* device, const ktjit_kernel_desc* desc, void* stream,
                               ktjit_kernel** kernel) {
  return guarded([&] {
    require(device, "device");
    require(kernel, "kernel");
    TunedSpec tuned = tuned_spec_for(*device->state, desc);
    const auto known_stream = refuse_capture(*device->state, stream, tuned.spec);
    ktjit::Engine& engine = device->state->context->toolchain.engine();
    *kernel = to_handle(device->state, engine.load(*device->state->device, tuned.spec),
                        std::move(tuned.text))
                  .release();
  });
}

void ktjit_kernel_destroy(ktjit_kernel* kernel) { delete kernel; }

ktjit_status ktjit_kernel_load_async(ktjit_device* device, const ktjit_kernel_desc* desc,
                                     ktjit_future** future) {
  return load_async(device, desc, ktjit::Tiers::kFullOnly, future);
}

ktjit_status ktjit_kernel_load_quick_async(ktjit_device* device, const ktjit_kernel_desc* desc,
                                           ktjit_future** future) {
  return load_async(device, desc, ktjit::Tiers::kQuickFirst, future);
}

int ktjit_kernel_is_full(const ktjit_kernel* kernel) {
  return kernel != nullptr && kernel->loaded.kernel != nullptr && kernel->loaded.is_full();
}

ktjit_status ktjit_kernel_wait_full(const ktjit_kernel* kernel) {
  return guarded([&] {
    require(kernel, "kernel");
    require_loaded(*kernel);
    kernel->loaded.wait_full();
  });
}

int ktjit_future_is_ready(const ktjit_future* future) {
  return future != nullptr && future->load.is_ready();
}

ktjit_status ktjit_future_get(ktjit_future* future, ktjit_kernel** kernel) {
  return guarded([&] {
    require(future, "future");
    require(kernel, "kernel");
    if (future->taken.exchange(true))
      throw ktjit::SpecError("future", "one that was asked before", "one call of ktjit_future_get");
    *kernel = to_handle(future->device, future->load.get(), future->tuned).release();
  });
}

ktjit_status ktjit_future_cancel(ktjit_future* future) {
  return guarded([&] {
    require(future, "future");
    future->load.cancel();
  });
}

void ktjit_future_destroy(ktjit_future* future) { delete future; }

ktjit_status ktjit_kernel_get_info(const ktjit_kernel* kernel, ktjit_kernel_info* info) {
  return guarded([&] {
    require(kernel, "kernel");
    write_struct(info_of(*kernel), info, "info");
  });
}

ktjit_status ktjit_kernel_argument_bytes(const ktjit_kernel* kernel, int64_t rows, int64_t n,
                                         ktjit_arguments* bytes) {
  return guarded([&] {
    require(kernel, "kernel");
    write_struct(argument_bytes(kernel->loaded.built.spec, counts_of(rows, n)), bytes, "bytes");
  });
}

ktjit_status ktjit_kernel_counts_argument_bytes(const ktjit_kernel* kernel,
                                                const ktjit_counts* counts,
                                                ktjit_arguments* bytes) {
  return guarded([&] {
    require(kernel, "kernel");
    write_struct(argument_bytes(kernel->loaded.built.spec, read_counts(counts)), bytes, "bytes");
  });
}

ktjit_status ktjit_kernel_workspace_bytes(const ktjit_kernel* kernel, int64_t rows, int64_t n,
                                          size_t* bytes) {
  return guarded([&] {
    require(kernel, "kernel");
    require(bytes, "bytes");
    const KernelSpec& spec = kernel->loaded.built.spec;
    // Refuses counts that no launch serves, where rows and n are all of them.
    if (!ktjit::has_experts(spec.op) && spec.matrices == 1)
      argument_bytes(spec, counts_of(rows, n));
    *bytes = 0;
  });
}

ktjit_status ktjit_kernel_launch(const ktjit_kernel* kernel, void* stream, int64_t rows, int64_t n,
                                 const ktjit_arguments* arguments) {
  return guarded([&] {
    require(kernel, "kernel");
    launch(*kernel, stream, counts_of(rows, n), arguments);
  });
}

ktjit_status ktjit_kernel_launch_counts(const ktjit_kernel* kernel, void* stream,
                                        const ktjit_counts* counts,
                                        const ktjit_arguments* arguments) {
  return guarded([&] {
    require(kernel, "kernel");
    launch(*kernel, stream, read_counts(counts), arguments);
  });
}
