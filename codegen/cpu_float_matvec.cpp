// One skeleton around the decode of each format; what depends on the CPU is the width of a vector.
#include "codegen/cpu_float_matvec.h"

#include <array>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "codegen/cpu_parts.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/tensor_layout.h"

namespace ktjit::codegen {
namespace {

struct FloatFacts {
  FormatId format;
  int parts;  ///< vectors of f32 that one vector of weights becomes
  int chains;  ///< sums that take turns for each, so that one addition doesn't wait for the one before it
  bool needs_f16c;
};

constexpr std::array kFloatFacts = {
    FloatFacts{FormatId::kF32, 1, 4, false},    FloatFacts{FormatId::kBF16, 2, 2, false},
    FloatFacts{FormatId::kF16, 2, 2, true},     FloatFacts{FormatId::kFp8E5M2, 4, 1, true},
    FloatFacts{FormatId::kFp8E4M3, 4, 1, true},
};

const FloatFacts* find_facts(FormatId format) {
  for (const FloatFacts& facts : kFloatFacts) {
    if (facts.format == format) return &facts;
  }
  return nullptr;
}

/// The widest vectors that the CPU has and a group of columns fills.
int lanes_of(const KernelSpec& spec) {
  constexpr int kWide = 16, kNarrow = 8;
  const bool fills =
      !spec.scale || spec.scale->block_cols % (kWide * find_facts(spec.weight)->parts) == 0;
  return fills && spec.target.has_cpu_feature("avx512bw") ? kWide : kNarrow;
}

/// Columns of weights that fill one vector.
std::int64_t run_cols(const KernelSpec& spec) {
  return std::int64_t{lanes_of(spec)} * find_facts(spec.weight)->parts;
}

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// Whether codes may be NaN without the arithmetic's telling.
bool looks_for_nan(const KernelSpec& spec) {
  return spec.weight == FormatId::kFp8E4M3 && !spec.weights_finite;
}

std::vector<Constant> constants_of(const KernelSpec& spec) {
  const FloatFacts& facts = *find_facts(spec.weight);
  const std::int64_t cols = spec.layout.cols, in_run = run_cols(spec);
  const int lanes = lanes_of(spec);
  const Prefetch prefetch = prefetch_of(spec.target, false);
  std::vector<Constant> constants = {
      {"kCols", number(cols), "columns of w, and of each row of x"},
      {"kRowBytes", number(row_bytes(get_format(spec.weight), cols)), "bytes of one row of w"},
      {"kXColumns", number(spec.x_columns), "rows of x that a launch can use"},
      {"kLanes", number(lanes), "of 32 bits, in a vector"},
      {"kParts", number(facts.parts), "vectors of f32 that a vector of weights becomes"},
      {"kRunCols", number(in_run), "columns decoded together"},
      {"kRunBytes", number(4 * lanes), "bytes of them"},
      {"kWholeRuns", number(cols / in_run), "of a row"},
      {"kRuns", number((cols + in_run - 1) / in_run), "of a row, the last one cut"},
      {"kChains", number(spec.x_columns <= 2 ? facts.chains : 1), "sums that take turns"},
      {"kPrefetchBytes", number(prefetch.bytes), "how far ahead"},
      {"kPrefetchLocality", number(prefetch.locality), "of __builtin_prefetch"},
      {"kWeightScale", spec.weight == FormatId::kFp8E4M3 ? "256.0f" : "1.0f",
       "value / decoded value", "float"}};
  if (spec.y_format != FormatId::kF32)
    constants.push_back({"kRun", "16", "numbers narrowed at a time"});
  const bool has_groups = spec.scale && spec.scale->block_cols != 0;
  constants.push_back({"kGroupRuns", has_groups ? number(spec.scale->block_cols / in_run) : "kRuns",
                       "that share a scale"});
  if (spec.scale && spec.scale->block_rows > 1)
    constants.push_back(
        {"kScaleBlockRows", number(spec.scale->block_rows), "rows that share one scale"});
  if (spec.scale && spec.scale->block_rows > 0)
    constants.push_back(
        {"kScaleCols", number(spec.scale->cols_of_scales(cols)), "scales in one row of scales"});
  return constants;
}

}  // namespace

bool has_cpu_float_matvec(const KernelSpec& spec) {
  const FloatFacts* facts = find_facts(spec.weight);
  if (facts == nullptr || spec.op != Op::kMatvec || is_fused(spec)) return false;
  if (!spec.target.has_cpu_feature("avx2") || !spec.target.has_cpu_feature("fma")) return false;
  if (facts->needs_f16c && !spec.target.has_cpu_feature("f16c")) return false;
  if (!spec.scale) return true;
  return spec.scale->type != ScaleType::kE4M3 && spec.scale->block_cols % run_cols(spec) == 0;
}

EmittedKernel emit_cpu_float_matvec(const KernelSpec& spec, const Lowering& lowering) {
  Lowering own = lowering;
  own.summary = fmt::format("{} columns a vector, in f32, x in their order{}", run_cols(spec),
                            spec.weights_finite ? ", no NaN codes (scanned)" : "");
  TemplateValues values = header_values(spec);
  add_operand_values(spec, values);
  values["arch"] = cpu_description(spec.target, own.summary);
  values["x_columns"] = number(spec.x_columns);
  values["constants"] = format_constants(constants_of(spec));
  std::vector<std::string> names = {fmt::format("decode_lanes_{}", get_format(spec.weight).name),
                                    "multiply_add_lanes", "x_at"};
  FragmentVariants variants = {
      {"multiply_add_lanes", "fma"},
      {"x_at", std::string(get_format(spec.x_format).name)},
      {"f16_to_f32", spec.target.has_cpu_feature("f16c") ? "f16c" : "bits"},
      {"f32_run_to_f16", spec.target.has_cpu_feature("f16c") ? "f16c" : "bits"}};
  values["scale_member"] = values["scale_row"] = values["group_scale"] = "";
  values["add_group"] = "+= all";
  if (spec.scale) {
    const std::string type = scale_c_type(spec.scale->type);
    names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
    values["scale_member"] = fmt::format("const {}* scale;\n  ", type);
    values["scale_row"] =
        fmt::format("    const {}* scale_row = arguments->scale{};\n", type,
                    spec.scale->block_rows == 0
                        ? ""
                        : fmt::format(" + ({}) * kScaleCols", scale_row_index(*spec.scale, "row")));
    values["group_scale"] =
        fmt::format("      const F32Lanes scale = (F32Lanes){{}} + load_scale(scale_row, {});\n",
                    spec.scale->block_cols == 0 ? "0" : "first / kGroupRuns");
    values["add_group"] = "= multiply_add(all, scale, total[j])";
  }
  values["open_row"] = values["check_run"] = values["check_rest"] = values["close_row"] = "";
  values["result_type"] = looks_for_nan(spec) ? "" : "const ";
  if (looks_for_nan(spec)) {
    names.push_back("extremes_of_codes");
    values["open_row"] = "    Extremes most = {};\n";
    values["check_run"] = "take(&most, at);\n          ";
    values["check_rest"] = "take(&most, rest);\n        ";
    values["close_row"] = "      if (has_nan(most)) result = __builtin_nanf(\"\");\n";
  }
  if (spec.bias && *spec.bias != FormatId::kF32)
    names.push_back(fmt::format("{}_to_f32", get_format(*spec.bias).name));
  if (spec.y_format != FormatId::kF32)
    names.push_back(fmt::format("f32_to_{}", get_format(spec.y_format).name));
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants);
  values["y_value"] = y_value(spec, "result", "row");
  return {fill_template(get_template("cpu/float_matvec.cpp.in"), values), kernel_name(spec),
          LaunchShape{}, own};
}

}  // namespace ktjit::codegen
