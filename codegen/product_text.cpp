#include "codegen/product_text.h"

#include <algorithm>
#include <fmt/format.h>

#include "codegen/emitter_parts.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

bool is_moe(const KernelSpec& spec) { return has_experts(spec.op); }

/// "fp8_e4m3  [rows, 512]  row-major": what the header says of an argument; "" for counts.
std::string describe(const KernelSpec& spec, const LaunchArgument& argument) {
  const std::string y_rows = is_moe(spec) ? "slots" : "n";
  const std::string x_rows = is_moe(spec) ? "ceil(slots / slots_per_x)" : "n";
  const std::string experts = is_moe(spec) ? "experts, " : "";
  const auto rows =
      fmt::format("rows{}", spec.matrices > 1 ? fmt::format("{}", argument.matrix) : "");
  switch (argument.role) {
    case ArgumentRole::kWeights:
      return weight_text(spec, experts + rows);
    case ArgumentRole::kScale:
      return scale_text(spec, experts, rows);
    case ArgumentRole::kIds:
      return "i32  [slots]  the expert of each slot";
    case ArgumentRole::kX:
      return fmt::format(
          "{}  [{}, {}]  row-major{}", get_format(spec.x_format).name, x_rows, spec.layout.cols,
          spec.op == Op::kMatvec ? fmt::format(", 1 <= n <= {}", spec.x_columns) : "");
    case ArgumentRole::kXScale:
      return fmt::format("f32  [{}, {}]  row-major, one per group of {} columns", x_rows,
                         spec.x_scale->cols_of_scales(spec.layout.cols), spec.x_scale->block_cols);
    case ArgumentRole::kBias:
      return fmt::format("{}  [{}{}]", get_format(*spec.bias).name, experts, rows);
    case ArgumentRole::kResidual:
      return fmt::format("{}  [n, rows]  row-major, may be y", get_format(*spec.residual).name);
    case ArgumentRole::kY:
      return fmt::format("{}  [{}, {}]  row-major", get_format(spec.y_format).name, y_rows, rows);
    default:
      return "";
  }
}

}  // namespace

std::string tensor_descriptions(const KernelSpec& spec) {
  std::size_t width = 8;
  for (const LaunchArgument& argument : launch_order(spec)) {
    if (!describe(spec, argument).empty())
      width = std::max(width, argument_name(spec, argument).size());
  }
  std::string text;
  for (const LaunchArgument& argument : launch_order(spec)) {
    const std::string description = describe(spec, argument);
    if (description.empty()) continue;
    text += fmt::format("//   {:<{}} {}  {}\n", argument_name(spec, argument), width,
                        argument.role == ArgumentRole::kY ? "out" : "in ", description);
  }
  return text;
}

std::string product_math(const KernelSpec& spec) {
  const std::string decoded = spec.scale ? "decode({}) * scale" : "decode({})";
  const std::string w_index = is_moe(spec) ? "[ids[s], r, c]" : "[r, c]";
  const std::string x_value = is_moe(spec) ? "f32(x[s / slots_per_x, c])" : "f32(x[j, c])";
  const auto sum = [&](std::string_view w, std::string_view bias) {
    return fmt::format(
        "sum over c of {}{} * {}{}{}", fmt::format(fmt::runtime(decoded), w), w_index, x_value,
        spec.x_scale ? " * x_scale" : "",
        spec.bias ? fmt::format(" + {}{}", bias, is_moe(spec) ? "[ids[s], r]" : "[r]") : "");
  };
  const std::string y = is_moe(spec) ? "y[s, r]" : "y[j, r]";
  std::string text;
  if (spec.gate != Gate::kNone) {
    text = fmt::format("{} = {}({}) * ({})", y, gate_name(spec.gate), sum("w_gate", "bias_gate"),
                       sum("w_up", "bias_up"));
  } else {
    text = fmt::format("{} = {}{}", y, sum("w", "bias"), spec.residual ? " + residual[j, r]" : "");
    if (spec.matrices > 1) text += fmt::format(" for each of {} matrices", spec.matrices);
  }
  if (spec.layout.kind == LayoutKind::kInterleaved) {
    text += ", x as integers times a factor for each 256 columns, sums of integers, then of f32";
  } else {
    text += spec.layout.kind == LayoutKind::kPrepared && is_matvec(spec.op)
                ? ", x as integers of 31 bits times a power of two for each 256 columns, sums of "
                  "integers, then of f32"
                : ", products and sums in f32";
  }
  if (spec.y_format != FormatId::kF32)
    text +=
        fmt::format(", then rounded once to {}, to nearest even", get_format(spec.y_format).name);
  if (is_moe(spec)) text += "; NaN where no expert has the id";
  return text;
}

