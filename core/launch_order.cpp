#include "core/launch_order.h"

#include <array>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit {
namespace {

std::string_view role_name(ArgumentRole role) {
  switch (role) {
    case ArgumentRole::kWeights:
      return "w";
    case ArgumentRole::kScale:
      return "scale";
    case ArgumentRole::kIds:
      return "ids";
    case ArgumentRole::kX:
      return "x";
    case ArgumentRole::kXScale:
      return "x_scale";
    case ArgumentRole::kBias:
      return "bias";
    case ArgumentRole::kResidual:
      return "residual";
    case ArgumentRole::kY:
      return "y";
    case ArgumentRole::kFound:
      return "found";
    case ArgumentRole::kRows:
      return "rows";
    case ArgumentRole::kN:
      return "n";
    case ArgumentRole::kSlots:
      return "slots";
    case ArgumentRole::kSlotsPerX:
      return "slots_per_x";
    case ArgumentRole::kExperts:
      return "experts";
  }
  KTJIT_UNREACHABLE("a known role");
}

/// Whether each matrix of the spec has an argument of its own in this role.
bool is_per_matrix(const KernelSpec& spec, ArgumentRole role) {
  switch (role) {
    case ArgumentRole::kWeights:
    case ArgumentRole::kScale:
    case ArgumentRole::kBias:
      return true;
    case ArgumentRole::kY:
    case ArgumentRole::kRows:
      return spec.gate == Gate::kNone;
    default:
      return false;
  }
}

}  // namespace

void LaunchOrder::add(ArgumentRole role, int matrix) {
  KTJIT_CHECK(count_ < kMaxLaunchArguments);
  arguments_[count_++] = {role, matrix};
}

LaunchOrder launch_order(const KernelSpec& spec) {
  using enum ArgumentRole;
  LaunchOrder order;
  const auto add = [&order](ArgumentRole role, int matrix = 0) { order.add(role, matrix); };
  const auto add_weights = [&](bool has_scale) {
    for (int i = 0; i < weight_matrices(spec); ++i) {
      add(kWeights, i);
      if (has_scale) add(kScale, i);
    }
  };
  const auto add_each = [&](ArgumentRole role) {
    const int count = is_per_matrix(spec, role) ? weight_matrices(spec) : 1;
    for (int i = 0; i < count; ++i) add(role, i);
  };
  switch (spec.op) {
    case Op::kDequant:
      add_weights(spec.scale.has_value());
      add(kY);
      break;
    case Op::kMatvec:
    case Op::kMatmul:
    case Op::kMoeMatvec:
    case Op::kMoeMatmul:
      add_weights(spec.scale.has_value() && spec.layout.kind == LayoutKind::kNative);
      if (has_experts(spec.op)) add(kIds);
      add(kX);
      if (spec.x_scale) add(kXScale);
      if (spec.bias) add_each(kBias);
      if (spec.residual) add(kResidual);
      add_each(kY);
      add_each(kRows);
      if (has_experts(spec.op)) {
        for (const ArgumentRole role : {kSlots, kSlotsPerX, kExperts}) add(role);
      } else {
        add(kN);
      }
      return order;
    case Op::kQuantize:
      add(kX);
      add_weights(spec.scale.has_value());
      break;
    case Op::kNanScan:
      add(kWeights);
      add(kFound);
      break;
    case Op::kPrepare:
      add_weights(spec.scale.has_value());
      add(kY);
      break;
    case Op::kRestore:
      add(kWeights);
      add(kY);
      if (spec.scale) add(kScale);
      break;
    case Op::kReadTest:
      add(kWeights);
      add(kY);
      break;
  }
  add(kRows);
  return order;
}

int argument_index(const KernelSpec& spec, ArgumentRole role) {
  int at = 0;
  for (const LaunchArgument& argument : launch_order(spec)) {
    if (argument.role == role) return at;
    ++at;
  }
  KTJIT_UNREACHABLE("a role that the launch has");
}

std::string argument_name(const KernelSpec& spec, const LaunchArgument& argument) {
  const std::string_view name = role_name(argument.role);
  if (!is_per_matrix(spec, argument.role) || weight_matrices(spec) == 1) return std::string(name);
  if (spec.gate != Gate::kNone)
    return fmt::format("{}_{}", name, argument.matrix == 0 ? "gate" : "up");
  return fmt::format("{}{}", name, argument.matrix);
}

std::int64_t expert_scale_bytes(const ScaleGrid& grid, std::int64_t rows, std::int64_t cols) {
  const std::int64_t bytes = grid.plane_bytes(rows, cols);
  const std::int64_t header = grid.header_bytes();
  return header == 0 ? bytes : (bytes + header - 1) / header * header;
}

}  // namespace ktjit
