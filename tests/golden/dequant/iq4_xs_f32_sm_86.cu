// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_iq4_xs_y_f32_c512, emitter version 7
//   w        in   iq4_xs  [rows, 512]  row-major, blocks of 256 elements in 136 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no instruction decodes iq4_xs blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 8) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                             // columns of w and y
constexpr int kRowBytes = 272;                         // bytes of one row of w
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
dequant_iq4_xs_y_f32_c512(
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