std::string declaration(const KernelSpec& spec, const LaunchArgument& argument,
                        const std::string& restrict_word) {
  const auto input = [&](std::string_view type) {
    return fmt::format("const {}*{}", type, restrict_word);
  };
  const std::string type = [&]() -> std::string {
    switch (argument.role) {
      case ArgumentRole::kWeights:
        return input("unsigned char");
      case ArgumentRole::kScale:
        return input(scale_c_type(spec.scale->type));
      case ArgumentRole::kIds:
        return input("int");
      case ArgumentRole::kX:
        return input(io_type(spec.x_format));
      case ArgumentRole::kBias:
        return input(io_type(*spec.bias));
      case ArgumentRole::kResidual:
        return fmt::format("const {}*", io_type(*spec.residual));
      case ArgumentRole::kY:
        return fmt::format("{}*{}", io_type(spec.y_format), spec.residual ? "" : restrict_word);
      case ArgumentRole::kRows:
      case ArgumentRole::kN:
      case ArgumentRole::kSlots:
      case ArgumentRole::kSlotsPerX:
      case ArgumentRole::kExperts:
        return "long long";
      case ArgumentRole::kXScale:
        return input("float");
      case ArgumentRole::kFound:
        break;
    }
    KTJIT_UNREACHABLE("an argument of a product");
  }();
  return fmt::format("{} {}", type, argument_name(spec, argument));
}

std::string select_matrix(const KernelSpec& spec, const std::string& position,
                          const std::string& matrix_extent, const std::string& prefix, int spaces,
                          Selected selected) {
  KernelSpec one = spec;
  one.matrices = 1;  // names without numbers
  std::string text;
  const std::string margin(static_cast<std::size_t>(spaces), ' ');
  const auto line = [&](const std::string& statement) { text += margin + statement + "\n"; };
  for (int matrix = 0; matrix < spec.matrices; ++matrix) {
    if (matrix > 0) {
      line(fmt::format("if ({} >= {}) {{", position, matrix_extent));
      line(fmt::format("  {} -= {};", position, matrix_extent));
    }
    for (const LaunchArgument& argument : launch_order(spec)) {
      const std::string name = argument_name(one, argument);
      const std::string numbered = prefix + argument_name(spec, argument);
      if (argument_name(spec, argument) == name || argument.matrix != matrix) continue;
      if (selected == Selected::kAllButWeights && argument.role == ArgumentRole::kWeights) continue;
      line(matrix == 0 ? fmt::format("{} = {};", declaration(one, argument, ""), numbered)
                       : fmt::format("  {} = {};", name, numbered));
    }
    if (matrix > 0) line("}");
  }
  return text;
}

std::string expert_scale_stride(const KernelSpec& spec, const std::string& rows) {
  const ScaleGrid& grid = *spec.scale;
  const std::string scale_rows =
      grid.block_rows == 0   ? "1"
      : grid.block_rows == 1 ? rows
                             : fmt::format("(({} + kScaleBlockRows - 1) / kScaleBlockRows)", rows);
  const std::string count = grid.block_rows == 0
                                ? fmt::format("{}", grid.cols_of_scales(spec.layout.cols))
                                : fmt::format("{} * kScaleCols", scale_rows);
  if (grid.header_bytes() == 0) return count;
  const std::int64_t header =
      grid.header_bytes();  // codes are bytes; planes begin at its multiples
  return fmt::format("({0} + ({1} + {2}) / {0} * {0})", header, count, header - 1);
}

std::string gate_fragment(const KernelSpec& spec) {
  KTJIT_CHECK(spec.gate != Gate::kNone);
  return fmt::format("activate_{}", gate_name(spec.gate));
}

}  // namespace ktjit::codegen
