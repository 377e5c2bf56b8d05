// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/warp_matmul.cu.in.
//   kernel   matmul_fp8_e4m3_s128x128_f32_x_bf16_tc_c656, emitter version 7
//   w        in   fp8_e4m3  [rows, 656]  row-major
//   scale    in   f32  [ceil(rows / 128), 6]  row-major, one per 128 x 128 block of w
//   x        in   bf16  [n, 656]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32; each number of w rounded once to bf16
//   arch     sm_86, no cvt from e4m3: software, exact: bits moved into an f16x2, one multiply for two, rounded to bf16; mma m16n8k16 bf16
//   tiles    32 rows of w, 64 of x, 2 stages of 64 columns; warps 1 x 4 along rows, columns
//   launch   grid (ceil(rows / 32) * ceil(n / 64), 1, 1), block (128, 1, 1), 86016 bytes of dynamic shared memory
//
// y^T = w x^T: w is the operand of 16 rows, decoded by the lane that has it, so that a number of w serves all rows of x of a
// CTA. Lane 4 g + q has rows g and g + 8 of w and 16 columns of 64, of which each mma
// takes four: the columns of an mma may be any, if w and x have the same. So a lane copies what it reads itself of w.

constexpr int kXRowBytes = 1312;                        // bytes of a row of x
constexpr int kThreads = 128;                           // threads per CTA
constexpr int kCtas = 2;                                // CTAs that are to share a multiprocessor
constexpr int kWarpsRows = 1;                           // warps side by side along the rows of w
constexpr int kWarpsK = 4;                              // along the columns: each has every so manyth unit
constexpr int kRowTiles = 2;                            // 16-row tiles of w of a warp
constexpr int kTiles = kWarpsRows * kRowTiles;          // of a CTA
constexpr int kTileX = 64;                              // rows of x of a CTA
constexpr int kXTiles = kTileX / 8;                     // 8-row tiles of x
constexpr int kXGroup = 4;                              // of which a lane loads at once
constexpr int kStages = 2;                              // of 64 columns of x: in use or on their way
constexpr int kUnits = 3;                               // units side by side, of 16 rows and 256 columns
constexpr int kSteps = 4;                               // stages of a tile
constexpr int kXStageBytes = kWarpsK * kTileX * 128;    // bytes of a stage of x
constexpr int kXRuns = kWarpsK * kTileX * 8 / kThreads; // 16-byte vectors of x that a thread copies for a stage
constexpr int kLineStep = kThreads / 8;                 // lines of a stage from one of them to the next
constexpr int kWAt = 65536;                             // bytes of shared memory before codes of w
constexpr int kChunkVectors = 2;                        // 16-byte vectors that a lane copies of a row tile at once
constexpr int kChunkSlots = 2;                          // places for them: in use or on their way
constexpr int kPasses = 1;                              // in which products pass through shared memory
constexpr long long kRowBytes = 656;                    // bytes of a row of w
constexpr int kCols = 656;                              // columns of w
constexpr int kLaneRows = (kRowTiles + 1) / 2;          // rows of w whose scales a lane loads
constexpr int kScaleBlockRows = 128;                    // rows that share one scale
constexpr int kScaleBlockCols = 128;                    // columns that share one scale
constexpr int kScaleCols = 6;                           // scales in one row of scales
constexpr int kBlocks = 4;                              // of 256 columns, whose numbers share a factor
constexpr int kTablesAt = 81920;                        // bytes of shared memory before tables of factors
constexpr int kTableRows = 32;                          // places for a block's rows in a table
constexpr int kXRowMask = 1;                            // how 16-byte places of x are exchanged
constexpr int kXHalf = 16;                              // changes places of a stage's first half to those of the second
constexpr int kXRowStep = 1;

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

// The same, zeros after the first `bytes`.
__device__ __forceinline__ void copy_vector_of(unsigned to, const unsigned char* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(to), "l"(from), "r"(bytes) : "memory");
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

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

// To shared memory, past the L1 cache, zeros after the first `bytes`; ends some time before arrive_after_copies arrives.
__device__ __forceinline__ void copy_16_bytes_of(unsigned char* to, const unsigned char* from, int bytes) {
  const unsigned shared_to = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(shared_to), "l"(from), "r"(bytes) : "memory");
}

