// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_fp8_e4m3_s128x128_f32_y_bf16_c512_dependent, emitter version 3
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   scale    in   f32  [ceil(rows / 128), 4]  row-major, one per 128 x 128 block of w
//   y        out  bf16  [rows, 512]  row-major
//   math     y = decode(w) * scale, then rounded once to bf16, to nearest even
//   arch     sm_90a, has a cvt from e4m3: hardware cvt to f16x2
//   launch   grid (ceil(rows / 2) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;           // columns of w and y
constexpr int kRowBytes = 512;       // bytes of one row of w
constexpr int kRun = 8;              // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 128; // rows that share one scale
constexpr int kScaleBlockCols = 128; // columns that share one scale
constexpr int kScaleCols = 4;        // scales in one row of scales
constexpr int kThreads = 128;        // threads per CTA
constexpr int kThreadsPerRow = 64;   // threads side by side in one row
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kColumnTiles = 1;      // CTAs side by side in one row

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
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void store_run_bf16(unsigned short* at, const float (&value)[kRun]) {
  Words4 words = {};
#pragma unroll
  for (int i = 0; i < kRun; ++i) words.word[i / 2] |= (unsigned)f32_to_bf16(value[i]) << (16 * (i % 2));
  stream_16_bytes(at, words);
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

  const long long row = (long long)(blockIdx.x / kColumnTiles) * kRowsPerCta + threadIdx.x / kThreadsPerRow;
  const int col = (blockIdx.x % kColumnTiles * kThreadsPerRow + threadIdx.x % kThreadsPerRow) * kRun;
  if (row >= rows || col >= kCols) return;

  float value[kRun];
  decode_run(w + row * kRowBytes, col, value);
  const float run_scale = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + col / kScaleBlockCols);
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] *= run_scale;
  store_run_bf16(y + row * kCols + col, value);
}
