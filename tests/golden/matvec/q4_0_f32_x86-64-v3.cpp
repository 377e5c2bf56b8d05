// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec.cpp.in.
//   kernel   matvec_q4_0_x_f32_c512_n1, emitter version 7
//   w        in   q4_0  [rows, 512]  row-major, blocks of 32 elements in 18 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = sum over c of decode(w)[r, c] * f32(x[j, c]), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w, and of each row of x
constexpr int kRowBytes = 288;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 32;              // elements of one block
constexpr int kBlockBytes = 18;              // bytes of one block
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

static inline float f16_to_f32(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }

// q4_0: 18 bytes for 32 elements: d f16, then 16 bytes; elements 0 to 15 are the low nibbles, 16 to 31
// the high ones. value = d * (q - 8).
struct Block {
  const unsigned char* codes;
  float d;
};

static inline Block open_block(const unsigned char* at) { return {at + 2, f16_to_f32(load<unsigned short>(at))}; }

static inline F32Run decode_run(const Block& block, int first) {
  const U8Run packed = load<U8Run>(block.codes);
  const S8Run q = (S8Run)(first == 0 ? packed & 15 : packed >> 4) - 8;
  return __builtin_convertvector(q, F32Run) * block.d;
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

struct Arguments {
  const unsigned char* w;
  const float* x;
  float* y;
  long long rows;
  long long n;
};

extern "C" __attribute__((visibility("default"))) void
matvec_q4_0_x_f32_c512_n1(const Arguments* arguments, long long row_begin, long long row_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  const float* x_row[kXColumns];
  for (int j = 0; j < kXColumns; ++j) x_row[j] = arguments->x + (j < n ? j : n - 1) * kCols;

  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
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
    float total[kXColumns];
    for (int j = 0; j < kXColumns; ++j) {
      F32Run all_chains = sum[0][j];
      for (int chain = 1; chain < kChains; ++chain) all_chains += sum[chain][j];
      total[j] = sum_of(all_chains);
    } // j: rows of x
    for (int j = 0; j < kXColumns; ++j) {
      if (j < n) arguments->y[j * rows + row] = total[j];
    } // j: rows of x
  } // row: rows of this call
}
