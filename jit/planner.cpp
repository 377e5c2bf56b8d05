// Groups a model's tensors by the kernels they share.
#include "jit/planner.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>

#include "codegen/emitter.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/expert_stack.h"
#include "jit/prepared_ops.h"
#include "jit/tensor_ops.h"

namespace ktjit {
namespace {

/// Why the tensor gets no kernels, or nothing.
std::string reason_to_skip(const model::TensorInfo& tensor) {
  if (tensor.elements() == 0) return "it has no elements";
  if (!codegen::is_served(tensor.format)) {
    return fmt::format("no kernel serves {} yet", get_format(tensor.format).name);
  }
  return {};
}

/// What happens to an FP8 format here, for people who know it from Triton's message. Triton converts
/// e4m3 from compute capability 8.9 on (its backend/compiler.py, up to 3.6).
std::string fp8_advice(const TensorGroup& group, const Target& target) {
  const std::string_view name = get_format(group.format).name;
  if (group.format == FormatId::kFp8E4M3 && target.is_cuda() && target.sm < 89) {
    return fmt::format(
        "Triton refuses {} on {} (\"type fp8e4nv not supported in this architecture\"); ktjit runs "
        "it there as it is, converted exactly in software, {} instructions for 4 weights",
        name, target.name(), group.lowering.instructions_per_4);
  }
  return fmt::format("{} ({}) runs as it is: {}", name,
                     fmt::join(format_aliases(group.format), ", "), group.lowering.summary);
}

/// " (i32, q8_1: dequant only)" if there are tensors that no product takes, or "".
std::string dequant_only_note(const Plan& plan) {
  std::vector<std::string_view> names;
  for (const TensorGroup& group : plan.groups) {
    const std::string_view name = get_format(group.format).name;
    const bool is_new = std::find(names.begin(), names.end(), name) == names.end();
    if (is_dequant_only(group.format) && is_new) names.push_back(name);
  }
  return names.empty() ? "" : fmt::format(" ({}: dequant only)", fmt::join(names, ", "));
}

/// Whether some code of the format is a NaN: of the FP8 formats all but e4b15.
bool has_nan_codes(FormatId format) {
  return get_format(format).family == FormatFamily::kFp8 && format != FormatId::kFp8E4B15;
}

/// Adds the scan for NaN codes, and the kernels that rely on its having found none.
void add_finite_kernels(std::vector<KernelSpec>& kernels) {
  std::vector<KernelSpec> more = kernels;
  for (KernelSpec& spec : more) spec.weights_finite = true;
  KernelSpec scan = kernels.front();
  scan.op = Op::kNanScan;
  scan.scale.reset();
  kernels.push_back(scan);
  kernels.insert(kernels.end(), more.begin(), more.end());
}

/// Adds moe_matvec and moe_matmul, unless the group has them or its format has no products.
void add_expert_kernels(TensorGroup& group, const Target& target) {
  const auto is_moe = [](const KernelSpec& spec) { return has_experts(spec.op); };
  if (is_dequant_only(group.format) || std::ranges::any_of(group.kernels, is_moe)) return;
  for (const Op op : {Op::kMoeMatvec, Op::kMoeMatmul}) {
    KernelSpec spec = make_spec(op, group.format, group.scale, group.cols, target);
    // The CPU's experts stay native.
    if (group.matvec_layout == LayoutKind::kPrepared && reads_prepared(op, group.format, target))
      spec.layout.kind = group.matvec_layout;
    group.kernels.push_back(spec);
    if (!has_nan_codes(group.format)) continue;
    spec.weights_finite = true;
    group.kernels.push_back(spec);
  }
}

/// Lets matvec read prepared weights, if there is a kernel, and adds those that make and undo them.
void prepare_matvec(TensorGroup& group) {
  const auto matvec = std::ranges::find(group.kernels, Op::kMatvec, &KernelSpec::op);
  if (matvec == group.kernels.end()) return;
  if (!serves_prepared(matvec->weight, matvec->target)) return;
  KernelSpec prepared = *matvec;
  prepared.layout.kind = rearranged_layout(matvec->target);
  *matvec = prepared;
  group.matvec_layout = prepared.layout.kind;
  group.kernels.push_back(prepare_spec_of(prepared).value());
  group.kernels.push_back(restore_spec_of(prepared));
}

/// Lets the kernels read what is prepared in the file, as far as there are such; the others need restore.
void read_prepared(TensorGroup& group, const Target& target) {
  const bool has_matvec = target.is_cuda() && serves_prepared(group.format, target);
  for (KernelSpec& spec : group.kernels) {
    const bool is_read = spec.op == Op::kMatvec    ? has_matvec
                         : spec.op == Op::kDequant ? dequantizes_prepared(spec.weight, target)
                                                   : false;
    if (is_read) spec.layout.kind = LayoutKind::kPrepared;
    if (is_read && spec.op == Op::kMatvec) group.matvec_layout = LayoutKind::kPrepared;
  }
  KernelSpec prepared = group.kernels.front();
  prepared.layout.kind = LayoutKind::kPrepared;
  group.kernels.push_back(restore_spec_of(prepared));
}

void add_tensor(TensorGroup& group, const model::TensorInfo& tensor) {
  group.tensors.push_back(&tensor);
  group.bytes += tensor.bytes();
  if (product_layout(group, tensor) == LayoutKind::kNative) return;
  group.prepared_bytes += prepared_bytes(tensor, group.matvec_layout);
  group.native_bytes_of_prepared += tensor.bytes();
}

/// Lets matmul take FP8 activations, and adds what makes those.
void quantize_activations(TensorGroup& group, const Target& target) {
  const KernelSpec quantize = activation_quantize_spec(group.cols, target);
  for (KernelSpec& spec : group.kernels) {
    if (spec.op != Op::kMatmul) continue;
    spec.activation = ActivationPolicy::kAfp8;
    spec.x_format = quantize.weight;
    spec.x_scale = quantize.scale;
  }
  group.kernels.push_back(quantize);
}

/// A group with the kernels that all of its tensors have, and no tensor yet.
TensorGroup make_group(const PlannedTensor& planned, const Target& target) {
  const model::TensorInfo& tensor = *planned.tensor;
  const std::string problem = activation_problem(tensor.format, planned.activation);
  if (!problem.empty()) {
    throw SpecError("activation", activation_name(planned.activation),
                    fmt::format("a16 for tensor '{}': {}", tensor.name, problem));
  }
  TensorGroup made;
  made.format = tensor.format;
  made.cols = tensor.cols();
  made.scale = tensor.scale_grid;
  made.activation = planned.activation;
  made.asked_layout = planned.matvec_layout;
  made.stored = tensor.layout;
  made.lowering = codegen::get_lowering(tensor.format, target);
  for (Op op : {Op::kDequant, Op::kMatvec, Op::kMatmul}) {
    if (is_product(op) && is_dequant_only(tensor.format)) continue;
    made.kernels.push_back(spec_for(tensor, op, target));
  }
  if (has_nan_codes(tensor.format)) add_finite_kernels(made.kernels);
  if (planned.activation == ActivationPolicy::kAfp8) quantize_activations(made, target);
  if (tensor.layout == LayoutKind::kPrepared) {
    read_prepared(made, target);
  } else if (planned.matvec_layout != LayoutKind::kNative) {
    prepare_matvec(made);
  }
  return made;
}

}  // namespace

LayoutKind product_layout(const TensorGroup& group, const model::TensorInfo& tensor) {
  if (experts_of(tensor) == 0) return group.matvec_layout;
  const auto kernel = std::ranges::find(group.kernels, Op::kMoeMatvec, &KernelSpec::op);
  return kernel == group.kernels.end() ? LayoutKind::kNative : kernel->layout.kind;
}

std::uint64_t prepared_bytes(const model::TensorInfo& tensor, LayoutKind kind) {
  if (tensor.layout == LayoutKind::kPrepared) return tensor.bytes();
  const std::int64_t experts = std::max<std::int64_t>(1, experts_of(tensor));
  return static_cast<std::uint64_t>(
      experts * laid_out_bytes(kind, tensor.format, tensor.rows() / experts, tensor.cols()));
}

bool Plan::has_prepared() const {
  return std::ranges::any_of(
      groups, [](const TensorGroup& group) { return group.matvec_layout != LayoutKind::kNative; });
}

std::uint64_t Plan::extra_bytes_of_prepared() const {
  std::uint64_t extra = 0;
  for (const TensorGroup& group : groups)
    extra += group.prepared_bytes - group.native_bytes_of_prepared;
  return extra;
}

std::vector<KernelSpec> Plan::all_kernels() const {
  std::vector<KernelSpec> kernels;
  for (const TensorGroup& group : groups) {
    kernels.insert(kernels.end(), group.kernels.begin(), group.kernels.end());
  }
  return kernels;
}

KernelSpec spec_for(const model::TensorInfo& tensor, Op op, const Target& target) {
  return make_spec(op, tensor.format, tensor.scale_grid, tensor.cols(), target);
}

std::string activation_problem(FormatId weight, ActivationPolicy policy) {
  if (policy == ActivationPolicy::kA8) return "a8 is served by no kernel of a plan";
  if (policy != ActivationPolicy::kA16 && is_dequant_only(weight))
    return fmt::format("{} has no products", get_format(weight).name);
  return {};
}

KernelSpec activation_quantize_spec(std::int64_t cols, const Target& target) {
  return make_spec(Op::kQuantize, FormatId::kFp8E4M3,
                   ScaleGrid{1, kActivationGroup, ScaleType::kF32}, cols, target);
}

std::vector<PlannedTensor> plan_all(const model::Model& model, LayoutKind matvec_layout) {
  std::vector<PlannedTensor> tensors;
  for (const model::TensorInfo& tensor : model.tensors())
    tensors.push_back({&tensor, matvec_layout, ActivationPolicy::kA16});
  return tensors;
}

Plan make_plan(const model::Model& model, const Target& target, LayoutKind matvec_layout) {
  return make_plan(plan_all(model, matvec_layout), target);
}

Plan make_plan(std::span<const PlannedTensor> tensors, const Target& target) {
  Plan plan;
  plan.target = target;
  for (const PlannedTensor& planned : tensors) {
    const model::TensorInfo& tensor = *planned.tensor;
    plan.weight_bytes += tensor.bytes() + tensor.scale_data.size();
    if (std::string reason = reason_to_skip(tensor); !reason.empty()) {
      plan.skipped.push_back(
          {tensor.name, std::string(get_format(tensor.format).name), std::move(reason)});
      continue;
    }
    auto group =
        std::find_if(plan.groups.begin(), plan.groups.end(), [&](const TensorGroup& candidate) {
          return candidate.format == tensor.format && candidate.cols == tensor.cols() &&
                 candidate.scale == tensor.scale_grid && candidate.stored == tensor.layout &&
                 candidate.activation == planned.activation &&
                 candidate.asked_layout == planned.matvec_layout;
        });
    if (group == plan.groups.end())
      group = plan.groups.insert(plan.groups.end(), make_group(planned, target));
    if (experts_of(tensor) > 0) add_expert_kernels(*group, target);
    add_tensor(*group, tensor);
  }
  return plan;
}

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kSlow:
      return "slow";
    case Verdict::kNo:
      return "no";
  }
  KTJIT_UNREACHABLE("a known verdict");
}

