// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_fp8_e5m2_s32x32_f32_y_f16_c77, emitter version 7
//   w        in   fp8_e5m2  [rows, 77]  row-major
//   scale    in   f32  [ceil(rows / 32), 3]  row-major, one per 32 x 32 block of w
//   y        out  f16  [rows, 77]  row-major
//   math     y = decode(w) * scale, then rounded once to f16, to nearest even
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of rows, in parallel

constexpr int kCols = 77;                      // columns of w and y
constexpr int kRowBytes = 77;                  // bytes of one row of w
constexpr int kRun = 16;                       // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 32;            // rows that share one scale
constexpr int kScaleBlockCols = 32;            // columns that share one scale
constexpr int kScaleCols = 3;                  // scales in one row of scales
constexpr int kMainCols = kCols / kRun * kRun; // columns in whole runs
constexpr int kTail = kCols - kMainCols;       // columns after them
constexpr int kElemBytes = 1;                  // bytes of one element of w

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

// Exact e5m2 (OCP OFP8 1.0): f16 whose low byte is zero.
static inline F32Run e5m2_run_to_f32(U8Run codes) {
  return f16_run_to_f32(__builtin_convertvector(codes, U16Run) << 8);
}

static inline F32Run decode_run(const unsigned char* row, long long col) {
  return e5m2_run_to_f32(load<U8Run>(row + col));
}

static inline float load_scale(const float* scale, long long at) { return scale[at]; }

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

// To nearest even; overflow gives infinity.
typedef _Float16 F16OutRun __attribute__((vector_size(2 * kRun)));
static inline U16Run f32_run_to_f16(F32Run value) {
  return __builtin_bit_cast(U16Run, __builtin_convertvector(value, F16OutRun));
}

static inline void store_y(unsigned short* at, F32Run value) { store(at, f32_run_to_f16(value)); }

struct Arguments {
  const unsigned char* w;
  const float* scale;
  unsigned short* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
dequant_fp8_e5m2_s32x32_f32_y_f16_c77(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    unsigned short* y_row = arguments->y + row * kCols;
    const float* scale_row = arguments->scale + (row / kScaleBlockRows) * kScaleCols;
#pragma unroll 2
    for (int at = 0; at + kRun <= kCols; at += kRun) {
      F32Run weight = decode_run(w_row, at);
      weight *= load_scale(scale_row, at / kScaleBlockCols);
      store_y(y_row + at, weight);
    } // at: runs of this row
    unsigned char w_tail[kRun * kElemBytes] = {};
    __builtin_memcpy(w_tail, w_row + kMainCols * kElemBytes, kTail * kElemBytes);
    {
      F32Run weight = decode_run(w_tail, 0);
      weight *= load_scale(scale_row, kMainCols / kScaleBlockCols);
      unsigned short y_tail[kRun];
      store_y(y_tail, weight);
      __builtin_memcpy(y_row + kMainCols, y_tail, kTail * sizeof(y_tail[0]));
    }
  } // row: rows of this call
}
