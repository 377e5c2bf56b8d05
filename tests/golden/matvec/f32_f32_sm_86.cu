// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_f32_x_f32_c512_n1, emitter version 7
//   w        in   f32  [rows, 512]  row-major
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, a number type of the target: native
//   launch   grid (ceil(rows / 8), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;       // columns of w, and of each row of x
constexpr int kRowBytes = 2048;  // bytes of one row of w
constexpr int kRun = 8;          // consecutive elements decoded at a time
constexpr int kThreads = 128;    // threads per CTA
constexpr int kWarpThreads = 32; // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 2;  // rows of w that share one pass over x
constexpr int kXColumns = 1;     // rows of x that a launch can use

struct alignas(16) Words4 {
  unsigned word[4];
};

__device__ __forceinline__ void load_run_f32(const unsigned char* at, float (&value)[kRun]) {
#pragma unroll
  for (int v = 0; v < kRun / 4; ++v) {
    const Words4 words = ((const Words4*)at)[v];
#pragma unroll
    for (int i = 0; i < 4; ++i) value[4 * v + i] = __uint_as_float(words.word[i]);
  } // v: 16-byte vectors
}

__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  load_run_f32(row + 4ll * col, value);
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
matvec_f32_x_f32_c512_n1(
    const unsigned char* __restrict__ w,
    const float* __restrict__ x,
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

  const float* x_row[kXColumns];
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) x_row[j] = x + min_of(j, n - 1) * kCols;

  float sum[kRowsPerWarp][kXColumns] = {};
#pragma unroll 2
  for (int col = lane * kRun; col < kCols; col += kWarpThreads * kRun) {
    float weight[kRowsPerWarp][kRun];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      decode_run(w + row[r] * kRowBytes, col, weight[r]);
    } // r: rows of this warp
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      float activation[kRun];
      load_run_f32((const unsigned char*)(x_row[j] + col), activation);
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