TargetVerdict judge(const Plan& plan) {
  TargetVerdict result;
  const std::size_t served = std::accumulate(
      plan.groups.begin(), plan.groups.end(), std::size_t{0},
      [](std::size_t sum, const TensorGroup& group) { return sum + group.tensors.size(); });
  const std::size_t all = served + plan.skipped.size();
  if (plan.skipped.empty()) {
    result.reason = fmt::format("every tensor has its kernels on {}{}, every conversion is exact",
                                plan.target.name(), dequant_only_note(plan));
  } else {
    std::vector<std::string> formats;
    for (const SkippedTensor& skipped : plan.skipped) {
      if (std::find(formats.begin(), formats.end(), skipped.format) == formats.end())
        formats.push_back(skipped.format);
    }
    result.verdict = Verdict::kNo;
    result.reason = fmt::format("{} of {} tensors have no kernel yet ({})", plan.skipped.size(),
                                all, fmt::join(formats, ", "));
    result.advice.push_back(
        fmt::format("requantise the {} tensors to a served format, for example q4_K or q8_0",
                    fmt::join(formats, ", ")));
  }
  for (const TensorGroup& group : plan.groups) {
    if (get_format(group.format).family != FormatFamily::kFp8) continue;
    std::string line = fp8_advice(group, plan.target);
    if (std::find(result.advice.begin(), result.advice.end(), line) == result.advice.end())
      result.advice.push_back(std::move(line));
  }
  return result;
}

}  // namespace ktjit
