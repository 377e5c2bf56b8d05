// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/interleaved_matvec.cpp.in.
//   kernel   matvec_q8_0_a8_x_f32_interleaved_c480_n4, emitter version 7
//   w        in   q8_0  [rows, 480]  interleaved
//   x        in   f32  [n, 480]  row-major, 1 <= n <= 4
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), x as integers times a factor for each 256 columns, sums of integers, then of f32
//   cpu      cpu:x86-64 (baseline): interleaved rows, x as integers of 15 bits, pmaddwd, 4 rows
//   launch   matvec_q8_0_a8_x_f32_interleaved_c480_n4_begin once, then ranges of tiles of 16 rows, in parallel

constexpr int kCols = 480;            // columns of w, and of each row of x
constexpr int kRun = 16;              // columns of x converted at a time
constexpr int kXTogether = 4;         // rows of x multiplied in one pass
constexpr int kUnits = 2;             // units of 256 columns, of a row
constexpr int kUnitBytes = 4352;      // of 16 rows
constexpr int kLanes = 4;             // rows in a vector
constexpr int kParts = 4;             // vectors of 16 rows
constexpr int kPartLines = 17;        // 64 bytes asked for ahead with each part
constexpr int kPrefetchBytes = 16384; // how far ahead
constexpr int kPrefetchLocality = 2;  // of __builtin_prefetch
constexpr int kDigits = 1;            // of each x
constexpr int kDigitBits = 15;        // with the sign
constexpr int kDigitWords = 2;        // that hold a digit of four columns
constexpr int kXBits = 15;            // of an x
constexpr int kGroups = 8;            // of a unit, whose columns share a scale
constexpr int kGroupWords = 8;        // of four columns
constexpr int kRunWords = 8;          // of four columns, whose products a Partial holds
constexpr int kOffset = 128;          // code of the value 0
constexpr bool kHasMinima = false;    // value = scale * code - minimum
constexpr int kXColumns = 4;          // rows of x that a launch can use
constexpr int kCodes = 4;             // first word of the codes

typedef float XType;

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

// 256 columns of x as integers times a factor, cut into digits.
struct alignas(64) XUnit {
  unsigned digit[64][kDigits][kDigitWords]; // for four columns each
  int start[kGroups][kDigits];              // what sums of codes times a digit begin with: takes kOffset back
  float sum[kGroups];                       // of x over a group
  float factor[kDigits];                    // what a sum of codes times a digit is multiplied by
  int is_plain; // 0: digits don't hold this x, which has infinities, NaNs, or numbers that are too far apart
};

// 16 columns of x, zeros past the last.
static inline F32Run load_x_run(const XType* row, int col) {
  if (col + kRun <= kCols) return load_x(row + col);
  XType rest[kRun] = {};
  for (int i = 0; col + i < kCols; ++i) rest[i] = row[col + i];
  return load_x(rest);
}

// The largest x becomes the largest integer.
struct XScale {
  float to_integer;
  float factor;
};
static inline XScale scale_of_x(float largest) {
  constexpr float kLargest = (float)((1 << (kXBits - 1)) - 1);
  return {kLargest / largest, largest / kLargest};
}

// 8 bits were asked for, whatever x is.
static inline bool has_bits_of(const F32Run*, float) { return true; }

// Digits of kDigitBits bits of 16 integers, each with a sign, and their sums.
static inline void store_digits(XUnit* unit, int run, S32Run fixed, int* sum) {
#pragma unroll
  for (int d = 0; d < kDigits; ++d) {
    const S32Run upper = d + 1 < kDigits ? (fixed + (1 << (kDigitBits - 1))) >> kDigitBits : (S32Run){};
    const S32Run digit = fixed - (upper << kDigitBits);
    for (int i = 0; i < 4; ++i) {
      for (int odd = 0; odd < 2; ++odd) {
        unit->digit[4 * run + i][d][odd] =
            ((unsigned)digit[4 * i + odd] & 0xffffu) | (unsigned)digit[4 * i + 2 + odd] << 16;
      } // odd: which two of the columns
    } // i: words
    for (int i = 0; i < kRun; ++i) sum[d] += digit[i];
    fixed = upper;
  } // d: digits
}

