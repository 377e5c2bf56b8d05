// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/quantize.cu.in.
//   kernel   quantize_mxfp8_e4m3_s1x32_e8m0_x_f32_c512, emitter version 7
//   x        in   f32  [rows, 512]  row-major
//   w        out  mxfp8_e4m3  [rows, 512]  row-major
//   scale    out  e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   math     w = the nearest code to x / scale, ties to even, saturating; scale = 2^(floor(log2 of the largest |x|) - 8), NaN if x has one
//   arch     sm_86, no cvt to fp8_e4m3: software, exact: rounded by one f32 addition
//   launch   grid (ceil(rows / 1) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                // columns of x and w
constexpr int kRowBytes = 512;            // bytes of one row of w
constexpr int kGroupCols = 32;            // columns that share one scale
constexpr int kGroups = 16;               // groups in one row
constexpr int kThreads = 128;             // threads per CTA
constexpr int kLanes = 8;                 // threads of one group
constexpr int kSteps = 1;                 // quads of columns of one thread
constexpr int kGroupsPerRow = 16;         // groups of one row in a CTA
constexpr int kRowsPerCta = 1;
constexpr int kColumnTiles = 1;           // CTAs side by side in one row
constexpr int kMantissaBits = 3;          // of a code
constexpr float kClamp = 448.00f;         // the largest number
constexpr float kSmallestNormal = 0x1p-6f;
constexpr float kAnchor = 0x1.00007p+20f; // 2^20 (1 + 56 2^-23)
constexpr unsigned kNanCode = 0x7fu;
constexpr int kLargestExponent = 8;       // of the power of two in the largest number

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

// The larger one; a NaN loses.
__device__ __forceinline__ float max_of(float a, float b) {
  float larger;
  asm("max.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
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

// A NaN becomes the clamp, without a sign.
__device__ __forceinline__ float limited(float value) { return max_of(smaller_of(value, kClamp), -kClamp); }
__device__ __forceinline__ float magnitude_of(float limit) { return absolute(limit); }

__device__ __forceinline__ unsigned with_nan(unsigned code, float value) { return value != value ? kNanCode : code; }

__device__ __forceinline__ unsigned signs_for(unsigned signs, unsigned) { return signs; }

// Codes without signs, one in a byte, and their signs, bit 7 of each byte.
__device__ __forceinline__ unsigned pack_codes(unsigned codes, unsigned signs) { return codes | signs; }

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

// Four codes of a row, unless they lie past column `end`.
__device__ __forceinline__ void store_quad(unsigned char* row, int col, int end, unsigned codes) {
  if (col < end) *(unsigned*)(row + col) = codes;
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
quantize_mxfp8_e4m3_s1x32_e8m0_x_f32_c512(
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
