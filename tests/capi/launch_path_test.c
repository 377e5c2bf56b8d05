// What a repeated launch does on the host, on a libcuda of make-believe (tests/support/fake_cuda.c) and on the
// CPU: no allocation and no lock, so no string beyond 15 characters either (every kernel's name is longer).
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/capi/test_support.h"
#include "tests/support/call_counters.h"

enum { kLaunches = 1000 };

static double now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

static long fake_count(const char* name) {
  void* cuda = dlopen("libcuda.so.1", RTLD_NOW);
  long (*function)(void) = NULL;
  void* symbol = cuda == NULL ? NULL : dlsym(cuda, name);
  memcpy(&function, &symbol, sizeof(function));
  return function == NULL ? -1 : function();
}

// The counters see what they are there to see: in this program, and behind the C interface.
static void test_counters(ktjit_device* device, const ktjit_kernel* kernel) {
  call_counts before = get_call_counts();
  void* volatile memory = malloc(10);
  free(memory);
  CHECK(get_call_counts().allocations == before.allocations + 1);
  CHECK(get_call_counts().frees == before.frees + 1);
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  CHECK(get_call_counts().locks == before.locks + 1);
  pthread_rwlock_rdlock(&rwlock);
  pthread_rwlock_unlock(&rwlock);
  CHECK(get_call_counts().locks == before.locks + 2);

  // A refused launch makes its message, and ktjit_allocate takes a std::mutex and calls operator new.
  before = get_call_counts();
  const ktjit_arguments nothing = ktjit_arguments_init();
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, 1, 1, &nothing), KTJIT_ERROR_SPEC, "w");
  CHECK(get_call_counts().allocations > before.allocations);
  before = get_call_counts();
  ktjit_address address = 0;
  CHECK(ktjit_allocate(device, 256, &address) == KTJIT_OK);
  CHECK(get_call_counts().allocations > before.allocations);
  CHECK(get_call_counts().locks > before.locks);
  CHECK(ktjit_free(device, address) == KTJIT_OK);
}

static void count_launches(const char* what, const ktjit_kernel* kernel, void* stream, int64_t rows,
                           int64_t n, const ktjit_arguments* arguments) {
  CHECK(ktjit_kernel_launch(kernel, stream, rows, n, arguments) == KTJIT_OK);
  const call_counts before = get_call_counts();
  const double start = now_us();
  int failed = 0;
  for (int i = 0; i < kLaunches; ++i)
    failed += ktjit_kernel_launch(kernel, stream, rows, n, arguments) != KTJIT_OK;
  const double us = (now_us() - start) / kLaunches;
  const call_counts after = get_call_counts();
  printf("%s: %ld allocations, %ld frees, %ld locks, %.3f us a launch\n", what,
         after.allocations - before.allocations, after.frees - before.frees,
         after.locks - before.locks, us);
  CHECK(failed == 0);
  CHECK(after.allocations == before.allocations);
  CHECK(after.frees == before.frees);
  CHECK(after.locks == before.locks);
}

static ktjit_kernel_desc make_desc(const char* op, const char* format, int64_t cols) {
  ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  desc.op = op;
  desc.format = format;
  desc.cols = cols;
  return desc;
}

// Products of FP8 have the most arguments: w, scale, x, x_scale, bias, y, rows, n.
static ktjit_kernel_desc gemm_desc(void) {
  ktjit_kernel_desc desc = make_desc("matmul", "fp8_e4m3", 256);
  desc.scale_type = "f32";
  desc.scale_block_rows = desc.scale_block_cols = 128;
  desc.activation = "afp8";
  desc.x_scale_group = 128;
  desc.bias_format = "f32";
  desc.y_format = "bf16";
  return desc;
}

static ktjit_arguments all_arguments(ktjit_address base) {
  ktjit_arguments arguments = ktjit_arguments_init();
  arguments.w = arguments.scale = arguments.x = arguments.x_scale = arguments.bias = base;
  arguments.y = base;
  return arguments;
}

