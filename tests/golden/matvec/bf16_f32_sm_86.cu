// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/float_matvec.cu.in.
//   kernel   matvec_bf16_x_f32_c512_n1, emitter version 7
//   w        in   bf16  [rows, 512]  row-major
//   x        in   f32  [n, 512]  row-major, n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, a number type of the target: mma m16n8k16 bf16, x in 3 terms
//   launch   grid (at most ceil(rows / 16), 1, 1), block (128, 1, 1), 4608 bytes of dynamic shared memory
//
// w is cut into units of 16 rows and 64 columns. A warp multiplies every 4th unit of 16 rows by x, which it
// has as terms of 16 bits in the columns of an mma; the warps' sums meet once for 16 rows.

constexpr int kCols = 512;                       // columns of w, and of each row of x
constexpr int kRowBytes = 1024;                  // bytes of one row of w
constexpr int kUnits = 8;                        // units side by side, of 16 rows
constexpr int kRowPieces = 2;                    // 64 bytes of each row, in a unit
constexpr int kUnitCols = 64;                    // columns of a unit
constexpr int kPieceCols = 8;                    // columns of 16 bytes of a row
constexpr int kHalves = 1;                       // times 32 columns, in 64 bytes of a row
constexpr int kThreads = 128;                    // threads per CTA
constexpr int kWarpThreads = 32;                 // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kXColumns = 1;                     // rows of x that a launch can use
constexpr int kTerms = 3;                        // 16-bit numbers whose sum is a number of x
constexpr int kTermColumns = kXColumns * kTerms; // columns of mma that are used
constexpr int kGroups = 1;                       // mma side by side, of eight columns
constexpr int kTermBytes = 64 * kTermColumns;    // bytes of the terms of 32 columns of x
constexpr int kXQuads = (kUnitCols + 127) / 128; // times four columns of x that a lane prepares of a unit
constexpr int kUnitsPerWarp = 2;
constexpr int kBatch = 2;                        // units of x that a warp has on their way at a time
constexpr int kXUnitBytes = 384;                 // bytes of the terms of a unit's columns
constexpr int kSecond = 1;                       // of four columns the one that shares a pair with the first
constexpr float kUp = 1.0f;                      // takes back what converted weights are too small
constexpr int kPartialAt = 3072;                 // bytes of shared memory before the sums of warps
constexpr float kTermStep = 1.0f;                // by what each further term is too large
constexpr float kMostLeft = 0.0f;                // share of a number that terms may leave: 2^-21 times the step of the last
using XType = float;

__device__ __forceinline__ float load_x(const float* x, long long i) { return x[i]; }

__device__ __forceinline__ float magnitude(float value) { return fabsf(value); }

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

__device__ __forceinline__ float bf16_to_f32(unsigned short bits) {
  return __uint_as_float((unsigned)bits << 16);
}

__device__ __forceinline__ float decode_element(const unsigned char* row, int col) {
  return bf16_to_f32(((const unsigned short*)row)[col]);
}

// Where a lane is: at its first piece of a unit, in the first of its rows. Past the end both rows are the last one,
// whose sums are not stored twice.
struct WeightCursor {
  const unsigned char* at;
  int second; // bytes from the first row to the second
  int unit;
  int tile;
};

__device__ __forceinline__ long long row_of(int tile, int lane, int r, long long rows) {
  return min_of(16ll * tile + lane / 4 + 8 * r, rows - 1);
}

__device__ __forceinline__ WeightCursor weight_cursor(const unsigned char* w, long long rows, int tile, int warp,
                                                      int lane) {
  const long long first = row_of(tile, lane, 0, rows);
  const int apart = (int)(row_of(tile, lane, 1, rows) - first);
  return {w + first * kRowBytes + 64 * kRowPieces * warp + 16 * (lane % 4), apart * kRowBytes, warp, tile};
}

