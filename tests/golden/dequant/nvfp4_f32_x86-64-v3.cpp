// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_nvfp4_s1x16_e4m3_y_f32_c512, emitter version 7
//   w        in   nvfp4  [rows, 512]  row-major, blocks of 16 elements in 8 bytes
//   scale    in   e4m3  [rows, 32]  row-major, one per 1 x 16 block of w
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w) * scale, as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: halves from a table in a register, times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;            // columns of w and y
constexpr int kRowBytes = 256;        // bytes of one row of w
constexpr int kRun = 16;              // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 16;   // columns that share one scale
constexpr int kScaleCols = 32;        // scales in one row of scales
constexpr int kTensorScaleBytes = 16; // the tensor's f32 scale and zeros, before the blocks' scales

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

// Exact e2m1 (OCP MX 1.0), 16 codes in 8 bytes, the first of two in the low nibble: bit 3 is the sign, the
// other bits choose one of 0, 1, 2, 3, 4, 6, 8 and 12 halves. Code 8 is -0.
static inline F32Run e2m1_run_to_f32(const unsigned char* at) {
  typedef unsigned char U8x8 __attribute__((vector_size(8)));
  const U8x8 pairs = load<U8x8>(at);
  const U8Run twice = __builtin_shufflevector(pairs, pairs, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const U32Run nibble = {0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4};
  const U32Run codes = __builtin_convertvector(twice, U32Run) >> nibble;
  const U32Run halves = ((U32Run){} + 0xc8643210u) >> ((codes & 7u) << 2) & 15u;
  const F32Run magnitude = __builtin_convertvector((S32Run)halves, F32Run) * 0.5f;
  return (F32Run)((U32Run)magnitude | (codes & 8u) << 28);
}

static inline F32Run decode_run(const unsigned char* row, long long col) { return e2m1_run_to_f32(row + col / 2); }

// A block's scale times the tensor's, rounded once. Codes 0x7f and 0xff are NaN.
static inline float load_scale(const unsigned char* scale, float tensor_scale, long long at) {
  const unsigned code = scale[at];
  const unsigned magnitude = code & 0x7fu;
  const float scaled = __builtin_bit_cast(float, magnitude << 20) * 0x1p+120f;
  const float value = magnitude == 0x7fu ? __builtin_bit_cast(float, 0x7fc00000u) : scaled;
  return ((code & 0x80u) != 0u ? -value : value) * tensor_scale;
}

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

static inline void store_y(float* at, F32Run value) { store(at, value); }

struct Arguments {
  const unsigned char* w;
  const unsigned char* scale;
  float* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
dequant_nvfp4_s1x16_e4m3_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    float* y_row = arguments->y + row * kCols;
    const float tensor_scale = load<float>(arguments->scale);
    const unsigned char* scale_row = arguments->scale + kTensorScaleBytes + (row) * kScaleCols;
#pragma unroll 2
    for (int at = 0; at + kRun <= kCols; at += kRun) {
      F32Run weight = decode_run(w_row, at);
      weight *= load_scale(scale_row, tensor_scale, at / kScaleBlockCols);
      store_y(y_row + at, weight);
    } // at: runs of this row
  } // row: rows of this call
}
