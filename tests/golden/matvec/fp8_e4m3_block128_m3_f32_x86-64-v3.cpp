// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec_fused.cpp.in.
//   kernel   matvec_fp8_e4m3_s128x128_f32_x_f32_bias_f32_m3_c512_n2, emitter version 7
//   w0       in   fp8_e4m3  [rows0, 512]  row-major
//   scale0   in   f32  [ceil(rows0 / 128), 4]  row-major, one per 128 x 128 block of w
//   w1       in   fp8_e4m3  [rows1, 512]  row-major
//   scale1   in   f32  [ceil(rows1 / 128), 4]  row-major, one per 128 x 128 block of w
//   w2       in   fp8_e4m3  [rows2, 512]  row-major
//   scale2   in   f32  [ceil(rows2 / 128), 4]  row-major, one per 128 x 128 block of w
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 2
//   bias0    in   f32  [rows0]
//   bias1    in   f32  [rows1]
//   bias2    in   f32  [rows2]
//   y0       out  f32  [n, rows0]  row-major
//   y1       out  f32  [n, rows1]  row-major
//   y2       out  f32  [n, rows2]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]) + bias[r] for each of 3 matrices, products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;           // columns of w, and of each row of x
constexpr int kRowBytes = 512;       // bytes of one row of w
constexpr int kRun = 16;             // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 128; // rows that share one scale
constexpr int kScaleBlockCols = 128; // columns that share one scale
constexpr int kScaleCols = 4;        // scales in one row of scales
constexpr int kChains = 2;           // sums that take turns for each row of x
constexpr int kXColumns = 2;         // rows of x that a launch can use

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

typedef _Float16 F16Run __attribute__((vector_size(2 * kRun)));
static inline F32Run f16_run_to_f32(U16Run bits) {
  return __builtin_convertvector(__builtin_bit_cast(F16Run, bits), F32Run);
}

// 2^-8 of e4m3's values but NaN, exact: the 7 magnitude bits, moved to bit 7, as f16, subnormals too. An Intel CPU takes a
// hundred times as long for a product with subnormal f32 as for these conversions.
static inline F32Run e4m3_halves(U8Run codes) {
  const U16Run at_top = __builtin_convertvector(codes, U16Run) << 8;
  return f16_run_to_f32((at_top & (unsigned short)0x8000) | (at_top >> 1 & (unsigned short)0x3f80));
}

// Exact e4m3 (OCP OFP8 1.0). 0x7f is the only NaN.
static inline F32Run e4m3_run_to_f32(U8Run codes) {
  const U32Run nan = (U32Run)((__builtin_convertvector(codes, U32Run) & 0x7fu) == 0x7fu) & 0x7fc00000u;
  return (F32Run)((U32Run)(e4m3_halves(codes) * 256.0f) | nan);
}

static inline F32Run decode_run(const unsigned char* row, long long col) {
  return e4m3_run_to_f32(load<U8Run>(row + col));
}

static inline float load_scale(const float* scale, long long at) { return scale[at]; }

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
  const unsigned char* w0;
  const float* scale0;
  const unsigned char* w1;
  const float* scale1;
  const unsigned char* w2;
  const float* scale2;
  const float* x;
  const float* bias0;
  const float* bias1;
  const float* bias2;
  float* y0;
  float* y1;
  float* y2;
  long long rows0;
  long long rows1;
  long long rows2;
  long long n;
};

// One row of weights times each row of x.
static inline void multiply_row(const unsigned char* w, const float* scale, long long row, const float* const* x_row, float* total) {
  const unsigned char* w_row = w + row * kRowBytes;
  F32Run sum[kChains][kXColumns] = {};
  const float* scale_row = scale + (row / kScaleBlockRows) * kScaleCols;
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
  for (int j = 0; j < kXColumns; ++j) {
    F32Run all_chains = sum[0][j];
    for (int chain = 1; chain < kChains; ++chain) all_chains += sum[chain][j];
    total[j] = sum_of(all_chains);
  } // j: rows of x
}

extern "C" __attribute__((visibility("default"))) void
matvec_fp8_e4m3_s128x128_f32_x_f32_bias_f32_m3_c512_n2(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long n = arguments->n;
  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    long long row = tile;
    const unsigned char* w = arguments->w0;
    const float* scale = arguments->scale0;
    const float* bias = arguments->bias0;
    float* y = arguments->y0;
    long long rows = arguments->rows0;
    if (row >= rows) {
      row -= rows;
      w = arguments->w1;
      scale = arguments->scale1;
      bias = arguments->bias1;
      y = arguments->y1;
      rows = arguments->rows1;
    }
    if (row >= rows) {
      row -= rows;
      w = arguments->w2;
      scale = arguments->scale2;
      bias = arguments->bias2;
      y = arguments->y2;
      rows = arguments->rows2;
    }
    const float* x_row[kXColumns];
    for (int j = 0; j < kXColumns; ++j) x_row[j] = arguments->x + (j < n ? j : n - 1) * kCols;
    float total[kXColumns];
    multiply_row(w, scale, row, x_row, total);
    for (int j = 0; j < kXColumns; ++j) {
      if (j < n) y[j * rows + row] = total[j] + bias[row];
    } // j: rows of x
  } // tile: rows of this call
}
