// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec.cpp.in.
//   kernel   matvec_iq3_xxs_x_f32_c512_n1, emitter version 7
//   w        in   iq3_xxs  [rows, 512]  row-major, blocks of 256 elements in 98 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: entries of a codebook, read through the cache, times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w, and of each row of x
constexpr int kRowBytes = 196;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 98;              // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row
constexpr int kChains = 2;                   // sums that take turns for each row of x
constexpr int kXColumns = 1;                 // rows of x that a launch can use

// The codebook of iq3_xxs: 256 entries of 4 elements, the code of element i in the 3 bits from 4 i up.
// Data of ggml: Copyright (c) 2023-2026 The ggml authors, MIT licence.
static constexpr signed char kLevels[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static constexpr unsigned short kCodebook[256] = {
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

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

// The codebook with a byte an element.
struct EntriesOf4 {
  unsigned entry[sizeof(kCodebook) / sizeof(kCodebook[0])];
};

static constexpr EntriesOf4 make_entries() {
  EntriesOf4 entries = {};
  for (unsigned e = 0; e < sizeof(kCodebook) / sizeof(kCodebook[0]); ++e) {
    for (int i = 0; i < 4; ++i) entries.entry[e] |= (unsigned)kLevels[kCodebook[e] >> 4 * i & 7] << 8 * i;
  } // e: entries
  return entries;
}

static constexpr EntriesOf4 kEntries = make_entries();

typedef unsigned U32x4 __attribute__((vector_size(16)));
static inline S8Run levels_of(unsigned first, unsigned second, unsigned third, unsigned fourth) {
  return (S8Run)(U32x4){kEntries.entry[first], kEntries.entry[second], kEntries.entry[third], kEntries.entry[fourth]};
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

// iq3_xxs: 98 bytes for 256 elements: d f16, for each 4 elements a byte of entry (64 bytes), for each 32 a word
// with four times seven signs and, in its top 4 bits, the scale. value = d * (2 scale + 1) / 4 * level.
struct Block {
  const unsigned char* entries;
  const unsigned char* signs_and_scales;
  float d;
};

static inline Block open_block(const unsigned char* at) {
  return {at + 2, at + 66, f16_to_f32(load<unsigned short>(at))};
}

static inline F32Run decode_run(const Block& block, int first) {
  const unsigned char* entry = block.entries + first / 4;
  const unsigned signs_and_scale = load<unsigned>(block.signs_and_scales + first / 32 * 4);
  const unsigned pair = signs_and_scale >> first % 32 / 8 * 7;
  const unsigned signs = with_eighth_sign(pair & 127u) | with_eighth_sign(pair >> 7 & 127u) << 8;
  const float scale = block.d * 0.25f * (float)(int)(2u * (signs_and_scale >> 28) + 1u);
  return scaled_with_signs(levels_of(entry[0], entry[1], entry[2], entry[3]), signs, scale);
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
matvec_iq3_xxs_x_f32_c512_n1(const Arguments* arguments, long long row_begin, long long row_end) {
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
