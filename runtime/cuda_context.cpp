// Making, adopting and switching contexts.
#include "runtime/cuda_context.h"

#include <algorithm>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit::runtime {

std::shared_ptr<CudaContext> CudaContext::retain_primary(std::shared_ptr<const DriverApi> api,
                                                         int ordinal) {
  std::shared_ptr<CudaContext> context(new CudaContext(std::move(api)));
  const DriverApi& driver = context->api();
  context->name_ = fmt::format("cuda:{}", ordinal);
  context->check(driver.init(0), "cuInit", "starting the driver");
  CuDevice device = 0;
  context->check(driver.device_get(&device, ordinal), "cuDeviceGet", "looking for the device");
  CuContext primary = nullptr;
  context->check(driver.primary_ctx_retain(&primary, device), "cuDevicePrimaryCtxRetain",
                 "opening the device");
  context->primary_ =
      UniqueHandle<CuContext, ReleasePrimary>(primary, ReleasePrimary{context->api_, device});
  context->handle_ = primary;
  context->info_ = get_cuda_device_info(driver, ordinal);
  return context;
}

std::shared_ptr<CudaContext> CudaContext::adopt(std::shared_ptr<const DriverApi> api,
                                                CuContext adopted) {
  std::shared_ptr<CudaContext> context(new CudaContext(std::move(api)));
  const DriverApi& driver = context->api();
  context->handle_ = adopted;
  CuDevice device = 0;
  {
    const CurrentContext current(*context);
    context->check(driver.ctx_get_device(&device), "cuCtxGetDevice",
                   "asking which device a context is of");
  }
  int count = 0;
  context->check(driver.device_get_count(&count), "cuDeviceGetCount", "counting the devices");
  int ordinal = 0;
  for (; ordinal < count; ++ordinal) {
    CuDevice candidate = 0;
    context->check(driver.device_get(&candidate, ordinal), "cuDeviceGet", "looking for the device");
    if (candidate == device) break;
  }
  KTJIT_CHECK(ordinal < count);
  context->name_ = fmt::format("cuda:{}", ordinal);
  context->info_ = get_cuda_device_info(driver, ordinal);
  return context;
}

void CudaContext::fail(int code, const char* call, std::string_view doing) const {
  throw DriverError(call, code, driver_error_name(*api_, code), name_, doing);
}

void CudaContext::add_stream(CuStream stream) const {
  const std::lock_guard lock(streams_mutex_);
  streams_.push_back({stream, std::this_thread::get_id()});
}

void CudaContext::remove_stream(CuStream stream) const noexcept {
  const std::lock_guard lock(streams_mutex_);
  const auto found = std::find_if(streams_.begin(), streams_.end(),
                                  [&](const StreamEntry& one) { return one.stream == stream; });
  if (found != streams_.end()) streams_.erase(found);
}

void CudaContext::move_stream_to_this_thread(CuStream stream) const noexcept {
  const std::lock_guard lock(streams_mutex_);
  for (StreamEntry& entry : streams_) {
    if (entry.stream == stream) entry.thread = std::this_thread::get_id();
  }
}

bool CudaContext::is_capturing_on_this_thread() const {
  const std::lock_guard lock(streams_mutex_);
  for (const StreamEntry& entry : streams_) {
    if (entry.stream == nullptr || entry.thread != std::this_thread::get_id()) continue;
    int status = cu::kCaptureStatusNone;
    check(api_->stream_is_capturing(entry.stream, &status), "cuStreamIsCapturing",
          "asking whether a stream is being captured");
    if (status != cu::kCaptureStatusNone) return true;
  }
  return false;
}

CurrentContext::CurrentContext(const CudaContext& context, std::nothrow_t) noexcept
    : context_(context) {
  CuContext current = nullptr;
  code_ = context.api().ctx_get_current(&current);
  if (code_ != cu::kSuccess || current == context.handle()) return;
  call_ = "cuCtxPushCurrent";
  code_ = context.api().ctx_push_current(context.handle());
  pushed_ = code_ == cu::kSuccess;
}

CurrentContext::CurrentContext(const CudaContext& context) : CurrentContext(context, std::nothrow) {
  context.check(code_, call_, "making the device's context current");
}

CurrentContext::~CurrentContext() {
  CuContext popped = nullptr;
  if (pushed_) context_.api().ctx_pop_current(&popped);
}

}  // namespace ktjit::runtime
