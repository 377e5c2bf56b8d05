// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/matvec_fused.cpp.in.
//   kernel   matvec_q8_0_x_f32_gate_gelu_tanh_c512_n1, emitter version 7
//   w_gate   in   q8_0  [rows, 512]  row-major, blocks of 32 elements in 34 bytes
//   w_up     in   q8_0  [rows, 512]  row-major, blocks of 32 elements in 34 bytes
//   x        in   f32  [n, 512]  row-major, 1 <= n <= 1
//   y        out  f32  [n, rows]  row-major
//   math     y[j, r] = gelu_tanh(sum over c of decode(w_gate)[r, c] * f32(x[j, c])) * (sum over c of decode(w_up)[r, c] * f32(x[j, c])), products and sums in f32
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): software, exact: integers times the block's scale
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;                   // columns of w, and of each row of x
constexpr int kRowBytes = 544;               // bytes of one row of w
constexpr int kRun = 16;                     // consecutive elements decoded at a time
constexpr int kBlockElems = 32;              // elements of one block
constexpr int kBlockBytes = 34;              // bytes of one block
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

// q8_0: 34 bytes for 32 elements: d f16, then 32 signed bytes. value = d * q.
struct Block {
  const unsigned char* codes;
  float d;
};

static inline Block open_block(const unsigned char* at) { return {at + 2, f16_to_f32(load<unsigned short>(at))}; }

static inline F32Run decode_run(const Block& block, int first) {
  return __builtin_convertvector(load<S8Run>(block.codes + first), F32Run) * block.d;
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

// exp(-a) for a >= 0, with a relative error below 2^-22 (below 2^-149 absolute where the result is subnormal);
// 0 from 104 on and for NaN. exp(-a) = 2^-n exp(r), n the integer nearest to a / ln 2, |r| < 0.35; the
// series' remainder there is below 2^-27.
static inline float exp_of_negative(float a) {
  const float limited = a < 104.0f ? a : 104.0f; // exp(-104) rounds to 0
  const int n = (int)(limited * 0x1.715476p+0f + 0.5f);
  // ln 2 in two parts: n times the first, of 9 bits, is exact.
  const float r = ((float)n * 0x1.63p-1f - limited) + (float)n * -0x1.bd0106p-13f;
  float series = 1.0f / 5040.0f;
  series = series * r + 1.0f / 720.0f;
  series = series * r + 1.0f / 120.0f;
  series = series * r + 1.0f / 24.0f;
  series = series * r + 1.0f / 6.0f;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  // 2^-n in two factors, for subnormal results.
  const float first = __builtin_bit_cast(float, (unsigned)(127 - n / 2) << 23);
  const float second = __builtin_bit_cast(float, (unsigned)(127 - (n - n / 2)) << 23);
  return series * first * second;
}

// 1 / (1 + exp(-z)), without overflow; 0 or 1 for NaN, which its factor brings back.
static inline float sigmoid(float z) {
  const float small = exp_of_negative(z < 0.0f ? -z : z);
  return (z >= 0.0f ? 1.0f : small) / (1.0f + small);
}

// g / 2 * (1 + tanh(u)) = g / (1 + exp(-2 u)), u = sqrt(2 / pi) * (g + 0.044715 g^3), within 2^-21 of |g|.
static inline float activate(float g) {
  const float twice_u = 0x1.988454p+0f * (g + 0.044715f * g * g * g);
  return g * sigmoid(twice_u);
}

struct Arguments {
  const unsigned char* w_gate;
  const unsigned char* w_up;
  const float* x;
  float* y;
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
matvec_q8_0_x_f32_gate_gelu_tanh_c512_n1(const Arguments* arguments, long long tile_begin, long long tile_end) {
  const long long rows = arguments->rows;
  const long long n = arguments->n;
  for (long long tile = tile_begin; tile < tile_end; ++tile) {
    const long long row = tile;
    const unsigned char* w_gate = arguments->w_gate;
    const unsigned char* w_up = arguments->w_up;
    float* y = arguments->y;
    const float* x_row[kXColumns];
    for (int j = 0; j < kXColumns; ++j) x_row[j] = arguments->x + (j < n ? j : n - 1) * kCols;
    float total_gate[kXColumns];
    multiply_row(w_gate, row, x_row, total_gate);
    float total_up[kXColumns];
    multiply_row(w_up, row, x_row, total_up);
    for (int j = 0; j < kXColumns; ++j) {
      if (j < n) y[j * rows + row] = activate(total_gate[j]) * total_up[j];
    } // j: rows of x
  } // tile: rows of this call
}
