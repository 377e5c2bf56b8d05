// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec.cpp.in.
//   kernel   matvec_ggml_nvfp4_x_f32_c512_n1, emitter version 7
//   w        in   ggml_nvfp4  [rows, 512]  row-major, blocks of 64 elements in 36 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w, and of each row of x
constexpr int kRowBytes = 288;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 64;              // elements of one block
constexpr int kBlockBytes = 36;              // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row
constexpr int kChains = 2;                   // sums that take turns for each row of x
constexpr int kXColumns = 1;                 // rows of x that a launch can use

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

// For each code, below 16, the number of the table.
static inline S8Run look_up_16(S8Run table, U8Run codes) {
  typedef char CharRun __attribute__((vector_size(kRun)));
  return (S8Run)__builtin_ia32_pshufb128((CharRun)table, (CharRun)codes);
}

// Twice the values of e2m1; code 8 is +0, as in ggml.
static inline F32Run doubled_e2m1(U8Run codes) {
  const S8Run doubled = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  return __builtin_convertvector(look_up_16(doubled, codes), F32Run);
}

// ggml_nvfp4: 36 bytes for 64 elements: 4 scales, one per 16 elements, then 8 bytes of codes for each of these;
// elements 0 to 7 of 16 are the low nibbles, 8 to 15 the high ones. value = doubled e2m1 * (scale / 2). A scale is
// an e4m3 whose sign doesn't count; 0x7f is 0, and 0xff the number 480. Its 7 bits, moved to bit 20, read as an f32
// that is 2^-120 too small, subnormals too.
struct Block {
  const unsigned char* codes;
  float half_scale[4];
};

static inline Block open_block(const unsigned char* at) {
  Block block = {at + 4, {}};
  for (int group = 0; group < 4; ++group) {
    const unsigned code = at[group];
    const float half_scale = __builtin_bit_cast(float, (code & 0x7fu) << 20) * 0x1p+119f;
    block.half_scale[group] = code == 0x7fu ? 0.0f : half_scale;
  } // group: of 16 elements
  return block;
}

static inline F32Run decode_run(const Block& block, int first) {
  typedef unsigned char U8x8 __attribute__((vector_size(8)));
  const int group = first / 16;
  const U8x8 packed = load<U8x8>(block.codes + 8 * group);
  const U8x8 low = packed & 15, high = packed >> 4;
  const U8Run codes = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return doubled_e2m1(codes) * block.half_scale[group];
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
matvec_ggml_nvfp4_x_f32_c512_n1(const Arguments* arguments, long long row_begin, long long row_end) {
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
