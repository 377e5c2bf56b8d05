// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_fp8_e5m2_s32x32_f32_y_f16_c77, emitter version 7
//   w        in   fp8_e5m2  [rows, 77]  row-major
//   scale    in   f32  [ceil(rows / 32), 3]  row-major, one per 32 x 32 block of w
//   y        out  f16  [rows, 77]  row-major
//   math     y = decode(w) * scale, then rounded once to f16, to nearest even
//   cpu      cpu:x86-64 (baseline): software, exact: bits moved into an f32, one multiply
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

// Exact e5m2 (OCP OFP8 1.0). The 7 magnitude bits, moved to bit 21, read as an f32 that is 2^-112 too small,
// subnormals too. Exponent 31 is infinity or NaN.
static inline F32Run e5m2_run_to_f32(U8Run codes) {
  const S32Run at_top = (S32Run)(__builtin_convertvector(codes, U32Run) << 24);
  const U32Run scaled = (U32Run)(at_top >> 3) & 0x8fe00000u;
  const U32Run special = (U32Run)((scaled & 0x0f800000u) == 0x0f800000u) & 0x7f800000u;
  return (F32Run)((U32Run)((F32Run)scaled * 0x1p+112f) | special);
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

// To nearest even; overflow gives infinity. Below 2^-14 adding 0.5 leaves the rounded f16 subnormal in the
// low bits; above, the exponent moves by 112 and the 13 dropped bits round by adding half, less one if even.
static inline U16Run f32_run_to_f16(F32Run value) {
  const U32Run bits = (U32Run)value;
  const U32Run magnitude = bits & 0x7fffffffu;
  const U32Run subnormal = (U32Run)((F32Run)magnitude + 0.5f) - 0x3f000000u;
  const U32Run normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  U32Run half = (magnitude < 0x38800000u) ? subnormal : normal;
  half = (magnitude >= 0x477ff000u) ? (U32Run){} + 0x7c00u : half; // 65520 and more
  half = (magnitude > 0x7f800000u) ? (U32Run){} + 0x7e00u : half;  // NaN
  return __builtin_convertvector(half | (bits >> 16 & 0x8000u), U16Run);
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
