#include "tests/runtime/fake_driver.h"

#include <cstring>

namespace ktjit::test {
namespace {

using namespace ktjit::runtime;

FakeDriver* fake = nullptr;

template <class Pointer>
std::uintptr_t number(Pointer handle) {
  return reinterpret_cast<std::uintptr_t>(handle);
}

template <class Pointer>
void make(Pointer* handle) {
  *handle = reinterpret_cast<Pointer>(fake->make_handle());
}

// Every function below starts with this: counts the call, and leaves with the injected failure.
#define KTJIT_FAKE_CALL(name)              \
  const std::lock_guard lock(fake->mutex); \
  if (const int injected = fake->enter(name)) return injected

constexpr std::uintptr_t kPrimaryContext = 0x100;  // plus the device

int get_error_name(int code, const char** name) {
  *name = code == kInjectedCode ? "CUDA_ERROR_UNKNOWN" : "CUDA_ERROR_OF_TEST";
  return 0;
}

int init(unsigned) {
  KTJIT_FAKE_CALL("cuInit");
  return fake->init_code;
}

int driver_get_version(int* version) {
  KTJIT_FAKE_CALL("cuDriverGetVersion");
  *version = 13000;
  return 0;
}

int device_get_count(int* count) {
  KTJIT_FAKE_CALL("cuDeviceGetCount");
  *count = fake->device_count;
  return 0;
}

int device_get(CuDevice* device, int ordinal) {
  KTJIT_FAKE_CALL("cuDeviceGet");
  *device = ordinal + 10;  // not the ordinal, to catch who mixes them up
  return ordinal < fake->device_count ? 0 : 101;
}

int device_get_name(char* name, int bytes, CuDevice device) {
  KTJIT_FAKE_CALL("cuDeviceGetName");
  const std::string text = "Fake GPU " + std::to_string(device - 10);
  std::strncpy(name, text.c_str(), static_cast<std::size_t>(bytes));
  return 0;
}

int device_get_attribute(int* value, int attribute, CuDevice) {
  KTJIT_FAKE_CALL("cuDeviceGetAttribute");
  *value = attribute == cu::kDeviceComputeCapabilityMajor   ? fake->major
           : attribute == cu::kDeviceComputeCapabilityMinor ? fake->minor
           : attribute == cu::kDeviceMaxSharedBytesOptin    ? fake->max_smem_bytes
           : attribute == cu::kDeviceL2CacheBytes           ? 6 * 1024 * 1024
                                                            : 1000000 + attribute;
  return 0;
}

int device_total_mem(std::size_t* bytes, CuDevice) {
  KTJIT_FAKE_CALL("cuDeviceTotalMem");
  *bytes = std::size_t{24} << 30;
  return 0;
}

int device_get_pci_bus_id(char* id, int bytes, CuDevice) {
  KTJIT_FAKE_CALL("cuDeviceGetPCIBusId");
  std::strncpy(id, "0000:3B:00.0", static_cast<std::size_t>(bytes));
  return 0;
}

int primary_ctx_retain(CuContext* context, CuDevice device) {
  KTJIT_FAKE_CALL("cuDevicePrimaryCtxRetain");
  const std::uintptr_t handle = kPrimaryContext + static_cast<std::uintptr_t>(device);
  if (!fake->live.insert(handle).second) fake->misuse.emplace_back("context retained twice");
  *context = reinterpret_cast<CuContext>(handle);
  return 0;
}

int primary_ctx_release(CuDevice device) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuDevicePrimaryCtxRelease");
  fake->drop(kPrimaryContext + static_cast<std::uintptr_t>(device), "cuDevicePrimaryCtxRelease");
  return injected;
}

int ctx_get_current(CuContext* context) {
  KTJIT_FAKE_CALL("cuCtxGetCurrent");
  *context = fake_context_stack().empty() ? nullptr : fake_context_stack().back();
  return 0;
}

int ctx_push_current(CuContext context) {
  KTJIT_FAKE_CALL("cuCtxPushCurrent");
  fake_context_stack().push_back(context);
  return 0;
}

int ctx_pop_current(CuContext* context) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuCtxPopCurrent");
  if (fake_context_stack().empty()) {
    fake->misuse.emplace_back("context popped from an empty stack");
    return 201;
  }
  *context = fake_context_stack().back();
  fake_context_stack().pop_back();
  return injected;
}

