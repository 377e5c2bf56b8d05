// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_i32_y_f32_c512, emitter version 3
//   w        in   i32  [rows, 512]  row-major
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, a number type of the target: native, rounded once to f32, to nearest even
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;         // columns of w and y
constexpr int kRowBytes = 2048;    // bytes of one row of w
constexpr int kRun = 8;            // consecutive elements decoded at a time
constexpr int kThreads = 256;      // threads per CTA
constexpr int kThreadsPerRow = 64; // threads side by side in one row
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kColumnTiles = 1;    // CTAs side by side in one row

struct alignas(8) Words2 {
  unsigned word[2];
};

__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) { return *(const Words2*)at; }

__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
#pragma unroll
  for (int pair = 0; pair < kRun / 2; ++pair) {
    const Words2 numbers = load_8_bytes(row + 4ll * col + 8 * pair);
#pragma unroll
    for (int i = 0; i < 2; ++i) value[2 * pair + i] = (float)(int)numbers.word[i];
  } // pair: two elements each
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
dequant_i32_y_f32_c512(
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
