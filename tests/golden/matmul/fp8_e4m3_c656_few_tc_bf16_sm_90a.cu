// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/warpgroup_matmul.cu.in.
//   kernel   matmul_fp8_e4m3_s128x128_f32_x_bf16_tc_c656, emitter version 7
//   w        in   fp8_e4m3  [rows, 656]  row-major
//   scale    in   f32  [ceil(rows / 128), 6]  row-major, one per 128 x 128 block of w
//   x        in   bf16  [n, 656]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32; each number of w rounded once to bf16
//   arch     sm_90a, has a cvt from e4m3: hardware cvt to f16x2, rounded to bf16; wgmma m64n32k16 bf16
//   tiles    64 rows of w, 32 of x, 6 stages of 64 columns, 2 places for 256 columns of w; 4 warps copy, 4 multiply
//   launch   grid (ceil(rows / 64) * ceil(n / 32) or less, 1, 1), block (256, 1, 1), 57472 bytes of dynamic shared memory
//
// y^T = w x^T. A warpgroup's wgmma takes 64 rows of w from registers and rows of x from shared memory. Four warps
// copy: x in stages of 64 columns, w in units of 256. The other warps multiply: each decodes 16 rows of w while the
// columns before are being multiplied. Of each 8 columns lane 4 g + q feeds columns 2 q and 2 q + 1 of rows g and g + 8 to
// wgmma: it reads those of units, which lie otherwise, wherever they are.

constexpr int kXRowBytes = 1312;     // bytes of a row of x
constexpr int kThreads = 256;        // threads per CTA
constexpr int kCopyThreads = 128;    // of which copy
constexpr int kCtas = 2;             // CTAs on a multiprocessor
constexpr int kTiles = 4;            // 16-row tiles of w of a CTA, each of one warp
constexpr int kTileX = 32;           // rows of x of a CTA
constexpr int kStages = 6;           // of 64 columns of x: in use or on their way
constexpr int kSteps = 11;           // stages of a tile
constexpr int kUnitStages = 4;       // stages of a unit
constexpr int kUnits = 3;            // units side by side, of 16 rows and 256 columns
constexpr int kUnitBytes = 4096;     // bytes of a unit in shared memory
constexpr int kUnitSlots = 2;        // places for units: in use or on their way
constexpr int kUnitsAt = 24576;      // bytes of shared memory before the units
constexpr int kBarriersAt = 57344;   // before the barriers
constexpr long long kRowBytes = 656; // bytes of a row of w
constexpr int kCols = 656;           // columns of w
constexpr int kScaleBlockRows = 128; // rows that share one scale
constexpr int kScaleBlockCols = 128; // columns that share one scale
constexpr int kScaleCols = 6;        // scales in one row of scales

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

__device__ __forceinline__ unsigned shared_address(const void* at) { return (unsigned)__cvta_generic_to_shared(at); }

// A barrier whose phases end with `arrivals` arrivals each.
__device__ __forceinline__ void init_barrier(unsigned barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" : : "r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive_at_barrier(unsigned barrier) {
  asm volatile(
      "{\n"
      ".reg .b64 state;\n"
      "mbarrier.arrive.shared::cta.b64 state, [%0];\n"
      "}"
      : : "r"(barrier) : "memory");
}

// Waits until the barrier's phase of that parity has ended: 0 for its first, third, ... phase. With 1 a new barrier is past it.
__device__ __forceinline__ void wait_for_barrier(unsigned barrier, int parity) {
  unsigned has_ended;
  do {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n"
        "}"
        : "=r"(has_ended) : "r"(barrier), "r"(parity) : "memory");
  } while (has_ended == 0u);
}

// To shared memory, past the L1 cache, zeros after the first `bytes`; ends some time before arrive_after_copies arrives.
__device__ __forceinline__ void copy_16_bytes_of(unsigned char* to, const unsigned char* from, int bytes) {
  const unsigned shared_to = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(shared_to), "l"(from), "r"(bytes) : "memory");
}

// Begins to copy 16 bytes of a row, from byte `at` on; zeros past the last one.
__device__ __forceinline__ void copy_row_vector(unsigned char* to, const unsigned char* row, int at) {
  copy_16_bytes_of(to, row + at, at < kRowBytes ? 16 : 0);
}

