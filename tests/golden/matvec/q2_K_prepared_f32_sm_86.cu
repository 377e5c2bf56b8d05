// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/unit_matvec.cu.in.
//   kernel   matvec_q2_K_x_f32_prepared_c1024_n1, emitter version 7
//   w        in   q2_K  [rows, 1024]  prepared
//   x        in   f32  [n, 1024]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), x as integers of 31 bits times a power of two for each 256 columns, sums of integers, then of f32
//   arch     sm_86, no instruction decodes q2_K blocks: mma m16n8k32 u8: 4 digits of x
//   launch   grid (at most ceil(rows / 32), 1, 1), block (256, 1, 1), 10624 bytes of dynamic shared memory
//
// w is cut into units of 16 rows and 256 columns. Of the units of 16 rows, a tile, a warp multiplies every 4th by x,
// which it has as four digits of base 256 in the columns of an integer mma; the warps' sums meet once for a tile.

constexpr int kCols = 1024;                         // columns of w, and of each row of x
constexpr int kUnits = 4;                           // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 1344;                    // bytes of a unit
constexpr int kCodeVectors = 2;                     // 16-byte vectors of codes that a lane has of a unit
constexpr int kThreads = 256;                       // threads per CTA
constexpr int kWarpThreads = 32;                    // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kTileWarps = 4;                       // warps that share a tile of 16 rows
constexpr int kTileGroups = kWarps / kTileWarps;    // tiles side by side in a CTA
constexpr int kGroupThreads = kTileWarps * kWarpThreads;
constexpr int kSteps = 1;                           // units that a warp has of a tile, or of half of one; the last may be none
constexpr int kMatrices = 1;                        // with weights
constexpr int kHalves = 1;                          // 16 rows each of a tile, of one matrix or of gate and up
constexpr int kXColumns = 1;                        // rows of x that a launch can use
constexpr int kSumBytes = 32;                       // bytes of a digit's sums over blocks
constexpr int kSumStep = kSumBytes + 4;             // with the factor of the digit
constexpr int kXStep = kTileWarps;                  // from one unit to the next whose digits are made at once
constexpr int kXUnitBytes = 1168;                   // bytes of the digits and sums of 256 columns of x
constexpr int kXUnitStep = kXColumns * kXUnitBytes; // of all rows of x
constexpr int kGroupXBytes = 4672;                  // of all columns, for the warps of a tile
constexpr int kInfinityDigits = 0x01010101;         // for an infinity in x: 1 in each, 0 times the factor were NaN
constexpr int kZeroBytes = 256;                     // zeros for the lanes whose columns of an mma are none
constexpr int kPartialAt = 9600;                    // bytes of shared memory before the sums of warps
constexpr int kXUnits = kUnits;                     // units whose digits of a row of x are there at a time
constexpr float kDown = 0.25f;                      // takes back what codes and levels are too large
using XType = float;

// By what sums are multiplied before a pair's are added, whose codes lie further up in their bytes.
__device__ __forceinline__ constexpr int pair_step(int pair) {
  return pair == 0 ? 1 : pair == 1 ? 4 : pair == 2 ? 4 : 4;
}

struct alignas(16) Words4 {
  unsigned word[4];
};

using Head = Words4;

using Tail = unsigned;
__device__ __forceinline__ Tail load_tail(const unsigned char* at, int row) {
  return *(const Tail*)(at + 512 * kCodeVectors + 16 * (int)sizeof(Head) + row * 4);
}

// Word q of a row's head, for lane q of four.
using OwnWord = unsigned;
__device__ __forceinline__ OwnWord load_own_word(const unsigned char* at, int row, int lane) {
  return *(const OwnWord*)(at + 512 * kCodeVectors + row * (int)sizeof(Head) + 4 * (lane % 4));
}

// What one lane holds of a unit: its codes, the heads and the tails of its two rows.
struct Unit {
  Words4 codes[kCodeVectors];
  Head head[2];
  Tail tail[2];
  OwnWord own[2];
};

__device__ __forceinline__ Unit load_unit(const unsigned char* at, int lane) {
  Unit unit;
#pragma unroll
  for (int i = 0; i < kCodeVectors; ++i) unit.codes[i] = *(const Words4*)(at + 512 * i + 16 * lane);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    unit.head[r] = *(const Head*)(at + 512 * kCodeVectors + (lane / 4 + 8 * r) * (int)sizeof(Head));
    unit.tail[r] = load_tail(at, lane / 4 + 8 * r);
    unit.own[r] = load_own_word(at, lane / 4 + 8 * r, lane);
  } // r: rows of this lane
  return unit;
}

