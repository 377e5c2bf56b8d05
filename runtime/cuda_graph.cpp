// Thread-local capture: calls that would disturb it are refused on this thread only.
#include "runtime/cuda_graph.h"

#include "runtime/cuda_stream.h"

namespace ktjit::runtime {

CudaGraph CudaGraph::capture(Stream& any_stream, const std::function<void()>& enqueue) {
  const CudaStream& stream = to_cuda_stream(any_stream);
  const std::shared_ptr<const CudaContext> context = stream.shared_context();
  const DriverApi& api = context->api();
  const CurrentContext current(*context);
  context->move_stream_to_this_thread(stream.handle());
  context->check(api.stream_begin_capture(stream.handle(), cu::kCaptureModeThreadLocal),
                 "cuStreamBeginCapture", "starting to capture a stream");
  CuGraph raw_graph = nullptr;
  try {
    enqueue();
  } catch (...) {
    api.stream_end_capture(stream.handle(), &raw_graph);  // also where the capture is invalid
    const GraphHandle dropped(raw_graph, {context});
    throw;
  }
  const int ended = api.stream_end_capture(stream.handle(), &raw_graph);
  const GraphHandle graph(raw_graph, {context});
  context->check(ended, "cuStreamEndCapture", "capturing a stream");
  CuGraphExec raw_exec = nullptr;
  context->check(api.graph_instantiate(&raw_exec, graph.get(), 0), "cuGraphInstantiateWithFlags",
                 "making a captured graph ready to launch");
  return {context, ExecHandle(raw_exec, {context})};
}

void CudaGraph::launch(Stream& stream) const {
  const CurrentContext current(*context_);
  context_->check(context_->api().graph_launch(exec_.get(), to_cuda_stream(stream).handle()),
                  "cuGraphLaunch", "launching a captured graph");
}

}  // namespace ktjit::runtime
