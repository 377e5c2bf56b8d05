// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec.cpp.in.
//   kernel   matvec_mxfp6_e2m3_s1x32_e8m0_x_f32_c512_n1, emitter version 7
//   w        in   mxfp6_e2m3  [rows, 512]  row-major, blocks of 32 elements in 24 bytes
//   scale    in   e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;          // columns of w, and of each row of x
constexpr int kRowBytes = 384;      // bytes of one row of w
constexpr int kRun = 16;            // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 32; // columns that share one scale
constexpr int kScaleCols = 16;      // scales in one row of scales
constexpr int kChains = 2;          // sums that take turns for each row of x
constexpr int kXColumns = 1;        // rows of x that a launch can use

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

// Exact e2m3 (OCP MX 1.0). The 5 magnitude bits, moved to bit 20, read as an f32 that is 2^-126 too small,
// subnormals too.
static inline F32Run decode_run(const unsigned char* row, long long col) {
  const U32Run codes = fp6_run(row + col / 4 * 3);
  return (F32Run)((codes & 0x20u) << 26 | (codes & 0x1fu) << 20) * 0x1p+126f;
}

// 2^(code - 127); code 0 is the subnormal 2^-127, 255 is NaN (OCP MX 1.0).
static inline float load_scale(const unsigned char* scale, long long at) {
  const unsigned code = scale[at];
  const unsigned bits = code == 0u ? 0x00400000u : code << 23;
  return __builtin_bit_cast(float, code == 255u ? 0x7fc00000u : bits);
}

static inline F32Run multiply_add(F32Run a, F32Run b, F32Run c) { return __builtin_elementwise_fma(a, b, c); }

static inline float sum_of(F32Run value) {
  float part[kRun];
  __builtin_memcpy(part, &value, sizeof(part));
#pragma unroll
  for (int width = kRun / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  } // width: sums left
  return part[0];
}

static inline F32Run load_x(const float* at) { return load<F32Run>(at); }

struct Arguments {
  const unsigned char* w;
  const unsigned char* scale;
  const float* x;
  float* y;
  long long rows;
  long long n;
};

extern "C" __attribute__((visibility("default"))) void
matvec_mxfp6_e2m3_s1x32_e8m0_x_f32_c512_n1(const Arguments* arguments, long long row_begin, long long row_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  const float* x_row[kXColumns];
  for (int j = 0; j < kXColumns; ++j) x_row[j] = arguments->x + (j < n ? j : n - 1) * kCols;

  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    F32Run sum[kChains][kXColumns] = {};
    const unsigned char* scale_row = arguments->scale + (row) * kScaleCols;
#pragma unroll 2
    for (int at = 0; at + kRun <= kCols; at += kRun) {
      F32Run weight = decode_run(w_row, at);
      weight *= load_scale(scale_row, at / kScaleBlockCols);
      F32Run* chain = sum[at / kRun % kChains];
#pragma unroll
      for (int j = 0; j < kXColumns; ++j) {
        chain[j] = multiply_add(weight, load_x(x_row[j] + at), chain[j]);
      } // j: rows of x
    } // at: runs of this row
    float total[kXColumns];
    for (int j = 0; j < kXColumns; ++j) {
      F32Run all_chains = sum[0][j];
      for (int chain = 1; chain < kChains; ++chain) all_chains += sum[chain][j];
      total[j] = sum_of(all_chains);
    } // j: rows of x
    for (int j = 0; j < kXColumns; ++j) {
      if (j < n) arguments->y[j * rows + row] = total[j];
    } // j: rows of x
  } // row: rows of this call
}
