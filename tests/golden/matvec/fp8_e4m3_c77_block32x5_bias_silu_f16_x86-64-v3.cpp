// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec_fused.cpp.in.
//   kernel   matvec_fp8_e4m3_s32x5_e8m0_x_f16_y_f16_bias_bf16_gate_silu_c77_n1, emitter version 7
//   w_gate     in   fp8_e4m3  [rows, 77]  row-major
//   scale_gate in   e8m0  [ceil(rows / 32), 16]  row-major, one per 32 x 5 block of w
//   w_up       in   fp8_e4m3  [rows, 77]  row-major
//   scale_up   in   e8m0  [ceil(rows / 32), 16]  row-major, one per 32 x 5 block of w
//   x          in   f16  [n, 77]  row-major, 1 <= n <= 1
//   bias_gate  in   bf16  [rows]
//   bias_up    in   bf16  [rows]
//   y          out  f16  [n, rows]  row-major
//   math     y[j, r] = silu(sum over c of decode(w_gate) * scale[r, c] * f32(x[j, c]) + bias_gate[r]) * (sum over c of decode(w_up) * scale[r, c] * f32(x[j, c]) + bias_up[r]), products and sums in f32, then rounded once to f16, to nearest even
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of rows, in parallel

constexpr int kCols = 77;                      // columns of w, and of each row of x
constexpr int kRowBytes = 77;                  // bytes of one row of w
constexpr int kRun = 16;                       // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 32;            // rows that share one scale
constexpr int kScaleBlockCols = 5;             // columns that share one scale
constexpr int kScaleCols = 16;                 // scales in one row of scales
constexpr int kMainCols = kCols / kRun * kRun; // columns in whole runs
constexpr int kTail = kCols - kMainCols;       // columns after them
constexpr int kElemBytes = 1;                  // bytes of one element of w
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

// 2^(code - 127); code 0 is the subnormal 2^-127, 255 is NaN (OCP MX 1.0).
static inline float load_scale(const unsigned char* scale, long long at) {
  const unsigned code = scale[at];
  const unsigned bits = code == 0u ? 0x00400000u : code << 23;
  return __builtin_bit_cast(float, code == 255u ? 0x7fc00000u : bits);
}

static inline F32Run multiply_add(F32Run a, F32Run b, F32Run c) { return __builtin_elementwise_fma(a, b, c); }

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

static inline float bf16_to_f32(unsigned short bits) { return __builtin_bit_cast(float, (unsigned)bits << 16); }

// To nearest even; overflow gives infinity.
typedef _Float16 F16OutRun __attribute__((vector_size(2 * kRun)));
static inline U16Run f32_run_to_f16(F32Run value) {
  return __builtin_bit_cast(U16Run, __builtin_convertvector(value, F16OutRun));
}

static inline unsigned short f32_to_f16(float value) { return f32_run_to_f16((F32Run){value})[0]; }

// exp(-a) for a >= 0, with a relative error below 2^-22 (below 2^-149 absolute where the result is subnormal);
// 0 from 104 on and for NaN. exp(-a) = 2^-n exp(r), n the integer nearest to a / ln 2, |r| < 0.35; the
// series' remainder there is below 2^-27.
static inline float exp_of_negative(float a) {
  const float limited = a < 104.0f ? a : 104.0f; // exp(-104) rounds to 0
  const int n = (int)(limited * 0x1.715476p+0f + 0.5f);
  // ln 2 in two parts: n times the first, of 9 bits, is exact.
  const float r = ((float)n * 0x1.63p-1f - limited) + (float)n * -0x1.bd0106p-13f;
  float series = 1.0f / 5040.0f;
  series = series * r + 1.0f / 720.0f;
  series = series * r + 1.0f / 120.0f;
  series = series * r + 1.0f / 24.0f;
  series = series * r + 1.0f / 6.0f;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  // 2^-n in two factors, for subnormal results.
  const float first = __builtin_bit_cast(float, (unsigned)(127 - n / 2) << 23);
  const float second = __builtin_bit_cast(float, (unsigned)(127 - (n - n / 2)) << 23);
  return series * first * second;
}

