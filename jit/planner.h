// Which kernels a model needs on a target: from its header alone, without a device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codegen/lowering.h"
#include "core/kernel_spec.h"
#include "model/model.h"

namespace ktjit {

/// A tensor that no kernel serves, and why.
struct SkippedTensor {
  std::string tensor;
  std::string format;
  std::string reason;
};

/// Tensors that share kernels: equal format, columns and scales.
struct TensorGroup {
  FormatId format = FormatId::kF32;
  std::int64_t cols = 0;
  std::optional<ScaleGrid> scale;
  std::vector<const model::TensorInfo*> tensors;
  std::uint64_t bytes = 0;
  codegen::Lowering lowering;
  /// dequant to f32, matvec with f32 activations and one column, matmul with f32 activations; only
  /// dequant where is_dequant_only says so. Formats with NaN codes: then nan_scan, and the three again for weights that it found finite.
  std::vector<KernelSpec> kernels;
};

struct Plan {
  Target target;
  std::vector<TensorGroup> groups;  ///< in the order of their first tensor
  std::vector<SkippedTensor> skipped;
  std::uint64_t weight_bytes = 0;  ///< of all tensors, served or not

  std::vector<KernelSpec> all_kernels() const;
};

/// The spec of a tensor's kernel. Errors: SpecError if no kernel serves the format.
KernelSpec spec_for(const model::TensorInfo& tensor, Op op, const Target& target);

/// Errors: none for formats that are not served: they are listed as skipped.
Plan make_plan(const model::Model& model, const Target& target);

enum class Verdict { kOk, kSlow, kNo };
std::string_view verdict_name(Verdict verdict);

/// What is said about a target, whatever the card and its memory: plan_report.h knows those.
struct TargetVerdict {
  Verdict verdict = Verdict::kOk;
  std::string reason;
  std::vector<std::string> advice;
};
TargetVerdict judge(const Plan& plan);

}  // namespace ktjit
