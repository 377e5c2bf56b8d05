// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/moe_matmul.cpp.in.
//   kernel   moe_matmul_fp8_e4m3_s128x128_f32_x_bf16_y_bf16_bias_f16_gate_silu_c544, emitter version 7
//   w_gate     in   fp8_e4m3  [experts, rows, 544]  row-major
//   scale_gate in   f32  [experts, ceil(rows / 128), 5]  row-major, one per 128 x 128 block of w
//   w_up       in   fp8_e4m3  [experts, rows, 544]  row-major
//   scale_up   in   f32  [experts, ceil(rows / 128), 5]  row-major, one per 128 x 128 block of w
//   ids        in   i32  [slots]  the expert of each slot
//   x          in   bf16  [ceil(slots / slots_per_x), 544]  row-major
//   bias_gate  in   f16  [experts, rows]
//   bias_up    in   f16  [experts, rows]
//   y          out  bf16  [slots, rows]  row-major
//   math     y[s, r] = silu(sum over c of decode(w_gate) * scale[ids[s], r, c] * f32(x[s / slots_per_x, c]) + bias_gate[ids[s], r]) * (sum over c of decode(w_up) * scale[ids[s], r, c] * f32(x[s / slots_per_x, c]) + bias_up[ids[s], r]), products and sums in f32, then rounded once to bf16, to nearest even; NaN where no expert has the id
//   tiling   a block of rows of w and one of rows of x are decoded to f32, kChunk columns at a time, and
//            multiplied in tiles whose sums, kRun lanes each, stay in registers
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of blocks of 8 rows of w, in parallel

constexpr int kCols = 544;           // columns of w, and of each row of x
constexpr int kRowBytes = 544;       // bytes of one row of w
constexpr int kRun = 16;             // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 128; // rows that share one scale
constexpr int kScaleBlockCols = 128; // columns that share one scale
constexpr int kScaleCols = 5;        // scales in one row of scales
constexpr int kTileRows = 2;         // rows of w in one tile
constexpr int kTileColumns = 3;      // rows of x in one tile
constexpr int kBlockRows = 16;       // rows of w decoded together
constexpr int kBlockColumns = 48;    // rows of x widened together
constexpr int kChunk = 256;          // columns decoded at a time
constexpr int kYRows = 8;            // rows of y, of each matrix, in a block

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

static inline float load_scale(const float* scale, long long at) { return scale[at]; }

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

static inline F32Run bf16_run_to_f32(U16Run bits) { return (F32Run)(__builtin_convertvector(bits, U32Run) << 16); }

static inline F32Run load_x(const unsigned short* at) { return bf16_run_to_f32(load<U16Run>(at)); }

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// To nearest even; a NaN stays one.
static inline U16Run f32_run_to_bf16(F32Run value) {
  const U32Run bits = (U32Run)value;
  const U32Run rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U32Run chosen = ((bits & 0x7fffffffu) > 0x7f800000u) ? (bits | 0x00400000u) : rounded;
  return __builtin_convertvector(chosen >> 16, U16Run);
}

static inline unsigned short f32_to_bf16(float value) { return f32_run_to_bf16((F32Run){value})[0]; }

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

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
  const float* scale_gate;
  const unsigned char* w_up;
  const float* scale_up;
  const int* ids;
  const unsigned short* x;
  const unsigned short* bias_gate;
  const unsigned short* bias_up;
  unsigned short* y;
  long long rows;
  long long slots;
  long long slots_per_x;
  long long experts;
};

// An expert's matrix.
struct Matrix {
  const unsigned char* w;
  const float* scale;
};

// Columns begin to end of a row of w, as f32; zeros fill the last run.
static inline void decode_row(const Matrix* matrix, long long row, int begin, int end, float* out) {
  const unsigned char* w_row = matrix->w + row * kRowBytes;
  const float* scale_row = matrix->scale + (row / kScaleBlockRows) * kScaleCols;
#pragma unroll 2
  for (int at = begin; at + kRun <= end; at += kRun) {
    F32Run weight = decode_run(w_row, at);
    weight *= load_scale(scale_row, at / kScaleBlockCols);
    store(out + (at - begin), weight);
  } // at: runs of this row
}

// Columns begin to end of row j of x, as f32; zeros fill the last run.
static inline void widen_row(const Arguments* arguments, long long j, int begin, int end, float* out) {
  const unsigned short* x_row = arguments->x + j * kCols;
  for (int at = begin; at + kRun <= end; at += kRun) store(out + (at - begin), load_x(x_row + at));
}

