// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_tq2_0_y_f32_c512, emitter version 3
//   w        in   tq2_0  [rows, 512]  row-major, blocks of 256 elements in 66 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no instruction decodes tq2_0 blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;         // columns of w and y
constexpr int kRowBytes = 132;     // bytes of one row of w
constexpr int kRun = 8;            // consecutive elements decoded at a time
constexpr int kThreads = 256;      // threads per CTA
constexpr int kThreadsPerRow = 64; // threads side by side in one row
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kColumnTiles = 1;    // CTAs side by side in one row

struct alignas(8) Words2 {
  unsigned word[2];
};

// Aligned to 2 bytes only.
__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) {
  const unsigned short* halves = (const unsigned short*)at;
  return {{halves[0] | (unsigned)halves[1] << 16, halves[2] | (unsigned)halves[3] << 16}};
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// The byte less `offset`, exactly: 0x4b000000 | b reads as 2^23 + b.
__device__ __forceinline__ float offset_byte_to_f32(unsigned word, int byte, int offset) {
  const unsigned bits = permute_bytes(word, 0x4b000000u, 0x7540u | (unsigned)byte);
  return __uint_as_float(bits) - (float)(0x800000 + offset);
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// tq2_0: 66 bytes for 256 elements: 64 bytes of codes, d f16. Each half of 128 elements has 32 bytes of codes, of
// which bits 2 g and 2 g + 1 are elements 32 g to 32 g + 31. value = d * (q - 1).
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned char* block = row + (col / 256) * 66ll;
  const int element = col % 256;
  const float d = f16_to_f32(*(const unsigned short*)(block + 64));
  const Words2 packed = load_8_bytes(block + element / 128 * 32 + element % 32);
  const int shift = element % 128 / 32 * 2;
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned q = (packed.word[i / 4] >> shift) & 0x03030303u;
    value[i] = d * offset_byte_to_f32(q, i % 4, 1);
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
dequant_tq2_0_y_f32_c512(
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
