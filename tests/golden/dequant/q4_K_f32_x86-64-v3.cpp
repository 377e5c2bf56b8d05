// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_q4_K_y_f32_c512, emitter version 7
//   w        in   q4_K  [rows, 512]  row-major, blocks of 256 elements in 144 bytes
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w and y
constexpr int kRowBytes = 288;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 144;             // bytes of one block
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

// Scales and minima of the eight sub-blocks (32 elements each) of a q4_K or q5_K block, which begins with
// d f16, dmin f16 and 12 bytes that pack eight 6-bit scales and eight 6-bit minima: sub-blocks 0 to 3 in
// the low 6 bits of bytes 0 to 3 and 4 to 7; of sub-blocks 4 to 7 the low 4 bits in bytes 8 to 11 (scale
// low nibble, minimum high nibble) and the top 2 bits above the others'.
struct ScaleMin {
  float scale[8];
  float minimum[8];
};

static inline ScaleMin load_scale_min(const unsigned char* at) {
  const float d = f16_to_f32(load<unsigned short>(at));
  const float dmin = f16_to_f32(load<unsigned short>(at + 2));
  const unsigned first = load<unsigned>(at + 4);
  const unsigned second = load<unsigned>(at + 8);
  const unsigned third = load<unsigned>(at + 12);
  // Four 6-bit numbers in each word, a byte apart.
  const unsigned scales[2] = {first & 0x3f3f3f3fu, (third & 0x0f0f0f0fu) | (first >> 6 & 0x03030303u) << 4};
  const unsigned minima[2] = {second & 0x3f3f3f3fu, (third >> 4 & 0x0f0f0f0fu) | (second >> 6 & 0x03030303u) << 4};
  ScaleMin result;
  for (int i = 0; i < 8; ++i) {
    result.scale[i] = d * (float)(scales[i / 4] >> 8 * (i % 4) & 63u);
    result.minimum[i] = dmin * (float)(minima[i / 4] >> 8 * (i % 4) & 63u);
  } // i: sub-blocks
  return result;
}

// q4_K: 144 bytes for 256 elements: 16 bytes of scales (see ScaleMin), then 4 chunks of 32 bytes; a chunk's
// low nibbles are its first 32 elements, the high nibbles the next 32. value = scale * q - minimum.
struct Block {
  const unsigned char* codes;
  ScaleMin s;
};

static inline Block open_block(const unsigned char* at) { return {at + 16, load_scale_min(at)}; }

static inline F32Run decode_run(const Block& block, int first) {
  const int sub_block = first / 32;
  const U8Run packed = load<U8Run>(block.codes + sub_block / 2 * 32 + first % 32);
  const U32Run q = __builtin_convertvector(packed, U32Run) >> 4 * (sub_block % 2) & 15;
  return __builtin_convertvector((S32Run)q, F32Run) * block.s.scale[sub_block] - block.s.minimum[sub_block];
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
dequant_q4_K_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
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
