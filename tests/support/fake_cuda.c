// libcuda.so.1 of make-believe, for processes that find it first (LD_LIBRARY_PATH): one GPU of compute
// capability 9.0 whose memory is host memory and whose kernels do nothing. Calls take no lock and, but for
// those that make something, allocate nothing, so that a launch path can be counted and timed without a GPU.
// tests/runtime/fake_driver.h is the one for checking what is called and for failing calls.
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kSuccess = 0, kInvalidValue = 1, kInvalidDevice = 101 };
enum { kNotCapturing = 0, kCapturing = 1 };

typedef struct stream {
  int capture_status;
} stream;

static __thread void* current_context;
static char primary_context;
static stream default_stream;
static atomic_long launches, dependent_launches;

// What tests ask.
long fake_cuda_launches(void) { return atomic_load(&launches); }
long fake_cuda_dependent_launches(void) { return atomic_load(&dependent_launches); }

static stream* stream_of(void* handle) { return handle == NULL ? &default_stream : handle; }

static int give(void** handle) {
  *handle = malloc(16);
  return *handle == NULL ? kInvalidValue : kSuccess;
}

static int drop(void* handle) {
  free(handle);
  return kSuccess;
}

int cuGetErrorName(int code, const char** name) {
  *name = code == kSuccess ? "CUDA_SUCCESS" : "CUDA_ERROR_OF_FAKE";
  return kSuccess;
}
int cuInit(unsigned flags) { return flags == 0 ? kSuccess : kInvalidValue; }
int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
int cuDeviceGetCount(int* count) {
  *count = 1;
  return kSuccess;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = 0;
  return ordinal == 0 ? kSuccess : kInvalidDevice;
}
int cuDeviceGetName(char* name, int bytes, int device) {
  snprintf(name, (size_t)bytes, "Fake GPU %d", device);
  return kSuccess;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  (void)device;
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 97 ? 227 * 1024 : 1000000;
  return kSuccess;
}
int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  (void)device;
  *bytes = (size_t)80 << 30;
  return kSuccess;
}
int cuDeviceGetPCIBusId(char* id, int bytes, int device) {
  snprintf(id, (size_t)bytes, "0000:00:%02d.0", device);
  return kSuccess;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = &primary_context;
  return device == 0 ? kSuccess : kInvalidDevice;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return device == 0 ? kSuccess : kInvalidDevice; }
int cuCtxGetCurrent(void** context) {
  *context = current_context;
  return kSuccess;
}
// One context, so the stack is its depth; tests leave it balanced.
int cuCtxPushCurrent_v2(void* context) {
  current_context = context;
  return kSuccess;
}
int cuCtxPopCurrent_v2(void** context) {
  *context = current_context;
  current_context = NULL;
  return kSuccess;
}
int cuCtxGetDevice(int* device) {
  *device = 0;
  return kSuccess;
}

int cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = (size_t)70 << 30;
  *total_bytes = (size_t)80 << 30;
  return kSuccess;
}
int cuMemAlloc_v2(unsigned long long* address, size_t bytes) {
  void* memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
  *address = (uintptr_t)memory;
  return memory == NULL ? 2 : kSuccess;
}
int cuMemFree_v2(unsigned long long address) { return drop((void*)(uintptr_t)address); }
int cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, void* on) {
  (void)on;
  memcpy((void*)(uintptr_t)to, from, bytes);
  return kSuccess;
}
int cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, void* on) {
  (void)on;
  memcpy(to, (const void*)(uintptr_t)from, bytes);
  return kSuccess;
}
int cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes, void* on) {
  (void)on;
  memset((void*)(uintptr_t)to, value, bytes);
  return kSuccess;
}

