// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/unit_matmul.cu.in.
//   kernel   matmul_q4_K_x_bf16_y_bf16_prepared_c512, emitter version 7
//   w        in   q4_K  [rows, 512]  prepared
//   x        in   bf16  [n, 512]  row-major
//   y        out  bf16  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32, then rounded once to bf16, to nearest even
//   arch     sm_86, no instruction decodes q4_K blocks: codes to bf16x2 integers; mma m16n8k16 bf16
//   tiles    128 rows of w, 128 of x, 3 stages; warps 4 x 2 x 1 along rows, x, columns; codes to bf16x2 integers; mma m16n8k16 bf16
//   launch   grid (ceil(rows / 128), ceil(n / 128), 1), block (256, 1, 1), 98304 bytes of dynamic shared memory
//
// y^T = w x^T: codes of w, as integers, are the operand of 16 rows, so that a decoded code serves all rows of x of a warp.
// w comes as units of 16 rows and 256 columns, x in stages of 64 columns. The sums of each block
// of 32 columns are multiplied by its scale when they join the totals.

constexpr int kCols = 512;                                   // columns of w, and of each row of x
constexpr int kRun = 8;                                      // columns of x that a thread moves at once
constexpr int kXBytes = 2;                                   // bytes of an element of x
constexpr int kUnits = 2;                                    // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 2304;                             // bytes of a unit
constexpr int kCodeVectors = 4;                              // 16-byte vectors of codes that a lane has of a unit
constexpr int kThreads = 256;                                // threads per CTA
constexpr int kTiles = 8;                                    // 16-row tiles of w of a CTA
constexpr int kTileX = 128;                                  // rows of x of a CTA
constexpr int kWarpsRows = 4;                                // warps side by side along the rows of w
constexpr int kWarpsX = 2;                                   // along the rows of x
constexpr int kWarpsK = 1;                                   // along the columns: each has every so manyth unit
constexpr int kUnitSteps = (kUnits + kWarpsK - 1) / kWarpsK; // units that a warp has at most
constexpr int kRowTiles = kTiles / kWarpsRows;               // 16-row tiles of a warp
constexpr int kXTiles = kTileX / kWarpsX / 8;                // 8-row tiles of x of a warp
constexpr int kTerms = 1;                                    // 16-bit numbers whose sum is a number of x
constexpr int kXRuns = kWarpsK * kTileX * 8 / kThreads;      // runs of x that a thread moves of a stage
constexpr int kStages = 3;                                   // stages of x: in use or on their way
constexpr int kUnitSlots = 2;                                // places for a unit: in use or on its way
constexpr int kBlocks = 8;                                   // blocks of a unit, whose columns share a scale
constexpr int kPairBlocks = kBlocks / 4;                     // in a stage
constexpr int kBlockSteps = 2;                               // mma along the columns of a block
constexpr int kTables = 2;                                   // of scales and of minima
constexpr int kXRowMask = 1;                                 // how 16-byte places of x are exchanged
constexpr int kXRowStep = 4;
constexpr int kUnitsAt = 49152;                              // bytes of shared memory before the units
constexpr int kFactorsAt = 86016;                            // before the scales of blocks
constexpr float kFactor = 1.0f;                              // by which all scales are too small
constexpr unsigned kPairOffset = 0xc300c300u;                // -128, twice
constexpr int kSumsAt = 94208;                               // before the sums of x over blocks
constexpr unsigned kOnes = 0x3f803f80u;                      // 1, twice
// Bits by which codes of pair 0 to 3 lie further up in their bytes.
__device__ __forceinline__ constexpr int code_shift(int pair) {
  return pair == 0 ? 0 : pair == 1 ? 0 : pair == 2 ? 4 : 4;
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

struct alignas(16) Words4 {
  unsigned word[4];
};

using Head = Words4;

struct Tail {};
__device__ __forceinline__ Tail load_tail(const unsigned char*, int) { return {}; }

// Where the words of a vector lie whose columns are each word's own: words 2 b and 2 b + 1 are two of the lanes of block b.
__device__ __forceinline__ int lane_place(int lane) { return 16 * (lane / 4 * 4 + lane % 2) + 8 * (lane / 2 % 2); }
__device__ __forceinline__ constexpr int word_place(int k) { return 32 * (k / 2) + 4 * (k % 2); }

// A unit in shared memory: its codes, read word by word as a lane of mma has them, and the head and the tail of a row.
struct UnitWords {
  const unsigned char* at;

  __device__ __forceinline__ unsigned operator[](int k) const { return *(const unsigned*)(at + word_place(k)); }
};

struct UnitVector {
  UnitWords word;
};

struct UnitCodes {
  const unsigned char* at;

  __device__ __forceinline__ UnitVector operator[](int i) const { return {{at + 512 * i}}; }
};

struct Unit {
  UnitCodes codes;
  Head head[1];
  Tail tail[1];
};

__device__ __forceinline__ void exchange_words(unsigned (&)[2][4], int) {}

// The codes of pairs 2 and 3 are 16 times as large.
__device__ __forceinline__ void pair_codes(const Unit& unit, int pair, unsigned (&a)[1][2][4]) {
  const unsigned mask = pair < 2 ? 0x0f0f0f0fu : 0xf0f0f0f0u;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int k = 0; k < 4; ++k) a[0][r][k] = unit.codes[2 * r + pair % 2].word[k] & mask;
  } // r: rows
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// a times one plus b, the addition that sm_80 has.
__device__ __forceinline__ unsigned add_bf16x2(unsigned a, unsigned b) {
  unsigned sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b));
  return sum;
}

