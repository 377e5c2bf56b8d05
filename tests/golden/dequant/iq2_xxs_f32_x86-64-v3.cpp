// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_iq2_xxs_y_f32_c512, emitter version 7
//   w        in   iq2_xxs  [rows, 512]  row-major, blocks of 256 elements in 66 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: entries of a codebook, read through the cache, times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 132;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 66;              // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row

// The codebook of iq2_xxs: 256 entries of 8 elements, the code of element i in the 2 bits from 4 (i % 4) + 2 (i / 4) up.
// Data of ggml: Copyright (c) 2023-2026 The ggml authors, MIT licence.
static constexpr signed char kLevels[8] = {8, 25, 43, 0, 0, 0, 0, 0};
static constexpr unsigned short kCodebook[256] = {
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

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

// The codebook with a byte an element.
struct EntriesOf8 {
  unsigned long long entry[sizeof(kCodebook) / sizeof(kCodebook[0])];
};

static constexpr EntriesOf8 make_entries() {
  EntriesOf8 entries = {};
  for (unsigned e = 0; e < sizeof(kCodebook) / sizeof(kCodebook[0]); ++e) {
    for (int i = 0; i < 8; ++i) {
      const unsigned char level = (unsigned char)kLevels[kCodebook[e] >> (4 * (i % 4) + 2 * (i / 4)) & 3];
      entries.entry[e] |= (unsigned long long)level << 8 * i;
    } // i: elements
  } // e: entries
  return entries;
}

static constexpr EntriesOf8 kEntries = make_entries();

typedef unsigned long long U64x2 __attribute__((vector_size(16)));
static inline S8Run levels_of(unsigned first, unsigned second) {
  return (S8Run)(U64x2){kEntries.entry[first], kEntries.entry[second]};
}

// Levels times scale, those negated whose bit of `signs` is set.
static inline F32Run scaled_with_signs(S8Run levels, unsigned signs, float scale) {
  const U32Run to_sign = {31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16};
  const F32Run magnitude = __builtin_convertvector(levels, F32Run) * scale;
  return (F32Run)((U32Run)magnitude ^ (((U32Run){} + signs) << to_sign & 0x80000000u));
}

// Seven signs and the eighth, which makes the number of set ones even.
static inline unsigned with_eighth_sign(unsigned seven) { return seven | (unsigned)__builtin_parity(seven) << 7; }

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// iq2_xxs: 66 bytes for 256 elements: d f16, then 8 bytes for each 32 elements: four entries, and a word with
// four times seven signs and, in its top 4 bits, the scale. value = d * (2 scale + 1) / 8 * level.
struct Block {
  const unsigned char* codes;
  float d;
};

static inline Block open_block(const unsigned char* at) { return {at + 2, f16_to_f32(load<unsigned short>(at))}; }

static inline F32Run decode_run(const Block& block, int first) {
  const unsigned char* group = block.codes + first / 32 * 8;
  const unsigned char* entry = group + first % 32 / 8;
  const unsigned signs_and_scale = load<unsigned>(group + 4);
  const unsigned pair = signs_and_scale >> first % 32 / 8 * 7;
  const unsigned signs = with_eighth_sign(pair & 127u) | with_eighth_sign(pair >> 7 & 127u) << 8;
  const float scale = block.d * 0.125f * (float)(int)(2u * (signs_and_scale >> 28) + 1u);
  return scaled_with_signs(levels_of(entry[0], entry[1]), signs, scale);
}

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

static inline void store_y(float* at, F32Run value) { store(at, value); }

struct Arguments {
  const unsigned char* w;
  float* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
dequant_iq2_xxs_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    float* y_row = arguments->y + row * kCols;
    for (int b = 0; b < kBlocks; ++b) {
      const Block block = open_block(w_row + b * kBlockBytes);
#pragma unroll 2
      for (int first = 0; first < kBlockElems; first += kRun) {
        const int at = b * kBlockElems + first;
        const F32Run weight = decode_run(block, first);
        store_y(y_row + at, weight);
      } // first: runs of this block
    } // b: blocks of this row
  } // row: rows of this call
}