// 1 / (1 + exp(-z)), without overflow; 0 or 1 for NaN, which its factor brings back.
static inline float sigmoid(float z) {
  const float small = exp_of_negative(z < 0.0f ? -z : z);
  return (z >= 0.0f ? 1.0f : small) / (1.0f + small);
}

// g / (1 + exp(-g)), within 2^-21 of its size and 2^-140.
static inline float activate(float g) { return g * sigmoid(g); }

struct Arguments {
  const unsigned char* w_gate;
  const unsigned char* scale_gate;
  const unsigned char* w_up;
  const unsigned char* scale_up;
  const unsigned short* x;
  const unsigned short* bias_gate;
  const unsigned short* bias_up;
  unsigned short* y;
  long long rows;
  long long n;
};

// One row of weights times each row of x.
static inline void multiply_row(const unsigned char* w, const unsigned char* scale, long long row, const unsigned short* const* x_row, float* total) {
  const unsigned char* w_row = w + row * kRowBytes;
  F32Run sum[kChains][kXColumns] = {};
  const unsigned char* scale_row = scale + (row / kScaleBlockRows) * kScaleCols;
#pragma unroll 2
  for (int at = 0; at + kRun <= kCols; at += kRun) {
    F32Run weight = decode_run(w_row, at);
    for (int i = 0; i < kRun; ++i) weight[i] *= load_scale(scale_row, (at + i) / kScaleBlockCols);
    F32Run* chain = sum[at / kRun % kChains];
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      chain[j] = multiply_add(weight, load_x(x_row[j] + at), chain[j]);
    } // j: rows of x
  } // at: runs of this row
  for (int j = 0; j < kXColumns; ++j) {
    F32Run all_chains = sum[0][j];
    for (int chain = 1; chain < kChains; ++chain) all_chains += sum[chain][j];
    total[j] = sum_of(all_chains);
  } // j: rows of x
  unsigned char w_tail[kRun * kElemBytes] = {};
  __builtin_memcpy(w_tail, w_row + kMainCols * kElemBytes, kTail * kElemBytes);
  {
    F32Run weight = decode_run(w_tail, 0);
    for (int i = 0; i < kTail; ++i) weight[i] *= load_scale(scale_row, (kMainCols + i) / kScaleBlockCols);
    for (int j = 0; j < kXColumns; ++j) {
      unsigned short x_tail[kRun] = {};
      __builtin_memcpy(x_tail, x_row[j] + kMainCols, kTail * sizeof(x_tail[0]));
      total[j] += sum_of(weight * load_x(x_tail));
    } // j: rows of x
  }
}

extern "C" __attribute__((visibility("default"))) void
matvec_fp8_e4m3_s32x5_e8m0_x_f16_y_f16_bias_bf16_gate_silu_c77_n1(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    const long long row = tile;
    const unsigned char* w_gate = arguments->w_gate;
    const unsigned char* scale_gate = arguments->scale_gate;
    const unsigned char* w_up = arguments->w_up;
    const unsigned char* scale_up = arguments->scale_up;
    const unsigned short* bias_gate = arguments->bias_gate;
    const unsigned short* bias_up = arguments->bias_up;
    unsigned short* y = arguments->y;
    const unsigned short* x_row[kXColumns];
    for (int j = 0; j < kXColumns; ++j) x_row[j] = arguments->x + (j < n ? j : n - 1) * kCols;
    float total_gate[kXColumns];
    multiply_row(w_gate, scale_gate, row, x_row, total_gate);
    float total_up[kXColumns];
    multiply_row(w_up, scale_up, row, x_row, total_up);
    for (int j = 0; j < kXColumns; ++j) {
      if (j < n) y[j * rows + row] = f32_to_f16(activate(total_gate[j] + bf16_to_f32(bias_gate[row])) * (total_up[j] + bf16_to_f32(bias_up[row])));
    } // j: rows of x
  } // tile: rows of this call
}
