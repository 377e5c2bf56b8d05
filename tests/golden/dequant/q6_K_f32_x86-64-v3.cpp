// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_q6_K_y_f32_c512, emitter version 7
//   w        in   q6_K  [rows, 512]  row-major, blocks of 256 elements in 210 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 420;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 210;             // bytes of one block
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

// Any alignment.
template <typename T>
static inline void store(void* at, T value) {
  __builtin_memcpy(at, &value, sizeof(T));
}

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// q6_K: 210 bytes for 256 elements: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed
// scales (one per 16 elements), d f16. Each half of 128 elements is four groups of 32: groups 0 and 1 are
// the low nibbles of bytes 0 to 31 and 32 to 63, groups 2 and 3 the high nibbles; the upper bits of group
// g are bits 2 g and 2 g + 1 of the 32 bytes. value = (d * scale) * (q - 32).
struct Block {
  const unsigned char* low;
  const unsigned char* high;
  float scale[16];
};

static inline Block open_block(const unsigned char* at) {
  const float d = f16_to_f32(load<unsigned short>(at + 208));
  Block block = {at, at + 128, {}};
  store(block.scale, __builtin_convertvector(load<S8Run>(at + 192), F32Run) * d);
  return block;
}

static inline F32Run decode_run(const Block& block, int first) {
  const int half = first / 128;
  const int group = first % 128 / 32;
  const U8Run low = load<U8Run>(block.low + half * 64 + group % 2 * 32 + first % 32);
  const U8Run high = load<U8Run>(block.high + half * 32 + first % 32);
  const U32Run low_bits = __builtin_convertvector(low, U32Run) >> 4 * (group / 2) & 15;
  const U32Run high_bits = __builtin_convertvector(high, U32Run) >> 2 * group & 3;
  const S32Run q = (S32Run)(low_bits | high_bits << 4) - 32;
  return __builtin_convertvector(q, F32Run) * block.scale[first / 16];
}

static inline void store_y(float* at, F32Run value) { store(at, value); }

struct Arguments {
  const unsigned char* w;
  float* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
dequant_q6_K_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
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
