// The C interface from C, on any device: c_interface_test DEVICE CACHE_FOLDER. Exits with 77 where
// there is no such device.
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/capi/gpu_capture.h"
#include "tests/capi/test_support.h"

int failures = 0;

enum { kRows = 200, kCols = 300, kBlock = 128 };

static const char* device_name;
static const char* cache_dir;
static int is_cpu;

// ---- allocations, counted: a launch makes none -----------------------------------------------

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
extern void* __libc_malloc(size_t bytes);
static __thread long allocations;
void* malloc(size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
#endif

// ---- data -------------------------------------------------------------------------------------

// From the definition of e4m3: sign, 4 bits of exponent with bias 7, 3 of mantissa, 0x7f is NaN.
static float e4m3_value(unsigned code) {
  const unsigned exponent = (code >> 3) & 15, mantissa = code & 7;
  float value = exponent == 0 ? ldexpf((float)mantissa, -9)
                              : ldexpf((float)(8 + mantissa), (int)exponent - 10);
  if ((code & 0x7f) == 0x7f) value = NAN;
  return (code & 0x80) ? -value : value;
}

static int same_float(float a, float b) {
  return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof(a)) == 0;
}

static unsigned char codes[kRows * kCols];
static float scales[2 * 3];

static void fill_data(void) {
  for (int i = 0; i < kRows * kCols; ++i) codes[i] = (unsigned char)((i * 37 + i / 256) & 0xff);
  for (int i = 0; i < 6; ++i) scales[i] = 0.25f + (float)i / 3.0f;
}

static float expected_at(int row, int col) {
  return e4m3_value(codes[row * kCols + col]) * scales[row / kBlock * 3 + col / kBlock];
}

static ktjit_kernel_desc dequant_desc(void) {
  ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  desc.op = "dequant";
  desc.format = "float8_e4m3fn";
  desc.cols = kCols;
  desc.scale_type = "f32";
  desc.scale_block_rows = kBlock;
  desc.scale_block_cols = kBlock;
  return desc;
}

static ktjit_context* make_context(void) {
  ktjit_context* context = NULL;
  ktjit_options options = ktjit_options_init();
  options.cache_dir = cache_dir;
  CHECK(ktjit_context_create(&options, &context) == KTJIT_OK);
  return context;
}

static ktjit_address to_device(ktjit_device* device, const void* from, size_t bytes) {
  ktjit_address address = 0;
  CHECK(ktjit_allocate(device, bytes, &address) == KTJIT_OK);
  CHECK(ktjit_upload(device, NULL, from, address, bytes) == KTJIT_OK);
  return address;
}

// Runs the dequant kernel and returns how many of its values are wrong.
static int wrong_values(ktjit_device* device, const ktjit_kernel* kernel) {
  static float y[kRows * kCols];
  memset(y, 0, sizeof(y));
  ktjit_arguments arguments = ktjit_arguments_init();
  arguments.w = to_device(device, codes, sizeof(codes));
  arguments.scale = to_device(device, scales, sizeof(scales));
  arguments.y = to_device(device, y, sizeof(y));
  CHECK(ktjit_kernel_launch(kernel, NULL, kRows, 0, &arguments) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, arguments.y, y, sizeof(y)) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);
  int wrong = 0;
  for (int row = 0; row < kRows; ++row)
    for (int col = 0; col < kCols; ++col)
      wrong += !same_float(y[row * kCols + col], expected_at(row, col));
  CHECK(ktjit_free(device, arguments.w) == KTJIT_OK);
  CHECK(ktjit_free(device, arguments.scale) == KTJIT_OK);
  CHECK(ktjit_free(device, arguments.y) == KTJIT_OK);
  return wrong;
}

// ---- tests ------------------------------------------------------------------------------------

static void test_versions_and_names(void) {
  CHECK(ktjit_abi_version() == KTJIT_ABI_VERSION);
  CHECK(strchr(ktjit_version(), '.') != NULL);
  CHECK(strcmp(ktjit_status_name(KTJIT_ERROR_CAPTURE), "KTJIT_ERROR_CAPTURE") == 0);
  CHECK(strcmp(ktjit_status_name(KTJIT_ERROR_SEALED), "KTJIT_ERROR_SEALED") == 0);
  CHECK(strcmp(ktjit_status_name((ktjit_status)99), "unknown status") == 0);
  CHECK(strcmp(ktjit_last_error(), "") == 0);
  ktjit_context_destroy(NULL);
  ktjit_device_destroy(NULL);
  ktjit_kernel_destroy(NULL);
  ktjit_future_destroy(NULL);
}

static void test_options_are_checked(void) {
  ktjit_context* context = NULL;
  ktjit_options options = ktjit_options_init();
  CHECK_FAILS(ktjit_context_create(&options, NULL), KTJIT_ERROR_SPEC, "context");
  options.threads = -1;
  CHECK_FAILS(ktjit_context_create(&options, &context), KTJIT_ERROR_SPEC, "threads");
  options = ktjit_options_init();
  options.struct_size = 8;
  CHECK_FAILS(ktjit_context_create(&options, &context), KTJIT_ERROR_SPEC, "struct_size");

  // A caller with a newer header: fine as long as it doesn't use what we don't know.
  struct {
    ktjit_options known;
    const char* unknown;
  } newer;
  memset(&newer, 0, sizeof(newer));
  newer.known.struct_size = sizeof(newer);
  CHECK(ktjit_context_create(&newer.known, &context) == KTJIT_OK);
  ktjit_context_destroy(context);
  context = NULL;
  newer.unknown = "value";
  CHECK_FAILS(ktjit_context_create(&newer.known, &context), KTJIT_ERROR_SPEC, "newer version");
  CHECK(context == NULL);
}

