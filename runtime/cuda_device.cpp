// The device interface, each member one or two driver calls in the device's context.
#include "runtime/cuda_device.h"

#include <fmt/format.h>

#include "core/error.h"
#include "runtime/cuda_buffer.h"
#include "runtime/cuda_compatibility.h"
#include "runtime/cuda_kernel.h"
#include "runtime/cuda_linker.h"
#include "runtime/cuda_stream.h"

namespace ktjit::runtime {
namespace {

bool is_within(std::size_t offset, std::size_t bytes, const Buffer& buffer) {
  return offset <= buffer.bytes() && bytes <= buffer.bytes() - offset;
}

}  // namespace

CudaDevice::CudaDevice(std::shared_ptr<const CudaContext> context)
    : context_(std::move(context)),
      native_target_(best_cuda_target(info().sm)),
      linker_identity_(linker_identity_of(*context_)),
      driver_version_(get_driver_version(context_->api())) {
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  description_ = fmt::format(
      "{}, compute capability {}, {:.1f} GiB, driver {}", info().name, info().compute_capability(),
      static_cast<double>(info().memory_bytes) / kGiB, driver_version_text(driver_version_));
}

std::string CudaDevice::name() const { return context_->name(); }

std::string CudaDevice::description() const { return description_; }

std::vector<std::pair<std::string, std::string>> CudaDevice::speed_identity() const {
  return {{"device", info().name},
          {"compute_capability", info().compute_capability()},
          {"multiprocessors", fmt::format("{}", info().multiprocessors)},
          {"driver", fmt::format("CUDA {}", driver_version_ / 1000)}};
}

bool CudaDevice::can_load(const Target& target, ArtifactKind kind, std::string* reason) const {
  return cuda_code_runs_on(info().sm, target, kind, reason);
}

std::size_t CudaDevice::total_memory_bytes() const { return info().memory_bytes; }

std::size_t CudaDevice::free_memory_bytes() const {
  const CurrentContext current(*context_);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  context_->check(context_->api().mem_get_info(&free_bytes, &total_bytes), "cuMemGetInfo",
                  "asking for free memory");
  return free_bytes;
}

std::size_t CudaDevice::last_level_cache_bytes() const { return info().l2_bytes; }

std::unique_ptr<Buffer> CudaDevice::allocate(std::size_t bytes) {
  return std::make_unique<CudaBuffer>(context_, bytes);
}

std::unique_ptr<Buffer> CudaDevice::try_borrow(std::span<const std::byte>) { return nullptr; }

std::unique_ptr<Stream> CudaDevice::make_stream() { return std::make_unique<CudaStream>(context_); }

std::unique_ptr<Stream> CudaDevice::wrap_stream(void* cu_stream) {
  return std::make_unique<CudaStream>(context_, static_cast<CuStream>(cu_stream));
}

CudaStream CudaDevice::borrow_stream(void* cu_stream) const {
  return CudaStream::borrow(*context_, static_cast<CuStream>(cu_stream));
}

void CudaDevice::upload(Stream& stream, std::span<const std::byte> from, Buffer& to,
                        std::size_t offset) {
  KTJIT_CHECK(is_within(offset, from.size(), to));
  if (from.empty()) return;
  const CurrentContext current(*context_);
  const int code = context_->api().memcpy_htod_async(to.address() + offset, from.data(),
                                                     from.size(), to_cuda_stream(stream).handle());
  if (code != cu::kSuccess) {
    context_->fail(code, "cuMemcpyHtoDAsync", fmt::format("uploading {} bytes", from.size()));
  }
}

void CudaDevice::download(Stream& stream, const Buffer& from, std::size_t offset,
                          std::span<std::byte> to) {
  KTJIT_CHECK(is_within(offset, to.size(), from));
  if (to.empty()) return;
  const CurrentContext current(*context_);
  const int code = context_->api().memcpy_dtoh_async(to.data(), from.address() + offset, to.size(),
                                                     to_cuda_stream(stream).handle());
  if (code != cu::kSuccess) {
    context_->fail(code, "cuMemcpyDtoHAsync", fmt::format("downloading {} bytes", to.size()));
  }
}

void CudaDevice::fill(Stream& stream, Buffer& buffer, std::byte value) {
  if (buffer.bytes() == 0) return;
  const CurrentContext current(*context_);
  const int code =
      context_->api().memset_d8_async(buffer.address(), std::to_integer<unsigned char>(value),
                                      buffer.bytes(), to_cuda_stream(stream).handle());
  if (code != cu::kSuccess) {
    context_->fail(code, "cuMemsetD8Async", fmt::format("filling {} bytes", buffer.bytes()));
  }
}

Artifact CudaDevice::link_ptx(const Artifact& ptx) { return runtime::link_ptx(context_, ptx); }

void CudaDevice::check_dependent_launch() const {
  if (context_->api().launch_kernel_ex != nullptr) return;
  throw ToolchainError("no cuLaunchKernelEx, which dependent launches need",
                       context_->api().library,
                       "install the driver of CUDA 11.8 or later, or leave dependent_launch out");
}

std::unique_ptr<Kernel> CudaDevice::load(const Artifact& artifact) {
  if (artifact.kind != ArtifactKind::kCubin) {
    throw SpecError(fmt::format("kind of artefact {}", artifact.entry_name),
                    artifact_kind_name(artifact.kind), "cubin (PTX has to be linked first)");
  }
  return std::make_unique<CudaKernel>(context_, artifact);
}

double CudaDevice::time_us(Stream& any_stream, const std::function<void()>& enqueue) {
  const CudaStream& stream = to_cuda_stream(any_stream);
  const CudaEvent start(context_);
  const CudaEvent end(context_);
  start.record(stream);
  enqueue();
  end.record(stream);
  end.synchronize();
  return end.us_since(start);
}

std::unique_ptr<CudaDevice> make_cuda_device(std::shared_ptr<const DriverApi> api, int ordinal) {
  return std::make_unique<CudaDevice>(CudaContext::retain_primary(std::move(api), ordinal));
}

std::unique_ptr<CudaDevice> adopt_cuda_context(std::shared_ptr<const DriverApi> api,
                                               void* cu_context) {
  return std::make_unique<CudaDevice>(
      CudaContext::adopt(std::move(api), static_cast<CuContext>(cu_context)));
}

}  // namespace ktjit::runtime
