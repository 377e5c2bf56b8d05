// Devices, and memory on them for callers without an allocator of their own.
#include <fmt/format.h>
#include <utility>

#include "capi/abi_struct.h"
#include "capi/handles.h"
#include "capi/status.h"

#include "core/error.h"
#include "runtime/cpu_device.h"
#include "runtime/driver_api.h"
#include "runtime/executor.h"

namespace ktjit::capi {

DeviceState::DeviceState(std::shared_ptr<ContextState> its_context,
                         std::unique_ptr<runtime::Device> opened)
    : context(std::move(its_context)),
      device(std::move(opened)),
      cuda(dynamic_cast<runtime::CudaDevice*>(device.get())),
      host_stream(cuda == nullptr ? device->make_stream() : nullptr),
      name(device->name()),
      description(device->description()),
      target(device->native_target().name()) {}

void DeviceState::check_no_stream(void* stream) const {
  if (stream != nullptr) {
    throw SpecError("stream", fmt::format("{}", stream), fmt::format("null: {} has none", name));
  }
}

namespace {

/// The caller's threads.
class CallersExecutor : public runtime::Executor {
 public:
  explicit CallersExecutor(const ktjit_executor& executor) : executor_(executor) {}

  int concurrency() const override { return executor_.concurrency; }
  void parallel_for(std::int64_t count,
                    const std::function<void(std::int64_t, std::int64_t)>& body) override {
    const auto call = [](void* data, std::int64_t begin, std::int64_t end) {
      (*static_cast<const std::function<void(std::int64_t, std::int64_t)>*>(data))(begin, end);
    };
    executor_.parallel_for(executor_.data, count, call,
                           const_cast<std::function<void(std::int64_t, std::int64_t)>*>(&body));
  }

 private:
  ktjit_executor executor_;
};

ktjit_device* new_device(ktjit_context* context, std::unique_ptr<runtime::Device> device) {
  return new ktjit_device{std::make_shared<DeviceState>(context->state, std::move(device))};
}

/// Part of a buffer of ours.
struct Place {
  runtime::Buffer* buffer;
  std::size_t offset;
};

/// Errors: SpecError unless ktjit_allocate gave all of these bytes.
Place find_place(DeviceState& state, ktjit_address address, std::size_t bytes) {
  const std::lock_guard lock(state.buffers_mutex);
  auto next = state.buffers.upper_bound(address);
  if (next != state.buffers.begin()) {
    const auto& [first, buffer] = *std::prev(next);
    const std::uint64_t offset = address - first;
    if (offset <= buffer->bytes() && bytes <= buffer->bytes() - offset)
      return {buffer.get(), offset};
  }
  throw SpecError("address", fmt::format("{} bytes at {:#x}", bytes, address),
                  "memory that ktjit_allocate gave");
}

std::span<const std::byte> bytes_at(const void* data, std::size_t bytes) {
  return {static_cast<const std::byte*>(data), bytes};
}

}  // namespace
}  // namespace ktjit::capi

using namespace ktjit::capi;
using ktjit::SpecError;

ktjit_status ktjit_device_open(ktjit_context* context, const char* name, ktjit_device** device) {
  return guarded([&] {
    require(context, "context");
    require(device, "device");
    *device =
        new_device(context, context->state->toolchain.open_device(name == nullptr ? "" : name));
  });
}

ktjit_status ktjit_device_open_cpu(ktjit_context* context, const ktjit_executor* executor,
                                   ktjit_device** device) {
  return guarded([&] {
    require(context, "context");
    require(device, "device");
    const ktjit_executor given = read_struct(executor, "executor");
    if (given.parallel_for == nullptr)
      throw SpecError("executor.parallel_for", "null", "a function");
    if (given.concurrency < 1) {
      throw SpecError("executor.concurrency", fmt::format("{}", given.concurrency), "1 and more");
    }
    *device = new_device(context,
                         ktjit::runtime::make_cpu_device(std::make_shared<CallersExecutor>(given)));
  });
}

ktjit_status ktjit_device_adopt_cuda(ktjit_context* context, void* cu_context,
                                     ktjit_device** device) {
  return guarded([&] {
    require(context, "context");
    require(cu_context, "cu_context");
    require(device, "device");
    std::string why_not;
    const auto driver = ktjit::runtime::try_load_driver(&why_not);
    if (!driver) throw ktjit::ToolchainError("no CUDA driver", why_not, "install NVIDIA's driver");
    *device = new_device(context, ktjit::runtime::adopt_cuda_context(driver, cu_context));
  });
}

void ktjit_device_destroy(ktjit_device* device) { delete device; }

const char* ktjit_device_name(const ktjit_device* device) {
  return device == nullptr ? "" : device->state->name.c_str();
}

const char* ktjit_device_description(const ktjit_device* device) {
  return device == nullptr ? "" : device->state->description.c_str();
}

const char* ktjit_device_target(const ktjit_device* device) {
  return device == nullptr ? "" : device->state->target.c_str();
}

ktjit_status ktjit_allocate(ktjit_device* device, size_t bytes, ktjit_address* address) {
  return guarded([&] {
    require(device, "device");
    require(address, "address");
    if (bytes == 0) throw SpecError("bytes", "0", "1 and more");
    DeviceState& state = *device->state;
    std::unique_ptr<ktjit::runtime::Buffer> buffer = state.device->allocate(bytes);
    const ktjit_address at = buffer->address();
    const std::lock_guard lock(state.buffers_mutex);
    state.buffers.emplace(at, std::move(buffer));
    *address = at;
  });
}

ktjit_status ktjit_free(ktjit_device* device, ktjit_address address) {
  return guarded([&] {
    require(device, "device");
    DeviceState& state = *device->state;
    decltype(state.buffers)::node_type freed;  // its memory is freed after the lock
    {
      const std::lock_guard lock(state.buffers_mutex);
      freed = state.buffers.extract(address);
    }
    if (!freed) {
      throw SpecError("address", fmt::format("{:#x}", address), "one that ktjit_allocate gave");
    }
  });
}

ktjit_status ktjit_upload(ktjit_device* device, void* stream, const void* from, ktjit_address to,
                          size_t bytes) {
  return guarded([&] {
    require(device, "device");
    require(from, "from");
    DeviceState& state = *device->state;
    const Place place = find_place(state, to, bytes);
    state.with_stream(stream, [&](ktjit::runtime::Stream& on) {
      state.device->upload(on, bytes_at(from, bytes), *place.buffer, place.offset);
    });
  });
}

ktjit_status ktjit_download(ktjit_device* device, void* stream, ktjit_address from, void* to,
                            size_t bytes) {
  return guarded([&] {
    require(device, "device");
    require(to, "to");
    DeviceState& state = *device->state;
    const Place place = find_place(state, from, bytes);
    state.with_stream(stream, [&](ktjit::runtime::Stream& on) {
      state.device->download(on, *place.buffer, place.offset, {static_cast<std::byte*>(to), bytes});
    });
  });
}

ktjit_status ktjit_synchronize(ktjit_device* device, void* stream) {
  return guarded([&] {
    require(device, "device");
    device->state->with_stream(stream, [](ktjit::runtime::Stream& on) { on.synchronize(); });
  });
}
