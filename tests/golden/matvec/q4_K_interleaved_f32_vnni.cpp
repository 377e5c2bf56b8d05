// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/interleaved_matvec.cpp.in.
//   kernel   matvec_q4_K_x_f32_interleaved_c512_n1, emitter version 7
//   w        in   q4_K  [rows, 512]  interleaved
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), x as integers times a factor for each 256 columns, sums of integers, then of f32
//   cpu      cpu:vnni (avx avx2 avx512bw avx512cd avx512dq avx512f avx512vl avx512vnni bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): interleaved rows, x as 3 digits of 8 bits, vpdpbusd, 16 rows
//   launch   matvec_q4_K_x_f32_interleaved_c512_n1_begin once, then ranges of tiles of 16 rows, in parallel

constexpr int kCols = 512;            // columns of w, and of each row of x
constexpr int kRun = 16;              // columns of x converted at a time
constexpr int kXTogether = 1;         // rows of x multiplied in one pass
constexpr int kUnits = 2;             // units of 256 columns, of a row
constexpr int kUnitBytes = 2304;      // of 16 rows
constexpr int kLanes = 16;            // rows in a vector
constexpr int kParts = 1;             // vectors of 16 rows
constexpr int kPartLines = 36;        // 64 bytes asked for ahead with each part
constexpr int kPrefetchBytes = 16384; // how far ahead
constexpr int kPrefetchLocality = 2;  // of __builtin_prefetch
constexpr int kDigits = 3;            // of each x
constexpr int kDigitBits = 8;         // with the sign
constexpr int kDigitWords = 1;        // that hold a digit of four columns
constexpr int kXBits = 24;            // of an x
constexpr int kGroups = 8;            // of a unit, whose columns share a scale
constexpr int kGroupWords = 8;        // of four columns
constexpr int kRunWords = 8;          // of four columns, whose products a Partial holds
constexpr int kOffset = 0;            // code of the value 0
constexpr bool kHasMinima = true;     // value = scale * code - minimum
constexpr int kXColumns = 1;          // rows of x that a launch can use
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

// Integers of x are below 2^(kXBits - 1) by more than digits' carries: x times a power of two.
struct XScale {
  float to_integer;
  float factor;
};
static inline XScale scale_of_x(float largest) {
  const unsigned exponent = __builtin_bit_cast(unsigned, largest * 1.015625f) >> 23;
  return {__builtin_bit_cast(float, (kXBits + 252u - exponent) << 23),
          __builtin_bit_cast(float, (exponent - kXBits + 2u) << 23)};
}

// Whether integers of kXBits bits do for these x: they have two bits of each that is not zero, or nine and more of the
// x are at least 2^-8 of the largest. Then what is left of each, 2^-22 of the largest at most, is small beside the
// products of those nine, unless their weights are all zero.
static inline bool has_bits_of(const F32Run* x, float largest) {
  const float least = largest * __builtin_bit_cast(float, (130u - kXBits) << 23), large = largest * 0x1p-8f;
  S32Run small = {}, many = {};
  for (int i = 0; i < 256 / kRun; ++i) {
    const F32Run magnitude = (F32Run)((U32Run)x[i] & 0x7fffffffu);
    small |= (magnitude < least) & (magnitude != 0.0f);
    many -= magnitude >= large;
  } // i: runs
  int is_small = 0, count = 0;
  for (int i = 0; i < kRun; ++i) {
    is_small |= small[i];
    count += many[i];
  } // i: lanes
  return !is_small || count >= 9;
}

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

