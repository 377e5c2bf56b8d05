// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matmul_fma.cu.in.
//   kernel   matmul_mxfp4_s1x32_e8m0_x_f32_c512, emitter version 7
//   w        in   mxfp4  [rows, 512]  row-major, blocks of 32 elements in 16 bytes
//   scale    in   e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   x        in   f32  [n, 512]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_61, no cvt from e2m1: software, exact: upper bytes of f16 from a table in two registers; f32 fma
//   launch   grid (ceil(rows / 64), ceil(n / 64), 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;          // columns of w, and of each row of x
constexpr int kRowBytes = 256;      // bytes of one row of w
constexpr int kRun = 8;             // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 32; // columns that share one scale
constexpr int kScaleCols = 16;      // scales in one row of scales
constexpr int kThreads = 256;       // threads per CTA
constexpr int kTileRows = 64;       // rows of w of a CTA
constexpr int kTileX = 64;          // rows of x of a CTA
constexpr int kTileCols = 32;       // columns in shared memory at a time
constexpr int kRunsPerRow = kTileCols / kRun;
constexpr int kSums = 4;            // rows of w, and of x, of one thread
constexpr int kPad = 4;             // spreads the columns of a tile over the banks

__device__ __forceinline__ unsigned load_4_bytes(const unsigned char* at) { return *(const unsigned*)at; }

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
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

// OCP's e2m1, two codes a byte, the first in the low nibble. The magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6 are f16
// numbers whose lower byte is 0; a code's low three bits choose one of the eight upper bytes. All of these
// are below 0x80, so that eight copies of the top bit give the lower byte.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned codes = load_4_bytes(row + col / 2);
  const unsigned magnitudes = codes & 0x77777777u;
  const unsigned first = permute_bytes(0x3e3c3800u, 0x46444240u, magnitudes);      // of elements 0 to 3
  const unsigned last = permute_bytes(0x3e3c3800u, 0x46444240u, magnitudes >> 16); // of elements 4 to 7
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned signs = codes << (12 - 4 * i) & 0x80008000u;
    float pair[2];
    f16x2_to_f32(permute_bytes(first, last, 0x4c08u + 0x1111u * (unsigned)i) | signs, pair);
    value[i] = pair[0];
    value[i + 4] = pair[1];
  } // i: elements i and i + 4
}

// 2^(code - 127); code 0 is the subnormal 2^-127, 255 is NaN (OCP MX 1.0).
__device__ __forceinline__ float load_scale(const unsigned char* scale, long long at) {
  const unsigned code = scale[at];
  const unsigned bits = code == 0u ? 0x00400000u : code << 23;
  return __uint_as_float(code == 255u ? 0x7fc00000u : bits);
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
matmul_mxfp4_s1x32_e8m0_x_f32_c512(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ scale,
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
      const float run_scale = load_scale(scale, (row) * kScaleCols + col / kScaleBlockCols);
#pragma unroll
      for (int i = 0; i < kRun; ++i) value[i] *= run_scale;
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
