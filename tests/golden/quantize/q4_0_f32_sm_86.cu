// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/quantize.cu.in.
//   kernel   quantize_q4_0_x_f32_c512, emitter version 7
//   x        in   f32  [rows, 512]  row-major
//   w        out  q4_0  [rows, 512]  row-major, blocks of 32 elements in 18 bytes
//   math     w = x as ggml's quantize_row_q4_0_ref has it, bit for bit
//   arch     sm_86, no instruction makes q4_0 blocks: software: ggml's reference quantiser, operation by operation
//   launch   grid (ceil(rows / 1) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;        // columns of x and w
constexpr int kRowBytes = 288;    // bytes of one row of w
constexpr int kGroupCols = 32;    // columns that share one scale
constexpr int kGroups = 16;       // groups in one row
constexpr int kThreads = 128;     // threads per CTA
constexpr int kLanes = 8;         // threads of one group
constexpr int kSteps = 1;         // quads of columns of one thread
constexpr int kGroupsPerRow = 16; // groups of one row in a CTA
constexpr int kRowsPerCta = 1;
constexpr int kColumnTiles = 1;   // CTAs side by side in one row

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

// To nearest even.
__device__ __forceinline__ float divide(float a, float b) {
  float quotient;
  asm("div.rn.f32 %0, %1, %2;" : "=f"(quotient) : "f"(a), "f"(b));
  return quotient;
}

// To nearest even, never part of a multiply-add.
__device__ __forceinline__ float multiply(float a, float b) {
  float product;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(product) : "f"(a), "f"(b));
  return product;
}

__device__ __forceinline__ float inverse_of(float d) { return d == 0.0f ? 0.0f : divide(1.0f, d); }

// To nearest even; overflow gives infinity.
__device__ __forceinline__ unsigned short f32_to_f16(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ unsigned short f16_of_scale(float d) {
  return d != d ? (unsigned short)0x7e00 : f32_to_f16(d);
}

// The address is even.
__device__ __forceinline__ void store_half(unsigned char* at, unsigned value) {
  *(unsigned short*)at = (unsigned short)value;
}

// d, minus an eighth of the first value of the largest magnitude, as f16, then x / d + 8 rounded to 0 to 15,
// halves up, two in a byte: that of value i in the low bits, that of value 16 + i above it. A product that
// isn't a number or infinite has code 0; a NaN in the block makes d NaN.
__device__ __forceinline__ void quantize_block(unsigned char* block, int lane, const float (&value)[4]) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const bool is_larger = (__float_as_uint(value[i]) & 0x7fffffffu) > (__float_as_uint(largest) & 0x7fffffffu);
    largest = is_larger ? value[i] : largest;
  } // i: values
#pragma unroll
  for (int distance = 1; distance < 8; distance *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, largest, distance);
    const unsigned mine = __float_as_uint(largest) & 0x7fffffffu;
    const unsigned others = __float_as_uint(other) & 0x7fffffffu;
    const bool is_first = (lane & distance) != 0;  // the other lane's values come before
    largest = others > mine || (others == mine && is_first) ? other : largest;
  } // distance: lanes apart
  const float d = divide(largest, -8.0f);
  const float inverse = inverse_of(d);
  unsigned codes = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float shifted = multiply(value[i], inverse) + 8.5f;
    const int code = shifted > 0.0f && shifted < 0x1p+30f ? (int)shifted : 0;
    codes |= (unsigned)(code < 15 ? code : 15) << (8 * i);
  } // i: values
  const unsigned upper = __shfl_xor_sync(0xffffffffu, codes, 4);
  const unsigned bytes = codes | upper << 4;
  if (lane == 0) store_half(block, f16_of_scale(d));
  if (lane < 4) {
    store_half(block + 2 + 4 * lane, bytes);
    store_half(block + 4 + 4 * lane, bytes >> 16);
  }
}

extern "C" __global__ void __launch_bounds__(kThreads)
quantize_q4_0_x_f32_c512(
    const float* __restrict__ x,
    unsigned char* __restrict__ w,
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
  quantize_block(w + row * kRowBytes + group * 18, lane, value[0]);
}
