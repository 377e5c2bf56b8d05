// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_fp8_e5m2_s32x32_f32_y_f16_c77, emitter version 7
//   w        in   fp8_e5m2  [rows, 77]  row-major
//   scale    in   f32  [ceil(rows / 32), 3]  row-major, one per 32 x 32 block of w
//   y        out  f16  [rows, 77]  row-major
//   math     y = decode(w) * scale, then rounded once to f16, to nearest even
//   arch     sm_86, no cvt from e5m2: software, exact: the code is the upper byte of an f16
//   launch   grid (ceil(rows / 16) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 77;                           // columns of w and y
constexpr int kRowBytes = 77;                       // bytes of one row of w
constexpr int kRun = 8;                             // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 32;                 // rows that share one scale
constexpr int kScaleBlockCols = 32;                 // columns that share one scale
constexpr int kScaleCols = 3;                       // scales in one row of scales
constexpr int kThreads = 128;                       // threads per CTA
constexpr int kThreadsPerRow = 8;                   // threads side by side in one row
constexpr int kColumnTiles = 1;                     // CTAs side by side in one row
constexpr int kRuns = 2;                            // runs of one thread
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kRunDistance = kThreadsPerRow * kRun; // columns between the runs of a thread

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

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// Four e5m2 codes to two f16x2: a code is the upper byte of an f16.
__device__ __forceinline__ void fp8x4_to_pairs(unsigned codes, unsigned& low, unsigned& high) {
  low = permute_bytes(codes, 0u, 0x1404u);
  high = permute_bytes(codes, 0u, 0x3424u);
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

__device__ __forceinline__ void fp8x4_to_f32(unsigned codes, float* value) {
  unsigned low, high;
  fp8x4_to_pairs(codes, low, high);
  f16x2_to_f32(low, value);
  f16x2_to_f32(high, value + 2);
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

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

// To nearest even; overflow gives infinity.
__device__ __forceinline__ unsigned short f32_to_f16(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void store_run_f16(unsigned short* at, const float (&value)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) at[i] = f32_to_f16(value[i]);
}

__device__ __forceinline__ void store_element(unsigned short* at, float value) { *at = f32_to_f16(value); }

extern "C" __global__ void __launch_bounds__(kThreads)
dequant_fp8_e5m2_s32x32_f32_y_f16_c77(
    const unsigned char* __restrict__ w,
    const float* __restrict__ scale,
    unsigned short* __restrict__ y,
    long long rows) {
  const long long row =
      (long long)(blockIdx.x / kColumnTiles) * kRowsPerCta + threadIdx.x / kThreadsPerRow;
  const unsigned tile = blockIdx.x % kColumnTiles;
  const unsigned thread = threadIdx.x % kThreadsPerRow;
  const int first_col = (int)((tile * kThreadsPerRow * kRuns + thread) * kRun);
  __builtin_assume(first_col >= 0); // so that divisions by powers of two are shifts
  if (row >= rows) return;

  float value[kRuns][kRun];
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    const int col = first_col + r * kRunDistance;
    if (col >= kCols) break;
    if (col + kRun <= kCols) {
      decode_run(w + row * kRowBytes, col, value[r]);
    } else {
#pragma unroll
      for (int i = 0; i < kRun; ++i) value[r][i] = col + i < kCols ? decode_element(w + row * kRowBytes, col + i) : 0.0f;
    }
    const float run_scale = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + col / kScaleBlockCols);
#pragma unroll
    for (int i = 0; i < kRun; ++i) value[r][i] *= run_scale;
  } // r: runs of this thread
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    const int col = first_col + r * kRunDistance;
    if (col >= kCols) break;
    if (col + kRun <= kCols) {
      store_run_f16(y + row * kCols + col, value[r]);
    } else {
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        if (col + i < kCols) store_element(y + row * kCols + col + i, value[r][i]);
      } // i: elements
    }
  } // r: runs of this thread
}
