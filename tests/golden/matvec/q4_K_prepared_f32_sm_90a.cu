// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/unit_matvec.cu.in.
//   kernel   matvec_q4_K_x_f32_prepared_c1024_n4, emitter version 7
//   w        in   q4_K  [rows, 1024]  prepared
//   x        in   f32  [n, 1024]  row-major, 1 <= n <= 4
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), x as integers of 31 bits times a power of two for each 256 columns, sums of integers, then of f32
//   arch     sm_90a, no instruction decodes q4_K blocks: mma m16n8k16 f16, x in 2 terms
//   launch   grid (at most ceil(rows / 16), 1, 1), block (256, 1, 1), 77312 bytes of dynamic shared memory
//
// w is cut into units of 16 rows and 256 columns. Of the units of 16 rows, a tile, a warp multiplies every 8th by x,
// which it has as two terms of f16, or, where these leave too much, as four digits of base 256; the warps' sums meet once for a tile.

constexpr int kCols = 1024;                                     // columns of w, and of each row of x
constexpr int kUnits = 4;                                       // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 2304;                                // bytes of a unit
constexpr int kCodeVectors = 4;                                 // 16-byte vectors of codes that a lane has of a unit
constexpr int kThreads = 256;                                   // threads per CTA
constexpr int kWarpThreads = 32;                                // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kTileWarps = 8;                                   // warps that share a tile of 16 rows
constexpr int kTileGroups = kWarps / kTileWarps;                // tiles side by side in a CTA
constexpr int kGroupThreads = kTileWarps * kWarpThreads;
constexpr int kSteps = 1;                                       // units that a warp has of a tile, or of half of one; the last may be none
constexpr int kMatrices = 1;                                    // with weights
constexpr int kHalves = 1;                                      // 16 rows each of a tile, of one matrix or of gate and up
constexpr int kXColumns = 4;                                    // rows of x that a launch can use
constexpr int kSumBytes = 16;                                   // bytes of a digit's sums over blocks
constexpr int kSumStep = kSumBytes + 4;                         // with the factor of the digit
constexpr int kXStep = kTileWarps;                              // from one unit to the next whose digits are made at once
constexpr int kXUnitBytes = 1104;                               // bytes of the digits and sums of 256 columns of x
constexpr int kXUnitStep = kXColumns * kXUnitBytes;             // of all rows of x
constexpr int kGroupXBytes = 17664;                             // of all columns, for the warps of a tile
constexpr int kInfinityDigits = 0x01010101;                     // for an infinity in x: 1 in each, 0 times the factor were NaN
constexpr int kZeroBytes = 256;                                 // zeros for the lanes whose columns of an mma are none
constexpr int kPartialAt = 17920;                               // bytes of shared memory before the sums of warps
constexpr int kSets = 1;                                        // operands whose sum is a code's number
constexpr int kGroups = 1;                                      // two blocks each, in a pair of mma
constexpr int kTermColumns = 2 * kXColumns;                     // of mma: terms of all rows of x
constexpr int kTermGroups = 1;                                  // eight columns of mma each
constexpr int kTermSumsAt = 512 * kTermColumns;                 // of a unit's terms, their sums
constexpr int kTermFactorsAt = kTermSumsAt + 16 * kTermColumns; // and what takes back powers
constexpr int kRingAt = 22016;                                  // before the units in flight
constexpr int kStages = 3;                                      // units of a warp: in use or in flight
constexpr int kFirstUnits = kStages;                            // that are requested before x is there
constexpr int kStart = 0;                                       // of an mma's sums
constexpr float kDown = 0.0625f;                                // takes back what codes and levels are too large
using XType = float;

// By what sums are multiplied before a pair's are added, whose codes lie further up in their bytes.
__device__ __forceinline__ constexpr int pair_step(int pair) {
  return pair == 0 ? 1 : pair == 1 ? 1 : pair == 2 ? 16 : 1;
}

struct alignas(16) Words4 {
  unsigned word[4];
};

using Head = Words4;

struct Tail {};
__device__ __forceinline__ Tail load_tail(const unsigned char*, int) { return {}; }

struct OwnWord {};
__device__ __forceinline__ OwnWord load_own_word(const unsigned char*, int, int) { return {}; }

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

