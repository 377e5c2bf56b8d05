// Streams and events of a CUDA device.
#pragma once

#include <memory>
#include <utility>

#include "runtime/cuda_context.h"
#include "runtime/device.h"

namespace ktjit::runtime {

/// A stream of our own, which doesn't wait for the legacy default stream, or the caller's.
class CudaStream final : public Stream {
 public:
  /// Errors: DriverError.
  explicit CudaStream(std::shared_ptr<const CudaContext> context);
  /// Wraps a stream that the caller keeps and that must outlive this.
  CudaStream(std::shared_ptr<const CudaContext> context, CuStream stream);
  /// Wraps the caller's stream for one call: allocates nothing, counts no reference to the context,
  /// which must outlive it, and loads don't ask whether the stream is being captured.
  static CudaStream borrow(const CudaContext& context, CuStream stream) {
    const std::shared_ptr<const CudaContext> uncounted(std::shared_ptr<const CudaContext>(),
                                                       &context);
    return CudaStream(uncounted, stream, /*is_listed=*/false);
  }
  ~CudaStream() override;

  void synchronize() override;

  const std::shared_ptr<const CudaContext>& shared_context() const { return context_; }
  CuStream handle() const { return handle_; }

 private:
  CudaStream(std::shared_ptr<const CudaContext> context, CuStream stream, bool is_listed);

  std::shared_ptr<const CudaContext> context_;
  UniqueHandle<CuStream, ReleaseInContext<&DriverApi::stream_destroy>> own_;
  CuStream handle_ = nullptr;
  bool is_listed_ = true;  // in the context
};

/// Errors: InternalError if the stream is another device's.
CudaStream& to_cuda_stream(Stream& stream);

/// A point in a stream, for timing.
class CudaEvent {
 public:
  /// Errors, of all members: DriverError.
  explicit CudaEvent(std::shared_ptr<const CudaContext> context);

  void record(const CudaStream& stream) const;
  void synchronize() const;
  double us_since(const CudaEvent& start) const;

 private:
  std::shared_ptr<const CudaContext> context_;
  UniqueHandle<CuEvent, ReleaseInContext<&DriverApi::event_destroy>> event_;
};

}  // namespace ktjit::runtime