// The matrices of a launch, whose tiles of 16 rows are counted through.
struct Weights {
  const unsigned char* w[kMatrices];
  int tiles[kMatrices];
};

__device__ __forceinline__ const unsigned char* tile_of(const Weights& weights, int tile, int) {
  const unsigned char* w = weights.w[0];
#pragma unroll
  for (int i = 1; i < kMatrices; ++i) {
    if (tile < weights.tiles[i - 1]) break;
    tile -= weights.tiles[i - 1];
    w = weights.w[i];
  } // i: matrices
  return w + (long long)tile * kUnits * kUnitBytes;
}

// What the warps of a group go through: `tiles` from the first, then every tile_step-th, halves one after another: a step
// each. A warp has every kTileWarps-th unit of a step, from `first`.
struct Walk {
  Weights weights;
  int tiles;
  int first_tile;
  int tile_step;
  int first;
};

// The first unit of the warp in a step; null past the last step.
__device__ __forceinline__ const unsigned char* units_of(const Walk& walk, int step) {
  const int tile = walk.first_tile + step / kHalves * walk.tile_step;
  return tile < walk.tiles ? tile_of(walk.weights, tile, step % kHalves) + walk.first * kUnitBytes : nullptr;
}

// Unit i of the warp's in a step, from the first; null where it has none.
__device__ __forceinline__ const unsigned char* unit_of(const Walk& walk, const unsigned char* units, int i) {
  if (units == nullptr || (kUnits % kTileWarps != 0 && walk.first + i * kTileWarps >= kUnits)) return nullptr;
  return units + i * kTileWarps * kUnitBytes;
}

__device__ __forceinline__ const unsigned char* unit_at(const Walk& walk, int step, int i) {
  return unit_of(walk, units_of(walk, step), i);
}

// How often x has to be gone through: the finite numbers, then each infinity by itself.
struct Levels {
  int finite;
  int all;
};

struct alignas(8) Words2 {
  unsigned word[2];
};

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// Where the eight columns of a lane lie among the digits: one mma takes 32 neighbours, eight for each lane of four.
__device__ __forceinline__ int digits_of(int lane) { return lane / 8 * 64 + lane % 4 * 16 + lane / 4 % 2 * 8; }

// Sum of the four signed bytes of a word.
__device__ __forceinline__ int sum_4_bytes(unsigned word) {
  int sum;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(sum) : "r"(word), "r"(0x01010101u), "r"(0));
  return sum;
}

// The sums of two digits, of at most 15 bits and a sign, in one word, which adds as both do.
__device__ __forceinline__ unsigned pair_of_sums(int first, int second) { return (unsigned)first + ((unsigned)second << 16); }
__device__ __forceinline__ int first_sum(unsigned pair) { return (short)pair; }
__device__ __forceinline__ int second_sum(unsigned pair) { return (int)(pair + 0x8000u) >> 16; }

// The sums over the columns of two lanes of the digits that a lane keeps: the first of two has those of digits 0 and 1.
__device__ __forceinline__ unsigned own_pair_of_sums(const int (&sum)[4], int lane) {
  unsigned pair[2] = {pair_of_sums(sum[0], sum[1]), pair_of_sums(sum[2], sum[3])};
#pragma unroll
  for (int i = 0; i < 2; ++i) pair[i] += __shfl_xor_sync(0xffffffffu, pair[i], 1);
  return lane % 2 == 0 ? pair[0] : pair[1];
}

// For each digit sixteen sums, one for 16 columns: their lower bytes, then their upper ones.
__device__ __forceinline__ void store_sums(unsigned char* at, const int (&sum)[4], int lane) {
  const unsigned own = own_pair_of_sums(sum, lane);
  unsigned char* own_at = at + lane % 2 * (2 * kSumStep) + lane / 2;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int block = i == 0 ? first_sum(own) : second_sum(own);
    own_at[i * kSumStep] = (unsigned char)block;
    own_at[i * kSumStep + 16] = (unsigned char)((block + 128) >> 8);
  } // i: digits of this lane
}

