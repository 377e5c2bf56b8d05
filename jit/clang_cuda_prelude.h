// What Clang lacks of the CUDA language when no CUDA header is included: the names that NVRTC has
// built in. Part of the compiler's identity.
#pragma once

#include <string_view>

namespace ktjit {

// The rounded operations are PTX: LLVM turns its intrinsics for them into plain operations, which
// may be fused.
inline constexpr std::string_view kClangCudaPrelude = R"cuda(
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __forceinline__ __inline__ __attribute__((always_inline))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __align__(bytes) __attribute__((aligned(bytes)))

#define KTJIT_BUILTIN static __device__ __forceinline__

#define KTJIT_SPECIAL_REGISTER(name, builtin)                             \
  struct ktjit_##name##_t {                                               \
    __declspec(property(get = get_x)) unsigned x;                         \
    __declspec(property(get = get_y)) unsigned y;                         \
    __declspec(property(get = get_z)) unsigned z;                         \
    __device__ __forceinline__ unsigned get_x() const { return builtin##_x(); } \
    __device__ __forceinline__ unsigned get_y() const { return builtin##_y(); } \
    __device__ __forceinline__ unsigned get_z() const { return builtin##_z(); } \
  };                                                                      \
  extern const __device__ __attribute__((weak)) ktjit_##name##_t name;
KTJIT_SPECIAL_REGISTER(threadIdx, __nvvm_read_ptx_sreg_tid)
KTJIT_SPECIAL_REGISTER(blockIdx, __nvvm_read_ptx_sreg_ctaid)
KTJIT_SPECIAL_REGISTER(blockDim, __nvvm_read_ptx_sreg_ntid)
KTJIT_SPECIAL_REGISTER(gridDim, __nvvm_read_ptx_sreg_nctaid)
#undef KTJIT_SPECIAL_REGISTER
#define warpSize 32

#define KTJIT_VECTOR_TYPES(type, name, align2, align4)               \
  struct __attribute__((aligned(align2))) name##2 { type x, y; };    \
  struct name##3 { type x, y, z; };                                  \
  struct __attribute__((aligned(align4))) name##4 { type x, y, z, w; }; \
  KTJIT_BUILTIN name##2 make_##name##2(type x, type y) { return {x, y}; } \
  KTJIT_BUILTIN name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  KTJIT_BUILTIN name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
KTJIT_VECTOR_TYPES(signed char, char, 2, 4)
KTJIT_VECTOR_TYPES(unsigned char, uchar, 2, 4)
KTJIT_VECTOR_TYPES(short, short, 4, 8)
KTJIT_VECTOR_TYPES(unsigned short, ushort, 4, 8)
KTJIT_VECTOR_TYPES(int, int, 8, 16)
KTJIT_VECTOR_TYPES(unsigned, uint, 8, 16)
KTJIT_VECTOR_TYPES(long long, longlong, 16, 16)
KTJIT_VECTOR_TYPES(unsigned long long, ulonglong, 16, 16)
KTJIT_VECTOR_TYPES(float, float, 8, 16)
KTJIT_VECTOR_TYPES(double, double, 16, 16)
#undef KTJIT_VECTOR_TYPES

KTJIT_BUILTIN unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
KTJIT_BUILTIN int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
KTJIT_BUILTIN float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
KTJIT_BUILTIN float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }

KTJIT_BUILTIN int __popc(unsigned value) { return __builtin_popcount(value); }
KTJIT_BUILTIN int __clz(int value) { return value == 0 ? 32 : __builtin_clz((unsigned)value); }
KTJIT_BUILTIN int __ffs(int value) { return __builtin_ffs(value); }
KTJIT_BUILTIN unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector & 0x7777u));
  return result;
}
KTJIT_BUILTIN int __dp4a(int a, int b, int c) {
  int result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

#define KTJIT_ROUNDED(name, instruction)                                                    \
  KTJIT_BUILTIN float name(float a, float b) {                                              \
    float result;                                                                           \
    asm(instruction ".f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));                    \
    return result;                                                                          \
  }
KTJIT_ROUNDED(__fadd_rn, "add.rn")
KTJIT_ROUNDED(__fsub_rn, "sub.rn")
KTJIT_ROUNDED(__fmul_rn, "mul.rn")
#undef KTJIT_ROUNDED
KTJIT_BUILTIN float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
KTJIT_BUILTIN float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
KTJIT_BUILTIN float fabsf(float value) { return __builtin_fabsf(value); }
KTJIT_BUILTIN float fminf(float a, float b) { return __builtin_fminf(a, b); }
KTJIT_BUILTIN float fmaxf(float a, float b) { return __builtin_fmaxf(a, b); }

#define KTJIT_MIN_MAX(type)                                           \
  KTJIT_BUILTIN type min(type a, type b) { return b < a ? b : a; }    \
  KTJIT_BUILTIN type max(type a, type b) { return a < b ? b : a; }
KTJIT_MIN_MAX(int)
KTJIT_MIN_MAX(unsigned)
KTJIT_MIN_MAX(long long)
KTJIT_MIN_MAX(unsigned long long)
#undef KTJIT_MIN_MAX

// The last argument holds the lanes that take part (PTX ISA, shfl.sync): all 32, down to lane 31, or
// for "up" down to lane 0.
#define KTJIT_SHUFFLE(name, builtin, lanes)                                           \
  KTJIT_BUILTIN int name(unsigned mask, int value, int lane) {                        \
    return builtin##_i32(mask, value, lane, lanes);                                   \
  }                                                                                   \
  KTJIT_BUILTIN unsigned name(unsigned mask, unsigned value, int lane) {              \
    return (unsigned)builtin##_i32(mask, (int)value, lane, lanes);                    \
  }                                                                                   \
  KTJIT_BUILTIN float name(unsigned mask, float value, int lane) {                    \
    return builtin##_f32(mask, value, lane, lanes);                                   \
  }
KTJIT_SHUFFLE(__shfl_sync, __nvvm_shfl_sync_idx, 31)
KTJIT_SHUFFLE(__shfl_up_sync, __nvvm_shfl_sync_up, 0)
KTJIT_SHUFFLE(__shfl_down_sync, __nvvm_shfl_sync_down, 31)
KTJIT_SHUFFLE(__shfl_xor_sync, __nvvm_shfl_sync_bfly, 31)
#undef KTJIT_SHUFFLE

KTJIT_BUILTIN void __syncwarp(unsigned mask = 0xffffffffu) { __nvvm_bar_warp_sync(mask); }
KTJIT_BUILTIN unsigned __ballot_sync(unsigned mask, int predicate) {
  return __nvvm_vote_ballot_sync(mask, predicate != 0);
}
KTJIT_BUILTIN int __any_sync(unsigned mask, int predicate) {
  return __nvvm_vote_any_sync(mask, predicate != 0);
}
KTJIT_BUILTIN int __all_sync(unsigned mask, int predicate) {
  return __nvvm_vote_all_sync(mask, predicate != 0);
}
KTJIT_BUILTIN void __threadfence() { __nvvm_membar_gl(); }
KTJIT_BUILTIN int atomicAdd(int* at, int value) { return __nvvm_atom_add_gen_i(at, value); }
KTJIT_BUILTIN unsigned atomicAdd(unsigned* at, unsigned value) {
  return (unsigned)__nvvm_atom_add_gen_i((int*)at, (int)value);
}
KTJIT_BUILTIN float atomicAdd(float* at, float value) { return __nvvm_atom_add_gen_f(at, value); }
template <typename T>
KTJIT_BUILTIN T __ldg(const T* at) { return *at; }
#undef KTJIT_BUILTIN
)cuda";

}  // namespace ktjit