static void test_emit_needs_no_device(ktjit_context* context) {
  ktjit_kernel* kernel = NULL;
  ktjit_kernel_desc desc = dequant_desc();
  CHECK_FAILS(ktjit_kernel_emit(context, &desc, &kernel), KTJIT_ERROR_SPEC, "target");
  desc.target = "sm_86";
  REQUIRE(ktjit_kernel_emit(context, &desc, &kernel) == KTJIT_OK);
  ktjit_kernel_info info = ktjit_kernel_info_init();
  REQUIRE(ktjit_kernel_get_info(kernel, &info) == KTJIT_OK);
  CHECK(strcmp(info.target, "sm_86") == 0);
  CHECK(strstr(info.source, info.name) != NULL);
  CHECK(strstr(info.source, "__global__") != NULL);
  CHECK(strstr(info.lowering, "software") != NULL);
  CHECK(strstr(info.spec, "scale: 128x128 f32\n") != NULL);
  CHECK(info.compiler == NULL && info.artifact == NULL && info.artifact_bytes == 0);
  CHECK(info.from_cache == -1 && !info.is_loaded && info.registers == -1);
  ktjit_arguments arguments = ktjit_arguments_init();
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, kRows, 1, &arguments), KTJIT_ERROR_SPEC,
              "not loaded");
  ktjit_kernel_destroy(kernel);
}

static void test_descriptions_are_checked(ktjit_device* device) {
  ktjit_kernel* kernel = NULL;
  ktjit_kernel_desc desc = dequant_desc();
  desc.op = "convolve";
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "convolve");
  desc = dequant_desc();
  desc.op = "read_test";
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "read_test");
  desc = dequant_desc();
  desc.format = "fp9";
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "fp9");
  desc = dequant_desc();
  desc.format = NULL;
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "format");
  desc = dequant_desc();
  desc.scale_type = NULL;
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "scale_type");
  desc = dequant_desc();
  desc.alignment = 3;
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "alignment");
  desc = dequant_desc();
  desc.y_format = "q4_K";
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "y_format");
  desc = dequant_desc();
  desc.target = "sm_1";
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "sm_1");
  desc = dequant_desc();
  desc.reserved = 1;
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "reserved");
  desc = dequant_desc();
  desc.rows = -1;
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "rows");
  desc = dequant_desc();
  desc.dependent_launch = 1;
  if (!is_cpu) desc.target = "sm_89";
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC,
              "false below sm_90 and on CPUs");
  desc = dequant_desc();
  desc.target = is_cpu ? "sm_86" : "cpu";
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_TOOLCHAIN, "run");
  CHECK(kernel == NULL);
}

static void test_dequant(ktjit_device* device, const ktjit_kernel* kernel) {
  ktjit_kernel_info info = ktjit_kernel_info_init();
  CHECK(ktjit_kernel_get_info(kernel, &info) == KTJIT_OK);
  CHECK(info.is_loaded && info.artifact_bytes > 0 && info.compile_ms >= 0);
  CHECK(strcmp(info.target, ktjit_device_target(device)) == 0);
  CHECK(info.compiler != NULL && strlen(info.compiler) > 0);
  CHECK(strcmp(info.artifact_kind, is_cpu ? "shared object" : "cubin") == 0);
  CHECK(wrong_values(device, kernel) == 0);
}

static void test_sizes(const ktjit_kernel* kernel) {
  ktjit_arguments bytes = ktjit_arguments_init();
  CHECK(ktjit_kernel_argument_bytes(kernel, kRows, 0, &bytes) == KTJIT_OK);
  CHECK(bytes.w == sizeof(codes) && bytes.scale == sizeof(scales));
  CHECK(bytes.y == sizeof(float) * kRows * kCols);
  CHECK(bytes.x == 0 && bytes.x_scale == 0 && bytes.bias == 0 && bytes.found == 0);
  CHECK_FAILS(ktjit_kernel_argument_bytes(kernel, 0, 0, &bytes), KTJIT_ERROR_SPEC, "rows");
  CHECK_FAILS(ktjit_kernel_argument_bytes(kernel, INT64_MAX, 0, &bytes), KTJIT_ERROR_SPEC, "2^64");
  size_t workspace = 1;
  CHECK(ktjit_kernel_workspace_bytes(kernel, kRows, 1, &workspace) == KTJIT_OK && workspace == 0);

  // A caller with a shorter struct is given no more than it has.
  struct {
    ktjit_kernel_info info;
    unsigned char guard;
  } guarded;
  memset(&guarded, 0xaa, sizeof(guarded));
  guarded.info.struct_size = sizeof(guarded.info);
  CHECK(ktjit_kernel_get_info(kernel, &guarded.info) == KTJIT_OK);
  CHECK(guarded.guard == 0xaa && guarded.info.struct_size == sizeof(guarded.info));
  guarded.info.struct_size = 16;
  CHECK_FAILS(ktjit_kernel_get_info(kernel, &guarded.info), KTJIT_ERROR_SPEC, "struct_size");
}

