// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matmul_fma.cu.in.
//   kernel   matmul_q4_K_x_f32_c512, emitter version 7
//   w        in   q4_K  [rows, 512]  row-major, blocks of 256 elements in 144 bytes
//   x        in   f32  [n, 512]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_61, no instruction decodes q4_K blocks: software, exact: integers times the block's scale; f32 fma
//   launch   grid (ceil(rows / 64), ceil(n / 64), 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;     // columns of w, and of each row of x
constexpr int kRowBytes = 288; // bytes of one row of w
constexpr int kRun = 8;        // consecutive elements decoded at a time
constexpr int kThreads = 256;  // threads per CTA
constexpr int kTileRows = 64;  // rows of w of a CTA
constexpr int kTileX = 64;     // rows of x of a CTA
constexpr int kTileCols = 32;  // columns in shared memory at a time
constexpr int kRunsPerRow = kTileCols / kRun;
constexpr int kSums = 4;       // rows of w, and of x, of one thread
constexpr int kPad = 4;        // spreads the columns of a tile over the banks

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

struct alignas(16) Words4 {
  unsigned word[4];
};

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

__device__ __forceinline__ void load_run_f32(const unsigned char* at, float (&value)[kRun]) {
#pragma unroll
  for (int v = 0; v < kRun / 4; ++v) {
    const Words4 words = ((const Words4*)at)[v];
#pragma unroll
    for (int i = 0; i < 4; ++i) value[4 * v + i] = __uint_as_float(words.word[i]);
  } // v: 16-byte vectors
}

extern "C" __global__ void __launch_bounds__(kThreads)
matmul_q4_K_x_f32_c512(
    const unsigned char* __restrict__ w,
    const float* __restrict__ x,
    float* __restrict__ y,
    long long rows,
    long long n) {
  __shared__ __align__(16) float w_tile[kTileCols][kTileRows + kPad];
  __shared__ __align__(16) float x_tile[kTileCols][kTileX + kPad];
  const int thread = threadIdx.x;
  const long long first_row = (long long)blockIdx.x * kTileRows;
  const long long first_x = (long long)blockIdx.y * kTileX;
  // Past the end, the last row is read again and its sums are not stored.
  const long long row = min_of(first_row + thread / kRunsPerRow, rows - 1);
  const float* x_row = x + min_of(first_x + thread / kRunsPerRow, n - 1) * kCols;
  const int row_of_sums = thread / (kTileX / kSums) * kSums;
  const int x_of_sums = thread % (kTileX / kSums) * kSums;

  float sum[kSums][kSums] = {};
  for (int tile_col = 0; tile_col < kCols; tile_col += kTileCols) {
    const int col = tile_col + thread % kRunsPerRow * kRun;
    float value[kRun] = {};
    float activation[kRun] = {};
    if (col < kCols) {
      decode_run(w + row * kRowBytes, col, value);
      load_run_f32((const unsigned char*)(x_row + col), activation);
    }
    __syncthreads(); // the last tile has been read
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      w_tile[col - tile_col + i][thread / kRunsPerRow] = value[i];
      x_tile[col - tile_col + i][thread / kRunsPerRow] = activation[i];
    } // i: elements
    __syncthreads();
#pragma unroll 8
    for (int k = 0; k < kTileCols; ++k) {
      const Words4 weights = *(const Words4*)&w_tile[k][row_of_sums];
      const Words4 activations = *(const Words4*)&x_tile[k][x_of_sums];
#pragma unroll
      for (int r = 0; r < kSums; ++r) {
#pragma unroll
        for (int j = 0; j < kSums; ++j) {
          sum[r][j] += __uint_as_float(weights.word[r]) * __uint_as_float(activations.word[j]);
        } // j: rows of x
      } // r: rows of w
    } // k: columns of the tile
  } // tile_col: tiles

#pragma unroll
  for (int r = 0; r < kSums; ++r) {
#pragma unroll
    for (int j = 0; j < kSums; ++j) {
      const long long y_row = first_row + row_of_sums + r;
      const long long y_x = first_x + x_of_sums + j;
      if (y_row < rows && y_x < n) store_element(y + y_x * rows + y_row, sum[r][j]);
    } // j: rows of x
  } // r: rows of w
}