// Begins to copy 16 bytes of a row, from byte `at` on; zeros past the last one.
__device__ __forceinline__ void copy_row_vector(unsigned char* to, const unsigned char* row, int at) {
  copy_16_bytes_of(to, row + at, at < kRowBytes ? 16 : 0);
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// All bits of each half where a and b are equal as f16, subnormals too; else none.
__device__ __forceinline__ unsigned equal_f16x2(unsigned a, unsigned b) {
  unsigned mask;
  asm("set.eq.u32.f16x2 %0, %1, %2;" : "=r"(mask) : "r"(a), "r"(b));
  return mask;
}

__device__ __forceinline__ unsigned abs_f16x2(unsigned a) {
  unsigned magnitude;
  asm("abs.f16x2 %0, %1;" : "=r"(magnitude) : "r"(a));
  return magnitude;
}

// a times b in halves where no bit of is_nan is set (all are, or none), else NaN: is_nan is taken away, which is a NaN
// or 0, and x - 0 is x with its sign.
__device__ __forceinline__ unsigned mul_or_nan_bf16x2(unsigned a, unsigned b, unsigned is_nan) {
  unsigned minus, result;
  asm("neg.bf16x2 %0, %1;" : "=r"(minus) : "r"(is_nan));
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(minus));
  return result;
}

// Two e4m3 codes, each at the top of a 16-bit half, to two bf16. The 7 magnitude bits, moved to bit 4,
// read as a bf16 that is 2^-120 too small, subnormals too. Only the NaN, 0x7f, is 0x07f0 there, of which f16
// has one as well.
__device__ __forceinline__ unsigned fp8x2_to_pair(unsigned spread) {
  const unsigned scaled = (spread & 0x7f007f00u) >> 4 | (spread & 0x80008000u);
  return mul_or_nan_bf16x2(scaled, 0x7b807b80u, equal_f16x2(abs_f16x2(scaled), 0x07f007f0u)); // 2^120
}

// Four codes to two pairs of 16-bit numbers.
__device__ __forceinline__ void fp8x4_to_pairs(unsigned codes, unsigned& low, unsigned& high) {
  low = fp8x2_to_pair(permute_bytes(codes, 0u, 0x1404u));
  high = fp8x2_to_pair(permute_bytes(codes, 0u, 0x3424u));
}

// As a fused multiply-add of -0: sm_80 has no bf16 multiplication.
__device__ __forceinline__ unsigned mul_bf16x2(unsigned a, unsigned b) {
  unsigned product;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000u));
  return product;
}

__device__ __forceinline__ unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c) {
  unsigned sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
  return sum;
}

// Four codes times their scale, two bf16 whose sum it is to 2^-17: the product rounded once to bf16, but for that.
__device__ __forceinline__ void round_pairs(unsigned codes, const Words2& factor, unsigned& low, unsigned& high) {
  fp8x4_to_pairs(codes, low, high);
  low = fma_bf16x2(low, factor.word[0], mul_bf16x2(low, factor.word[1]));
  high = fma_bf16x2(high, factor.word[0], mul_bf16x2(high, factor.word[1]));
}