static void test_launches_are_checked(ktjit_device* device, const ktjit_kernel* kernel) {
  static float y[kRows * kCols];
  ktjit_arguments good = ktjit_arguments_init();
  good.w = to_device(device, codes, sizeof(codes));
  good.scale = to_device(device, scales, sizeof(scales));
  good.y = to_device(device, y, sizeof(y));
  ktjit_arguments bad = good;
  bad.scale = 0;
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, kRows, 1, &bad), KTJIT_ERROR_SPEC, "scale");
  bad = good;
  bad.x = good.y;
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, kRows, 1, &bad), KTJIT_ERROR_SPEC, "x");
  bad = good;
  bad.w += 8;
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, kRows, 1, &bad), KTJIT_ERROR_SPEC,
              "multiple of 16 bytes");
  bad = good;
  bad.scale += 2;
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, kRows, 1, &bad), KTJIT_ERROR_SPEC,
              "multiple of 4 bytes");
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, 0, 1, &good), KTJIT_ERROR_SPEC, "rows");
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, kRows, 1, NULL), KTJIT_ERROR_SPEC, "arguments");
  if (is_cpu) {
    int stream = 0;
    CHECK_FAILS(ktjit_kernel_launch(kernel, &stream, kRows, 1, &good), KTJIT_ERROR_SPEC, "stream");
  }
  CHECK(ktjit_kernel_launch(kernel, NULL, kRows, 1, &good) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);

  char host[4] = {0};
  CHECK_FAILS(ktjit_free(device, good.w + 16), KTJIT_ERROR_SPEC, "ktjit_allocate");
  CHECK_FAILS(ktjit_download(device, NULL, good.scale + sizeof(scales) - 2, host, 4),
              KTJIT_ERROR_SPEC, "ktjit_allocate");
  CHECK(ktjit_download(device, NULL, good.scale + sizeof(scales) - 4, host, 4) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);
  CHECK(memcmp(host, &scales[5], 4) == 0);
  CHECK_FAILS(ktjit_allocate(device, 0, &bad.w), KTJIT_ERROR_SPEC, "bytes");
  ktjit_free(device, good.w);
  ktjit_free(device, good.scale);
  ktjit_free(device, good.y);
}

// q8_0 weights times two vectors: blocks of a scale (f16 1/64) and 32 codes.
static void test_matvec(ktjit_device* device) {
  enum { kK = 64, kM = 37, kN = 2 };
  static unsigned char w[kM * kK / 32 * 34];
  static float x[kN * kK], y[kN * kM];
  for (int block = 0; block < kM * kK / 32; ++block) {
    w[block * 34] = 0x00;
    w[block * 34 + 1] = 0x24;
    for (int i = 0; i < 32; ++i) w[block * 34 + 2 + i] = (unsigned char)((block * 7 + i * 3) % 251);
  }
  for (int i = 0; i < kN * kK; ++i) x[i] = (float)(i % 9) - 4.0f;

  ktjit_kernel* kernel = NULL;
  ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  desc.op = "matvec";
  desc.format = "Q8_0";
  desc.cols = kK;
  desc.x_columns = 2;
  REQUIRE(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  ktjit_arguments arguments = ktjit_arguments_init();
  arguments.w = to_device(device, w, sizeof(w));
  arguments.x = to_device(device, x, sizeof(x));
  arguments.y = to_device(device, y, sizeof(y));
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, kM, 3, &arguments), KTJIT_ERROR_SPEC, "x_columns");
  CHECK(ktjit_kernel_launch(kernel, NULL, kM, kN, &arguments) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, arguments.y, y, sizeof(y)) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);
  for (int j = 0; j < kN; ++j) {
    for (int row = 0; row < kM; ++row) {
      double sum = 0;
      for (int k = 0; k < kK; ++k) {
        const signed char code = (signed char)w[(row * kK + k) / 32 * 34 + 2 + k % 32];
        sum += code / 64.0 * x[j * kK + k];
      }
      CHECK(y[j * kM + row] == (float)sum);  // small integers over 64: every sum is exact
    }
  }
  ktjit_free(device, arguments.w);
  ktjit_free(device, arguments.x);
  ktjit_free(device, arguments.y);
  ktjit_kernel_destroy(kernel);
}

// Weights that are prepared once: rows and columns that are no whole tiles, small integers over 64.
enum {
  kPreparedRows = 37,
  kPreparedCols = 320,
  kPreparedBlocks = kPreparedRows * kPreparedCols / 32
};

static ktjit_kernel_desc prepared_desc(const char* op, const char* layout) {
  ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  desc.op = op;
  desc.format = "Q8_0";
  desc.cols = kPreparedCols;
  desc.layout = layout;
  return desc;
}

