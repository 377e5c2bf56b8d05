// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matmul_mma.cu.in.
//   kernel   moe_matmul_fp8_e4m3_s128x128_f32_x_bf16_y_bf16_bias_f16_gate_silu_c544, emitter version 7
//   w_gate     in   fp8_e4m3  [experts, rows, 544]  row-major
//   scale_gate in   f32  [experts, ceil(rows / 128), 5]  row-major, one per 128 x 128 block of w
//   w_up       in   fp8_e4m3  [experts, rows, 544]  row-major
//   scale_up   in   f32  [experts, ceil(rows / 128), 5]  row-major, one per 128 x 128 block of w
//   ids        in   i32  [slots]  the expert of each slot
//   x          in   bf16  [ceil(slots / slots_per_x), 544]  row-major
//   bias_gate  in   f16  [experts, rows]
//   bias_up    in   f16  [experts, rows]
//   y          out  bf16  [slots, rows]  row-major
//   math     y[s, r] = silu(sum over c of decode(w_gate) * scale[ids[s], r, c] * f32(x[s / slots_per_x, c]) + bias_gate[ids[s], r]) * (sum over c of decode(w_up) * scale[ids[s], r, c] * f32(x[s / slots_per_x, c]) + bias_up[ids[s], r]), products and sums in f32, then rounded once to bf16, to nearest even; NaN where no expert has the id
//   arch     sm_86, no cvt from e4m3: software, exact: bits moved into bf16x2; mma m16n8k16 bf16
//   tiles    128 rows of w, 64 of x, 64 columns; mma m16n8k16 bf16
//   launch   grid (ceil(rows / 64) * slots or less, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 544;                                                // columns of w, and of each row of x
constexpr int kRowBytes = 544;                                            // bytes of one row of w
constexpr int kRun = 8;                                                   // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 128;                                      // rows that share one scale
constexpr int kScaleBlockCols = 128;                                      // columns that share one scale
constexpr int kScaleCols = 5;                                             // scales in one row of scales
constexpr int kThreads = 256;                                             // threads per CTA
constexpr int kTileRows = 128;                                            // rows of w of a CTA
constexpr int kTileX = 64;                                                // rows of x of a CTA
constexpr int kTileCols = 64;                                             // columns in shared memory at a time
constexpr int kRunsPerTile = kTileCols / kRun;                            // runs of one row in a tile
constexpr int kWarpsX = 2;                                                // warps side by side along x
constexpr int kWarpsRows = 4;                                             // and along the rows of w
constexpr int kRowTiles = kTileRows / kWarpsRows / 16;                    // 16-row tiles of a warp
constexpr int kXTiles = kTileX / kWarpsX / 8;                             // 8-row tiles of x of a warp
constexpr int kSteps = kTileCols / 16;                                    // 16 columns each
constexpr int kStepsPerMma = 1;
constexpr int kChunk = 64;                                                // columns that have the same scales
constexpr int kChunkSteps = kChunk / 16;
constexpr int kTerms = 1;                                                 // terms of x
constexpr int kWBytes = 1;                                                // bytes of an element of w
constexpr int kXBytes = 2;                                                // bytes of an element of x
constexpr int kWWords = 1;                                                // words of four columns of w in a tile
constexpr int kXWords = 2;                                                // words of four columns of x in a tile
constexpr int kXRowBytes = kCols * kXBytes;
constexpr int kWRuns = kTileRows * kRunsPerTile / kThreads;               // runs of w that a thread loads
constexpr int kXRuns = (kTileX * kRunsPerTile + kThreads - 1) / kThreads; // runs of x
constexpr int kYRows = 64;                                                // rows of y, along the rows of w, of a CTA
constexpr int kExpertsAtOnce = 512;                                       // whose slots are counted together
constexpr int kListThreads = kThreads;                                    // threads that look for the CTA's tiles

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

// Eight columns of a row.
template <int kBytes>
struct alignas(kBytes >= 2 ? 16 : 8) Run {
  unsigned word[2 * kBytes];
};

// What one thread feeds to mma of four columns: their codes, or two pairs of 16-bit numbers.
template <int kWords>
struct alignas(4 * kWords) Quad {
  unsigned word[kWords];
};

// Where quad q of a tile's columns lies. A chunk of columns has the same scale; thread t of four has its
// t-th quarter, so that the steps of a chunk take the quads of each quarter one by one.
__device__ __forceinline__ constexpr int step_of(int q) {
  return q / (4 * kChunkSteps) * kChunkSteps + q % kChunkSteps;
}
__device__ __forceinline__ constexpr int lane_of(int q) { return q / kChunkSteps % 4; }

