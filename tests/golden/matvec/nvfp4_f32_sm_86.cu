// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_nvfp4_s1x16_e4m3_x_f32_c512_n1, emitter version 7
//   w        in   nvfp4  [rows, 512]  row-major, blocks of 16 elements in 8 bytes
//   scale    in   e4m3  [rows, 32]  row-major, one per 1 x 16 block of w
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, no cvt from e2m1: software, exact: upper bytes of f16 from a table in two registers
//   launch   grid (ceil(rows / 8), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;          // columns of w, and of each row of x
constexpr int kRowBytes = 256;      // bytes of one row of w
constexpr int kRun = 8;             // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 16; // columns that share one scale
constexpr int kScaleCols = 32;      // scales in one row of scales
constexpr int kThreads = 128;       // threads per CTA
constexpr int kWarpThreads = 32;    // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 2;     // rows of w that share one pass over x
constexpr int kXColumns = 1;        // rows of x that a launch can use

__device__ __forceinline__ unsigned load_4_bytes(const unsigned char* at) { return *(const unsigned*)at; }

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
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

// OCP's e2m1, two codes a byte, the first in the low nibble. The magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6 are f16
// numbers whose lower byte is 0; a code's low three bits choose one of the eight upper bytes. All of these
// are below 0x80, so that eight copies of the top bit give the lower byte.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned codes = load_4_bytes(row + col / 2);
  const unsigned magnitudes = codes & 0x77777777u;
  const unsigned first = permute_bytes(0x3e3c3800u, 0x46444240u, magnitudes);      // of elements 0 to 3
  const unsigned last = permute_bytes(0x3e3c3800u, 0x46444240u, magnitudes >> 16); // of elements 4 to 7
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned signs = codes << (12 - 4 * i) & 0x80008000u;
    float pair[2];
    f16x2_to_f32(permute_bytes(first, last, 0x4c08u + 0x1111u * (unsigned)i) | signs, pair);
    value[i] = pair[0];
    value[i + 4] = pair[1];
  } // i: elements i and i + 4
}

// One e4m3 code, exactly (OCP OFP8 1.0). The 7 magnitude bits, moved to bit 20, read as an f32 that is
// 2^-120 too small, subnormals too, so compile with -ftz=false. 0x7f is the only NaN.
__device__ __forceinline__ float e4m3_to_f32(unsigned code) {
  const unsigned scaled = (code & 0x80u) << 24 | (code & 0x7fu) << 20;
  return (code & 0x7fu) == 0x7fu ? __uint_as_float(0x7fc00000u) : __uint_as_float(scaled) * 0x1p+120f;
}

// A block's e4m3 code times the tensor's scale, which is the plane's first f32; the codes begin at byte 16.
__device__ __forceinline__ float load_scale(const unsigned char* scale, long long at) {
  return e4m3_to_f32(scale[16 + at]) * *(const float*)scale;
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
matvec_nvfp4_s1x16_e4m3_x_f32_c512_n1(
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