static ktjit_kernel* load_prepared(ktjit_device* device, const char* op, const char* layout) {
  const ktjit_kernel_desc desc = prepared_desc(op, layout);
  ktjit_kernel* kernel = NULL;
  CHECK(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  return kernel;
}

static void test_prepared_descriptions(ktjit_context* context, ktjit_device* device) {
  ktjit_kernel* kernel = NULL;
  uint64_t bytes = 0;
  CHECK(ktjit_prepared_bytes("Q8_0", kPreparedRows, kPreparedCols, &bytes) == KTJIT_OK);
  CHECK(bytes ==
        3 * 2 * 16 * 272);  // tiles of 16 rows, units of 256 columns, 272 bytes for 256 weights
  CHECK_FAILS(ktjit_prepared_bytes("fp8_e4m3", 16, 256, &bytes), KTJIT_ERROR_SPEC, "prepared");
  CHECK_FAILS(ktjit_prepared_bytes("Q8_0", 0, 256, &bytes), KTJIT_ERROR_SPEC, "rows");
  CHECK_FAILS(ktjit_prepared_bytes("Q8_0", INT64_MAX, 256, &bytes), KTJIT_ERROR_SPEC, "rows");
  CHECK_FAILS(ktjit_prepared_bytes("Q8_0", 16, 256, NULL), KTJIT_ERROR_SPEC, "bytes");
  CHECK(ktjit_prepared_bytes_for("sm_86", "iq1_s", 16, 256, &bytes) == KTJIT_OK);
  CHECK(bytes == 16 * 70);
  CHECK(ktjit_prepared_bytes_for("cpu:x86-64-v3", "iq1_s", 16, 256, &bytes) == KTJIT_OK);
  CHECK(bytes == 16 * 72);  // 6 bytes of scales and two of zeros
  CHECK_FAILS(ktjit_prepared_bytes_for("cpu", "nvfp4", 16, 256, &bytes), KTJIT_ERROR_SPEC,
              "interleaved");
  CHECK_FAILS(ktjit_prepared_bytes_for("tpu", "q8_0", 16, 256, &bytes), KTJIT_ERROR_SPEC, "target");
  CHECK_FAILS(ktjit_prepared_bytes_for(NULL, "q8_0", 16, 256, &bytes), KTJIT_ERROR_SPEC, "target");
  ktjit_kernel_desc desc = prepared_desc("matvec", "packed");
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC,
              "native, prepared");
  desc = prepared_desc("quantize", "prepared");
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "layout");
  desc = prepared_desc("restore", "native");
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "restore");
  desc = prepared_desc("matvec", "prepared");
  desc.target = "sm_60";
  CHECK_FAILS(ktjit_kernel_emit(context, &desc, &kernel), KTJIT_ERROR_SPEC, "sm_60");
  desc.target = "sm_90a";
  desc.constant_weights = 1;
  CHECK_FAILS(ktjit_kernel_emit(context, &desc, &kernel), KTJIT_ERROR_SPEC, "constant_weights");
  desc.dependent_launch = 1;
  CHECK(ktjit_kernel_emit(context, &desc, &kernel) == KTJIT_OK);
  ktjit_kernel_destroy(kernel);
}

// With layout "prepared" of all ops, as for CPUs, or of those that default to it left out, as for GPUs. No dequant reads
// what CPUs prepare.
static void test_prepared_weights(ktjit_device* device, int is_named) {
  const char* layout = is_named ? "prepared" : NULL;
  static unsigned char w[kPreparedBlocks * 34], restored[sizeof(w)];
  static float x[kPreparedCols], y[kPreparedRows], decoded[kPreparedRows * kPreparedCols];
  for (int block = 0; block < kPreparedBlocks; ++block) {
    w[block * 34] = 0x00;
    w[block * 34 + 1] = 0x24;  // 1 / 64 as f16
    for (int i = 0; i < 32; ++i)
      w[block * 34 + 2 + i] = (unsigned char)((block * 11 + i * 5) % 253);
  }
  for (int i = 0; i < kPreparedCols; ++i) x[i] = (float)(i % 7) - 3.0f;

  ktjit_kernel* prepare = load_prepared(device, "prepare", layout);
  ktjit_kernel* restore = load_prepared(device, "restore", layout);
  ktjit_kernel* matvec = load_prepared(device, "matvec", "prepared");
  ktjit_kernel* dequant = is_named ? load_prepared(device, "dequant", NULL)
                                   : load_prepared(device, "dequant", "prepared");
  REQUIRE(prepare != NULL && restore != NULL && matvec != NULL && dequant != NULL);
  uint64_t prepared_bytes = 0;
  CHECK(ktjit_prepared_bytes_for(ktjit_device_target(device), "Q8_0", kPreparedRows, kPreparedCols,
                                 &prepared_bytes) == KTJIT_OK);
  ktjit_arguments bytes = ktjit_arguments_init();
  CHECK(ktjit_kernel_argument_bytes(prepare, kPreparedRows, 0, &bytes) == KTJIT_OK);
  CHECK(bytes.w == sizeof(w) && bytes.y == prepared_bytes && bytes.x == 0);
  CHECK(ktjit_kernel_argument_bytes(restore, kPreparedRows, 0, &bytes) == KTJIT_OK);
  CHECK(bytes.w == prepared_bytes && bytes.y == sizeof(w));
  CHECK(ktjit_kernel_argument_bytes(matvec, kPreparedRows, 1, &bytes) == KTJIT_OK);
  CHECK(bytes.w == prepared_bytes && bytes.x == sizeof(x) && bytes.y == sizeof(y));

  ktjit_address prepared = 0;
  CHECK(ktjit_allocate(device, (size_t)prepared_bytes, &prepared) == KTJIT_OK);
  ktjit_arguments there = ktjit_arguments_init(), product = ktjit_arguments_init();
  there.w = to_device(device, w, sizeof(w));
  there.y = prepared + 8;
  CHECK_FAILS(ktjit_kernel_launch(prepare, NULL, kPreparedRows, 0, &there), KTJIT_ERROR_SPEC,
              "multiple of 16");
  there.y = prepared;
  CHECK(ktjit_kernel_launch(prepare, NULL, kPreparedRows, 0, &there) == KTJIT_OK);

  product.w = prepared;
  product.x = to_device(device, x, sizeof(x));
  product.y = to_device(device, y, sizeof(y));
  CHECK(ktjit_kernel_launch(matvec, NULL, kPreparedRows, 1, &product) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, product.y, y, sizeof(y)) == KTJIT_OK);

  ktjit_arguments back = ktjit_arguments_init();
  back.w = prepared;
  back.y = to_device(device, restored, sizeof(restored));
  CHECK(ktjit_kernel_launch(restore, NULL, kPreparedRows, 0, &back) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, back.y, restored, sizeof(restored)) == KTJIT_OK);

  ktjit_arguments values = ktjit_arguments_init();
  values.w = is_named ? back.y : prepared;
  values.y = to_device(device, decoded, sizeof(decoded));
  CHECK(ktjit_kernel_launch(dequant, NULL, kPreparedRows, 0, &values) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, values.y, decoded, sizeof(decoded)) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);

  CHECK(memcmp(w, restored, sizeof(w)) == 0);
  int wrong = 0;
  for (int row = 0; row < kPreparedRows; ++row) {
    double sum = 0;
    for (int k = 0; k < kPreparedCols; ++k) {
      const int at = row * kPreparedCols + k;
      const double weight = (signed char)w[at / 32 * 34 + 2 + at % 32] / 64.0;
      sum += weight * x[k];
      wrong += decoded[at] != (float)weight;
    }
    wrong += y[row] != (float)sum;  // every sum is exact
  }
  CHECK(wrong == 0);
  const ktjit_address all[] = {prepared, there.w, product.x, product.y, back.y, values.y};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); ++i)
    CHECK(ktjit_free(device, all[i]) == KTJIT_OK);
  ktjit_kernel* kernels[] = {prepare, restore, matvec, dequant};
  for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); ++i)
    ktjit_kernel_destroy(kernels[i]);
}