// Begins to copy 256 columns of kTiles * 16 rows, as if they came as a unit of 8-bit codes: a thread has 16 columns of every
// eighth row. Past the last row, that is read again and its sums are not stored.
template <int kTiles>
__device__ __forceinline__ void copy_unit_tile(unsigned char* to, const unsigned char* w, long long first_row, long long rows,
                                               int u) {
  const int own = threadIdx.x % 16;
  const int own_row = threadIdx.x / 16;
  unsigned char* const own_to = to + 1024 * (own / 4) + 16 * (own_row * 4 + (own % 4 ^ own_row / 2));
  if (first_row + kTiles * 16 <= rows) {
    const unsigned char* const from = w + (first_row + own_row) * kRowBytes;
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      copy_row_vector(own_to + i / 2 * kUnitBytes + i % 2 * 512, from + 8 * i * kRowBytes, 256 * u + 16 * own);
    } // i: eight rows
  } else {
#pragma unroll 1
    for (int i = 0; i < 2 * kTiles; ++i) {
      copy_row_vector(own_to + i / 2 * kUnitBytes + i % 2 * 512, w + min_of(first_row + own_row + 8 * i, rows - 1) * kRowBytes,
                      256 * u + 16 * own);
    } // i: eight rows
  }
}

// Arrives at the barrier when all copies that this thread has begun have ended.
__device__ __forceinline__ void arrive_after_copies(unsigned barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" : : "r"(barrier) : "memory");
}

__device__ __forceinline__ void finish_copies() { asm volatile("cp.async.wait_all;" : : : "memory"); }

// Makes what the barrier has announced visible to wgmma, which reads shared memory another way.
__device__ __forceinline__ void see_copies() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }

// Before the first wgmma, and after registers that one reads have changed.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }

__device__ __forceinline__ void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }

// Waits until at most kLeft groups of products have not ended.
template <int kLeft>
__device__ __forceinline__ void products_done() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(kLeft) : "memory");
}

// Of rows of 64 columns, 128 bytes each, in groups of 8 whose 16-byte places are exchanged: the place xor the row (128-byte
// swizzle). The matrix begins at a multiple of 1024 bytes, its steps of 16 columns are 32 bytes apart: 2 more each.
__device__ __forceinline__ unsigned long long x_descriptor(unsigned at) {
  return 0x4000004000010000ull | (at & 0x3ffffu) >> 4;
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

// Four e4m3 codes to two f16x2, by the hardware's conversion.
__device__ __forceinline__ void fp8x4_to_pairs(unsigned codes, unsigned& low, unsigned& high) {
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(low) : "h"((unsigned short)codes));
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(high) : "h"((unsigned short)(codes >> 16)));
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ void f16x2_to_f32(unsigned pair, float* value) {
  value[0] = f16_to_f32((unsigned short)pair);
  value[1] = f16_to_f32((unsigned short)(pair >> 16));
}

// To nearest even.
__device__ __forceinline__ unsigned f32x2_to_bf16x2(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// Four codes times their scale, rounded once to bf16.
__device__ __forceinline__ void round_fp8(unsigned codes, float scale, unsigned& low, unsigned& high) {
  unsigned pair[2];
  fp8x4_to_pairs(codes, pair[0], pair[1]);
  float value[4];
  f16x2_to_f32(pair[0], value);
  f16x2_to_f32(pair[1], value + 2);
  low = f32x2_to_bf16x2(value[0] * scale, value[1] * scale);
  high = f32x2_to_bf16x2(value[2] * scale, value[3] * scale);
}

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

using Head = unsigned;

struct Tail {};
__device__ __forceinline__ Tail load_tail(const unsigned char*, int) { return {}; }

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// The 16 columns of step k: of which lane of four the words with the first and the last eight are, and which of its four
// words, or the next one, this lane takes. Of units whose blocks have 32 columns lane k has all 16.
__device__ __forceinline__ constexpr int first_lane(int k) { return k; }
__device__ __forceinline__ constexpr int last_lane(int k) { return k; }
__device__ __forceinline__ constexpr int first_word(int) { return 0; }
__device__ __forceinline__ constexpr int last_word(int) { return 2; }

// A unit in shared memory: its codes as this lane feeds them to wgmma, and the head and the tail of a row. Of eight columns
// this lane takes the lower or the upper half of one of two words.
struct LaneWords {
  const unsigned char* at; // of the lane's row in the first vector
  unsigned swizzle;        // of its 16-byte places
  unsigned half;           // selects halves for prmt
  int second;              // 1 in lanes 2 and 3 of four, which take the second of two words

  // A word of a lane of the four, of word vectors * 4.
  __device__ __forceinline__ unsigned raw(int lane, int word) const {
    return *(const unsigned*)(at + ((unsigned)(16 * lane) ^ swizzle) + word / 4 * 512 + word % 4 * 4);
  }
  // This lane's one of two.
  __device__ __forceinline__ unsigned own(int lane, int word) const {
    return *(const unsigned*)(at + ((unsigned)(16 * lane) ^ swizzle) + word / 4 * 512 + (word % 4 + second) * 4);
  }
  // Halves of two words, as bytes of columns.
  __device__ __forceinline__ unsigned halves(unsigned first, unsigned last) const { return permute_bytes(first, last, half); }
};

struct StepWords {
  const LaneWords& lane;
  int vector;

  __device__ __forceinline__ unsigned operator[](int k) const {
    return lane.halves(lane.own(first_lane(k), 4 * vector + first_word(k)), lane.own(last_lane(k), 4 * vector + last_word(k)));
  }
};

struct StepVector {
  StepWords word;
};

struct UnitCodes {
  LaneWords lane;

  __device__ __forceinline__ StepVector operator[](int i) const { return {{lane, i}}; }
};

struct Unit {
  UnitCodes codes;
  Head head[1];
  Tail tail[1];
};

// For codes, or parts of them, in four bytes of a word.
__device__ __forceinline__ unsigned halves_of(int q) { return q % 2 == 0 ? 0x5410u : 0x7632u; }

// sum += a b for 64 rows of a, of which this warp has 16, 32 rows of b and 16 columns. The sums are there after
// products_done; until then no one changes what they read.
__device__ __forceinline__ void add_product(float (&sum)[16], const unsigned (&a)[4], unsigned long long b_matrix) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "{%16, %17, %18, %19}, %20, 1, 1, 1, 0;"
      :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_matrix)
      : "memory");
}

