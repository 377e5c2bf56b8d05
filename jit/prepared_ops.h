// One op on one tensor that is prepared in a file, with host memory in and out: as tensor_ops.h for native ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/kernel_spec.h"
#include "jit/engine.h"
#include "jit/reference_prepared.h"
#include "model/model.h"
#include "runtime/device.h"

namespace ktjit {

/// Equal matrices [rows, cols], each prepared_bytes(format, rows, cols), one after another. Does not own the bytes.
struct PreparedTensorView {
  FormatId format = FormatId::kF32;
  std::int64_t matrices = 1;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::span<const std::byte> data;
};

/// REQUIRES: the tensor's layout is prepared.
PreparedTensorView prepared_view(const model::TensorInfo& tensor);

/// Whether the target has a kernel of the op that reads such weights as they are; else they are restored.
bool reads_prepared(Op op, FormatId format, const Target& target);

/// The native bytes of all matrices as those of one, [matrices * rows, cols], by Op::kRestore on the device.
/// Errors: SpecError if sizes disagree; what Engine and Device throw.
NativeWeights restore(Engine& engine, runtime::Device& device, const Target& target,
                      const PreparedTensorView& tensor);

/// Decodes all matrices to f32: [matrices * rows, cols]. REQUIRES: reads_prepared(kDequant, ...). Errors: as restore.
std::vector<float> dequantize_prepared(Engine& engine, runtime::Device& device,
                                       const Target& target, const PreparedTensorView& tensor);

/// y = x w^T by matvec, eight rows of x a launch. Shapes: x [n, cols], result [n, matrices * rows].
/// REQUIRES: reads_prepared(kMatvec, ...). Errors: as restore; SpecError for another size of x.
std::vector<float> multiply_prepared(Engine& engine, runtime::Device& device, const Target& target,
                                     const PreparedTensorView& tensor, std::span<const float> x,
                                     std::int64_t n);

/// As multiply_experts, each matrix an expert. REQUIRES: reads_prepared(op, ...).
std::vector<float> multiply_prepared_experts(Op op, Engine& engine, runtime::Device& device,
                                             const Target& target, const PreparedTensorView& tensor,
                                             std::span<const std::int32_t> ids,
                                             std::span<const float> x, std::int64_t slots_per_x);

}  // namespace ktjit
