// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_fp8_e5m2fnuz_y_f32_c512, emitter version 7
//   w        in   fp8_e5m2fnuz  [rows, 512]  row-major
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no GPU has a cvt from e5m2fnuz: software, exact: bits moved into a bf16x2, one multiply for two
//   launch   grid (ceil(rows / 8) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                             // columns of w and y
constexpr int kRowBytes = 512;                         // bytes of one row of w
constexpr int kRun = 8;                                // consecutive elements decoded at a time
constexpr int kThreads = 256;                          // threads per CTA
constexpr int kThreadsPerRow = 32;                     // threads side by side in one row
constexpr int kColumnTiles = 1;                        // CTAs side by side in one row
constexpr int kRuns = 2;                               // runs of one thread
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kWarpThreads = 32;                       // threads of one warp
constexpr int kWarpCols = kWarpThreads * kRuns * kRun; // columns of one warp
constexpr int kRunVectors = 2;                         // vectors of 16 bytes in a run of y
constexpr int kVectorElems = kRun / kRunVectors;       // elements in one of them
constexpr int kLaneVectors = kRuns * kRunVectors;

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

struct alignas(16) Words4 {
  unsigned word[4];
};

__device__ __forceinline__ void pack_run(const float (&value)[kRun], Words4 (&packed)[kRun / 4]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) packed[i / 4].word[i % 4] = __float_as_uint(value[i]);
}

// Where vector v of the kLaneVectors of a lane, 16 bytes each, lies in the warp's part of shared memory: the last
// three bits are changed, so that eight lanes that write use all banks once, and eight that read neighbours.
__device__ __forceinline__ unsigned own_vector(unsigned lane, unsigned v) {
  const unsigned first = lane * kLaneVectors;
  return first ^ first / 8 % 8 ^ v;
}

// Where vector 32 v + lane of the warp lies, as own_vector has put it.
__device__ __forceinline__ unsigned neighbour_vector(unsigned lane, unsigned v) {
  return v * 32u + (lane ^ lane / 8 ^ v % 2 * 4);
}

// A store of what isn't read soon: it leaves the L2 cache first.
__device__ __forceinline__ void stream_16_bytes(void* at, const Words4& words) {
  asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(at), "r"(words.word[0]), "r"(words.word[1]), "r"(words.word[2]), "r"(words.word[3])
               : "memory");
}

extern "C" __global__ void __launch_bounds__(kThreads)
dequant_fp8_e5m2fnuz_y_f32_c512(
    const unsigned char* __restrict__ w,
    float* __restrict__ y,
    long long rows) {
  __shared__ Words4 tiles[kThreads / kWarpThreads][kWarpThreads * kLaneVectors]; // y of each warp
  const long long row =
      (long long)(blockIdx.x / kColumnTiles) * kRowsPerCta + threadIdx.x / kThreadsPerRow;
  const unsigned tile = blockIdx.x % kColumnTiles;
  const unsigned thread = threadIdx.x % kThreadsPerRow;
  const unsigned lane = thread % kWarpThreads;
  const unsigned warp_col =
      (tile * (kThreadsPerRow / kWarpThreads) + thread / kWarpThreads) * kWarpCols;
  const int first_col = (int)(warp_col + lane * (kRuns * kRun));
  __builtin_assume(first_col >= 0); // so that divisions by powers of two are shifts
  if (row >= rows) return;

  float value[kRuns][kRun];
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    const int col = first_col + r * kRun;
    decode_run(w + row * kRowBytes, col, value[r]);
  } // r: runs of this thread
  Words4 (&vectors)[kWarpThreads * kLaneVectors] = tiles[threadIdx.x / kWarpThreads];
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    Words4 packed[kRunVectors];
    pack_run(value[r], packed);
#pragma unroll
    for (int v = 0; v < kRunVectors; ++v) {
      vectors[own_vector(lane, r * kRunVectors + v)] = packed[v];
    } // v: vectors of 16 bytes
  } // r: runs of this thread
  __syncwarp();
#pragma unroll
  for (unsigned v = 0; v < kLaneVectors; ++v) {
    const unsigned col = warp_col + (v * kWarpThreads + lane) * kVectorElems;
    stream_16_bytes(y + row * kCols + col, vectors[neighbour_vector(lane, v)]);
  } // v: vectors of 16 bytes
}
