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

/// Columns of activations that share one scale, as DeepSeek's act_quant has them.
constexpr std::int64_t kActivationGroup = 128;

/// Codes of a quantised matrix, and the scales of its groups if it has any.
struct QuantizedTensor {
  std::vector<std::byte> codes;  ///< [rows, cols]
  std::vector<float> scales;     ///< [rows, ceil(cols / group)], or empty
};

/// Narrows x to an FP8 format on the device, with the arithmetic of jit/reference_encode.h.
/// Shapes: x [rows, cols] row-major. `group`: columns that share a scale; none for a plain cast,
/// which saturates or not.
/// Errors: SpecError if the format has no quantize kernel, sizes disagree, or a group comes with
/// `saturate` off; what Engine and Device throw.
QuantizedTensor quantize(Engine& engine, runtime::Device& device, const Target& target,
                         FormatId format, std::span<const float> x, std::int64_t rows,
                         std::int64_t cols, std::optional<std::int64_t> group,
                         bool saturate = true);

}  // namespace ktjit
