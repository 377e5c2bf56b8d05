// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_mxfp6_e3m2_s1x32_e8m0_x_f32_c512_n1, emitter version 7
//   w        in   mxfp6_e3m2  [rows, 512]  row-major, blocks of 32 elements in 24 bytes
//   scale    in   e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_120a, has a cvt from e3m2: hardware cvt to f16x2, and of the block's scale
//   launch   grid (ceil(rows / 8), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;          // columns of w, and of each row of x
constexpr int kRowBytes = 384;      // bytes of one row of w
constexpr int kRun = 8;             // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 32; // columns that share one scale
constexpr int kScaleCols = 16;      // scales in one row of scales
constexpr int kThreads = 128;       // threads per CTA
constexpr int kWarpThreads = 32;    // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 2;     // rows of w that share one pass over x
constexpr int kXColumns = 1;        // rows of x that a launch can use

// At an even address in a row that is aligned to 4 bytes and has a multiple of 8. What is above the 48 bits is
// not zero.
__device__ __forceinline__ unsigned long long load_6_bytes(const unsigned char* at) {
  const unsigned before = (unsigned)(unsigned long long)at & 2u;
  const unsigned* words = (const unsigned*)(at - before);
  return (words[0] | (unsigned long long)words[1] << 32) >> (8u * before);
}

// Four codes in the low 24 bits to the low six bits of four bytes.
__device__ __forceinline__ unsigned fp6x4_to_bytes(unsigned codes) {
  const unsigned halves = (codes & 0x00000fffu) | (codes << 4 & 0x0fff0000u);
  return (halves & 0x003f003fu) | (halves << 2 & 0x3f003f00u);
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

// Four e3m2 codes in the low 24 bits, by the hardware's conversion.
__device__ __forceinline__ void fp6x4_to_f32(unsigned codes, float* value) {
  const unsigned bytes = fp6x4_to_bytes(codes);
  unsigned low, high;
  asm("cvt.rn.f16x2.e3m2x2 %0, %1;" : "=r"(low) : "h"((unsigned short)bytes));
  asm("cvt.rn.f16x2.e3m2x2 %0, %1;" : "=r"(high) : "h"((unsigned short)(bytes >> 16)));
  f16x2_to_f32(low, value);
  f16x2_to_f32(high, value + 2);
}

// OCP's FP6, eight codes in 6 bytes.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned long long codes = load_6_bytes(row + col / 4 * 3);
  fp6x4_to_f32((unsigned)codes, value);
  fp6x4_to_f32((unsigned)(codes >> 24), value + 4);
}

// 2^(code - 127), 255 is NaN (OCP MX 1.0), by the hardware's conversion.
__device__ __forceinline__ float load_scale(const unsigned char* scale, long long at) {
  unsigned pair;
  asm("cvt.rn.bf16x2.ue8m0x2 %0, %1;" : "=r"(pair) : "h"((unsigned short)scale[at]));
  return __uint_as_float(pair << 16);
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

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads)
matvec_mxfp6_e3m2_s1x32_e8m0_x_f32_c512_n1(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ scale,
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
    float run_scale[kRowsPerWarp];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      decode_run(w + row[r] * kRowBytes, col, weight[r]);
      run_scale[r] = load_scale(scale, (row[r]) * kScaleCols + col / kScaleBlockCols);
    } // r: rows of this warp
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      float activation[kRun];
      load_run_f32((const unsigned char*)(x_row[j] + col), activation);
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) {
        float run_sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kRun; ++i) run_sum += weight[r][i] * activation[i];
        sum[r][j] += run_scale[r] * run_sum;
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
