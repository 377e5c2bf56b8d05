// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_fp8_e4m3_s32x5_e8m0_x_f32_c512_n1, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   scale    in   e8m0  [ceil(rows / 32), 103]  row-major, one per 32 x 5 block of w
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, no cvt from e4m3: software, exact: bits moved into an f16x2, one multiply for two
//   launch   grid (ceil(rows / 8), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;          // columns of w, and of each row of x
constexpr int kRowBytes = 512;      // bytes of one row of w
constexpr int kRun = 8;             // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 32; // rows that share one scale
constexpr int kScaleBlockCols = 5;  // columns that share one scale
constexpr int kScaleCols = 103;     // scales in one row of scales
constexpr int kThreads = 128;       // threads per CTA
constexpr int kWarpThreads = 32;    // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 2;     // rows of w that share one pass over x
constexpr int kXColumns = 1;        // rows of x that a launch can use

struct alignas(8) Words2 {
  unsigned word[2];
};

__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) { return *(const Words2*)at; }

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
__device__ __forceinline__ unsigned mul_or_nan_f16x2(unsigned a, unsigned b, unsigned is_nan) {
  unsigned minus, result;
  asm("neg.f16x2 %0, %1;" : "=r"(minus) : "r"(is_nan));
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(minus));
  return result;
}

// Two e4m3 codes, each at the top of a 16-bit half, to two f16. The 7 magnitude bits, moved to bit 7,
// read as an f16 that is 2^-8 too small, subnormals too. Only the NaN, 0x7f, is 0x3f80 there.
__device__ __forceinline__ unsigned fp8x2_to_pair(unsigned spread) {
  const unsigned scaled = (spread & 0x7f007f00u) >> 1 | (spread & 0x80008000u);
  return mul_or_nan_f16x2(scaled, 0x5c005c00u, equal_f16x2(abs_f16x2(scaled), 0x3f803f80u)); // 0x5c00 is 2^8
}

// Four codes to two pairs of 16-bit numbers.
__device__ __forceinline__ void fp8x4_to_pairs(unsigned codes, unsigned& low, unsigned& high) {
  low = fp8x2_to_pair(permute_bytes(codes, 0u, 0x1404u));
  high = fp8x2_to_pair(permute_bytes(codes, 0u, 0x3424u));
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

// 2^(code - 127); code 0 is the subnormal 2^-127, 255 is NaN (OCP MX 1.0).
__device__ __forceinline__ float load_scale(const unsigned char* scale, long long at) {
  const unsigned code = scale[at];
  const unsigned bits = code == 0u ? 0x00400000u : code << 23;
  return __uint_as_float(code == 255u ? 0x7fc00000u : bits);
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
matvec_fp8_e4m3_s32x5_e8m0_x_f32_c512_n1(
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
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      decode_run(w + row[r] * kRowBytes, col, weight[r]);
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        if (col + i < kCols) weight[r][i] *= load_scale(scale, (row[r] / kScaleBlockRows) * kScaleCols + (col + i) / kScaleBlockCols);
      } // i: elements, each with a scale of its own
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
