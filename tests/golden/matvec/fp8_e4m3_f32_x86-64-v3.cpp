// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/float_matvec.cpp.in.
//   kernel   matvec_fp8_e4m3_x_f32_c512_n1, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): 32 columns a vector, in f32, x in their order
//   launch   matvec_fp8_e4m3_x_f32_c512_n1_begin once, then ranges of rows, in parallel

constexpr int kCols = 512;             // columns of w, and of each row of x
constexpr int kRowBytes = 512;         // bytes of one row of w
constexpr int kXColumns = 1;           // rows of x that a launch can use
constexpr int kLanes = 8;              // of 32 bits, in a vector
constexpr int kParts = 4;              // vectors of f32 that a vector of weights becomes
constexpr int kRunCols = 32;           // columns decoded together
constexpr int kRunBytes = 32;          // bytes of them
constexpr int kWholeRuns = 16;         // of a row
constexpr int kRuns = 16;              // of a row, the last one cut
constexpr int kChains = 1;             // sums that take turns
constexpr int kPrefetchBytes = 16384;  // how far ahead
constexpr int kPrefetchLocality = 2;   // of __builtin_prefetch
constexpr float kWeightScale = 256.0f; // value / decoded value
constexpr int kGroupRuns = kRuns;      // that share a scale

typedef float XType;

typedef float F32Lanes __attribute__((vector_size(4 * kLanes)));
typedef int S32Lanes __attribute__((vector_size(4 * kLanes)));
typedef unsigned U32Lanes __attribute__((vector_size(4 * kLanes)));
typedef short S16Lanes __attribute__((vector_size(4 * kLanes)));
typedef unsigned short U16Lanes __attribute__((vector_size(4 * kLanes)));
typedef char CharLanes __attribute__((vector_size(4 * kLanes)));
typedef unsigned char U8Lanes __attribute__((vector_size(4 * kLanes)));

typedef _Float16 HalfLanes __attribute__((vector_size(2 * kLanes)));

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

// f16 bits of the even and of the odd columns.
static inline int column_of(int part, int lane) { return 2 * (kLanes * (part % 2) + lane) + part / 2; }
static inline void widen_halves(U16Lanes even, U16Lanes odd, F32Lanes* weight) {
  const U16Lanes halves[2] = {even, odd};
#pragma unroll
  for (int part = 0; part < 4; ++part)
    weight[part] = __builtin_convertvector(load<HalfLanes>((const unsigned char*)halves + 2 * kLanes * part), F32Lanes);
}

// Exact but for NaN, and 2^-8 of the value: the 7 magnitude bits, moved to bit 7, as f16.
static inline void decode_run(const unsigned char* at, F32Lanes* weight) {
  const U16Lanes pairs = load<U16Lanes>(at);
  const S16Lanes even = (S16Lanes)(pairs << 8), odd = (S16Lanes)pairs;
  widen_halves((U16Lanes)(even >> 1) & (unsigned short)0xbf80, (U16Lanes)(odd >> 1) & (unsigned short)0xbf80, weight);
}

static inline F32Lanes multiply_add(F32Lanes a, F32Lanes b, F32Lanes c) { return __builtin_elementwise_fma(a, b, c); }

static inline float x_at(const float* at) { return *at; }

// The largest of a row's codes, with and without a sign: 127 and 255 are the NaNs of e4m3.
typedef signed char S8Lanes __attribute__((vector_size(4 * kLanes)));
struct Extremes {
  S8Lanes with_sign;
  U8Lanes without;
};
static inline void take(Extremes* most, const unsigned char* at) {
  most->with_sign = __builtin_elementwise_max(most->with_sign, load<S8Lanes>(at));
  most->without = __builtin_elementwise_max(most->without, load<U8Lanes>(at));
}
static inline bool has_nan(const Extremes& most) {
  return __builtin_reduce_max(most.with_sign) == 127 || __builtin_reduce_max(most.without) == 255;
}

// A row of x as f32, its columns in the order in which a run of weights is decoded, zeros after the last.
struct XRow {
  float value[kRuns][kParts][kLanes];
  float factor; // what sums of products are multiplied by
};

struct Arguments {
  const unsigned char* w;
  const XType* x;
  float* y;
  long long rows;
  long long n;
  XRow* ordered; // [n]: scratch that the device adds to the caller's arguments
};

