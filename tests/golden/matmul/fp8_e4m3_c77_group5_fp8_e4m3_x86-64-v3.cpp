// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matmul.cpp.in.
//   kernel   matmul_fp8_e4m3_afp8_x_fp8_e4m3_g5_c77, emitter version 6
//   w        in   fp8_e4m3  [rows, 77]  row-major
//   x        in   fp8_e4m3  [n, 77]  row-major
//   x_scale  in   f32  [n, 16]  row-major, one per group of 5 columns
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]) * x_scale, products and sums in f32
//   tiling   a block of rows of w and one of rows of x are decoded to f32, kChunk columns at a time, and
//            multiplied in tiles whose sums, kRun lanes each, stay in registers
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: bits moved into an f32, one multiply
//   launch   ranges of blocks of 16 rows of w, in parallel

constexpr int kCols = 77;                      // columns of w, and of each row of x
constexpr int kRowBytes = 77;                  // bytes of one row of w
constexpr int kRun = 16;                       // consecutive elements decoded at a time
constexpr int kMainCols = kCols / kRun * kRun; // columns in whole runs
constexpr int kTail = kCols - kMainCols;       // columns after them
constexpr int kElemBytes = 1;                  // bytes of one element of w
constexpr int kTileRows = 2;                   // rows of w in one tile
constexpr int kTileColumns = 3;                // rows of x in one tile
constexpr int kBlockRows = 16;                 // rows of w decoded together
constexpr int kBlockColumns = 48;              // rows of x widened together
constexpr int kChunk = 256;                    // columns decoded at a time
constexpr int kXGroup = 5;                     // columns of x that share one scale
constexpr int kXScaleCols = 16;                // scales in one row of scales of x

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

static inline F32Run load_x(const unsigned char* at) { return e4m3_run_to_f32(load<U8Run>(at)); }

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

// Each element times its own scale.
static inline F32Run scaled(F32Run value, const float* scale_row, int at) {
  for (int i = 0; i < kRun; ++i) {
    const int col = at + i < kCols ? at + i : kCols - 1;
    value[i] *= scale_row[col / kXGroup];
  } // i: elements of this run
  return value;
}

struct Arguments {
  const unsigned char* w;
  const unsigned char* x;
  const float* x_scale;
  float* y;
  long long rows;
  long long n;
};

// Columns begin to end of a row of w, as f32; zeros fill the last run.
static inline void decode_row(const Arguments* arguments, long long row, int begin, int end, float* out) {
  const unsigned char* w_row = arguments->w + row * kRowBytes;
#pragma unroll 2
  for (int at = begin; at + kRun <= end; at += kRun) {
    const F32Run weight = decode_run(w_row, at);
    store(out + (at - begin), weight);
  } // at: runs of this row
  if (end == kCols) {
    unsigned char w_tail[kRun * kElemBytes] = {};
    __builtin_memcpy(w_tail, w_row + kMainCols * kElemBytes, kTail * kElemBytes);
    {
      const F32Run weight = decode_run(w_tail, 0);
      store(out + (kMainCols - begin), weight);
    }
  }
}

// Columns begin to end of row j of x, as f32; zeros fill the last run.
static inline void widen_row(const Arguments* arguments, long long j, int begin, int end, float* out) {
  const unsigned char* x_row = arguments->x + j * kCols;
  const float* scale_row = arguments->x_scale + j * kXScaleCols;
  for (int at = begin; at + kRun <= end; at += kRun) store(out + (at - begin), scaled(load_x(x_row + at), scale_row, at));
  if (end == kCols) {
    unsigned char x_tail[kRun] = {};
    __builtin_memcpy(x_tail, x_row + kMainCols, kTail * sizeof(x_tail[0]));
    store(out + (kMainCols - begin), scaled(load_x(x_tail), scale_row, kMainCols));
  }
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
matmul_fp8_e4m3_afp8_x_fp8_e4m3_g5_c77(const Arguments* arguments, long long block_begin, long long block_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  alignas(64) float w_block[kBlockRows][kChunk];
  alignas(64) float x_block[kBlockColumns][kChunk];
  F32Run sum[kBlockRows][kBlockColumns];

  for (long long row = block_begin * kBlockRows; row < block_end * kBlockRows && row < rows; row += kBlockRows) {
    const int block_rows = at_most(kBlockRows, rows - row);
    for (long long column = 0; column < n; column += kBlockColumns) {
      const int block_columns = at_most(kBlockColumns, n - column);
      for (int r = 0; r < block_rows + kTileRows - 1 && r < kBlockRows; ++r) {
        for (int j = 0; j < block_columns + kTileColumns - 1 && j < kBlockColumns; ++j) sum[r][j] = (F32Run){};
      } // r: rows of w
      for (int first = 0; first < kCols; first += kChunk) {
        const int last = first + at_most(kChunk, kCols - first);
        // A tile beyond the edge repeats the last row.
        for (int r = 0; r < block_rows + kTileRows - 1 && r < kBlockRows; ++r) {
          decode_row(arguments, row + at_most(block_rows - 1, r), first, last, w_block[r]);
        } // r: rows of w
        for (int j = 0; j < block_columns + kTileColumns - 1 && j < kBlockColumns; ++j) {
          widen_row(arguments, column + at_most(block_columns - 1, j), first, last, x_block[j]);
        } // j: rows of x
        for (int j = 0; j < block_columns; j += kTileColumns) {
          for (int r = 0; r < block_rows; r += kTileRows) {
            multiply_tile(w_block + r, x_block + j, last - first, &sum[r][j]);
          } // r: tiles of rows of w
        } // j: tiles of rows of x
      } // first: chunks of columns
      for (int j = 0; j < block_columns; ++j) {
        float* y_row = arguments->y + (column + j) * rows + row;
        for (int r = 0; r < block_rows; ++r) y_row[r] = sum_of(sum[r][j]);
      } // j: rows of x
    } // column: blocks of rows of x
  } // row: blocks of rows of w
}
