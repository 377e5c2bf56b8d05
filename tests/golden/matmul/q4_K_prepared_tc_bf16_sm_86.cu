// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/warp_matmul.cu.in.
//   kernel   matmul_q4_K_x_bf16_y_bf16_tc_prepared_c512, emitter version 7
//   w        in   q4_K  [rows, 512]  prepared
//   x        in   bf16  [n, 512]  row-major
//   y        out  bf16  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32, then rounded once to bf16, to nearest even; each number of w rounded once to bf16
//   arch     sm_86, no instruction decodes q4_K blocks: codes times scales, rounded to bf16; mma m16n8k16 bf16
//   tiles    128 rows of w, 128 of x, 3 stages of 64 columns; warps 4 x 1 along rows, columns
//   launch   grid (ceil(rows / 128) * ceil(n / 128), 1, 1), block (128, 1, 1), 92160 bytes of dynamic shared memory
//
// y^T = w x^T: w is the operand of 16 rows, decoded by the lane that has it, so that a number of w serves all rows of x of a
// CTA. Lane 4 g + q has rows g and g + 8 of w and 16 columns of 64, of which each mma
// takes four: the columns of an mma may be any, if w and x have the same. So a lane copies what it reads itself of w.

constexpr int kXRowBytes = 1024;                        // bytes of a row of x
constexpr int kThreads = 128;                           // threads per CTA
constexpr int kCtas = 2;                                // CTAs that are to share a multiprocessor
constexpr int kWarpsRows = 4;                           // warps side by side along the rows of w
constexpr int kWarpsK = 1;                              // along the columns: each has every so manyth unit
constexpr int kRowTiles = 2;                            // 16-row tiles of w of a warp
constexpr int kTiles = kWarpsRows * kRowTiles;          // of a CTA
constexpr int kTileX = 128;                             // rows of x of a CTA
constexpr int kXTiles = kTileX / 8;                     // 8-row tiles of x
constexpr int kXGroup = 4;                              // of which a lane loads at once
constexpr int kStages = 3;                              // of 64 columns of x: in use or on their way
constexpr int kUnits = 2;                               // units side by side, of 16 rows and 256 columns
constexpr int kSteps = 8;                               // stages of a tile
constexpr int kXStageBytes = kWarpsK * kTileX * 128;    // bytes of a stage of x
constexpr int kXRuns = kWarpsK * kTileX * 8 / kThreads; // 16-byte vectors of x that a thread copies for a stage
constexpr int kLineStep = kThreads / 8;                 // lines of a stage from one of them to the next
constexpr int kWAt = 49152;                             // bytes of shared memory before codes of w
constexpr int kChunkVectors = 4;                        // 16-byte vectors that a lane copies of a row tile at once
constexpr int kChunkSlots = 2;                          // places for them: in use or on their way
constexpr int kPasses = 1;                              // in which products pass through shared memory
constexpr int kChunkStages = 4;                         // stages that a vector serves
constexpr int kUnitBytes = 2304;                        // bytes of a unit
constexpr int kCodeVectors = 4;                         // 16-byte vectors of codes that a lane has of a unit
constexpr int kHeadsAt = 81920;                         // bytes of shared memory before heads and tails
constexpr int kHeadBytes = 256;                         // bytes of them of a unit
constexpr int kBlocks = 8;                              // of 256 columns, whose numbers share a factor
constexpr int kTablesAt = 83968;                        // bytes of shared memory before tables of factors
constexpr int kTableRows = 32;                          // places for a block's rows in a table
constexpr float kFactor = 1.0f;                         // by which all scales are too small
constexpr int kXRowMask = 1;                            // how 16-byte places of x are exchanged
constexpr int kXHalf = 16;                              // changes places of a stage's first half to those of the second
constexpr int kXRowStep = 1;
// Bits by which codes of pair 0 to 3 lie further up in their bytes.
__device__ __forceinline__ constexpr int code_shift(int pair) {
  return pair == 0 ? 0 : pair == 1 ? 0 : pair == 2 ? 4 : 4;
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

// Begins to copy 16 bytes to an address in shared memory, past the registers and the L1 cache.
__device__ __forceinline__ void copy_vector(unsigned to, const unsigned char* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ unsigned shared_address(const void* at) { return (unsigned)__cvta_generic_to_shared(at); }

// A stage of x has kTileX lines of 64 columns for each warp along the columns; a thread copies 16 bytes of every
// kLineStep-th. How many rows after its first one its i-th one is, and how many units.
__device__ __forceinline__ constexpr int x_row_of(int i) { return i * kLineStep % kTileX; }
__device__ __forceinline__ constexpr int x_unit_of(int i) { return i * kLineStep / kTileX; }

// What stays in registers: compilers would make it again and again.
__device__ __forceinline__ unsigned kept(unsigned value) {
  asm("" : "+r"(value));
  return value;
}
__device__ __forceinline__ const unsigned char* kept(const unsigned char* value) {
  asm("" : "+l"(value));
  return value;
}

__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;" : : : "memory"); }

// Waits until at most kLeft of this thread's groups of copies have not ended.
template <int kLeft>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kLeft) : "memory");
}