// Where the eight columns of a lane lie among the digits: in their order.
__device__ __forceinline__ int digits_of(int lane) { return 8 * lane; }

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

// The sum over the columns of four lanes of the digit that a lane keeps: lane i of four has that of digit i.
__device__ __forceinline__ int sum_of_own_digit(const int (&sum)[4], int lane) {
  unsigned pair[2] = {pair_of_sums(sum[0], sum[1]), pair_of_sums(sum[2], sum[3])};
#pragma unroll
  for (int distance = 1; distance < 4; distance *= 2) {
#pragma unroll
    for (int i = 0; i < 2; ++i) pair[i] += __shfl_xor_sync(0xffffffffu, pair[i], distance);
  } // distance: lanes apart
  const unsigned own = lane % 4 < 2 ? pair[0] : pair[1];
  return lane % 2 == 0 ? first_sum(own) : second_sum(own);
}

// For each digit eight sums, one for 32 columns: their lower bytes, then their upper ones.
__device__ __forceinline__ void store_sums(unsigned char* at, const int (&sum)[4], int lane) {
  const int block = sum_of_own_digit(sum, lane);
  unsigned char* own_at = at + lane % 4 * kSumStep + lane / 4;
  own_at[0] = (unsigned char)block;
  own_at[8] = (unsigned char)((block + 128) >> 8);
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

// The codes of pairs 2 and 3 are 16 times as large.
__device__ __forceinline__ void pair_codes(const Unit& unit, int pair, unsigned (&a)[1][2][4]) {
  const unsigned mask = pair < 2 ? 0x0f0f0f0fu : 0xf0f0f0f0u;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) a[0][r][k] = unit.codes[2 * r + pair % 2].word[k] & mask;
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

// product = start + the sums of codes times digits over the columns of a group of blocks.
__device__ __forceinline__ void products(const unsigned (&a)[kSets][2][4], const Words4& b, int group,
                                         const int (&start)[4], int (&product)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) product[i] = start[i];
#pragma unroll
  for (int set = 0; set < kSets; ++set) {
    const int k = 2 * group;
    mma_codes(product, a[set][0][k], a[set][1][k], a[set][0][k + 1], a[set][1][k + 1], b.word[k], b.word[k + 1], product);
    if (kGroups == 1) mma_codes(product, a[set][0][2], a[set][1][2], a[set][0][3], a[set][1][3], b.word[2], b.word[3], product);
  } // set: of operands
}

// What the sums of a group of blocks start from.
__device__ __forceinline__ void starts_of(const unsigned char*, int, int (&start)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) start[i] = kStart;
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// A row's scales and minima: eight of 6 bits each (see ScaleMin of q4_K), under d and dmin.
struct RowScales {
  unsigned scale[2];
  unsigned minimum[2];
  float whole;
  float whole_minimum;

  __device__ __forceinline__ int of_block(int block) const {
    return (int)permute_bytes(scale[block / 4], 0u, 0x4440u | (unsigned)block % 4u);
  }
};

__device__ __forceinline__ RowScales row_scales(const Unit& unit, int r) {
  const Words4& head = unit.head[r];
  return {{head.word[1] & 0x3f3f3f3fu, (head.word[3] & 0x0f0f0f0fu) | (head.word[1] >> 2 & 0x30303030u)},
          {head.word[2] & 0x3f3f3f3fu, (head.word[3] >> 4 & 0x0f0f0f0fu) | (head.word[2] >> 2 & 0x30303030u)},
          f16_to_f32((unsigned short)head.word[0]),
          f16_to_f32((unsigned short)(head.word[0] >> 16))};
}

// Four of eight blocks' bytes that sums of digits are multiplied by, of lanes 0 and 1 of four.
__device__ __forceinline__ unsigned minimum_word(const Unit&, const RowScales (&scales)[2], int r, int q) {
  return q == 0 ? scales[r].minimum[0] : q == 1 ? scales[r].minimum[1] : 0u;
}