int ctx_get_device(CuDevice* device) {
  KTJIT_FAKE_CALL("cuCtxGetDevice");
  fake->need_context("cuCtxGetDevice");
  *device = 11;
  return 0;
}

int mem_get_info(std::size_t* free_bytes, std::size_t* total_bytes) {
  KTJIT_FAKE_CALL("cuMemGetInfo");
  fake->need_context("cuMemGetInfo");
  *free_bytes = std::size_t{20} << 30;
  *total_bytes = std::size_t{24} << 30;
  return 0;
}

int mem_alloc(CuAddress* address, std::size_t bytes) {
  KTJIT_FAKE_CALL("cuMemAlloc");
  fake->need_context("cuMemAlloc");
  if (bytes == 0) return 1;
  *address = fake->make_handle() << 32;
  fake->memory[*address].resize(bytes);
  return 0;
}

int mem_free(CuAddress address) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuMemFree");
  fake->drop(address >> 32, "cuMemFree");
  fake->memory.erase(address);
  return injected;
}

// The bytes from `address` on, null if they are in no allocation.
std::byte* find_memory(CuAddress address, std::size_t bytes) {
  auto after = fake->memory.upper_bound(address);
  if (after != fake->memory.begin()) {
    auto& [start, content] = *std::prev(after);
    if (address + bytes <= start + content.size()) return content.data() + (address - start);
  }
  fake->misuse.emplace_back("access outside of memory");
  return nullptr;
}

int memcpy_htod_async(CuAddress to, const void* from, std::size_t bytes, CuStream stream) {
  KTJIT_FAKE_CALL("cuMemcpyHtoDAsync");
  fake->need_context("cuMemcpyHtoDAsync");
  fake->need(number(stream), "cuMemcpyHtoDAsync");
  if (std::byte* at = find_memory(to, bytes)) std::memcpy(at, from, bytes);
  return 0;
}

int memcpy_dtoh_async(void* to, CuAddress from, std::size_t bytes, CuStream stream) {
  KTJIT_FAKE_CALL("cuMemcpyDtoHAsync");
  fake->need_context("cuMemcpyDtoHAsync");
  fake->need(number(stream), "cuMemcpyDtoHAsync");
  if (const std::byte* at = find_memory(from, bytes)) std::memcpy(to, at, bytes);
  return 0;
}

int memset_d8_async(CuAddress to, unsigned char value, std::size_t bytes, CuStream stream) {
  KTJIT_FAKE_CALL("cuMemsetD8Async");
  fake->need_context("cuMemsetD8Async");
  fake->need(number(stream), "cuMemsetD8Async");
  if (std::byte* at = find_memory(to, bytes)) std::memset(at, value, bytes);
  return 0;
}

int stream_create(CuStream* stream, unsigned flags) {
  KTJIT_FAKE_CALL("cuStreamCreate");
  fake->need_context("cuStreamCreate");
  if (flags != cu::kStreamNonBlocking) fake->misuse.emplace_back("blocking stream");
  make(stream);
  return 0;
}

int stream_destroy(CuStream stream) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuStreamDestroy");
  fake->drop(number(stream), "cuStreamDestroy");
  return injected;
}

int stream_synchronize(CuStream stream) {
  KTJIT_FAKE_CALL("cuStreamSynchronize");
  fake->need(number(stream), "cuStreamSynchronize");
  return 0;
}

int stream_is_capturing(CuStream stream, int* status) {
  KTJIT_FAKE_CALL("cuStreamIsCapturing");
  fake->need(number(stream), "cuStreamIsCapturing");
  *status = fake->capturing.count(number(stream)) != 0 ? 1 : 0;
  return 0;
}

