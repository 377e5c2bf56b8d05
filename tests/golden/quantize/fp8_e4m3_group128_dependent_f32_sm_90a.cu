// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/quantize.cu.in.
//   kernel   quantize_fp8_e4m3_s1x128_f32_x_f32_c512_dependent, emitter version 7
//   x        in   f32  [rows, 512]  row-major
//   w        out  fp8_e4m3  [rows, 512]  row-major
//   scale    out  f32  [rows, 4]  row-major, one per 1 x 128 block of w
//   math     w = the nearest code to x / scale, ties to even, saturating; scale = largest |x| / 448, 1 if that is 0
//   arch     sm_90a, has a cvt to e4m3: hardware cvt from f32
//   launch   grid (ceil(rows / 1) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;          // columns of x and w
constexpr int kRowBytes = 512;      // bytes of one row of w
constexpr int kGroupCols = 128;     // columns that share one scale
constexpr int kGroups = 4;          // groups in one row
constexpr int kThreads = 128;       // threads per CTA
constexpr int kLanes = 32;          // threads of one group
constexpr int kSteps = 1;           // quads of columns of one thread
constexpr int kGroupsPerRow = 4;    // groups of one row in a CTA
constexpr int kRowsPerCta = 1;
constexpr int kColumnTiles = 1;     // CTAs side by side in one row
constexpr float kLargest = 448.00f; // largest number

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

// Four codes, the first in the low byte, by the hardware's conversion: to nearest even, saturating.
__device__ __forceinline__ unsigned encode_quad(const float (&value)[4]) {
  unsigned short low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(value[1]), "f"(value[0]));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(value[3]), "f"(value[2]));
  return low | (unsigned)high << 16;
}

// Four codes of a row, unless they lie past column `end`.
__device__ __forceinline__ void store_quad(unsigned char* row, int col, int end, unsigned codes) {
  if (col < end) *(unsigned*)(row + col) = codes;
}

// The larger one; a NaN loses.
__device__ __forceinline__ float max_of(float a, float b) {
  float larger;
  asm("max.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// An operand's modifier, in the instruction that uses it.
__device__ __forceinline__ float absolute(float value) {
  float magnitude;
  asm("abs.f32 %0, %1;" : "=f"(magnitude) : "f"(value));
  return magnitude;
}

// NaNs don't count.
__device__ __forceinline__ float larger_magnitude(float largest, float value) { return max_of(largest, absolute(value)); }

// To nearest even.
__device__ __forceinline__ float divide(float a, float b) {
  float quotient;
  asm("div.rn.f32 %0, %1, %2;" : "=f"(quotient) : "f"(a), "f"(b));
  return quotient;
}

// The largest magnitude becomes the largest number of the format.
struct GroupScale {
  float stored;
};

__device__ __forceinline__ GroupScale choose_scale(float largest) {
  const float scale = divide(largest, kLargest);
  return {scale == 0.0f ? 1.0f : scale};
}

__device__ __forceinline__ float scaled(float value, const GroupScale& scale) { return divide(value, scale.stored); }

// Waits until the grid ahead of this one in the stream has ended and its writes can be seen. No thread may read
// or write memory, or end, before: what this grid waits for, the grid behind it doesn't wait for again.
__device__ __forceinline__ void wait_for_earlier_grids() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Once every CTA has said so, or ended, the grid behind this one may start, and waits as this one did.
__device__ __forceinline__ void let_next_grid_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

extern "C" __global__ void __launch_bounds__(kThreads)
quantize_fp8_e4m3_s1x128_f32_x_f32_c512_dependent(
    const float* x,
    unsigned char* w,
    float* scale,
    long long rows) {
  wait_for_earlier_grids();
  let_next_grid_start();

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