extern "C" __attribute__((visibility("default"))) long long
matvec_fp8_e4m3_x_f32_c512_n1_scratch_bytes(const Arguments* arguments) { return arguments->n * (long long)sizeof(XRow); }

extern "C" __attribute__((visibility("default"))) void
matvec_fp8_e4m3_x_f32_c512_n1_begin(const Arguments* arguments) {
  for (long long j = 0; j < arguments->n; ++j) {
    const XType* x = arguments->x + j * kCols;
    XRow* row = arguments->ordered + j;
    float largest = 0.0f;
    for (int c = 0; c < kCols; ++c) {
      const float magnitude = __builtin_fabsf(x_at(x + c));
      largest = magnitude > largest ? magnitude : largest;
    } // c: columns
    // Decoded weights are too small by kWeightScale: made up for where neither subnormals nor infinities come of it.
    const bool is_small = largest < 0x1p+64f;
    const float x_scale = is_small ? kWeightScale : 1.0f;
    row->factor = is_small ? 1.0f : kWeightScale;
    for (int run = 0; run < kRuns; ++run) {
      for (int part = 0; part < kParts; ++part) {
        for (int lane = 0; lane < kLanes; ++lane) {
          const int col = run * kRunCols + column_of(part, lane);
          row->value[run][part][lane] = col < kCols ? x_at(x + col) * x_scale : 0.0f;
        } // lane: columns of this part
      } // part: vectors of this run
    } // run: columns decoded together
  } // j: rows of x
}

// Adds products of the run of weights at `at` to the sums of each row of x.
static inline void multiply_run(const unsigned char* at, int run, const XRow* const* x, F32Lanes (*sum)[kParts]) {
  F32Lanes weight[kParts];
  decode_run(at, weight);
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) {
#pragma unroll
    for (int part = 0; part < kParts; ++part)
      sum[j][part] = multiply_add(weight[part], load<F32Lanes>(x[j]->value[run][part]), sum[j][part]);
  } // j: rows of x
}

static inline float sum_of_lanes(F32Lanes value) {
  float total = 0.0f;
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) value[i] += value[i + width];
  } // width: sums left
  total += value[0];
  return total;
}

extern "C" __attribute__((visibility("default"))) void
matvec_fp8_e4m3_x_f32_c512_n1(const Arguments* arguments, long long row_begin, long long row_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  const XRow* x[kXColumns];
  for (int j = 0; j < kXColumns; ++j) x[j] = arguments->ordered + (j < n ? j : n - 1);

  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    F32Lanes total[kXColumns] = {};
    Extremes most = {};
    for (int first = 0; first < kRuns; first += kGroupRuns) {
      F32Lanes sum[kChains][kXColumns][kParts] = {};
      const int last = first + kGroupRuns < kWholeRuns ? first + kGroupRuns : kWholeRuns;
      int run = first;
      for (; run + kChains <= last; run += kChains) {
#pragma unroll
        for (int chain = 0; chain < kChains; ++chain) {
          const unsigned char* at = w_row + (run + chain) * kRunBytes;
          __builtin_prefetch(at + kPrefetchBytes, 0, kPrefetchLocality);
          take(&most, at);
          multiply_run(at, run + chain, x, sum[chain]);
        } // chain: sums that take turns
      } // run: columns decoded together
      for (; run < last; ++run) {
        const unsigned char* at = w_row + run * kRunBytes;
        take(&most, at);
          multiply_run(at, run, x, sum[0]);
      } // run: columns decoded together
      if (kWholeRuns < kRuns && first + kGroupRuns >= kRuns) {
        alignas(64) unsigned char rest[kRunBytes] = {};
        __builtin_memcpy(rest, w_row + kWholeRuns * kRunBytes, kRowBytes - kWholeRuns * kRunBytes);
        take(&most, rest);
        multiply_run(rest, kWholeRuns, x, sum[0]);
      }
      for (int j = 0; j < kXColumns; ++j) {
        F32Lanes all = {};
        for (int chain = 0; chain < kChains; ++chain) {
          for (int part = 0; part < kParts; ++part) all += sum[chain][j][part];
        } // chain: sums that take turns
        total[j] += all;
      } // j: rows of x
    } // first: runs that share a scale
    for (int j = 0; j < kXColumns && j < n; ++j) {
      float result = sum_of_lanes(total[j]) * x[j]->factor;
      if (has_nan(most)) result = __builtin_nanf("");
      arguments->y[j * rows + row] = result;
    } // j: rows of x
  } // row: rows of this call
}