__device__ __forceinline__ void advance(WeightCursor& cursor, const unsigned char* w, long long rows, int warp,
                                        int lane) {
  cursor.at += 64 * kRowPieces * kWarps;
  cursor.unit += kWarps;
  if (cursor.unit >= kUnits) cursor = weight_cursor(w, rows, cursor.tile + (int)gridDim.x, warp, lane);
}

struct alignas(16) Words4 {
  unsigned word[4];
};

// Four neighbouring columns of x.
__device__ __forceinline__ void load_x4(const float* x, float (&value)[4]) {
  const Words4 words = *(const Words4*)x;
#pragma unroll
  for (int i = 0; i < 4; ++i) value[i] = __uint_as_float(words.word[i]);
}

// To nearest even.
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ unsigned short narrow(float value) { return f32_to_bf16(value); }
__device__ __forceinline__ float widen(unsigned short bits) { return bf16_to_f32(bits); }

__device__ __forceinline__ float x_power(const float (&)[kXQuads][4]) { return 1.0f; }
__device__ __forceinline__ void store_factors(unsigned char*, int, int, float) {}
__device__ __forceinline__ float x_factor(const unsigned char*, int) { return kUp; }

struct alignas(8) Words2 {
  unsigned word[2];
};

// Where column `col` of a unit, of four neighbours the first, lies in the terms: a lane's 16 bytes of w meet its columns.
__device__ __forceinline__ constexpr int place_of_x(int col) {
  const int of_lane = col % (4 * kPieceCols);
  return (col / (4 * kPieceCols) * kHalves + of_lane % kPieceCols / 8) * kTermBytes + of_lane / kPieceCols * 16 +
         col % 8 / 4 * 8;
}

// Writes the terms of a unit's columns of row j of x: each is the nearest to what those before it leave. Returns
// whether they leave more than 2^-21 of some number.
__device__ __forceinline__ bool store_terms(const float (&value)[kXQuads][4], int j, int lane, unsigned char* x_unit) {
  const float power = x_power(value);
  bool leaves = false;
#pragma unroll
  for (int i = 0; i < kXQuads; ++i) {
    unsigned short bits[kTerms][4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float scaled = value[i][e] * power;
      float rest = scaled;
#pragma unroll
      for (int t = 0; t < kTerms; ++t) {
        bits[t][e] = narrow(rest);
        rest = (rest - widen(bits[t][e])) * kTermStep;
      } // t: terms
      leaves |= kMostLeft == 0.0f ? rest != 0.0f : magnitude(rest) > kMostLeft * magnitude(scaled);
    } // e: columns
#pragma unroll
    for (int t = 0; t < kTerms && 4 * lane + 128 * i < kUnitCols; ++t) {
      *(Words2*)(x_unit + place_of_x(4 * lane + 128 * i) + (j * kTerms + t) * 64) = {
          {bits[t][0] | (unsigned)bits[t][kSecond] << 16, bits[t][3 - kSecond] | (unsigned)bits[t][3] << 16}};
    } // t: terms
  } // i: four columns each
  store_factors(x_unit, j, lane, power);
  return leaves;
}

// Writes the terms of x that this warp multiplies by, those of units warp, warp + kWarps, ... Where they leave too much of
// some number a NaN stands among them, which all sums of the warp get.
__device__ __forceinline__ void prepare_terms(const XType* x, long long n, int warp, int lane, unsigned char* terms) {
  bool leaves = false;
#pragma unroll 1
  for (int first = 0; first < kXColumns * kUnitsPerWarp; first += kBatch) {
    float value[kBatch][kXQuads][4]; // all on their way before the first is used
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int j = (first + b) / kUnitsPerWarp;
      const int u = warp + (first + b) % kUnitsPerWarp * kWarps;
#pragma unroll
      for (int i = 0; i < kXQuads; ++i) {
        const int col = u * kUnitCols + 4 * lane + 128 * i;
#pragma unroll
        for (int e = 0; e < 4; ++e) value[b][i][e] = 0.0f;
        if (j < n && 4 * lane + 128 * i < kUnitCols && col < kCols) load_x4(x + (long long)j * kCols + col, value[b][i]);
      } // i: four columns each
    } // b: units
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int j = (first + b) / kUnitsPerWarp;
      const int u = warp + (first + b) % kUnitsPerWarp * kWarps;
      if (j < kXColumns && u < kUnits) leaves |= store_terms(value[b], j, lane, terms + u * kXUnitBytes);
    } // b: units
  } // first: of a batch of this warp's units, for one row of x after another
  if (__any_sync(0xffffffffu, leaves) && lane == 0) *(unsigned short*)(terms + warp * kXUnitBytes) = 0x7fffu;
  __syncwarp();
}

