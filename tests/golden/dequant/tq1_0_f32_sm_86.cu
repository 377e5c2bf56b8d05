// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/dequant.cu.in.
//   kernel   dequant_tq1_0_y_f32_c512, emitter version 7
//   w        in   tq1_0  [rows, 512]  row-major, blocks of 256 elements in 54 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   arch     sm_86, no instruction decodes tq1_0 blocks: software, exact: integers times the block's scale
//   launch   grid (ceil(rows / 8) * 1, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;                             // columns of w and y
constexpr int kRowBytes = 108;                         // bytes of one row of w
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

// 3^n for n from 0 to 4.
__device__ __forceinline__ unsigned power_of_3(int n) { return permute_bytes(0x1b090301u, 81u, 0x5550u | (unsigned)n); }

// Digit n, as a byte, of each of four bytes that hold base-3 digits, the most significant first, as a fraction of
// 256; `power` is 3^n. Times 3^n the lower 8 bits are what comes after the first n digits, times 3 the next bits
// are the digit. Two bytes at a time, 16 bits apart: no product has more bits than that.
__device__ __forceinline__ unsigned ternary_digits(unsigned bytes, unsigned power) {
  const unsigned even = (bytes & 0x00ff00ffu) * power & 0x00ff00ffu;
  const unsigned odd = (bytes >> 8 & 0x00ff00ffu) * power & 0x00ff00ffu;
  return (even * 3u >> 8 & 0x00030003u) | (odd * 3u & 0x03000300u);
}

// tq1_0: 54 bytes for 256 elements: bytes of base-3 digits, each a number plus 1, then d f16. Digit n of bytes 0 to
// 31 are elements 32 n to 32 n + 31; that of bytes 32 to 47 the 16 elements from 160 + 16 n on; bytes 48 to 51
// hold four digits, n those of the 4 elements from 240 + 4 n on. value = d * (digit - 1).
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun], int at = 0) {
  const unsigned char* block = row + (col / 256) * 54ll;
  const int element = col % 256 + at;
  const float d = f16_to_f32(*(const unsigned short*)(block + 52));
  const bool is_first_part = element < 160;
  const bool is_last_part = element >= 240; // a run has two digits of bytes 48 to 51
  const int byte = is_first_part ? element % 32 : is_last_part ? 44 : 32 + element % 16;
  const int digit = is_first_part ? element / 32 : is_last_part ? (element - 240) / 4 : (element - 160) / 16;
  const Words2 packed = load_8_bytes(block + byte);
  const unsigned power = power_of_3(digit);
  const unsigned digits[2] = {ternary_digits(is_last_part ? packed.word[1] : packed.word[0], power),
                              ternary_digits(packed.word[1], is_last_part ? 3u * power : power)};
#pragma unroll
  for (int i = 0; i < kRun; ++i) value[i] = d * offset_byte_to_f32(digits[i / 4], i % 4, 1);
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
dequant_tq1_0_y_f32_c512(
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
