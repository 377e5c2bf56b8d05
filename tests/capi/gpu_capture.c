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

// A caller's graph of three kernels, each reading what the one before wrote: 32 codes decoded, times 2, times 3.
static void check_graph(void* cuda, ktjit_device* device, void* stream, int mode, int dependent) {
  enum { kSide = 32 };
  ktjit_kernel_desc descs[3] = {row_desc("f32"), row_desc("f32"), row_desc("f32")};
  descs[1].op = "matvec";
  descs[2].op = "matmul";
  descs[1].format = descs[2].format = "f32";
  ktjit_kernel *kernels[3] = {NULL, NULL, NULL}, *later = NULL;
  for (int i = 0; i < 3; ++i) {
    descs[i].dependent_launch = dependent;
    REQUIRE(ktjit_kernel_load(device, &descs[i], stream, &kernels[i]) == KTJIT_OK);
  }

  unsigned char codes[kSide] = {0};
  float doubling[kSide][kSide] = {{0}}, tripling[kSide][kSide] = {{0}}, y[kSide];
  for (int i = 0; i < kSide; ++i) {
    doubling[i][i] = 2;
    tripling[i][i] = 3;
  }
  ktjit_arguments arguments[3] = {ktjit_arguments_init(), ktjit_arguments_init(),
                                  ktjit_arguments_init()};
  REQUIRE(ktjit_allocate(device, sizeof(codes), &arguments[0].w) == KTJIT_OK);
  REQUIRE(ktjit_allocate(device, sizeof(doubling), &arguments[1].w) == KTJIT_OK);
  REQUIRE(ktjit_allocate(device, sizeof(tripling), &arguments[2].w) == KTJIT_OK);
  for (int i = 0; i < 3; ++i)
    REQUIRE(ktjit_allocate(device, sizeof(y), &arguments[i].y) == KTJIT_OK);
  arguments[1].x = arguments[0].y;
  arguments[2].x = arguments[1].y;
  CHECK(ktjit_upload(device, stream, doubling, arguments[1].w, sizeof(doubling)) == KTJIT_OK);
  CHECK(ktjit_upload(device, stream, tripling, arguments[2].w, sizeof(tripling)) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, stream) == KTJIT_OK);

  void *graph = NULL, *exec = NULL;
  REQUIRE(call(cuda, "cuStreamBeginCapture_v2", stream, (void*)(intptr_t)mode, 0) == 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(ktjit_kernel_launch(kernels[i], stream, i == 0 ? 1 : kSide, 1, &arguments[i]) ==
          KTJIT_OK);
  }
  ktjit_kernel_desc other = row_desc("bf16");
  CHECK_FAILS(ktjit_kernel_load(device, &other, stream, &later), KTJIT_ERROR_CAPTURE,
              "load before the capture");
  CHECK(call(cuda, "cuStreamEndCapture", stream, &graph, 0) == 0);
  REQUIRE(call(cuda, "cuGraphInstantiateWithFlags", &exec, graph, 0) == 0);

  const unsigned char some_codes[3] = {0x38, 0x40, 0x30};  // 1, 2, 0.5
  const float expected[3] = {6, 12, 3};
  for (int replay = 0; replay < 3; ++replay) {
    memset(codes, some_codes[replay], sizeof(codes));
    CHECK(ktjit_upload(device, stream, codes, arguments[0].w, sizeof(codes)) == KTJIT_OK);
    CHECK(call(cuda, "cuGraphLaunch", exec, stream, 0) == 0);
    CHECK(ktjit_download(device, stream, arguments[2].y, y, sizeof(y)) == KTJIT_OK);
    CHECK(ktjit_synchronize(device, stream) == KTJIT_OK);
    for (int i = 0; i < kSide; ++i) CHECK(y[i] == expected[replay]);
  }
  call(cuda, "cuGraphExecDestroy", exec, NULL, 0);
  call(cuda, "cuGraphDestroy", graph, NULL, 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(ktjit_free(device, arguments[i].w) == KTJIT_OK);
    CHECK(ktjit_free(device, arguments[i].y) == KTJIT_OK);
    ktjit_kernel_destroy(kernels[i]);
  }
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

  // As torch captures (global, 0), for this thread only (1), relaxed (2); dependent launches where there are some.
  ktjit_kernel* dependent = NULL;
  ktjit_kernel_desc probe = row_desc("f32");
  probe.dependent_launch = 1;
  const int has_dependent = ktjit_kernel_load(device, &probe, stream, &dependent) == KTJIT_OK;
  ktjit_kernel_destroy(dependent);
  for (int mode = 0; mode <= 2; ++mode) {
    for (int wanted = 0; wanted <= has_dependent; ++wanted)
      check_graph(cuda, device, stream, mode, wanted);
  }
  printf("graphs of three capture modes, with%s dependent launches\n", has_dependent ? "" : "out");

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