// sum[r * kBlockColumns + j] += w[r] * x[j], lane by lane.
static inline void multiply_tile(const float (*w)[kChunk], const float (*x)[kChunk], int columns, F32Run* sum) {
  F32Run tile[kTileRows][kTileColumns];
#pragma unroll
  for (int r = 0; r < kTileRows; ++r) {
#pragma unroll
    for (int j = 0; j < kTileColumns; ++j) tile[r][j] = sum[r * kBlockColumns + j];
  } // r: rows of w
  for (int at = 0; at < columns; at += kRun) {
    F32Run weight[kTileRows];
#pragma unroll
    for (int r = 0; r < kTileRows; ++r) weight[r] = load<F32Run>(w[r] + at);
#pragma unroll
    for (int j = 0; j < kTileColumns; ++j) {
      const F32Run value = load<F32Run>(x[j] + at);
#pragma unroll
      for (int r = 0; r < kTileRows; ++r) tile[r][j] = multiply_add(weight[r], value, tile[r][j]);
    } // j: rows of x
  } // at: runs of this chunk
#pragma unroll
  for (int r = 0; r < kTileRows; ++r) {
#pragma unroll
    for (int j = 0; j < kTileColumns; ++j) sum[r * kBlockColumns + j] = tile[r][j];
  } // r: rows of w
}

static inline int at_most(int limit, long long value) { return value < limit ? (int)value : limit; }

extern "C" __attribute__((visibility("default"))) void
moe_matmul_fp8_e4m3_s128x128_f32_x_bf16_y_bf16_bias_f16_gate_silu_c544(const Arguments* arguments, long long block_begin, long long block_end) {
  const long long rows = arguments->rows;
  const long long slots = arguments->slots;
  const long long experts = arguments->experts;
  const int* const ids = arguments->ids;
  alignas(64) float w_block[kBlockRows][kChunk];
  alignas(64) float x_block[kBlockColumns][kChunk];
  F32Run sum[kBlockRows][kBlockColumns];

  for (long long row = block_begin * kYRows; row < block_end * kYRows && row < rows; row += kYRows) {
    const int y_rows = at_most(kYRows, rows - row);
    const int block_rows = kBlockRows;
    for (long long slot = 0; slot < slots; ++slot) {
      if (ids[slot] >= 0 && ids[slot] < experts) continue;
      for (int r = 0; r < y_rows; ++r) arguments->y[slot * rows + row + r] = f32_to_bf16(__builtin_nanf(""));
    } // slot: of no expert
    for (long long expert = 0; expert < experts; ++expert) {
      const Matrix matrix_gate = {arguments->w_gate + expert * rows * kRowBytes, arguments->scale_gate + expert * ((rows + kScaleBlockRows - 1) / kScaleBlockRows) * kScaleCols};
      const Matrix matrix_up = {arguments->w_up + expert * rows * kRowBytes, arguments->scale_up + expert * ((rows + kScaleBlockRows - 1) / kScaleBlockRows) * kScaleCols};
      for (long long slot = 0; slot < slots;) {
        long long slot_of[kBlockColumns];
        int block_columns = 0;
        for (; slot < slots && block_columns < kBlockColumns; ++slot) {
          if (ids[slot] == expert) slot_of[block_columns++] = slot;
        } // slot: of the expert
        if (block_columns == 0) break;
        for (int r = 0; r < block_rows + kTileRows - 1 && r < kBlockRows; ++r) {
          for (int j = 0; j < block_columns + kTileColumns - 1 && j < kBlockColumns; ++j) sum[r][j] = (F32Run){};
        } // r: rows of w
        for (int first = 0; first < kCols; first += kChunk) {
          const int last = first + at_most(kChunk, kCols - first);
          // A tile beyond the edge repeats the last row.
          for (int r = 0; r < block_rows + kTileRows - 1 && r < kBlockRows; ++r) {
            decode_row(r < kYRows ? &matrix_gate : &matrix_up, row + at_most(y_rows - 1, r % kYRows), first, last, w_block[r]);
          } // r: rows of w
          for (int j = 0; j < block_columns + kTileColumns - 1 && j < kBlockColumns; ++j) {
            widen_row(arguments, slot_of[at_most(block_columns - 1, j)] / arguments->slots_per_x, first, last, x_block[j]);
          } // j: rows of x
          for (int j = 0; j < block_columns; j += kTileColumns) {
            for (int r = 0; r < block_rows; r += kTileRows) {
              multiply_tile(w_block + r, x_block + j, last - first, &sum[r][j]);
            } // r: tiles of rows of w
          } // j: tiles of rows of x
        } // first: chunks of columns
        for (int j = 0; j < block_columns; ++j) {
          unsigned short* y_row = arguments->y + slot_of[j] * rows + row;
          for (int r = 0; r < y_rows; ++r) y_row[r] = f32_to_bf16(activate(sum_of(sum[r][j]) + f16_to_f32(arguments->bias_gate[expert * rows + row + r])) * (sum_of(sum[kYRows + r][j]) + f16_to_f32(arguments->bias_up[expert * rows + row + r])));
        } // j: rows of x
      } // slot: blocks of the expert's
    } // expert: one after another
  } // row: blocks of rows of w
}