// sum = a b for 16 rows, 8 columns and 16 blocks of columns of w; unsigned bytes times signed ones.
__device__ __forceinline__ void mma_minima(int (&sum)[4], unsigned a0, unsigned a1, unsigned b) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %7, %7, %7};"
      : "=r"(sum[0]), "=r"(sum[1]), "=r"(sum[2]), "=r"(sum[3])
      : "r"(a0), "r"(a1), "r"(b), "r"(0));
}

// For both rows of a lane the sum over eight blocks of a byte (minimum_word) times the block's sum of this lane's digit: by an
// mma whose columns 2 i and 2 i + 1 are the lower and the upper bytes of the sums of digit i. The bytes
// of lanes 2 and 3 of four are zeros.
__device__ __forceinline__ void sums_of_minima(const Unit& unit, const RowScales (&scales)[2],
                                               const unsigned char* sums_at, int (&minimum)[2][kXColumns]) {
  const int lane = threadIdx.x % kWarpThreads;
  const int q = lane % 4;
  const unsigned char* b_at = sums_at + (lane / 8 - q) * kSumStep + lane / 4 % 2 * 8 + q % 2 * 4;
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

// Adds to `total` the products of a unit: integer sums over all blocks of scale times codes times digits, then
// the scale of the whole. `sums_at`: the sums of this lane's digit, and its factor.
__device__ __forceinline__ void unit_product(const Unit& unit, const unsigned char* b_at, int b_step,
                                             const unsigned char* sums_at, float (&total)[2][kXColumns]) {
  const RowScales scales[2] = {row_scales(unit, 0), row_scales(unit, 1)};
  int sum[2][kXColumns] = {};
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    unsigned a[kSets][2][4];
    pair_codes(unit, pair, a);
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      const Words4 b = *(const Words4*)(b_at + j * b_step + 64 * pair);
      if (pair_step(pair) != 1) {
        sum[0][j] *= pair_step(pair);
        sum[1][j] *= pair_step(pair);
      }
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        int start[4], product[4];
        starts_of(sums_at + j * kXUnitBytes, kGroups * pair + group, start);
        products(a, b, group, start, product);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[i / 2][j] += scales[i / 2].of_block(2 * (kGroups * pair + group) + i % 2) * product[i];
        } // i: sums
      } // group: two blocks
    } // j: rows of x
  } // pair: of mma
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

__device__ __forceinline__ void f16x2_to_f32(unsigned pair, float* value) {
  value[0] = f16_to_f32((unsigned short)pair);
  value[1] = f16_to_f32((unsigned short)(pair >> 16));
}

// 1 / power, exact: a power of two of at least 2^-126 and at most 2^126.
__device__ __forceinline__ float inverse_power(float power) {
  return __uint_as_float(0x7f000000u - __float_as_uint(power));
}

// Where the terms of a unit's columns lie for column `column` of the mma: of 64 columns each lane of four has 16, of which
// two mma take eight: 16 bytes.
__device__ __forceinline__ constexpr int terms_at(int pair, int k2, int column) {
  return ((2 * pair + k2) * kTermColumns + column) * 64;
}

