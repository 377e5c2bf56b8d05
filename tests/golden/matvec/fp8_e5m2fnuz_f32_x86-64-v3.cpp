// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec.cpp.in.
//   kernel   matvec_fp8_e5m2fnuz_x_f32_c512_n1, emitter version 7
//   w        in   fp8_e5m2fnuz  [rows, 512]  row-major
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;     // columns of w, and of each row of x
constexpr int kRowBytes = 512; // bytes of one row of w
constexpr int kRun = 16;       // consecutive elements decoded at a time
constexpr int kChains = 2;     // sums that take turns for each row of x
constexpr int kXColumns = 1;   // rows of x that a launch can use

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

// Exact e5m2fnuz. The 7 magnitude bits, moved to bit 21, read as an f32 that is
// 2^-111 too small, subnormals too. 0x80 is the only NaN.
static inline F32Run e5m2fnuz_run_to_f32(U8Run codes) {
  const S32Run at_top = (S32Run)(__builtin_convertvector(codes, U32Run) << 24);
  const U32Run scaled = (U32Run)(at_top >> 3) & 0x8fe00000u;
  const U32Run nan = (U32Run)(scaled == 0x80000000u) & 0x7fc00000u;
  return (F32Run)((U32Run)((F32Run)scaled * 0x1p+111f) | nan);
}

static inline F32Run decode_run(const unsigned char* row, long long col) {
  return e5m2fnuz_run_to_f32(load<U8Run>(row + col));
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
  const float* x;
  float* y;
  long long rows;
  long long n;
};

extern "C" __attribute__((visibility("default"))) void
matvec_fp8_e5m2fnuz_x_f32_c512_n1(const Arguments* arguments, long long row_begin, long long row_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  const float* x_row[kXColumns];
  for (int j = 0; j < kXColumns; ++j) x_row[j] = arguments->x + (j < n ? j : n - 1) * kCols;

  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    F32Run sum[kChains][kXColumns] = {};
#pragma unroll 2
    for (int at = 0; at + kRun <= kCols; at += kRun) {
      const F32Run weight = decode_run(w_row, at);
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
