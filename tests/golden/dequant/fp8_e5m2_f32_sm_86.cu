// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_fp8_e5m2_y_f32_c512, emitter version 3
//   w        in   fp8_e5m2  [rows, 512]  row-major
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no cvt from e5m2: software, exact: the code is the upper byte of an f16
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;         // columns of w and y
constexpr int kRowBytes = 512;     // bytes of one row of w
constexpr int kRun = 8;            // consecutive elements decoded at a time
constexpr int kThreads = 256;      // threads per CTA
constexpr int kThreadsPerRow = 64; // threads side by side in one row
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kColumnTiles = 1;    // CTAs side by side in one row

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

__device__ __forceinline__ void store_run_f32(float* at, const float (&value)[kRun]) {
#pragma unroll
  for (int v = 0; v < kRun / 4; ++v) {
    stream_16_bytes(at + 4 * v, {{__float_as_uint(value[4 * v]), __float_as_uint(value[4 * v + 1]),
                                  __float_as_uint(value[4 * v + 2]), __float_as_uint(value[4 * v + 3])}});
  } // v: 16-byte vectors
}

extern "C" __global__ void __launch_bounds__(kThreads)
dequant_fp8_e5m2_y_f32_c512(
    const unsigned char* __restrict__ w,
    float* __restrict__ y,
    long long rows) {
  const long long row = (long long)(blockIdx.x / kColumnTiles) * kRowsPerCta + threadIdx.x / kThreadsPerRow;
  const int col = (blockIdx.x % kColumnTiles * kThreadsPerRow + threadIdx.x % kThreadsPerRow) * kRun;
  if (row >= rows || col >= kCols) return;

  float value[kRun];
  decode_run(w + row * kRowBytes, col, value);
  store_run_f32(y + row * kCols + col, value);
}
