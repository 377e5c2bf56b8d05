// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/quantize.cpp.in.
//   kernel   quantize_fp8_e5m2_x_f32_nosat_c77, emitter version 7
//   x        in   f32  [rows, 77]  row-major
//   w        out  fp8_e5m2  [rows, 77]  row-major
//   math     w = the nearest code to x, ties to even, overflow to infinity or NaN
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: rounded as integers
//   launch   ranges of rows, in parallel

constexpr int kCols = 77;                         // columns of x and w
constexpr int kRowBytes = 77;                     // bytes of one row of w
constexpr int kRun = 16;                          // consecutive elements encoded at a time
constexpr int kCodeBits = 8;                      // of a code
constexpr int kDroppedBits = 21;                  // mantissa bits of f32 that the format lacks
constexpr unsigned kRebias = 0x38000000u;         // from f32's exponent to the format's
constexpr unsigned kSmallestNormal = 0x38800000u; // as bits of an f32
constexpr float kSubnormalShift = 0x1p+7f;        // its last bit is worth the smallest subnormal
constexpr unsigned kOverflowCode = 0x7cu;         // of what is too large
constexpr unsigned kNanCode = 0x7fu;

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

static inline F32Run load_x(const float* at) { return load<F32Run>(at); }

static inline U32Run nan_code(U32Run sign) { return sign | kNanCode; }

static inline U32Run with_sign(U32Run code, U32Run sign) { return code | sign; }

// To the nearest code, of two to the even one. Above the smallest normal the exponent moves and the dropped
// bits round by adding half, less one if even; below, adding kSubnormalShift leaves the code in the low bits.
static inline U8Run encode_run(F32Run value) {
  const U32Run bits = (U32Run)value;
  const U32Run magnitude = bits & 0x7fffffffu;
  const U32Run sign = (bits & 0x80000000u) >> (32 - kCodeBits);
  const U32Run even = (magnitude >> kDroppedBits) & 1u;
  const U32Run normal = (magnitude - kRebias + (1u << kDroppedBits) / 2 - 1u + even) >> kDroppedBits;
  const U32Run subnormal = (U32Run)((F32Run)magnitude + kSubnormalShift) - __builtin_bit_cast(unsigned, kSubnormalShift);
  U32Run code = (magnitude < kSmallestNormal) ? subnormal : normal;
  code = (code < kOverflowCode) ? code : (U32Run){} + kOverflowCode; // infinity too
  code = (magnitude > 0x7f800000u) ? nan_code(sign) : with_sign(code, sign);
  return __builtin_convertvector(code, U8Run);
}

// `count` elements and zeros after them; a whole run if there are more.
template <typename T>
static inline F32Run load_x_part(const T* at, long long count) {
  if (count >= kRun) return load_x(at);
  T part[kRun] = {};
  for (int i = 0; i < count; ++i) part[i] = at[i];
  return load_x(part);
}

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

// The first `count` codes from column `col` on, all of them if there are no more.
static inline void store_codes(unsigned char* row, long long col, U8Run codes, long long count) {
  if (count >= kRun) {
    store(row + col, codes);
  } else {
    for (int i = 0; i < count; ++i) row[col + i] = codes[i];
  }
}

struct Arguments {
  const float* x;
  unsigned char* w;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
quantize_fp8_e5m2_x_f32_nosat_c77(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    for (long long at = 0; at < kCols; at += kRun) {
      const F32Run value = load_x_part(arguments->x + row * kCols + at, kCols - at);
      store_codes(arguments->w + row * kRowBytes, at, encode_run(value), kCols - at);
    } // at: runs of this row
  } // row: rows of this call
}