// After products_done: no one reads the sums from before.
__device__ __forceinline__ void keep_sums(float (&sum)[16]) {
  asm volatile(""
               :
        "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]), "+f"(sum[7]),
        "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]), "+f"(sum[14]), "+f"(sum[15])
               : : "memory");
}

// Rows and rows of x past the last ones are left out.
__device__ __forceinline__ void store_tile(const float (&total)[kTileX / 2], float* y, long long first_row, long long first_x,
                                           long long rows, long long n, int group, int q) {
#pragma unroll
  for (int j = 0; j < kTileX / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const long long x_row = first_x + 8 * j + 2 * q + i % 2;
      const long long row = first_row + group + i / 2 * 8;
      if (x_row < n && row < rows) store_element(y + x_row * rows + row, total[4 * j + i]);
    } // i: two rows of w and of x
  } // j: eight rows of x
}

extern "C" __global__ void __launch_bounds__(kThreads, kCtas)
matmul_fp8_e4m3_s128x128_f32_x_bf16_tc_c656(
    const unsigned char* __restrict__ w,
    const float* __restrict__ scale,
    const unsigned char* __restrict__ x,
    float* __restrict__ y,
    long long rows,
    long long n) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const unsigned x_ring = shared_address(shared);
  unsigned char* const unit_ring = shared + kUnitsAt;
  const unsigned x_filled = shared_address(shared + kBarriersAt);
  const unsigned x_emptied = x_filled + 8 * kStages;
  const unsigned unit_filled = x_emptied + 8 * kStages;
  const unsigned unit_emptied = unit_filled + 8 * kUnitSlots;
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      init_barrier(x_filled + 8 * i, kCopyThreads);
      init_barrier(x_emptied + 8 * i, kTiles);
    } // i: stages
