// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_f16_x_f16_c77_n1, emitter version 7
//   w        in   f16  [rows, 77]  row-major
//   x        in   f16  [n, 77]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, a number type of the target: native
//   launch   grid (ceil(rows / 8), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 77;        // columns of w, and of each row of x
constexpr int kRowBytes = 154;   // bytes of one row of w
constexpr int kRun = 8;          // consecutive elements decoded at a time
constexpr int kThreads = 128;    // threads per CTA
constexpr int kWarpThreads = 32; // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 2;  // rows of w that share one pass over x
constexpr int kXColumns = 1;     // rows of x that a launch can use

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ void load_run_f16(const unsigned char* at, float (&value)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] = f16_to_f32(((const unsigned short*)at)[i]);
}

__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  load_run_f16(row + 2ll * col, value);
}

__device__ __forceinline__ float decode_element(const unsigned char* row, int col) {
  return f16_to_f32(((const unsigned short*)row)[col]);
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

// Sum over the 32 lanes of a warp, in every lane.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  } // distance: lanes apart
  return value;
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads)
matvec_f16_x_f16_c77_n1(
    const unsigned char* __restrict__ w,
    const unsigned short* __restrict__ x,
    float* __restrict__ y,
    long long rows,
    long long n) {
  const int lane = threadIdx.x % kWarpThreads;
  const long long warp = (long long)blockIdx.x * kWarps + threadIdx.x / kWarpThreads;
  const long long first_row = warp * kRowsPerWarp;
  if (first_row >= rows) return;

  // Past the end, the last row is read again and its sum is not stored.
  long long row[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) row[r] = min_of(first_row + r, rows - 1);

  const unsigned short* x_row[kXColumns];
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) x_row[j] = x + min_of(j, n - 1) * kCols;

  float sum[kRowsPerWarp][kXColumns] = {};
#pragma unroll 2
  for (int col = lane * kRun; col < kCols; col += kWarpThreads * kRun) {
    float weight[kRowsPerWarp][kRun];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      if (col + kRun <= kCols) {
        decode_run(w + row[r] * kRowBytes, col, weight[r]);
      } else {
#pragma unroll
        for (int i = 0; i < kRun; ++i) weight[r][i] = col + i < kCols ? decode_element(w + row[r] * kRowBytes, col + i) : 0.0f;
      }
    } // r: rows of this warp
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      float activation[kRun];
      if (col + kRun <= kCols) {
        load_run_f16((const unsigned char*)(x_row[j] + col), activation);
      } else {
#pragma unroll
        for (int i = 0; i < kRun; ++i) activation[i] = col + i < kCols ? f16_to_f32(x_row[j][col + i]) : 0.0f;
      }
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
        for (int i = 0; i < kRun; ++i) sum[r][j] += weight[r][i] * activation[i];
      } // r: rows of this warp
    } // j: rows of x
  } // col: runs of this lane

#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      const float total = warp_sum(sum[r][j]);
      if (lane == 0 && j < n && first_row + r < rows) {
        store_element(y + j * rows + first_row + r, total);
      }
    } // j: rows of x
  } // r: rows of this warp
}
