// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/matvec.cu.in.
//   kernel   matvec_iq2_xs_x_f32_c512_n1, emitter version 7
//   w        in   iq2_xs  [rows, 512]  row-major, blocks of 256 elements in 74 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   arch     sm_86, no instruction decodes iq2_xs blocks: software, exact: entries of a codebook, read through the cache, times the block's scale
//   launch   grid (ceil(rows / 4), 1, 1), block (128, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;       // columns of w, and of each row of x
constexpr int kRowBytes = 148;   // bytes of one row of w
constexpr int kRun = 8;          // consecutive elements decoded at a time
constexpr int kThreads = 128;    // threads per CTA
constexpr int kWarpThreads = 32; // threads of one warp
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kRowsPerWarp = 1;  // rows of w that share one pass over x
constexpr int kXColumns = 1;     // rows of x that a launch can use

// The codebook of iq2_xs: 512 entries of 8 elements, the code of element i in the 2 bits from 4 (i % 4) + 2 (i / 4) up.
// Data of ggml: Copyright (c) 2023-2026 The ggml authors, MIT licence.
__device__ const unsigned short kCodebook[512] = {
  0x0000, 0x0002, 0x0011, 0x0020, 0x0022, 0x0101, 0x0110, 0x0112, 0x0121, 0x0200, 0x0202, 0x0211,
  0x0220, 0x1001, 0x1010, 0x1012, 0x1021, 0x1100, 0x1102, 0x1111, 0x1120, 0x1201, 0x1210, 0x2000,
  0x2002, 0x2011, 0x2020, 0x2101, 0x2110, 0x2121, 0x2200, 0x0005, 0x0014, 0x0016, 0x0025, 0x0104,
  0x0106, 0x0115, 0x0124, 0x0126, 0x0205, 0x0214, 0x1004, 0x1006, 0x1015, 0x1024, 0x1105, 0x1114,
  0x1204, 0x1224, 0x2005, 0x2014, 0x2104, 0x0008, 0x000a, 0x0019, 0x0028, 0x0109, 0x0118, 0x0208,
  0x1009, 0x1018, 0x1108, 0x1119, 0x2008, 0x202a, 0x0041, 0x0050, 0x0052, 0x0061, 0x0140, 0x0142,
  0x0151, 0x0160, 0x0241, 0x0250, 0x1040, 0x1042, 0x1051, 0x1060, 0x1141, 0x1150, 0x1152, 0x1240,
  0x2041, 0x2050, 0x2140, 0x0044, 0x0046, 0x0055, 0x0064, 0x0145, 0x0154, 0x0244, 0x1045, 0x1054,
  0x1144, 0x1245, 0x2044, 0x0049, 0x0058, 0x0148, 0x025a, 0x1048, 0x104a, 0x2058, 0x0080, 0x0082,
  0x0091, 0x00a0, 0x00a2, 0x0181, 0x0190, 0x0280, 0x0291, 0x1081, 0x1090, 0x1180, 0x11a0, 0x2080,
  0x2280, 0x22a2, 0x0085, 0x0094, 0x0184, 0x1084, 0x2085, 0x20a5, 0x0088, 0x0288, 0x02a8, 0x219a,
  0x2288, 0x0401, 0x0410, 0x0412, 0x0421, 0x0500, 0x0502, 0x0511, 0x0520, 0x0601, 0x0610, 0x1400,
  0x1402, 0x1411, 0x1420, 0x1501, 0x1510, 0x1600, 0x1622, 0x2401, 0x2410, 0x2500, 0x0404, 0x0406,
  0x0415, 0x0424, 0x0505, 0x0514, 0x0604, 0x1405, 0x1414, 0x1504, 0x2404, 0x2514, 0x2516, 0x0409,
  0x0418, 0x041a, 0x0508, 0x1408, 0x1608, 0x0440, 0x0442, 0x0451, 0x0460, 0x0541, 0x0550, 0x0640,
  0x1441, 0x1450, 0x1461, 0x1540, 0x1650, 0x2440, 0x0445, 0x0454, 0x0544, 0x1444, 0x0448, 0x0558,
  0x1469, 0x0481, 0x0490, 0x0580, 0x0582, 0x1480, 0x1590, 0x2492, 0x0484, 0x0495, 0x1696, 0x1589,
  0x26a9, 0x0800, 0x0802, 0x0811, 0x0820, 0x0822, 0x0901, 0x0910, 0x0a00, 0x1801, 0x1810, 0x1900,
  0x2800, 0x2a00, 0x0805, 0x0814, 0x0904, 0x1804, 0x1824, 0x1a15, 0x0808, 0x0a0a, 0x2808, 0x2a28,
  0x0841, 0x0850, 0x0940, 0x0a61, 0x1840, 0x0844, 0x1845, 0x1946, 0x2965, 0x0849, 0x096a, 0x2a5a,
  0x0880, 0x08a0, 0x08a2, 0x0a80, 0x1991, 0x28a0, 0x2a82, 0x1aa4, 0x2984, 0x08a8, 0x0a88, 0x288a,
  0x28a8, 0x28aa, 0x4001, 0x4010, 0x4012, 0x4021, 0x4100, 0x4102, 0x4111, 0x4120, 0x4201, 0x4210,
  0x5000, 0x5002, 0x5011, 0x5020, 0x5022, 0x5101, 0x5110, 0x5200, 0x5211, 0x6001, 0x6010, 0x6100,
  0x4004, 0x4006, 0x4015, 0x4024, 0x4105, 0x4114, 0x4204, 0x5005, 0x5014, 0x5104, 0x6004, 0x6015,
  0x6206, 0x4009, 0x4018, 0x4108, 0x410a, 0x4229, 0x5008, 0x4040, 0x4042, 0x4051, 0x4060, 0x4141,
  0x4150, 0x4161, 0x4240, 0x5041, 0x5050, 0x5140, 0x6040, 0x6150, 0x4045, 0x4054, 0x4144, 0x4254,
  0x5044, 0x6166, 0x4048, 0x406a, 0x5058, 0x5148, 0x4081, 0x4090, 0x4180, 0x5080, 0x5091, 0x5190,
  0x5282, 0x4084, 0x4185, 0x5094, 0x5184, 0x52a5, 0x4098, 0x4400, 0x4402, 0x4411, 0x4420, 0x4501,
  0x4510, 0x4600, 0x4620, 0x5401, 0x5410, 0x5500, 0x6400, 0x4405, 0x4414, 0x4504, 0x4515, 0x5404,
  0x5406, 0x4408, 0x5418, 0x662a, 0x4441, 0x4450, 0x4540, 0x4641, 0x5440, 0x5640, 0x6441, 0x6641,
  0x4444, 0x4464, 0x6444, 0x6464, 0x4649, 0x5668, 0x6649, 0x4480, 0x4590, 0x5481, 0x5580, 0x65a1,
  0x45a6, 0x5484, 0x5486, 0x6499, 0x4801, 0x4810, 0x4900, 0x5800, 0x5910, 0x5a02, 0x6812, 0x6a21,
  0x4804, 0x4a18, 0x582a, 0x690a, 0x4840, 0x4952, 0x4944, 0x5844, 0x5855, 0x6a54, 0x4881, 0x5aa2,
  0x4a95, 0x489a, 0x5998, 0x5a8a, 0x8000, 0x8002, 0x8011, 0x8020, 0x8101, 0x8110, 0x8200, 0x8222,
  0x9001, 0x9010, 0x9100, 0xa000, 0xa002, 0xa220, 0xa222, 0x8005, 0x8014, 0x8016, 0x8104, 0x9004,
  0x9105, 0x9125, 0x8008, 0x8208, 0xa008, 0xa00a, 0xa208, 0xa228, 0x8041, 0x8050, 0x8140, 0x8142,
  0x8151, 0x9040, 0x9240, 0xa061, 0x8044, 0x9054, 0xa255, 0x8168, 0x926a, 0x8080, 0x80a0, 0x8291,
  0x91a2, 0xa080, 0xa082, 0xa2a0, 0x8096, 0x828a, 0xa088, 0xa0a8, 0xa19a, 0xa2a8, 0x8401, 0x8410,
  0x8500, 0x9400, 0x9512, 0xa410, 0x8404, 0x8606, 0x9614, 0x951a, 0xa429, 0x8440, 0x8451, 0x9450,
  0x9540, 0x9560, 0x8665, 0xa544, 0xa546, 0x9449, 0x9581, 0xa692, 0x94a5, 0x8599, 0x9688, 0x8800,
  0x8802, 0x8820, 0x8822, 0x8a00, 0x8a22, 0xaa00, 0x9905, 0x9925, 0xaa16, 0x8808, 0x880a, 0x8828,
  0x8a2a, 0xa808, 0xaa08, 0x9840, 0xa951, 0x9a59, 0xa968, 0x88a2, 0x8a80, 0x8a82, 0x8aa0, 0xaa80,
  0xaaa0, 0x8894, 0xa894, 0xa896, 0x8aa8, 0x8aaa, 0xa989, 0xaaaa,
};

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

