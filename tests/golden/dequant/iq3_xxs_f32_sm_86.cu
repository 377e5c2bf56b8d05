// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_iq3_xxs_y_f32_c512, emitter version 7
//   w        in   iq3_xxs  [rows, 512]  row-major, blocks of 256 elements in 98 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no instruction decodes iq3_xxs blocks: software, exact: entries of a codebook, read through the cache, times the block's scale
//   launch   grid (ceil(rows / 8) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                             // columns of w and y
constexpr int kRowBytes = 196;                         // bytes of one row of w
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

// The codebook of iq3_xxs: 256 entries of 4 elements, the code of element i in the 3 bits from 4 i up.
// Data of ggml: Copyright (c) 2023-2026 The ggml authors, MIT licence.
__device__ const unsigned short kCodebook[256] = {
  0x0000, 0x0002, 0x0004, 0x0011, 0x0013, 0x0017, 0x0020, 0x0022, 0x0031, 0x0042, 0x0073, 0x0075,
  0x0101, 0x0103, 0x0110, 0x0112, 0x0121, 0x0125, 0x0130, 0x0132, 0x0141, 0x0154, 0x0170, 0x0200,
  0x0202, 0x0204, 0x0211, 0x0220, 0x0222, 0x0231, 0x0233, 0x0237, 0x0251, 0x0257, 0x0275, 0x0301,
  0x0307, 0x0310, 0x0312, 0x0325, 0x0370, 0x0413, 0x0437, 0x0444, 0x0457, 0x0473, 0x0475, 0x0501,
  0x0507, 0x0532, 0x0552, 0x0635, 0x0664, 0x0710, 0x0714, 0x0716, 0x0743, 0x0761, 0x1001, 0x1003,
  0x1010, 0x1012, 0x1021, 0x1023, 0x1030, 0x1032, 0x1034, 0x1047, 0x1050, 0x1100, 0x1102, 0x1111,
  0x1120, 0x1122, 0x1201, 0x1203, 0x1210, 0x1212, 0x1221, 0x1230, 0x1272, 0x1300, 0x1302, 0x1320,
  0x1331, 0x1346, 0x1366, 0x1401, 0x1405, 0x1450, 0x1520, 0x1524, 0x1546, 0x1571, 0x1605, 0x1722,
  0x1740, 0x2000, 0x2002, 0x2011, 0x2013, 0x2020, 0x2022, 0x2026, 0x2031, 0x2042, 0x2101, 0x2103,
  0x2105, 0x2110, 0x2112, 0x2121, 0x2130, 0x2163, 0x2167, 0x2170, 0x2200, 0x2202, 0x2211, 0x2217,
  0x2220, 0x2222, 0x2237, 0x2240, 0x2255, 0x2301, 0x2310, 0x2314, 0x2370, 0x2374, 0x2435, 0x2453,
  0x2503, 0x2527, 0x2541, 0x2574, 0x2701, 0x2703, 0x2716, 0x2745, 0x3001, 0x3010, 0x3012, 0x3021,
  0x3023, 0x3050, 0x3065, 0x3072, 0x3100, 0x3102, 0x3120, 0x3131, 0x3144, 0x3146, 0x3201, 0x3203,
  0x3210, 0x3225, 0x3252, 0x3272, 0x3311, 0x3333, 0x3430, 0x3447, 0x3472, 0x3500, 0x3506, 0x3522,
  0x3555, 0x3614, 0x3636, 0x3663, 0x3733, 0x3760, 0x4004, 0x4017, 0x4035, 0x4037, 0x4053, 0x4057,
  0x4174, 0x4220, 0x4237, 0x4240, 0x4260, 0x4266, 0x4307, 0x4345, 0x4404, 0x4451, 0x4464, 0x4525,
  0x4543, 0x4570, 0x4705, 0x4710, 0x4712, 0x4730, 0x5012, 0x5041, 0x5070, 0x5100, 0x5106, 0x5126,
  0x5155, 0x5214, 0x5232, 0x5272, 0x5302, 0x5353, 0x5410, 0x5423, 0x5427, 0x5472, 0x5502, 0x5531,
  0x5650, 0x5724, 0x5742, 0x6024, 0x6044, 0x6046, 0x6064, 0x6121, 0x6161, 0x6217, 0x6264, 0x6330,
  0x6336, 0x6444, 0x6505, 0x6552, 0x6633, 0x6703, 0x6721, 0x7003, 0x7005, 0x7007, 0x7010, 0x7032,
  0x7052, 0x7126, 0x7140, 0x7212, 0x7245, 0x7252, 0x7300, 0x7315, 0x7333, 0x7360, 0x7421, 0x7441,
  0x7500, 0x7502, 0x7524, 0x7630,
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

// 0x01 in byte i if bit i of `signs` is set, for four bits.
__device__ __forceinline__ unsigned sign_bytes(unsigned signs) {
  return (signs & 15u) * 0x00204081u & 0x01010101u;
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

// iq3_xxs: 98 bytes for 256 elements: d f16, for each 4 elements a byte of entry (64 bytes), for each 32 a word
// with four times seven signs and, in its top 4 bits, the scale. value = d * (scale + 1/2) / 2 * level.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun], int at = 0) {
  const unsigned char* block = row + (col / 256) * 98ll;
  const float d = f16_to_f32(*(const unsigned short*)block);
  const int element = col % 256;
  const unsigned codes = *(const unsigned short*)(block + 2 + element / 4 + at / 4);
  const unsigned signs_and_scale = load_2_halves(block + 66 + element / 32 * 4);
  const unsigned signs = with_eighth_sign(signs_and_scale >> (element / 8 + at / 8) % 4 * 7 & 127u);
  const float unit = d * ((float)(signs_and_scale >> 28) + 0.5f);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const unsigned entry = kCodebook[codes >> 8 * half & 255u];
    const unsigned negative = sign_bytes(signs >> 4 * half);
    // Half of the level is 2, 6, 10, 14, 18, 22, 26 or 31: 64 plus that, or 64 minus it as 127 less the byte, plus 1.
    const unsigned levels = permute_bytes(0x4e4a4642u, 0x5f5a5652u, entry);
    const unsigned with_signs = (levels ^ negative * 0x7fu) + negative;
#pragma unroll
    for (int i = 0; i < 4; ++i) value[4 * half + i] = unit * centred_byte_to_f32(with_signs, i, 64.0f);
  } // half: entries
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
dequant_iq3_xxs_y_f32_c512(
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
