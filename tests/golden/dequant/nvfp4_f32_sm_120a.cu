// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_nvfp4_s1x16_e4m3_y_f32_c512, emitter version 3
//   w        in   nvfp4  [rows, 512]  row-major, blocks of 16 elements in 8 bytes
//   scale    in   e4m3  [rows, 32]  row-major, one per 1 x 16 block of w
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w) * scale, as the format defines it
//   arch     sm_120a, has a cvt from e2m1: hardware cvt to f16x2, and of the block's scale
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;          // columns of w and y
constexpr int kRowBytes = 256;      // bytes of one row of w
constexpr int kRun = 8;             // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 16; // columns that share one scale
constexpr int kScaleCols = 32;      // scales in one row of scales
constexpr int kThreads = 256;       // threads per CTA
constexpr int kThreadsPerRow = 64;  // threads side by side in one row
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kColumnTiles = 1;     // CTAs side by side in one row

__device__ __forceinline__ unsigned load_4_bytes(const unsigned char* at) { return *(const unsigned*)at; }

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ void f16x2_to_f32(unsigned pair, float* value) {
  value[0] = f16_to_f32((unsigned short)pair);
  value[1] = f16_to_f32((unsigned short)(pair >> 16));
}

// OCP's e2m1, two codes a byte, the first in the low nibble, by the hardware's conversion.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned codes = load_4_bytes(row + col / 2);
  unsigned pair[4];
  asm("{\n"
      ".reg .b8 byte0, byte1, byte2, byte3;\n"
      "mov.b32 {byte0, byte1, byte2, byte3}, %4;\n"
      "cvt.rn.f16x2.e2m1x2 %0, byte0;\n"
      "cvt.rn.f16x2.e2m1x2 %1, byte1;\n"
      "cvt.rn.f16x2.e2m1x2 %2, byte2;\n"
      "cvt.rn.f16x2.e2m1x2 %3, byte3;\n"
      "}"
      : "=r"(pair[0]), "=r"(pair[1]), "=r"(pair[2]), "=r"(pair[3])
      : "r"(codes));
#pragma unroll
  for (int i = 0; i < 4; ++i) f16x2_to_f32(pair[i], value + 2 * i);
}

// One e4m3 code, by the hardware's conversion.
__device__ __forceinline__ float e4m3_to_f32(unsigned code) {
  unsigned pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"((unsigned short)code));
  return f16_to_f32((unsigned short)pair);
}

// A block's e4m3 code times the tensor's scale, which is the plane's first f32; the codes begin at byte 16.
__device__ __forceinline__ float load_scale(const unsigned char* scale, long long at) {
  return e4m3_to_f32(scale[16 + at]) * *(const float*)scale;
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
dequant_nvfp4_s1x16_e4m3_y_f32_c512(
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
