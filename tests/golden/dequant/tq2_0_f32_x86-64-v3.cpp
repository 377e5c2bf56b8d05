// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_tq2_0_y_f32_c512, emitter version 7
//   w        in   tq2_0  [rows, 512]  row-major, blocks of 256 elements in 66 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 132;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 66;              // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

// The run of codes from element `first` of 256: each half of 128 elements has 32 bytes, of which bits 2 g and
// 2 g + 1 are elements 32 g to 32 g + 31.
static inline U32Run two_bits(const unsigned char* at, int first) {
  const U8Run packed = load<U8Run>(at + first / 128 * 32 + first % 32);
  return __builtin_convertvector(packed, U32Run) >> first % 128 / 32 * 2 & 3;
}

// tq2_0: 66 bytes for 256 elements: 64 bytes of codes (see two_bits), d f16. value = d * (q - 1).
struct Block {
  const unsigned char* codes;
  float d;
};

static inline Block open_block(const unsigned char* at) { return {at, f16_to_f32(load<unsigned short>(at + 64))}; }

static inline F32Run decode_run(const Block& block, int first) {
  const S32Run q = (S32Run)two_bits(block.codes, first) - 1;
  return __builtin_convertvector(q, F32Run) * block.d;
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
dequant_tq2_0_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
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
