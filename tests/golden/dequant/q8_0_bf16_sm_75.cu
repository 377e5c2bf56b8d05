// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_q8_0_y_bf16_c512, emitter version 7
//   w        in   q8_0  [rows, 512]  row-major, blocks of 32 elements in 34 bytes
//   y        out  bf16  [rows, 512]  row-major
//   math     y = decode(w), then rounded once to bf16, to nearest even
//   arch     sm_75, no instruction decodes q8_0 blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 4) * 1, 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                          // columns of w and y
constexpr int kRowBytes = 544;                      // bytes of one row of w
constexpr int kRun = 8;                             // consecutive elements decoded at a time
constexpr int kThreads = 128;                       // threads per CTA
constexpr int kThreadsPerRow = 32;                  // threads side by side in one row
constexpr int kColumnTiles = 1;                     // CTAs side by side in one row
constexpr int kRuns = 2;                            // runs of one thread
constexpr int kRowsPerCta = kThreads / kThreadsPerRow;
constexpr int kRunDistance = kThreadsPerRow * kRun; // columns between the runs of a thread

struct alignas(8) Words2 {
  unsigned word[2];
};

// Aligned to 2 bytes only.
__device__ __forceinline__ Words2 load_8_bytes(const unsigned char* at) {
  const unsigned short* halves = (const unsigned short*)at;
  return {{halves[0] | (unsigned)halves[1] << 16, halves[2] | (unsigned)halves[3] << 16}};
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the 8 bytes high:low.
__device__ __forceinline__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// The byte less `offset`, exactly: 0x4b000000 | b reads as 2^23 + b.
__device__ __forceinline__ float offset_byte_to_f32(unsigned word, int byte, int offset) {
  const unsigned bits = permute_bytes(word, 0x4b000000u, 0x7540u | (unsigned)byte);
  return __uint_as_float(bits) - (float)(0x800000 + offset);
}

__device__ __forceinline__ float f16_to_f32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// q8_0: 34 bytes for 32 elements: d f16, then 32 signed bytes. value = d * q.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun], int at = 0) {
  const unsigned char* block = row + (col / 32) * 34ll;
  const float d = f16_to_f32(*(const unsigned short*)block);
  const Words2 q = load_8_bytes(block + 2 + col % 32 + at);
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const unsigned biased = q.word[i / 4] ^ 0x80808080u; // q + 128
    value[i] = d * offset_byte_to_f32(biased, i % 4, 128);
  } // i: elements
}

struct alignas(16) Words4 {
  unsigned word[4];
};

// A store of what isn't read soon: it leaves the L2 cache first.
__device__ __forceinline__ void stream_16_bytes(void* at, const Words4& words) {
  asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(at), "r"(words.word[0]), "r"(words.word[1]), "r"(words.word[2]), "r"(words.word[3])
               : "memory");
}

// To nearest even, by integers; a NaN stays one.
__device__ __forceinline__ unsigned short f32_to_bf16(float value) {
  const unsigned bits = __float_as_uint(value);
  const unsigned rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return (unsigned short)((is_nan ? bits | 0x00400000u : rounded) >> 16);
}

// To nearest even, by integers, of two numbers that are no NaN: what is added carries into the upper half if the
// lower one is above one half, or is one half and the upper one odd.
__device__ __forceinline__ unsigned f32x2_to_bf16x2(float first, float second) {
  const unsigned first_bits = __float_as_uint(first), second_bits = __float_as_uint(second);
  const unsigned first_rounded = first_bits + (first_bits >> 16 & 1u) + 0x7fffu;
  const unsigned second_rounded = second_bits + (second_bits >> 16 & 1u) + 0x7fffu;
  return permute_bytes(first_rounded, second_rounded, 0x7632u);
}

// Numbers are rounded two at a time. A sum of zeros times them is a NaN if one is a NaN or infinite: then one by one.
__device__ __forceinline__ void pack_run(const float (&value)[kRun], Words4 (&packed)[1]) {
  float zero = 0.0f;
#pragma unroll
  for (int i = 0; i < kRun; ++i) zero += 0.0f * value[i];
  if (zero == 0.0f) {
#pragma unroll
    for (int i = 0; i < kRun / 2; ++i) packed[0].word[i] = f32x2_to_bf16x2(value[2 * i], value[2 * i + 1]);
  } else {
#pragma unroll
    for (int i = 0; i < kRun / 2; ++i) {
      packed[0].word[i] = f32_to_bf16(value[2 * i]) | (unsigned)f32_to_bf16(value[2 * i + 1]) << 16;
    } // i: pairs
  }
}

__device__ __forceinline__ void store_run_bf16(unsigned short* at, const float (&value)[kRun]) {
  Words4 packed[1];
  pack_run(value, packed);
  stream_16_bytes(at, packed[0]);
}

extern "C" __global__ void __launch_bounds__(kThreads)
dequant_q8_0_y_bf16_c512(
    const unsigned char* __restrict__ w,
    unsigned short* __restrict__ y,
    long long rows) {
  const long long row =
      (long long)(blockIdx.x / kColumnTiles) * kRowsPerCta + threadIdx.x / kThreadsPerRow;
  const unsigned tile = blockIdx.x % kColumnTiles;
  const unsigned thread = threadIdx.x % kThreadsPerRow;
  const int first_col = (int)((tile * kThreadsPerRow * kRuns + thread) * kRun);
  __builtin_assume(first_col >= 0); // so that divisions by powers of two are shifts
  if (row >= rows) return;

  float value[kRuns][kRun];
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    const int col = first_col + r * kRunDistance;
    decode_run(w + row * kRowBytes, col, value[r]);
  } // r: runs of this thread
#pragma unroll
  for (int r = 0; r < kRuns; ++r) {
    const int col = first_col + r * kRunDistance;
    store_run_bf16(y + row * kCols + col, value[r]);
  } // r: runs of this thread
}
