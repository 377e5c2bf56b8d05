// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_fp8_e4m3_s128x128_f32_y_bf16_c512, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   scale    in   f32  [ceil(rows / 128), 4]  row-major, one per 128 x 128 block of w
//   y        out  bf16  [rows, 512]  row-major
//   math     y = decode(w) * scale, then rounded once to bf16, to nearest even
//   arch     sm_86, no cvt from e4m3: software, exact: bits moved into an f16x2, one multiply for two
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                          // columns of w and y
constexpr int kRowBytes = 512;                      // bytes of one row of w
constexpr int kRun = 8;                             // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 128;                // rows that share one scale
constexpr int kScaleBlockCols = 128;                // columns that share one scale
constexpr int kScaleCols = 4;                       // scales in one row of scales
constexpr int kThreads = 128;                       // threads per CTA
constexpr int kThreadsPerRow = 32;                  // threads side by side in one row
constexpr int kColumnTiles = 1;                     // CTAs side by side in one row
constexpr int kRuns = 2;                            // runs of one thread
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kRunDistance = kThreadsPerRow * kRun; // columns between the runs of a thread

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

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

struct alignas(16) Words4 {
  unsigned word[4];
};

// A store of what isn't read soon: it leaves the L2 cache first.
__device__ __forceinline__ void stream_16_bytes(void* at, const Words4& words) {
  asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(at), "r"(words.word[0]), "r"(words.word[1]), "r"(words.word[2]), "r"(words.word[3])
               : "memory");
}

// To nearest even.
__device__ __forceinline__ unsigned f32x2_to_bf16x2(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

__device__ __forceinline__ void pack_run(const float (&value)[kRun], Words4 (&packed)[1]) {
#pragma unroll
  for (int i = 0; i < kRun / 2; ++i) packed[0].word[i] = f32x2_to_bf16x2(value[2 * i], value[2 * i + 1]);
}

__device__ __forceinline__ void store_run_bf16(unsigned short* at, const float (&value)[kRun]) {
  Words4 packed[1];
  pack_run(value, packed);
  stream_16_bytes(at, packed[0]);
}

extern "C" __global__ void __launch_bounds__(kThreads)
dequant_fp8_e4m3_s128x128_f32_y_bf16_c512(
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
    decode_run(w + row * kRowBytes, col, value[r]);
    const float run_scale = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + col / kScaleBlockCols);
#pragma unroll
    for (int i = 0; i < kRun; ++i) value[r][i] *= run_scale;
  } // r: runs of this thread
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    const int col = first_col + r * kRunDistance;
    store_run_bf16(y + row * kCols + col, value[r]);
  } // r: runs of this thread
}
