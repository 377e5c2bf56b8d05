// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec.cpp.in.
//   kernel   matvec_iq3_s_x_f32_c512_n1, emitter version 7
//   w        in   iq3_s  [rows, 512]  row-major, blocks of 256 elements in 110 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: entries of a codebook, read through the cache, times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w, and of each row of x
constexpr int kRowBytes = 220;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 110;             // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row
constexpr int kChains = 2;                   // sums that take turns for each row of x
constexpr int kXColumns = 1;                 // rows of x that a launch can use

// The codebook of iq3_s: 512 entries of 4 elements, the code of element i in the 3 bits from 4 i up.
// Data of ggml: Copyright (c) 2023-2026 The ggml authors, MIT licence.
static constexpr signed char kLevels[8] = {1, 3, 5, 7, 9, 11, 13, 15};
static constexpr unsigned short kCodebook[512] = {
  0x0000, 0x0001, 0x0002, 0x0005, 0x0007, 0x0010, 0x0011, 0x0012, 0x0014, 0x0016, 0x0020, 0x0021,
  0x0025, 0x0033, 0x0040, 0x0042, 0x0045, 0x0047, 0x0051, 0x0053, 0x0060, 0x0062, 0x0071, 0x0074,
  0x0077, 0x0100, 0x0101, 0x0102, 0x0104, 0x0110, 0x0111, 0x0115, 0x0120, 0x0123, 0x0127, 0x0131,
  0x0135, 0x0144, 0x0161, 0x0165, 0x0172, 0x0200, 0x0201, 0x0205, 0x0207, 0x0210, 0x0213, 0x0216,
  0x0221, 0x0225, 0x0230, 0x0234, 0x0242, 0x0245, 0x0247, 0x0251, 0x0253, 0x0270, 0x0273, 0x0303,
  0x0311, 0x0315, 0x0320, 0x0322, 0x0331, 0x0333, 0x0336, 0x0344, 0x0350, 0x0352, 0x0367, 0x0371,
  0x0375, 0x0400, 0x0413, 0x0417, 0x0421, 0x0424, 0x0432, 0x0440, 0x0443, 0x0451, 0x0470, 0x0502,
  0x0504, 0x0520, 0x0522, 0x0526, 0x0533, 0x0541, 0x0545, 0x0547, 0x0566, 0x0573, 0x0606, 0x0611,
  0x0613, 0x0631, 0x0652, 0x0671, 0x0700, 0x0702, 0x0704, 0x0720, 0x0722, 0x0726, 0x0733, 0x0750,
  0x0754, 0x1000, 0x1001, 0x1002, 0x1004, 0x1010, 0x1011, 0x1013, 0x1015, 0x1017, 0x1020, 0x1022,
  0x1031, 0x1034, 0x1036, 0x1054, 0x1056, 0x1061, 0x1072, 0x1100, 0x1101, 0x1103, 0x1106, 0x1110,
  0x1114, 0x1121, 0x1130, 0x1133, 0x1141, 0x1150, 0x1152, 0x1170, 0x1176, 0x1200, 0x1212, 0x1215,
  0x1217, 0x1220, 0x1224, 0x1232, 0x1240, 0x1243, 0x1255, 0x1260, 0x1272, 0x1301, 0x1304, 0x1307,
  0x1310, 0x1313, 0x1321, 0x1327, 0x1330, 0x1334, 0x1341, 0x1362, 0x1370, 0x1403, 0x1405, 0x1412,
  0x1414, 0x1431, 0x1433, 0x1442, 0x1446, 0x1450, 0x1454, 0x1501, 0x1510, 0x1513, 0x1521, 0x1530,
  0x1532, 0x1551, 0x1620, 0x1624, 0x1627, 0x1644, 0x1646, 0x1701, 0x1703, 0x1710, 0x1712, 0x1721,
  0x1735, 0x1741, 0x1762, 0x1770, 0x2000, 0x2001, 0x2003, 0x2005, 0x2007, 0x2010, 0x2012, 0x2014,
  0x2016, 0x2021, 0x2023, 0x2027, 0x2030, 0x2032, 0x2041, 0x2043, 0x2045, 0x2050, 0x2052, 0x2067,
  0x2070, 0x2073, 0x2075, 0x2100, 0x2102, 0x2110, 0x2113, 0x2117, 0x2122, 0x2125, 0x2131, 0x2134,
  0x2142, 0x2151, 0x2201, 0x2204, 0x2207, 0x2221, 0x2223, 0x2230, 0x2237, 0x2241, 0x2253, 0x2257,
  0x2271, 0x2274, 0x2300, 0x2302, 0x2305, 0x2311, 0x2322, 0x2324, 0x2331, 0x2333, 0x2342, 0x2350,
  0x2366, 0x2401, 0x2407, 0x2420, 0x2423, 0x2432, 0x2435, 0x2441, 0x2472, 0x2475, 0x2504, 0x2511,
  0x2522, 0x2537, 0x2540, 0x2553, 0x2570, 0x2600, 0x2602, 0x2607, 0x2621, 0x2655, 0x2661, 0x2705,
  0x2711, 0x2726, 0x2730, 0x2743, 0x2750, 0x3002, 0x3011, 0x3013, 0x3015, 0x3017, 0x3022, 0x3031,
  0x3033, 0x3035, 0x3042, 0x3044, 0x3047, 0x3051, 0x3063, 0x3071, 0x3101, 0x3103, 0x3105, 0x3114,
  0x3121, 0x3123, 0x3140, 0x3160, 0x3172, 0x3176, 0x3200, 0x3212, 0x3220, 0x3232, 0x3234, 0x3250,
  0x3301, 0x3310, 0x3314, 0x3321, 0x3323, 0x3327, 0x3330, 0x3341, 0x3343, 0x3347, 0x3355, 0x3373,
  0x3403, 0x3411, 0x3416, 0x3422, 0x3431, 0x3452, 0x3460, 0x3464, 0x3501, 0x3510, 0x3512, 0x3525,
  0x3532, 0x3544, 0x3556, 0x3573, 0x3616, 0x3641, 0x3701, 0x3703, 0x3720, 0x3722, 0x3735, 0x4000,
  0x4004, 0x4012, 0x4020, 0x4024, 0x4027, 0x4032, 0x4041, 0x4050, 0x4070, 0x4102, 0x4107, 0x4111,
  0x4113, 0x4122, 0x4130, 0x4135, 0x4143, 0x4151, 0x4155, 0x4201, 0x4203, 0x4210, 0x4215, 0x4221,
  0x4233, 0x4240, 0x4257, 0x4262, 0x4270, 0x4304, 0x4311, 0x4313, 0x4320, 0x4322, 0x4331, 0x4335,
  0x4400, 0x4402, 0x4424, 0x4437, 0x4440, 0x4471, 0x4505, 0x4507, 0x4521, 0x4562, 0x4613, 0x4634,
  0x4660, 0x4710, 0x4715, 0x4730, 0x4743, 0x4751, 0x5002, 0x5010, 0x5014, 0x5022, 0x5040, 0x5044,
  0x5047, 0x5052, 0x5066, 0x5074, 0x5101, 0x5103, 0x5105, 0x5112, 0x5121, 0x5132, 0x5172, 0x5200,
  0x5211, 0x5223, 0x5230, 0x5236, 0x5253, 0x5302, 0x5307, 0x5310, 0x5327, 0x5344, 0x5351, 0x5365,
  0x5373, 0x5401, 0x5404, 0x5420, 0x5432, 0x5446, 0x5512, 0x5526, 0x5551, 0x5553, 0x5642, 0x5702,
  0x5704, 0x5722, 0x6011, 0x6013, 0x6015, 0x6031, 0x6033, 0x6060, 0x6100, 0x6120, 0x6127, 0x6164,
  0x6212, 0x6234, 0x6242, 0x6255, 0x6262, 0x6270, 0x6300, 0x6314, 0x6321, 0x6340, 0x6425, 0x6443,
  0x6462, 0x6500, 0x6503, 0x6534, 0x6560, 0x6605, 0x6640, 0x6711, 0x6713, 0x7000, 0x7004, 0x7007,
  0x7020, 0x7022, 0x7036, 0x7040, 0x7054, 0x7062, 0x7102, 0x7111, 0x7124, 0x7143, 0x7145, 0x7201,
  0x7204, 0x7210, 0x7216, 0x7221, 0x7230, 0x7251, 0x7302, 0x7332, 0x7335, 0x7353, 0x7401, 0x7405,
  0x7413, 0x7420, 0x7450, 0x7522, 0x7542, 0x7602, 0x7631, 0x7700,
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

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// iq3_s: 110 bytes for 256 elements: d f16, for each 4 elements a byte of entry (64 bytes), for each 32 the ninth
// bits of eight entries (8), for each 8 a byte of signs (32), for each 32 a scale of 4 bits (4).
// value = d * (2 scale + 1) * level.
struct Block {
  const unsigned char* at;
  float d;
};

static inline Block open_block(const unsigned char* at) { return {at, f16_to_f32(load<unsigned short>(at))}; }

static inline F32Run decode_run(const Block& block, int first) {
  const unsigned char* entry = block.at + 2 + first / 4;
  const unsigned ninth = (unsigned)block.at[66 + first / 32] >> first / 16 % 2 * 4;
  const unsigned signs = load<unsigned short>(block.at + 74 + first / 8);
  const int scale = block.at[106 + first / 64] >> first / 32 % 2 * 4 & 15;
  const S8Run levels = levels_of(entry[0] | (ninth << 8 & 256u), entry[1] | (ninth << 7 & 256u),
                                 entry[2] | (ninth << 6 & 256u), entry[3] | (ninth << 5 & 256u));
  return scaled_with_signs(levels, signs, block.d * (float)(2 * scale + 1));
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
matvec_iq3_s_x_f32_c512_n1(const Arguments* arguments, long long row_begin, long long row_end) {
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
