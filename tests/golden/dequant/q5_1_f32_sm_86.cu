// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_q5_1_y_f32_c512, emitter version 3
//   w        in   q5_1  [rows, 512]  row-major, blocks of 32 elements in 24 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no instruction decodes q5_1 blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;         // columns of w and y
constexpr int kRowBytes = 384;     // bytes of one row of w
constexpr int kRun = 8;            // consecutive elements decoded at a time
constexpr int kThreads = 256;      // threads per CTA
constexpr int kThreadsPerRow = 64; // threads side by side in one row
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kColumnTiles = 1;    // CTAs side by side in one row

struct alignas(8) Words2 {
  unsigned word[2];
};

__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) { return *(const Words2*)at; }

__device__ __forceinline__ unsigned load_4_bytes(const unsigned char* at) { return *(const unsigned*)at; }

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// Exact: 0x4b000000 | b reads as 2^23 + b.
__device__ __forceinline__ float byte_to_f32(unsigned word, int byte) {
  return __uint_as_float(permute_bytes(word, 0x4b000000u, 0x7540u | (unsigned)byte)) - 0x1p+23f;
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Bits 0 to 3, each as bit 4 of a byte of its own. The four terms of the product share no bit.
__device__ __forceinline__ unsigned spread_to_bit_4(unsigned bits) { return (bits & 15u) * 0x02040810u & 0x10101010u; }

// q5_1: 24 bytes for 32 elements: d f16, m f16, 4 bytes of fifth bits, that of element i at bit i, then the low
// 4 bits as in q4_1. value = d * q + m.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned char* block = row + (col / 32) * 24ll;
  const unsigned scales = load_4_bytes(block);
  const float d = f16_to_f32((unsigned short)scales);
  const float m = f16_to_f32((unsigned short)(scales >> 16));
  const int element = col % 32;
  const unsigned fifth = block[4 + element / 8];
  const Words2 packed = load_8_bytes(block + 8 + element % 16);
  const int shift = element < 16 ? 0 : 4;
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned low = (packed.word[i / 4] >> shift) & 0x0f0f0f0fu;
    value[i] = d * byte_to_f32(low | spread_to_bit_4(fifth >> (i / 4 * 4)), i % 4) + m;
  } // i: elements
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
dequant_q5_1_y_f32_c512(
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