// Where 16 bytes of a row of x lie in its 128 of a stage: 16-byte places are exchanged by rows, so that the rows which
// lanes read at once lie in different banks.
__device__ __forceinline__ int x_place(int row, int sixteen) { return 16 * (sixteen ^ (row & kXRowMask) * kXRowStep); }

// Which 16 bytes of a stage's row of x lane q of four takes first: it has 16 columns in a row.
__device__ __forceinline__ unsigned x_sixteen(int q) { return 2 * q; }

struct alignas(16) Words4 {
  unsigned word[4];
};

struct alignas(8) Words2 {
  unsigned word[2];
};

// sum += a b for 16 rows, 8 rows of x and 16 columns; bf16, sums in f32.
__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// To nearest even.
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void store_element(unsigned short* at, float value) { *at = f32_to_bf16(value); }

using Head = Words4;

struct Tail {};
__device__ __forceinline__ Tail load_tail(const unsigned char*, int) { return {}; }

// Codes of a unit that the lane has copied for itself, and the head and the tail of a row.
struct UnitCodes {
  const unsigned char* at;

  __device__ __forceinline__ Words4 operator[](int i) const { return *(const Words4*)(at + 512 * (i % kChunkVectors)); }
};

struct Unit {
  UnitCodes codes;
  Head head[1];
  Tail tail[1];
};

// The codes of pairs 2 and 3 are 16 times as large.
__device__ __forceinline__ void pair_codes(const Unit& unit, int pair, unsigned (&a)[1][2][4]) {
  const unsigned mask = pair < 2 ? 0x0f0f0f0fu : 0xf0f0f0f0u;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) a[0][r][k] = unit.codes[2 * r + pair % 2].word[k] & mask;
  } // r: rows
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
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

__device__ __forceinline__ float unit_minimum(const Unit&, const RowScales&, const unsigned char*) { return 0.0f; }

// Scales of a row of this lane's, as unit_product needs them.
struct OwnScales {
  const Unit& unit;
  RowScales scales;

  __device__ __forceinline__ float whole() const { return scales.whole; }
  __device__ __forceinline__ float of_block(int block) const { return (float)scales.of_block(block); }
  __device__ __forceinline__ float minimum(const unsigned char* sums) const { return unit_minimum(unit, scales, sums); }
};

__device__ __forceinline__ OwnScales own_scales(const Unit& unit, int r) { return {unit, row_scales(unit, r)}; }

// The head and the tail of one row of a unit.
__device__ __forceinline__ void load_scales(const unsigned char* at, int row, Unit& unit) {
  unit.head[0] = *(const Head*)(at + 512 * kCodeVectors + row * (int)sizeof(Head));
  unit.tail[0] = load_tail(at, row);
}

// Of v = 1 + code / 128: a number of the block is v * word 0 + word 1.
__device__ __forceinline__ Words2 block_factor(float scale, float minimum) {
  return {{__float_as_uint(128.0f * scale), __float_as_uint(minimum - 128.0f * scale)}};
}

