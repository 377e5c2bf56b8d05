// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/moe_matmul.cpp.in.
//   kernel   moe_matmul_q4_K_x_f32_c512, emitter version 7
//   w        in   q4_K  [experts, rows, 512]  row-major, blocks of 256 elements in 144 bytes
//   ids      in   i32  [slots]  the expert of each slot
//   x        in   f32  [ceil(slots / slots_per_x), 512]  row-major
//   y        out  f32  [slots, rows]  row-major
//   math     y[s, r] = sum over c of decode(w)[ids[s], r, c] * f32(x[s / slots_per_x, c]), products and sums in f32; NaN where no expert has the id
//   tiling   a block of rows of w and one of rows of x are decoded to f32, kChunk columns at a time, and
//            multiplied in tiles whose sums, kRun lanes each, stay in registers
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of blocks of 16 rows of w, in parallel

constexpr int kCols = 512;        // columns of w, and of each row of x
constexpr int kRowBytes = 288;    // bytes of one row of w
constexpr int kRun = 16;          // consecutive elements decoded at a time
constexpr int kBlockElems = 256;  // elements of one block
constexpr int kBlockBytes = 144;  // bytes of one block
constexpr int kTileRows = 2;      // rows of w in one tile
constexpr int kTileColumns = 3;   // rows of x in one tile
constexpr int kBlockRows = 16;    // rows of w decoded together
constexpr int kBlockColumns = 48; // rows of x widened together
constexpr int kChunk = 256;       // columns decoded at a time

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

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// Scales and minima of the eight sub-blocks (32 elements each) of a q4_K or q5_K block, which begins with
// d f16, dmin f16 and 12 bytes that pack eight 6-bit scales and eight 6-bit minima: sub-blocks 0 to 3 in
// the low 6 bits of bytes 0 to 3 and 4 to 7; of sub-blocks 4 to 7 the low 4 bits in bytes 8 to 11 (scale
// low nibble, minimum high nibble) and the top 2 bits above the others'.
struct ScaleMin {
  float scale[8];
  float minimum[8];
};

static inline ScaleMin load_scale_min(const unsigned char* at) {
  const float d = f16_to_f32(load<unsigned short>(at));
  const float dmin = f16_to_f32(load<unsigned short>(at + 2));
  const unsigned first = load<unsigned>(at + 4);
  const unsigned second = load<unsigned>(at + 8);
  const unsigned third = load<unsigned>(at + 12);
  // Four 6-bit numbers in each word, a byte apart.
  const unsigned scales[2] = {first & 0x3f3f3f3fu, (third & 0x0f0f0f0fu) | (first >> 6 & 0x03030303u) << 4};
  const unsigned minima[2] = {second & 0x3f3f3f3fu, (third >> 4 & 0x0f0f0f0fu) | (second >> 6 & 0x03030303u) << 4};
  ScaleMin result;
  for (int i = 0; i < 8; ++i) {
    result.scale[i] = d * (float)(scales[i / 4] >> 8 * (i % 4) & 63u);
    result.minimum[i] = dmin * (float)(minima[i / 4] >> 8 * (i % 4) & 63u);
  } // i: sub-blocks
  return result;
}

// q4_K: 144 bytes for 256 elements: 16 bytes of scales (see ScaleMin), then 4 chunks of 32 bytes; a chunk's
// low nibbles are its first 32 elements, the high nibbles the next 32. value = scale * q - minimum.
struct Block {
  const unsigned char* codes;
  ScaleMin s;
};

static inline Block open_block(const unsigned char* at) { return {at + 16, load_scale_min(at)}; }

static inline F32Run decode_run(const Block& block, int first) {
  const int sub_block = first / 32;
  const U8Run packed = load<U8Run>(block.codes + sub_block / 2 * 32 + first % 32);
  const U32Run q = __builtin_convertvector(packed, U32Run) >> 4 * (sub_block % 2) & 15;
  return __builtin_convertvector((S32Run)q, F32Run) * block.s.scale[sub_block] - block.s.minimum[sub_block];
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
  const int* ids;
  const float* x;
  float* y;
  long long rows;
  long long slots;
  long long slots_per_x;
  long long experts;
};

// An expert's matrix.
struct Matrix {
  const unsigned char* w;
};

// Columns begin to end of a row of w, as f32; zeros fill the last run.
static inline void decode_row(const Matrix* matrix, long long row, int begin, int end, float* out) {
  const unsigned char* w_row = matrix->w + row * kRowBytes;
  for (int b = begin / kBlockElems; b < end / kBlockElems; ++b) {
    const Block block = open_block(w_row + b * kBlockBytes);
#pragma unroll 2
    for (int first = 0; first < kBlockElems; first += kRun) {
      const int at = b * kBlockElems + first;
      const F32Run weight = decode_run(block, first);
      store(out + (at - begin), weight);
    } // first: runs of this block
  } // b: blocks of this row
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
moe_matmul_q4_K_x_f32_c512(const Arguments* arguments, long long block_begin, long long block_end) {
  const long long rows = arguments->rows;
  const long long slots = arguments->slots;
  const long long experts = arguments->experts;
  const int* const ids = arguments->ids;
  alignas(64) float w_block[kBlockRows][kChunk];
  alignas(64) float x_block[kBlockColumns][kChunk];
  F32Run sum[kBlockRows][kBlockColumns];

  for (long long row = block_begin * kBlockRows; row < block_end * kBlockRows && row < rows; row += kBlockRows) {
    const int y_rows = at_most(kBlockRows, rows - row);
    const int block_rows = y_rows;
    for (long long slot = 0; slot < slots; ++slot) {
      if (ids[slot] >= 0 && ids[slot] < experts) continue;
      for (int r = 0; r < y_rows; ++r) arguments->y[slot * rows + row + r] = __builtin_nanf("");
    } // slot: of no expert
    for (long long expert = 0; expert < experts; ++expert) {
      const Matrix matrix = {arguments->w + expert * rows * kRowBytes};
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
            decode_row(&matrix, row + at_most(block_rows - 1, r), first, last, w_block[r]);
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
          float* y_row = arguments->y + slot_of[j] * rows + row;
          for (int r = 0; r < y_rows; ++r) y_row[r] = sum_of(sum[r][j]);
        } // j: rows of x
      } // slot: blocks of the expert's
    } // expert: one after another
  } // row: blocks of rows of w
}
