// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matmul.cpp.in.
//   kernel   matmul_mxfp4_s1x32_e8m0_x_f32_c512, emitter version 6
//   w        in   mxfp4  [rows, 512]  row-major, blocks of 32 elements in 16 bytes
//   scale    in   e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   x        in   f32  [n, 512]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32
//   tiling   a block of rows of w and one of rows of x are decoded to f32, kChunk columns at a time, and
//            multiplied in tiles whose sums, kRun lanes each, stay in registers
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: halves from a table in a register, times the block's scale
//   launch   ranges of blocks of 16 rows of w, in parallel

constexpr int kCols = 512;          // columns of w, and of each row of x
constexpr int kRowBytes = 256;      // bytes of one row of w
constexpr int kRun = 16;            // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 32; // columns that share one scale
constexpr int kScaleCols = 16;      // scales in one row of scales
constexpr int kTileRows = 2;        // rows of w in one tile
constexpr int kTileColumns = 3;     // rows of x in one tile
constexpr int kBlockRows = 16;      // rows of w decoded together
constexpr int kBlockColumns = 48;   // rows of x widened together
constexpr int kChunk = 256;         // columns decoded at a time

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

// Exact e2m1 (OCP MX 1.0), 16 codes in 8 bytes, the first of two in the low nibble: bit 3 is the sign, the
// other bits choose one of 0, 1, 2, 3, 4, 6, 8 and 12 halves. Code 8 is -0.
static inline F32Run e2m1_run_to_f32(const unsigned char* at) {
  typedef unsigned char U8x8 __attribute__((vector_size(8)));
  const U8x8 pairs = load<U8x8>(at);
  const U8Run twice = __builtin_shufflevector(pairs, pairs, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const U32Run nibble = {0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4};
  const U32Run codes = __builtin_convertvector(twice, U32Run) >> nibble;
  const U32Run halves = ((U32Run){} + 0xc8643210u) >> ((codes & 7u) << 2) & 15u;
  const F32Run magnitude = __builtin_convertvector((S32Run)halves, F32Run) * 0.5f;
  return (F32Run)((U32Run)magnitude | (codes & 8u) << 28);
}

static inline F32Run decode_run(const unsigned char* row, long long col) { return e2m1_run_to_f32(row + col / 2); }

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

static inline F32Run load_x(const float* at) { return load<F32Run>(at); }

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

struct Arguments {
  const unsigned char* w;
  const unsigned char* scale;
  const float* x;
  float* y;
  long long rows;
  long long n;
};

// Columns begin to end of a row of w, as f32; zeros fill the last run.
static inline void decode_row(const Arguments* arguments, long long row, int begin, int end, float* out) {
  const unsigned char* w_row = arguments->w + row * kRowBytes;
  const unsigned char* scale_row = arguments->scale + (row) * kScaleCols;
#pragma unroll 2
  for (int at = begin; at + kRun <= end; at += kRun) {
    F32Run weight = decode_run(w_row, at);
    weight *= load_scale(scale_row, at / kScaleBlockCols);
    store(out + (at - begin), weight);
  } // at: runs of this row
}

// Columns begin to end of row j of x, as f32; zeros fill the last run.
static inline void widen_row(const Arguments* arguments, long long j, int begin, int end, float* out) {
  const float* x_row = arguments->x + j * kCols;
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
matmul_mxfp4_s1x32_e8m0_x_f32_c512(const Arguments* arguments, long long block_begin, long long block_end) {
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
