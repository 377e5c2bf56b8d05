// Loads, tails and scales of a run of weights, as text.
#include "codegen/cuda_parts.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>

#include "codegen/emitter_parts.h"

namespace ktjit::codegen {
namespace {

/// Largest alignment, up to 8, of the 4- and 8-byte pieces that decodes load: those of a block's payload.
int payload_alignment(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  const int row_alignment = row_alignment_bytes(format, spec.layout);
  const int block_alignment = format.block_elems == 1 ? 8 : std::gcd(format.block_bytes, 8);
  return std::min({row_alignment, block_alignment, 8});
}

}  // namespace

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool rows_allow_vectors(FormatId io_format, const TensorLayout& layout) {
  return row_alignment_bytes(get_format(io_format), layout) >= 16;
}

FragmentVariants variants_for(const KernelSpec& spec, const Lowering& lowering) {
  FragmentVariants variants;
  variants["load_8_bytes"] = fmt::format("{}", payload_alignment(spec));
  variants["load_4_bytes"] = fmt::format("{}", std::min(payload_alignment(spec), 4));
  variants["load_6_bytes"] =
      row_alignment_bytes(get_format(spec.weight), spec.layout) >= 4 ? "4" : "1";
  const bool has_mx = has_mx_cvt(spec.target);
  variants["load_scale_e8m0"] = has_mx ? "cvt" : "bits";
  variants["e4m3_to_f32"] = get_cuda_facts(spec.target).fp8_cvt ? "cvt" : "bits";
  if (get_format(spec.weight).family == FormatFamily::kMx) {
    variants["decode_run_fp4"] = lowering.routine;
    variants["decode_run_fp6"] = has_mx ? "cvt" : lowering.routine;
    variants["fp6x4_to_f32"] = lowering.routine;
  } else if (lowering.routine.find("_f32") != std::string::npos) {
    variants["fp8x4_to_f32"] = lowering.routine;
  } else if (!lowering.routine.empty()) {
    const bool is_bf16 = lowering.routine.find("_bf16x2") != std::string::npos;
    variants["fp8x4_to_f32"] = is_bf16 ? "bf16x2" : "f16x2";
    add_pair_variants(lowering.routine, variants);
  }
  for (const char* piece : {"f32_to_bf16", "f32x2_to_bf16x2", "pack_run_bf16"})
    variants[piece] = get_cuda_facts(spec.target).bf16_cvt ? "hardware" : "software";
  for (FormatId io : {FormatId::kF32, FormatId::kF16, FormatId::kBF16}) {
    const std::string name(get_format(io).name);
    const std::string variant = rows_allow_vectors(io, spec.layout) ? "vector" : "element";
    variants["load_run_" + name] = variant;
    variants["store_run_" + name] = variant;
  }
  return variants;
}

void add_pair_variants(const std::string& routine, FragmentVariants& variants) {
  const bool is_whole = routine.ends_with("_cvt") || routine == "fp8_e5m2_f16x2";
  const bool uses_signs =
      routine.find("fnuz") != std::string::npos && !routine.ends_with("_finite");
  variants["fp8x4_to_pairs"] = is_whole ? routine : uses_signs ? "spread_signs" : "spread";
  variants["fp8x2_to_pair"] = routine;
}

bool has_tail(const KernelSpec& spec) { return spec.layout.cols % kRun != 0; }

std::string decode_statements(const KernelSpec& spec, const std::string& row_pointer,
                              const std::string& value) {
  if (!has_tail(spec)) return fmt::format("decode_run({}, col, {});", row_pointer, value);
  return fmt::format(
      "if (col + kRun <= kCols) {{\n"
      "  decode_run({0}, col, {1});\n"
      "}} else {{\n"
      "#pragma unroll\n"
      "  for (int i = 0; i < kRun; ++i) {1}[i] = col + i < kCols ? decode_element({0}, col + i) : "
      "0.0f;\n"
      "}}",
      row_pointer, value);
}

std::string scale_index(const ScaleGrid& grid, const std::string& row, const std::string& col) {
  if (grid.block_rows == 0) return scale_col_index(grid, col);
  const std::string begin = fmt::format("({}) * kScaleCols", scale_row_index(grid, row));
  return grid.block_cols == 0 ? begin : fmt::format("{} + {}", begin, scale_col_index(grid, col));
}

std::string scale_each_element(const ScaleGrid& grid, const std::string& row,
                               const std::string& value, const std::string& scale) {
  return fmt::format(
      "#pragma unroll\n"
      "for (int i = 0; i < kRun; ++i) {{\n"
      "  if (col + i < kCols) {}[i] *= load_scale({}, {});\n"
      "}} // i: elements, each with a scale of its own",
      value, scale, scale_index(grid, row, "(col + i)"));
}

std::string apply_scale_statements(const KernelSpec& spec, const std::string& row,
                                   const std::string& value, int spaces) {
  if (!spec.scale) return "";
  const std::string statements = scale_is_uniform_in_run(*spec.scale, kRun)
                                     ? fmt::format(
                                           "const float run_scale = load_scale(scale, {});\n"
                                           "#pragma unroll\n"
                                           "for (int i = 0; i < kRun; ++i) {}[i] *= run_scale;",
                                           scale_index(*spec.scale, row, "col"), value)
                                     : scale_each_element(*spec.scale, row, value);
  const std::string margin(static_cast<std::size_t>(spaces), ' ');
  return margin + indented(statements, spaces) + "\n";
}

std::string arch_description(const KernelSpec& spec, const Lowering& lowering) {
  return fmt::format("{}, {}: {}", spec.target.name(), lowering.reason, lowering.summary);
}

void add_common_values(const KernelSpec& spec, const Lowering& lowering, TemplateValues& values) {
  values["arch"] = arch_description(spec, lowering);
  values["scale_parameter"] = spec.scale ? fmt::format("    const {}* __restrict__ scale,\n",
                                                       scale_c_type(spec.scale->type))
                                         : "";
}

std::vector<std::string> decode_fragments(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  std::vector<std::string> names = {decode_run_fragment(spec.weight)};
  if (has_tail(spec)) {
    names.push_back(format.family == FormatFamily::kFp8
                        ? "decode_element_fp8"
                        : fmt::format("decode_element_{}", format.name));
  }
  if (spec.scale) names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
  return names;
}

std::string load_x_statements(const KernelSpec& spec, const std::string& row_pointer) {
  const std::string_view x_name = get_format(spec.x_format).name;
  const std::string load_run = fmt::format(
      "load_run_{}((const unsigned char*)({} + col), activation);", x_name, row_pointer);
  if (!has_tail(spec)) return load_run;
  const std::string element = spec.x_format == FormatId::kF32
                                  ? fmt::format("{}[col + i]", row_pointer)
                                  : fmt::format("{}_to_f32({}[col + i])", x_name, row_pointer);
  return fmt::format(
      "if (col + kRun <= kCols) {{\n"
      "  {}\n"
      "}} else {{\n"
      "#pragma unroll\n"
      "  for (int i = 0; i < kRun; ++i) activation[i] = col + i < kCols ? {} : 0.0f;\n"
      "}}",
      load_run, element);
}

// Why the order of work stays that of the stream. A grid launched as a dependent may be resident while the
// grid ahead of it, its prerequisite, still runs. All its threads begin with griddepcontrol.wait, which returns
// once the prerequisite has ended and its writes are visible (PTX ISA 9.0), and touch no memory before. So what
// it reads has been written, and what it overwrites has been read and written for the last time, by the
// prerequisite. By earlier grids too: the prerequisite, if it is a dependent itself, ended after its own wait,
// which every thread of it did before anything else and before it could end. A prerequisite that is no
// dependent, or work that is no kernel, follows the stream's own order. launch_dependents, which lets the next
// grid become resident, says nothing of memory, so it can come at once; it comes after the wait so that
// no more than two grids share the multiprocessors (matvec of prepared weights says when exactly). KernelSpec::constant_weights are all that may be read before the
// wait.
//
// The wait orders only accesses that the compiler knows may alias: __restrict__ promises that nobody
// writes the memory while the kernel runs, which is no longer true, and lets loads (ld.global.nc) move
// before the wait. Hence without_restrict.
void add_wait(const KernelSpec& spec, TemplateValues& values, std::vector<std::string>& names) {
  values["wait"] = "";
  if (!spec.dependent_launch) return;
  names.insert(names.end(), {"wait_for_earlier_grids", "let_next_grid_start"});
  values["wait"] = "  wait_for_earlier_grids();\n  let_next_grid_start();\n\n";
}

std::string without_restrict(std::string text) {
  constexpr std::string_view kRestrict = " __restrict__";
  for (std::size_t at = text.find(kRestrict); at != std::string::npos;
       at = text.find(kRestrict, at)) {
    text.erase(at, kRestrict.size());
  }
  return text;
}

void add_product_values(const KernelSpec& spec, TemplateValues& values,
                        std::vector<std::string>& names) {
  const std::string_view y_name = get_format(spec.y_format).name;
  values["y_name"] = y_name;
  values["y_type"] = io_type(spec.y_format);
  names.push_back(fmt::format("store_element_{}", y_name));
  values["bias_parameter"] = "";
  values["bias_description"] = "";
  if (!spec.bias) return;
  const std::string_view bias_name = get_format(*spec.bias).name;
  names.push_back(fmt::format("load_bias_{}", bias_name));
  values["bias_parameter"] = fmt::format("    const {}* __restrict__ bias,\n", io_type(*spec.bias));
  values["bias_description"] = fmt::format("//   bias     in   {}  [rows]\n", bias_name);
}

std::string with_bias(const KernelSpec& spec, const std::string& total, const std::string& row) {
  return spec.bias ? fmt::format("{} + load_bias(bias, {})", total, row) : total;
}

}  // namespace ktjit::codegen
