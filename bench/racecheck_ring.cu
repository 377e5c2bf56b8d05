// What compute-sanitizer's racecheck says of copies that meet reads at mbarriers, in the least kernel that has both: four
// warps copy into a ring of kStages places of 4 KiB, four others read all of each place. docs/ARCHITECTURE.md has the results.
//
//   nvcc -arch=sm_90a -o racecheck_ring bench/racecheck_ring.cu
//   compute-sanitizer --tool racecheck ./racecheck_ring MODE
//
// mode 0: every reader arrives at "emptied"; 1: one lane of each warp does, after __syncwarp, as matmul at tensor-core
// precision; 2: as 1, but one reader doesn't wait for "filled": a race; 3: as 1 without __syncwarp: a race.
#include <cstdio>
#include <cstdlib>
constexpr int kStages = 3, kThreads = 128, kPlace = 4096;
__device__ void init(unsigned b, int n) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(b), "r"(n) : "memory"); }
__device__ void arrive(unsigned b) { asm volatile("{.reg .b64 s; mbarrier.arrive.shared::cta.b64 s, [%0];}" :: "r"(b) : "memory"); }
__device__ void arrive_after_copies(unsigned b) { asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" :: "r"(b) : "memory"); }
__device__ void wait(unsigned b, int parity) {
  unsigned ended;
  do asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0,1,0,p;}" : "=r"(ended) : "r"(b), "r"(parity) : "memory"); while (!ended);
}
template <int kMode>
__global__ void ring(const unsigned char* from, unsigned* out, int steps) {
  __shared__ __align__(128) unsigned char place[kStages][kPlace];
  __shared__ unsigned long long barriers[2 * kStages];
  const unsigned filled = (unsigned)__cvta_generic_to_shared(barriers), emptied = filled + 8 * kStages;
  if (threadIdx.x == 0) for (int i = 0; i < kStages; ++i) { init(filled + 8 * i, kThreads); init(emptied + 8 * i, kMode == 0 ? kThreads : kThreads / 32); }
  __syncthreads();
  const int t = threadIdx.x % kThreads, lane = t % 32;
  if (threadIdx.x < kThreads) {
    for (int s = 0; s < steps; ++s) {
      const int slot = s % kStages;
      wait(emptied + 8 * slot, s / kStages % 2 ^ 1);
      for (int i = 0; i < 2; ++i)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"((unsigned)__cvta_generic_to_shared(place[slot] + 16 * t + 2048 * i)), "l"(from + (size_t)s * kPlace + 16 * t + 2048 * i) : "memory");
      arrive_after_copies(filled + 8 * slot);
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    return;
  }
  unsigned sum = 0;
  for (int s = 0; s < steps; ++s) {
    const int slot = s % kStages;
    if (kMode != 2 || t != 5) wait(filled + 8 * slot, s / kStages % 2);
    for (int i = 0; i < kPlace / 4; i += kThreads) sum += ((const unsigned*)place[slot])[(t * 7 + i + 33 * s) % (kPlace / 4)];
    if (kMode == 0) arrive(emptied + 8 * slot);
    else { if (kMode != 3) __syncwarp(); if (lane == 0) arrive(emptied + 8 * slot); }
  }
  atomicAdd(out, sum);
}
int main(int argc, char** argv) {
  const int steps = 12, mode = atoi(argv[1]);
  unsigned char* from; unsigned* out; cudaMalloc(&from, steps * kPlace); cudaMemset(from, 1, steps * kPlace); cudaMalloc(&out, 4); cudaMemset(out, 0, 4);
  if (mode == 0) ring<0><<<1, 256>>>(from, out, steps);
  if (mode == 1) ring<1><<<1, 256>>>(from, out, steps);
  if (mode == 2) ring<2><<<1, 256>>>(from, out, steps);
  if (mode == 3) ring<3><<<1, 256>>>(from, out, steps);
  unsigned got = 0; cudaMemcpy(&got, out, 4, cudaMemcpyDeviceToHost);
  printf("mode %d sum %u of %u: %s\n", mode, got, 0x01010101u * (unsigned)(steps * kPlace / 4), cudaGetErrorString(cudaGetLastError()));
}
