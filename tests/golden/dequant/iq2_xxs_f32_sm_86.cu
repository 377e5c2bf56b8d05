// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_iq2_xxs_y_f32_c512, emitter version 7
//   w        in   iq2_xxs  [rows, 512]  row-major, blocks of 256 elements in 66 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no instruction decodes iq2_xxs blocks: software, exact: entries of a codebook, read through the cache, times the block's scale
//   launch   grid (ceil(rows / 8) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                             // columns of w and y
constexpr int kRowBytes = 132;                         // bytes of one row of w
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

// The codebook of iq2_xxs: 256 entries of 8 elements, the code of element i in the 2 bits from 4 (i % 4) + 2 (i / 4) up.
// Data of ggml: Copyright (c) 2023-2026 The ggml authors, MIT licence.
__device__ const unsigned short kCodebook[256] = {
  0x0000, 0x0002, 0x0011, 0x0020, 0x0022, 0x0101, 0x0110, 0x0200, 0x0202, 0x0220, 0x0222, 0x1001,
  0x1010, 0x1100, 0x1120, 0x1201, 0x1210, 0x2000, 0x2002, 0x2022, 0x2202, 0x0005, 0x0014, 0x0104,
  0x0115, 0x1004, 0x2014, 0x2124, 0x0008, 0x000a, 0x020a, 0x200a, 0x0041, 0x0050, 0x0140, 0x0241,
  0x0250, 0x1040, 0x1042, 0x1060, 0x1240, 0x2041, 0x2050, 0x2140, 0x2250, 0x0044, 0x0046, 0x0064,
  0x0244, 0x1056, 0x1265, 0x2044, 0x2145, 0x0069, 0x0148, 0x1048, 0x2058, 0x2258, 0x0080, 0x0091,
  0x00a0, 0x0190, 0x02a0, 0x1081, 0x1090, 0x1180, 0x1182, 0x20a0, 0x0094, 0x1084, 0x008a, 0x0198,
  0x0401, 0x0410, 0x0500, 0x0601, 0x1400, 0x1600, 0x2410, 0x2500, 0x2511, 0x0404, 0x0424, 0x0604,
  0x1504, 0x1526, 0x2404, 0x0618, 0x1419, 0x0440, 0x0460, 0x0640, 0x0651, 0x1461, 0x2440, 0x0564,
  0x1646, 0x0448, 0x055a, 0x0481, 0x0490, 0x0580, 0x1480, 0x2481, 0x0484, 0x0495, 0x2684, 0x1589,
  0x0800, 0x0802, 0x0822, 0x1810, 0x1a01, 0x2800, 0x2802, 0x0a25, 0x1824, 0x0808, 0x080a, 0x0841,
  0x0850, 0x0940, 0x1840, 0x1952, 0x0844, 0x1845, 0x1a54, 0x2948, 0x08a0, 0x0a80, 0x2990, 0x1898,
  0x4001, 0x4010, 0x4100, 0x4120, 0x4201, 0x4210, 0x5000, 0x5020, 0x5112, 0x5200, 0x6001, 0x6010,
  0x6100, 0x4004, 0x4204, 0x5205, 0x6004, 0x6015, 0x4009, 0x4108, 0x5028, 0x511a, 0x5228, 0x4040,
  0x4060, 0x4240, 0x6040, 0x6161, 0x4146, 0x4254, 0x4048, 0x4081, 0x4090, 0x4180, 0x5080, 0x5091,
  0x4084, 0x51a4, 0x5285, 0x6086, 0x5099, 0x6188, 0x4400, 0x4420, 0x4501, 0x4521, 0x4600, 0x6400,
  0x6420, 0x4414, 0x5406, 0x6614, 0x6509, 0x6540, 0x6542, 0x4466, 0x4449, 0x5558, 0x4480, 0x4581,
  0x45a1, 0x5690, 0x5484, 0x44a8, 0x4810, 0x4900, 0x5800, 0x5a20, 0x4804, 0x5915, 0x4928, 0x5a08,
  0x4840, 0x4851, 0x4944, 0x4946, 0x6854, 0x5882, 0x8000, 0x8002, 0x8022, 0x9001, 0xa002, 0x8014,
  0x8124, 0x9004, 0x8109, 0x8041, 0x8050, 0x8140, 0x8151, 0x9040, 0x9240, 0x8044, 0x9056, 0xa154,
  0x8069, 0x9048, 0x9248, 0x8082, 0x8094, 0x8189, 0x8410, 0x8500, 0x8610, 0x9400, 0xa601, 0x8516,
  0xa404, 0x9419, 0x8440, 0x8642, 0x9450, 0x9545, 0xa481, 0x8684, 0x8802, 0x9900, 0xa811, 0x8825,
  0x8808, 0x8960, 0x9980, 0x8894,
};