// iq2_xs: 74 bytes for 256 elements: d f16, then 2 bytes for each 8 elements: 9 bits of entry and seven signs,
// then 8 bytes with a scale of 4 bits for each 16 elements.
__device__ __forceinline__ void decode_run(const unsigned char* row, int col, float (&value)[kRun], int at = 0) {
  const unsigned char* block = row + (col / 256) * 74ll;
  const float d = f16_to_f32(*(const unsigned short*)block);
  const int element = col % 256;
  const unsigned code = *(const unsigned short*)(block + 2 + element / 8 * 2 + at / 8 * 2);
  const unsigned scale = block[66 + element / 32] >> (element / 16 + at / 16) % 2 * 4 & 15u;
  decode_iq2(kCodebook[code & 511u], with_eighth_sign(code >> 9), d, scale, value);
}

__device__ __forceinline__ long long min_of(long long a, long long b) { return a < b ? a : b; }

// Sum over the 32 lanes of a warp, in every lane.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  } // distance: lanes apart
  return value;
}

struct alignas(16) Words4 {
  unsigned word[4];
};

__device__ __forceinline__ void load_run_f32(const unsigned char* at, float (&value)[kRun]) {
#pragma unroll
  for (int v = 0; v < kRun / 4; ++v) {
    const Words4 words = ((const Words4*)at)[v];
#pragma unroll
    for (int i = 0; i < 4; ++i) value[4 * v + i] = __uint_as_float(words.word[i]);
  } // v: 16-byte vectors
}