// The nearest integers, of less than 2^24: not every x86-64 rounds by an instruction. A half goes away from zero.
static inline S32Run to_nearest(F32Run value) {
  const U32Run half = ((U32Run)value & 0x80000000u) | 0x3f000000u; // 0.5, with the sign
  return __builtin_convertvector(value + (F32Run)half, S32Run);
}

// Columns 256 u and up of a row of x.
static inline void convert_unit(const XType* row, int u, XUnit* unit) {
  F32Run x[256 / kRun];
  U32Run most = {};
  for (int i = 0; i < 256 / kRun; ++i) {
    x[i] = load_x_run(row, 256 * u + kRun * i);
    const U32Run magnitude = (U32Run)x[i] & 0x7fffffffu;
    most = magnitude > most ? magnitude : most;
  } // i: runs
  unsigned bits = 0; // of the largest magnitude, NaNs above all
  for (int i = 0; i < kRun; ++i) bits = bits < most[i] ? most[i] : bits;
  constexpr unsigned kLeast = 0x0f000000u, kMost = 0x7e800000u; // 2^-97, 2^126
  const float largest = __builtin_bit_cast(float, bits);
  unit->is_plain = bits == 0 || (bits >= kLeast && bits < kMost && has_bits_of(x, largest));
  const XScale scale = scale_of_x(bits == 0 || !unit->is_plain ? 1.0f : largest);
  float factor = scale.factor;
  for (int d = 0; d < kDigits; ++d) {
    unit->factor[d] = factor;
    factor *= (float)(1 << kDigitBits);
  } // d: digits
  for (int s = 0; s < kGroups; ++s) {
    int sum[kDigits] = {};
    for (int i = s * kGroupWords / 4; i < (s + 1) * kGroupWords / 4; ++i) {
      const F32Run wanted = unit->is_plain ? x[i] * scale.to_integer : (F32Run){};
      store_digits(unit, i, to_nearest(wanted), sum);
    } // i: runs of this group
    unit->sum[s] = 0.0f;
    for (int d = kDigits; d-- > 0;) {
      unit->start[s][d] = -kOffset * sum[d];
      unit->sum[s] += (float)sum[d] * unit->factor[d];
    } // d: digits
  } // s: groups
}

typedef float F32Lanes __attribute__((vector_size(4 * kLanes)));
typedef int S32Lanes __attribute__((vector_size(4 * kLanes)));
typedef unsigned U32Lanes __attribute__((vector_size(4 * kLanes)));
typedef short S16Lanes __attribute__((vector_size(4 * kLanes)));
typedef unsigned short U16Lanes __attribute__((vector_size(4 * kLanes)));
typedef char CharLanes __attribute__((vector_size(4 * kLanes)));
typedef unsigned char U8Lanes __attribute__((vector_size(4 * kLanes)));

// Word w of the rows of a part of a unit.
static inline U32Lanes word(const unsigned char* part, int w) { return load<U32Lanes>(part + 64 * w); }

// The lower halves of the words. Exact: the 15 magnitude bits, moved to bit 13, read as an f32 that is 2^-112 too small.
static inline F32Lanes lanes_of_f16(U32Lanes words) {
  const U32Lanes magnitude = words & 0x7fffu;
  const F32Lanes scaled = (F32Lanes)(magnitude << 13) * 0x1p+112f;
  const U32Lanes special = (U32Lanes)(magnitude >= 0x7c00u) & 0x7f800000u; // infinity and NaN
  return (F32Lanes)((U32Lanes)scaled | special | (words & 0x8000u) << 16);
}

struct Head {
  F32Lanes scale[kGroups];
};
static inline F32Lanes scale_of(const Head& head, int s) { return head.scale[s]; }

