// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/unit_matmul.cu.in.
//   kernel   matmul_q6_K_x_f32_c2048, emitter version 7
//   w        in   q6_K  [rows, 2048]  row-major, blocks of 256 elements in 210 bytes
//   x        in   f32  [n, 2048]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_90a, no instruction decodes q6_K blocks: codes to bf16x2 integers; mma m16n8k16 bf16, x in 3 terms
//   tiles    32 rows of w, 16 of x, 2 stages; warps 2 x 1 x 4 along rows, x, columns; codes to bf16x2 integers; mma m16n8k16 bf16, x in 3 terms
//   launch   grid (ceil(rows / 32), ceil(n / 16), 1), block (256, 1, 1), 84224 bytes of dynamic shared memory
//
// y^T = w x^T: codes of w, as integers, are the operand of 16 rows, so that a decoded code serves all rows of x of a warp.
// w comes as units of 16 rows and 256 columns, made of native blocks here, x in stages of 64 columns. The sums of each block
// of 16 columns are multiplied by its scale when they join the totals.

constexpr int kCols = 2048;                                  // columns of w, and of each row of x
constexpr int kRun = 8;                                      // columns of x that a thread moves at once
constexpr int kXBytes = 4;                                   // bytes of an element of x
constexpr int kUnits = 8;                                    // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 3360;                             // bytes of a unit
constexpr int kCodeVectors = 6;                              // 16-byte vectors of codes that a lane has of a unit
constexpr int kThreads = 256;                                // threads per CTA
constexpr int kTiles = 2;                                    // 16-row tiles of w of a CTA
constexpr int kTileX = 16;                                   // rows of x of a CTA
constexpr int kWarpsRows = 2;                                // warps side by side along the rows of w
constexpr int kWarpsX = 1;                                   // along the rows of x
constexpr int kWarpsK = 4;                                   // along the columns: each has every so manyth unit
constexpr int kUnitSteps = (kUnits + kWarpsK - 1) / kWarpsK; // units that a warp has at most
constexpr int kRowTiles = kTiles / kWarpsRows;               // 16-row tiles of a warp
constexpr int kXTiles = kTileX / kWarpsX / 8;                // 8-row tiles of x of a warp
constexpr int kTerms = 3;                                    // 16-bit numbers whose sum is a number of x
constexpr int kXRuns = kWarpsK * kTileX * 8 / kThreads;      // runs of x that a thread moves of a stage
constexpr int kStages = 2;                                   // stages of x: in use or on their way
constexpr int kUnitSlots = 1;                                // places for a unit: in use or on its way
constexpr int kBlocks = 16;                                  // blocks of a unit, whose columns share a scale
constexpr int kPairBlocks = kBlocks / 4;                     // in a stage
constexpr int kBlockSteps = 1;                               // mma along the columns of a block
constexpr int kTables = 1;                                   // of scales
constexpr int kXRowMask = 3;                                 // how 16-byte places of x are exchanged
constexpr int kXRowStep = 2;
constexpr int kUnitsAt = 49152;                              // bytes of shared memory before the units
constexpr int kFactorsAt = 76032;                            // before the scales of blocks
constexpr float kFactor = 1.0f;                              // by which all scales are too small
constexpr unsigned kPairOffset = 0xc320c320u;                // -160, twice
constexpr long long kRowBytes = 1680;                        // bytes of one row of w
constexpr int kCodeBytes = 3072;                             // of a unit are codes, then come the heads of 16 rows, then their tails
constexpr int kHeadBytes = 16;                               // bytes of a row's head
constexpr int kTailBytes = 2;                                // bytes of a row's tail
// Bits by which codes of pair 0 to 3 lie further up in their bytes.
__device__ __forceinline__ constexpr int code_shift(int pair) {
  return pair == 0 ? 0 : pair == 1 ? 0 : pair == 2 ? 0 : 2;
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

struct alignas(16) Words4 {
  unsigned word[4];
};

using Head = Words4;

using Tail = unsigned short;
__device__ __forceinline__ Tail load_tail(const unsigned char* at, int row) {
  return *(const Tail*)(at + 512 * kCodeVectors + 16 * (int)sizeof(Head) + row * 2);
}

// Where the words of a vector lie whose columns are each word's own: word b is one of the lanes of block b.
__device__ __forceinline__ int lane_place(int lane) { return 16 * (lane / 4 * 4 + lane % 2) + 4 * (lane / 2 % 2); }
__device__ __forceinline__ constexpr int word_place(int k) { return 32 * (k % 2) + 8 * (k / 2); }

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

// Three vectors of a row have pairs 0, 1 and 2 in the lower 6 bits; the other bits are those of pair 3, the lowest
// first. The codes of pair 3 are 4 times as large.
__device__ __forceinline__ void pair_codes(const Unit& unit, int pair, unsigned (&a)[1][2][4]) {
  if (pair < 3) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int k = 0; k < 4; ++k) a[0][r][k] = unit.codes[3 * r + pair].word[k] & 0x3f3f3f3fu;
    } // r: rows
  } else {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        a[0][r][k] = (unit.codes[3 * r].word[k] >> 4 & 0x0c0c0c0cu) | (unit.codes[3 * r + 1].word[k] >> 2 & 0x30303030u) |
                     (unit.codes[3 * r + 2].word[k] & 0xc0c0c0c0u);
      } // k: words
    } // r: rows
  }
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