// To nearest even.
__device__ __forceinline__ unsigned f32x2_to_bf16x2(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// Four codes below 128, each placed in the fraction of 1.0 as an f32, times scale plus minimum, rounded once to bf16.
__device__ __forceinline__ void round_codes(unsigned codes, const Words2& factor, unsigned& low, unsigned& high) {
  const unsigned placed = codes | kept(0x80808080u); // in a register, so that it joins a mask of the codes
  float value[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float one_more = __uint_as_float(permute_bytes(placed, 0x3f000000u, 0x7044u + 0x100u * (unsigned)i));
    value[i] = one_more * __uint_as_float(factor.word[0]) + __uint_as_float(factor.word[1]);
  } // i: codes
  low = f32x2_to_bf16x2(value[0], value[1]);
  high = f32x2_to_bf16x2(value[2], value[3]);
}

// What is added to each number of a block.
__device__ __forceinline__ float block_minimum(const Unit&, const OwnScales& own, int block) {
  const unsigned minimum = permute_bytes(own.scales.minimum[block / 4], 0u, 0x4440u | (unsigned)block % 4u);
  return -own.scales.whole_minimum * (float)minimum;
}

// Left, or right if `bits` is negative.
__device__ __forceinline__ unsigned shifted(unsigned word, int bits) { return bits < 0 ? word >> -bits : word << bits; }

// Codes of a pair where pair_codes leaves them further up in their bytes, moved down.
__device__ __forceinline__ unsigned plain_codes(unsigned codes, int pair) { return shifted(codes, -code_shift(pair)); }

__device__ __forceinline__ void plain_pair_codes(const Unit& unit, int pair, unsigned (&codes)[1][2][4]) {
  pair_codes(unit, pair, codes);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) codes[0][r][k] = plain_codes(codes[0][r][k], pair);
  } // r: rows
}

