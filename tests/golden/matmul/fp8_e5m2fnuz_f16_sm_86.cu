// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matmul_fma.cu.in.
//   kernel   matmul_fp8_e5m2fnuz_x_f16_c512, emitter version 7
//   w        in   fp8_e5m2fnuz  [rows, 512]  row-major
//   x        in   f16  [n, 512]  row-major
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, no GPU has a cvt from e5m2fnuz: software, exact: bits moved into a bf16x2, one multiply for two; f32 fma
//   launch   grid (ceil(rows / 64), ceil(n / 64), 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;     // columns of w, and of each row of x
constexpr int kRowBytes = 512; // bytes of one row of w
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

// All bits of each half where a and b are equal as f16, subnormals too; else none.
__device__ __forceinline__ unsigned equal_f16x2(unsigned a, unsigned b) {
  unsigned mask;
  asm("set.eq.u32.f16x2 %0, %1, %2;" : "=r"(mask) : "r"(a), "r"(b));
  return mask;
}

// As a fused multiply-add of -0: sm_80 has no bf16 multiplication.
__device__ __forceinline__ unsigned mul_bf16x2(unsigned a, unsigned b) {
  unsigned product;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000u));
  return product;
}

// Two e5m2fnuz codes, each at the top of a 16-bit half with copies of its sign below, to two bf16. The 7
// magnitude bits, moved to bit 5, read as a bf16 that is 2^-111 too small, subnormals too. Only the NaN begins
// as 0x80ff, and +0 as another number.
__device__ __forceinline__ unsigned fp8x2_to_pair(unsigned spread) {
  const unsigned is_nan = equal_f16x2(spread, 0x80ff80ffu);
  return mul_bf16x2(((spread & 0x7f007f00u) >> 3) + ((spread & 0x80008000u) | is_nan), 0x77007700u); // 2^111
}

// Four codes to two pairs of 16-bit numbers. Below each code lie eight copies of its sign.
__device__ __forceinline__ void fp8x4_to_pairs(unsigned codes, unsigned& low, unsigned& high) {
  low = fp8x2_to_pair(permute_bytes(codes, 0u, 0x1908u));
  high = fp8x2_to_pair(permute_bytes(codes, 0u, 0x3b2au));
}

__device__ __forceinline__ void bf16x2_to_f32(unsigned pair, float* value) {
  value[0] = __uint_as_float(pair << 16);
  value[1] = __uint_as_float(pair & 0xffff0000u);
}

__device__ __forceinline__ void fp8x4_to_f32(unsigned codes, float* value) {
  unsigned low, high;
  fp8x4_to_pairs(codes, low, high);
  bf16x2_to_f32(low, value);
  bf16x2_to_f32(high, value + 2);
}

__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const Words2 codes = load_8_bytes(row + col);
  fp8x4_to_f32(codes.word[0], value);
  fp8x4_to_f32(codes.word[1], value + 4);
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

struct alignas(16) Words4 {
  unsigned word[4];
};

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ void load_run_f16(const unsigned char* at, float (&value)[kRun]) {
  const Words4 words = *(const Words4*)at;
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] = f16_to_f32((unsigned short)(words.word[i / 2] >> (16 * (i % 2))));
}

extern "C" __global__ void __launch_bounds__(kThreads)
matmul_fp8_e5m2fnuz_x_f16_c512(
    const unsigned char* __restrict__ w,
    const unsigned short* __restrict__ x,
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
      load_run_f16((const unsigned char*)(x_row + col), activation);
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
