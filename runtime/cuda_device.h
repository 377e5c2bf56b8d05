// A GPU through the CUDA driver.
#pragma once

#include <memory>
#include <string>

#include "runtime/cuda_context.h"
#include "runtime/cuda_info.h"
#include "runtime/device.h"
#include "runtime/driver_api.h"

namespace ktjit::runtime {

class CudaStream;

/// Works from any thread, whatever context is current there, and leaves that context current.
///
/// Copies from and to pageable memory are staged by the driver: an upload may return before the
/// device has the data but after the host memory has been read, a download waits.
/// Buffers, streams and kernels keep what they need of the device alive.
class CudaDevice final : public Device {
 public:
  explicit CudaDevice(std::shared_ptr<const CudaContext> context);

  std::string name() const override;
  std::string description() const override;
  std::vector<std::pair<std::string, std::string>> speed_identity() const override;
  const Target& native_target() const override { return native_target_; }
  /// Says yes to PTX that link_ptx takes, too.
  bool can_load(const Target& target, ArtifactKind kind, std::string* reason) const override;

  std::size_t total_memory_bytes() const override;
  std::size_t free_memory_bytes() const override;
  std::size_t last_level_cache_bytes() const override;

  std::unique_ptr<Buffer> allocate(std::size_t bytes) override;
  std::unique_ptr<Buffer> try_borrow(std::span<const std::byte> host) override;
  std::unique_ptr<Stream> make_stream() override;
  /// Wraps a CUstream of the caller's, which must outlive the result; null is the default stream.
  std::unique_ptr<Stream> wrap_stream(void* cu_stream);
  /// The same for one call: allocates nothing, and load doesn't ask whether it is being captured.
  CudaStream borrow_stream(void* cu_stream) const;
  /// Whether a stream that this thread made, wrapped or captures is being captured: load would be
  /// an error. Errors: DriverError.
  bool is_capturing_on_this_thread() const { return context_->is_capturing_on_this_thread(); }

  void upload(Stream& stream, std::span<const std::byte> from, Buffer& to,
              std::size_t offset) override;
  void download(Stream& stream, const Buffer& from, std::size_t offset,
                std::span<std::byte> to) override;
  void fill(Stream& stream, Buffer& buffer, std::byte value) override;

  std::optional<std::string> linker_identity() const override { return linker_identity_; }
  Artifact link_ptx(const Artifact& ptx) override;
  /// Errors: ToolchainError for a driver older than CUDA 11.8.
  void check_dependent_launch() const override;
  /// Takes cubins; PTX has to be linked first, so that it can be cached.
  /// Errors: DriverError if the cubin is refused, or a stream of this thread is being captured:
  /// streams made or wrapped by this device are asked, for others the driver's own refusal counts.
  /// SpecError for anything but a cubin.
  std::unique_ptr<Kernel> load(const Artifact& artifact) override;

  double time_us(Stream& stream, const std::function<void()>& enqueue) override;

  const CudaDeviceInfo& info() const { return context_->info(); }

 private:
  std::shared_ptr<const CudaContext> context_;
  Target native_target_;
  std::string description_;
  std::string linker_identity_;
  int driver_version_ = 0;  // 13000 for 13.0
};

/// Opens a device with its primary context. Errors: DriverError; ToolchainError for a GPU that is
/// older than all targets.
std::unique_ptr<CudaDevice> make_cuda_device(std::shared_ptr<const DriverApi> api, int ordinal = 0);

/// Uses the caller's CUcontext, which must outlive the device and all that is made with it.
/// Errors: as make_cuda_device.
std::unique_ptr<CudaDevice> adopt_cuda_context(std::shared_ptr<const DriverApi> api,
                                               void* cu_context);

}  // namespace ktjit::runtime
