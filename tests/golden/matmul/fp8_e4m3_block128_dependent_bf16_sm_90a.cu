// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matmul_mma.cu.in.
//   kernel   matmul_fp8_e4m3_s128x128_f32_x_bf16_y_bf16_c512_dependent, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   scale    in   f32  [ceil(rows / 128), 4]  row-major, one per 128 x 128 block of w
//   x        in   bf16  [n, 512]  row-major
//   y        out  bf16  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32, then rounded once to bf16, to nearest even
//   arch     sm_90a, has a cvt from e4m3: software, exact: bits moved into bf16x2; mma m16n8k16 bf16
//   tiles    128 rows of w, 64 of x, 64 columns; mma m16n8k16 bf16
//   launch   grid (ceil(rows / 128), ceil(n / 64), 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                                                // columns of w, and of each row of x
constexpr int kRowBytes = 512;                                            // bytes of one row of w
constexpr int kRun = 8;                                                   // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 128;                                      // rows that share one scale
constexpr int kScaleBlockCols = 128;                                      // columns that share one scale
constexpr int kScaleCols = 4;                                             // scales in one row of scales
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

template <int kBytes>
__device__ __forceinline__ Run<kBytes> load_run(const unsigned char* row, int col) {
  return *(const Run<kBytes>*)(row + col * kBytes);
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

// Waits until the grid ahead of this one in the stream has ended and its writes can be seen. No thread may read
// or write memory, or end, before: what this grid waits for, the grid behind it doesn't wait for again.
__device__ __forceinline__ void wait_for_earlier_grids() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Once every CTA has said so, or ended, the grid behind this one may start, and waits as this one did.
__device__ __forceinline__ void let_next_grid_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

extern "C" __global__ void __launch_bounds__(kThreads)
matmul_fp8_e4m3_s128x128_f32_x_bf16_y_bf16_c512_dependent(
    const unsigned char* w,
    const float* scale,
    const unsigned char* x,
    unsigned short* y,
    long long rows,
    long long n) {
  wait_for_earlier_grids();
  let_next_grid_start();

  // What one thread feeds to one mma lies together: [step][row][thread of four], four columns.
  __shared__ Quad<kWWords> w_tile[kSteps][kTileRows][4];
  __shared__ Quad<kXWords> x_tile[kTerms][kSteps][kTileX][4];

  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int group = lane / 4;         // row of an 8-row fragment
  const int quad_lane = lane % 4;     // which columns of it
  const int warp_row = warp / kWarpsX * (kTileRows / kWarpsRows);
  const int warp_x = warp % kWarpsX * (kTileX / kWarpsX);
  const long long first_row = (long long)blockIdx.x * kTileRows;
  const long long first_x = (long long)blockIdx.y * kTileX;

  // Past the end, the last row is read again and its sums are not stored.
  const unsigned char* w_run[kWRuns];
#pragma unroll
  for (int i = 0; i < kWRuns; ++i) {
    const int row = (threadIdx.x + i * kThreads) / kRunsPerTile;
    w_run[i] = w + min_of(first_row + row, rows - 1) * kRowBytes;
  } // i: runs of this thread
  const unsigned char* x_run[kXRuns];
#pragma unroll
  for (int i = 0; i < kXRuns; ++i) {
    const int row = (threadIdx.x + i * kThreads) / kRunsPerTile;
    x_run[i] = x + min_of(first_x + row, n - 1) * kXRowBytes;
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
            const long long row = min_of(first_row + warp_row + m * 16 + half * 8 + group, rows - 1);
            const float w_factor = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + chunk_col / kScaleBlockCols);
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
    for (int half = 0; half < 2; ++half) {
      const long long row = first_row + warp_row + m * 16 + half * 8 + group;
      if (row < rows) {
#pragma unroll
        for (int j = 0; j < kXTiles; ++j) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const long long x_row = first_x + warp_x + j * 8 + 2 * quad_lane + i;
            const float product = total[m][j][2 * half + i];
            if (x_row < n) store_element(y + x_row * rows + row, product);
          } // i: rows of x
        } // j: 8-row tiles of x
      }
    } // half: of a 16-row tile
  } // m: 16-row tiles
}