int cuStreamCreate(void** handle, unsigned flags) {
  (void)flags;
  *handle = calloc(1, sizeof(stream));
  return kSuccess;
}
int cuStreamDestroy_v2(void* handle) { return drop(handle); }
int cuStreamSynchronize(void* handle) {
  (void)handle;
  return kSuccess;
}
int cuStreamIsCapturing(void* handle, int* status) {
  *status = stream_of(handle)->capture_status;
  return kSuccess;
}
int cuStreamBeginCapture_v2(void* handle, int mode) {
  (void)mode;
  stream_of(handle)->capture_status = kCapturing;
  return kSuccess;
}
int cuStreamEndCapture(void* handle, void** graph) {
  stream_of(handle)->capture_status = kNotCapturing;
  return give(graph);
}

int cuEventCreate(void** event, unsigned flags) {
  (void)flags;
  return give(event);
}
int cuEventDestroy_v2(void* event) { return drop(event); }
int cuEventRecord(void* event, void* on) {
  (void)event, (void)on;
  return kSuccess;
}
int cuEventSynchronize(void* event) {
  (void)event;
  return kSuccess;
}
int cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  (void)start, (void)end;
  *milliseconds = 1.0f;
  return kSuccess;
}

int cuModuleLoadData(void** module, const void* image) {
  (void)image;
  return give(module);
}
int cuModuleUnload(void* module) { return drop(module); }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = module;
  return name[0] == '\0' ? 500 : kSuccess;
}
int cuFuncGetAttribute(int* value, int attribute, void* function) {
  (void)function;
  *value = attribute == 4 ? 32 : 0;
  return kSuccess;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
  (void)function, (void)attribute, (void)value;
  return kSuccess;
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned smem_bytes,
                   void* on, void** arguments, void** extra) {
  (void)grid_x, (void)grid_y, (void)grid_z, (void)block_x, (void)block_y, (void)block_z;
  (void)smem_bytes, (void)on, (void)extra;
  if (function == NULL || arguments == NULL || current_context == NULL) return kInvalidValue;
  atomic_fetch_add_explicit(&launches, 1, memory_order_relaxed);
  return kSuccess;
}

typedef struct launch_attribute {
  int id, padding, value, unused[15];
} launch_attribute;

typedef struct launch_config {
  unsigned grid[3], block[3], smem_bytes;
  void* stream;
  launch_attribute* attributes;
  unsigned attribute_count;
} launch_config;

int cuLaunchKernelEx(const launch_config* config, void* function, void** arguments, void** extra) {
  enum { kProgrammaticStreamSerialization = 6 };
  for (unsigned i = 0; i < config->attribute_count; ++i) {
    if (config->attributes[i].id == kProgrammaticStreamSerialization &&
        config->attributes[i].value != 0)
      atomic_fetch_add_explicit(&dependent_launches, 1, memory_order_relaxed);
  }
  return cuLaunchKernel(function, config->grid[0], config->grid[1], config->grid[2],
                        config->block[0], config->block[1], config->block[2], config->smem_bytes,
                        config->stream, arguments, extra);
}

int cuLinkCreate_v2(unsigned count, int* options, void** values, void** link) {
  (void)count, (void)options, (void)values;
  return give(link);
}
int cuLinkAddData_v2(void* link, int type, void* data, size_t bytes, const char* name,
                     unsigned count, int* options, void** values) {
  (void)link, (void)type, (void)data, (void)bytes, (void)name, (void)count;
  (void)options, (void)values;
  return kSuccess;
}
int cuLinkComplete(void* link, void** cubin, size_t* bytes) {
  static char image[] = "fake machine code";
  (void)link;
  *cubin = image;
  *bytes = sizeof(image);
  return kSuccess;
}
int cuLinkDestroy(void* link) { return drop(link); }

int cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long flags) {
  (void)graph, (void)flags;
  return give(exec);
}
int cuGraphLaunch(void* exec, void* on) {
  (void)exec, (void)on;
  return kSuccess;
}
int cuGraphExecDestroy(void* exec) { return drop(exec); }
int cuGraphDestroy(void* graph) { return drop(graph); }
