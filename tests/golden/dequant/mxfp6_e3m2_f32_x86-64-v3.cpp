// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_mxfp6_e3m2_s1x32_e8m0_y_f32_c512, emitter version 7
//   w        in   mxfp6_e3m2  [rows, 512]  row-major, blocks of 32 elements in 24 bytes
//   scale    in   e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w) * scale, as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;          // columns of w and y
constexpr int kRowBytes = 384;      // bytes of one row of w
constexpr int kRun = 16;            // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 32; // columns that share one scale
constexpr int kScaleCols = 16;      // scales in one row of scales

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

// 16 codes of 6 bits in 12 bytes: code i begins at bit 6 i % 8 of byte 6 i / 8.
static inline U32Run fp6_run(const unsigned char* at) {
  typedef unsigned char U8x8 __attribute__((vector_size(8)));
  const U8Run bytes = __builtin_shufflevector(load<U8x8>(at), load<U8x8>(at + 4), 0, 1, 2, 3, 4, 5, 6, 7, 12, 13,
                                              14, 15, 15, 15, 15, 15);
  const U8Run low = __builtin_shufflevector(bytes, bytes, 0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11);
  const U8Run high = __builtin_shufflevector(bytes, bytes, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11, 11);
  const U32Run first_bit = {0, 6, 4, 2, 0, 6, 4, 2, 0, 6, 4, 2, 0, 6, 4, 2};
  return (__builtin_convertvector(low, U32Run) | __builtin_convertvector(high, U32Run) << 8) >> first_bit & 63u;
}

// Exact e3m2 (OCP MX 1.0). The 5 magnitude bits, moved to bit 21, read as an f32 that is 2^-124 too small,
// subnormals too.
static inline F32Run decode_run(const unsigned char* row, long long col) {
  const U32Run codes = fp6_run(row + col / 4 * 3);
  return (F32Run)((codes & 0x20u) << 26 | (codes & 0x1fu) << 21) * 0x1p+124f;
}

// 2^(code - 127); code 0 is the subnormal 2^-127, 255 is NaN (OCP MX 1.0).
static inline float load_scale(const unsigned char* scale, long long at) {
  const unsigned code = scale[at];
  const unsigned bits = code == 0u ? 0x00400000u : code << 23;
  return __builtin_bit_cast(float, code == 255u ? 0x7fc00000u : bits);
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
dequant_mxfp6_e3m2_s1x32_e8m0_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    float* y_row = arguments->y + row * kCols;
    const unsigned char* scale_row = arguments->scale + (row) * kScaleCols;
#pragma unroll 2
    for (int at = 0; at + kRun <= kCols; at += kRun) {
      F32Run weight = decode_run(w_row, at);
      weight *= load_scale(scale_row, at / kScaleBlockCols);
      store_y(y_row + at, weight);
    } // at: runs of this row
  } // row: rows of this call
}