// Cuts a lane's eight fixed-point numbers, less than 2^30, into digits, and adds these up.
__device__ __forceinline__ void store_digits(unsigned char* at, const int (&fixed)[8], int lane) {
  int sum[4] = {};
  unsigned word[2][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    unsigned number[4]; // its bytes are the digits
#pragma unroll
    for (int i = 0; i < 4; ++i) number[i] = ((unsigned)fixed[4 * half + i] + 0x00808080u) ^ 0x00808080u;
    const unsigned low01 = permute_bytes(number[0], number[1], 0x5140u);
    const unsigned high01 = permute_bytes(number[0], number[1], 0x7362u);
    const unsigned low23 = permute_bytes(number[2], number[3], 0x5140u);
    const unsigned high23 = permute_bytes(number[2], number[3], 0x7362u);
    word[half][0] = permute_bytes(low01, low23, 0x5410u);
    word[half][1] = permute_bytes(low01, low23, 0x7632u);
    word[half][2] = permute_bytes(high01, high23, 0x5410u);
    word[half][3] = permute_bytes(high01, high23, 0x7632u);
  } // half: four numbers
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    *(Words2*)(at + i * 256 + digits_of(lane)) = {{word[0][i], word[1][i]}};
    sum[i] = sum_4_bytes(word[0][i]) + sum_4_bytes(word[1][i]);
  } // i: digits
  store_sums(at + 1024, sum, lane);
}

// What the sums of each digit are multiplied by.
__device__ __forceinline__ void store_factor(unsigned char* at, float factor, int lane) {
  const float power = __uint_as_float(0x3f800000u + (lane % 4 << 26)); // of 256, of a digit
  if (lane < 4) *(float*)(at + 1024 + lane * kSumStep + kSumBytes) = factor * power;
}

// The larger one; a NaN loses.
__device__ __forceinline__ float max_of(float a, float b) {
  float larger;
  asm("max.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// Largest over the 32 lanes of a warp, in every lane.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = max_of(value, __shfl_xor_sync(0xffffffffu, value, distance));
  } // distance: lanes apart
  return value;
}

__device__ __forceinline__ float magnitude(float value) { return fabsf(value); }

// Takes from `rest`, of a warp, what 30 bits and a sign hold of the largest: rest = fixed * factor + what is left,
// nothing where the factor is the smallest f32. Returns the factor, a power of two.
__device__ __forceinline__ float fixed_point(float (&rest)[8], int (&fixed)[8]) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = max_of(largest, magnitude(rest[i]));
  const int exponent = (int)(__float_as_uint(warp_max(largest)) >> 23) - 127;
  const int lifted = 29 - exponent > 149 ? 149 : 29 - exponent;
  const int first = lifted > 126 ? 126 : lifted; // 2^lifted may be too large for f32, its inverse subnormal
  const float power = __uint_as_float((unsigned)(first + 127) << 23);
  const float more_power = __uint_as_float((unsigned)(lifted - first + 127) << 23);
  const float factor = __uint_as_float(lifted > 126 ? 1u << (149 - lifted) : (unsigned)(127 - lifted) << 23);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    fixed[i] = (int)(rest[i] * power * more_power);
    rest[i] -= (float)fixed[i] * factor;
  } // i: columns
  return factor;
}

__device__ __forceinline__ float load_x(const float* x, long long i) { return x[i]; }

// Eight neighbours, from an address that is a multiple of 16 bytes.
__device__ __forceinline__ void load_8_x(const float* x, float (&value)[8]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Words4 words = ((const Words4*)x)[half];
#pragma unroll
    for (int i = 0; i < 4; ++i) value[4 * half + i] = __uint_as_float(words.word[i]);
  } // half: four numbers
}

// The eight columns of a lane in a unit of row j; zeros past the last column or row.
__device__ __forceinline__ void load_unit_x(const XType* x, long long n, int j, int unit, int lane, float (&value)[8]) {
  const int col = unit * 256 + 8 * lane;
  const XType* at = x + (long long)j * kCols + col;
  if (j < n && (unit + 1) * 256 <= kCols && (unsigned long long)at % 16 == 0) return load_8_x(at, value);
#pragma unroll
  for (int i = 0; i < 8; ++i) value[i] = j < n && col + i < kCols ? load_x(at, i) : 0.0f;
}