static void test_gpu(ktjit_context* context) {
  ktjit_device* device = NULL;
  REQUIRE(ktjit_device_open(context, "cuda", &device) == KTJIT_OK);
  REQUIRE(fake_count("fake_cuda_launches") == 0);  // a real driver has no such function
  CHECK(strcmp(ktjit_device_target(device), "sm_90a") == 0);
  ktjit_address memory = 0;
  REQUIRE(ktjit_allocate(device, 1 << 20, &memory) == KTJIT_OK);

  const ktjit_kernel_desc decode = make_desc("dequant", "q8_0", 256);
  const ktjit_kernel_desc product = make_desc("matvec", "q4_K", 256);
  ktjit_kernel_desc gemm = gemm_desc(), dependent = gemm_desc();
  dependent.dependent_launch = 1;
  ktjit_kernel* kernels[4] = {NULL, NULL, NULL, NULL};
  REQUIRE(ktjit_kernel_load(device, &decode, NULL, &kernels[0]) == KTJIT_OK);
  REQUIRE(ktjit_kernel_load(device, &product, NULL, &kernels[1]) == KTJIT_OK);
  REQUIRE(ktjit_kernel_load(device, &gemm, NULL, &kernels[2]) == KTJIT_OK);
  REQUIRE(ktjit_kernel_load(device, &dependent, NULL, &kernels[3]) == KTJIT_OK);
  test_counters(device, kernels[0]);

  ktjit_arguments arguments = ktjit_arguments_init();
  arguments.w = arguments.y = memory;
  count_launches("dequant", kernels[0], NULL, 64, 1, &arguments);
  arguments.x = memory;
  count_launches("matvec", kernels[1], NULL, 64, 1, &arguments);
  arguments = all_arguments(memory);
  count_launches("matmul", kernels[2], NULL, 64, 16, &arguments);
  CHECK(fake_count("fake_cuda_launches") == 3 * (kLaunches + 1));
  CHECK(fake_count("fake_cuda_dependent_launches") == 0);
  count_launches("matmul, dependent", kernels[3], NULL, 64, 16, &arguments);
  CHECK(fake_count("fake_cuda_dependent_launches") == kLaunches + 1);

  CHECK(ktjit_free(device, memory) == KTJIT_OK);
  for (int i = 0; i < 4; ++i) ktjit_kernel_destroy(kernels[i]);
  ktjit_device_destroy(device);
}

static void run_all(void* data, int64_t count, void (*body)(void*, int64_t, int64_t),
                    void* body_data) {
  (void)data;
  body(body_data, 0, count);
}

static void launch_on_cpu(const char* what, ktjit_device* device) {
  const ktjit_kernel_desc product = make_desc("matvec", "q8_0", 256);
  ktjit_kernel* kernel = NULL;
  REQUIRE(ktjit_kernel_load(device, &product, NULL, &kernel) == KTJIT_OK);
  ktjit_arguments bytes = ktjit_arguments_init(), arguments = ktjit_arguments_init();
  REQUIRE(ktjit_kernel_argument_bytes(kernel, 64, 1, &bytes) == KTJIT_OK);
  REQUIRE(ktjit_allocate(device, bytes.w, &arguments.w) == KTJIT_OK);
  REQUIRE(ktjit_allocate(device, bytes.x, &arguments.x) == KTJIT_OK);
  REQUIRE(ktjit_allocate(device, bytes.y, &arguments.y) == KTJIT_OK);
  memset((void*)(uintptr_t)arguments.w, 0, bytes.w);
  memset((void*)(uintptr_t)arguments.x, 0, bytes.x);
  count_launches(what, kernel, NULL, 64, 1, &arguments);
  ktjit_free(device, arguments.w);
  ktjit_free(device, arguments.x);
  ktjit_free(device, arguments.y);
  ktjit_kernel_destroy(kernel);
  ktjit_device_destroy(device);
}

static void test_cpu(ktjit_context* context) {
  ktjit_device* device = NULL;
  ktjit_executor executor = ktjit_executor_init();
  executor.concurrency = 4;
  executor.parallel_for = run_all;
  REQUIRE(ktjit_device_open_cpu(context, &executor, &device) == KTJIT_OK);
  launch_on_cpu("CPU, the caller's executor", device);
  REQUIRE(ktjit_device_open(context, "cpu", &device) == KTJIT_OK);
  launch_on_cpu("CPU, one thread of ours", device);
}

int failures = 0;

int main(int argc, char** argv) {
  if (argc != 2) return fprintf(stderr, "usage: launch_path_test CACHE_FOLDER\n"), 2;
  ktjit_options options = ktjit_options_init();
  options.cache_dir = argv[1];
  options.nvrtc = "/nonexistent";  // Clang makes PTX, which the fake driver links
  options.threads = 1;
  ktjit_context* context = NULL;
  CHECK(ktjit_context_create(&options, &context) == KTJIT_OK);
  if (context == NULL) return 1;
  test_gpu(context);
  test_cpu(context);
  ktjit_context_destroy(context);
  return failures == 0 ? 0 : 1;
}
