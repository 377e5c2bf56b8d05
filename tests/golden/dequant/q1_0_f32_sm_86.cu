// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_q1_0_y_f32_c512, emitter version 3
//   w        in   q1_0  [rows, 512]  row-major, blocks of 128 elements in 18 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no instruction decodes q1_0 blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;         // columns of w and y
constexpr int kRowBytes = 72;      // bytes of one row of w
constexpr int kRun = 8;            // consecutive elements decoded at a time
constexpr int kThreads = 256;      // threads per CTA
constexpr int kThreadsPerRow = 64; // threads side by side in one row
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kColumnTiles = 1;    // CTAs side by side in one row

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// q1_0: 18 bytes for 128 elements: d f16, then 16 bytes; the bit of element i is bit i % 8 of byte i / 8.
// value = d if it is set, -d if not.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned char* block = row + (col / 128) * 18ll;
  const unsigned d = __float_as_uint(f16_to_f32(*(const unsigned short*)block));
  const unsigned is_negative = ~(unsigned)block[2 + col % 128 / 8];
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] = __uint_as_float(d ^ (is_negative << (31 - i) & 0x80000000u));
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
dequant_q1_0_y_f32_c512(
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
