// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matmul_fma.cu.in.
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
//   arch     sm_61, no cvt from e4m3 and slow f16 arithmetic: software, exact: bits moved into an f32, one multiply; f32 fma
//   launch   grid (ceil(rows / 32) * slots or less, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 544;             // columns of w, and of each row of x
constexpr int kRowBytes = 544;         // bytes of one row of w
constexpr int kRun = 8;                // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 128;   // rows that share one scale
constexpr int kScaleBlockCols = 128;   // columns that share one scale
constexpr int kScaleCols = 5;          // scales in one row of scales
constexpr int kThreads = 256;          // threads per CTA
constexpr int kTileRows = 64;          // rows of w of a CTA
constexpr int kTileX = 64;             // rows of x of a CTA
constexpr int kTileCols = 32;          // columns in shared memory at a time
constexpr int kRunsPerRow = kTileCols / kRun;
constexpr int kSums = 4;               // rows of w, and of x, of one thread
constexpr int kPad = 4;                // spreads the columns of a tile over the banks
constexpr int kYRows = 32;             // rows of y, along the rows of w, of a CTA
constexpr int kExpertsAtOnce = 512;    // whose slots are counted together
constexpr int kListThreads = kThreads; // threads that look for the CTA's tiles

struct alignas(8) Words2 {
  unsigned word[2];
};

__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) { return *(const Words2*)at; }

// Four e4m3 codes, exactly. The 7 magnitude bits, moved to bit 20, read as an
// f32 that is 2^-120 too small, subnormals too, so compile with -ftz=false. 0x7f is the only NaN.
__device__ __forceinline__ void fp8x4_to_f32(unsigned codes, float* value) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned scaled = (unsigned)((int)(codes << (24 - 8 * i)) >> 4) & 0x87f00000u;
    const bool is_nan = (scaled & 0x07f00000u) == 0x07f00000u;
    value[i] = is_nan ? __uint_as_float(0x7fc00000u) : __uint_as_float(scaled) * 0x1p+120f;
  } // i: codes
}

__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const Words2 codes = load_8_bytes(row + col);
  fp8x4_to_f32(codes.word[0], value);
  fp8x4_to_f32(codes.word[1], value + 4);
}

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

struct alignas(16) Words4 {
  unsigned word[4];
};

// To nearest even, by integers; a NaN stays one.
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  const unsigned bits = __float_as_uint(value);
  const unsigned rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return (unsigned short)((is_nan ? bits | 0x00400000u : rounded) >> 16);
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

__device__ __forceinline__ void load_run_bf16(const unsigned char* at, float (&value)[kRun]) {
  const Words4 words = *(const Words4*)at;
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned word = words.word[i / 2];
    value[i] = __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xffff0000u);
  } // i: elements
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
    const unsigned short* __restrict__ x,
    const unsigned short* __restrict__ bias_gate,
    const unsigned short* __restrict__ bias_up,
    unsigned short* __restrict__ y,
    long long rows,
    long long slots,
    long long slots_per_x,
    long long experts) {
  __shared__ __align__(16) float w_tile[kTileCols][kTileRows + kPad];
  __shared__ __align__(16) float x_tile[kTileCols][kTileX + kPad];
  const int thread = threadIdx.x;
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
    const long long row = min_of(first_row + thread / kRunsPerRow / 2, rows - 1);
    const unsigned char* const w = thread / kRunsPerRow % 2 != 0 ? w_up : w_gate;
    const float* const scale = thread / kRunsPerRow % 2 != 0 ? scale_up : scale_gate;
    const unsigned short* x_row = x + (long long)list.x_row[min_of(thread / kRunsPerRow, tile_slots - 1)] * kCols;
    const int row_of_sums = thread / (kTileX / kSums) * kSums;
    const int x_of_sums = thread % (kTileX / kSums) * kSums;

    float sum[kSums][kSums] = {};
    for (int tile_col = 0; tile_col < kCols; tile_col += kTileCols) {
      const int col = tile_col + thread % kRunsPerRow * kRun;
      float value[kRun] = {};
      float activation[kRun] = {};
      if (col < kCols) {
        decode_run(w + row * kRowBytes, col, value);
        const float run_scale = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + col / kScaleBlockCols);
#pragma unroll
        for (int i = 0; i < kRun; ++i) value[i] *= run_scale;
        load_run_bf16((const unsigned char*)(x_row + col), activation);
      }
      __syncthreads(); // the last tile has been read
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        w_tile[col - tile_col + i][thread / kRunsPerRow] = value[i];
        x_tile[col - tile_col + i][thread / kRunsPerRow] = activation[i];
      } // i: elements
      __syncthreads();
#pragma unroll 8
      for (int k = 0; k < kTileCols; ++k) {
        const Words4 weights = *(const Words4*)&w_tile[k][row_of_sums];
        const Words4 activations = *(const Words4*)&x_tile[k][x_of_sums];
#pragma unroll
        for (int r = 0; r < kSums; ++r) {
#pragma unroll
          for (int j = 0; j < kSums; ++j) {
            sum[r][j] += __uint_as_float(weights.word[r]) * __uint_as_float(activations.word[j]);
          } // j: rows of x
        } // r: rows of w
      } // k: columns of the tile
    } // tile_col: tiles

#pragma unroll
    for (int r = 0; r < kSums; r += 2) {
#pragma unroll
      for (int j = 0; j < kSums; ++j) {
        const long long y_row = first_row + (row_of_sums + r) / 2;
        const int y_x = x_of_sums + j;
        const float gate = sum[r][j];
        const float up = sum[r + 1][j];
        if (y_row < rows && y_x < tile_slots) store_element(y + (long long)list.slot[y_x] * rows + y_row, activate(gate + load_bias(bias_gate, y_row)) * (up + load_bias(bias_up, y_row)));
      } // j: rows of x
    } // r: rows of w
  }
  if (places.has_strays) store_strays(ids, slots, experts, y, rows);
}