// On the GPU; on the simulator, and on the CPU, where the test is of the CPU.
static void test_prepared(ktjit_context* context, ktjit_device* device) {
  if (!is_cpu) {
    test_prepared_descriptions(context, device);
    const int sm = atoi(ktjit_device_target(device) + strlen("sm_"));
    if (sm == 61 || sm >= 70) test_prepared_weights(device, 0);
    return;
  }
  ktjit_kernel* kernel = NULL;
  const ktjit_kernel_desc desc = prepared_desc("dequant", "prepared");
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "native");
  test_prepared_weights(device, 1);
  ktjit_device* simulator = NULL;
  CHECK(ktjit_device_open(context, "sim", &simulator) == KTJIT_OK);
  REQUIRE(simulator != NULL);
  test_prepared_descriptions(context, simulator);
  test_prepared_weights(simulator, 0);
  ktjit_device_destroy(simulator);
}

// Experts by ids, a gate, two matrices at once and a residual: small integers over 64, so that sums are exact.
enum { kMoeCols = 64, kMoeRows = 5, kExperts = 3, kSlots = 4 };

static signed char moe_code(int matrix, int row, int col) {
  return (signed char)((matrix * 31 + row * 7 + col * 3) % 127 - 60);
}

// `count` matrices [kMoeRows, kMoeCols] of Q8_0 with scale 1 / 64, from number `first` on.
static ktjit_address make_matrices(ktjit_device* device, int first, int count) {
  static unsigned char w[kExperts * kMoeRows * kMoeCols / 32 * 34];
  const int blocks = kMoeRows * kMoeCols / 32;
  for (int block = 0; block < count * blocks; ++block) {
    w[block * 34] = 0x00;
    w[block * 34 + 1] = 0x24;
    for (int i = 0; i < 32; ++i) {
      const int at = block % blocks * 32 + i;
      w[block * 34 + 2 + i] =
          (unsigned char)moe_code(first + block / blocks, at / kMoeCols, at % kMoeCols);
    }
  }
  return to_device(device, w, (size_t)(count * blocks * 34));
}

static float moe_x(int row, int col) { return (float)((row * 5 + col) % 9) - 4.0f; }

static float moe_sum(int matrix, int row, int x_row) {
  double sum = 0;
  for (int k = 0; k < kMoeCols; ++k) sum += moe_code(matrix, row, k) / 64.0 * moe_x(x_row, k);
  return (float)sum;
}

static void test_experts(ktjit_device* device, const char* op) {
  static float x[2 * kMoeCols], y[kSlots * kMoeRows];
  const int32_t ids[kSlots] = {2, 0, kExperts, 2};
  for (int i = 0; i < 2 * kMoeCols; ++i) x[i] = moe_x(i / kMoeCols, i % kMoeCols);
  ktjit_kernel* kernel = NULL;
  ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  desc.op = op;
  desc.format = "Q8_0";
  desc.cols = kMoeCols;
  REQUIRE(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  ktjit_counts counts = ktjit_counts_init();
  counts.rows = kMoeRows;
  counts.n = kSlots;
  counts.slots_per_x = 2;
  counts.experts = kExperts;
  ktjit_arguments bytes = ktjit_arguments_init();
  CHECK(ktjit_kernel_counts_argument_bytes(kernel, &counts, &bytes) == KTJIT_OK);
  CHECK(bytes.w == kExperts * kMoeRows * kMoeCols / 32 * 34);
  CHECK(bytes.ids == sizeof(ids));
  CHECK(bytes.x == sizeof(x));
  CHECK(bytes.y == sizeof(y));
  CHECK(bytes.w_more[0] == 0);

  ktjit_arguments arguments = ktjit_arguments_init();
  arguments.w = make_matrices(device, 0, kExperts);
  arguments.x = to_device(device, x, sizeof(x));
  arguments.y = to_device(device, y, sizeof(y));
  CHECK_FAILS(ktjit_kernel_launch_counts(kernel, NULL, &counts, &arguments), KTJIT_ERROR_SPEC,
              "ids is 0");
  arguments.ids = to_device(device, ids, sizeof(ids));
  CHECK_FAILS(ktjit_kernel_launch(kernel, NULL, kMoeRows, kSlots, &arguments), KTJIT_ERROR_SPEC,
              "experts is 0");
  arguments.w_more[1] = arguments.w;
  CHECK_FAILS(ktjit_kernel_launch_counts(kernel, NULL, &counts, &arguments), KTJIT_ERROR_SPEC,
              "w_more[1]");
  arguments.w_more[1] = 0;
  counts.rows_more[0] = 1;
  CHECK_FAILS(ktjit_kernel_launch_counts(kernel, NULL, &counts, &arguments), KTJIT_ERROR_SPEC,
              "rows_more[0]");
  counts.rows_more[0] = 0;
  CHECK(ktjit_kernel_launch_counts(kernel, NULL, &counts, &arguments) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, arguments.y, y, sizeof(y)) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);
  for (int slot = 0; slot < kSlots; ++slot) {
    for (int row = 0; row < kMoeRows; ++row) {
      const float got = y[slot * kMoeRows + row];
      if (ids[slot] == kExperts) {
        CHECK(isnan(got));
      } else {
        CHECK(got == moe_sum(ids[slot], row, slot / 2));
      }
    }
  }
  ktjit_free(device, arguments.w);
  ktjit_free(device, arguments.ids);
  ktjit_free(device, arguments.x);
  ktjit_free(device, arguments.y);
  ktjit_kernel_destroy(kernel);
}

