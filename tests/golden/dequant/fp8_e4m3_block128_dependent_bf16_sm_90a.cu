// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_fp8_e4m3_s128x128_f32_y_bf16_c512_dependent, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   scale    in   f32  [ceil(rows / 128), 4]  row-major, one per 128 x 128 block of w
//   y        out  bf16  [rows, 512]  row-major
//   math     y = decode(w) * scale, then rounded once to bf16, to nearest even
//   arch     sm_90a, has a cvt from e4m3: hardware cvt to f16x2
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

// Four e4m3 codes to two f16x2, by the hardware's conversion.
__device__ __forceinline__ void fp8x4_to_pairs(unsigned codes, unsigned& low, unsigned& high) {
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(low) : "h"((unsigned short)codes));
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(high) : "h"((unsigned short)(codes >> 16)));
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

// Waits until the grid ahead of this one in the stream has ended and its writes can be seen. No thread may read
// or write memory, or end, before: what this grid waits for, the grid behind it doesn't wait for again.
__device__ __forceinline__ void wait_for_earlier_grids() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Once every CTA has said so, or ended, the grid behind this one may start, and waits as this one did.
__device__ __forceinline__ void let_next_grid_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

extern "C" __global__ void __launch_bounds__(kThreads)
dequant_fp8_e4m3_s128x128_f32_y_bf16_c512_dependent(
    const unsigned char* w,
    const float* scale,
    unsigned short* y,
    long long rows) {
  wait_for_earlier_grids();
  let_next_grid_start();

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