// Byte i of a word as a signed number: a selector with bit 3 set copies the byte's sign.
__device__ __forceinline__ int signed_byte(unsigned word, int i) {
  return (int)permute_bytes(word, 0u, 0x8880u + 0x1111u * (unsigned)i);
}

// A row's scales: sixteen signed bytes under d.
struct RowScales {
  unsigned scale[4];
  float whole;

  __device__ __forceinline__ int of_block(int block) const { return signed_byte(scale[block / 4], block % 4); }
};

__device__ __forceinline__ RowScales row_scales(const Unit& unit, int r) {
  const Words4& head = unit.head[r];
  return {{head.word[0], head.word[1], head.word[2], head.word[3]}, f16_to_f32(unit.tail[r])};
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

struct alignas(8) Words2 {
  unsigned word[2];
};

// What a lane feeds to the mma of a block: 4 columns of a row of x.
using XWords = Words2;

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

// Left, or right if `bits` is negative.
__device__ __forceinline__ unsigned shifted(unsigned word, int bits) { return bits < 0 ? word >> -bits : word << bits; }

// Codes of a pair where pair_codes leaves them further up in their bytes, moved down.
__device__ __forceinline__ unsigned plain_codes(unsigned codes, int pair) { return shifted(codes, -code_shift(pair)); }

// Eight columns of a row.
template <int kBytes>
struct alignas(kBytes >= 2 ? 16 : 8) Run {
  unsigned word[2 * kBytes];
};

// Zeros past the last column.
template <int kBytes>
__device__ __forceinline__ Run<kBytes> load_run(const unsigned char* row, int col) {
  Run<kBytes> run = {};
  if (col < kCols) run = *(const Run<kBytes>*)(row + col * kBytes);
  return run;
}

// What a term leaves; nothing after an infinity, which would leave a NaN.
__device__ __forceinline__ float finite_rest(float value, float term) {
  return value == term ? 0.0f : value - term;
}

// Eight columns of x, f32, as three bf16 whose sum they are: the upper half of a number's bits, then that of the rest.
__device__ __forceinline__ float run_terms(const Run<kXBytes>& run, Words4 (&term)[kTerms]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float rest[2] = {__uint_as_float(run.word[2 * i]), __uint_as_float(run.word[2 * i + 1])};
#pragma unroll
    for (int t = 0; t < kTerms; ++t) {
      term[t].word[i] = permute_bytes(__float_as_uint(rest[0]), __float_as_uint(rest[1]), 0x7632u);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        rest[j] = finite_rest(rest[j], __uint_as_float(__float_as_uint(rest[j]) & 0xffff0000u));
      } // j: of two columns
    } // t: terms
  } // i: pairs of columns
  return 1.0f;
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

__device__ __forceinline__ unsigned code_of(const unsigned char* row, int col) {
  const unsigned char* block = row + col / 256 * 210;
  const int e = col % 256;
  const int group = e % 128 / 32;
  return (block[e / 128 * 64 + group % 2 * 32 + e % 32] >> group / 2 * 4 & 15u) |
         (block[128 + e / 128 * 32 + e % 32] >> 2 * group & 3u) << 4;
}
__device__ __forceinline__ unsigned char head_byte(const unsigned char* row, int u, int i) { return row[u * 210 + 192 + i]; }
__device__ __forceinline__ unsigned char tail_byte(const unsigned char* row, int u, int i) { return row[u * 210 + 208 + i]; }

// Word k of a lane's 16-byte vector.
__device__ __forceinline__ unsigned* word_at(unsigned char* unit, int vector, int lane, int k) {
  return (unsigned*)(unit + 512 * vector + 16 * lane + 4 * k);
}

__device__ __forceinline__ void store_codes(unsigned char* unit, int lane, int half, int k, const unsigned (&codes)[4]) {
#pragma unroll
  for (int pair = 0; pair < 3; ++pair) {
    *word_at(unit, 3 * half + pair, lane, k) = codes[pair] | (codes[3] >> 2 * pair & 0x03030303u) << 6;
  } // pair: of mma
}

// Column of a unit that is number i of the four in word k of lane q's, in a pair of mma.
__device__ __forceinline__ constexpr int column_of(int pair, int k, int q, int i) {
  return 64 * pair + 32 * (k / 2) + 8 * q + 4 * (k % 2) + i;
}

