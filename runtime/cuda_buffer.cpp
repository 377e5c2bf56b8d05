// cuMemAlloc aligns to 256 bytes and refuses 0 bytes (CUDA Driver API 13.0, cuMemAlloc).
#include "runtime/cuda_buffer.h"

#include <algorithm>
#include <fmt/format.h>

namespace ktjit::runtime {

CudaBuffer::CudaBuffer(std::shared_ptr<const CudaContext> context, std::size_t bytes)
    : bytes_(bytes) {
  const CurrentContext current(*context);
  CuAddress address = 0;
  const int code = context->api().mem_alloc(&address, std::max<std::size_t>(bytes, 1));
  if (code != cu::kSuccess) {
    context->fail(code, "cuMemAlloc", fmt::format("allocating {} bytes", bytes));
  }
  memory_ = {address, {std::move(context)}};
}

}  // namespace ktjit::runtime