// Zeros past the last column.
template <int kBytes>
__device__ __forceinline__ Run<kBytes> load_run(const unsigned char* row, int col) {
  Run<kBytes> run = {};
  if (col < kCols) run = *(const Run<kBytes>*)(row + col * kBytes);
  return run;
}

__device__ __forceinline__ Quad<kWWords> w_quad(const Run<kWBytes>& run, int q) {
  Quad<kWWords> quad;
#pragma unroll
  for (int i = 0; i < kWWords; ++i) quad.word[i] = run.word[q * kWWords + i];
  return quad;
}

// sum += a b for 16 rows, 8 rows of x and 16 columns; bf16, sums in f32.
__device__ __forceinline__ void mma(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
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

__device__ __forceinline__ void w_pairs(Quad<1> quad, unsigned& low, unsigned& high) {
  fp8x4_to_pairs(quad.word[0], low, high);
}

__device__ __forceinline__ Quad<kXWords> x_quad(const Run<kXBytes>& run, int q) {
  Quad<kXWords> quad;
#pragma unroll
  for (int i = 0; i < kXWords; ++i) quad.word[i] = run.word[q * kXWords + i];
  return quad;
}

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

// To nearest even.
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void store_element(unsigned short* at, float value) { *at = f32_to_bf16(value); }

// Of all threads that look for tiles: what one wrote before, all see.
struct Meeting {
  __device__ __forceinline__ void wait() { __syncthreads(); }
};

// What threads that look for tiles have together.
struct ExpertPlaces {
  int tile_end[kExpertsAtOnce];      // tiles of rows of x, of the experts up to and with each one
  int warp_total[kListThreads / 32]; // slots of the tile's expert that a warp has found
  int has_strays;                    // whether there are slots whose id is no expert's
};

// Counts the tiles of rows of x that kExpertsAtOnce experts from first_expert on have.
__device__ __forceinline__ int count_tiles(ExpertPlaces& places, Meeting& meeting, const int* ids, long long slots,
                                           long long experts, long long first_expert) {
  meeting.wait(); // the counts before have been read
  for (int i = threadIdx.x; i < kExpertsAtOnce; i += kListThreads) places.tile_end[i] = 0;
  if (threadIdx.x == 0 && first_expert == 0) places.has_strays = 0;
  meeting.wait();
  constexpr int kLoads = 8;
  for (long long first = threadIdx.x; first < slots; first += kLoads * kListThreads) {
    int id[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const long long slot = first + i * kListThreads;
      id[i] = slot < slots ? ids[slot] : 0;
    } // i: slots, on their way together
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (first + i * kListThreads >= slots) continue;
      const long long own = id[i] - first_expert;
      if (id[i] < 0 || id[i] >= experts) places.has_strays = 1;
      else if (own >= 0 && own < kExpertsAtOnce) atomicAdd(&places.tile_end[own], 1);
    } // i: slots
  } // first: slots of this thread
  meeting.wait();
  if (threadIdx.x < 32) {
    constexpr int kOwn = kExpertsAtOnce / 32;
    int* const own = places.tile_end + kOwn * threadIdx.x;
    int end = 0;
    for (int i = 0; i < kOwn; ++i) end += (own[i] + kTileX - 1) / kTileX;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, end, distance);
      if ((int)threadIdx.x >= distance) end += before;
    } // distance: lanes apart
    for (int i = kOwn - 1; i >= 0; --i) {
      const int tiles = (own[i] + kTileX - 1) / kTileX;
      own[i] = end;
      end -= tiles;
    } // i: experts of this lane
  }
  meeting.wait();
  return places.tile_end[kExpertsAtOnce - 1];
}

// The tiles of y that a CTA has: every gridDim.x-th of all. They follow one another expert by expert, tile by tile of an
// expert's rows of w, so that what CTAs have at the same time shares weights.
struct ExpertTiles {
  unsigned at;            // the next one, of those of the experts that are counted
  unsigned end;           // how many those are
  long long first_expert; // of these
  int expert;             // of the tile
  int first_slot;         // of those of its expert
  long long first_row;    // of its expert's rows