// The codes of a stage's 64 columns, four in a word: they lie otherwise in each of a unit's.
__device__ __forceinline__ void load_codes(const unsigned char* at, int pair, unsigned (&codes)[kRowTiles][1][2][4]) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    Unit unit;
    unit.codes.at = at + m * (kChunkVectors * 512);
    if (pair == 0) plain_pair_codes(unit, 0, codes[m]);
    else if (pair == 1) plain_pair_codes(unit, 1, codes[m]);
    else if (pair == 2) plain_pair_codes(unit, 2, codes[m]);
    else plain_pair_codes(unit, 3, codes[m]);
  } // m: 16-row tiles
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtas)
matmul_q4_K_x_bf16_y_bf16_tc_prepared_c512(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ x,
    unsigned short* __restrict__ y,
    long long rows,
    long long n) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int group = lane / 4;
  const int q = lane % 4;
  const int warp_k = warp / kWarpsRows;                     // which of the units side by side
  const int warp_tile = warp % kWarpsRows * kRowTiles;      // first of its 16-row tiles
  const int x_tiles = (int)((n + kTileX - 1) / kTileX);
  const long long first_tile = (long long)((int)blockIdx.x / x_tiles) * kTiles;
  const long long first_x = (long long)((int)blockIdx.x % x_tiles) * kTileX;

  // Begins to fill a place with a stage of x: 64 columns of the units that the CTA then multiplies.
  const int own_line = threadIdx.x / 8;
  const int own_x_row = own_line % kTileX;
  const int last_x = (int)min_of(kTileX, n - first_x) - 1;
  const int own_x_at = 512 * (own_line / kTileX) + 16 * (threadIdx.x % 8);
  const unsigned char* const own_x = kept(x + (first_x + own_x_row) * kXRowBytes + own_x_at);
  const unsigned own_place = kept(shared_address(shared) + 128 * own_line + x_place(own_line, threadIdx.x % 8));
  const auto copy_x = [&](int stage, int slot) {
    const int at = 512 * kWarpsK * (stage / 4) + 128 * (stage % 4);
    const unsigned to = own_place + slot * kXStageBytes;
    if (last_x == kTileX - 1) {
      const unsigned char* const from = own_x + at;
#pragma unroll
      for (int i = 0; i < kXRuns; ++i) {
        copy_vector(to + 128 * kLineStep * i, from + (x_row_of(i) * kXRowBytes + 512 * x_unit_of(i)));
      } // i: runs of this thread
    } else { // past the last row of x, that is read again
#pragma unroll 1
      for (int i = 0; i < kXRuns; ++i) {
        const int row = own_x_row + x_row_of(i) < last_x ? own_x_row + x_row_of(i) : last_x;
        const unsigned char* const from = own_x + (row - own_x_row) * kXRowBytes + at;
        copy_vector(to + 128 * kLineStep * i, from + 512 * x_unit_of(i));
      } // i: runs of this thread
    }
  };

  // Begins to copy what this lane reads of w for a stage and those that share its chunk; past the last tile of rows,
  // that is read again and its sums are not stored.
  const long long last_tile = (rows - 1) / 16;
  constexpr int kSlotBytes = kRowTiles * kChunkVectors * 512;
  unsigned char* const own_w = shared + kept((unsigned)(kWAt + warp * (kChunkSlots * kSlotBytes) + 16 * lane));
  unsigned char* const own_heads = shared + kHeadsAt + warp * (kRowTiles * kHeadBytes);
  const unsigned char* own_tile[kRowTiles];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    const long long tile = min_of(first_tile + warp_tile + m, last_tile);
    own_tile[m] = kept(w + tile * (kUnits * (long long)kUnitBytes) + 16 * lane);
  } // m: 16-row tiles
  const auto copy_w = [&](int stage, int slot) {
    if (stage % kChunkStages != 0) return;
    const int last_u = kUnits - 1; // is copied again by warps that have no more
    const int own_u = stage / 4 * kWarpsK + warp_k;
    const int u = kUnits % kWarpsK == 0 || own_u < last_u ? own_u : last_u;
    const unsigned to = shared_address(own_w) + slot * kSlotBytes;
    const unsigned heads_to = shared_address(own_heads) + 16 * lane;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const unsigned char* const from =
          own_tile[m] + u * kUnitBytes + stage % 4 / kChunkStages * (kChunkVectors * 512);
#pragma unroll
      for (int i = 0; i < kChunkVectors; ++i)
        copy_vector(to + (m * kChunkVectors + i) * 512, from + i * 512);
      if (stage % 4 == 0) {
#pragma unroll
        for (int i = 0; i < kHeadBytes; i += 512) {
          if (i + 512 <= kHeadBytes || i + 16 * lane < kHeadBytes)
            copy_vector(heads_to + m * kHeadBytes + i, from + 512 * kCodeVectors + i);
        } // i: 512 bytes
      }
    } // m: 16-row tiles
  };
  Words2* const table = (Words2*)(shared + kTablesAt) + warp * (kBlocks * kTableRows);
  const unsigned own_factors = kept((unsigned)(kTablesAt + 8 * (warp * (kBlocks * kTableRows) + q / 2 * kTableRows + (group ^ q / 2 * 8))));

  const auto make_tables = [&](int) {
    __syncwarp(); // the tables of the unit before have been read
#pragma unroll
    for (int own = 0; own < kRowTiles * 16; own += 32) {
      const int row = own + lane;
      if (kRowTiles * 16 % 32 != 0 && row >= kRowTiles * 16) break;
      Unit unit = {};
      load_scales(own_heads + row / 16 * kHeadBytes - 512 * kCodeVectors, row % 16, unit);
      const OwnScales scales = own_scales(unit, 0);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const float scale = kFactor * scales.whole() * scales.of_block(block);
        table[block * kTableRows + (row ^ block % 2 * 8)] = block_factor(scale, block_minimum(unit, scales, block));
      } // block: of a unit
    } // own: rows of this lane
    __syncwarp();
  };
  float total[kRowTiles][kXTiles][4] = {};
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < kSteps) {
      copy_x(stage, stage);
      copy_w(stage, stage / 4);
    }
    end_copy_group();
  } // stage: on their way
  const unsigned x_lane = kept((unsigned)(warp_k * (kTileX * 128) + 128 * group + x_place(group, x_sixteen(q))));
  int slot = 0;
