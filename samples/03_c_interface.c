// Decodes an FP8 matrix with one scale per 128 x 128 block through the C interface: on the first
// GPU, or on this CPU if there is none.
#include <stdio.h>

#include "ktjit.h"

enum { kRows = 200, kCols = 300, kBlock = 128 };

static unsigned char codes[kRows * kCols];
static float scales[2 * 3];  // one per block, edge blocks too
static float y[kRows * kCols];

static int failed(const char* what, ktjit_status status) {
  if (status == KTJIT_OK) return 0;
  fprintf(stderr, "%s: %s: %s\n", what, ktjit_status_name(status), ktjit_last_error());
  return 1;
}

static int copy_in(ktjit_device* device, const void* from, size_t bytes, ktjit_address* to) {
  return failed("allocate", ktjit_allocate(device, bytes, to)) ||
         failed("upload", ktjit_upload(device, NULL, from, *to, bytes));
}

static int run(ktjit_device* device, const ktjit_kernel* kernel) {
  ktjit_arguments arguments = ktjit_arguments_init();
  if (copy_in(device, codes, sizeof(codes), &arguments.w) ||
      copy_in(device, scales, sizeof(scales), &arguments.scale) ||
      copy_in(device, y, sizeof(y), &arguments.y) ||
      failed("launch", ktjit_kernel_launch(kernel, NULL, kRows, 1, &arguments)) ||
      failed("download", ktjit_download(device, NULL, arguments.y, y, sizeof(y))) ||
      failed("synchronize", ktjit_synchronize(device, NULL)))
    return 2;
  // 0x38 is 1.0; the last block has the scale 6.
  printf("first block: %g, last block: %g\n", (double)y[0], (double)y[kRows * kCols - 1]);
  return y[0] == 1.0f && y[kRows * kCols - 1] == 6.0f ? 0 : 1;
}

int main(void) {
  for (int i = 0; i < kRows * kCols; ++i) codes[i] = 0x38;
  for (int i = 0; i < 6; ++i) scales[i] = (float)(i + 1);

  ktjit_context* context = NULL;
  ktjit_device* device = NULL;
  ktjit_kernel* kernel = NULL;
  ktjit_kernel_desc desc = ktjit_kernel_desc_init();
  desc.op = "dequant";
  desc.format = "fp8_e4m3";
  desc.cols = kCols;
  desc.scale_type = "f32";
  desc.scale_block_rows = kBlock;
  desc.scale_block_cols = kBlock;

  int result = 2;
  if (!failed("context", ktjit_context_create(NULL, &context)) &&
      !failed("device", ktjit_device_open(context, NULL, &device)) &&
      !failed("load", ktjit_kernel_load(device, &desc, NULL, &kernel))) {
    ktjit_kernel_info info = ktjit_kernel_info_init();
    if (!failed("info", ktjit_kernel_get_info(kernel, &info)))
      printf("%s on %s: %s\n", info.name, ktjit_device_description(device), info.lowering);
    result = run(device, kernel);
  }
  ktjit_kernel_destroy(kernel);
  ktjit_device_destroy(device);  // frees what was allocated there
  ktjit_context_destroy(context);
  return result;
}
