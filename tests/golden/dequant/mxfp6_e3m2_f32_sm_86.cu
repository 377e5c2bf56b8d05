// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_mxfp6_e3m2_s1x32_e8m0_y_f32_c512, emitter version 7
//   w        in   mxfp6_e3m2  [rows, 512]  row-major, blocks of 32 elements in 24 bytes
//   scale    in   e8m0  [rows, 16]  row-major, one per 1 x 32 block of w
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w) * scale, as the format defines it
//   arch     sm_86, no cvt from e3m2: software, exact: bits moved into an f32, one multiply
//   launch   grid (ceil(rows / 8) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                             // columns of w and y
constexpr int kRowBytes = 384;                         // bytes of one row of w
constexpr int kRun = 8;                                // consecutive elements decoded at a time
constexpr int kScaleBlockCols = 32;                    // columns that share one scale
constexpr int kScaleCols = 16;                         // scales in one row of scales
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

// At an even address in a row that is aligned to 4 bytes and has a multiple of 8. What is above the 48 bits is
// not zero.
__device__ __forceinline__ unsigned long long load_6_bytes(const unsigned char* at) {
  const unsigned before = (unsigned)(unsigned long long)at & 2u;
  const unsigned* words = (const unsigned*)(at - before);
  return (words[0] | (unsigned long long)words[1] << 32) >> (8u * before);
}

// Code i of eight that lie in 48 bits, moved to bit 26; what lies below it stays.
__device__ __forceinline__ unsigned fp6_at_top(unsigned long long codes, int i) {
  return i < 5 ? (unsigned)codes << (26 - 6 * i) : (unsigned)(codes >> (6 * i - 26));
}

// OCP's e3m2, eight codes in 6 bytes. A code's 5 magnitude bits, moved to bit 21, read as an f32 that is 2^-124
// too small, subnormals too, so compile with -ftz=false.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun]) {
  const unsigned long long codes = load_6_bytes(row + col / 4 * 3);
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned scaled = (unsigned)((int)fp6_at_top(codes, i) >> 5) & 0x83e00000u;
    value[i] = __uint_as_float(scaled) * 0x1p+124f;
  } // i: elements
}

// 2^(code - 127); code 0 is the subnormal 2^-127, 255 is NaN (OCP MX 1.0).
__device__ __forceinline__ float load_scale(const unsigned char* scale, long long at) {
  const unsigned code = scale[at];
  const unsigned bits = code == 0u ? 0x00400000u : code << 23;
  return __uint_as_float(code == 255u ? 0x7fc00000u : bits);
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
dequant_mxfp6_e3m2_s1x32_e8m0_y_f32_c512(
    const unsigned char* __restrict__ w,
    const unsigned char* __restrict__ scale,
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
    const float run_scale = load_scale(scale, (row) * kScaleCols + col / kScaleBlockCols);
#pragma unroll
    for (int i = 0; i < kRun; ++i) value[r][i] *= run_scale;
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
