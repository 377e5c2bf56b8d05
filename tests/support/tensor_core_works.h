// Matmul at tensor-core precision as work for run_bench, which checks results: for tests in the simulator and on GPUs.
#pragma once

#include <vector>

#include "core/target.h"
#include "jit/bench_runner.h"

namespace ktjit::test {

/// bf16 activations, and prepared weights where the format has them, for sm_90a.
KernelSpec rounded_weights_spec(FormatId format, std::int64_t cols, int x_tile);
/// e4m3 with scales of 128 x 128, and activations of e4m3 with scales of 128 columns, for sm_90a.
KernelSpec fp8_product_spec(std::int64_t cols, int x_tile);

/// Every format that has such a kernel, small: rows, columns and rows of x cut.
std::vector<BenchWork> every_format_rounded();
/// Scales of FP8, every tile of x, stages, bias, 16-bit results.
std::vector<BenchWork> rounded_weights_variants();
/// The same for the tensor cores of a warp (mma.sync), for which any other target from sm_80 on serves.
std::vector<BenchWork> every_format_by_warps(const Target& target, FormatId x_format);
std::vector<BenchWork> variants_by_warps(const Target& target, FormatId x_format);
/// FP8 activations: tiles, parts of tiles, scales, columns and rows cut.
std::vector<BenchWork> fp8_product_variants();

}  // namespace ktjit::test
