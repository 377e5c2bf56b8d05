#include "codegen/cuda_matvec_variant.h"

#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/product_text.h"

namespace ktjit::codegen {
namespace {

/// "grid" of the header: the CTAs along x and y.
std::string grid_text(const KernelSpec& spec, int rows_per_cta) {
  std::string x;
  for (int i = 0; i < spec.matrices; ++i) {
    const std::string rows = spec.matrices > 1 ? fmt::format("rows{}", i) : "rows";
    x += fmt::format("{}ceil({} / {})", i == 0 ? "" : " + ", rows, rows_per_cta);
  }
  return fmt::format("{}, {}", x, spec.op == Op::kMoeMatvec ? "slots" : "1");
}

/// Statements that store NaNs where a slot has no expert, and end.
constexpr std::string_view kStoreNans =
    "    for (int r = lane; r < kRowsPerWarp; r += kWarpThreads) {\n"
    "      if (first_row + r < rows) {\n"
    "        store_element(y + slot * rows + first_row + r, __uint_as_float(0x7fc00000u));\n"
    "      }\n"
    "    } // r: rows of this warp\n";

/// "const TYPE* const NAME[kPair] = {NAME_gate, NAME_up};" for the weights and their scales.
std::string pair_declarations(const KernelSpec& spec) {
  std::string text = "  const unsigned char* const w[kPair] = {w_gate, w_up};\n";
  if (spec.scale) {
    text += fmt::format("  const {}* const scale[kPair] = {{scale_gate, scale_up}};\n",
                        scale_c_type(spec.scale->type));
  }
  return text + "\n";
}

}  // namespace

std::string parameter_list(const KernelSpec& spec) {
  std::string text;
  for (const LaunchArgument& argument : launch_order(spec)) {
    text += fmt::format("{}    {}{}", text.empty() ? "" : ",\n",
                        argument.role == ArgumentRole::kSlots ? "[[maybe_unused]] " : "",
                        declaration(spec, argument, " __restrict__"));
  }
  return text;
}

std::string select_expert(const KernelSpec& spec, std::string_view weight_stride,
                          std::string_view store_nans) {
  std::string text = fmt::format(
      "  const long long slot = blockIdx.y;\n"
      "  const long long expert = ids[slot];\n"
      "  if (expert < 0 || expert >= experts) {{\n"
      "{}"
      "    return;\n"
      "  }}\n",
      store_nans);
  for (const LaunchArgument& argument : launch_order(spec)) {
    const std::string stride = [&]() -> std::string {
      switch (argument.role) {
        case ArgumentRole::kWeights:
          return std::string(weight_stride);
        case ArgumentRole::kScale:
          return expert_scale_stride(spec, "rows");
        case ArgumentRole::kBias:
          return "rows";
        default:
          return "";
      }
    }();
    if (!stride.empty())
      text += fmt::format("  {0} += expert * {1};\n", argument_name(spec, argument), stride);
  }
  return text + "\n";
}

std::string result_text(const KernelSpec& spec, std::string_view row,
                        std::vector<std::string>& fragments) {
  if (spec.bias) fragments.push_back(fmt::format("load_bias_{}", get_format(*spec.bias).name));
  const auto biased = [&](const std::string& total, const std::string& bias) {
    return spec.bias ? fmt::format("{} + load_bias({}, {})", total, bias, row) : total;
  };
  if (spec.gate != Gate::kNone) {
    fragments.push_back(gate_fragment(spec));
    const std::string up = biased("up", "bias_up");
    return fmt::format("activate({}) * {}", biased("gate", "bias_gate"),
                       spec.bias ? fmt::format("({})", up) : up);
  }
  std::string text = biased("total", "bias");
  if (!spec.residual) return text;
  const std::string element = fmt::format("residual[j * rows + {}]", row);
  if (*spec.residual == FormatId::kF32) return fmt::format("{} + {}", text, element);
  const std::string widen = fmt::format("{}_to_f32", get_format(*spec.residual).name);
  fragments.push_back(widen);
  return fmt::format("{} + {}({})", text, widen, element);
}

MatvecVariant matvec_variant(const KernelSpec& spec, int rows_per_cta) {
  const bool is_moe = spec.op == Op::kMoeMatvec;
  const bool has_gate = spec.gate != Gate::kNone;
  MatvecVariant variant;
  variant.w = has_gate ? "w[r % kPair]" : "w";
  variant.scale = has_gate ? "scale[r % kPair]" : "scale";
  variant.sums = has_gate ? "kSums" : "kRowsPerWarp";
  variant.fragments = {fmt::format("store_element_{}", get_format(spec.y_format).name)};

  TemplateValues& values = variant.values;
  values["parameters"] = parameter_list(spec);
  values["grid"] = grid_text(spec, rows_per_cta);
  values["sums"] = variant.sums;
  values["row_of_sum"] = has_gate ? "r / kPair" : "r";
  values["x_row"] = is_moe ? "(slot / slots_per_x)" : "min_of(j, n - 1)";
  values["y_row"] = is_moe ? "slot" : "j";
  values["is_used"] = is_moe ? "" : "j < n && ";
  values["totals"] = has_gate ? "      const float gate = warp_sum(sum[r * kPair][j]);\n"
                                "      const float up = warp_sum(sum[r * kPair + 1][j]);\n"
                              : "      const float total = warp_sum(sum[r][j]);\n";
  values["result"] = result_text(spec, "first_row + r", variant.fragments);
  values["cta"] = spec.matrices > 1 ? "cta" : "blockIdx.x";
  values["select_matrix"] = "";
  if (spec.matrices > 1) {
    variant.constants.push_back({"kRowsPerCta", "kWarps * kRowsPerWarp", "rows of one CTA"});
    values["select_matrix"] =
        "  long long cta = blockIdx.x;\n" +
        select_matrix(spec, "cta", "(rows + kRowsPerCta - 1) / kRowsPerCta", "", 2) + "\n";
  }
  values["select_expert"] = is_moe ? select_expert(spec, "rows * kRowBytes", kStoreNans) : "";
  if (has_gate) {
    variant.constants.push_back(
        {"kPair", "2", "rows, of w_gate and of w_up, behind each row of y"});
    variant.constants.push_back({"kSums", "kRowsPerWarp * kPair", ""});
    values["select_expert"] += pair_declarations(spec);
  }
  return variant;
}

}  // namespace ktjit::codegen