// The bytes of 16 integers, each with a sign, and their sums.
static inline void store_digits(XUnit* unit, int run, S32Run fixed, int* sum) {
  const U32Run bytes = ((U32Run)fixed + 0x00808080u) ^ 0x00808080u;
#pragma unroll
  for (int d = 0; d < kDigits; ++d) {
    const U8Run digit = __builtin_convertvector(bytes >> 8 * d, U8Run);
    unsigned words[4];
    store(words, digit);
    for (int i = 0; i < 4; ++i) unit->digit[4 * run + i][d][0] = words[i];
    const S32Run value = __builtin_convertvector((S8Run)digit, S32Run);
    for (int i = 0; i < kRun; ++i) sum[d] += value[i];
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

// The lower halves of the words.
static inline F32Lanes lanes_of_f16(U32Lanes words) {
  typedef unsigned short Halves __attribute__((vector_size(2 * kLanes)));
  typedef _Float16 Floats __attribute__((vector_size(2 * kLanes)));
  return __builtin_convertvector((Floats)__builtin_convertvector(words, Halves), F32Lanes);
}

// Byte i of the words, as f32, of which only the bits of `mask` count.
static inline F32Lanes lanes_of_byte(U32Lanes words, int i, unsigned mask) {
  return __builtin_convertvector((S32Lanes)(words >> 8 * i & mask), F32Lanes);
}

struct Head {
  F32Lanes scale[kGroups];
  F32Lanes minimum[kGroups];
};
static inline F32Lanes scale_of(const Head& head, int s) { return head.scale[s]; }

// q4_K and q5_K: word 0 has d and dmin, words 1 to 3 pack eight scales and eight minima of 6 bits (see ScaleMin).
static inline Head open_unit(const unsigned char* part) {
  const F32Lanes d = lanes_of_f16(word(part, 0)), dmin = lanes_of_f16(word(part, 0) >> 16);
  const U32Lanes first = word(part, 1), second = word(part, 2), third = word(part, 3);
  const U32Lanes scales[2] = {first & 0x3f3f3f3fu, (third & 0x0f0f0f0fu) | (first >> 6 & 0x03030303u) << 4};
  const U32Lanes minima[2] = {second & 0x3f3f3f3fu, (third >> 4 & 0x0f0f0f0fu) | (second >> 6 & 0x03030303u) << 4};
  Head head;
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    head.scale[s] = d * lanes_of_byte(scales[s / 4], s % 4, 63);
    head.minimum[s] = dmin * lanes_of_byte(minima[s / 4], s % 4, 63);
  } // s: groups
  return head;
}

// 256 columns, whose codes begin at word kCodes: of 64 columns the first 32 are the low nibbles.
static inline U32Lanes nibbles_of(const unsigned char* part, int w) {
  return word(part, kCodes + w / 16 * 8 + w % 8) >> (w % 16 / 8 * 4) & 0x0f0f0f0fu;
}

static inline U32Lanes codes_of(const unsigned char* part, int w) { return nibbles_of(part, w); }

static inline F32Lanes minimum_of(const Head& head, int s) { return head.minimum[s]; }

// Sums of four columns' codes times a digit of x.
typedef S32Lanes Partial;
static inline Partial open_partial(S32Lanes sum) { return sum; }
static inline Partial dot(Partial sum, U32Lanes codes, const unsigned* digit) {
  return (Partial)__builtin_ia32_vpdpbusd512((S32Lanes)sum, (S32Lanes)codes, (S32Lanes)((U32Lanes){} + *digit));
}
static inline S32Lanes close_partial(S32Lanes, Partial partial) { return partial; }

static inline F32Lanes multiply_add(F32Lanes a, F32Lanes b, F32Lanes c) { return __builtin_elementwise_fma(a, b, c); }

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
matvec_q4_K_x_f32_interleaved_c512_n1_scratch_bytes(const Arguments* arguments) { return arguments->n * kUnits * (long long)sizeof(XUnit); }

extern "C" __attribute__((visibility("default"))) void
matvec_q4_K_x_f32_interleaved_c512_n1_begin(const Arguments* arguments) {
  for (long long j = 0; j < arguments->n; ++j) {
    for (int u = 0; u < kUnits; ++u) convert_unit(arguments->x + j * kCols, u, arguments->digits + j * kUnits + u);
  } // j: rows of x
}

extern "C" __attribute__((visibility("default"))) void
matvec_q4_K_x_f32_interleaved_c512_n1(const Arguments* arguments, long long tile_begin, long long tile_end) {
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