// Digits of any x. Level 0 has 30 bits and a sign of the largest |x| of a unit; as long as some x has less than two
// bits so, a further level has what is left. An infinity has a level of its own, so that it meets each weight by itself,
// as kInfinityDigits. A NaN makes its unit's factor one. Returns how many levels there are.
__device__ __noinline__ Levels prepare_level(const XType* x, long long n, int level, Levels levels, int first,
                                             int lane, unsigned char* digits) {
  Levels found = {1, 0};
  for (int j = 0; j < kXColumns; ++j) {
    int infinities = 0; // of this column so far
    for (int u = first; u < kUnits; u += kXStep) {
      const float infinity = __uint_as_float(0x7f800000u);
      float value[8], rest[8];
      load_unit_x(x, n, j, u, lane, value);
      bool is_special = false;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const bool is_finite = magnitude(value[i]) < infinity;
        is_special = is_special || !is_finite;
        rest[i] = is_finite ? value[i] : 0.0f;
      } // i: columns
      int fixed[8] = {}, next[8];
      float factor = 0.0f;
      bool has_more = true;
      for (int i = 0; has_more; ++i) {
        const float next_factor = fixed_point(rest, next);
        has_more = false;
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          if (i == level) fixed[e] = next[e];
          has_more = has_more || magnitude(rest[e]) > 0.25f * magnitude(value[e]);
        } // e: columns
        if (i == level) factor = next_factor;
        has_more = __any_sync(0xffffffffu, has_more && next_factor > 0x1p-149f);
        if (found.finite < i + 1) found.finite = i + 1;
      } // i: levels
      if (__any_sync(0xffffffffu, is_special)) {
        const int wanted = level - levels.finite; // which infinity
        for (int owner = 0; owner < kWarpThreads; ++owner) {
#pragma unroll
          for (int e = 0; e < 8; ++e) {
            const float one = __shfl_sync(0xffffffffu, value[e], owner);
            if (one != one) factor = one;
            if (magnitude(one) == infinity) {
              if (infinities == wanted) {
                factor = one;
                fixed[e] = owner == lane ? kInfinityDigits : 0;
              }
              ++infinities;
            }
          } // e: columns
        } // owner: lanes
      }
      unsigned char* at = digits + (long long)u * kXUnitStep + j * kXUnitBytes;
      store_digits(at, fixed, lane);
      store_factor(at, factor, lane);
    } // u: units of this warp
    if (found.all < infinities) found.all = infinities;
  } // j: rows of x
  found.all += found.finite;
  __syncwarp();
  return found;
}

// The bits of the largest magnitude of eight numbers; if one is a NaN those of a NaN.
__device__ __forceinline__ unsigned largest_bits(const float (&value)[8]) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(largest) : "f"(largest), "f"(magnitude(value[i])));
  return __float_as_uint(largest);
}

// Largest over the 32 lanes of a warp, in every lane.
__device__ __forceinline__ unsigned warp_max_bits(unsigned bits) { return __reduce_max_sync(0xffffffffu, bits); }

// Digits of 256 columns of kCount rows of x, each with 30 bits and a sign of the largest; row by row, `step` bytes apart.
// Returns whether they are enough, for all that this lane knows: the largest is 0, or from 2^-97 to the last finite number, and
// nine lanes have a number of at least 2^-8 of the largest; or the digits hold two bits of each that is not zero. In the first
// case what is left of each, less than 2^-28 of the largest, is small beside the products of those nine, unless their weights
// are all zero.
template <int kCount>
__device__ __forceinline__ bool store_plain_x(const float (&value)[kCount][8], unsigned char* at, int step, int lane) {
  constexpr unsigned kLeastExponent = 30, kInfinite = 255; // biased, as f32 has them
  constexpr int kEnoughLanes = 9;
  unsigned largest[kCount], most[kCount];
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    largest[j] = largest_bits(value[j]);
    most[j] = warp_max_bits(largest[j]);
  } // j: rows of x
  bool are_enough = true;
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    const unsigned exponent = most[j] == 0u ? kLeastExponent : most[j] >> 23;
    const float power = __uint_as_float((283 - exponent) << 23); // makes the largest one less than 2^30
    int fixed[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) fixed[i] = (int)(value[j][i] * power);
    store_digits(at + j * step, fixed, lane);
    store_factor(at + j * step, __uint_as_float((exponent - 29) << 23), lane);
    are_enough &= exponent >= kLeastExponent && exponent < kInfinite;
    const bool is_large = largest[j] >= (exponent - 8) << 23;
    if (__popc(__ballot_sync(0xffffffffu, is_large)) < kEnoughLanes) {
      const float least = __uint_as_float((exponent - 27) << 23);
#pragma unroll
      for (int i = 0; i < 8; ++i) are_enough &= (value[j][i] == 0.0f) | (magnitude(value[j][i]) >= least);
    }
  } // j: rows of x
  return are_enough;
}

