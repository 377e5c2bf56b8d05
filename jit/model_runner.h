// The main job: run every kernel a model needs on a device, with the real tensors, and check the
// results against the plain reference.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "jit/engine.h"
#include "jit/planner.h"
#include "jit/ruled_model.h"
#include "model/model.h"
#include "runtime/device.h"

namespace ktjit {

struct RunOptions {
  bool all_tensors = false;  ///< else one tensor of each group, and its first that stacks experts
  /// What make_plan is asked for. Prepared: the weights are prepared on the device, and restored to be compared.
  LayoutKind matvec_layout = LayoutKind::kNative;
  int compile_threads = 0;  ///< 0: as many as the process may use
  /// Kernel progress and tensor progress, in this order; may be empty.
  Engine::Progress on_kernel;
  std::function<void(std::size_t done, std::size_t total, const std::string& tensor)> on_tensor;
  /// Makes a tensor's bytes when it is its turn, if those it has are not the ones to run with
  /// (RuledModel::load); may be empty.
  std::function<std::optional<OwnedTensor>(const model::TensorInfo& tensor)> load = {};
  /// Ends the run early, while kernels are compiled or between tensors: RunReport::interrupted.
  std::stop_token stop = {};
};

/// One kernel on one tensor.
struct KernelRun {
  std::string tensor;
  Op op = Op::kDequant;
  LayoutKind layout = LayoutKind::kNative;  ///< of the weights that the kernel reads
  FormatId format = FormatId::kF32;
  std::optional<ScaleGrid> scale;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::string lowering;
  std::optional<TunedKnobs> tuned;  ///< the record by which the kernel's knobs were chosen
  bool cached = false;
  double compile_ms = 0.0;  ///< 0 if cached
  double time_us = 0.0;     ///< median of the timed launches
  /// Dequant, prepare, restore: bytes read and written, products: bytes of w in the file; / time.
  double gbps = 0.0;
  bool fits_in_cache = false;  ///< so gbps says nothing about memory
  std::int64_t rows_checked = 0;
  double max_abs_err = 0.0;
  double max_rel_err = 0.0;  ///< max |difference| / max |reference|
  bool ok = false;
  std::string problem;  ///< if not ok: the first wrong element, in coordinates and bits
};

struct RunReport {
  std::string device;
  std::string device_description;
  std::string target;
  std::string route;       ///< how the target's code gets to the device
  double read_gbps = 0.0;  ///< what a plain read of memory reached right before
  std::vector<KernelRun> kernels;
  std::vector<SkippedTensor> skipped;
  std::size_t compiled = 0;
  std::size_t cache_hits = 0;
  double ready_ms = 0.0;  ///< from the call until all kernels were loaded
  bool interrupted = false;
  bool ok = false;  ///< something was checked, and all of it passed
};

/// Runs dequant (to f32, compared bit for bit), matvec and matmul (f32 activations x[i] = sin(0.37
/// (i + 1)), one and 32 rows of them; within product_tolerance of a sum in double) of each tensor.
/// Tensors whose format has NaN codes are scanned for them first, on the device; where there are
/// none, the kernels that rely on it run, and their lowering says so. Tensors that stack experts (experts_of)
/// also run moe_matvec, eight slots of different experts with one x, and moe_matmul with six such x. Where matvec reads prepared weights, those are
/// made by prepare, and what restore makes of them has to mean, bit for bit, what the file says. Large tensors go through the device in pieces; of large results some rows are checked: the first, the
/// last and random ones. Errors: what Engine and Device throw. A wrong result is no error but a
/// KernelRun that is not ok.
RunReport run_model(Engine& engine, runtime::Device& device, const Target& target,
                    const model::Model& model, const RunOptions& options);

/// As above, of these tensors, each with its own layout and activations: RunOptions::matvec_layout says nothing.
/// Where activations are afp8, quantize makes those of matmul on the device, which are compared bit for bit.
RunReport run_tensors(Engine& engine, runtime::Device& device, const Target& target,
                      std::span<const PlannedTensor> tensors, const RunOptions& options);

/// Best of several plain reads of a buffer that no cache holds, in GB/s (1e9 bytes), by the device's
/// own code, else by the target's; 0 if both are missing in a sealed engine.
double measure_read_gbps(Engine& engine, runtime::Device& device, const Target& target);

}  // namespace ktjit
