// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec_fused.cpp.in.
//   kernel   matvec_q6_K_x_f32_y_bf16_residual_bf16_c512_n1, emitter version 7
//   w        in   q6_K  [rows, 512]  row-major, blocks of 256 elements in 210 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   residual in   bf16  [n, rows]  row-major, may be y
//   y        out  bf16  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]) + residual[j, r], products and sums in f32, then rounded once to bf16, to nearest even
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w, and of each row of x
constexpr int kRowBytes = 420;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 256;             // elements of one block
constexpr int kBlockBytes = 210;             // bytes of one block
constexpr int kBlocks = kCols / kBlockElems; // blocks of one row
constexpr int kChains = 2;                   // sums that take turns for each row of x
constexpr int kXColumns = 1;                 // rows of x that a launch can use

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

// To nearest even; a NaN stays one.
static inline U16Run f32_run_to_bf16(F32Run value) {
  const U32Run bits = (U32Run)value;
  const U32Run rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U32Run chosen = ((bits & 0x7fffffffu) > 0x7f800000u) ? (bits | 0x00400000u) : rounded;
  return __builtin_convertvector(chosen >> 16, U16Run);
}

static inline unsigned short f32_to_bf16(float value) { return f32_run_to_bf16((F32Run){value})[0]; }

static inline float bf16_to_f32(unsigned short bits) { return __builtin_bit_cast(float, (unsigned)bits << 16); }

struct Arguments {
  const unsigned char* w;
  const float* x;
  const unsigned short* residual;
  unsigned short* y;
  long long rows;
  long long n;
};

// One row of weights times each row of x.
static inline void multiply_row(const unsigned char* w, long long row, const float* const* x_row, float* total) {
  const unsigned char* w_row = w + row * kRowBytes;
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
  for (int j = 0; j < kXColumns; ++j) {
    F32Run all_chains = sum[0][j];
    for (int chain = 1; chain < kChains; ++chain) all_chains += sum[chain][j];
    total[j] = sum_of(all_chains);
  } // j: rows of x
}

extern "C" __attribute__((visibility("default"))) void
matvec_q6_K_x_f32_y_bf16_residual_bf16_c512_n1(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    const long long row = tile;
    const unsigned char* w = arguments->w;
    unsigned short* y = arguments->y;
    const float* x_row[kXColumns];
    for (int j = 0; j < kXColumns; ++j) x_row[j] = arguments->x + (j < n ? j : n - 1) * kCols;
    float total[kXColumns];
    multiply_row(w, row, x_row, total);
    for (int j = 0; j < kXColumns; ++j) {
      if (j < n) y[j * rows + row] = f32_to_bf16(total[j] + bf16_to_f32(arguments->residual[j * rows + row]));
    } // j: rows of x
  } // tile: rows of this call
}