// Two numbers as f16.
__device__ __forceinline__ unsigned nearest_f16x2(float first, float second) {
  unsigned pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// Two numbers as f16, and 2^11 times what these leave.
__device__ __forceinline__ unsigned take_terms(float& first, float& second) {
  const unsigned pair = nearest_f16x2(first, second);
  float term[2];
  f16x2_to_f32(pair, term);
  first = (first - term[0]) * 0x1p+11f;
  second = (second - term[1]) * 0x1p+11f;
  return pair;
}

// Writes the terms of this warp's units of x, times a power of two that brings the largest of 256 columns to [2^14, 2^15);
// 2^-5 of the sums of each 32 columns, as terms, too; and what takes back the power. Returns whether the terms leave
// at most 2^-21 of each number, in every lane: of one from 2^-15 on the first leaves at most 2^-11, or 2^-25, and the second
// 2^-11 of that, or 2^-36. Smaller ones don't matter where nine lanes have a number of at least 2^-8 of the largest (see
// store_plain_x).
__device__ __forceinline__ bool prepare_row_terms(const XType* x, long long n, int first, int lane, unsigned char* terms) {
  constexpr unsigned kLeastExponent = 15, kInfinite = 255; // biased, as f32 has them
  constexpr int kEnoughLanes = 9;
  constexpr int kCount = 4; // rows of x at a time
  bool are_enough = true;
  float ahead[kCount][8];
#pragma unroll
  for (int c = 0; c < kCount; ++c) {
    if (first < kUnits) load_unit_x(x, n, c, first, lane, ahead[c]);
  } // c: rows of x
#pragma unroll 1
  for (int u = first; u < kUnits; u += kTileWarps) {
#pragma unroll 1
    for (int first_row = 0; first_row < kXColumns; first_row += kCount) {
      const bool has_rows = first_row + kCount < kXColumns;
      const int next = has_rows ? u : u + kTileWarps;
      float value[kCount][8], sum[kCount];
      unsigned largest[kCount], most[kCount];
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
#pragma unroll
        for (int i = 0; i < 8; ++i) value[c][i] = ahead[c][i];
        if (next < kUnits) load_unit_x(x, n, (has_rows ? first_row + kCount : 0) + c, next, lane, ahead[c]);
      } // c: rows of x
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        largest[c] = largest_bits(value[c]);
        most[c] = warp_max_bits(largest[c]);
      } // c: rows of x
      unsigned char* of_unit = terms + (long long)u * kXUnitStep;
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        const unsigned exponent = most[c] >> 23;
        const float power = __uint_as_float((exponent < kLeastExponent ? 253u : 268u - exponent) << 23);
        const int column = 2 * (first_row + c);
        float rest[8];
        sum[c] = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          rest[i] = value[c][i] * power;
          sum[c] += rest[i];
        } // i: columns
        are_enough &= exponent < kInfinite;
        const bool is_large = exponent >= kLeastExponent && largest[c] >= (exponent - 8) << 23;
        if (__popc(__ballot_sync(0xffffffffu, is_large)) < kEnoughLanes) {
#pragma unroll
          for (int i = 0; i < 8; ++i) are_enough &= (rest[i] == 0.0f) | (magnitude(rest[i]) >= 0x1p-15f);
        }
        unsigned char* own = of_unit + terms_at(lane / 8, lane % 2, column) + lane % 8 / 2 * 16;
        Words4 words = {{take_terms(rest[0], rest[2]), take_terms(rest[1], rest[3]), take_terms(rest[4], rest[6]),
                         take_terms(rest[5], rest[7])}};
        *(Words4*)own = words;
        words = {{nearest_f16x2(rest[0], rest[2]), nearest_f16x2(rest[1], rest[3]), nearest_f16x2(rest[4], rest[6]),
                  nearest_f16x2(rest[5], rest[7])}};
        *(Words4*)(own + 64) = words;
        if (lane == 0) *(float*)(of_unit + kTermFactorsAt + 4 * (first_row + c)) = inverse_power(power);
      } // c: rows of x
#pragma unroll
      for (int distance = 1; distance < 4; distance *= 2) {
#pragma unroll
        for (int c = 0; c < kCount; ++c) sum[c] += __shfl_xor_sync(0xffffffffu, sum[c], distance);
      } // distance: lanes apart
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        float block = sum[c] * 0x1p-5f, none = 0.0f;
#pragma unroll
        for (int t = 0; t < 2; ++t) {
          const unsigned short term = (unsigned short)take_terms(block, none);
          if (lane % 4 == 0)
            *(unsigned short*)(of_unit + kTermSumsAt + (2 * (first_row + c) + t) * 16 + lane / 4 * 2) = term;
        } // t: terms
      } // c: rows of x
    } // first_row: of a few
  } // u: units of this warp
  are_enough = __all_sync(0xffffffffu, are_enough);
  __syncwarp();
  return are_enough;
}

