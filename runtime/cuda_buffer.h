// Memory of a CUDA device.
#pragma once

#include <memory>

#include "runtime/cuda_context.h"
#include "runtime/device.h"

namespace ktjit::runtime {

class CudaBuffer final : public Buffer {
 public:
  /// Errors: DriverError if memory is short.
  CudaBuffer(std::shared_ptr<const CudaContext> context, std::size_t bytes);

  std::uint64_t address() const override { return memory_.get(); }
  std::size_t bytes() const override { return bytes_; }

 private:
  UniqueHandle<CuAddress, ReleaseInContext<&DriverApi::mem_free>> memory_;
  std::size_t bytes_;
};

}  // namespace ktjit::runtime