// The digits of x that this warp multiplies by: those of units first, first + kXStep, ... Returns how many levels
// there are; the digits are those of level 0.
__device__ __forceinline__ Levels prepare_x(const XType* x, long long n, int first, int lane, unsigned char* digits) {
  constexpr int kCount = kXColumns < 4 ? kXColumns : 4; // rows of x at a time
  bool is_plain = true;
  for (int j = 0; j < kXColumns; j += kCount) {
    float ahead[kCount][8];
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      if (first < kUnits) load_unit_x(x, n, j + c, first, lane, ahead[c]);
    } // c: rows of x
#pragma unroll kCount == 1 ? 2 : 1
    for (int u = first; u < kUnits; u += kXStep) {
      float value[kCount][8];
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
#pragma unroll
        for (int i = 0; i < 8; ++i) value[c][i] = ahead[c][i];
        if (u + kXStep < kUnits) load_unit_x(x, n, j + c, u + kXStep, lane, ahead[c]);
      } // c: rows of x
      is_plain &= store_plain_x(value, digits + (long long)u * kXUnitStep + j * kXUnitBytes, kXUnitBytes, lane);
    } // u: units of this warp
  } // j: rows of x
  if (!__all_sync(0xffffffffu, is_plain)) return prepare_level(x, n, 0, {1, 1}, first, lane, digits);
  __syncwarp();
  return {1, 1};
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// A row's sixteen scales of 4 bits, each below a minimum, under d and dmin.
struct RowScales {
  unsigned scale[4];
  float whole;
  float whole_minimum;
};

__device__ __forceinline__ RowScales row_scales(const Unit& unit, int r) {
  RowScales scales;
#pragma unroll
  for (int i = 0; i < 4; ++i) scales.scale[i] = unit.head[r].word[i] & 0x0f0f0f0fu;
  scales.whole = f16_to_f32((unsigned short)unit.tail[r]);
  scales.whole_minimum = f16_to_f32((unsigned short)(unit.tail[r] >> 16));
  return scales;
}

// Codes of a pair times the scales of their blocks, at most 180: those of pairs 1 and 3 are 4 times as large. Lanes 0 and
// 1 of four have columns of one block, lanes 2 and 3 of the next.
__device__ __forceinline__ void folded_codes(const Unit& unit, const RowScales (&scales)[2], int pair,
                                             unsigned (&a)[2][4]) {
  const unsigned own = threadIdx.x % 4 / 2;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const unsigned scale = permute_bytes(scales[r].scale[pair], 0u, 0x4440u + k / 2 * 2 + own);
      const unsigned word = unit.codes[r].word[k];
      a[r][k] = ((pair < 2 ? word : word >> 4) & (pair % 2 == 0 ? 0x03030303u : 0x0c0c0c0cu)) * scale;
    } // k: words
  } // r: rows
}

// sum = start + a b for 16 rows, 8 columns of digits and 32 columns of w; unsigned codes.
__device__ __forceinline__ void mma_codes(int (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                          unsigned b0, unsigned b1, const int (&start)[4]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %11, %12, %13};"
      : "=r"(sum[0]), "=r"(sum[1]), "=r"(sum[2]), "=r"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(start[0]), "r"(start[1]), "r"(start[2]),
        "r"(start[3]));
}

// Four blocks' minima, one above each scale.
__device__ __forceinline__ unsigned minimum_word(const Unit& unit, const RowScales (&)[2], int r, int) {
  return unit.own[r] >> 4 & 0x0f0f0f0fu;
}

// sum = a b for 16 rows, 8 columns and 16 blocks of columns of w; unsigned bytes times signed ones.
__device__ __forceinline__ void mma_minima(int (&sum)[4], unsigned a0, unsigned a1, unsigned b) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %7, %7, %7};"
      : "=r"(sum[0]), "=r"(sum[1]), "=r"(sum[2]), "=r"(sum[3])
      : "r"(a0), "r"(a1), "r"(b), "r"(0));
}