// What one lane holds of a unit: its part of each piece of its two rows.
struct WeightUnit {
  Words4 piece[2][kRowPieces];
};

// Bytes from a lane's first piece of a unit to another.
__device__ __forceinline__ int piece_at(int, int, int piece) { return 64 * piece; }

// A unit in registers: where a piece has been taken, that of the next unit begins to come.
struct WeightSource {
  WeightUnit ahead;
  WeightCursor next;
  bool has_next;

  __device__ __forceinline__ void load(int p, int lane) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      ahead.piece[r][p] = *(const Words4*)(next.at + r * next.second + piece_at(next.unit, lane, p));
    } // r: rows of this lane
  }

  __device__ __forceinline__ void take(int p, int lane, Words4 (&row)[2]) {
    row[0] = ahead.piece[0][p];
    row[1] = ahead.piece[1][p];
    if (has_next) load(p, lane);
  }
};

// What one lane feeds to the mma of step 0 or 1 of a piece: pairs of columns of its two rows.
__device__ __forceinline__ void mma_operand(const Words4& row0, const Words4& row1, int step, unsigned (&a)[4]) {
  a[0] = row0.word[2 * step];
  a[1] = row1.word[2 * step];
  a[2] = row0.word[2 * step + 1];
  a[3] = row1.word[2 * step + 1];
}

__device__ __forceinline__ void note_special(const Words4&, unsigned&) {}

// sum += a b for 16 rows, 8 rows of x and 16 columns; bf16, sums in f32.
__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sum += the products of one piece and x. `column_at`: where this lane's columns of each group of eight begin. `special`
// gets the top bit of a byte where the conversion doesn't hold.
__device__ __forceinline__ void add_piece(WeightSource& source, int piece, const unsigned char* x_unit, int lane,
                                          const int (&column_at)[kGroups], float (&sum)[kGroups][4],
                                          unsigned& special) {
  Words4 row[2];
  source.take(piece, lane, row);
  note_special(row[0], special);
  note_special(row[1], special);
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    unsigned a[2][4];
#pragma unroll
    for (int s = 0; s < 2; ++s) mma_operand(row[0], row[1], 2 * half + s, a[s]);
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const Words4 x = *(const Words4*)(x_unit + (piece * kHalves + half) * kTermBytes + column_at[k]);
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const unsigned b[2] = {x.word[2 * s], x.word[2 * s + 1]};
        mma(sum[k], a[s], b);
      } // s: 16 columns each
    } // k: groups of eight columns
  } // half: 32 columns each
}

// The scales of a unit, each of a chunk of its columns.
struct UnitScales {
  __device__ __forceinline__ float of(int, int) const { return 1.0f; }
};

