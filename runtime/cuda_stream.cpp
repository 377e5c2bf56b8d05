// Each driver call of streams and events, with its error.
#include "runtime/cuda_stream.h"

#include <typeinfo>

#include "core/error.h"

namespace ktjit::runtime {

CudaStream::CudaStream(std::shared_ptr<const CudaContext> context) : context_(std::move(context)) {
  const CurrentContext current(*context_);
  context_->check(context_->api().stream_create(&handle_, cu::kStreamNonBlocking), "cuStreamCreate",
                  "making a stream");
  own_ = {handle_, {context_}};
  context_->add_stream(handle_);
}

CudaStream::CudaStream(std::shared_ptr<const CudaContext> context, CuStream stream)
    : CudaStream(std::move(context), stream, true) {
  context_->add_stream(handle_);
}

CudaStream::CudaStream(std::shared_ptr<const CudaContext> context, CuStream stream, bool is_listed)
    : context_(std::move(context)), handle_(stream), is_listed_(is_listed) {}

CudaStream::~CudaStream() {
  if (is_listed_) context_->remove_stream(handle_);
}

void CudaStream::synchronize() {
  const CurrentContext current(*context_);
  context_->check(context_->api().stream_synchronize(handle_), "cuStreamSynchronize",
                  "waiting for the work of a stream");
}

CudaStream& to_cuda_stream(Stream& stream) {
  KTJIT_CHECK(typeid(stream) == typeid(CudaStream));
  return static_cast<CudaStream&>(stream);
}

CudaEvent::CudaEvent(std::shared_ptr<const CudaContext> context) : context_(std::move(context)) {
  const CurrentContext current(*context_);
  CuEvent event = nullptr;
  context_->check(context_->api().event_create(&event, cu::kEventDefault), "cuEventCreate",
                  "making an event");
  event_ = {event, {context_}};
}

void CudaEvent::record(const CudaStream& stream) const {
  const CurrentContext current(*context_);
  context_->check(context_->api().event_record(event_.get(), stream.handle()), "cuEventRecord",
                  "timing a stream");
}

void CudaEvent::synchronize() const {
  const CurrentContext current(*context_);
  context_->check(context_->api().event_synchronize(event_.get()), "cuEventSynchronize",
                  "waiting for timed work");
}

double CudaEvent::us_since(const CudaEvent& start) const {
  const CurrentContext current(*context_);
  float milliseconds = 0.0f;
  context_->check(
      context_->api().event_elapsed_time(&milliseconds, start.event_.get(), event_.get()),
      "cuEventElapsedTime", "timing a stream");
  return 1000.0 * static_cast<double>(milliseconds);
}

}  // namespace ktjit::runtime