// Four bytes, aligned to 2 bytes only.
__device__ __forceinline__ unsigned load_2_halves(const unsigned char* at) {
  const unsigned short* halves = (const unsigned short*)at;
  return halves[0] | (unsigned)halves[1] << 16;
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Seven signs and the eighth, which makes the number of set ones even. Bit n of 0x6996 is the parity of n.
__device__ __forceinline__ unsigned with_eighth_sign(unsigned seven) {
  const unsigned folded = (seven ^ seven >> 4) & 15u;
  return seven | (0x6996u << 7 >> folded & 0x80u);
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// A byte of a word, below 128, less `centre`. Exact: 0x43000000 | byte << 16 reads as 128 + byte.
__device__ __forceinline__ float centred_byte_to_f32(unsigned word, int byte, float centre) {
  const unsigned bits = permute_bytes(word, 0x43000000u, 0x7044u | (unsigned)byte << 8);
  return __uint_as_float(bits) - (128.0f + centre);
}

// Codes of two bits, elements 0 to 3 at bit 4 i, 4 to 7 two bits above, as kCodebook has them. A code chooses
// a byte of `plus`, or of `minus` if bit 4 i + 2 of `signs` is set: 64 more than the element in units of scale.
__device__ __forceinline__ void decode_entry(unsigned entry, unsigned signs, unsigned plus, unsigned minus,
                                             float scale, float (&value)[kRun]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned selector = (entry >> 2 * half & 0x3333u) | (signs >> 16 * half & 0x4444u);
    const unsigned bytes = permute_bytes(plus, minus, selector);
#pragma unroll
    for (int i = 0; i < 4; ++i) value[4 * half + i] = scale * centred_byte_to_f32(bytes, i, 64.0f);
  } // half: four elements
}

// Bit i of a byte, at bit 4 i + 2.
__device__ __forceinline__ unsigned spread_signs(unsigned signs) {
  unsigned spread = (signs | signs << 12) & 0x000f000fu;
  spread = (spread | spread << 6) & 0x03030303u;
  return (spread << 2 | spread << 5) & 0x44444444u;
}

// The levels are 8, 25 and 43, here above and below 64. value = d * (scale + 1/2) / 4 * level.
__device__ __forceinline__ void decode_iq2(unsigned entry, unsigned signs, float d, unsigned scale,
                                           float (&value)[kRun]) {
  const float unit = d * 0.25f * ((float)scale + 0.5f);
  decode_entry(entry, spread_signs(signs), 0x006b5948u, 0x00152738u, unit, value);
}

// iq2_xxs: 66 bytes for 256 elements: d f16, then 8 bytes for each 32 elements: four entries, and a word with
// four times seven signs and, in its top 4 bits, the scale.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun], int at = 0) {
  const unsigned char* block = row + (col / 256) * 66ll;
  const float d = f16_to_f32(*(const unsigned short*)block);
  const unsigned char* group = block + 2 + col % 256 / 32 * 8;
  const int eight = col % 32 / 8 + at / 8;
  const unsigned signs_and_scale = load_2_halves(group + 4);
  const unsigned signs = with_eighth_sign(signs_and_scale >> 7 * eight & 127u);
  decode_iq2(kCodebook[group[eight]], signs, d, signs_and_scale >> 28, value);
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
dequant_iq2_xxs_y_f32_c512(
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
    decode_run(w + row * kRowBytes, first_col, value[r], r * kRun);
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
