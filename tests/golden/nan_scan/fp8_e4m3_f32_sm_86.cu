// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/nan_scan.cu.in.
//   kernel   nan_scan_fp8_e4m3_c512, emitter version 7
//   w        in   fp8_e4m3  [rows, 512]  row-major, at an address that is a multiple of 16
//   found    in/out  u32  zero before the launch; 1 after it if any code of w is a NaN or infinity
//   math     codes whose low 7 bits are above 0x7e are
//   launch   grid (ceil(rows / 128), 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kCols = 512;        // columns of w
constexpr int kRowsPerCta = 128;  // rows of one CTA
constexpr int kThreads = 256;     // threads per CTA
constexpr int kLastNumber = 0x7e; // codes above it are NaNs

struct alignas(16) Words4 {
  unsigned word[4];
};

// Bit 7 of each byte whose low 7 bits are above kLastNumber.
__device__ __forceinline__ unsigned nan_bits(unsigned codes) {
  return (codes & 0x7f7f7f7fu) + 0x01010101u * (unsigned)(0x7f - kLastNumber) & 0x80808080u;
}

extern "C" __global__ void __launch_bounds__(kThreads)
nan_scan_fp8_e4m3_c512(const unsigned char* __restrict__ w, unsigned* __restrict__ found, long long rows) {
  const long long first_row = (long long)blockIdx.x * kRowsPerCta;
  const long long last_row = first_row + kRowsPerCta < rows ? first_row + kRowsPerCta : rows;
  // Whole 16-byte vectors of all of w; the CTA whose rows a vector begins in reads it.
  const long long first = (first_row * kCols + 15) / 16;
  const long long last = (last_row * kCols + 15) / 16;
  const long long whole = rows * kCols / 16;

  unsigned bits = 0;
  for (long long at = first + threadIdx.x; at < last; at += kThreads) {
    if (at < whole) {
      const Words4 codes = ((const Words4*)w)[at];
      bits |= nan_bits(codes.word[0]) | nan_bits(codes.word[1]) | nan_bits(codes.word[2]) |
              nan_bits(codes.word[3]);
    } else {
      for (long long i = at * 16; i < rows * kCols; ++i) bits |= nan_bits(w[i]);
    }
  } // at: vectors of this thread
  if (bits != 0) *found = 1u;
}