int stream_begin_capture(CuStream stream, int mode) {
  KTJIT_FAKE_CALL("cuStreamBeginCapture");
  if (mode != cu::kCaptureModeThreadLocal) fake->misuse.emplace_back("capture mode");
  fake->capturing.insert(number(stream));
  return 0;
}

int stream_end_capture(CuStream stream, CuGraph* graph) {
  const std::lock_guard lock(fake->mutex);
  fake->capturing.erase(number(stream));
  if (const int injected = fake->enter("cuStreamEndCapture")) return injected;
  make(graph);
  return 0;
}

int event_create(CuEvent* event, unsigned) {
  KTJIT_FAKE_CALL("cuEventCreate");
  fake->need_context("cuEventCreate");
  make(event);
  return 0;
}

int event_destroy(CuEvent event) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuEventDestroy");
  fake->drop(number(event), "cuEventDestroy");
  return injected;
}

int event_record(CuEvent event, CuStream stream) {
  KTJIT_FAKE_CALL("cuEventRecord");
  fake->need(number(event), "cuEventRecord");
  fake->need(number(stream), "cuEventRecord");
  return 0;
}

int event_synchronize(CuEvent event) {
  KTJIT_FAKE_CALL("cuEventSynchronize");
  fake->need(number(event), "cuEventSynchronize");
  return 0;
}

int event_elapsed_time(float* milliseconds, CuEvent start, CuEvent end) {
  KTJIT_FAKE_CALL("cuEventElapsedTime");
  fake->need(number(start), "cuEventElapsedTime");
  fake->need(number(end), "cuEventElapsedTime");
  *milliseconds = 0.25f;
  return 0;
}

int module_load_data(CuModule* module, const void*) {
  KTJIT_FAKE_CALL("cuModuleLoadData");
  fake->need_context("cuModuleLoadData");
  if (fake->load_code != 0) return fake->load_code;
  make(module);
  return 0;
}

int module_unload(CuModule module) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuModuleUnload");
  fake->drop(number(module), "cuModuleUnload");
  return injected;
}

int module_get_function(CuFunction* function, CuModule module, const char* name) {
  KTJIT_FAKE_CALL("cuModuleGetFunction");
  fake->need(number(module), "cuModuleGetFunction");
  *function = reinterpret_cast<CuFunction>(number(module) + 1);
  return std::string(name) == "missing" ? 500 : 0;
}

int func_get_attribute(int* value, int attribute, CuFunction) {
  KTJIT_FAKE_CALL("cuFuncGetAttribute");
  *value = attribute == cu::kFuncRegisters     ? 40
           : attribute == cu::kFuncLocalBytes  ? 16
           : attribute == cu::kFuncSharedBytes ? fake->static_smem_bytes
                                               : -1;
  return 0;
}

int func_set_attribute(CuFunction, int attribute, int value) {
  KTJIT_FAKE_CALL("cuFuncSetAttribute");
  if (attribute != cu::kFuncMaxDynamicSharedBytes) fake->misuse.emplace_back("function attribute");
  fake->dynamic_smem_limit = value;
  return 0;
}

int launch_kernel(CuFunction, unsigned x, unsigned y, unsigned z, unsigned block_x,
                  unsigned block_y, unsigned block_z, unsigned smem_bytes, CuStream stream,
                  void** arguments, void** extra) {
  KTJIT_FAKE_CALL("cuLaunchKernel");
  fake->need_context("cuLaunchKernel");
  if (z * block_y * block_z != 1 || extra != nullptr) fake->misuse.emplace_back("launch");
  std::uint64_t first = 0;
  std::memcpy(&first, arguments[0], sizeof first);
  fake->launches.push_back({number(stream), x, y, block_x, smem_bytes, first, false});
  return 0;
}