static void test_fused_matvec(ktjit_device* device) {
  static float x[kMoeCols], y[2][kMoeRows], residual[kMoeRows];
  for (int i = 0; i < kMoeCols; ++i) x[i] = moe_x(0, i);
  for (int i = 0; i < kMoeRows; ++i) residual[i] = (float)i;
  ktjit_kernel* kernel = NULL;
  ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  desc.op = "matvec";
  desc.format = "Q8_0";
  desc.cols = kMoeCols;
  ktjit_counts counts = ktjit_counts_init();
  counts.rows = kMoeRows;
  ktjit_arguments arguments = ktjit_arguments_init();
  arguments.w = make_matrices(device, 0, 1);
  arguments.w_more[0] = make_matrices(device, 1, 1);
  arguments.x = to_device(device, x, sizeof(x));
  arguments.y = to_device(device, y[0], sizeof(y[0]));

  desc.gate = "relu";
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SPEC, "silu");
  desc.gate = "silu";
  REQUIRE(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  CHECK(ktjit_kernel_launch(kernel, NULL, kMoeRows, 1, &arguments) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, arguments.y, y[0], sizeof(y[0])) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);
  for (int row = 0; row < kMoeRows; ++row) {
    const double gate = moe_sum(0, row, 0), up = moe_sum(1, row, 0);
    const double want = gate / (1.0 + exp(-gate)) * up;
    CHECK(fabs(y[0][row] - want) <= fabs(want) * 1e-6);
  }
  ktjit_kernel_destroy(kernel);

  desc.gate = NULL;
  desc.matrices = 2;
  REQUIRE(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  counts.rows_more[0] = kMoeRows - 2;
  CHECK_FAILS(ktjit_kernel_launch_counts(kernel, NULL, &counts, &arguments), KTJIT_ERROR_SPEC,
              "y_more[0] is 0");
  arguments.y_more[0] = to_device(device, y[1], sizeof(y[1]));
  CHECK(ktjit_kernel_launch_counts(kernel, NULL, &counts, &arguments) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, arguments.y, y[0], sizeof(y[0])) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, arguments.y_more[0], y[1], sizeof(y[1])) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);
  for (int row = 0; row < kMoeRows; ++row) {
    CHECK(y[0][row] == moe_sum(0, row, 0));
    CHECK(y[1][row] == (row < kMoeRows - 2 ? moe_sum(1, row, 0) : 0.0f));
  }
  ktjit_kernel_destroy(kernel);
  ktjit_free(device, arguments.w_more[0]);
  ktjit_free(device, arguments.y_more[0]);
  arguments.w_more[0] = arguments.y_more[0] = 0;

  desc.matrices = 0;
  desc.residual_format = "f32";
  REQUIRE(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  CHECK(ktjit_upload(device, NULL, residual, arguments.y, sizeof(residual)) == KTJIT_OK);
  arguments.residual = arguments.y;
  CHECK(ktjit_kernel_launch(kernel, NULL, kMoeRows, 1, &arguments) == KTJIT_OK);
  CHECK(ktjit_download(device, NULL, arguments.y, y[0], sizeof(y[0])) == KTJIT_OK);
  CHECK(ktjit_synchronize(device, NULL) == KTJIT_OK);
  for (int row = 0; row < kMoeRows; ++row) CHECK(y[0][row] == moe_sum(0, row, 0) + (float)row);
  ktjit_free(device, arguments.w);
  ktjit_free(device, arguments.x);
  ktjit_free(device, arguments.y);
  ktjit_kernel_destroy(kernel);
}

