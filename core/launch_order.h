// The order in which kernels take their arguments: one place for the emitters and for everyone who launches.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/kernel_spec.h"

namespace ktjit {

/// What a launch argument is. Each is 8 bytes: an address, or from kRows on an integer.
enum class ArgumentRole {
  kWeights,  ///< [rows, cols]; MoE: [experts, rows, cols]; quantize writes it
  kScale,  ///< not with products of prepared weights: the plane that ScaleGrid describes; MoE: one for each expert, one after another
  kIds,    ///< MoE (moe_matvec, moe_matmul): int32 [slots]
  kX,      ///< [n, cols]; MoE: [ceil(slots / slots_per_x), cols]; quantize: [rows, cols]
  kXScale,    ///< afp8: f32 [n, ceil(cols / group)]
  kBias,      ///< [rows]; MoE: [experts, rows]
  kResidual,  ///< [n, rows]; may be y
  kY,  ///< dequant: [rows, cols]; prepare: prepared_bytes; restore: native blocks; products: [n, rows]; MoE: [slots, rows]
  kFound,  ///< nan_scan: one uint32_t
  kRows,   ///< of a matrix, of one expert's with MoE
  kN,      ///< rows of x
  kSlots,  ///< MoE: rows of y, each of an expert
  kSlotsPerX,  ///< MoE: slots that share a row of x: 8 where 8 experts get a token, 1 where each has its own
  kExperts,  ///< MoE: of the stack
};

struct LaunchArgument {
  ArgumentRole role = ArgumentRole::kWeights;
  /// Of several matrices, which one: 0 and 1 are gate and up where the spec has a gate.
  int matrix = 0;

  bool operator==(const LaunchArgument&) const = default;
};

/// The most arguments that a kernel takes: weights, scale, bias, y and rows of four matrices, x and n.
constexpr std::size_t kMaxLaunchArguments = 22;

/// Arguments in order; allocates nothing, so that launches can ask for it.
class LaunchOrder {
 public:
  void add(ArgumentRole role, int matrix = 0);
  const LaunchArgument* begin() const { return arguments_.data(); }
  const LaunchArgument* end() const { return begin() + count_; }
  std::size_t size() const { return count_; }

 private:
  std::array<LaunchArgument, kMaxLaunchArguments> arguments_{};
  std::size_t count_ = 0;
};

/// The arguments of a kernel's launch, in order:
///   dequant     w, [scale], y, rows
///   products    w, [scale], x, [x_scale], [bias], [residual], y, rows, n
///   moe_matvec  w, [scale], ids, x, [bias], y, rows, slots, slots_per_x, experts
///   moe_matmul  w, [scale], ids, x, [x_scale], [bias], y, rows, slots, slots_per_x, experts
///   quantize    x, w, [scale], rows
///   nan_scan    w, found, rows
///   prepare     w, [scale], y, rows
///   restore     w, y, [scale], rows
///   read_test   w, y, rows
/// With several matrices w, [scale] come once for each, as do the [bias], the y and the rows: w0, scale0, w1,
/// scale1, x, bias0, bias1, y0, y1, rows0, rows1, n. With a gate w, [scale] come twice, as does the [bias]:
/// w_gate, scale_gate, w_up, scale_up, x, bias_gate, bias_up, y, rows, n.
LaunchOrder launch_order(const KernelSpec& spec);

/// Where in that order the argument of the first matrix with this role is. REQUIRES: there is one.
int argument_index(const KernelSpec& spec, ArgumentRole role);

/// "w", "scale_up", "y2", "slots_per_x": the name in emitted text and in messages.
std::string argument_name(const KernelSpec& spec, const LaunchArgument& argument);

/// Bytes from one expert's plane of scales to the next one's: those of a [rows, cols] matrix, rounded up to
/// whole headers where planes begin with one.
std::int64_t expert_scale_bytes(const ScaleGrid& grid, std::int64_t rows, std::int64_t cols);

}  // namespace ktjit
