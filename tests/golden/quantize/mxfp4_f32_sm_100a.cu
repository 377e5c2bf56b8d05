// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/quantize.cu.in.
//   kernel   quantize_mxfp4_s1x32_e8m0_x_f32_c512, emitter version 7
//   x        in   f32  [rows, 512]  row-major
//   w        out  mxfp4  [rows, 512]  row-major, blocks of 32 elements in 16 bytes
//   scale    out  e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   math     w = the nearest code to x / scale, ties to even, saturating; scale = 2^(floor(log2 of the largest |x|) - 2), NaN if x has one
//   arch     sm_100a, has a cvt to e2m1: hardware cvt from f32
//   launch   grid (ceil(rows / 1) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;          // columns of x and w
constexpr int kRowBytes = 256;      // bytes of one row of w
constexpr int kGroupCols = 32;      // columns that share one scale
constexpr int kGroups = 16;         // groups in one row
constexpr int kThreads = 128;       // threads per CTA
constexpr int kLanes = 8;           // threads of one group
constexpr int kSteps = 1;           // quads of columns of one thread
constexpr int kGroupsPerRow = 16;   // groups of one row in a CTA
constexpr int kRowsPerCta = 1;
constexpr int kColumnTiles = 1;     // CTAs side by side in one row
constexpr int kLargestExponent = 2; // of the power of two in the largest number

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

// Four codes of 4 bits, the first in the low ones, by the hardware's conversion: to nearest even, saturating.
__device__ __forceinline__ unsigned encode_quad(const float (&value)[4]) {
  unsigned short codes;
  asm("{ .reg .b8 low, high;\n"
      "cvt.rn.satfinite.e2m1x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e2m1x2.f32 high, %4, %3;\n"
      "mov.b16 %0, {low, high}; }"
      : "=h"(codes)
      : "f"(value[0]), "f"(value[1]), "f"(value[2]), "f"(value[3]));
  return codes;
}

// Four codes of a row, in two bytes, unless they lie past column `end`.
__device__ __forceinline__ void store_quad(unsigned char* row, int col, int end, unsigned codes) {
  if (col < end) *(unsigned short*)(row + col / 2) = (unsigned short)codes;
}

// As integers: a NaN is larger than infinity.
__device__ __forceinline__ float larger_magnitude(float largest, float value) {
  const unsigned a = __float_as_uint(largest);
  const unsigned b = __float_as_uint(value) & 0x7fffffffu;
  return __uint_as_float(a > b ? a : b);
}

// 2^(code - 127), by OCP's floor rule: the power of two in the largest magnitude becomes that in the largest
// number of the format. Code 255, NaN, if there is a NaN or an infinity. Products with the inverse are exact
// but where they are far below a code's smallest step.
struct GroupScale {
  unsigned char stored;
  float inverse;
};

__device__ __forceinline__ GroupScale choose_scale(float largest) {
  const unsigned exponent = __float_as_uint(largest) >> 23;
  const unsigned code = exponent > (unsigned)kLargestExponent ? exponent - (unsigned)kLargestExponent : 0u;
  if (exponent == 255u) return {255, __uint_as_float(0x7fc00000u)};
  return {(unsigned char)code, __uint_as_float((254u - code) << 23)};
}

__device__ __forceinline__ float scaled(float value, const GroupScale& scale) { return value * scale.inverse; }

extern "C" __global__ void __launch_bounds__(kThreads)
quantize_mxfp4_s1x32_e8m0_x_f32_c512(
    const float* __restrict__ x,
    unsigned char* __restrict__ w,
    unsigned char* __restrict__ scale,
    long long rows) {
  const int lane = threadIdx.x % kLanes;
  const int slot = threadIdx.x / kLanes;
  // Past the end, the last group is done again: all lanes take part in the shuffles.
  const long long first_row = (long long)(blockIdx.x / kColumnTiles) * kRowsPerCta;
  const long long row = min_of(first_row + slot / kGroupsPerRow, rows - 1);
  const int group = (int)min_of(blockIdx.x % kColumnTiles * kGroupsPerRow + slot % kGroupsPerRow, kGroups - 1);
  const int begin = group * kGroupCols;
  const int end = (int)min_of(begin + kGroupCols, kCols);
  const float* x_row = x + row * kCols;

  float value[kSteps][4];
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    load_quad(x_row, begin + (step * kLanes + lane) * 4, end, value[step]);
  } // step: quads of this lane

  float largest = 0.0f;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) largest = larger_magnitude(largest, value[step][i]);
  } // step: quads of this lane
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    largest = larger_magnitude(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  } // distance: lanes apart
  const GroupScale group_scale = choose_scale(largest);
  if (lane == 0) scale[row * kGroups + group] = group_scale.stored;

#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) value[step][i] = scaled(value[step][i], group_scale);
    store_quad(w + row * kRowBytes, begin + (step * kLanes + lane) * 4, end, encode_quad(value[step]));
  } // step: quads of this lane
}
