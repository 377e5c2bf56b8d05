// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matmul_fma.cu.in.
//   kernel   matmul_fp8_e4m3_afp8_x_fp8_e4m3_g5_c77, emitter version 7
//   w        in   fp8_e4m3  [rows, 77]  row-major
//   x        in   fp8_e4m3  [n, 77]  row-major
//   x_scale  in   f32  [n, 16]  row-major, one per group of 5 columns
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]) * x_scale, products and sums in f32
//   arch     sm_90a, has a cvt from e4m3: hardware cvt to f16x2; f32 fma
//   launch   grid (ceil(rows / 64), ceil(n / 64), 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 77;      // columns of w, and of each row of x
constexpr int kRowBytes = 77;  // bytes of one row of w
constexpr int kRun = 8;        // consecutive elements decoded at a time
constexpr int kXGroupCols = 5; // columns of x that share one scale
constexpr int kXGroups = 16;   // scales in one row of x_scale
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

// Not aligned.
__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) {
  Words2 result = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) result.word[i / 4] |= (unsigned)at[i] << (8 * (i % 4));
  return result;
}

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

__device__ __forceinline__ float decode_element(const unsigned char* row, int col) {
  float value[4];
  fp8x4_to_f32(row[col], value);
  return value[0];
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

struct alignas(16) Words4 {
  unsigned word[4];
};

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

// One e4m3 code, by the hardware's conversion.
__device__ __forceinline__ float e4m3_to_f32(unsigned code) {
  unsigned pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"((unsigned short)code));
  return f16_to_f32((unsigned short)pair);
}

extern "C" __global__ void __launch_bounds__(kThreads)
matmul_fp8_e4m3_afp8_x_fp8_e4m3_g5_c77(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ x,
    const float* __restrict__ x_scale,
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
  const unsigned char* x_row = x + min_of(first_x + thread / kRunsPerRow, n - 1) * kCols;
  const float* x_scale_row = x_scale + min_of(first_x + thread / kRunsPerRow, n - 1) * kXGroups;
  const int row_of_sums = thread / (kTileX / kSums) * kSums;
  const int x_of_sums = thread % (kTileX / kSums) * kSums;

  float sum[kSums][kSums] = {};
  for (int tile_col = 0; tile_col < kCols; tile_col += kTileCols) {
    const int col = tile_col + thread % kRunsPerRow * kRun;
    float value[kRun] = {};
    float activation[kRun] = {};
    if (col < kCols) {
      if (col + kRun <= kCols) {
        decode_run(w + row * kRowBytes, col, value);
      } else {
#pragma unroll
        for (int i = 0; i < kRun; ++i) value[i] = col + i < kCols ? decode_element(w + row * kRowBytes, col + i) : 0.0f;
      }
      #pragma unroll
      for (int i = 0; i < kRun; ++i) {
        if (col + i < kCols) {
          activation[i] = e4m3_to_f32(x_row[col + i]) * x_scale_row[(col + i) / kXGroupCols];
        }
      } // i: elements
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
