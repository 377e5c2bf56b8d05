// Loading and launching. The launch path is a comparison of contexts and one driver call.
#include "runtime/cuda_kernel.h"

#include <array>
#include <fmt/format.h>

#include "core/error.h"
#include "runtime/cuda_stream.h"

namespace ktjit::runtime {
namespace {

constexpr std::size_t kMaxArguments = 32;
// What a kernel gets without opting in. CUDA C++ Programming Guide 13.0, "Technical
// Specifications".
constexpr int kDefaultSmemBytes = 48 * 1024;

/// CUtensorMap.
struct alignas(64) TensorMap {
  std::byte bytes[128];
};

}  // namespace

CudaKernel::CudaKernel(std::shared_ptr<const CudaContext> context, const Artifact& cubin)
    : context_(std::move(context)), entry_name_(cubin.entry_name) {
  KTJIT_CHECK(cubin.kind == ArtifactKind::kCubin && !cubin.bytes.empty());
  const DriverApi& api = context_->api();
  const CurrentContext current(*context_);
  const std::string under_capture = fmt::format(
      "loading kernel {} while a stream is being captured; load before the capture", entry_name_);
  if (context_->is_capturing_on_this_thread()) {
    context_->fail(cu::kErrorStreamCaptureUnsupported, "cuModuleLoadData", under_capture);
  }
  const std::string doing = fmt::format("loading kernel {}", entry_name_);
  CuModule module = nullptr;
  const int code = api.module_load_data(&module, cubin.bytes.data());
  context_->check(code, "cuModuleLoadData",
                  code == cu::kErrorStreamCaptureUnsupported ? under_capture : doing);
  module_ = {module, {context_}};
  context_->check(api.module_get_function(&function_, module, entry_name_.c_str()),
                  "cuModuleGetFunction", doing);
  // Asking for an attribute makes a lazily loading driver (CUDA_MODULE_LOADING) load the code now.
  resources_.registers = attribute(cu::kFuncRegisters);
  resources_.stack_bytes = attribute(cu::kFuncLocalBytes);
  resources_.static_smem_bytes = attribute(cu::kFuncSharedBytes);
  allow_dynamic_smem(*resources_.static_smem_bytes);
}

int CudaKernel::attribute(int which) const {
  int value = 0;
  context_->check(context_->api().func_get_attribute(&value, which, function_),
                  "cuFuncGetAttribute", "asking for a kernel's resources");
  return value;
}

// This only raises the limit; what a launch takes is what its grid says.
void CudaKernel::allow_dynamic_smem(int static_smem_bytes) const {
  const int limit = context_->info().max_smem_bytes - static_smem_bytes;
  if (limit <= kDefaultSmemBytes) return;
  context_->check(
      context_->api().func_set_attribute(function_, cu::kFuncMaxDynamicSharedBytes, limit),
      "cuFuncSetAttribute", "allowing a kernel more than 48 KiB of shared memory");
}

void CudaKernel::launch(Stream& stream, const LaunchGrid& grid,
                        std::span<const std::uint64_t> arguments) const {
  KTJIT_CHECK(arguments.size() <= kMaxArguments);
  std::array<void*, kMaxArguments> pointers;  // only the first arguments.size() are read
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    pointers[i] = const_cast<std::uint64_t*>(&arguments[i]);  // the driver only reads
  }
  const CuStream on = to_cuda_stream(stream).handle();
  const CurrentContext current(*context_);
  std::array<TensorMap, TensorMapShapes::kMost> maps;  // likewise
  KTJIT_CHECK(arguments.size() + grid.tensor_maps.count <= kMaxArguments);
  for (std::size_t i = 0; i < grid.tensor_maps.count; ++i) {
    encode(grid.tensor_maps.shapes[i], arguments, &maps[i]);
    pointers[arguments.size() + i] = &maps[i];
  }
  const int code = grid.is_dependent ? launch_dependent(on, grid, pointers.data())
                                     : context_->api().launch_kernel(
                                           function_, x_of(grid), grid.y, 1, grid.threads, 1, 1,
                                           grid.smem_bytes, on, pointers.data(), nullptr);
  if (code != cu::kSuccess) [[unlikely]]
    fail_launch(code, grid);
}

unsigned CudaKernel::x_of(const LaunchGrid& grid) const {
  return grid.limited_x(static_cast<unsigned>(context_->info().multiprocessors));
}

int CudaKernel::launch_dependent(CuStream stream, const LaunchGrid& grid, void** arguments) const {
  KTJIT_CHECK(context_->api().launch_kernel_ex != nullptr);  // Device::check_dependent_launch
  CuLaunchAttribute may_overlap{.id = cu::kLaunchProgrammaticStreamSerialization, .value = 1};
  const CuLaunchConfig config{x_of(grid), grid.y,          1,      grid.threads, 1,
                              1,          grid.smem_bytes, stream, &may_overlap, 1};
  return context_->api().launch_kernel_ex(&config, function_, arguments, nullptr);
}

void CudaKernel::encode(const TensorMapShape& shape, std::span<const std::uint64_t> arguments,
                        void* map) const {
  const std::uint64_t address = arguments[static_cast<std::size_t>(shape.address_argument)];
  const std::uint64_t rows = arguments[static_cast<std::size_t>(shape.rows_argument)];
  const auto row_bytes = static_cast<std::uint64_t>(shape.row_bytes);
  constexpr std::uint32_t kBoxBytes = 128;
  const std::uint64_t sizes[] = {row_bytes, rows};
  const std::uint32_t box[] = {kBoxBytes, shape.box_rows}, steps[] = {1, 1};
  const auto encode_tiled = context_->api().tensor_map_encode_tiled;
  const int code = encode_tiled == nullptr
                       ? cu::kErrorNotSupported
                       : encode_tiled(map, cu::kTensorMapUint8, 2, reinterpret_cast<void*>(address),
                                      sizes, &row_bytes, box, steps, cu::kTensorMapNoInterleave,
                                      cu::kTensorMapSwizzle128, cu::kTensorMapL2Promotion256,
                                      cu::kTensorMapFillZeros);
  if (code != cu::kSuccess) [[unlikely]] {
    context_->fail(code, "cuTensorMapEncodeTiled",
                   fmt::format("making a tensor map of {} rows of {} bytes at {:#x} for {}", rows,
                               row_bytes, address, entry_name_));
  }
}

void CudaKernel::fail_launch(int code, const LaunchGrid& grid) const {
  context_->fail(code, grid.is_dependent ? "cuLaunchKernelEx" : "cuLaunchKernel",
                 fmt::format("launching {} with a grid of {} x {} CTAs, {} threads and {} bytes of "
                             "dynamic shared memory",
                             entry_name_, grid.x, grid.y, grid.threads, grid.smem_bytes));
}

}  // namespace ktjit::runtime
