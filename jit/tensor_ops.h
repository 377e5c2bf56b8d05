// One op on one tensor with host memory in and out: what `ktjit exec` does, and the simplest use of
// the API.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/kernel_spec.h"
#include "jit/engine.h"
#include "jit/expert_stack.h"
#include "jit/reference_ops.h"
#include "runtime/device.h"

namespace ktjit {

/// Decodes a tensor to f32 on the device.
/// Shapes: result [rows, cols] row-major.
/// Errors: SpecError if the format is not served or sizes disagree; what Engine and Device throw.
std::vector<float> dequantize(Engine& engine, runtime::Device& device, const Target& target,
                              const ScaledTensorView& tensor);

/// y = x w^T. Shapes: x [n, cols], result [n, rows], row-major; any n: matvec up to 8, matmul beyond.
/// afp8 quantises x on the device to fp8_e4m3 in groups of kActivationGroup columns, then multiplies
/// by matmul. Errors: as dequantize; SpecError for an activation policy that isn't served.
std::vector<float> multiply(Engine& engine, runtime::Device& device, const Target& target,
                            const ScaledTensorView& tensor, std::span<const float> x,
                            std::int64_t n, ActivationPolicy activation = ActivationPolicy::kA16);

/// As multiply, always by the kernel of `op`: matvec (eight columns a launch) or matmul.
std::vector<float> multiply_by(Op op, Engine& engine, runtime::Device& device, const Target& target,
                               const ScaledTensorView& tensor, std::span<const float> x,
                               std::int64_t n, ActivationPolicy activation);

/// y[s] = x[s / slots_per_x] w[ids[s]]^T, each slot by its expert; by the kernel of `op`, moe_matvec or moe_matmul.
/// Shapes: ids [slots]; x [ceil(slots / slots_per_x), cols]; result [slots, rows], row-major. Slots whose id is
/// no expert's are NaN.
/// Errors: as dequantize; SpecError if there are no slots or slots_per_x is below 1.
std::vector<float> multiply_experts(Op op, Engine& engine, runtime::Device& device,
                                    const Target& target, const ExpertStackView& stack,
                                    std::span<const std::int32_t> ids, std::span<const float> x,
                                    std::int64_t slots_per_x);

/// Columns of activations that share one scale, as DeepSeek's act_quant has them.
constexpr std::int64_t kActivationGroup = 128;

/// Codes of a quantised matrix, and its scales if it has any, as the bytes of their tensors.
struct QuantizedTensor {
  std::vector<std::byte> codes;   ///< [rows, cols] of the format
  std::vector<std::byte> scales;  ///< the plane that ScaleGrid describes, or empty
};

/// Narrows x to a format on the device, with the arithmetic of jit/reference_encode.h.
/// Shapes: x [rows, cols] row-major. FP8 without scales and bare FP6 and FP4 codes: a plain cast, which
/// saturates or not; with scales, one for each block of the grid is chosen. `tensor_scale` is nvfp4's,
/// nvfp4_tensor_scale(x) if there is none; other formats have none.
/// Errors: SpecError if the format or grid has no quantize kernel, sizes disagree, scales come with
/// `saturate` off, or the tensor scale is not a positive number; what Engine and Device throw.
QuantizedTensor quantize(Engine& engine, runtime::Device& device, const Target& target,
                         const WeightFormat& weight, std::span<const float> x, std::int64_t rows,
                         std::int64_t cols, bool saturate = true,
                         std::optional<float> tensor_scale = std::nullopt);

}  // namespace ktjit