// The d of each block, two in each of the first words.
static inline Head open_unit(const unsigned char* part) {
  Head head;
#pragma unroll
  for (int b = 0; b < kGroups; ++b) head.scale[b] = lanes_of_f16(word(part, b / 2) >> 16 * (b % 2));
  return head;
}

static inline U32Lanes codes_of(const unsigned char* part, int w) { return word(part, kCodes + w) ^ 0x80808080u; }

static inline F32Lanes minimum_of(const Head&, int) { return (F32Lanes){}; }

// Adds the products of neighbours.
static inline S32Lanes madd_16(S16Lanes a, S16Lanes b) { return (S32Lanes)__builtin_ia32_pmaddwd128(a, b); }

// Sums of four columns' codes times a digit of x of 16 bits: columns 0 and 2 are in the digit's first word.
typedef S32Lanes Partial;
static inline Partial open_partial(S32Lanes sum) { return sum; }
static inline Partial dot(Partial sum, U32Lanes codes, const unsigned* digit) {
  const S32Lanes even = madd_16((S16Lanes)(codes & 0x00ff00ffu), (S16Lanes)((U32Lanes){} + digit[0]));
  const S32Lanes odd = madd_16((S16Lanes)((U16Lanes)codes >> 8), (S16Lanes)((U32Lanes){} + digit[1]));
  return sum + even + odd;
}
static inline S32Lanes close_partial(S32Lanes, Partial partial) { return partial; }

static inline F32Lanes multiply_add(F32Lanes a, F32Lanes b, F32Lanes c) { return a * b + c; }

// Adds products of a part of a unit with kXTogether rows of x to their totals; asks for weights at `ahead`.
static inline void multiply_unit(const unsigned char* part, const unsigned char* ahead, const XUnit* const* x,
                                 F32Lanes* total) {
  const Head head = open_unit(part);
#pragma unroll
  for (int s = 0; s < kGroups; ++s) {
    S32Lanes sum[kXTogether][kDigits];
#pragma unroll
    for (int j = 0; j < kXTogether; ++j) {
#pragma unroll
      for (int d = 0; d < kDigits; ++d) sum[j][d] = (S32Lanes){} + x[j]->start[s][d];
    } // j: rows of x
#pragma unroll
    for (int first = s * kGroupWords; first < (s + 1) * kGroupWords; first += kRunWords) {
      Partial partial[kXTogether][kDigits];
#pragma unroll
      for (int j = 0; j < kXTogether; ++j) {
#pragma unroll
        for (int d = 0; d < kDigits; ++d) partial[j][d] = open_partial(sum[j][d]);
      } // j: rows of x
#pragma unroll
      for (int w = first; w < first + kRunWords; ++w) {
        for (int line = w * kPartLines / 64; line < (w + 1) * kPartLines / 64; ++line)
          __builtin_prefetch(ahead + 64 * line, 0, kPrefetchLocality);
        const U32Lanes codes = codes_of(part, w);
#pragma unroll
        for (int j = 0; j < kXTogether; ++j) {
#pragma unroll
          for (int d = 0; d < kDigits; ++d) partial[j][d] = dot(partial[j][d], codes, x[j]->digit[w][d]);
        } // j: rows of x
      } // w: words of four columns
#pragma unroll
      for (int j = 0; j < kXTogether; ++j) {
#pragma unroll
        for (int d = 0; d < kDigits; ++d) sum[j][d] = close_partial(sum[j][d], partial[j][d]);
      } // j: rows of x
    } // first: words whose sums Partial holds
#pragma unroll
    for (int j = 0; j < kXTogether; ++j) {
      F32Lanes product = __builtin_convertvector(sum[j][0], F32Lanes) * x[j]->factor[0];
#pragma unroll
      for (int d = 1; d < kDigits; ++d) {
        const F32Lanes factor = (F32Lanes){} + x[j]->factor[d];
        product = multiply_add(__builtin_convertvector(sum[j][d], F32Lanes), factor, product);
      } // d: digits
      total[j] = multiply_add(product, scale_of(head, s), total[j]);
      if (kHasMinima) total[j] -= minimum_of(head, s) * x[j]->sum[s];
    } // j: rows of x
  } // s: groups of columns that share a scale
}

