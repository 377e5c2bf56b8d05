// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/quantize.cpp.in.
//   kernel   quantize_q4_0_x_f32_c512, emitter version 7
//   x        in   f32  [rows, 512]  row-major
//   w        out  q4_0  [rows, 512]  row-major, blocks of 32 elements in 18 bytes
//   math     w = x as ggml's quantize_row_q4_0_ref has it, bit for bit
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software: ggml's reference quantiser, operation by operation
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;      // columns of x and w
constexpr int kRowBytes = 288;  // bytes of one row of w
constexpr int kRun = 16;        // consecutive elements encoded at a time
constexpr int kBlockBytes = 18; // bytes of one block

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

static inline F32Run load_x(const float* at) { return load<F32Run>(at); }

// The values of one block of 32.
constexpr int kBlockElems = 32;
struct BlockValues {
  float value[kBlockElems];
};

template <typename T>
static inline BlockValues load_block(const T* at) {
  BlockValues block;
  for (int i = 0; i < kBlockElems; i += kRun) {
    const F32Run run = load_x(at + i);
    __builtin_memcpy(block.value + i, &run, sizeof(run));
  } // i: runs of this block
  return block;
}

// Orders magnitudes as integers; a NaN is larger than infinity.
static inline unsigned magnitude_bits(float value) { return __builtin_bit_cast(unsigned, value) & 0x7fffffffu; }

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

static inline unsigned short f32_to_f16(float value) { return f32_run_to_f16((F32Run){value})[0]; }

static inline void store_scale(unsigned char* at, float d) {
  store(at, d != d ? (unsigned short)0x7e00 : f32_to_f16(d));
}

// x / d + 8 rounded to 0 to 15, halves up; 0 of what isn't a number or infinite.
static inline unsigned code_of(float value, float inverse) {
  const float shifted = value * inverse + 8.5f;
  const float number = shifted > 0.0f && shifted < 0x1p+30f ? shifted : 0.0f;
  const int code = (int)number;
  return (unsigned)(code < 15 ? code : 15);
}

// d, minus an eighth of the first value of the largest magnitude, as f16, then codes, two in a byte: that of
// value i in the low bits, that of value 16 + i above it. A NaN in the block makes d NaN.
static inline void quantize_block(const BlockValues& x, unsigned char* block) {
  float largest = 0.0f;
  for (int i = 0; i < kBlockElems; ++i)
    largest = magnitude_bits(x.value[i]) > magnitude_bits(largest) ? x.value[i] : largest;
  const float d = largest / -8.0f;
  const float inverse = d == 0.0f ? 0.0f : 1.0f / d;
  store_scale(block, d);
  for (int i = 0; i < kBlockElems / 2; ++i) {
    const unsigned low = code_of(x.value[i], inverse);
    const unsigned high = code_of(x.value[i + kBlockElems / 2], inverse);
    block[2 + i] = (unsigned char)(low | high << 4);
  } // i: values
}

struct Arguments {
  const float* x;
  unsigned char* w;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
quantize_q4_0_x_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    unsigned char* block = arguments->w + row * kRowBytes;
    for (long long at = 0; at < kCols; at += kBlockElems) {
      quantize_block(load_block(arguments->x + row * kCols + at), block);
      block += kBlockBytes;
    } // at: blocks of this row
  } // row: rows of this call
}
