// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_ggml_mxfp4_y_f32_c512, emitter version 7
//   w        in   ggml_mxfp4  [rows, 512]  row-major, blocks of 32 elements in 17 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 272;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 32;              // elements of one block
constexpr int kBlockBytes = 17;              // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

// The run of 16 nibbles from element `first`, 0 or 16, of a block of 32: the low ones of 16 bytes, or the high ones.
static inline U8Run nibbles(const unsigned char* at, int first) {
  const U8Run packed = load<U8Run>(at);
  return first == 0 ? packed & 15 : packed >> 4;
}

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

// ggml_mxfp4: 17 bytes for 32 elements: a byte e, then 16 bytes of codes; elements 0 to 15 are the low nibbles, 16
// to 31 the high ones. value = doubled e2m1 * 2^(e - 128), a subnormal scale for e below 2; 255 is no NaN.
struct Block {
  const unsigned char* codes;
  float half_scale;
};

static inline Block open_block(const unsigned char* at) {
  const unsigned e = at[0];
  return {at + 1, __builtin_bit_cast(float, e < 2 ? 0x00200000u << e : (e - 1) << 23)};
}

static inline F32Run decode_run(const Block& block, int first) {
  return doubled_e2m1(nibbles(block.codes, first)) * block.half_scale;
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
dequant_ggml_mxfp4_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
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
