// Uses the driver as an application would, through dlopen: the build needs no CUDA toolkit.
#include "tests/capi/gpu_capture.h"

#include <dlfcn.h>

#include "tests/capi/test_support.h"

static int call(void* library, const char* name, void* a, void* b, size_t c) {
  int (*function)(void*, void*, size_t) = NULL;
  void* symbol = dlsym(library, name);
  memcpy(&function, &symbol, sizeof(function));  // C has no cast from void* to functions
  if (function == NULL) return -1;
  return function(a, b, c);
}

// One row of 32 e4m3 codes of 1.0, decoded with one scale for the tensor.
static ktjit_kernel_desc row_desc(const char* y_format) {
  ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  desc.op = "dequant";
  desc.format = "fp8_e4m3";
  desc.cols = 32;
  desc.y_format = y_format;
  return desc;
}

void test_gpu_capture(ktjit_context* context) {
  enum { kThreadLocal = 1 };
  void* cuda = dlopen("libcuda.so.1", RTLD_NOW);
  REQUIRE(cuda != NULL);
  void *cu_context = NULL, *stream = NULL, *graph = NULL, *exec = NULL;
  REQUIRE(call(cuda, "cuDevicePrimaryCtxRetain", &cu_context, NULL, 0) == 0);  // of device 0
  REQUIRE(call(cuda, "cuCtxPushCurrent_v2", cu_context, NULL, 0) == 0);
  REQUIRE(call(cuda, "cuStreamCreate", &stream, (void*)1, 0) == 0);

  ktjit_device* device = NULL;
  ktjit_kernel *kernel = NULL, *other = NULL;
  REQUIRE(ktjit_device_adopt_cuda(context, cu_context, &device) == KTJIT_OK);
  CHECK(strcmp(ktjit_device_name(device), "cuda:0") == 0);
  const ktjit_kernel_desc desc = row_desc("f32"), later = row_desc("f16");
  REQUIRE(ktjit_kernel_load(device, &desc, stream, &kernel) == KTJIT_OK);

  unsigned char ones[32];
  float y[32] = {0};
  memset(ones, 0x38, sizeof(ones));
  ktjit_arguments arguments = ktjit_arguments_init();
  REQUIRE(ktjit_allocate(device, sizeof(ones), &arguments.w) == KTJIT_OK);
  REQUIRE(ktjit_allocate(device, sizeof(y), &arguments.y) == KTJIT_OK);
  CHECK(ktjit_upload(device, stream, ones, arguments.w, sizeof(ones)) == KTJIT_OK);
  CHECK(ktjit_upload(device, stream, y, arguments.y, sizeof(y)) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, stream) == KTJIT_OK);

  // Under capture: a launch is recorded, a load is a named error.
  REQUIRE(call(cuda, "cuStreamBeginCapture_v2", stream, (void*)kThreadLocal, 0) == 0);
  CHECK(ktjit_kernel_launch(kernel, stream, 1, 1, &arguments) == KTJIT_OK);
  CHECK_FAILS(ktjit_kernel_load(device, &later, stream, &other), KTJIT_ERROR_CAPTURE,
              "load before the capture");
  CHECK(call(cuda, "cuStreamEndCapture", stream, &graph, 0) == 0);
  CHECK(ktjit_download(device, stream, arguments.y, y, sizeof(y)) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, stream) == KTJIT_OK);
  CHECK(y[0] == 0.0f);  // nothing ran yet

  REQUIRE(call(cuda, "cuGraphInstantiateWithFlags", &exec, graph, 0) == 0);
  CHECK(call(cuda, "cuGraphLaunch", exec, stream, 0) == 0);
  CHECK(ktjit_download(device, stream, arguments.y, y, sizeof(y)) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, stream) == KTJIT_OK);
  CHECK(y[0] == 1.0f && y[31] == 1.0f);
  CHECK(ktjit_kernel_load(device, &later, stream, &other) == KTJIT_OK);

  CHECK(ktjit_free(device, arguments.w) == KTJIT_OK);
  CHECK(ktjit_free(device, arguments.y) == KTJIT_OK);
  ktjit_kernel_destroy(other);
  ktjit_kernel_destroy(kernel);
  ktjit_device_destroy(device);
  call(cuda, "cuGraphExecDestroy", exec, NULL, 0);
  call(cuda, "cuGraphDestroy", graph, NULL, 0);
  call(cuda, "cuStreamDestroy_v2", stream, NULL, 0);
  void* popped = NULL;
  call(cuda, "cuCtxPopCurrent_v2", &popped, NULL, 0);
  call(cuda, "cuDevicePrimaryCtxRelease_v2", NULL, NULL, 0);
}