int launch_kernel_ex(const CuLaunchConfig* config, CuFunction, void** arguments, void** extra) {
  KTJIT_FAKE_CALL("cuLaunchKernelEx");
  fake->need_context("cuLaunchKernelEx");
  if (config->grid_z * config->block_y * config->block_z != 1 || extra != nullptr)
    fake->misuse.emplace_back("launch");
  bool is_dependent = false;
  for (unsigned i = 0; i < config->attribute_count; ++i) {
    const CuLaunchAttribute& attribute = config->attributes[i];
    if (attribute.id != cu::kLaunchProgrammaticStreamSerialization || attribute.padding != 0)
      fake->misuse.emplace_back("launch attribute");
    is_dependent = attribute.value != 0;
  }
  std::uint64_t first = 0;
  std::memcpy(&first, arguments[0], sizeof first);
  fake->launches.push_back({number(config->stream), config->grid_x, config->grid_y, config->block_x,
                            config->smem_bytes, first, is_dependent});
  return 0;
}

int tensor_map_encode_tiled(void* map, int element_type, unsigned dimensions, void* address,
                            const std::uint64_t* sizes, const std::uint64_t* byte_strides,
                            const std::uint32_t* box, const std::uint32_t* element_strides,
                            int interleave, int swizzle, int l2_promotion, int fill) {
  KTJIT_FAKE_CALL("cuTensorMapEncodeTiled");
  fake->need_context("cuTensorMapEncodeTiled");
  constexpr std::uintptr_t kAlignment = 64;
  const bool is_asked_for =
      element_type == cu::kTensorMapUint8 && dimensions == 2 &&
      interleave == cu::kTensorMapNoInterleave && swizzle == cu::kTensorMapSwizzle128 &&
      l2_promotion == cu::kTensorMapL2Promotion256 && fill == cu::kTensorMapFillZeros &&
      element_strides[0] == 1 && element_strides[1] == 1;
  if (!is_asked_for || number(map) % kAlignment != 0) fake->misuse.emplace_back("tensor map");
  fake->tensor_maps.push_back(
      {number(address), {sizes[0], sizes[1]}, byte_strides[0], {box[0], box[1]}});
  return 0;
}

int link_create(unsigned count, int* options, void** values, CuLink* link) {
  KTJIT_FAKE_CALL("cuLinkCreate");
  fake->need_context("cuLinkCreate");
  for (unsigned i = 0; i < count; ++i) {
    const std::string* log = options[i] == cu::kJitInfoLogBuffer    ? &fake->link_info_log
                             : options[i] == cu::kJitErrorLogBuffer ? &fake->link_error_log
                                                                    : nullptr;
    if (log != nullptr) std::strcpy(static_cast<char*>(values[i]), log->c_str());
  }
  make(link);
  return 0;
}

int link_add_data(CuLink link, int type, void* data, std::size_t bytes, const char*, unsigned, int*,
                  void**) {
  KTJIT_FAKE_CALL("cuLinkAddData");
  fake->need(number(link), "cuLinkAddData");
  const char* text = static_cast<const char*>(data);
  if (type != cu::kJitInputPtx || text[bytes - 1] != '\0') fake->misuse.emplace_back("link input");
  fake->linked_text = text;
  return fake->link_code;
}

int link_complete(CuLink link, void** cubin, std::size_t* bytes) {
  KTJIT_FAKE_CALL("cuLinkComplete");
  fake->need(number(link), "cuLinkComplete");
  static char image[] = "machine code";
  *cubin = image;
  *bytes = sizeof image;
  return 0;
}

int link_destroy(CuLink link) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuLinkDestroy");
  fake->drop(number(link), "cuLinkDestroy");
  return injected;
}

int graph_instantiate(CuGraphExec* exec, CuGraph graph, unsigned long long) {
  KTJIT_FAKE_CALL("cuGraphInstantiateWithFlags");
  fake->need(number(graph), "cuGraphInstantiateWithFlags");
  make(exec);
  return 0;
}

int graph_launch(CuGraphExec exec, CuStream stream) {
  KTJIT_FAKE_CALL("cuGraphLaunch");
  fake->need(number(exec), "cuGraphLaunch");
  fake->need(number(stream), "cuGraphLaunch");
  return 0;
}

