// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/dequant.cpp.in.
//   kernel   dequant_bf16_y_f32_c512, emitter version 7
//   w        in   bf16  [rows, 512]  row-major
//   y        out  f32  [rows, 512]  row-major
//   math     y = decode(w), as the format defines it
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): native
//   launch   ranges of rows, in parallel

constexpr int kCols = 512;      // columns of w and y
constexpr int kRowBytes = 1024; // bytes of one row of w
constexpr int kRun = 16;        // consecutive elements decoded at a time

// Any alignment.
template <typename T>
static inline T load(const void* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof(T));
  return value;
}

// kRun elements side by side; the compiler cuts them to the registers that this CPU has.
typedef float F32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned U32Run __attribute__((vector_size(4 * kRun)));
typedef int S32Run __attribute__((vector_size(4 * kRun)));
typedef unsigned short U16Run __attribute__((vector_size(2 * kRun)));
typedef unsigned char U8Run __attribute__((vector_size(kRun)));
typedef signed char S8Run __attribute__((vector_size(kRun)));

static inline F32Run bf16_run_to_f32(U16Run bits) { return (F32Run)(__builtin_convertvector(bits, U32Run) << 16); }

static inline F32Run decode_run(const unsigned char* row, long long col) {
  return bf16_run_to_f32(load<U16Run>(row + 2 * col));
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
dequant_bf16_y_f32_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* w_row = arguments->w + row * kRowBytes;
    float* y_row = arguments->y + row * kCols;
#pragma unroll 2
    for (int at = 0; at + kRun <= kCols; at += kRun) {
      const F32Run weight = decode_run(w_row, at);
      store_y(y_row + at, weight);
    } // at: runs of this row
  } // row: rows of this call
}
