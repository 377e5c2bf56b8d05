// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_fp8_e4m3_s1x0_bf16_y_bf16_c512, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   scale    in   bf16  [rows, 1]  row-major, one per 1 x cols block of w
//   y        out  bf16  [rows, 512]  row-major
//   math     y = decode(w) * scale, then rounded once to bf16, to nearest even
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;     // columns of w and y
constexpr int kRowBytes = 512; // bytes of one row of w
constexpr int kRun = 16;       // consecutive elements decoded at a time
constexpr int kScaleCols = 1;  // scales in one row of scales

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

static inline float bf16_to_f32(unsigned short bits) { return __builtin_bit_cast(float, (unsigned)bits << 16); }

static inline float load_scale(const unsigned short* scale, long long at) { return bf16_to_f32(scale[at]); }

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

// To nearest even; a NaN stays one.
static inline U16Run f32_run_to_bf16(F32Run value) {
  const U32Run bits = (U32Run)value;
  const U32Run rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U32Run chosen = ((bits & 0x7fffffffu) > 0x7f800000u) ? (bits | 0x00400000u) : rounded;
  return __builtin_convertvector(chosen >> 16, U16Run);
}

static inline void store_y(unsigned short* at, F32Run value) { store(at, f32_run_to_bf16(value)); }

struct Arguments {
  const unsigned char* w;
  const unsigned short* scale;
  unsigned short* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
dequant_fp8_e4m3_s1x0_bf16_y_bf16_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    unsigned short* y_row = arguments->y + row * kCols;
    const unsigned short* scale_row = arguments->scale + (row) * kScaleCols;
#pragma unroll 2
    for (int at = 0; at + kRun <= kCols; at += kRun) {
      F32Run weight = decode_run(w_row, at);
      weight *= load_scale(scale_row, 0);
      store_y(y_row + at, weight);
    } // at: runs of this row
  } // row: rows of this call
}