// To nearest even.
__device__ __forceinline__ unsigned f32x2_to_bf16x2(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// A block's scale as two bf16 whose sum it is to 2^-17, each twice.
__device__ __forceinline__ Words2 block_factor(float scale) {
  const unsigned upper = f32x2_to_bf16x2(scale, scale);
  const float rest = scale - __uint_as_float(upper << 16);
  const float lower = rest == rest ? rest : 0.0f; // nothing after an infinity, which would leave a NaN
  return {{upper, f32x2_to_bf16x2(lower, lower)}};
}

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

extern "C" __global__ void __launch_bounds__(kThreads, kCtas)
matmul_fp8_e4m3_s128x128_f32_x_bf16_tc_c656(
    const unsigned char* __restrict__ w,
    const float* __restrict__ scale,
    const unsigned char* __restrict__ x,
    float* __restrict__ y,
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
        copy_vector_of(to + 128 * kLineStep * i, from + (x_row_of(i) * kXRowBytes + 512 * x_unit_of(i)), own_x_at + at + 512 * x_unit_of(i) < kXRowBytes ? 16 : 0);
      } // i: runs of this thread
    } else { // past the last row of x, that is read again
#pragma unroll 1
      for (int i = 0; i < kXRuns; ++i) {
        const int row = own_x_row + x_row_of(i) < last_x ? own_x_row + x_row_of(i) : last_x;
        const unsigned char* const from = own_x + (row - own_x_row) * kXRowBytes + at;
        copy_vector_of(to + 128 * kLineStep * i, from + 512 * x_unit_of(i), own_x_at + at + 512 * x_unit_of(i) < kXRowBytes ? 16 : 0);
      } // i: runs of this thread
    }
  };

  // Begins to copy what this lane reads of w for a stage: 16 columns of two rows of each tile. Past the last row, that is
  // read again and its sums are not stored.
  constexpr int kSlotBytes = kRowTiles * kChunkVectors * 512;
  unsigned char* const own_w = shared + kept((unsigned)(kWAt + warp * (kChunkSlots * kSlotBytes) + 16 * lane));
  const unsigned char* own_row[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const long long row = min_of((first_tile + warp_tile + m) * 16 + group + 8 * r, rows - 1);
      own_row[m][r] = kept(w + row * kRowBytes);
    } // r: rows
  } // m: 16-row tiles
  const auto copy_w = [&](int stage, int slot) {
    const int last_u = kUnits - 1; // is copied again by warps that have no more
    const int own_u = stage / 4 * kWarpsK + warp_k;
    const int u = kUnits % kWarpsK == 0 || own_u < last_u ? own_u : last_u;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        unsigned char* const to = own_w + slot * kSlotBytes + (m * kChunkVectors + r) * 512;
        copy_row_vector(to, own_row[m][r], 256 * u + 64 * (stage % 4) + 16 * q);
      } // r: rows
    } // m: 16-row tiles
  };
  Words2* const table = (Words2*)(shared + kTablesAt) + warp * (kBlocks * kTableRows);
  const unsigned own_factors = kept((unsigned)(kTablesAt + 8 * (warp * (kBlocks * kTableRows) + group)));
  // Scales of a step's units, of this lane's rows: loaded a step ahead.
  float next_scale[kLaneRows][kBlocks];
  const auto load_scales_of = [&](int step) {
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
      const long long row = min_of((first_tile + warp_tile) * 16 + 32 * i + lane, rows - 1);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const int col = (int)min_of(256 * (step * kWarpsK + warp_k) + 64 * block, kCols - 1);
        next_scale[i][block] = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + col / kScaleBlockCols);
      } // block: 64 columns
    } // i: rows of this lane
  };
  load_scales_of(0);

  const auto make_tables = [&](int v) {
    __syncwarp(); // the tables of the unit before have been read
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) {
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        if (kRowTiles % 2 == 0 || lane < 16) table[block * kTableRows + 32 * i + lane] = block_factor(next_scale[i][block]);
      } // block: 64 columns
    } // i: rows of this lane
    __syncwarp();
    load_scales_of(v + 1);
  };
  float total[kRowTiles][kXTiles][4] = {};
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < kSteps) {
      copy_x(stage, stage);
      copy_w(stage, stage);
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
      copy_w(stage + kStages - 1, far_slot);
    }
    end_copy_group();
    if (kUnits % kWarpsK == 0 || stage / 4 * kWarpsK + warp_k < kUnits) {
      if (pair == 0) make_tables(stage / 4);
      Words4 codes[kRowTiles][kChunkVectors];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < kChunkVectors; ++i) {
          codes[m][i] = *(const Words4*)(own_w + slot * kSlotBytes + (m * kChunkVectors + i) * 512);
        } // i: vectors of two rows
      } // m: 16-row tiles
#pragma unroll
      for (int half = 0; half < 2; ++half) { // two steps of 16 columns
        __syncwarp(); // compilers don't load x for both halves at once, which would take too many registers
        unsigned a[2][kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const Words2 factor = *(const Words2*)(shared + own_factors + 8 * (pair * kTableRows + 16 * m + 8 * r));
#pragma unroll
            for (int k = 0; k < 2; ++k) round_pairs(codes[m][r].word[2 * half + k], factor, a[k][m][r], a[k][m][r + 2]);
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
