// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_fp8_e4m3_y_f32_c512, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;     // columns of w and y
constexpr int kRowBytes = 512; // bytes of one row of w
constexpr int kRun = 16;       // consecutive elements decoded at a time

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

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

static inline void store_y(float* at, F32Run value) { store(at, value); }

struct Arguments {
  const unsigned char* w;
  float* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
dequant_fp8_e4m3_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    float* y_row = arguments->y + row * kCols;
#pragma unroll 2
    for (int at = 0; at + kRun <= kCols; at += kRun) {
      const F32Run weight = decode_run(w_row, at);
      store_y(y_row + at, weight);
    } // at: runs of this row
  } // row: rows of this call
}