  // Goes to the next tile, if there is one.
  __device__ __forceinline__ bool next(ExpertPlaces& places, Meeting& meeting, const int* ids, long long slots, long long experts,
                                       long long rows) {
    const unsigned row_tiles = (unsigned)((rows + kYRows - 1) / kYRows);
    while (at >= end) {
      at -= end;
      first_expert += kExpertsAtOnce;
      if (first_expert >= experts) return false;
      end = (unsigned)count_tiles(places, meeting, ids, slots, experts, first_expert) * row_tiles;
    }
    const int tile = (int)(at / row_tiles);
    int own = 0; // the first expert whose tiles end after that
#pragma unroll
    for (int step = kExpertsAtOnce / 2; step > 0; step /= 2) {
      if (places.tile_end[own + step - 1] <= tile) own += step;
    } // step: experts
    const unsigned begin = own == 0 ? 0u : (unsigned)places.tile_end[own - 1];
    const unsigned x_tiles = (unsigned)places.tile_end[own] - begin;
    const unsigned of_expert = at - begin * row_tiles;
    expert = (int)first_expert + own;
    first_row = (long long)(of_expert / x_tiles) * kYRows;
    first_slot = (int)(of_expert % x_tiles) * kTileX;
    at += gridDim.x;
    return true;
  }
};

// The rows of a tile of y.
struct TileSlots {
  int slot[kTileX];  // of y
  int x_row[kTileX]; // of x
};

// Lists up to kTileX of the expert's slots, from number `first` of them on; gives how many there are. Thread by thread, each
// with every kListThreads-th slot.
__device__ __forceinline__ int list_slots(ExpertPlaces& places, TileSlots& list, Meeting& meeting, const int* ids, long long slots,
                                          long long slots_per_x, int expert, int first) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  int found = -first; // in the tile, so far
  for (long long begin = 0; begin < slots && found < kTileX; begin += 32 * kListThreads) {
    const int loads = (int)min_of(32, (slots - begin + kListThreads - 1) / kListThreads);
    unsigned own = 0;
#pragma unroll 8
    for (int i = 0; i < loads; ++i) {
      const long long slot = begin + i * kListThreads + threadIdx.x;
      if (slot < slots && ids[slot] == expert) own |= 1u << i;
    } // i: slots of this thread
    int upto = __popc(own);
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(0xffffffffu, upto, distance);
      if (lane >= distance) upto += before;
    } // distance: lanes apart
    if (lane == 31) places.warp_total[warp] = upto;
    meeting.wait(); // also: the list before has been read
    int place = found + upto - __popc(own);
#pragma unroll
    for (int i = 0; i < kListThreads / 32; ++i) {
      const int total = places.warp_total[i];
      if (i < warp) place += total;
      found += total;
    } // i: warps
    for (; own != 0; own &= own - 1, ++place) {
      const int slot = (int)begin + (__ffs((int)own) - 1) * kListThreads + (int)threadIdx.x;
      if (place < 0 || place >= kTileX) continue;
      list.slot[place] = slot;
      list.x_row[place] = (int)(slot / slots_per_x);
    } // own: slots of the expert
    meeting.wait();
  } // begin: slots at a time
  return (int)min_of(found, kTileX);
}

