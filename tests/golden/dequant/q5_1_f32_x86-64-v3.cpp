// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_q5_1_y_f32_c512, emitter version 7
//   w        in   q5_1  [rows, 512]  row-major, blocks of 32 elements in 24 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 384;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 32;              // elements of one block
constexpr int kBlockBytes = 24;              // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

typedef short S16Run __attribute__((vector_size(2 * kRun)));

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// The run of 16 nibbles from element `first`, 0 or 16, of a block of 32: the low ones of 16 bytes, or the high ones.
static inline U8Run nibbles(const unsigned char* at, int first) {
  const U8Run packed = load<U8Run>(at);
  return first == 0 ? packed & 15 : packed >> 4;
}

// Bits 0 to 15, each as bit 4 of an element.
static inline U16Run fifth_bits(unsigned bits) {
  const U16Run bit = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  return (U16Run)((((U16Run){} + (unsigned short)bits) & bit) != 0) & 16;
}

// q5_1: 24 bytes for 32 elements: d f16, m f16, 4 bytes of fifth bits, that of element i at bit i, then the low
// 4 bits as in q4_1. value = d * q + m.
struct Block {
  const unsigned char* codes;
  unsigned fifth;
  float d;
  float m;
};

static inline Block open_block(const unsigned char* at) {
  return {at + 8, load<unsigned>(at + 4), f16_to_f32(load<unsigned short>(at)),
          f16_to_f32(load<unsigned short>(at + 2))};
}

static inline F32Run decode_run(const Block& block, int first) {
  const U16Run low = __builtin_convertvector(nibbles(block.codes, first), U16Run);
  const S16Run q = (S16Run)(low | fifth_bits(block.fifth >> first));
  return __builtin_convertvector(q, F32Run) * block.d + block.m;
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
dequant_q5_1_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
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