__device__ __forceinline__ void store_element(float* at, float value) { *at = value; }

extern "C" __global__ void __launch_bounds__(kThreads)
matvec_iq2_xs_x_f32_c512_n1(
    const unsigned char* __restrict__ w,
    const float* __restrict__ x,
    float* __restrict__ y,
    long long rows,
    long long n) {
  const int lane = threadIdx.x % kWarpThreads;
  const long long warp = (long long)blockIdx.x * kWarps + threadIdx.x / kWarpThreads;
  const long long first_row = warp * kRowsPerWarp;
  if (first_row >= rows) return;

  // Past the end, the last row is read again and its sum is not stored.
  long long row[kRowsPerWarp];
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) row[r] = min_of(first_row + r, rows - 1);

  const float* x_row[kXColumns];
#pragma unroll
  for (int j = 0; j < kXColumns; ++j) x_row[j] = x + min_of(j, n - 1) * kCols;

  float sum[kRowsPerWarp][kXColumns] = {};
#pragma unroll 2
  for (int col = lane * kRun; col < kCols; col += kWarpThreads * kRun) {
    float weight[kRowsPerWarp][kRun];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      decode_run(w + row[r] * kRowBytes, col, weight[r]);
    } // r: rows of this warp
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      float activation[kRun];
      load_run_f32((const unsigned char*)(x_row[j] + col), activation);
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
        for (int i = 0; i < kRun; ++i) sum[r][j] += weight[r][i] * activation[i];
      } // r: rows of this warp
    } // j: rows of x
  } // col: runs of this lane

#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
#pragma unroll
    for (int j = 0; j < kXColumns; ++j) {
      const float total = warp_sum(sum[r][j]);
      if (lane == 0 && j < n && first_row + r < rows) {
        store_element(y + j * rows + first_row + r, total);
      }
    } // j: rows of x
  } // r: rows of this warp
}
