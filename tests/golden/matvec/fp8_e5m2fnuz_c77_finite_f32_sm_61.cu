// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_fp8_e5m2fnuz_finite_x_f32_c77_n1, emitter version 7
//   w        in   fp8_e5m2fnuz  [rows, 77]  row-major
//   x        in   f32  [n, 77]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_61, no GPU has a cvt from e5m2fnuz and slow f16 arithmetic: software, exact: bits moved into an f32, one multiply; no NaN codes (scanned)
//   launch   grid (ceil(rows / 8), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 77;        // columns of w, and of each row of x
constexpr int kRowBytes = 77;    // bytes of one row of w
constexpr int kRun = 8;          // consecutive elements decoded at a time
constexpr int kThreads = 128;    // threads per CTA
constexpr int kWarpThreads = 32; // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 2;  // rows of w that share one pass over x
constexpr int kXColumns = 1;     // rows of x that a launch can use

struct alignas(8) Words2 {
  unsigned word[2];
};

// Not aligned.
__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) {
  Words2 result = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) result.word[i / 4] |= (unsigned)at[i] << (8 * (i % 4));
  return result;
}

// Four e5m2fnuz codes, none a NaN, exactly. The 7 magnitude bits, moved to bit 21, read as an
// f32 that is 2^-111 too small, subnormals too, so compile with -ftz=false.
__device__ __forceinline__ void fp8x4_to_f32(unsigned codes, float* value) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned scaled = (unsigned)((int)(codes << (24 - 8 * i)) >> 3) & 0x8fe00000u;
    value[i] = __uint_as_float(scaled) * 0x1p+111f;
  } // i: codes
}

__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const Words2 codes = load_8_bytes(row + col);
  fp8x4_to_f32(codes.word[0], value);
  fp8x4_to_f32(codes.word[1], value + 4);
}

__device__ __forceinline__ float decode_element(const unsigned char* row, int col) {
  float value[4];
  fp8x4_to_f32(row[col], value);
  return value[0];
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

__device__ __forceinline__ void load_run_f32(const unsigned char* at, float (&value)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] = ((const float*)at)[i];
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads)
matvec_fp8_e5m2fnuz_finite_x_f32_c77_n1(
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
        load_run_f32((const unsigned char*)(x_row[j] + col), activation);
      } else {
#pragma unroll
        for (int i = 0; i < kRun; ++i) activation[i] = col + i < kCols ? x_row[j][col + i] : 0.0f;
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
