// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/read_test.cpp.in.
//   kernel   read_test, emitter version 7
//   w        in   bytes  [rows, 65536]
//   y        out  u32  [rows]  the exclusive or of the row's words
//   math     reads every byte once, to measure what the memory gives
//   launch   ranges of rows, in parallel

constexpr int kRowBytes = 65536;  // bytes of one row of w
constexpr int kPrefetchBytes = 16384; // how far ahead of the loads

typedef unsigned U32x16 __attribute__((vector_size(64), aligned(16)));

struct Arguments {
  const unsigned char* w;
  unsigned* y;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
read_test(const Arguments* arguments, long long row_begin, long long row_end) {
  for (long long row = row_begin; row < row_end; ++row) {
    const unsigned char* from = arguments->w + row * kRowBytes;
    U32x16 mixed = {};
#pragma unroll 4
    for (int at = 0; at < kRowBytes; at += 64) {
      __builtin_prefetch(from + at + kPrefetchBytes, 0, 2);
      mixed ^= *(const U32x16*)(from + at);
    } // at: bytes of this row
    unsigned word = 0;
    for (int i = 0; i < 16; ++i) word ^= mixed[i];
    arguments->y[row] = word;
  } // row: rows of this call
}