// a * b + c for two f16 each.
__device__ __forceinline__ unsigned f16x2_fma(unsigned a, unsigned b, unsigned c) {
  unsigned result;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

__device__ __forceinline__ unsigned f16x2_add(unsigned a, unsigned b) {
  unsigned result;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

__device__ __forceinline__ unsigned f16x2_multiply(unsigned a, unsigned b) {
  unsigned result;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

// sum += a b for 16 rows, 8 rows of x and 16 columns; f16, sums in f32.
__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Adds to `total` the products of a unit and the rows of x of this lane: row q of each four. `terms`: of the unit.
__device__ __forceinline__ void unit_terms(const Unit& unit, const unsigned char* terms, int lane,
                                           float (&total)[kTermGroups][2]) {
  const RowScales scales[2] = {row_scales(unit, 0), row_scales(unit, 1)};
  const int q = lane % 4;
  const int column = lane / 4 < kTermColumns ? lane / 4 : kTermColumns - 1;
  const unsigned char* b_at = terms + column * 64 + q * 16;
  float sum[kTermGroups][4] = {}, minimum[kTermGroups][4] = {};
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    unsigned a[1][2][4];
    pair_codes(unit, pair, a);
    // 0x6400 | a byte is 1024 more than that, as f16; 0x5400 |: 64 more than a 16th of it. Codes that are 16 times too large
    // meet a 16th of the scale.
    const bool is_large = pair_step(1) * pair_step(2) != 1 && pair >= 2;
    const unsigned which = 0x4040u + 0x0101u * (unsigned)(pair % 2 * 2 + q / 2);
    unsigned scale[2], offset[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      scale[r] = f16x2_add(permute_bytes(scales[r].scale[pair / 2], is_large ? 0x54545454u : 0x64646464u, which),
                           is_large ? 0xd400d400u : 0xe400e400u);
      offset[r] = f16x2_multiply(scale[r], 0xe400e400u); // -1024 times
    } // r: rows
#pragma unroll
    for (int k2 = 0; k2 < 2; ++k2) {
      unsigned step[2][4]; // operands of two mma
#pragma unroll
      for (int k = 0; k < 2; ++k) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const unsigned codes = a[0][r][2 * k2 + k];
          step[k][r] = f16x2_fma(permute_bytes(codes, 0x64646464u, 0x4240u), scale[r], offset[r]);
          step[k][r + 2] = f16x2_fma(permute_bytes(codes, 0x64646464u, 0x4341u), scale[r], offset[r]);
        } // r: rows
      } // k: words
#pragma unroll
      for (int group = 0; group < kTermGroups; ++group) {
        const Words4 b = *(const Words4*)(b_at + terms_at(pair, k2, 8 * group));
        const unsigned b0[2] = {b.word[0], b.word[1]}, b1[2] = {b.word[2], b.word[3]};
        mma(sum[group], step[0], b0);
        mma(sum[group], step[1], b1);
      } // group: eight columns of mma
    } // k2: two words
  } // pair: of mma
  // Minima of blocks 2 q and 2 q + 1 times the sums of x.
  unsigned minima[4] = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const unsigned two = permute_bytes(scales[r].minimum[0], scales[r].minimum[1], 0x10u + 0x22u * (unsigned)q);
    minima[r] = f16x2_add(permute_bytes(two, 0x64646464u, 0x4140u), 0xe400e400u);
  } // r: rows
#pragma unroll
  for (int group = 0; group < kTermGroups; ++group) {
    const unsigned b[2] = {*(const unsigned*)(terms + kTermSumsAt + (8 * group + column) * 16 + 4 * q), 0u};
    mma(minimum[group], minima, b);
    const float factor = *(const float*)(terms + kTermFactorsAt + 4 * (4 * group + q % (kTermColumns / 2)));
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float product = sum[group][2 * r] + 0x1p-11f * sum[group][2 * r + 1];
      const float less = minimum[group][2 * r] + 0x1p-11f * minimum[group][2 * r + 1];
      total[group][r] += factor * (scales[r].whole * product - 32.0f * scales[r].whole_minimum * less);
    } // r: rows
  } // group: eight columns of mma
}

// Keeps the sums of a lane's two rows and its rows of x.
__device__ __forceinline__ void store_term_totals(const float (&total)[kTermGroups][2], int lane, float* own_partial) {
#pragma unroll
  for (int group = 0; group < kTermGroups; ++group) {
#pragma unroll
    for (int r = 0; r < 2; ++r) own_partial[(4 * group + lane % 4) * 16 + 8 * r] = total[group][r];
  } // group: eight columns of mma
}

// Waits until at most kLeft of this thread's groups of copies have not ended.
template <int kLeft>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kLeft) : "memory");
}

