// Work captured once and launched many times with one driver call.
#pragma once

#include <functional>
#include <memory>

#include "runtime/cuda_context.h"
#include "runtime/device.h"

namespace ktjit::runtime {

/// Threads: launch from one thread at a time.
class CudaGraph {
 public:
  /// Captures what `enqueue` queues on `stream`; nothing runs yet. Kernels must be loaded before:
  /// a load on this thread inside `enqueue` is an error. Other threads may load meanwhile.
  /// Errors: DriverError; what `enqueue` throws, after the capture has been ended.
  static CudaGraph capture(Stream& stream, const std::function<void()>& enqueue);

  /// Queues all of it. What it reads and writes must still exist. Errors: DriverError.
  void launch(Stream& stream) const;

 private:
  using GraphHandle = UniqueHandle<CuGraph, ReleaseInContext<&DriverApi::graph_destroy>>;
  using ExecHandle = UniqueHandle<CuGraphExec, ReleaseInContext<&DriverApi::graph_exec_destroy>>;

  CudaGraph(std::shared_ptr<const CudaContext> context, ExecHandle exec)
      : context_(std::move(context)), exec_(std::move(exec)) {}

  std::shared_ptr<const CudaContext> context_;
  ExecHandle exec_;
};

}  // namespace ktjit::runtime