// Writes what lane q of four has of a row of unit u; the first of them its head and tail, too. Zeros if it is no row.
template <typename Row>
__device__ __forceinline__ void prepare_quarter(const Row& from, bool is_row, int u, int row_of_unit, int q,
                                                unsigned char* unit) {
  const int half = row_of_unit / 8;
  const int lane = row_of_unit % 8 * 4 + q;
  for (int k = 0; k < 4; ++k) {
    unsigned codes[4] = {}; // of pairs 0 to 3, word k of four neighbours each
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int col = 256 * u + column_of(pair, k, q, i);
        if (is_row && col < kCols) codes[pair] |= code_of(from, col) << 8 * i;
      } // i: neighbours
    } // pair: of mma
    store_codes(unit, lane, half, k, codes);
  } // k: words
  if (q != 0) return;
  unsigned char* head = unit + kCodeBytes + row_of_unit * kHeadBytes;
  for (int i = 0; i < kHeadBytes; ++i) head[i] = is_row ? head_byte(from, u, i) : 0;
  unsigned char* tail = unit + kCodeBytes + 16 * kHeadBytes + row_of_unit * kTailBytes;
  for (int i = 0; i < kTailBytes; ++i) tail[i] = is_row ? tail_byte(from, u, i) : 0;
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
matmul_q6_K_x_f32_c2048(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ x,
    float* __restrict__ y,
    long long rows,
    long long n) {
  extern __shared__ __align__(128) unsigned char shared[];
  unsigned char* const x_ring = shared;
  unsigned char* const units = shared + kUnitsAt;
  float* const factors = (float*)(shared + kFactorsAt);
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
  Run<kXBytes> x_next[kXRuns];
  const auto load_x = [&](int stage) {
#pragma unroll
    for (int i = 0; i < kXRuns; ++i) {
      const int run = threadIdx.x + i * kThreads;
      const int row = run / 8 % kTileX;
      const int k = run / (8 * kTileX);
      const int col = (stage / 4 * kWarpsK + k) * 256 + stage % 4 * 64 + run % 8 * kRun;
      x_next[i] = load_run<kXBytes>(x + min_of(first_x + row, n - 1) * kCols * kXBytes, col);
    } // i: runs of this thread
  };
  const auto store_x = [&](int stage) {
#pragma unroll
    for (int i = 0; i < kXRuns; ++i) {
      const int run = threadIdx.x + i * kThreads;
      const int row = run / 8 % kTileX;
      const int k = run / (8 * kTileX);
      Words4 term[kTerms];
      run_terms(x_next[i], term);
#pragma unroll
      for (int t = 0; t < kTerms; ++t) {
        *(Words4*)(x_ring + (((stage % kStages * kWarpsK + k) * kTerms + t) * kTileX + row) * 128 + x_place(row, run % 8)) = term[t];
      } // t: terms of x
    } // i: runs of this thread
  };

#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    load_x(stage);
    store_x(stage);
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
      if (stage + kStages - 1 < 4 * kUnitSteps) load_x(stage + kStages - 1);
      end_copies();
      if (pair == 0) {
        for (int task = threadIdx.x; task < kWarpsK * kTiles * 64; task += kThreads) {
          const int row_of_unit = task / 4 % 16;
          const int u = v * kWarpsK + task / (64 * kTiles);
          const long long row = (first_tile + task / 64 % kTiles) * 16 + row_of_unit;
          if (u >= kUnits) continue;
          const auto from = w + row * kRowBytes;
          prepare_quarter(from, row < rows, u, row_of_unit, task % 4, units + task / 64 * kUnitBytes);
        } // task: quarters of a row
        __syncthreads();
        for (int task = threadIdx.x; task < kWarpsK * kTables * kTiles * 16; task += kThreads) {
          const int row = task % (kTiles * 16);
          const int k = task / (kTables * kTiles * 16);
          const unsigned char* at = units + ((v % kUnitSlots * kWarpsK + k) * kTiles + row / 16) * kUnitBytes;
          if (v * kWarpsK + k >= kUnits) continue;
          Unit unit = {};
          load_scales(at, row % 16, unit);
          const OwnScales scales = own_scales(unit, 0);
          float* own = factors + k * (kBlocks * kTiles * 16);
#pragma unroll
          for (int block = 0; block < kBlocks; ++block) {
            own[block * (kTiles * 16) + row] = kFactor * scales.whole() * scales.of_block(block);
          } // block: of a unit
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
          const unsigned char* x_lane = x_stage + x_place(group, 2 * b + q % 2) + 8 * (q / 2);
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
        } // b: blocks
      }
      if (stage + kStages - 1 < 4 * kUnitSteps) store_x(stage + kStages - 1);
    } // pair: 64 columns
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
