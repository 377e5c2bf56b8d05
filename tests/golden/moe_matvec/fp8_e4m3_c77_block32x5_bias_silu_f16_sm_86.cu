// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   moe_matvec_fp8_e4m3_s32x5_e8m0_x_f16_y_f16_bias_bf16_gate_silu_c77, emitter version 7
//   w_gate     in   fp8_e4m3  [experts, rows, 77]  row-major
//   scale_gate in   e8m0  [experts, ceil(rows / 32), 16]  row-major, one per 32 x 5 block of w
//   w_up       in   fp8_e4m3  [experts, rows, 77]  row-major
//   scale_up   in   e8m0  [experts, ceil(rows / 32), 16]  row-major, one per 32 x 5 block of w
//   ids        in   i32  [slots]  the expert of each slot
//   x          in   f16  [ceil(slots / slots_per_x), 77]  row-major
//   bias_gate  in   bf16  [experts, rows]
//   bias_up    in   bf16  [experts, rows]
//   y          out  f16  [slots, rows]  row-major
//   math     y[s, r] = silu(sum over c of decode(w_gate) * scale[ids[s], r, c] * f32(x[s / slots_per_x, c]) + bias_gate[ids[s], r]) * (sum over c of decode(w_up) * scale[ids[s], r, c] * f32(x[s / slots_per_x, c]) + bias_up[ids[s], r]), products and sums in f32, then rounded once to f16, to nearest even; NaN where no expert has the id
//   arch     sm_86, no cvt from e4m3: software, exact: bits moved into an f16x2, one multiply for two
//   launch   grid (ceil(rows / 4), slots, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 77;           // columns of w, and of each row of x
constexpr int kRowBytes = 77;       // bytes of one row of w
constexpr int kRun = 8;             // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 32; // rows that share one scale
constexpr int kScaleBlockCols = 5;  // columns that share one scale
constexpr int kScaleCols = 16;      // scales in one row of scales
constexpr int kThreads = 128;       // threads per CTA
constexpr int kWarpThreads = 32;    // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 1;     // rows of w that share one pass over x
constexpr int kPair = 2;            // rows, of w_gate and of w_up, behind each row of y
constexpr int kSums = kRowsPerWarp * kPair;
constexpr int kXColumns = 1;        // rows of x that a launch can use

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

__device__ __forceinline__ float decode_element(const unsigned char* row, int col) {
  float value[4];
  fp8x4_to_f32(row[col], value);
  return value[0];
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

__device__ __forceinline__ void load_run_f16(const unsigned char* at, float (&value)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] = f16_to_f32(((const unsigned short*)at)[i]);
}

// To nearest even; overflow gives infinity.
__device__ __forceinline__ unsigned short f32_to_f16(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void store_element(unsigned short* at, float value) { *at = f32_to_f16(value); }

__device__ __forceinline__ float bf16_to_f32(unsigned short bits) {
  return __uint_as_float((unsigned)bits << 16);
}

__device__ __forceinline__ float load_bias(const unsigned short* bias, long long row) {
  return bf16_to_f32(bias[row]);
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

extern "C" __global__ void __launch_bounds__(kThreads)
moe_matvec_fp8_e4m3_s32x5_e8m0_x_f16_y_f16_bias_bf16_gate_silu_c77(
    const unsigned char* __restrict__ w_gate,
    const unsigned char* __restrict__ scale_gate,
    const unsigned char* __restrict__ w_up,
    const unsigned char* __restrict__ scale_up,
    const int* __restrict__ ids,
    const unsigned short* __restrict__ x,
    const unsigned short* __restrict__ bias_gate,
    const unsigned short* __restrict__ bias_up,
    unsigned short* __restrict__ y,
    long long rows,
    [[maybe_unused]] long long slots,
    long long slots_per_x,
    long long experts) {
  const int lane = threadIdx.x % kWarpThreads;
  const long long warp = (long long)blockIdx.x * kWarps + threadIdx.x / kWarpThreads;
  const long long first_row = warp * kRowsPerWarp;
  if (first_row >= rows) return;

  const long long slot = blockIdx.y;
  const long long expert = ids[slot];
  if (expert < 0 || expert >= experts) {
    for (int r = lane; r < kRowsPerWarp; r += kWarpThreads) {
      if (first_row + r < rows) {
        store_element(y + slot * rows + first_row + r, __uint_as_float(0x7fc00000u));
      }
    } // r: rows of this warp
    return;
  }
  w_gate += expert * rows * kRowBytes;
  scale_gate += expert * ((rows + kScaleBlockRows - 1) / kScaleBlockRows) * kScaleCols;
  w_up += expert * rows * kRowBytes;
  scale_up += expert * ((rows + kScaleBlockRows - 1) / kScaleBlockRows) * kScaleCols;
  bias_gate += expert * rows;
  bias_up += expert * rows;

  const unsigned char* const w[kPair] = {w_gate, w_up};
  const unsigned char* const scale[kPair] = {scale_gate, scale_up};

  // Past the end, the last row is read again and its sum is not stored.
  long long row[kSums];
#pragma unroll
  for (int r = 0; r < kSums; ++r) row[r] = min_of(first_row + r / kPair, rows - 1);

  const unsigned short* x_row[kXColumns];
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) x_row[j] = x + (slot / slots_per_x) * kCols;

  float sum[kSums][kXColumns] = {};
#pragma unroll 2
  for (int col = lane * kRun; col < kCols; col += kWarpThreads * kRun) {
    float weight[kSums][kRun];
#pragma unroll
    for (int r = 0; r < kSums; ++r) {
      if (col + kRun <= kCols) {
        decode_run(w[r % kPair] + row[r] * kRowBytes, col, weight[r]);
      } else {
#pragma unroll
        for (int i = 0; i < kRun; ++i) weight[r][i] = col + i < kCols ? decode_element(w[r % kPair] + row[r] * kRowBytes, col + i) : 0.0f;
      }
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        if (col + i < kCols) weight[r][i] *= load_scale(scale[r % kPair], (row[r] / kScaleBlockRows) * kScaleCols + (col + i) / kScaleBlockCols);
      } // i: elements, each with a scale of its own
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
      for (int r = 0; r < kSums; ++r) {
#pragma unroll
        for (int i = 0; i < kRun; ++i) sum[r][j] += weight[r][i] * activation[i];
      } // r: rows of this warp
    } // j: rows of x
  } // col: runs of this lane

#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      const float gate = warp_sum(sum[r * kPair][j]);
      const float up = warp_sum(sum[r * kPair + 1][j]);
      if (lane == 0 && first_row + r < rows) {
        store_element(y + slot * rows + first_row + r, activate(gate + load_bias(bias_gate, first_row + r)) * (up + load_bias(bias_up, first_row + r)));
      }
    } // j: rows of x
  } // r: rows of this warp
}