static void test_second_context_finds_it_in_the_cache(void) {
  ktjit_context* context = make_context();
  ktjit_device* device = NULL;
  ktjit_kernel* kernel = NULL;
  const ktjit_kernel_desc desc = dequant_desc();
  REQUIRE(ktjit_device_open(context, device_name, &device) == KTJIT_OK);
  REQUIRE(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  ktjit_kernel_info info = ktjit_kernel_info_init();
  CHECK(ktjit_kernel_get_info(kernel, &info) == KTJIT_OK);
  CHECK(info.from_cache == 1);
  // Whatever the order of the ends: the kernel keeps its device, the device its context.
  ktjit_device* other = NULL;
  CHECK(ktjit_device_open(context, device_name, &other) == KTJIT_OK);
  ktjit_context_destroy(context);
  ktjit_device_destroy(device);
  CHECK(wrong_values(other, kernel) == 0);
  ktjit_device_destroy(other);
  ktjit_kernel_destroy(kernel);
}

/* What is in the cache is given; what isn't is an error that says so, at once and in a future. */
static void test_sealed(void) {
  ktjit_options options = ktjit_options_init();
  options.cache_dir = cache_dir;
  options.sealed = 1;
  ktjit_context* context = NULL;
  REQUIRE(ktjit_context_create(&options, &context) == KTJIT_OK);
  ktjit_device* device = NULL;
  REQUIRE(ktjit_device_open(context, device_name, &device) == KTJIT_OK);
  ktjit_kernel_desc desc = dequant_desc();
  ktjit_kernel* kernel = NULL;
  CHECK(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  ktjit_kernel_destroy(kernel);
  desc.cols = 131072;
  CHECK_FAILS(ktjit_kernel_load(device, &desc, NULL, &kernel), KTJIT_ERROR_SEALED, "c131072");
  ktjit_future* future = NULL;
  REQUIRE(ktjit_kernel_load_async(device, &desc, &future) == KTJIT_OK);
  CHECK_FAILS(ktjit_future_get(future, &kernel), KTJIT_ERROR_SEALED, "--pack FILE");
  ktjit_future_destroy(future);
  ktjit_device_destroy(device);
  ktjit_context_destroy(context);
}

static void test_futures(ktjit_device* device) {
  ktjit_kernel_desc desc = dequant_desc();
  ktjit_future* future = NULL;
  ktjit_kernel* kernel = NULL;
  desc.op = "convolve";
  CHECK_FAILS(ktjit_kernel_load_async(device, &desc, &future), KTJIT_ERROR_SPEC, "convolve");

  desc = dequant_desc();
  desc.y_format = "f16";
  REQUIRE(ktjit_kernel_load_async(device, &desc, &future) == KTJIT_OK);
  CHECK(ktjit_future_get(future, &kernel) == KTJIT_OK);
  CHECK(ktjit_future_is_ready(future));
  ktjit_kernel_info info = ktjit_kernel_info_init();
  CHECK(ktjit_kernel_get_info(kernel, &info) == KTJIT_OK && info.is_loaded);
  ktjit_kernel_destroy(kernel);
  CHECK_FAILS(ktjit_future_get(future, &kernel), KTJIT_ERROR_SPEC, "asked before");
  ktjit_future_destroy(future);

  // A quick version where there is one, and the full one in any case.
  desc.op = "matmul";
  REQUIRE(ktjit_kernel_load_quick_async(device, &desc, &future) == KTJIT_OK);
  CHECK(ktjit_future_get(future, &kernel) == KTJIT_OK);
  ktjit_future_destroy(future);  // the full version goes on
  CHECK(ktjit_kernel_wait_full(kernel) == KTJIT_OK);
  CHECK(ktjit_kernel_is_full(kernel));
  ktjit_kernel_destroy(kernel);
  CHECK(!ktjit_kernel_is_full(NULL));
  CHECK_FAILS(ktjit_kernel_wait_full(NULL), KTJIT_ERROR_SPEC, "kernel");

  desc = dequant_desc();
  desc.target = is_cpu ? "sm_86" : "cpu";
  REQUIRE(ktjit_kernel_load_async(device, &desc, &future) == KTJIT_OK);
  CHECK_FAILS(ktjit_future_get(future, &kernel), KTJIT_ERROR_TOOLCHAIN, "run");
  ktjit_future_destroy(future);

  desc = dequant_desc();
  desc.y_format = "bf16";
  REQUIRE(ktjit_kernel_load_async(device, &desc, &future) == KTJIT_OK);
  ktjit_future_destroy(future);  // nobody wants it any more

  // The first keeps the threads busy or is done by then; either answer is right, a hang is not.
  desc.cols = 512;
  REQUIRE(ktjit_kernel_load_async(device, &desc, &future) == KTJIT_OK);
  CHECK(ktjit_future_cancel(future) == KTJIT_OK);
  kernel = NULL;
  const ktjit_status status = ktjit_future_get(future, &kernel);
  CHECK(status == KTJIT_ERROR_INTERRUPTED || status == KTJIT_OK);
  CHECK((kernel != NULL) == (status == KTJIT_OK));
  CHECK(ktjit_future_is_ready(future));
  CHECK(ktjit_future_cancel(future) == KTJIT_OK);  // too late is no error
  ktjit_kernel_destroy(kernel);
  ktjit_future_destroy(future);
  CHECK_FAILS(ktjit_future_cancel(NULL), KTJIT_ERROR_SPEC, "future");
}

struct ThreadWork {
  ktjit_device* device;
  const ktjit_kernel* kernel;
  int index;
  int failed;
};

static void* launch_and_fail(void* data) {
  struct ThreadWork* work = (struct ThreadWork*)data;
  float* y = (float*)calloc(kRows * kCols, sizeof(float));
  ktjit_kernel* none = NULL;
  ktjit_kernel_desc desc = dequant_desc();
  char wrong[16];
  snprintf(wrong, sizeof(wrong), "format%d", work->index);
  desc.format = wrong;
  work->failed += ktjit_kernel_load(work->device, &desc, NULL, &none) != KTJIT_ERROR_SPEC;
  ktjit_arguments arguments = ktjit_arguments_init();
  for (int round = 0; round < 10; ++round) {
    work->failed += ktjit_allocate(work->device, sizeof(codes), &arguments.w) != KTJIT_OK;
    work->failed += ktjit_allocate(work->device, sizeof(scales), &arguments.scale) != KTJIT_OK;
    work->failed += ktjit_allocate(work->device, sizeof(float) * kRows * kCols, &arguments.y) != 0;
    ktjit_upload(work->device, NULL, codes, arguments.w, sizeof(codes));
    ktjit_upload(work->device, NULL, scales, arguments.scale, sizeof(scales));
    work->failed += ktjit_kernel_launch(work->kernel, NULL, kRows, 1, &arguments) != KTJIT_OK;
    ktjit_download(work->device, NULL, arguments.y, y, sizeof(float) * kRows * kCols);
    work->failed += ktjit_synchronize(work->device, NULL) != KTJIT_OK;
    work->failed += !same_float(y[12345], expected_at(12345 / kCols, 12345 % kCols));
    ktjit_free(work->device, arguments.w);
    ktjit_free(work->device, arguments.scale);
    ktjit_free(work->device, arguments.y);
  }
  free(y);
  work->failed += strstr(ktjit_last_error(), wrong) == NULL;  // its own, not another thread's
  return NULL;
}

static void test_threads(ktjit_device* device, const ktjit_kernel* kernel) {
  enum { kThreads = 4 };
  pthread_t threads[kThreads];
  struct ThreadWork work[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    work[i] = (struct ThreadWork){device, kernel, i, 0};
    CHECK(pthread_create(&threads[i], NULL, launch_and_fail, &work[i]) == 0);
  }
  for (int i = 0; i < kThreads; ++i) {
    pthread_join(threads[i], NULL);
    CHECK(work[i].failed == 0);
  }
}

struct Calls {
  int calls;
  int64_t covered;
};

// Three ranges, on the calling thread.
static void in_three_parts(void* data, int64_t count, void (*body)(void*, int64_t, int64_t),
                           void* body_data) {
  struct Calls* calls = (struct Calls*)data;
  ++calls->calls;
  calls->covered += count;
  const int64_t first = count / 3, second = count * 2 / 3;
  body(body_data, 0, first);
  body(body_data, first, second);
  body(body_data, second, count);
}

static void test_executor(ktjit_context* context) {
  struct Calls calls = {0, 0};
  ktjit_executor executor = ktjit_executor_init();
  ktjit_device* device = NULL;
  ktjit_kernel* kernel = NULL;
  CHECK_FAILS(ktjit_device_open_cpu(context, &executor, &device), KTJIT_ERROR_SPEC, "parallel_for");
  executor.parallel_for = in_three_parts;
  CHECK_FAILS(ktjit_device_open_cpu(context, &executor, &device), KTJIT_ERROR_SPEC, "concurrency");
  executor.concurrency = 3;
  executor.data = &calls;
  REQUIRE(ktjit_device_open_cpu(context, &executor, &device) == KTJIT_OK);
  CHECK(strstr(ktjit_device_description(device), "3 threads") != NULL);
  const ktjit_kernel_desc desc = dequant_desc();
  REQUIRE(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  CHECK(wrong_values(device, kernel) == 0);
  CHECK(calls.calls == 1 && calls.covered == kRows);

#ifdef COUNTS_ALLOCATIONS
  static float y[kRows * kCols];
  ktjit_arguments arguments = ktjit_arguments_init();
  arguments.w = to_device(device, codes, sizeof(codes));
  arguments.scale = to_device(device, scales, sizeof(scales));
  arguments.y = to_device(device, y, sizeof(y));
  const long before = allocations;
  CHECK(before > 0);
  const ktjit_status status = ktjit_kernel_launch(kernel, NULL, kRows, 1, &arguments);
  CHECK(allocations == before);
  CHECK(status == KTJIT_OK);
#endif
  ktjit_kernel_destroy(kernel);
  ktjit_device_destroy(device);
}

static void test_devices(ktjit_context* context) {
  ktjit_device* device = NULL;
  CHECK_FAILS(ktjit_device_open(context, "tpu", &device), KTJIT_ERROR_SPEC, "tpu");
  CHECK_FAILS(ktjit_device_open(context, "cuda:99", &device), KTJIT_ERROR_TOOLCHAIN, "cuda");
  CHECK_FAILS(ktjit_device_adopt_cuda(context, NULL, &device), KTJIT_ERROR_SPEC, "cu_context");
  CHECK(device == NULL);
  REQUIRE(ktjit_device_open(context, NULL, &device) == KTJIT_OK);  // a GPU, else the CPU
  CHECK(strlen(ktjit_device_name(device)) >= 3);
  ktjit_device_destroy(device);
}

int main(int argc, char** argv) {
  if (argc != 3) return fprintf(stderr, "usage: c_interface_test DEVICE CACHE_FOLDER\n"), 2;
  device_name = argv[1];
  cache_dir = argv[2];
  is_cpu = strcmp(device_name, "cpu") == 0;
  fill_data();

  test_versions_and_names();
  test_options_are_checked();
  ktjit_context* context = make_context();
  if (context == NULL) return 1;
  test_devices(context);
  test_emit_needs_no_device(context);
  test_executor(context);
  ktjit_device* device = NULL;
  ktjit_kernel* kernel = NULL;
  const ktjit_kernel_desc desc = dequant_desc();
  const ktjit_status opened = ktjit_device_open(context, device_name, &device);
  if (opened == KTJIT_ERROR_TOOLCHAIN && !is_cpu) {
    printf("not run: %s\n", ktjit_last_error());
    return failures == 0 ? 77 : 1;
  }
  CHECK(opened == KTJIT_OK);
  if (device == NULL) return 1;
  test_descriptions_are_checked(device);
  CHECK(ktjit_kernel_load(device, &desc, NULL, &kernel) == KTJIT_OK);
  if (kernel == NULL) return 1;
  test_dequant(device, kernel);
  test_sizes(kernel);
  test_launches_are_checked(device, kernel);
  test_matvec(device);
  test_prepared(context, device);
  test_experts(device, "moe_matvec");
  test_experts(device, "moe_matmul");
  test_fused_matvec(device);
  test_second_context_finds_it_in_the_cache();
  test_sealed();
  test_futures(device);
  test_threads(device, kernel);
  if (!is_cpu) test_gpu_capture(context);
  ktjit_context_destroy(context);
  ktjit_device_destroy(device);
  ktjit_kernel_destroy(kernel);
  printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
