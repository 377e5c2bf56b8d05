// ktjit generated kernel. Do not edit: change the spec, or templates/cuda/read_test.cu.in.
//   kernel   read_test, emitter version 7
//   w        in   bytes  [rows, 65536]
//   y        in/out  u32  [rows]  zero before the launch; after it, the exclusive or of the row's words
//   math     reads every byte once, to measure what the memory gives
//   launch   grid (rows, 1, 1), block (256, 1, 1), 0 bytes of dynamic shared memory

constexpr int kRowBytes = 65536;  // bytes one CTA reads
constexpr int kThreads = 256;     // threads per CTA
constexpr int kLoads = kRowBytes / (kThreads * 16);  // 16-byte loads per thread, all in flight at once

struct alignas(16) Words4 {
  unsigned word[4];
};

extern "C" __global__ void __launch_bounds__(kThreads)
read_test(const unsigned char* __restrict__ w, unsigned* __restrict__ y, long long rows) {
  const long long row = blockIdx.x;
  if (row >= rows) return;
  const Words4* from = (const Words4*)(w + row * kRowBytes) + threadIdx.x;

  Words4 loaded[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) loaded[i] = from[i * kThreads];

  unsigned mixed = 0;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    mixed ^= loaded[i].word[0] ^ loaded[i].word[1] ^ loaded[i].word[2] ^ loaded[i].word[3];
  } // i: loads of this thread
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    mixed ^= __shfl_xor_sync(0xffffffffu, mixed, distance);
  } // distance: lanes apart
  if (threadIdx.x % 32 == 0) atomicXor(&y[row], mixed);
}
