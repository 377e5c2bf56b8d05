// One op on one tensor with host memory in and out: what `ktjit exec` does, and the simplest use of
// the API.
#pragma once

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

/// y = x w^T. Shapes: x [n, cols], result [n, rows], row-major; any n, eight columns a launch.
std::vector<float> multiply(Engine& engine, runtime::Device& device, const Target& target,
                            const ScaledTensorView& tensor, std::span<const float> x,
                            std::int64_t n, ActivationPolicy activation = ActivationPolicy::kA16);

}  // namespace ktjit