// Four codes below 128 as bf16 integers: 0x4300 | code reads as 128 + code. kPairOffset takes off 128 and what codes
// have added.
__device__ __forceinline__ void code_pairs(unsigned codes, unsigned& low, unsigned& high) {
  low = add_bf16x2(permute_bytes(codes, 0x43434343u, 0x4140u), kPairOffset);
  high = add_bf16x2(permute_bytes(codes, 0x43434343u, 0x4342u), kPairOffset);
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

// What a lane feeds to the mma of a block: 8 columns of a row of x.
using XWords = Words4;

// Where 16 bytes of a row of x lie in its 128 of a stage: 16-byte places are exchanged by rows, so that the rows which
// lanes read at once lie in different banks.
__device__ __forceinline__ int x_place(int row, int sixteen) { return 16 * (sixteen ^ (row & kXRowMask) * kXRowStep); }

// sum += a b for 16 rows, 8 rows of x and 16 columns; bf16, sums in f32.
__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// To shared memory, past the registers and the L1 cache; ends some time before wait_for_copies returns.
__device__ __forceinline__ void copy_16_bytes(unsigned char* to, const unsigned char* from) {
  const unsigned shared_to = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(shared_to), "l"(from) : "memory");
}

__device__ __forceinline__ void begin_copy(unsigned char* to, const unsigned char* from) { copy_16_bytes(to, from); }

__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;" : : : "memory"); }

__device__ __forceinline__ void end_copies() { end_copy_group(); }

// Waits until at most kLeft of this thread's groups of copies have not ended.
template <int kLeft>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kLeft) : "memory");
}