// For both rows of a lane the sum over sixteen blocks of a byte (minimum_word) times the block's sum of this lane's digit: by an
// mma whose columns 2 i and 2 i + 1 are the lower and the upper bytes of the sums of digit i.
__device__ __forceinline__ void sums_of_minima(const Unit& unit, const RowScales (&scales)[2],
                                               const unsigned char* sums_at, int (&minimum)[2][kXColumns]) {
  const int lane = threadIdx.x % kWarpThreads;
  const int q = lane % 4;
  const unsigned char* b_at = sums_at + (lane / 8 - q) * kSumStep + lane / 4 % 2 * 16 + 4 * q;
  const unsigned a[2] = {minimum_word(unit, scales, 0, q), minimum_word(unit, scales, 1, q)};
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) {
    int sum[4];
    mma_minima(sum, a[0], a[1], *(const unsigned*)(b_at + j * kXUnitBytes));
    minimum[0][j] = sum[0] + 256 * sum[1];
    minimum[1][j] = sum[2] + 256 * sum[3];
  } // j: rows of x
}

// Adds to `total` the sums of a unit times the scale of the whole, less those of minima times their own scale, times
// the factor of a digit.
__device__ __forceinline__ void add_sums(const Unit& unit, const RowScales (&scales)[2], const int (&sum)[2][kXColumns],
                                         const unsigned char* sums_at, float (&total)[2][kXColumns]) {
  int minimum[2][kXColumns];
  sums_of_minima(unit, scales, sums_at, minimum);
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) {
    const float factor = *(const float*)(sums_at + j * kXUnitBytes + kSumBytes);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      total[r][j] += factor * (scales[r].whole * kDown * (float)sum[r][j] - scales[r].whole_minimum * (float)minimum[r][j]);
    } // r: rows
  } // j: rows of x
}

// Adds to `total` the products of a unit whose codes times their block's scale fit in bytes: an mma sums over all blocks.
// Of a pair of rows of x each has every second column of an mma. The sums of pairs 1 and 3 are 4 times as large.
// `sums_at`: the sums of this lane's digit, and its factor.
__device__ __forceinline__ void unit_product(const Unit& unit, const unsigned char* b_at, int b_step,
                                             const unsigned char* sums_at, float (&total)[2][kXColumns]) {
  constexpr int kXPairs = (kXColumns + 1) / 2;
  const RowScales scales[2] = {row_scales(unit, 0), row_scales(unit, 1)};
  int product[kXPairs][2][4] = {};
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    unsigned a[2][4];
    folded_codes(unit, scales, pair, a);
#pragma unroll
    for (int j = 0; j < kXPairs; ++j) {
      const Words4 b = *(const Words4*)(b_at + 2 * j * b_step + 64 * pair);
      mma_codes(product[j][pair % 2], a[0][0], a[1][0], a[0][1], a[1][1], b.word[0], b.word[1], product[j][pair % 2]);
      mma_codes(product[j][pair % 2], a[0][2], a[1][2], a[0][3], a[1][3], b.word[2], b.word[3], product[j][pair % 2]);
    } // j: pairs of rows of x
  } // pair: of mma
  int sum[2][kXColumns];
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int i = 2 * r + j % 2;
      sum[r][j] = 4 * product[j / 2][0][i] + product[j / 2][1][i];
    } // r: rows
  } // j: rows of x
  add_sums(unit, scales, sum, sums_at, total);
}

// Adds to `total` the products of half a tile with x that takes several levels of digits; units are loaded when they are
// needed, once for each.
__device__ __noinline__ void multiply_levels(const unsigned char* units, const XType* x, long long n, Levels levels,
                                             int first, int lane, unsigned char* digits, const unsigned char* b_at,
                                             int b_step, const unsigned char* sums_at, float (&total)[2][kXColumns]) {
  for (int level = 0; level < levels.all; ++level) {
    __syncwarp();
    prepare_level(x, n, level, levels, first, lane, digits);
#pragma unroll 1
    for (int u = first; u < kUnits; u += kTileWarps) {
      unit_product(load_unit(units + u * kUnitBytes, lane), b_at + (u - first) * kXColumns * b_step, b_step,
                   sums_at + (u - first) * kXUnitStep, total);
    } // u: units of this warp
  } // level: of digits
}

