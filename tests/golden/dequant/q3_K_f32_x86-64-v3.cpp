// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_q3_K_y_f32_c512, emitter version 7
//   w        in   q3_K  [rows, 512]  row-major, blocks of 256 elements in 110 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 220;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 110;             // bytes of one block
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

// The run of codes from element `first` of 256: each half of 128 elements has 32 bytes, of which bits 2 g and
// 2 g + 1 are elements 32 g to 32 g + 31.
static inline U32Run two_bits(const unsigned char* at, int first) {
  const U8Run packed = load<U8Run>(at + first / 128 * 32 + first % 32);
  return __builtin_convertvector(packed, U32Run) >> first % 128 / 32 * 2 & 3;
}

// q3_K: 110 bytes for 256 elements: 32 bytes whose bit g is the third bit of elements 32 g to 32 g + 31, the low 2
// bits as in q2_K, 12 bytes of scales, d f16. The scales, one per 16 elements, are 6-bit numbers plus 32: the low
// 4 bits of scale s in byte s % 8 (in the high nibble from 8 on), the others in byte 8 + s % 4 from bit
// 2 (s / 4) on. value = (d * scale) * (q - 4).
struct Block {
  const unsigned char* third_bits;
  const unsigned char* codes;
  float scale[16];
};

static inline Block open_block(const unsigned char* at) {
  const unsigned long long low = load<unsigned long long>(at + 96);
  const unsigned high = load<unsigned>(at + 104);
  const unsigned long long low_bits[2] = {low & 0x0f0f0f0f0f0f0f0full, low >> 4 & 0x0f0f0f0f0f0f0f0full};
  const unsigned high_bits[4] = {high << 4 & 0x30303030u, high << 2 & 0x30303030u, high & 0x30303030u,
                                 high >> 2 & 0x30303030u};
  const S8Run scales = (S8Run)(load<U8Run>(low_bits) | load<U8Run>(high_bits)) - 32;
  const float d = f16_to_f32(load<unsigned short>(at + 108));
  Block block = {at, at + 32, {}};
  store(block.scale, __builtin_convertvector(scales, F32Run) * d);
  return block;
}

static inline F32Run decode_run(const Block& block, int first) {
  const U32Run third = __builtin_convertvector(load<U8Run>(block.third_bits + first % 32), U32Run) >> first / 32 & 1;
  const S32Run q = (S32Run)(two_bits(block.codes, first) | third << 2) - 4;
  return __builtin_convertvector(q, F32Run) * block.scale[first / 16];
}

static inline void store_y(float* at, F32Run value) { store(at, value); }

struct Arguments {
  const unsigned char* w;
  float* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
dequant_q3_K_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
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
