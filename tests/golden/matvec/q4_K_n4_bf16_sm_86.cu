// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_q4_K_x_bf16_c512_n4, emitter version 7
//   w        in   q4_K  [rows, 512]  row-major, blocks of 256 elements in 144 bytes
//   x        in   bf16  [n, 512]  row-major, 1 <= n <= 4
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, no instruction decodes q4_K blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 4), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;       // columns of w, and of each row of x
constexpr int kRowBytes = 288;   // bytes of one row of w
constexpr int kRun = 8;          // consecutive elements decoded at a time
constexpr int kThreads = 128;    // threads per CTA
constexpr int kWarpThreads = 32; // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 1;  // rows of w that share one pass over x
constexpr int kXColumns = 4;     // rows of x that a launch can use

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

// Exact: 0x4b000000 | b reads as 2^23 + b.
__device__ __forceinline__ float byte_to_f32(unsigned word, int byte) {
  return __uint_as_float(permute_bytes(word, 0x4b000000u, 0x7540u | (unsigned)byte)) - 0x1p+23f;
}

// A number below 2^23, less `offset`, exactly: 0x4b000000 | b reads as 2^23 + b.
__device__ __forceinline__ float small_to_f32(unsigned number, int offset) {
  return __uint_as_float(0x4b000000u | number) - (float)(0x800000 + offset);
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Scale and minimum of sub-block 0 to 7 (32 elements each) of a q4_K or q5_K block, which begins with
// d f16, dmin f16 and 12 bytes that pack eight 6-bit scales and eight 6-bit minima: sub-blocks 0 to 3 in
// the low 6 bits of bytes 0 to 3 and 4 to 7; of sub-blocks 4 to 7 the low 4 bits in bytes 8 to 11 (scale
// low nibble, minimum high nibble) and the top 2 bits above the others'. Read as words, without a branch.
struct ScaleMin {
  float scale;
  float minimum;
};

__device__ __forceinline__ ScaleMin load_scale_min(const unsigned char* block, int sub_block) {
  const Words2 begin = load_8_bytes(block); // d, dmin, bytes 0 to 3
  const Words2 end = load_8_bytes(block + 8); // bytes 4 to 11
  const float d = f16_to_f32((unsigned short)begin.word[0]);
  const float dmin = f16_to_f32((unsigned short)(begin.word[0] >> 16));
  const int byte = 8 * (sub_block % 4);
  const unsigned first = begin.word[1] >> byte;
  const unsigned second = end.word[0] >> byte;
  const unsigned third = end.word[1] >> byte;
  const bool in_low_bits = sub_block < 4;
  const unsigned high_scale = (third & 15u) | (first >> 2 & 48u);
  const unsigned high_minimum = (third >> 4 & 15u) | (second >> 2 & 48u);
  const unsigned scale = in_low_bits ? first & 63u : high_scale;
  const unsigned minimum = in_low_bits ? second & 63u : high_minimum;
  return {d * small_to_f32(scale, 0), dmin * small_to_f32(minimum, 0)};
}

// q4_K: 144 bytes for 256 elements: 16 bytes of scales (see ScaleMin), then 4 chunks of 32 bytes; a chunk's
// low nibbles are its first 32 elements, the high nibbles the next 32. value = scale * q - minimum.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun], int at = 0) {
  const unsigned char* block = row + (col / 256) * 144ll;
  const int sub_block = col % 256 / 32;
  const ScaleMin s = load_scale_min(block, sub_block);
  const Words2 packed = load_8_bytes(block + 16 + sub_block / 2 * 32 + col % 32 + at);
  const int shift = sub_block % 2 * 4;
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned q = (packed.word[i / 4] >> shift) & 0x0f0f0f0fu;
    value[i] = s.scale * byte_to_f32(q, i % 4) - s.minimum;
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

__device__ __forceinline__ void load_run_bf16(const unsigned char* at, float (&value)[kRun]) {
  const Words4 words = *(const Words4*)at;
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned word = words.word[i / 2];
    value[i] = __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xffff0000u);
  } // i: elements
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads)
matvec_q4_K_x_bf16_c512_n4(
    const unsigned char* __restrict__ w,
    const unsigned short* __restrict__ x,
    float* __restrict__ y,
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

  const unsigned short* x_row[kXColumns];
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) x_row[j] = x + min_of(j, n - 1) * kCols;

  float sum[kRowsPerWarp][kXColumns] = {};
#pragma unroll 1
  for (int col = lane * kRun; col < kCols; col += kWarpThreads * kRun) {
    float weight[kRowsPerWarp][kRun];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      decode_run(w + row[r] * kRowBytes, col, weight[r]);
    } // r: rows of this warp
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      float activation[kRun];
      load_run_bf16((const unsigned char*)(x_row[j] + col), activation);
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
        store_element(y + j * rows + first_row + r, total);
      }
    } // j: rows of x
  } // r: rows of this warp
}