static inline float x_at(const float* at) { return *at; }

// As multiply_unit for one row of x, and any x: in f32, slowly.
static __attribute__((noinline)) F32Lanes multiply_any(const unsigned char* part, const XType* row, int u, F32Lanes total) {
  const Head head = open_unit(part);
  for (int s = 0; s < kGroups; ++s) {
    for (int w = s * kGroupWords; w < (s + 1) * kGroupWords; ++w) {
      const U32Lanes codes = codes_of(part, w);
      for (int i = 0; i < 4; ++i) {
        const int col = 256 * u + 4 * w + i;
        if (col >= kCols) continue; // 0 in the padding may be times an infinite scale
        const S32Lanes code = (S32Lanes)(codes >> 8 * i & 255u) - kOffset;
        F32Lanes weight = __builtin_convertvector(code, F32Lanes) * scale_of(head, s);
        if (kHasMinima) weight -= minimum_of(head, s);
        total = multiply_add(weight, (F32Lanes){} + x_at(row + col), total);
      } // i: columns of this word
    } // w: words of this group
  } // s: groups
  return total;
}

struct Arguments {
  const unsigned char* w;
  const XType* x;
  float* y;
  long long rows;
  long long n;
  XUnit* digits; // [n, kUnits]: scratch that the device adds to the caller's arguments
};

extern "C" __attribute__((visibility("default"))) long long
matvec_q8_0_a8_x_f32_interleaved_c480_n4_scratch_bytes(const Arguments* arguments) { return arguments->n * kUnits * (long long)sizeof(XUnit); }

extern "C" __attribute__((visibility("default"))) void
matvec_q8_0_a8_x_f32_interleaved_c480_n4_begin(const Arguments* arguments) {
  for (long long j = 0; j < arguments->n; ++j) {
    for (int u = 0; u < kUnits; ++u) convert_unit(arguments->x + j * kCols, u, arguments->digits + j * kUnits + u);
  } // j: rows of x
}

extern "C" __attribute__((visibility("default"))) void
matvec_q8_0_a8_x_f32_interleaved_c480_n4(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  const long long last = n - 1;

  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    const unsigned char* unit = arguments->w + tile * (kUnits * (long long)kUnitBytes);
    F32Lanes total[kParts][kXColumns] = {};
    for (int u = 0; u < kUnits; ++u, unit += kUnitBytes) {
#pragma unroll
      for (int first = 0; first < kXColumns; first += kXTogether) {
        const XUnit* x[kXTogether];
        bool is_plain = true;
        for (int j = 0; j < kXTogether; ++j) {
          x[j] = arguments->digits + (first + j < n ? first + j : last) * kUnits + u;
          is_plain = is_plain && x[j]->is_plain;
        } // j: rows of x
#pragma unroll 1
        for (int part = 0; part < kParts; ++part) {
          const unsigned char* at = unit + part * 4 * kLanes;
          if (is_plain) {
            multiply_unit(at, unit + kPrefetchBytes + part * 64 * kPartLines, x, total[part] + first);
          } else {
            for (int j = 0; j < kXTogether && first + j < n; ++j) {
              F32Lanes* sum = total[part] + first + j;
              *sum = multiply_any(at, arguments->x + (first + j) * kCols, u, *sum);
            } // j: rows of x
          }
        } // part: kLanes rows
      } // first: rows of x
    } // u: units of 256 columns
    for (int j = 0; j < kXColumns && j < n; ++j) {
      for (int r = 0; r < 16 && tile * 16 + r < rows; ++r) {
        const long long row = tile * 16 + r;
        arguments->y[j * rows + row] = total[r / kLanes][j][r % kLanes];
      } // r: rows of this tile
    } // j: rows of x
  } // tile: tiles of this call
}
