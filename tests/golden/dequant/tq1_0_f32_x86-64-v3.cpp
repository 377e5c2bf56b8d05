// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_tq1_0_y_f32_c512, emitter version 7
//   w        in   tq1_0  [rows, 512]  row-major, blocks of 256 elements in 54 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 108;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 54;              // bytes of one block
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

// tq1_0: 54 bytes for 256 elements: bytes of base-3 digits, each a number plus 1, then d f16. Digit n of bytes 0 to
// 31 are elements 32 n to 32 n + 31; that of bytes 32 to 47 the 16 elements from 160 + 16 n on; bytes 48 to 51
// hold four digits, n those of the 4 elements from 240 + 4 n on. The most significant digit is the first, and a
// byte a fraction of 256: times 3^n its lower 8 bits are what comes after the first n digits, times 3 the next bits
// are the digit. value = d * (digit - 1).
struct Block {
  const unsigned char* codes;
  float d;
};

static inline Block open_block(const unsigned char* at) { return {at, f16_to_f32(load<unsigned short>(at + 52))}; }

static inline F32Run decode_run(const Block& block, int first) {
  U8Run bytes;
  U16Run power; // 3^n
  if (first < 240) {
    const int digit = first < 160 ? first / 32 : (first - 160) / 16;
    bytes = load<U8Run>(block.codes + (first < 160 ? first % 32 : 32));
    power = (U16Run){} + (unsigned short)(0x511b090301ull >> 8 * digit & 255);
  } else {
    const unsigned last = load<unsigned>(block.codes + 48);
    const unsigned four_times[4] = {last, last, last, last};
    bytes = load<U8Run>(four_times);
    power = (U16Run){1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27};
  }
  const U16Run rest = __builtin_convertvector(bytes, U16Run) * power & 255;
  const S16Run digits = (S16Run)(rest * 3 >> 8) - 1;
  return __builtin_convertvector(digits, F32Run) * block.d;
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
dequant_tq1_0_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
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