// Keeps the sums of a lane's two rows over all digits, which lanes of four have one each of.
__device__ __forceinline__ void store_totals(const float (&total)[2][kXColumns], int lane, float* own_partial) {
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = total[r][j];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (lane % 4 == 0) own_partial[j * 16 + 8 * r] = sum;
    } // r: rows of this lane
  } // j: rows of x
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads, 2)
matvec_q2_K_x_f32_prepared_c1024_n1(
    const unsigned char* __restrict__ w,
    const float* __restrict__ x,
    float* __restrict__ y,
    long long rows,
    long long n) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x % kWarpThreads;
  const int warp = threadIdx.x / kWarpThreads;
  const int first = warp % kTileWarps;
  const int group = warp / kTileWarps;
  unsigned char* digits = shared + kZeroBytes + group * kGroupXBytes;
  float* partial = (float*)(shared + kPartialAt);
  if (threadIdx.x < kZeroBytes / 4) ((unsigned*)shared)[threadIdx.x] = 0u;

  const Weights weights = {{w}, {(int)((rows + 15) / 16)}};
  int tiles = 0;
  for (int i = 0; i < kMatrices; ++i) tiles += weights.tiles[i];
  const Walk walk = {weights, tiles, (int)(blockIdx.x * kTileGroups) + group, (int)(gridDim.x * kTileGroups), first};
  const unsigned char* at = unit_at(walk, 0, 0);
  if (at == nullptr) at = tile_of(weights, tiles - 1, 0); // some unit
  Unit ahead = load_unit(at, lane);
  __syncthreads(); // the zeros are there
  const Levels levels = prepare_x(x, n, first, lane, digits);
  // Column 2 i of an mma has digit i of a row of x, column 2 i + 1 zeros.
  const bool has_digits = lane / 4 % 2 == 0;
  const unsigned char* b_at = has_digits ? digits + first * kXUnitStep + lane / 8 * 256 + lane % 4 * 16 : shared;
  const int b_step = has_digits ? kXUnitBytes : 0;
  // Lane i of four gets the sums of digit i.
  const unsigned char* sums_at = digits + first * kXUnitStep + 1024 + lane % 4 * kSumStep;

  int step = 0;
  for (int tile = walk.first_tile, parity = 0; tile - group < tiles; tile += walk.tile_step, parity ^= 1) {
#pragma unroll 1
    for (int half = 0; half < kHalves && tile < tiles; ++half, ++step) {
      float* own_partial = partial + ((parity * kHalves + half) * kWarps + warp) * kXColumns * 16 + lane / 4;
      float total[2][kXColumns] = {};
      if (kXUnits == kUnits && levels.all == 1) {
#pragma unroll 1
        for (int i = 0; i < kSteps; ++i) {
          const bool has_unit = kUnits % kTileWarps == 0 || first + i * kTileWarps < kUnits;
          const Unit unit = ahead;
          const unsigned char* next = unit_at(walk, step + (i + 1) / kSteps, (i + 1) % kSteps);
          if (next != nullptr) at = next; // else the same again: were nothing loaded, the unit would have to be kept
          ahead = load_unit(at, lane);
          if (has_unit)
            unit_product(unit, b_at + i * kTileWarps * kXColumns * b_step, b_step,
                         sums_at + i * kTileWarps * kXUnitStep, total);
        } // i: units of this warp
      } else {
        float all[2][kXColumns] = {};
        multiply_levels(tile_of(weights, tile, half), x, n, levels, first, lane, digits, b_at, b_step, sums_at,
                        all);
#pragma unroll
        for (int j = 0; j < kXColumns; ++j) {
          total[0][j] = all[0][j];
          total[1][j] = all[1][j];
        } // j: rows of x
      }
      store_totals(total, lane, own_partial);
    } // half: of the tile
    __syncthreads();
    if (tile >= tiles) continue;
    for (int i = threadIdx.x % kGroupThreads; i < 16 * kXColumns; i += kGroupThreads) {
      [[maybe_unused]] const int j = i / 16;
      const long long row = 16ll * tile + i % 16;
      float sum[kHalves] = {};
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
#pragma unroll
        for (int from = 0; from < kTileWarps; ++from) {
          sum[half] += partial[((parity * kHalves + half) * kWarps + group * kTileWarps + from) * 16 * kXColumns + i];
        } // from: warps
      } // half: of the tile
      const float total = sum[0];
      if (j < n && row < rows) store_element(y + j * rows + row, total);
    } // i: results of 16 rows
  } // tile: 16 rows each
}
