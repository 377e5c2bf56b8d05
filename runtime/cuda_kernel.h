// A kernel loaded into a CUDA context.
#pragma once

#include <memory>
#include <string>

#include "core/artifact.h"
#include "runtime/cuda_context.h"
#include "runtime/device.h"

namespace ktjit::runtime {

class CudaKernel final : public Kernel {
 public:
  /// Loads a cubin, at once and whole, so that the first launch loads nothing. The kernel may use
  /// all the shared memory that the device lets a CTA opt in to.
  /// Errors: DriverError if the cubin is refused, or a stream of this thread is being captured.
  CudaKernel(std::shared_ptr<const CudaContext> context, const Artifact& cubin);

  /// As Kernel; at most 32 arguments.
  void launch(Stream& stream, const LaunchGrid& grid,
              std::span<const std::uint64_t> arguments) const override;
  KernelResources resources() const override { return resources_; }

 private:
  int attribute(int which) const;
  void allow_dynamic_smem(int static_smem_bytes) const;
  unsigned x_of(const LaunchGrid& grid) const;
  int launch_dependent(CuStream stream, const LaunchGrid& grid, void** arguments) const;
  void encode(const TensorMapShape& shape, std::span<const std::uint64_t> arguments,
              void* map) const;
  [[noreturn]] void fail_launch(int code, const LaunchGrid& grid) const;

  std::shared_ptr<const CudaContext> context_;
  std::string entry_name_;
  UniqueHandle<CuModule, ReleaseInContext<&DriverApi::module_unload>> module_;
  CuFunction function_ = nullptr;  // part of the module
  KernelResources resources_;
};

}  // namespace ktjit::runtime
