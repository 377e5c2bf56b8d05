// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matmul_fma.cu.in.
//   kernel   matmul_fp8_e4m3_s128x128_f32_finite_x_bf16_y_bf16_bias_f16_c512, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major
//   scale    in   f32  [ceil(rows / 128), 4]  row-major, one per 128 x 128 block of w
//   x        in   bf16  [n, 512]  row-major
//   bias     in   f16  [rows]
//   y        out  bf16  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w) * scale[r, c] * f32(x[j, c]) + bias[r], products and sums in f32, then rounded once to bf16, to nearest even
//   arch     sm_61, no cvt from e4m3 and slow f16 arithmetic: software, exact: bits moved into an f32, one multiply; no NaN codes (scanned); f32 fma
//   launch   grid (ceil(rows / 64), ceil(n / 64), 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;           // columns of w, and of each row of x
constexpr int kRowBytes = 512;       // bytes of one row of w
constexpr int kRun = 8;              // consecutive elements decoded at a time
constexpr int kScaleBlockRows = 128; // rows that share one scale
constexpr int kScaleBlockCols = 128; // columns that share one scale
constexpr int kScaleCols = 4;        // scales in one row of scales
constexpr int kThreads = 256;        // threads per CTA
constexpr int kTileRows = 64;        // rows of w of a CTA
constexpr int kTileX = 64;           // rows of x of a CTA
constexpr int kTileCols = 32;        // columns in shared memory at a time
constexpr int kRunsPerRow = kTileCols / kRun;
constexpr int kSums = 4;             // rows of w, and of x, of one thread
constexpr int kPad = 4;              // spreads the columns of a tile over the banks

struct alignas(8) Words2 {
  unsigned word[2];
};

__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) { return *(const Words2*)at; }

// Four e4m3 codes, none a NaN, exactly. The 7 magnitude bits, moved to bit 20, read as an
// f32 that is 2^-120 too small, subnormals too, so compile with -ftz=false.
__device__ __forceinline__ void fp8x4_to_f32(unsigned codes, float* value) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const unsigned scaled = (unsigned)((int)(codes << (24 - 8 * i)) >> 4) & 0x87f00000u;
    value[i] = __uint_as_float(scaled) * 0x1p+120f;
  } // i: codes
}

__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const Words2 codes = load_8_bytes(row + col);
  fp8x4_to_f32(codes.word[0], value);
  fp8x4_to_f32(codes.word[1], value + 4);
}

__device__ __forceinline__ float load_scale(const float* scale, long long at) { return scale[at]; }

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

struct alignas(16) Words4 {
  unsigned word[4];
};

// To nearest even, by integers; a NaN stays one.
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  const unsigned bits = __float_as_uint(value);
  const unsigned rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return (unsigned short)((is_nan ? bits | 0x00400000u : rounded) >> 16);
}

__device__ __forceinline__ void store_element(unsigned short* at, float value) { *at = f32_to_bf16(value); }

__device__ __forceinline__ void load_run_bf16(const unsigned char* at, float (&value)[kRun]) {
  const Words4 words = *(const Words4*)at;
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned word = words.word[i / 2];
    value[i] = __uint_as_float(i % 2 == 0 ? word << 16 : word & 0xffff0000u);
  } // i: elements
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ float load_bias(const unsigned short* bias, long long row) {
  return f16_to_f32(bias[row]);
}

extern "C" __global__ void __launch_bounds__(kThreads)
matmul_fp8_e4m3_s128x128_f32_finite_x_bf16_y_bf16_bias_f16_c512(
    const unsigned char* __restrict__ w,
    const float* __restrict__ scale,
    const unsigned short* __restrict__ x,
    const unsigned short* __restrict__ bias,
    unsigned short* __restrict__ y,
    long long rows,
    long long n) {
  __shared__ __align__(16) float w_tile[kTileCols][kTileRows + kPad];
  __shared__ __align__(16) float x_tile[kTileCols][kTileX + kPad];
  const int thread = threadIdx.x;
  const long long first_row = (long long)blockIdx.x * kTileRows;
  const long long first_x = (long long)blockIdx.y * kTileX;
  // Past the end, the last row is read again and its sums are not stored.
  const long long row = min_of(first_row + thread / kRunsPerRow, rows - 1);
  const unsigned short* x_row = x + min_of(first_x + thread / kRunsPerRow, n - 1) * kCols;
  const int row_of_sums = thread / (kTileX / kSums) * kSums;
  const int x_of_sums = thread % (kTileX / kSums) * kSums;

  float sum[kSums][kSums] = {};
  for (int tile_col = 0; tile_col < kCols; tile_col += kTileCols) {
    const int col = tile_col + thread % kRunsPerRow * kRun;
    float value[kRun] = {};
    float activation[kRun] = {};
    if (col < kCols) {
      decode_run(w + row * kRowBytes, col, value);
      const float run_scale = load_scale(scale, (row / kScaleBlockRows) * kScaleCols + col / kScaleBlockCols);
#pragma unroll
      for (int i = 0; i < kRun; ++i) value[i] *= run_scale;
      load_run_bf16((const unsigned char*)(x_row + col), activation);
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
      if (y_row < rows && y_x < n) store_element(y + y_x * rows + y_row, sum[r][j] + load_bias(bias, y_row));
    } // j: rows of x
  } // r: rows of w
}
