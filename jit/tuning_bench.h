// Data for one op on one matrix of random weights, in as many copies as it takes to leave the device's
// caches, and the time and the check of kernels on them.
#pragma once

#include "jit/bench_operands.h"
#include "jit/tuner.h"

namespace ktjit {

/// Whether make_tuning_bench serves the spec: dequant, matvec and matmul of one matrix, native or prepared, with
/// activations that aren't quantised. If not, `reason`, unless it is null, says why.
bool can_bench(const KernelSpec& spec, std::string* reason);

/// The data lives as long as the result; engine and device have to.
///
/// Time:   time_launches with nine samples, in CUDA graphs on GPUs.
/// Check:  BenchOperands::check: sampled rows, dequant bit for bit, products within product_tolerance.
/// Errors: SpecError unless can_bench and size has rows and, for products, an n that the kernel takes;
///         DriverError if the device's memory is short; what `engine` throws for the kernel that prepares weights.
KernelBench make_tuning_bench(Engine& engine, runtime::Device& device, const KernelSpec& spec,
                              const TuningSize& size);

/// The same for whatever `ktjit bench` measures: fused forms, several matrices and moe_matvec, too.
/// Errors: as above, but for can_bench.
KernelBench make_work_bench(Engine& engine, runtime::Device& device, const BenchWork& work);

}  // namespace ktjit