#pragma unroll
    for (int i = 0; i < kUnitSlots; ++i) {
      init_barrier(unit_filled + 8 * i, kCopyThreads);
      init_barrier(unit_emptied + 8 * i, kTiles);
    } // i: places for units
  }
  __syncthreads();

  const int lane = threadIdx.x % 32;
  const int x_tiles = (int)((n + kTileX - 1) / kTileX);
  const int all_tiles = (int)((rows + kTiles * 16 - 1) / (kTiles * 16)) * x_tiles; // a grid has no more
  int stage = 0;     // of this thread, counted through all tiles, as units are
  int unit_step = 0;
  if (threadIdx.x < kCopyThreads) {
    const int own_row = threadIdx.x / 8;
    const int own_place = threadIdx.x % 8; // of 16 bytes
    for (int tile = (int)blockIdx.x; tile < all_tiles; tile += (int)gridDim.x) {
      const long long first_row = (long long)(tile / x_tiles) * (kTiles * 16);
      const long long first_x = (long long)(tile % x_tiles) * kTileX;
      const int last_x = (int)min_of(kTileX, n - first_x) - 1;
      const unsigned char* const own_x = x + first_x * kXRowBytes + 16 * own_place;
#pragma unroll 1
      for (int s = 0; s < kSteps; ++s, ++stage) {
        if (s % kUnitStages == 0) {
          const int slot = unit_step % kUnitSlots;
          wait_for_barrier(unit_emptied + 8 * slot, unit_step / kUnitSlots % 2 ^ 1);
          copy_unit_tile<kTiles>(unit_ring + slot * (kTiles * kUnitBytes), w, first_row, rows, s / kUnitStages);
          arrive_after_copies(unit_filled + 8 * slot);
          ++unit_step;
        }
        const int slot = stage % kStages;
        wait_for_barrier(x_emptied + 8 * slot, stage / kStages % 2 ^ 1);
        unsigned char* const to = shared + slot * (kTileX * 128) + 128 * own_row + 16 * (own_place ^ own_row % 8);
        if (last_x == kTileX - 1) {
          const unsigned char* const from = own_x + own_row * kXRowBytes + 128 * s;
#pragma unroll 4
          for (int i = 0; i < kTileX / 16; ++i) copy_16_bytes_of(to + 2048 * i, from + 16 * i * kXRowBytes, 128 * s + 16 * own_place < kXRowBytes ? 16 : 0);
        } else { // past the last row of x, that is read again
#pragma unroll 1
          for (int i = 0; i < kTileX / 16; ++i) {
            const int row = own_row + 16 * i < last_x ? own_row + 16 * i : last_x;
            copy_16_bytes_of(to + 2048 * i, own_x + row * kXRowBytes + 128 * s, 128 * s + 16 * own_place < kXRowBytes ? 16 : 0);
          } // i: rows of this thread
        }
        arrive_after_copies(x_filled + 8 * slot);
      } // s: stages
    } // tile: of y
    finish_copies();
    return;
  }

  const int tile_of_cta = threadIdx.x / 32 - kCopyThreads / 32; // 16 rows: this warp's
  const int group = lane / 4;
  const int q = lane % 4;
  for (int tile = (int)blockIdx.x; tile < all_tiles; tile += (int)gridDim.x) {
    const int row_tile = tile / x_tiles * kTiles + tile_of_cta;
    float total[kTileX / 2];
#pragma unroll
    for (int i = 0; i < kTileX / 2; ++i) total[i] = 0.0f;
#pragma unroll 1
    for (int u = 0; u < kUnits; ++u, ++unit_step) {
      float scale_of_stage[kUnitStages][2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const long long row = min_of((long long)row_tile * 16 + group + 8 * r, rows - 1);
#pragma unroll
        for (int pair = 0; pair < kUnitStages; ++pair) {
          const int col = (int)min_of(256 * u + 64 * pair, kCols - 1);
          scale_of_stage[pair][r] = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + col / kScaleBlockCols);
        } // pair: a stage's columns
      } // r: rows
      const int slot = unit_step % kUnitSlots;
      wait_for_barrier(unit_filled + 8 * slot, unit_step / kUnitSlots % 2);
      const unsigned char* const own_unit = unit_ring + (slot * kTiles + tile_of_cta) * kUnitBytes;
      Unit unit = {};
      unit.codes.lane = {own_unit + 64 * group, 16u * (unsigned)(group / 2), halves_of(q), q / 2};

#pragma unroll
      for (int pair = 0; pair < kUnitStages; ++pair) {
        if (kSteps % kUnitStages != 0 && kUnitStages * u + pair >= kSteps) break;
        unsigned a[4][4];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
          for (int k = 0; k < 4; ++k) round_fp8(unit.codes[2 * pair + r].word[k], scale_of_stage[pair][r], a[k][r], a[k][r + 2]);
        } // r: rows
        if (pair == kUnitStages - 1 || (kSteps % kUnitStages != 0 && kUnitStages * u + pair == kSteps - 1)) {
          __syncwarp(); // all lanes have read the unit
          if (lane == 0) arrive_at_barrier(unit_emptied + 8 * slot);
        }
        wait_for_barrier(x_filled + 8 * (stage % kStages), stage / kStages % 2);
        see_copies();
        const unsigned long long x_matrix = x_descriptor(x_ring + stage % kStages * (kTileX * 128));
        begin_products();
#pragma unroll
        for (int k = 0; k < 4; ++k) add_product(total, a[k], x_matrix + 2 * k);
        end_products();
        products_done<1>();
        if (kUnitStages * u + pair > 0) {
          __syncwarp(); // the warp's products of the stage before are there
          if (lane == 0) arrive_at_barrier(x_emptied + 8 * ((stage + kStages - 1) % kStages));
        }
        ++stage;
      } // pair: a stage's columns
    } // u: units
    products_done<0>();
    keep_sums(total);
    __syncwarp();
    if (lane == 0) arrive_at_barrier(x_emptied + 8 * ((stage + kStages - 1) % kStages));
    store_tile(total, y, (long long)row_tile * 16, (long long)(tile % x_tiles) * kTileX, rows, n, group, q);
  } // tile: of y
}
