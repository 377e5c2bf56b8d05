// What the skeletons of Hopper's warpgroup tensor cores (wgmma) share: registers, and wgmma itself as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/target.h"

namespace ktjit::codegen::warpgroup {

/// Threads that copy, a warpgroup.
inline constexpr int kCopyThreads = 128;
inline constexpr int kLeastStages = 2;
inline constexpr int kBarrierBytes = 8;

/// What threads that multiply may have of the registers of a CTA of so many threads, if those that copy keep `few`: as many
/// for each thread as __launch_bounds__ allows, in steps of 8. More would wait for ever.
int many_registers(int threads, int few);

/// Bytes of shared memory that each of `ctas` CTAs on a multiprocessor may have.
std::int64_t smem_limit(const Target& target, int ctas);

/// `start_product`, sum = a b, or `add_product`, sum += a b: one wgmma of 64 rows of a (in registers this warp has 16) and
/// `b_rows` rows in shared memory, 32 bytes of each, e4m3 or bf16, with all of a thread's sums. The sums are bound as read
/// and written ("+f") also where a product overwrites them, so that the compiler doesn't keep those of before elsewhere;
/// sums that have no value before take "=f".
std::string product_function(bool is_fp8, int b_rows, bool starts,
                             std::string_view constraint = "+f");
/// `keep_sums`: a barrier to the compiler between products_done and the sums of `b_rows` rows of b.
std::string keep_sums(int b_rows);

}  // namespace ktjit::codegen::warpgroup
