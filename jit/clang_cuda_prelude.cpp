// CUDA's names in terms of Clang's builtins and PTX, and the choice of those that a text uses.
#include "jit/clang_cuda_prelude.h"

#include <cctype>

namespace ktjit {
namespace {

constexpr std::string_view kPrelude = R"cuda(
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __forceinline__ __inline__ __attribute__((always_inline))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define warpSize 32

#define KTJIT_BUILTIN static __device__ __forceinline__

#define KTJIT_SPECIAL_REGISTER(name, builtin)                                   \
  struct ktjit_##name##_t {                                                     \
    __declspec(property(get = get_x)) unsigned x;                               \
    __declspec(property(get = get_y)) unsigned y;                               \
    __declspec(property(get = get_z)) unsigned z;                               \
    __device__ __forceinline__ unsigned get_x() const { return builtin##_x(); } \
    __device__ __forceinline__ unsigned get_y() const { return builtin##_y(); } \
    __device__ __forceinline__ unsigned get_z() const { return builtin##_z(); } \
  };                                                                            \
  extern const __device__ __attribute__((weak)) ktjit_##name##_t name;

#define KTJIT_VECTOR_TYPES(type, name, align2, align4)                    \
  struct __attribute__((aligned(align2))) name##2 { type x, y; };         \
  struct name##3 { type x, y, z; };                                       \
  struct __attribute__((aligned(align4))) name##4 { type x, y, z, w; };   \
  KTJIT_BUILTIN name##2 make_##name##2(type x, type y) { return {x, y}; } \
  KTJIT_BUILTIN name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  KTJIT_BUILTIN name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

#define KTJIT_MIN_MAX(type)                                        \
  KTJIT_BUILTIN type min(type a, type b) { return b < a ? b : a; } \
  KTJIT_BUILTIN type max(type a, type b) { return a < b ? b : a; }

// LLVM turns its intrinsics for rounded operations into plain ones, which may be fused.
#define KTJIT_ROUNDED(name, instruction)                                 \
  KTJIT_BUILTIN float name(float a, float b) {                           \
    float result;                                                        \
    asm(instruction ".f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b)); \
    return result;                                                       \
  }

// The last argument holds the lanes that take part (PTX ISA, shfl.sync): all 32, down to lane 31, or
// for "up" down to lane 0.
#define KTJIT_SHUFFLE(name, builtin, lanes)                            \
  KTJIT_BUILTIN int name(unsigned mask, int value, int lane) {         \
    return builtin##_i32(mask, value, lane, lanes);                    \
  }                                                                    \
  KTJIT_BUILTIN unsigned name(unsigned mask, unsigned value, int lane) { \
    return (unsigned)builtin##_i32(mask, (int)value, lane, lanes);     \
  }                                                                    \
  KTJIT_BUILTIN float name(unsigned mask, float value, int lane) {     \
    return builtin##_f32(mask, value, lane, lanes);                    \
  }

#define KTJIT_ATOMIC(name, builtin)                                                               \
  KTJIT_BUILTIN int name(int* at, int value) { return builtin(at, value, __ATOMIC_RELAXED); }     \
  KTJIT_BUILTIN unsigned name(unsigned* at, unsigned value) {                                     \
    return builtin(at, value, __ATOMIC_RELAXED);                                                  \
  }                                                                                               \
  KTJIT_BUILTIN unsigned long long name(unsigned long long* at, unsigned long long value) {       \
    return builtin(at, value, __ATOMIC_RELAXED);                                                  \
  }

//@ threadIdx
KTJIT_SPECIAL_REGISTER(threadIdx, __nvvm_read_ptx_sreg_tid)
//@ blockIdx
KTJIT_SPECIAL_REGISTER(blockIdx, __nvvm_read_ptx_sreg_ctaid)
//@ blockDim
KTJIT_SPECIAL_REGISTER(blockDim, __nvvm_read_ptx_sreg_ntid)
//@ gridDim
KTJIT_SPECIAL_REGISTER(gridDim, __nvvm_read_ptx_sreg_nctaid)
//@ char2 char3 char4 make_char2 make_char3 make_char4
KTJIT_VECTOR_TYPES(signed char, char, 2, 4)
//@ uchar2 uchar3 uchar4 make_uchar2 make_uchar3 make_uchar4
KTJIT_VECTOR_TYPES(unsigned char, uchar, 2, 4)
//@ short2 short3 short4 make_short2 make_short3 make_short4
KTJIT_VECTOR_TYPES(short, short, 4, 8)
//@ ushort2 ushort3 ushort4 make_ushort2 make_ushort3 make_ushort4
KTJIT_VECTOR_TYPES(unsigned short, ushort, 4, 8)
//@ int2 int3 int4 make_int2 make_int3 make_int4
KTJIT_VECTOR_TYPES(int, int, 8, 16)
//@ uint2 uint3 uint4 make_uint2 make_uint3 make_uint4
KTJIT_VECTOR_TYPES(unsigned, uint, 8, 16)
//@ longlong2 longlong3 longlong4 make_longlong2 make_longlong3 make_longlong4
KTJIT_VECTOR_TYPES(long long, longlong, 16, 16)
//@ ulonglong2 ulonglong3 ulonglong4 make_ulonglong2 make_ulonglong3 make_ulonglong4
KTJIT_VECTOR_TYPES(unsigned long long, ulonglong, 16, 16)
//@ float2 float3 float4 make_float2 make_float3 make_float4
KTJIT_VECTOR_TYPES(float, float, 8, 16)
//@ double2 double3 double4 make_double2 make_double3 make_double4
KTJIT_VECTOR_TYPES(double, double, 16, 16)
//@ __float_as_uint __float_as_int __uint_as_float __int_as_float
KTJIT_BUILTIN unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
KTJIT_BUILTIN int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
KTJIT_BUILTIN float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
KTJIT_BUILTIN float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }
//@ __popc __clz __ffs
KTJIT_BUILTIN int __popc(unsigned value) { return __builtin_popcount(value); }
KTJIT_BUILTIN int __clz(int value) { return value == 0 ? 32 : __builtin_clz((unsigned)value); }
KTJIT_BUILTIN int __ffs(int value) { return __builtin_ffs(value); }
//@ __byte_perm
KTJIT_BUILTIN unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  unsigned result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector & 0x7777u));
  return result;
}
//@ __dp4a
KTJIT_BUILTIN int __dp4a(int a, int b, int c) {
  int result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}
KTJIT_BUILTIN unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  unsigned result;
  asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}
//@ __fadd_rn __fsub_rn __fmul_rn
KTJIT_ROUNDED(__fadd_rn, "add.rn")
KTJIT_ROUNDED(__fsub_rn, "sub.rn")
KTJIT_ROUNDED(__fmul_rn, "mul.rn")
//@ __fmaf_rn fmaf
KTJIT_BUILTIN float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
KTJIT_BUILTIN float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
//@ fabsf fminf fmaxf
KTJIT_BUILTIN float fabsf(float value) { return __builtin_fabsf(value); }
KTJIT_BUILTIN float fminf(float a, float b) { return __builtin_fminf(a, b); }
KTJIT_BUILTIN float fmaxf(float a, float b) { return __builtin_fmaxf(a, b); }
//@ min max
KTJIT_MIN_MAX(int)
KTJIT_MIN_MAX(unsigned)
KTJIT_MIN_MAX(long long)
KTJIT_MIN_MAX(unsigned long long)
//@ __shfl_sync
KTJIT_SHUFFLE(__shfl_sync, __nvvm_shfl_sync_idx, 31)
//@ __shfl_up_sync
KTJIT_SHUFFLE(__shfl_up_sync, __nvvm_shfl_sync_up, 0)
//@ __shfl_down_sync
KTJIT_SHUFFLE(__shfl_down_sync, __nvvm_shfl_sync_down, 31)
//@ __shfl_xor_sync
KTJIT_SHUFFLE(__shfl_xor_sync, __nvvm_shfl_sync_bfly, 31)
//@ __syncwarp
KTJIT_BUILTIN void __syncwarp(unsigned mask = 0xffffffffu) { __nvvm_bar_warp_sync(mask); }
//@ __ballot_sync __any_sync __all_sync
KTJIT_BUILTIN unsigned __ballot_sync(unsigned mask, int predicate) {
  return __nvvm_vote_ballot_sync(mask, predicate != 0);
}
KTJIT_BUILTIN int __any_sync(unsigned mask, int predicate) {
  return __nvvm_vote_any_sync(mask, predicate != 0);
}
KTJIT_BUILTIN int __all_sync(unsigned mask, int predicate) {
  return __nvvm_vote_all_sync(mask, predicate != 0);
}
//@ __reduce_max_sync
KTJIT_BUILTIN unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  return (unsigned)__nvvm_redux_sync_umax((int)value, (int)mask);
}
//@ __cvta_generic_to_shared
KTJIT_BUILTIN unsigned long long __cvta_generic_to_shared(const void* at) {
  return (unsigned long long)(const __attribute__((address_space(3))) void*)at;
}
//@ __threadfence
KTJIT_BUILTIN void __threadfence() { __nvvm_membar_gl(); }
//@ atomicAdd
KTJIT_ATOMIC(atomicAdd, __atomic_fetch_add)
KTJIT_BUILTIN float atomicAdd(float* at, float value) { return __nvvm_atom_add_gen_f(at, value); }
//@ atomicAnd
KTJIT_ATOMIC(atomicAnd, __atomic_fetch_and)
//@ atomicOr
KTJIT_ATOMIC(atomicOr, __atomic_fetch_or)
//@ atomicXor
KTJIT_ATOMIC(atomicXor, __atomic_fetch_xor)
//@ atomicMin
KTJIT_ATOMIC(atomicMin, __atomic_fetch_min)
//@ atomicMax
KTJIT_ATOMIC(atomicMax, __atomic_fetch_max)
//@ __ldg
template <typename T>
KTJIT_BUILTIN T __ldg(const T* at) { return *at; }
)cuda";