template <int kLeft>
__device__ __forceinline__ void copies_done() {
  wait_for_copies<kLeft>();
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

// To nearest even.
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void store_element(unsigned short* at, float value) { *at = f32_to_bf16(value); }

extern "C" __global__ void __launch_bounds__(kThreads, 1)
matmul_q4_K_x_bf16_y_bf16_prepared_c512(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ x,
    unsigned short* __restrict__ y,
    long long rows,
    long long n) {
  extern __shared__ __align__(128) unsigned char shared[];
  unsigned char* const x_ring = shared;
  unsigned char* const units = shared + kUnitsAt;
  float* const factors = (float*)(shared + kFactorsAt);
  float* const minima = factors + kWarpsK * (kBlocks * kTiles * 16);
  float* const x_sums = (float*)(shared + kSumsAt);
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int group = lane / 4; // row of an 8-row fragment
  const int q = lane % 4;
  const int warp_k = warp / (kWarpsRows * kWarpsX);                // which of the units side by side
  const int warp_tile = warp / kWarpsX % kWarpsRows * kRowTiles;   // first of its 16-row tiles
  const int warp_x = warp % kWarpsX * (kXTiles * 8);               // first of its rows of x
  const long long first_tile = (long long)blockIdx.x * kTiles;
  const long long first_x = (long long)blockIdx.y * kTileX;

  // Begins to fill a stage with x: 64 columns of the units that the CTA then multiplies.
  const auto copy_x = [&](int stage) {
#pragma unroll
    for (int i = 0; i < kXRuns; ++i) {
      const int run = threadIdx.x + i * kThreads;
      const int row = run / 8 % kTileX;
      const int k = run / (8 * kTileX);
      const int col = (stage / 4 * kWarpsK + k) * 256 + stage % 4 * 64 + run % 8 * kRun;
      unsigned char* to = x_ring + ((stage % kStages * kWarpsK + k) * kTileX + row) * 128 + x_place(row, run % 8);
      const unsigned char* from = x + (min_of(first_x + row, n - 1) * kCols + col) * kXBytes;
      begin_copy(to, from);
    } // i: runs of this thread
  };
  // Begins to copy the units that the CTA has next.
  const long long last_tile = (rows - 1) / 16;
  const auto copy_units = [&](int v) {
#pragma unroll 1
    for (int at = threadIdx.x; at < kWarpsK * kTiles * (kUnitBytes / 16); at += kThreads) {
      const int vector = at % (kUnitBytes / 16);
      const int tile = at / (kUnitBytes / 16) % kTiles;
      const int unit = v * kWarpsK + at / (kUnitBytes / 16 * kTiles);
      // Past the last tile of rows, that is read again and its sums are not stored.
      const long long from = (min_of(first_tile + tile, last_tile) * kUnits + unit) * kUnitBytes;
      if (unit < kUnits)
        begin_copy(units + v % kUnitSlots * (kWarpsK * kTiles * kUnitBytes) + 16 * at, w + from + 16 * vector);
    } // at: vectors of this thread
  };

  copy_units(0);
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    copy_x(stage);
    end_copies();
  } // stage: on their way

  float total[kRowTiles][kXTiles][4] = {};
#pragma unroll 1
  for (int v = 0; v < kUnitSteps; ++v) {
    const bool has_unit = kUnits % kWarpsK == 0 || v * kWarpsK + warp_k < kUnits;
    const unsigned char* own_units = units + ((v % kUnitSlots * kWarpsK + warp_k) * kTiles + warp_tile) * kUnitBytes + lane_place(lane);
    const float* own_factors = factors + warp_k * (kBlocks * kTiles * 16) + warp_tile * 16 + group;
#pragma unroll 1
    for (int pair = 0; pair < 4; ++pair) {
      const int stage = 4 * v + pair;
      copies_done<kStages - 2>();
      __syncthreads(); // this stage is there, the one before has been read
      if (stage + kStages - 1 < 4 * kUnitSteps) copy_x(stage + kStages - 1);
      if (pair == 0 && v + 1 < kUnitSteps) copy_units(v + 1);
      end_copies();
      if (pair == 0) {
        for (int task = threadIdx.x; task < kWarpsK * kTables * kTiles * 16; task += kThreads) {
          const int row = task % (kTiles * 16);
          const int k = task / (kTables * kTiles * 16);
          const unsigned char* at = units + ((v % kUnitSlots * kWarpsK + k) * kTiles + row / 16) * kUnitBytes;
          if (v * kWarpsK + k >= kUnits) continue;
          Unit unit = {};
          load_scales(at, row % 16, unit);
          const OwnScales scales = own_scales(unit, 0);
          float* own = (task / (kTiles * 16) % 2 == 0 ? factors : minima) + k * (kBlocks * kTiles * 16);
          if (task / (kTiles * 16) % 2 == 0) {
            #pragma unroll
            for (int block = 0; block < kBlocks; ++block) {
              own[block * (kTiles * 16) + row] = kFactor * scales.whole() * scales.of_block(block);
            } // block: of a unit
          } else {
            #pragma unroll
            for (int block = 0; block < kBlocks; ++block) {
              own[block * (kTiles * 16) + row] = block_minimum(unit, scales, block);
            } // block: of a unit
          }
        } // task: a row's scales
        __syncthreads();
      }
      if (has_unit) {
        unsigned codes[kRowTiles][1][2][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          Unit unit;
          unit.codes.at = own_units + m * kUnitBytes;
          pair_codes(unit, pair, codes[m]);
          exchange_words(codes[m][0], lane);
        } // m: 16-row tiles
        const unsigned char* x_stage =
            x_ring + ((stage % kStages * kWarpsK + warp_k) * kTerms * kTileX + warp_x + group) * 128;
#pragma unroll
        for (int b = 0; b < kPairBlocks; ++b) {
          unsigned a[kRowTiles][kBlockSteps][4];
          float factor[kRowTiles][2];
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
#pragma unroll
              for (int s = 0; s < kBlockSteps; ++s) {
                code_pairs(plain_codes(codes[m][0][r][b * kBlockSteps + s], pair), a[m][s][r], a[m][s][r + 2]);
              } // s: 16 columns
              factor[m][r] = own_factors[(pair * kPairBlocks + b) * (kTiles * 16) + m * 16 + 8 * r];
            } // r: rows
          } // m: 16-row tiles
          const unsigned char* x_lane = x_stage + x_place(group, 4 * b + 2 * (q % 2) + q / 2);
#pragma unroll
          for (int j = 0; j < kXTiles; ++j) {
            float sum[kRowTiles][4] = {};
#pragma unroll
            for (int t = 0; t < kTerms; ++t) {
              const XWords own = *(const XWords*)(x_lane + (t * kTileX + j * 8) * 128);
#pragma unroll
              for (int s = 0; s < kBlockSteps; ++s) {
                const unsigned x_words[2] = {own.word[2 * s], own.word[2 * s + 1]};
#pragma unroll
                for (int m = 0; m < kRowTiles; ++m) mma(sum[m], a[m][s], x_words);
              } // s: 16 columns
            } // t: terms of x
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
              for (int i = 0; i < 4; ++i) total[m][j][i] += factor[m][i / 2] * sum[m][i];
            } // m: 16-row tiles
          } // j: 8-row tiles of x
#pragma unroll 1
          for (int j = warp % (kWarpsRows * kWarpsX); j < kTileX / 8; j += kWarpsRows * kWarpsX) {
            float sum[4] = {};
            const unsigned ones[4] = {kOnes, kOnes, kOnes, kOnes};
#pragma unroll
            for (int t = 0; t < kTerms; ++t) {
              const XWords own = *(const XWords*)(x_lane + (t * kTileX + j * 8 - warp_x) * 128);
#pragma unroll
              for (int s = 0; s < kBlockSteps; ++s) {
                const unsigned x_words[2] = {own.word[2 * s], own.word[2 * s + 1]};
                mma(sum, ones, x_words);
              } // s: 16 columns
            } // t: terms of x
            if (group == 0) { // all 16 rows of the product are the same
              float* own_sums = x_sums + (warp_k * kBlocks + pair * kPairBlocks + b) * kTileX + j * 8 + 2 * q;
              own_sums[0] = sum[0];
              own_sums[1] = sum[1];
            }
          } // j: 8-row tiles of x
        } // b: blocks
      }
    } // pair: 64 columns
    __syncthreads(); // the sums of x over the unit's blocks are there
    if (has_unit) {
#pragma unroll 1
      for (int block = 0; block < kBlocks; ++block) {
        const float* own_minima = minima + (warp_k * kBlocks + block) * (kTiles * 16) + warp_tile * 16 + group;
        const float* own_sums = x_sums + (warp_k * kBlocks + block) * kTileX + warp_x + 2 * q;
        float minimum[kRowTiles][2];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          minimum[m][0] = own_minima[m * 16];
          minimum[m][1] = own_minima[m * 16 + 8];
        } // m: 16-row tiles
#pragma unroll
        for (int j = 0; j < kXTiles; ++j) {
          const float sum[2] = {own_sums[j * 8], own_sums[j * 8 + 1]};
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
            for (int i = 0; i < 4; ++i) total[m][j][i] += minimum[m][i / 2] * sum[i % 2];
          } // m: 16-row tiles
        } // j: 8-row tiles of x
      } // block: of a unit
    }
  } // v: units one after another

  // By way of shared memory, so that neighbours in a warp store neighbours in a row of y.
  constexpr int kRowPitch = kTiles * 16 + 4; // spreads rows of x over the banks
  float* const products = (float*)shared;
  copies_done<0>();
  __syncthreads(); // all stages have been read
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int j = 0; j < kXTiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        products[(warp_k * kTileX + warp_x + j * 8 + 2 * q + i % 2) * kRowPitch + (warp_tile + m) * 16 + i / 2 * 8 + group] =
            total[m][j][i];
      } // i: two rows of w and of x
    } // j: 8-row tiles of x
  } // m: 16-row tiles
  __syncthreads();
  const int row_of_tile = threadIdx.x % (kTiles * 16);
  const long long row = first_tile * 16 + row_of_tile;
  if (row >= rows) return;
#pragma unroll 4
  for (int j = threadIdx.x / (kTiles * 16); j < kTileX; j += kThreads / (kTiles * 16)) {
    float product = products[j * kRowPitch + row_of_tile];
#pragma unroll
    for (int k = 1; k < kWarpsK; ++k) product += products[(k * kTileX + j) * kRowPitch + row_of_tile];
    if (first_x + j < n) store_element(y + (first_x + j) * rows + row, product);
  } // j: rows of x
}
