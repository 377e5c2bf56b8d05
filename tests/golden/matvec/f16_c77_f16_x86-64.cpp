// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec.cpp.in.
//   kernel   matvec_f16_x_f16_c77_n1, emitter version 7
//   w        in   f16  [rows, 77]  row-major
//   x        in   f16  [n, 77]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64 (baseline): native
//   launch   ranges of rows, in parallel

constexpr int kCols = 77;                      // columns of w, and of each row of x
constexpr int kRowBytes = 154;                 // bytes of one row of w
constexpr int kRun = 16;                       // consecutive elements decoded at a time
constexpr int kMainCols = kCols / kRun * kRun; // columns in whole runs
constexpr int kTail = kCols - kMainCols;       // columns after them
constexpr int kElemBytes = 2;                  // bytes of one element of w
constexpr int kChains = 2;                     // sums that take turns for each row of x
constexpr int kXColumns = 1;                   // rows of x that a launch can use

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

// Exact: the 15 magnitude bits, moved to bit 13, read as an f32 that is 2^-112 too small, subnormals too.
static inline F32Run f16_run_to_f32(U16Run bits) {
  const U32Run wide = __builtin_convertvector(bits, U32Run);
  const U32Run magnitude = wide & 0x7fffu;
  const F32Run scaled = (F32Run)(magnitude << 13) * 0x1p+112f;
  const U32Run special = (U32Run)(magnitude >= 0x7c00u) & 0x7f800000u; // infinity and NaN
  return (F32Run)((U32Run)scaled | special | (wide & 0x8000u) << 16);
}

static inline F32Run decode_run(const unsigned char* row, long long col) {
  return f16_run_to_f32(load<U16Run>(row + 2 * col));
}

static inline F32Run multiply_add(F32Run a, F32Run b, F32Run c) { return a * b + c; }

static inline float sum_of(F32Run value) {
  float part[kRun];
  __builtin_memcpy(part, &value, sizeof(part));
#pragma unroll
  for (int width = kRun / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  } // width: sums left
  return part[0];
}

static inline F32Run load_x(const unsigned short* at) { return f16_run_to_f32(load<U16Run>(at)); }

struct Arguments {
  const unsigned char* w;
  const unsigned short* x;
  float* y;
  long long rows;
  long long n;
};

extern "C" __attribute__((visibility("default"))) void
matvec_f16_x_f16_c77_n1(const Arguments* arguments, long long row_begin, long long row_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  const unsigned short* x_row[kXColumns];
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
    unsigned char w_tail[kRun * kElemBytes] = {};
    __builtin_memcpy(w_tail, w_row + kMainCols * kElemBytes, kTail * kElemBytes);
    {
      const F32Run weight = decode_run(w_tail, 0);
      for (int j = 0; j < kXColumns; ++j) {
        unsigned short x_tail[kRun] = {};
        __builtin_memcpy(x_tail, x_row[j] + kMainCols, kTail * sizeof(x_tail[0]));
        total[j] += sum_of(weight * load_x(x_tail));
      } // j: rows of x
    }
    for (int j = 0; j < kXColumns; ++j) {
      if (j < n) arguments->y[j * rows + row] = total[j];
    } // j: rows of x
  } // row: rows of this call
}