#pragma unroll 1
  for (int stage = 0; stage < kSteps; ++stage) {
    const int pair = stage % 4; // which 64 columns of a unit
    wait_for_copies<kStages - 2>();
    __syncthreads(); // this stage is there, the one before has been read
    if (stage + kStages - 1 < kSteps) {
      const int far_slot = slot == 0 ? kStages - 1 : slot - 1;
      copy_x(stage + kStages - 1, far_slot);
      copy_w(stage + kStages - 1, (stage + kStages - 1) / 4 % 2);
    }
    end_copy_group();
    if (kUnits % kWarpsK == 0 || stage / 4 * kWarpsK + warp_k < kUnits) {
      if (pair == 0) make_tables(stage / 4);
      unsigned codes[kRowTiles][1][2][4];
      load_codes(own_w + kSlotBytes * (stage / 4 % 2), pair, codes);
      const unsigned factors_at = own_factors + 8 * kBlocks / 4 * kTableRows * pair;
#pragma unroll
      for (int half = 0; half < 2; ++half) { // two steps of 16 columns
        __syncwarp(); // compilers don't load x for both halves at once, which would take too many registers
        unsigned a[2][kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const unsigned factor_at = (factors_at ^ 64 * r) + 8 * (kBlocks / 16 * 2 * half * kTableRows + 16 * m);
            const Words2 factor = *(const Words2*)(shared + factor_at);
#pragma unroll
            for (int k = 0; k < 2; ++k) round_codes(codes[m][0][r][2 * half + k], factor, a[k][m][r], a[k][m][r + 2]);
          } // r: rows
        } // m: 16-row tiles
        const unsigned x_at = (x_lane + slot * kXStageBytes) ^ half * kXHalf;
#pragma unroll
        for (int first = 0; first < kXTiles; first += kXGroup) {
          Words4 own[kXGroup];
#pragma unroll
          for (int j = 0; j < kXGroup; ++j) own[j] = *(const Words4*)(shared + x_at + 1024 * (first + j));
#pragma unroll
          for (int k = 0; k < 2; ++k) {
#pragma unroll
            for (int j = 0; j < kXGroup; ++j) {
              const unsigned x_words[2] = {own[j].word[2 * k], own[j].word[2 * k + 1]};
#pragma unroll
              for (int m = 0; m < kRowTiles; ++m) mma(total[m][first + j], a[k][m], x_words);
            } // j: 8-row tiles of x
          } // k: steps of 16 columns
        } // first: of some 8-row tiles of x
      } // half: two steps
    }
    slot = slot == kStages - 1 ? 0 : slot + 1;
  } // stage: 64 columns

  // By way of shared memory, so that neighbours in a warp store neighbours in a row of y.
  constexpr int kRowPitch = kTiles * 16 + 4; // spreads rows of x over the banks
  constexpr int kPassTiles = kXTiles / kPasses;
  float* const products = (float*)shared;
  wait_for_copies<0>();
  const int row_of_tile = threadIdx.x % (kTiles * 16);
  const long long row = first_tile * 16 + row_of_tile;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    __syncthreads(); // what lies there has been read
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int j = 0; j < kPassTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int x_row = warp_k * kPassTiles * 8 + j * 8 + 2 * q + i % 2;
          const int row_at = (warp_tile + m) * 16 + i / 2 * 8 + group;
          products[x_row * kRowPitch + row_at] = total[m][pass * kPassTiles + j][i];
        } // i: two rows of w and of x
      } // j: 8-row tiles of x
    } // m: 16-row tiles
    __syncthreads();
    if (row < rows) {
#pragma unroll 4
      for (int j = threadIdx.x / (kTiles * 16); j < kPassTiles * 8; j += kThreads / (kTiles * 16)) {
        float product = products[j * kRowPitch + row_of_tile];
#pragma unroll
        for (int k = 1; k < kWarpsK; ++k) product += products[(k * kPassTiles * 8 + j) * kRowPitch + row_of_tile];
        const long long x_row = first_x + pass * (kPassTiles * 8) + j;
        if (x_row < n) store_element(y + x_row * rows + row, product);
      } // j: rows of x
    }
  } // pass: of the rows of x
}
