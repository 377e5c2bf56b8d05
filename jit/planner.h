// Which kernels a model needs on a target: from its header alone, without a device.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
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

/// A tensor to plan, and how its kernels shall work.
struct PlannedTensor {
  const model::TensorInfo* tensor = nullptr;
  /// Prepared: where format, target and number of columns allow.
  LayoutKind matvec_layout = LayoutKind::kNative;
  /// Of matmul: afp8 quantises x. Products of few rows take x as it is, whatever the policy.
  ActivationPolicy activation = ActivationPolicy::kA16;
};

/// Tensors that share kernels: equal format, columns, scales, layout in the file, activations, and layout that was
/// asked for.
struct TensorGroup {
  LayoutKind stored = LayoutKind::kNative;
  FormatId format = FormatId::kF32;
  std::int64_t cols = 0;
  std::optional<ScaleGrid> scale;
  ActivationPolicy activation = ActivationPolicy::kA16;
  LayoutKind asked_layout = LayoutKind::kNative;
  std::vector<const model::TensorInfo*> tensors;
  std::uint64_t bytes = 0;
  codegen::Lowering lowering;
  /// dequant to f32, matvec with f32 activations and one column, matmul with f32 activations; only
  /// dequant where is_dequant_only says so. Formats with NaN codes: then nan_scan, and the three again for weights that it found finite.
  /// Where a tensor stacks experts (experts_of): moe_matvec and moe_matmul with f32 activations as well, likewise.
  /// Where matvec reads prepared weights: then prepare, which makes them, and restore, which gives the others native ones.
  /// Where activations are afp8: matmul with such, and quantize, which makes them.
  /// Of weights that are prepared in the file, no prepare; dequant and matvec read them as they are if the target has such
  /// kernels, and restore comes along if any other is there.
  std::vector<KernelSpec> kernels;
  LayoutKind matvec_layout = LayoutKind::kNative;
  std::uint64_t prepared_bytes = 0;  ///< of the tensors that product_layout says are prepared
  std::uint64_t native_bytes_of_prepared = 0;  ///< of the same tensors in the file
};

struct Plan {
  Target target;
  std::vector<TensorGroup> groups;  ///< in the order of their first tensor
  std::vector<SkippedTensor> skipped;
  std::uint64_t weight_bytes = 0;  ///< of all tensors, served or not

  std::vector<KernelSpec> all_kernels() const;
  /// How much larger the weights are that are kept prepared than in the file: never smaller, for units are padded.
  std::uint64_t extra_bytes_of_prepared() const;
  bool has_prepared() const;
};

/// The spec of a tensor's kernel. Errors: SpecError if no kernel serves the format.
KernelSpec spec_for(const model::TensorInfo& tensor, Op op, const Target& target);

/// How a product of few rows of x reads a tensor of the group: the layout of matvec's weights, or of moe_matvec's if the
/// tensor stacks experts.
LayoutKind product_layout(const TensorGroup& group, const model::TensorInfo& tensor);
/// Bytes of the tensor in that layout, experts one after another. Errors: as ktjit::laid_out_bytes.
std::uint64_t prepared_bytes(const model::TensorInfo& tensor, LayoutKind kind);

/// `matvec_layout`: anything but native asks for matvec and moe_matvec of weights in the target's rearranged_layout where
/// format, target and number of columns allow.
/// Errors: none for formats that are not served: they are listed as skipped.
Plan make_plan(const model::Model& model, const Target& target,
               LayoutKind matvec_layout = LayoutKind::kNative);

/// As above, of these tensors, each with its own layout and activations.
/// Errors: SpecError that names the policy for activations that no kernel takes (activation_problem).
Plan make_plan(std::span<const PlannedTensor> tensors, const Target& target);

/// Every tensor of the model with that layout, activations as they are.
std::vector<PlannedTensor> plan_all(const model::Model& model, LayoutKind matvec_layout);

/// Why products of the format take no activations of that policy, or nothing: "a8 is served by no kernel of a plan".
std::string activation_problem(FormatId weight, ActivationPolicy policy);

/// The spec by which afp8 activations are made for rows of so many columns.
KernelSpec activation_quantize_spec(std::int64_t cols, const Target& target);

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
