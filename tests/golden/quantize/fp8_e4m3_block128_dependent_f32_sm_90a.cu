// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/quantize_tile.cu.in.
//   kernel   quantize_fp8_e4m3_s128x128_f32_x_f32_c512_dependent, emitter version 7
//   x        in   f32  [rows, 512]  row-major
//   w        out  fp8_e4m3  [rows, 512]  row-major
//   scale    out  f32  [ceil(rows / 128), 4]  row-major, one per 128 x 128 block of w
//   math     w = the nearest code to x / scale, ties to even, saturating; scale = largest |x| / 448, 1 if that is 0
//   arch     sm_90a, has a cvt to e4m3: hardware cvt from f32
//   launch   grid (ceil(rows / 128) * 4, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                      // columns of x and w
constexpr int kRowBytes = 512;                  // bytes of one row of w
constexpr int kBlockRows = 128;                 // rows that share one scale
constexpr int kBlockCols = 128;                 // columns that share one scale
constexpr int kScaleCols = 4;                   // scales in one row of scales
constexpr int kThreads = 256;                   // threads per CTA
constexpr int kWarpThreads = 32;                // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kLanes = 32;                      // threads side by side in one row
constexpr int kRowsAtATime = kThreads / kLanes; // rows that a CTA works on together
constexpr float kLargest = 448.00f;             // largest number

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

struct alignas(16) Words4 {
  unsigned word[4];
};

// Four columns of a row as f32, zeros from column `end` on.
__device__ __forceinline__ void load_quad(const float* row, int col, int end, float (&value)[4]) {
  Words4 words = {};
  if (col < end) words = *(const Words4*)(row + col);
#pragma unroll
  for (int i = 0; i < 4; ++i) value[i] = __uint_as_float(words.word[i]);
}

// Four codes, the first in the low byte, by the hardware's conversion: to nearest even, saturating.
__device__ __forceinline__ unsigned encode_quad(const float (&value)[4]) {
  unsigned short low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(value[1]), "f"(value[0]));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(value[3]), "f"(value[2]));
  return low | (unsigned)high << 16;
}

// Four codes of a row, unless they lie past column `end`.
__device__ __forceinline__ void store_quad(unsigned char* row, int col, int end, unsigned codes) {
  if (col < end) *(unsigned*)(row + col) = codes;
}

// The larger one; a NaN loses.
__device__ __forceinline__ float max_of(float a, float b) {
  float larger;
  asm("max.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// An operand's modifier, in the instruction that uses it.
__device__ __forceinline__ float absolute(float value) {
  float magnitude;
  asm("abs.f32 %0, %1;" : "=f"(magnitude) : "f"(value));
  return magnitude;
}

// NaNs don't count.
__device__ __forceinline__ float larger_magnitude(float largest, float value) { return max_of(largest, absolute(value)); }

// To nearest even.
__device__ __forceinline__ float divide(float a, float b) {
  float quotient;
  asm("div.rn.f32 %0, %1, %2;" : "=f"(quotient) : "f"(a), "f"(b));
  return quotient;
}

// The largest magnitude becomes the largest number of the format.
struct GroupScale {
  float stored;
};

__device__ __forceinline__ GroupScale choose_scale(float largest) {
  const float scale = divide(largest, kLargest);
  return {scale == 0.0f ? 1.0f : scale};
}

__device__ __forceinline__ float scaled(float value, const GroupScale& scale) { return divide(value, scale.stored); }

// Waits until the grid ahead of this one in the stream has ended and its writes can be seen. No thread may read
// or write memory, or end, before: what this grid waits for, the grid behind it doesn't wait for again.
__device__ __forceinline__ void wait_for_earlier_grids() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Once every CTA has said so, or ended, the grid behind this one may start, and waits as this one did.
__device__ __forceinline__ void let_next_grid_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// One CTA per block of w: it reads its part of x twice, the second time from the cache.
extern "C" __global__ void __launch_bounds__(kThreads)
quantize_fp8_e4m3_s128x128_f32_x_f32_c512_dependent(
    const float* x,
    unsigned char* w,
    float* scale,
    long long rows) {
  wait_for_earlier_grids();
  let_next_grid_start();

  __shared__ float warp_largest[kWarps];
  const int lane = threadIdx.x % kLanes;
  const long long row_begin = (long long)(blockIdx.x / kScaleCols) * kBlockRows;
  const long long row_end = min_of(row_begin + kBlockRows, rows);
  const int begin = (int)(blockIdx.x % kScaleCols) * kBlockCols;
  const int end = (int)min_of((long long)begin + kBlockCols, kCols);

  float largest = 0.0f;
  for (long long row = row_begin + threadIdx.x / kLanes; row < row_end; row += kRowsAtATime) {
    for (int col = begin + lane * 4; col < end; col += kLanes * 4) {
      float value[4];
      load_quad(x + row * kCols, col, end, value);
#pragma unroll
      for (int i = 0; i < 4; ++i) largest = larger_magnitude(largest, value[i]);
    } // col: quads of this lane
  } // row: rows of this thread
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = larger_magnitude(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  } // distance: lanes apart
  if (threadIdx.x % kWarpThreads == 0) warp_largest[threadIdx.x / kWarpThreads] = largest;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) largest = larger_magnitude(largest, warp_largest[warp]);
  const GroupScale block_scale = choose_scale(largest);
  if (threadIdx.x == 0) scale[blockIdx.x] = block_scale.stored;

  for (long long row = row_begin + threadIdx.x / kLanes; row < row_end; row += kRowsAtATime) {
    for (int col = begin + lane * 4; col < end; col += kLanes * 4) {
      float value[4];
      load_quad(x + row * kCols, col, end, value);
#pragma unroll
      for (int i = 0; i < 4; ++i) value[i] = scaled(value[i], block_scale);
      store_quad(w + row * kRowBytes, col, end, encode_quad(value));
    } // col: quads of this lane
  } // row: rows of this thread
}