// Adds to `total` the products of a unit and x.
__device__ __forceinline__ void float_product(WeightSource& source, const UnitScales&, const unsigned char* x_unit,
                                              int lane, const int (&column_at)[kGroups], float (&total)[kGroups][4],
                                              unsigned& special) {
#pragma unroll
  for (int p = 0; p < kRowPieces; ++p) add_piece(source, p, x_unit, lane, column_at, total, special);
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads, 6)
matvec_bf16_x_f32_c512_n1(
    const unsigned char* __restrict__ w,
    const float* __restrict__ x,
    float* __restrict__ y,
    long long rows,
    long long n) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x % kWarpThreads;
  const int warp = threadIdx.x / kWarpThreads;
  const int tiles = (int)((rows + 15) / 16);
  float* partial = (float*)(shared + kPartialAt);

  WeightSource source = {{}, weight_cursor(w, rows, (int)blockIdx.x, warp, lane), false};
  if (source.next.tile < tiles && source.next.unit < kUnits) {
#pragma unroll
    for (int p = 0; p < kRowPieces; ++p) source.load(p, lane);
  }
  prepare_terms(x, n, warp, lane, shared);

  int column_at[kGroups]; // among the terms: lanes whose columns of an mma are none have the last one
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    const int column = 8 * k + lane / 4;
    column_at[k] = (column < kTermColumns ? column : kTermColumns - 1) * 64 + lane % 4 * 16;
  } // k: groups of eight columns

  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    float total[kGroups][4] = {};
    unsigned special = 0;
#pragma unroll 1
    for (int u = warp; u < kUnits; u += kWarps) {
      const UnitScales scales;
      source.next.unit = u; // as it is, but needs no registers meanwhile
      source.next.tile = tile;
      advance(source.next, w, rows, warp, lane);
      source.has_next = source.next.tile < tiles;
      float_product(source, scales, shared + u * kXUnitBytes, lane, column_at, total, special);
    } // u: units of this warp

    const int parity = (unsigned)tile / gridDim.x % 2u; // one half is written while the other may be read
    float* own = partial + (parity * kWarps + warp) * kTermColumns * 16 + lane / 4;
    bool is_plain = (special & 0x80808080u) != 0;
#pragma unroll
    for (int i = 0; i < 4 * kGroups; ++i) {
      is_plain = is_plain || !(magnitude(total[i / 4][i % 4]) < __uint_as_float(0x7f800000u));
    } // i: sums of this lane
    if (!__any_sync(0xffffffffu, is_plain)) {
#pragma unroll
      for (int i = 0; i < 4 * kGroups; ++i) {
        const int column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
        if (column < kTermColumns) own[column * 16 + i % 4 / 2 * 8] = total[i / 4][i % 4];
      } // i: sums of this lane
    } else {
      // Infinities and NaNs, of which terms of 0 make others, and numbers of which terms leave too much: f32
      // arithmetic on numbers as they are. Of four lanes each takes every fourth column.
#pragma unroll 1
      for (int i = 0; i < 2 * kXColumns; ++i) {
        const long long row = row_of(tile, lane, i % 2, rows);
        float plain = 0.0f;
#pragma unroll 1
        for (int u = warp; i / 2 < n && u < kUnits; u += kWarps) {
          float unit_sum = 0.0f;
#pragma unroll 1
          for (int col = u * kUnitCols + lane % 4; col < (u + 1) * kUnitCols && col < kCols; col += 4) {
            unit_sum += decode_element(w + row * kRowBytes, col) * load_x(x, (long long)(i / 2) * kCols + col);
          } // col: of this lane
          plain += unit_sum;
        } // u: units of this warp
        plain += __shfl_xor_sync(0xffffffffu, plain, 1);
        plain += __shfl_xor_sync(0xffffffffu, plain, 2);
#pragma unroll
        for (int t = 0; t < kTerms; ++t) {
          if (lane % 4 == 0) own[(i / 2 * kTerms + t) * 16 + i % 2 * 8] = t == 0 ? plain : 0.0f;
        } // t: terms
      } // i: two rows, for each row of x
    }
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < 16 * kXColumns; i += kThreads) {
      const int j = i / 16;
      const long long row = 16ll * tile + i % 16;
      float sum = 0.0f;
#pragma unroll
      for (int from = 0; from < kWarps; ++from) {
#pragma unroll
        for (int t = 0; t < kTerms; ++t) {
          sum += partial[((parity * kWarps + from) * kTermColumns + j * kTerms + t) * 16 + i % 16];
        } // t: terms
      } // from: warps
      if (row < rows && j < n) store_element(y + j * rows + row, sum);
    } // i: results of 16 rows
  } // tile: 16 rows each
}
