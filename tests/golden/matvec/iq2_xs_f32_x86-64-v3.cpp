// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec.cpp.in.
//   kernel   matvec_iq2_xs_x_f32_c512_n1, emitter version 7
//   w        in   iq2_xs  [rows, 512]  row-major, blocks of 256 elements in 74 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: entries of a codebook, read through the cache, times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w, and of each row of x
constexpr int kRowBytes = 148;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 74;              // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row
constexpr int kChains = 2;                   // sums that take turns for each row of x
constexpr int kXColumns = 1;                 // rows of x that a launch can use

// The codebook of iq2_xs: 512 entries of 8 elements, the code of element i in the 2 bits from 4 (i % 4) + 2 (i / 4) up.
// Data of ggml: Copyright (c) 2023-2026 The ggml authors, MIT licence.
static constexpr signed char kLevels[8] = {8, 25, 43, 0, 0, 0, 0, 0};
static constexpr unsigned short kCodebook[512] = {
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

// iq2_xs: 74 bytes for 256 elements: d f16, then 2 bytes for each 8 elements: 9 bits of entry and seven signs,
// then 8 bytes with a scale of 4 bits for each 16 elements. value = d * (2 scale + 1) / 8 * level.
struct Block {
  const unsigned char* codes;
  const unsigned char* scales;
  float d;
};

static inline Block open_block(const unsigned char* at) {
  return {at + 2, at + 66, f16_to_f32(load<unsigned short>(at))};
}

static inline F32Run decode_run(const Block& block, int first) {
  const unsigned codes = load<unsigned>(block.codes + first / 4);
  const unsigned signs = with_eighth_sign(codes >> 9 & 127u) | with_eighth_sign(codes >> 25) << 8;
  const int scale = block.scales[first / 32] >> first / 16 % 2 * 4 & 15;
  const S8Run levels = levels_of(codes & 511u, codes >> 16 & 511u);
  return scaled_with_signs(levels, signs, block.d * 0.125f * (float)(2 * scale + 1));
}

static inline F32Run multiply_add(F32Run a, F32Run b, F32Run c) { return __builtin_elementwise_fma(a, b, c); }

static inline float sum_of(F32Run value) {
  float part[kRun];
  __builtin_memcpy(part, &value, sizeof(part));
#pragma unroll
  for (int width = kRun / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  } // width: sums left
  return part[0];
}

static inline F32Run load_x(const float* at) { return load<F32Run>(at); }

struct Arguments {
  const unsigned char* w;
  const float* x;
  float* y;
  long long rows;
  long long n;
};

extern "C" __attribute__((visibility("default"))) void
matvec_iq2_xs_x_f32_c512_n1(const Arguments* arguments, long long row_begin, long long row_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  const float* x_row[kXColumns];
  for (int j = 0; j < kXColumns; ++j) x_row[j] = arguments->x + (j < n ? j : n - 1) * kCols;

  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    F32Run sum[kChains][kXColumns] = {};
    for (int b = 0; b < kBlocks; ++b) {
      const Block block = open_block(w_row + b * kBlockBytes);
#pragma unroll 2
      for (int first = 0; first < kBlockElems; first += kRun) {
        const int at = b * kBlockElems + first;
        const F32Run weight = decode_run(block, first);
        F32Run* chain = sum[at / kRun % kChains];
#pragma unroll
        for (int j = 0; j < kXColumns; ++j) {
          chain[j] = multiply_add(weight, load_x(x_row[j] + at), chain[j]);
        } // j: rows of x
      } // first: runs of this block
    } // b: blocks of this row
    float total[kXColumns];
    for (int j = 0; j < kXColumns; ++j) {
      F32Run all_chains = sum[0][j];
      for (int chain = 1; chain < kChains; ++chain) all_chains += sum[chain][j];
      total[j] = sum_of(all_chains);
    } // j: rows of x
    for (int j = 0; j < kXColumns; ++j) {
      if (j < n) arguments->y[j * rows + row] = total[j];
    } // j: rows of x
  } // row: rows of this call
}
