// What the opaque handles point to. States are shared, so that handles may end in any order.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "capi/ktjit.h"

#include "jit/engine.h"
#include "jit/toolchain.h"
#include "runtime/cuda_device.h"
#include "runtime/cuda_stream.h"
#include "runtime/device.h"

namespace ktjit::capi {

struct ContextState {
  ContextState(Options options, std::function<void(std::string_view)> log);

  Toolchain toolchain;
};

struct DeviceState {
  DeviceState(std::shared_ptr<ContextState> its_context, std::unique_ptr<runtime::Device> opened);

  /// Calls `use(runtime::Stream&)` with the caller's stream; allocates nothing.
  /// Errors: SpecError for a stream on a device that has none.
  template <class Use>
  void with_stream(void* stream, Use&& use) const {
    if (cuda != nullptr) {
      runtime::CudaStream callers = cuda->borrow_stream(stream);
      use(callers);
    } else {
      check_no_stream(stream);
      use(*host_stream);
    }
  }

  std::shared_ptr<ContextState> context;
  std::shared_ptr<runtime::Device> device;       ///< loads under way hold it too
  runtime::CudaDevice* cuda = nullptr;           ///< `device` if it is a GPU
  std::unique_ptr<runtime::Stream> host_stream;  ///< of the CPU device
  std::string name;
  std::string description;
  std::string target;
  std::mutex buffers_mutex;
  std::map<ktjit_address, std::unique_ptr<runtime::Buffer>> buffers;  ///< by first address

 private:
  void check_no_stream(void* stream) const;
};

/// Strings that kernel infos point to, beside those that the kernel has anyway.
struct KernelTexts {
  std::string target;
  std::string spec;
  std::string tuned;  ///< empty for default knobs
};

}  // namespace ktjit::capi

struct ktjit_context {
  std::shared_ptr<ktjit::capi::ContextState> state;
};

struct ktjit_device {
  std::shared_ptr<ktjit::capi::DeviceState> state;
};

struct ktjit_kernel {
  /// `its_device` is null for a kernel that is not loaded; `is_built` says whether it has an artefact.
  ktjit_kernel(std::shared_ptr<ktjit::capi::DeviceState> its_device, ktjit::LoadedKernel kernel,
               bool is_built);

  std::shared_ptr<ktjit::capi::DeviceState> device;  // outlives `loaded`
  ktjit::LoadedKernel loaded;
  bool built;
  ktjit::capi::KernelTexts texts;
};

struct ktjit_future {
  std::shared_ptr<ktjit::capi::DeviceState> device;  // outlives `load`, and its engine does
  ktjit::KernelFuture load;
  std::string tuned;  // KernelTexts::tuned of the kernel
  std::atomic<bool> taken{false};
};
