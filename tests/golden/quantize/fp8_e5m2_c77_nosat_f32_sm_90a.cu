// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/quantize.cu.in.
//   kernel   quantize_fp8_e5m2_x_f32_nosat_c77, emitter version 2
//   x        in   f32  [rows, 77]  row-major
//   w        out  fp8_e5m2  [rows, 77]  row-major
//   math     w = the nearest code to x, ties to even, overflow to infinity or NaN
//   arch     sm_90a, cvt only saturates, or has no such format: software, exact: rounded by an f32 addition
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 77;                        // columns of x and w
constexpr int kGroupCols = 77;                   // columns that a few lanes share
constexpr int kGroups = 1;                       // groups in one row
constexpr int kThreads = 128;                    // threads per CTA
constexpr int kLanes = 32;                       // threads of one group
constexpr int kSteps = 1;                        // quads of columns of one thread
constexpr int kGroupsPerRow = 1;                 // groups of one row in a CTA
constexpr int kRowsPerCta = 4;
constexpr int kColumnTiles = 1;                  // CTAs side by side in one row
constexpr int kMantissaBits = 2;                 // of a code
constexpr int kClampBits = 0x47800000u;          // f32 65536
constexpr int kSmallestNormalBits = 0x38800000u; // f32 6.1035156e-05
constexpr int kNanCode = 127;                    // beside the sign
constexpr int kNanKeepsSign = 1;

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

// Four columns of a row as f32, zeros from column `end` on.
__device__ __forceinline__ void load_quad(const float* row, int col, int end, float (&value)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) value[i] = col + i < end ? row[col + i] : 0.0f;
}

// The nearest code, ties to even. The anchor is the power of two whose last place in f32 is one step of
// the code, so that the addition rounds to steps; below the smallest normal number steps stay as they are.
__device__ __forceinline__ unsigned f32_to_fp8(float value) {
  constexpr unsigned kShift = 23u - (unsigned)kMantissaBits;
  constexpr unsigned kSmallestNormal = (unsigned)kSmallestNormalBits;
  const unsigned bits = __float_as_uint(value);
  const unsigned all_but_sign = bits & 0x7fffffffu;
  const unsigned magnitude = all_but_sign < (unsigned)kClampBits ? all_but_sign : (unsigned)kClampBits;
  const unsigned power = magnitude & 0x7f800000u;
  const unsigned exponent = power > kSmallestNormal ? power : kSmallestNormal;
  const unsigned anchor = exponent + (kShift << 23);
  const unsigned steps = __float_as_uint(__uint_as_float(magnitude) + __uint_as_float(anchor)) - anchor;
  const unsigned code = ((exponent - kSmallestNormal) >> kShift) + steps;
  const unsigned sign = bits >> 24 & 0x80u;
  const bool is_nan = all_but_sign > 0x7f800000u;
  return is_nan ? (unsigned)kNanCode | (kNanKeepsSign ? sign : 0u) : code | sign;
}

// Two codes, the first in the low byte.
__device__ __forceinline__ unsigned f32x2_to_fp8(float first, float second) {
  return f32_to_fp8(first) | f32_to_fp8(second) << 8;
}

// Four codes of a row, but for those from column `end` on.
__device__ __forceinline__ void store_quad(unsigned char* row, int col, int end, unsigned codes) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (col + i < end) row[col + i] = (unsigned char)(codes >> (8 * i));
  } // i: codes
}

extern "C" __global__ void __launch_bounds__(kThreads)
quantize_fp8_e5m2_x_f32_nosat_c77(
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
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    unsigned codes = 0;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      codes |= f32x2_to_fp8(value[step][i], value[step][i + 1]) << (8 * i);
    } // i: pairs
    store_quad(w + row * kCols, begin + (step * kLanes + lane) * 4, end, codes);
  } // step: quads of this lane
}
