// The context that everything of one CUDA device shares, and who releases it.
#pragma once

#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/cuda_info.h"
#include "runtime/driver_api.h"
#include "runtime/unique_handle.h"

namespace ktjit::runtime {

/// Kept alive by every buffer, stream and kernel made in it, so none can outlive its context.
class CudaContext {
 public:
  /// Our reference to the device's primary context, which the CUDA runtime uses too.
  /// Errors: DriverError.
  static std::shared_ptr<CudaContext> retain_primary(std::shared_ptr<const DriverApi> api,
                                                     int ordinal);
  /// The caller's context, which must outlive everything made in it. Errors: DriverError.
  static std::shared_ptr<CudaContext> adopt(std::shared_ptr<const DriverApi> api,
                                            CuContext context);

  const DriverApi& api() const { return *api_; }
  CuContext handle() const { return handle_; }
  const CudaDeviceInfo& info() const { return info_; }
  /// "cuda:0".
  const std::string& name() const { return name_; }

  /// Throws DriverError unless `code` is success.
  void check(int code, const char* call, std::string_view doing) const {
    if (code != cu::kSuccess) [[unlikely]]
      fail(code, call, doing);
  }
  [[noreturn]] void fail(int code, const char* call, std::string_view doing) const;

  /// Streams that exist, each with the thread that made it or captures it.
  void add_stream(CuStream stream) const;
  void remove_stream(CuStream stream) const noexcept;
  void move_stream_to_this_thread(CuStream stream) const noexcept;
  /// Whether a stream of this thread is being captured. Streams that this context was never told of
  /// are not seen.
  bool is_capturing_on_this_thread() const;

 private:
  struct ReleasePrimary {
    std::shared_ptr<const DriverApi> api;
    CuDevice device = 0;
    void operator()(CuContext) const noexcept { api->primary_ctx_release(device); }
  };
  struct StreamEntry {
    CuStream stream;
    std::thread::id thread;
  };

  explicit CudaContext(std::shared_ptr<const DriverApi> api) : api_(std::move(api)) {}

  std::shared_ptr<const DriverApi> api_;
  CudaDeviceInfo info_;
  std::string name_ = "cuda";
  UniqueHandle<CuContext, ReleasePrimary> primary_;  // empty for an adopted context
  CuContext handle_ = nullptr;
  mutable std::mutex streams_mutex_;
  mutable std::vector<StreamEntry> streams_;
};

/// Makes the context current on this thread, and puts back what was there. Cheap where it is
/// current already.
class CurrentContext {
 public:
  /// Errors: DriverError.
  explicit CurrentContext(const CudaContext& context);
  /// For destructors: goes on without where the driver refuses, as it does when it shuts down.
  CurrentContext(const CudaContext& context, std::nothrow_t) noexcept;
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  const CudaContext& context_;
  const char* call_ = "cuCtxGetCurrent";
  int code_ = cu::kSuccess;  // of call_
  bool pushed_ = false;
};

/// For UniqueHandle: calls a function of the driver with the handle, its context being current.
/// What the call returns is dropped: at shutdown CUDA_ERROR_DEINITIALIZED is normal, and an earlier
/// launch's error has been reported where that stream was waited for.
template <auto Function>
struct ReleaseInContext {
  std::shared_ptr<const CudaContext> context;

  template <class Handle>
  void operator()(Handle handle) const noexcept {
    const CurrentContext current(*context, std::nothrow);
    (context->api().*Function)(handle);
  }
};

}  // namespace ktjit::runtime
