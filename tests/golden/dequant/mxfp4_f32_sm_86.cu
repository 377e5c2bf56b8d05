// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_mxfp4_s1x32_e8m0_y_f32_c512, emitter version 3
//   w        in   mxfp4  [rows, 512]  row-major, blocks of 32 elements in 16 bytes
//   scale    in   e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w) * scale, as the format defines it
//   arch     sm_86, no cvt from e2m1: software, exact: upper bytes of f16 from a table in two registers
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;          // columns of w and y
constexpr int kRowBytes = 256;      // bytes of one row of w
constexpr int kRun = 8;             // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 32; // columns that share one scale
constexpr int kScaleCols = 16;      // scales in one row of scales
constexpr int kThreads = 256;       // threads per CTA
constexpr int kThreadsPerRow = 64;  // threads side by side in one row
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kColumnTiles = 1;     // CTAs side by side in one row

__device__ __forceinline__ unsigned load_4_bytes(const unsigned char* at) { return *(const unsigned*)at; }

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
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

// OCP's e2m1, two codes a byte, the first in the low nibble. The magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6 are f16
// numbers whose lower byte is 0; a code's low three bits choose one of the eight upper bytes. All of these
// are below 0x80, so that eight copies of the top bit give the lower byte.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned codes = load_4_bytes(row + col / 2);
  const unsigned magnitudes = codes & 0x77777777u;
  const unsigned first = permute_bytes(0x3e3c3800u, 0x46444240u, magnitudes);      // of elements 0 to 3
  const unsigned last = permute_bytes(0x3e3c3800u, 0x46444240u, magnitudes >> 16); // of elements 4 to 7
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned signs = codes << (12 - 4 * i) & 0x80008000u;
    float pair[2];
    f16x2_to_f32(permute_bytes(first, last, 0x4c08u + 0x1111u * (unsigned)i) | signs, pair);
    value[i] = pair[0];
    value[i + 4] = pair[1];
  } // i: elements i and i + 4
}

// 2^(code - 127); code 0 is the subnormal 2^-127, 255 is NaN (OCP MX 1.0).
__device__ __forceinline__ float load_scale(const unsigned char* scale, long long at) {
  const unsigned code = scale[at];
  const unsigned bits = code == 0u ? 0x00400000u : code << 23;
  return __uint_as_float(code == 255u ? 0x7fc00000u : bits);
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
dequant_mxfp4_s1x32_e8m0_y_f32_c512(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ scale,
    float* __restrict__ y,
    long long rows) {
  const long long row = (long long)(blockIdx.x / kColumnTiles) * kRowsPerCta + threadIdx.x / kThreadsPerRow;
  const int col = (blockIdx.x % kColumnTiles * kThreadsPerRow + threadIdx.x % kThreadsPerRow) * kRun;
  if (row >= rows || col >= kCols) return;

  float value[kRun];
  decode_run(w + row * kRowBytes, col, value);
  const float run_scale = load_scale(scale, (row) * kScaleCols + col / kScaleBlockCols);
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] *= run_scale;
  store_run_f32(y + row * kCols + col, value);
}
