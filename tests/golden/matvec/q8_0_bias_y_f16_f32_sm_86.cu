// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_q8_0_x_f32_y_f16_bias_bf16_c512_n1, emitter version 7
//   w        in   q8_0  [rows, 512]  row-major, blocks of 32 elements in 34 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   bias     in   bf16  [rows]
//   y        out  f16  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]) + bias[r], products and sums in f32, then rounded once to f16, to nearest even
//   arch     sm_86, no instruction decodes q8_0 blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 8), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;       // columns of w, and of each row of x
constexpr int kRowBytes = 544;   // bytes of one row of w
constexpr int kRun = 8;          // consecutive elements decoded at a time
constexpr int kThreads = 128;    // threads per CTA
constexpr int kWarpThreads = 32; // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 2;  // rows of w that share one pass over x
constexpr int kXColumns = 1;     // rows of x that a launch can use

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

// q8_0: 34 bytes for 32 elements: d f16, then 32 signed bytes. value = d * q.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun], int at = 0) {
  const unsigned char* block = row + (col / 32) * 34ll;
  const float d = f16_to_f32(*(const unsigned short*)block);
  const Words2 q = load_8_bytes(block + 2 + col % 32 + at);
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned biased = q.word[i / 4] ^ 0x80808080u; // q + 128
    value[i] = d * offset_byte_to_f32(biased, i % 4, 128);
  } // i: elements
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

// Sum over the 32 lanes of a warp, in every lane.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  } // distance: lanes apart
  return value;
}

struct alignas(16) Words4 {
  unsigned word[4];
};

__device__ __forceinline__ void load_run_f32(const unsigned char* at, float (&value)[kRun]) {
#pragma unroll
  for (int v = 0; v < kRun / 4; ++v) {
    const Words4 words = ((const Words4*)at)[v];
#pragma unroll
    for (int i = 0; i < 4; ++i) value[4 * v + i] = __uint_as_float(words.word[i]);
  } // v: 16-byte vectors
}

// To nearest even; overflow gives infinity.
__device__ __forceinline__ unsigned short f32_to_f16(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ __forceinline__ void store_element(unsigned short* at, float value) { *at = f32_to_f16(value); }

__device__ __forceinline__ float bf16_to_f32(unsigned short bits) {
  return __uint_as_float((unsigned)bits << 16);
}

__device__ __forceinline__ float load_bias(const unsigned short* bias, long long row) {
  return bf16_to_f32(bias[row]);
}

extern "C" __global__ void __launch_bounds__(kThreads)
matvec_q8_0_x_f32_y_f16_bias_bf16_c512_n1(
    const unsigned char* __restrict__ w,
    const float* __restrict__ x,
    const unsigned short* __restrict__ bias,
    unsigned short* __restrict__ y,
    long long rows,
    long long n) {
  const int lane = threadIdx.x % kWarpThreads;
  const long long warp = (long long)blockIdx.x * kWarps + threadIdx.x / kWarpThreads;
  const long long first_row = warp * kRowsPerWarp;
  if (first_row >= rows) return;

  // Past the end, the last row is read again and its sum is not stored.
  long long row[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) row[r] = min_of(first_row + r, rows - 1);

  const float* x_row[kXColumns];
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) x_row[j] = x + min_of(j, n - 1) * kCols;

  float sum[kRowsPerWarp][kXColumns] = {};
#pragma unroll 2
  for (int col = lane * kRun; col < kCols; col += kWarpThreads * kRun) {
    float weight[kRowsPerWarp][kRun];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      decode_run(w + row[r] * kRowBytes, col, weight[r]);
    } // r: rows of this warp
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      float activation[kRun];
      load_run_f32((const unsigned char*)(x_row[j] + col), activation);
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
        for (int i = 0; i < kRun; ++i) sum[r][j] += weight[r][i] * activation[i];
      } // r: rows of this warp
    } // j: rows of x
  } // col: runs of this lane

#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      const float total = warp_sum(sum[r][j]);
      if (lane == 0 && j < n && first_row + r < rows) {
        store_element(y + j * rows + first_row + r, total + load_bias(bias, first_row + r));
      }
    } // j: rows of x
  } // r: rows of this warp
}