int graph_exec_destroy(CuGraphExec exec) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuGraphExecDestroy");
  fake->drop(number(exec), "cuGraphExecDestroy");
  return injected;
}

int graph_destroy(CuGraph graph) {
  const std::lock_guard lock(fake->mutex);
  const int injected = fake->enter("cuGraphDestroy");
  fake->drop(number(graph), "cuGraphDestroy");
  return injected;
}

#undef KTJIT_FAKE_CALL

DriverApi make_table() {
  DriverApi api;
  api.build = "580.65.06";
  api.get_error_name = get_error_name;
  api.init = init;
  api.driver_get_version = driver_get_version;
  api.device_get_count = device_get_count;
  api.device_get = device_get;
  api.device_get_name = device_get_name;
  api.device_get_attribute = device_get_attribute;
  api.device_total_mem = device_total_mem;
  api.device_get_pci_bus_id = device_get_pci_bus_id;
  api.primary_ctx_retain = primary_ctx_retain;
  api.primary_ctx_release = primary_ctx_release;
  api.ctx_get_current = ctx_get_current;
  api.ctx_push_current = ctx_push_current;
  api.ctx_pop_current = ctx_pop_current;
  api.ctx_get_device = ctx_get_device;
  api.mem_get_info = mem_get_info;
  api.mem_alloc = mem_alloc;
  api.mem_free = mem_free;
  api.memcpy_htod_async = memcpy_htod_async;
  api.memcpy_dtoh_async = memcpy_dtoh_async;
  api.memset_d8_async = memset_d8_async;
  api.stream_create = stream_create;
  api.stream_destroy = stream_destroy;
  api.stream_synchronize = stream_synchronize;
  api.stream_is_capturing = stream_is_capturing;
  api.stream_begin_capture = stream_begin_capture;
  api.stream_end_capture = stream_end_capture;
  api.event_create = event_create;
  api.event_destroy = event_destroy;
  api.event_record = event_record;
  api.event_synchronize = event_synchronize;
  api.event_elapsed_time = event_elapsed_time;
  api.module_load_data = module_load_data;
  api.module_unload = module_unload;
  api.module_get_function = module_get_function;
  api.func_get_attribute = func_get_attribute;
  api.func_set_attribute = func_set_attribute;
  api.launch_kernel = launch_kernel;
  api.launch_kernel_ex = launch_kernel_ex;
  api.tensor_map_encode_tiled = tensor_map_encode_tiled;
  api.link_create = link_create;
  api.link_add_data = link_add_data;
  api.link_complete = link_complete;
  api.link_destroy = link_destroy;
  api.graph_instantiate = graph_instantiate;
  api.graph_launch = graph_launch;
  api.graph_exec_destroy = graph_exec_destroy;
  api.graph_destroy = graph_destroy;
  return api;
}

}  // namespace

std::vector<CuContext>& fake_context_stack() {
  thread_local std::vector<CuContext> stack;
  return stack;
}

FakeDriver::FakeDriver() : api_(std::make_shared<const DriverApi>(make_table())) {
  fake = this;
  fake_context_stack().clear();
}

FakeDriver::~FakeDriver() { fake = nullptr; }

int FakeDriver::enter(const char* call) {
  if (calls++ != fail_call) return 0;
  failed_call = call;
  return kInjectedCode;
}

std::uintptr_t FakeDriver::make_handle() {
  next_handle_ += 0x10;
  live.insert(next_handle_);
  return next_handle_;
}

void FakeDriver::drop(std::uintptr_t handle, const char* call) {
  need(handle, call);
  live.erase(handle);
}

void FakeDriver::need(std::uintptr_t handle, const char* call) {
  if (live.count(handle) == 0) misuse.push_back(std::string(call) + " of what doesn't live");
}

void FakeDriver::need_context(const char* call) {
  if (fake_context_stack().empty()) misuse.push_back(std::string(call) + " without a context");
}

}  // namespace ktjit::test
