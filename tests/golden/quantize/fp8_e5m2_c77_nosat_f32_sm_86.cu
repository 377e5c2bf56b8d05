// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/quantize.cu.in.
//   kernel   quantize_fp8_e5m2_x_f32_nosat_c77, emitter version 7
//   x        in   f32  [rows, 77]  row-major
//   w        out  fp8_e5m2  [rows, 77]  row-major
//   math     w = the nearest code to x, ties to even, overflow to infinity or NaN
//   arch     sm_86, no cvt to fp8_e5m2: software, exact: rounded by one f32 addition
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 77;                  // columns of x and w
constexpr int kRowBytes = 77;              // bytes of one row of w
constexpr int kGroupCols = 77;             // columns that a few lanes share
constexpr int kGroups = 1;                 // groups in one row
constexpr int kThreads = 128;              // threads per CTA
constexpr int kLanes = 32;                 // threads of one group
constexpr int kSteps = 1;                  // quads of columns of one thread
constexpr int kGroupsPerRow = 1;           // groups of one row in a CTA
constexpr int kRowsPerCta = 4;
constexpr int kColumnTiles = 1;            // CTAs side by side in one row
constexpr int kMantissaBits = 2;           // of a code
constexpr float kClamp = 65536.00f;        // what follows the largest number
constexpr float kSmallestNormal = 0x1p-14f;
constexpr float kAnchor = 0x1.000078p+21f; // 2^21 (1 + 60 2^-23)
constexpr unsigned kNanCode = 0x7fu;

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

// Four columns of a row as f32, zeros from column `end` on.
__device__ __forceinline__ void load_quad(const float* row, int col, int end, float (&value)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) value[i] = col + i < end ? row[col + i] : 0.0f;
}

// The smaller one; a NaN loses.
__device__ __forceinline__ float smaller_of(float a, float b) {
  float smaller;
  asm("min.f32 %0, %1, %2;" : "=f"(smaller) : "f"(a), "f"(b));
  return smaller;
}

// An operand's modifier, in the instruction that uses it.
__device__ __forceinline__ float absolute(float value) {
  float magnitude;
  asm("abs.f32 %0, %1;" : "=f"(magnitude) : "f"(value));
  return magnitude;
}

// A NaN becomes the clamp, with its sign.
__device__ __forceinline__ float limited(float value) { return value; }
__device__ __forceinline__ float magnitude_of(float limit) { return smaller_of(absolute(limit), kClamp); }

__device__ __forceinline__ unsigned with_nan(unsigned code, float value) { return value != value ? kNanCode : code; }

__device__ __forceinline__ unsigned signs_for(unsigned signs, unsigned) { return signs; }

// Codes without signs, one in a byte, and their signs, bit 7 of each byte.
__device__ __forceinline__ unsigned pack_codes(unsigned codes, unsigned signs) { return codes | signs; }

// The larger one; a NaN loses.
__device__ __forceinline__ float max_of(float a, float b) {
  float larger;
  asm("max.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// The nearest codes to four values, ties to even, the first in the low bits. `power` is the power of two in a
// magnitude, but no less than that of the subnormals, and kAnchor moves it to where f32's last place is one
// step of a code: the addition rounds to steps and counts them. kAnchor's own last bits, an even number, are
// what the low byte of `steps` + exponent lacks to be the code. The product is exact, contracted or not.
__device__ __forceinline__ unsigned encode_quad(const float (&value)[4]) {
  unsigned limit[4];
  unsigned code[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float limit_value = limited(value[i]);
    const float magnitude = magnitude_of(limit_value);
    const unsigned exponent = __float_as_uint(max_of(magnitude, kSmallestNormal)) & 0x7f800000u;
    const unsigned steps = __float_as_uint(__uint_as_float(exponent) * kAnchor + magnitude);
    code[i] = with_nan(steps + (exponent >> (23 - kMantissaBits)), value[i]);
    limit[i] = __float_as_uint(limit_value);
  } // i: values
  const unsigned codes = permute_bytes(permute_bytes(code[0], code[1], 0x0040u), permute_bytes(code[2], code[3], 0x0040u), 0x5410u);
  const unsigned tops = permute_bytes(permute_bytes(limit[0], limit[1], 0x0073u), permute_bytes(limit[2], limit[3], 0x0073u), 0x5410u);
  return pack_codes(codes, signs_for(tops & 0x80808080u, codes));
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
    store_quad(w + row * kRowBytes, begin + (step * kLanes + lane) * 4, end, encode_quad(value[step]));
  } // step: quads of this lane
}
