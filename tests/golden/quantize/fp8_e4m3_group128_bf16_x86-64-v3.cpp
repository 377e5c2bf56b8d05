// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/quantize.cpp.in.
//   kernel   quantize_fp8_e4m3_s1x128_f32_x_bf16_c512, emitter version 7
//   x        in   bf16  [rows, 512]  row-major
//   w        out  fp8_e4m3  [rows, 512]  row-major
//   scale    out  f32  [rows, 4]  row-major, one per 1 x 128 block of w
//   math     w = the nearest code to x / scale, ties to even, saturating; scale = largest |x| / 448, 1 if that is 0
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: rounded as integers
//   launch   ranges of blocks of kBlockRows rows, in parallel

constexpr int kCols = 512;                        // columns of x and w
constexpr int kRowBytes = 512;                    // bytes of one row of w
constexpr int kRun = 16;                          // consecutive elements encoded at a time
constexpr int kCodeBits = 8;                      // of a code
constexpr int kDroppedBits = 20;                  // mantissa bits of f32 that the format lacks
constexpr unsigned kRebias = 0x3c000000u;         // from f32's exponent to the format's
constexpr unsigned kSmallestNormal = 0x3c800000u; // as bits of an f32
constexpr float kSubnormalShift = 0x1p+14f;       // its last bit is worth the smallest subnormal
constexpr unsigned kOverflowCode = 0x7eu;         // of what is too large
constexpr unsigned kNanCode = 0x7fu;
constexpr int kBlockRows = 1;                     // rows that share one scale
constexpr int kGroup = 128;                       // columns that share one scale
constexpr int kGroups = 4;                        // of one row
constexpr float kLargest = 448.00f;               // what the largest value of a group becomes

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

static inline F32Run bf16_run_to_f32(U16Run bits) { return (F32Run)(__builtin_convertvector(bits, U32Run) << 16); }

static inline F32Run load_x(const unsigned short* at) { return bf16_run_to_f32(load<U16Run>(at)); }

static inline U32Run nan_code(U32Run) { return (U32Run){} + kNanCode; }

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

// NaNs don't count.
static inline F32Run larger_magnitude(F32Run largest, F32Run value) {
  const F32Run magnitude = (F32Run)((U32Run)value & 0x7fffffffu);
  return (magnitude > largest) ? magnitude : largest;
}

// Of magnitudes, compared as integers.
static inline float largest_of(F32Run value) {
  const U32Run bits = (U32Run)value;
  unsigned largest = bits[0];
#pragma unroll
  for (int i = 1; i < kRun; ++i) largest = bits[i] > largest ? bits[i] : largest;
  return __builtin_bit_cast(float, largest);
}

// The largest magnitude becomes the largest number of the format.
struct GroupScale {
  float stored;
};

static inline GroupScale choose_scale(float largest) {
  const float scale = largest / kLargest;
  return {scale == 0.0f ? 1.0f : scale};
}

static inline F32Run divided(F32Run value, const GroupScale& scale) { return value / scale.stored; }

struct Arguments {
  const unsigned short* x;
  unsigned char* w;
  float* scale;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
quantize_fp8_e4m3_s1x128_f32_x_bf16_c512(const Arguments* arguments, long long block_begin, long long block_end) {
  for (long long block = block_begin; block < block_end; ++block) {
    const long long first_row = block * kBlockRows;
    const long long rows_left = arguments->rows - first_row;
    const long long end_row = first_row + (kBlockRows < rows_left ? kBlockRows : rows_left);
    for (long long group = 0; group < kGroups; ++group) {
      const long long first = group * kGroup;
      const long long end = first + kGroup < kCols ? first + kGroup : kCols;
      F32Run largest = {};
      for (long long row = first_row; row < end_row; ++row) {
        for (long long at = first; at < end; at += kRun)
          largest = larger_magnitude(largest, load_x_part(arguments->x + row * kCols + at, end - at));
      } // row: rows of this block
      const GroupScale scale = choose_scale(largest_of(largest));
      arguments->scale[block * kGroups + group] = scale.stored;
      for (long long row = first_row; row < end_row; ++row) {
        for (long long at = first; at < end; at += kRun) {
          const F32Run value = load_x_part(arguments->x + row * kCols + at, end - at);
          store_codes(arguments->w + row * kRowBytes, at, encode_run(divided(value, scale)), end - at);
        } // at: runs of this block
      } // row: rows of this block
    } // group: blocks side by side
  } // block: blocks of rows of this call
}
