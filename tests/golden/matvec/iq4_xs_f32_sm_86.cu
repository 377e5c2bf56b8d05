// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_iq4_xs_x_f32_c512_n1, emitter version 7
//   w        in   iq4_xs  [rows, 512]  row-major, blocks of 256 elements in 136 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, no instruction decodes iq4_xs blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 4), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;       // columns of w, and of each row of x
constexpr int kRowBytes = 272;   // bytes of one row of w
constexpr int kRun = 8;          // consecutive elements decoded at a time
constexpr int kThreads = 128;    // threads per CTA
constexpr int kWarpThreads = 32; // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 1;  // rows of w that share one pass over x
constexpr int kXColumns = 1;     // rows of x that a launch can use

struct alignas(8) Words2 {
  unsigned word[2];
};

__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) { return *(const Words2*)at; }

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// A number below 2^23, less `offset`, exactly: 0x4b000000 | b reads as 2^23 + b.
__device__ __forceinline__ float small_to_f32(unsigned number, int offset) {
  return __uint_as_float(0x4b000000u | number) - (float)(0x800000 + offset);
}

// The nibbles at bit `shift`, 0 or 4, of eight bytes as one word: that of byte e is nibble 2 (e % 4) + e / 4.
__device__ __forceinline__ unsigned code_word(const Words2& bytes, int shift) {
  return (bytes.word[0] >> shift & 0x0f0f0f0fu) | (bytes.word[1] << (4 - shift) & 0xf0f0f0f0u);
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// The eight bytes of a table of 16 that the nibbles of `codes` select, in their order. The table is in four words.
__device__ __forceinline__ Words2 look_up_16(unsigned codes, unsigned first, unsigned second, unsigned third,
                                             unsigned fourth) {
  const unsigned in_half = codes & 0x77777777u; // of the table
  const unsigned half = (codes >> 1 & 0x44444444u) | 0x32103210u; // its byte of the lower half, or of the upper
  Words2 result;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const unsigned lower = permute_bytes(first, second, in_half >> (16 * i));
    const unsigned upper = permute_bytes(third, fourth, in_half >> (16 * i));
    result.word[i] = permute_bytes(lower, upper, half >> (16 * i));
  } // i: four codes each
  return result;
}

// The levels of iq4_nl and iq4_xs plus 128. Levels: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53,
// 69, 89, 113 (kvalues_iq4nl of ggml, MIT licence).
__device__ __forceinline__ Words2 iq4_levels(unsigned codes) {
  return look_up_16(codes, 0x3f2d1801u, 0x766a5d4fu, 0xa6998d81u, 0xf1d9c5b5u);
}

// The byte less `offset`, exactly: 0x4b000000 | b reads as 2^23 + b.
__device__ __forceinline__ float offset_byte_to_f32(unsigned word, int byte, int offset) {
  const unsigned bits = permute_bytes(word, 0x4b000000u, 0x7540u | (unsigned)byte);
  return __uint_as_float(bits) - (float)(0x800000 + offset);
}

// Element e of what look_up_16 made of a code_word, less `offset`.
__device__ __forceinline__ float table_to_f32(const Words2& bytes, int e, int offset) {
  const int nibble = 2 * (e % 4) + e / 4;
  return offset_byte_to_f32(bytes.word[nibble / 4], nibble % 4, offset);
}

// iq4_xs: 136 bytes for 256 elements: d f16, 2 bytes and 4 bytes with the upper 2 and the lower 4 bits of eight
// scales, one per 32 elements, each a number plus 32; then 128 bytes of codes, for each 32 elements as in iq4_nl.
// value = (d * scale) * level.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun], int at = 0) {
  const unsigned char* block = row + (col / 256) * 136ll;
  const Words2 begin = load_8_bytes(block); // d and the upper bits; the lower bits
  const int sub_block = col % 256 / 32;
  const unsigned low_scale = begin.word[1] >> (4 * sub_block) & 15u;
  const unsigned high_scale = begin.word[0] >> (16 + 2 * sub_block) & 3u;
  const float scale = f16_to_f32((unsigned short)begin.word[0]) * small_to_f32(low_scale | high_scale << 4, 32);
  const int element = col % 32 + at;
  const Words2 packed = load_8_bytes(block + 8 + sub_block * 16 + element % 16);
  const Words2 levels = iq4_levels(code_word(packed, element < 16 ? 0 : 4));
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] = scale * table_to_f32(levels, i, 128);
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

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads)
matvec_iq4_xs_x_f32_c512_n1(
    const unsigned char* __restrict__ w,
    const float* __restrict__ x,
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
        store_element(y + j * rows + first_row + r, total);
      }
    } // j: rows of x
  } // r: rows of this warp
}