// The same to an address in shared memory.
__device__ __forceinline__ void copy_16_bytes_at(unsigned to, const unsigned char* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;" : : : "memory"); }

// Begins to copy a unit; from null an empty group.
__device__ __forceinline__ void copy_unit(unsigned char* to, const unsigned char* from, int lane) {
  constexpr int kWhole = kUnitBytes / 512 * 512; // bytes that all lanes have a share of
  const unsigned own = (unsigned)__cvta_generic_to_shared(to) + 16u * lane;
  if (from != nullptr) {
#pragma unroll
    for (int i = 0; i < kWhole; i += 512) copy_16_bytes_at(own + i, from + i + 16 * lane);
  }
  const bool has_more = kWhole + 16 * lane < kUnitBytes;
  if (from != nullptr && has_more) copy_16_bytes_at(own + kWhole, from + kWhole + 16 * lane);
  end_copy_group();
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads, 2)
matvec_q4_K_x_f32_prepared_c1024_n4(
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
  unsigned char* ring = shared + kRingAt + warp * kStages * kUnitBytes;
#pragma unroll
  for (int i = 0; i < kFirstUnits; ++i) {
    copy_unit(ring + i * kUnitBytes, unit_at(walk, i / kSteps, i % kSteps), lane);
  } // i: units in flight
  int place = 0; // of the unit that is next
  __syncthreads(); // the zeros are there
  const bool has_terms = prepare_row_terms(x, n, first, lane, digits);
  const Levels levels = has_terms ? Levels{1, 1} : prepare_x(x, n, first, lane, digits);
  // Lanes 0 and 1 of four hold columns of one block, lanes 2 and 3 of another: columns 2 i and 2 i + 1 of
  // an mma have digit i of x for the one and for the other, and zeros elsewhere.
  const bool has_digits = lane % 4 / 2 == lane / 4 % 2;
  const unsigned char* b_at = has_digits ? digits + first * kXUnitStep + lane / 8 * 256 + lane % 4 * 16 : shared;
  const int b_step = has_digits ? kXUnitBytes : 0;
  // Lane i of four gets the sums of digit i.
  const unsigned char* sums_at = digits + first * kXUnitStep + 1024 + lane % 4 * kSumStep;

  int step = 0;
  for (int tile = walk.first_tile, parity = 0; tile - group < tiles; tile += walk.tile_step, parity ^= 1) {
#pragma unroll 1
    for (int half = 0; half < kHalves && tile < tiles; ++half, ++step) {
      float* own_partial = partial + ((parity * kHalves + half) * kWarps + warp) * kXColumns * 16 + lane / 4;
      float total[kTermGroups][2] = {};
      if (has_terms) {
        constexpr int kAhead = (kStages - 1) / kSteps;
        const unsigned char* soon = units_of(walk, step + kAhead);
        const unsigned char* later = units_of(walk, step + kAhead + 1);
#pragma unroll 1
        for (int i = 0; i < kSteps; ++i) {
          const bool has_unit = kUnits % kTileWarps == 0 || first + i * kTileWarps < kUnits;
          wait_for_copies<kStages - 2>();
          __syncwarp(); // what other lanes copied is there, and what this one overwrites has been read
          const int now = place + i;
          const Unit unit = has_unit ? load_unit(ring + now * kUnitBytes, lane) : Unit{};
          const bool has_place = step > 0 || i > 0; // of the unit before
          const unsigned char* next_units = i + kStages - 1 < (kAhead + 1) * kSteps ? soon : later;
          copy_unit(ring + (i > 0 ? place + i - 1 : place == 0 ? kStages - 1 : place - 1) * kUnitBytes, has_place ? unit_of(walk, next_units, (i + kStages - 1) % kSteps) : nullptr, lane);
          if (has_unit)
            unit_terms(unit, digits + (first + i * kTileWarps) * kXUnitStep, lane, total);
        } // i: units of this warp
        place = place == kStages - kSteps ? 0 : place + kSteps;
        store_term_totals(total, lane, own_partial);
      } else {
        float all[2][kXColumns] = {};
        multiply_levels(tile_of(weights, tile, half), x, n, levels, first, lane, digits, b_at, b_step, sums_at,
                        all);
        store_totals(all, lane, own_partial);
      }
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
