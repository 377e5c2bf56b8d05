// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_q8_0_y_f16_c512, emitter version 7
//   w        in   q8_0  [rows, 512]  row-major, blocks of 32 elements in 34 bytes
//   y        out  f16  [rows, 512]  row-major
//   math     y = decode(w), then rounded once to f16, to nearest even
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 544;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 32;              // elements of one block
constexpr int kBlockBytes = 34;              // bytes of one block
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

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// q8_0: 34 bytes for 32 elements: d f16, then 32 signed bytes. value = d * q.
struct Block {
  const unsigned char* codes;
  float d;
};

static inline Block open_block(const unsigned char* at) { return {at + 2, f16_to_f32(load<unsigned short>(at))}; }

static inline F32Run decode_run(const Block& block, int first) {
  return __builtin_convertvector(load<S8Run>(block.codes + first), F32Run) * block.d;
}

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

// To nearest even; overflow gives infinity.
typedef _Float16 F16OutRun __attribute__((vector_size(2 * kRun)));
static inline U16Run f32_run_to_f16(F32Run value) {
  return __builtin_bit_cast(U16Run, __builtin_convertvector(value, F16OutRun));
}

static inline void store_y(unsigned short* at, F32Run value) { store(at, f32_run_to_f16(value)); }

struct Arguments {
  const unsigned char* w;
  unsigned short* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
dequant_q8_0_y_f16_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    unsigned short* y_row = arguments->y + row * kCols;
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
