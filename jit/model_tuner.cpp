#include "jit/model_tuner.h"

#include <algorithm>
#include <chrono>

#include "core/interrupted_error.h"
#include "jit/planner.h"

namespace ktjit {
namespace {

/// The plan's kernel as the selection launches it.
KernelSpec selected_spec(KernelSpec spec, const TuneSelection& selection) {
  if (is_product(spec.op)) spec.x_format = selection.x_format;
  spec.y_format = selection.y_format;
  if (spec.op == Op::kMatvec) spec.x_columns = x_columns_for(selection.matvec_n);
  spec.dependent_launch = selection.dependent_launch;
  validate(spec);
  return spec;
}

TuningSize size_for(const KernelSpec& spec, std::int64_t rows, const TuneSelection& selection) {
  switch (spec.op) {
    case Op::kMatvec:
      return {rows, selection.matvec_n};
    case Op::kMatmul:
      return {rows, selection.matmul_n};
    default:
      return {rows, 0};
  }
}

void add_tasks(const TensorGroup& group, const KernelSpec& spec, const TuneSelection& selection,
               std::vector<TuneTask>& tasks) {
  const std::size_t first = tasks.size();
  for (const model::TensorInfo* tensor : group.tensors) {
    const TuningSize size = size_for(spec, tensor->rows(), selection);
    auto task = std::find_if(tasks.begin() + static_cast<std::ptrdiff_t>(first), tasks.end(),
                             [&](const TuneTask& known) { return known.size == size; });
    if (task == tasks.end()) {
      tasks.push_back({spec, size, tensor->name, 0});
      task = std::prev(tasks.end());
    }
    task->bytes += tensor->bytes();
  }
}

}  // namespace

std::vector<TuneTask> plan_tuning(const model::Model& model, const Target& target,
                                  const TuneSelection& selection) {
  const Plan plan = make_plan(model, target, selection.matvec_layout);
  std::vector<TuneTask> tasks;
  for (const Op op : selection.ops) {
    const auto first_of_op = static_cast<std::ptrdiff_t>(tasks.size());
    for (const TensorGroup& group : plan.groups) {
      for (const KernelSpec& kernel : group.kernels) {
        if (kernel.op != op || !can_bench(kernel, nullptr)) continue;
        add_tasks(group, selected_spec(kernel, selection), selection, tasks);
      }
    }
    std::stable_sort(tasks.begin() + first_of_op, tasks.end(),
                     [](const TuneTask& a, const TuneTask& b) { return a.bytes > b.bytes; });
  }
  return tasks;
}

bool TuneReport::ok() const {
  return !interrupted && std::none_of(results.begin(), results.end(), [](const TuneResult& result) {
    return result.outcome == TuneOutcome::kDefaultWrong;
  });
}

TuneReport tune(Engine& engine, runtime::Device& device, std::span<const TuneTask> tasks,
                const TunerOptions& options, const MakeBench& make_bench,
                const TuneProgress& progress) {
  const auto start = std::chrono::steady_clock::now();
  TuneReport report;
  report.device = device.name();
  report.device_description = device.description();
  report.identity = device.speed_identity();
  report.kept = engine.tuning().keeps();
  const MakeBench own_bench = [&](const KernelSpec& spec, const TuningSize& size) {
    return make_tuning_bench(engine, device, spec, size);
  };
  for (const TuneTask& task : tasks) {
    if (progress) progress(report.results.size(), tasks.size(), kernel_name(task.spec));
    try {
      report.results.push_back(tune_kernel(engine, device, task.spec, task.size,
                                           make_bench ? make_bench : own_bench, options));
      report.tensors.push_back(task.tensor);
    } catch (const InterruptedError&) {
      report.interrupted = true;
      break;
    }
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace ktjit