// NaN in the rows of y whose id is no expert's; each CTA has every gridDim.x-th slot.
template <typename Y>
__device__ __forceinline__ void store_strays(const int* ids, long long slots, long long experts, Y* y, long long rows) {
  for (long long slot = blockIdx.x; slot < slots; slot += gridDim.x) {
    if (ids[slot] >= 0 && ids[slot] < experts) continue;
    for (long long row = threadIdx.x; row < rows; row += kListThreads) {
      store_element(y + slot * rows + row, __uint_as_float(0x7fc00000u));
    } // row: of y
  } // slot: of this CTA
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ float load_bias(const unsigned short* bias, long long row) {
  return f16_to_f32(bias[row]);
}

// exp(-a) for a >= 0, with a relative error below 2^-22 (below 2^-149 absolute where the result is subnormal);
// 0 from 104 on and for NaN. exp(-a) = 2^-n exp(r), n the integer nearest to a / ln 2, |r| < 0.35; the
// series' remainder there is below 2^-27.
__device__ __forceinline__ float exp_of_negative(float a) {
  const float limited = a < 104.0f ? a : 104.0f; // exp(-104) rounds to 0
  const int n = (int)(limited * 0x1.715476p+0f + 0.5f);
  // ln 2 in two parts: n times the first, of 9 bits, is exact.
  const float r = ((float)n * 0x1.63p-1f - limited) + (float)n * -0x1.bd0106p-13f;
  float series = 1.0f / 5040.0f;
  series = series * r + 1.0f / 720.0f;
  series = series * r + 1.0f / 120.0f;
  series = series * r + 1.0f / 24.0f;
  series = series * r + 1.0f / 6.0f;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  // 2^-n in two factors, for subnormal results.
  const float first = __uint_as_float((unsigned)(127 - n / 2) << 23);
  const float second = __uint_as_float((unsigned)(127 - (n - n / 2)) << 23);
  return series * first * second;
}

// 1 / (1 + exp(-z)), without overflow; 0 or 1 for NaN, which its factor brings back.
__device__ __forceinline__ float sigmoid(float z) {
  const float small = exp_of_negative(z < 0.0f ? -z : z);
  return (z >= 0.0f ? 1.0f : small) / (1.0f + small);
}

// g / (1 + exp(-g)), within 2^-21 of its size and 2^-140.
__device__ __forceinline__ float activate(float g) { return g * sigmoid(g); }

extern "C" __global__ void __launch_bounds__(kThreads, 2)
moe_matmul_fp8_e4m3_s128x128_f32_x_bf16_y_bf16_bias_f16_gate_silu_c544(
    const unsigned char* __restrict__ w_gate,
    const float* __restrict__ scale_gate,
    const unsigned char* __restrict__ w_up,
    const float* __restrict__ scale_up,
    const int* __restrict__ ids,
    const unsigned char* __restrict__ x,
    const unsigned short* __restrict__ bias_gate,
    const unsigned short* __restrict__ bias_up,
    unsigned short* __restrict__ y,
    long long rows,
    long long slots,
    long long slots_per_x,
    long long experts) {
  // What one thread feeds to one mma lies together: [step][row][thread of four], four columns.
  __shared__ Quad<kWWords> w_tile[kSteps][kTileRows][4];
  __shared__ Quad<kXWords> x_tile[kTerms][kSteps][kTileX][4];

  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int group = lane / 4;         // row of an 8-row fragment
  const int quad_lane = lane % 4;     // which columns of it
  const int warp_row = warp / kWarpsX * (kTileRows / kWarpsRows);
  const int warp_x = warp % kWarpsX * (kTileX / kWarpsX);
  __shared__ ExpertPlaces places;
  __shared__ TileSlots list;
  Meeting meeting;
  ExpertTiles tiles = {blockIdx.x, 0u, -kExpertsAtOnce, 0, 0, 0};
  long long expert = 0; // whose weights the pointers are at
  while (tiles.next(places, meeting, ids, slots, experts, rows)) {
    const int tile_slots =
        list_slots(places, list, meeting, ids, slots, slots_per_x, tiles.expert, tiles.first_slot);
    const long long experts_on = tiles.expert - expert; // from the last tile's
    w_gate += experts_on * (rows * kRowBytes);
    scale_gate += experts_on * ((rows + kScaleBlockRows - 1) / kScaleBlockRows) * kScaleCols;
    w_up += experts_on * (rows * kRowBytes);
    scale_up += experts_on * ((rows + kScaleBlockRows - 1) / kScaleBlockRows) * kScaleCols;
    bias_gate += experts_on * rows;
    bias_up += experts_on * rows;
    expert = tiles.expert;
    const long long first_row = tiles.first_row;
  
    // Past the end, the last row is read again and its sums are not stored.
    const unsigned char* w_run[kWRuns];
#pragma unroll
    for (int i = 0; i < kWRuns; ++i) {
      const int row = (threadIdx.x + i * kThreads) / kRunsPerTile;
      w_run[i] = (row / 8 % 2 == 0 ? w_gate : w_up) + min_of(first_row + row / 16 * 8 + row % 8, rows - 1) * kRowBytes;
    } // i: runs of this thread
    const unsigned char* x_run[kXRuns];
#pragma unroll
    for (int i = 0; i < kXRuns; ++i) {
      const int row = (threadIdx.x + i * kThreads) / kRunsPerTile;
      x_run[i] = x + (long long)list.x_row[min_of(row, tile_slots - 1)] * kXRowBytes;
    } // i: runs of this thread
    const int run_col = threadIdx.x % kRunsPerTile * kRun;

    Run<kWBytes> w_next[kWRuns];
    Run<kXBytes> x_next[kXRuns];
#pragma unroll
    for (int i = 0; i < kWRuns; ++i) w_next[i] = load_run<kWBytes>(w_run[i], run_col);
#pragma unroll
    for (int i = 0; i < kXRuns; ++i) x_next[i] = load_run<kXBytes>(x_run[i], run_col);

    float sum[kRowTiles][kXTiles][4] = {};
    float total[kRowTiles][kXTiles][4] = {};
    for (int col = 0; col < kCols; col += kTileCols) {
      __syncthreads(); // the last tile has been read
#pragma unroll
      for (int i = 0; i < kWRuns; ++i) {
        const int row = (threadIdx.x + i * kThreads) / kRunsPerTile;
#pragma unroll
        for (int q = 0; q < 2; ++q) {
          const int quad = run_col / 4 + q;
          w_tile[step_of(quad)][row][lane_of(quad)] = w_quad(w_next[i], q);
        } // q: quads of a run
      } // i: runs of this thread
#pragma unroll
      for (int i = 0; i < kXRuns; ++i) {
        const int row = (threadIdx.x + i * kThreads) / kRunsPerTile;
        if (row < kTileX) {
          #pragma unroll
          for (int q = 0; q < 2; ++q) {
            const int quad = run_col / 4 + q;
            x_tile[0][step_of(quad)][row][lane_of(quad)] = x_quad(x_next[i], q);
          } // q: quads of a run
        }
      } // i: runs of this thread
      __syncthreads();
      if (col + kTileCols < kCols) {
#pragma unroll
        for (int i = 0; i < kWRuns; ++i) w_next[i] = load_run<kWBytes>(w_run[i], col + kTileCols + run_col);
#pragma unroll
        for (int i = 0; i < kXRuns; ++i) x_next[i] = load_run<kXBytes>(x_run[i], col + kTileCols + run_col);
      }

#pragma unroll
      for (int step = 0; step < kSteps; step += kStepsPerMma) {
        unsigned a[kRowTiles][4];
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          const int row = warp_row + m * 16 + group;
          w_pairs(w_tile[step][row][quad_lane], a[m][0], a[m][2]);
          w_pairs(w_tile[step][row + 8][quad_lane], a[m][1], a[m][3]);
        } // m: 16-row tiles
#pragma unroll
        for (int j = 0; j < kXTiles; ++j) {
          const int x_row = warp_x + j * 8 + group;
#pragma unroll
          for (int part = 0; part < kTerms; ++part) {
            const Quad<2> quad = x_tile[part][step][x_row][quad_lane];
            const unsigned b[2] = {quad.word[0], quad.word[1]};
#pragma unroll
            for (int m = 0; m < kRowTiles; ++m) mma(sum[m][j], a[m], b);
          } // part: of x
        } // j: 8-row tiles of x
        if ((step + kStepsPerMma) % kChunkSteps == 0) { // the chunk's sums, scaled, join the totals
          const int chunk_col = (int)min_of(col + step / kChunkSteps * kChunk, kCols - 1);
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const long long row = min_of(first_row + warp_row / 2 + m * 8 + group, rows - 1);
              const float w_factor = load_scale(half == 0 ? scale_gate : scale_up, (row / kScaleBlockRows) * kScaleCols + chunk_col / kScaleBlockCols);
#pragma unroll
              for (int j = 0; j < kXTiles; ++j) {
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                  total[m][j][2 * half + i] += w_factor * sum[m][j][2 * half + i];
                  sum[m][j][2 * half + i] = 0.0f;
                } // i: rows of x
              } // j: 8-row tiles of x
            } // half: of a 16-row tile
          } // m: 16-row tiles
        }
      } // step: of mma along the columns
    } // col: tiles

#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 1; ++half) {
        const long long row = first_row + warp_row / 2 + m * 8 + group;
        if (row < rows) {
#pragma unroll
          for (int j = 0; j < kXTiles; ++j) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              const int x_row = warp_x + j * 8 + 2 * quad_lane + i;
              const float gate = total[m][j][i];
              const float up = total[m][j][2 + i];
              if (x_row < tile_slots) store_element(y + (long long)list.slot[x_row] * rows + row, activate(gate + load_bias(bias_gate, row)) * (up + load_bias(bias_up, row)));
            } // i: rows of x
          } // j: 8-row tiles of x
        }
      } // half: of a 16-row tile
    } // m: 16-row tiles
  }
  if (places.has_strays) store_strays(ids, slots, experts, y, rows);
}
