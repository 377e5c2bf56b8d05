// Tunes the kernels of a model, or some of them: what `ktjit tune` and `bench --tune` do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "jit/tuner.h"
#include "jit/tuning_bench.h"
#include "model/model.h"

namespace ktjit {

/// One kernel on one size of matrix.
struct TuneTask {
  KernelSpec spec;
  TuningSize size;
  std::string tensor;       ///< a tensor of that kernel and size, for people
  std::uint64_t bytes = 0;  ///< of all such tensors together
};

/// Which of a model's kernels, and how they are launched.
struct TuneSelection {
  std::vector<Op> ops = {Op::kMatvec, Op::kMatmul, Op::kDequant};
  int matvec_n = 1;            ///< rows of x of a launch, 1 to 8
  std::int64_t matmul_n = 32;  ///< as `ktjit run` measures
  FormatId x_format = FormatId::kF32;
  FormatId y_format = FormatId::kF32;
  bool dependent_launch = false;
  LayoutKind matvec_layout = LayoutKind::kNative;  ///< as make_plan takes it
};

/// Each kernel that the model needs with each number of rows that its tensors have, the ones that read most
/// first, by op in the order of the selection. Kernels that make_tuning_bench doesn't serve are left out.
/// Errors: SpecError if the selection gives specs that are not valid.
std::vector<TuneTask> plan_tuning(const model::Model& model, const Target& target,
                                  const TuneSelection& selection);

struct TuneReport {
  std::string device;  ///< "cuda:0"
  std::string device_description;
  SpeedIdentity identity;            ///< what the records are kept under
  std::vector<std::string> tensors;  ///< of results
  std::vector<TuneResult> results;   ///< in the order of the tasks; fewer if it was interrupted
  bool kept = false;                 ///< records are in the cache; else this process alone has them
  bool interrupted = false;
  double seconds = 0;

  /// No default gave a wrong result, and it was not interrupted.
  bool ok() const;
};

using TuneProgress =
    std::function<void(std::size_t done, std::size_t total, const std::string& kernel)>;

/// Tunes the tasks one after another. `make_bench`: with what kernels are measured, make_tuning_bench if
/// it is empty. Errors: as tune_kernel, but for InterruptedError.
TuneReport tune(Engine& engine, runtime::Device& device, std::span<const TuneTask> tasks,
                const TunerOptions& options, const MakeBench& make_bench = {},
                const TuneProgress& progress = {});

}  // namespace ktjit
