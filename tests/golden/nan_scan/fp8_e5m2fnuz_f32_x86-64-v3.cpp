// ktjit generated kernel. Do not edit: change the spec, or templates/cpu/nan_scan.cpp.in.
//   kernel   nan_scan_fp8_e5m2fnuz_c512, emitter version 7
//   w        in   fp8_e5m2fnuz  [rows, 512]  row-major
//   found    out  u32  set to 1 if any code of w is a NaN or infinity, else left as it is
//   cpu      cpu:x86-64-v3 (avx avx2 bmi bmi2 f16c fma lzcnt popcnt sse4.1 sse4.2 ssse3): codes are compared, not decoded
//   launch   ranges of rows, in parallel

constexpr int kRowBytes = 512; // bytes of one row of w

// 0x80 is the only NaN.
static inline bool is_not_finite(unsigned char code) { return code == 0x80; }

struct Arguments {
  const unsigned char* w;
  unsigned* found;
  long long rows;
};

extern "C" __attribute__((visibility("default"))) void
nan_scan_fp8_e5m2fnuz_c512(const Arguments* arguments, long long row_begin, long long row_end) {
  const unsigned char* end = arguments->w + row_end * kRowBytes;
  unsigned char any = 0;
  for (const unsigned char* code = arguments->w + row_begin * kRowBytes; code < end; ++code) any |= is_not_finite(*code);
  if (any != 0) __atomic_store_n(arguments->found, 1u, __ATOMIC_RELAXED); // others may store the same
}