constexpr std::string_view kMark = "//@ ";

bool is_identifier_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

bool uses_name(std::string_view source, std::string_view name) {
  for (auto at = source.find(name); at != std::string_view::npos; at = source.find(name, at + 1)) {
    const auto end = at + name.size();
    const bool begins = at == 0 || !is_identifier_character(source[at - 1]);
    const bool ends = end == source.size() || !is_identifier_character(source[end]);
    if (begins && ends) return true;
  }
  return false;
}

/// Whether `source` uses one of `names`, which have a space between them.
bool uses_any(std::string_view source, std::string_view names) {
  while (!names.empty()) {
    const auto space = names.find(' ');
    if (uses_name(source, names.substr(0, space))) return true;
    names = space == std::string_view::npos ? std::string_view() : names.substr(space + 1);
  }
  return false;
}

}  // namespace

std::string_view clang_cuda_prelude() { return kPrelude; }

std::string clang_cuda_prelude_for(std::string_view source) {
  auto mark = kPrelude.find(kMark);
  std::string chosen(kPrelude.substr(0, mark));
  while (mark != std::string_view::npos) {
    const auto next = kPrelude.find(kMark, mark + 1);
    const std::string_view piece = kPrelude.substr(mark, next - mark);
    const auto names_end = piece.find('\n');
    if (uses_any(source, piece.substr(kMark.size(), names_end - kMark.size()))) chosen += piece;
    mark = next;
  }
  return chosen;
}

}  // namespace ktjit
