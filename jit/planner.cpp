// Groups a model's tensors by the kernels they share.
#include "jit/planner.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>

#include "core/error.h"

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

}  // namespace

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

Plan make_plan(const model::Model& model, const Target& target) {
  Plan plan;
  plan.target = target;
  for (const model::TensorInfo& tensor : model.tensors()) {
    plan.weight_bytes += tensor.bytes() + tensor.scale_data.size();
    if (std::string reason = reason_to_skip(tensor); !reason.empty()) {
      plan.skipped.push_back(
          {tensor.name, std::string(get_format(tensor.format).name), std::move(reason)});
      continue;
    }
    auto group =
        std::find_if(plan.groups.begin(), plan.groups.end(), [&](const TensorGroup& candidate) {
          return candidate.format == tensor.format && candidate.cols == tensor.cols() &&
                 candidate.scale == tensor.scale_grid;
        });
    if (group == plan.groups.end()) {
      TensorGroup made;
      made.format = tensor.format;
      made.cols = tensor.cols();
      made.scale = tensor.scale_grid;
      made.lowering = codegen::get_lowering(tensor.format, target);
      for (Op op : {Op::kDequant, Op::kMatvec, Op::kMatmul}) {
        if (is_product(op) && is_dequant_only(tensor.format)) continue;
        made.kernels.push_back(spec_for(tensor, op, target));
      }
      if (has_nan_codes(tensor.format)) add_finite_kernels(made.kernels);
      group = plan.groups.insert(plan.groups.end(), std::move(made));
    }
    group->tensors.push_back(&tensor);
    group->bytes += tensor.bytes();
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
