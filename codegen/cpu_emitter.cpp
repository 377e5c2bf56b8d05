// The CPU skeletons: rows one after another, 16 elements at a time; the device spreads rows over
// threads.
#include "codegen/cpu_emitter.h"

#include <fmt/format.h>

#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kRun = 16;  // elements decoded at a time: a divisor of every sub-block

FragmentVariants variants_for(const KernelSpec& spec, const Lowering& lowering) {
  const std::string f16 = spec.target.has_cpu_feature("f16c") ? "f16c" : "bits";
  FragmentVariants variants = {
      {"f16_to_f32", f16}, {"f16_run_to_f32", f16}, {"f32_run_to_f16", f16}};
  variants["multiply_add"] = spec.target.has_cpu_feature("fma") ? "fma" : "separate";
  if (!lowering.routine.empty()) variants["fp8_run_to_f32"] = lowering.routine;
  return variants;
}

bool is_blocked(const KernelSpec& spec) { return get_format(spec.weight).block_elems > 1; }
std::int64_t tail_elems(const KernelSpec& spec) { return spec.layout.cols % kRun; }

std::vector<Constant> constants_of(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  std::vector<Constant> constants = shared_constants(spec, kRun);
  if (is_blocked(spec)) {
    constants.push_back(
        {"kBlockElems", fmt::format("{}", format.block_elems), "elements of one block"});
    constants.push_back(
        {"kBlockBytes", fmt::format("{}", format.block_bytes), "bytes of one block"});
    constants.push_back({"kBlocks", "kCols / kBlockElems", "blocks of one row"});
  } else if (tail_elems(spec) != 0) {
    constants.push_back({"kMainCols", "kCols / kRun * kRun", "columns in whole runs"});
    constants.push_back({"kTail", "kCols - kMainCols", "columns after them"});
    constants.push_back(
        {"kElemBytes", fmt::format("{}", format.block_bytes), "bytes of one element of w"});
  }
  if (spec.op == Op::kMatvec) {
    // More chains than one hide the latency of the addition; with many columns there are enough.
    constants.push_back(
        {"kChains", spec.x_columns <= 2 ? "2" : "1", "sums that take turns for each row of x"});
    constants.push_back(
        {"kXColumns", fmt::format("{}", spec.x_columns), "rows of x that a launch can use"});
  }
  return constants;
}

/// The loop over a row's columns; `use` has the statements for the run of weights `weight` at
/// column `at`.
std::string run_loop(const KernelSpec& spec, const std::string& apply_scale,
                     const std::string& use) {
  if (is_blocked(spec)) {
    return fmt::format(
        "    for (int b = 0; b < kBlocks; ++b) {{\n"
        "      const Block block = open_block(w_row + b * kBlockBytes);\n"
        "#pragma unroll 2\n"
        "      for (int first = 0; first < kBlockElems; first += kRun) {{\n"
        "        const int at = b * kBlockElems + first;\n"
        "        const F32Run weight = decode_run(block, first);\n"
        "{}"
        "      }} // first: runs of this block\n"
        "    }} // b: blocks of this row",
        use);
  }
  return fmt::format(
      "#pragma unroll 2\n"
      "    for (int at = 0; at + kRun <= kCols; at += kRun) {{\n"
      "      {}F32Run weight = decode_run(w_row, at);\n"
      "{}{}"
      "    }} // at: runs of this row",
      apply_scale.empty() ? "const " : "", apply_scale, use);
}

/// Statements that multiply `weight`, the run at column `at`, by its scales.
std::string scale_statements(const KernelSpec& spec, const std::string& at,
                             const std::string& elements) {
  if (!spec.scale) return "";
  const ScaleGrid& grid = *spec.scale;
  if (scale_is_uniform_in_run(grid, kRun)) {
    return fmt::format("      weight *= load_scale(scale_row, {});\n", scale_col_index(grid, at));
  }
  return fmt::format("      for (int i = 0; i < {}; ++i) weight[i] *= load_scale(scale_row, {});\n",
                     elements, scale_col_index(grid, fmt::format("({} + i)", at)));
}

std::string scale_row_line(const KernelSpec& spec) {
  if (!spec.scale) return "";
  const std::string row = scale_row_index(*spec.scale, "row");
  return fmt::format("    const {}* scale_row = arguments->scale{};\n",
                     scale_c_type(spec.scale->type),
                     spec.scale->block_rows == 0 ? "" : fmt::format(" + ({}) * kScaleCols", row));
}

/// Decodes the columns after the last whole run from a zero-padded copy.
std::string tail_decode(const KernelSpec& spec) {
  return "    unsigned char w_tail[kRun * kElemBytes] = {};\n"
         "    __builtin_memcpy(w_tail, w_row + kMainCols * kElemBytes, kTail * kElemBytes);\n"
         "    {\n"
         "      " +
         std::string(spec.scale ? "" : "const ") + "F32Run weight = decode_run(w_tail, 0);\n" +
         scale_statements(spec, "kMainCols", "kTail");
}

TemplateValues common_values(const KernelSpec& spec, const Lowering& lowering) {
  TemplateValues values = header_values(spec);
  values["arch"] = fmt::format("{} ({}): {}", spec.target.name(),
                               spec.target.cpu_features.empty()
                                   ? "baseline"
                                   : fmt::format("{}", fmt::join(spec.target.cpu_features, " ")),
                               lowering.summary);
  values["constants"] = format_constants(constants_of(spec));
  values["scale_member"] =
      spec.scale ? fmt::format("const {}* scale;\n  ", scale_c_type(spec.scale->type)) : "";
  return values;
}

std::vector<std::string> decode_fragments(const KernelSpec& spec) {
  std::vector<std::string> names = {decode_run_fragment(spec.weight)};
  if (spec.scale) names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
  return names;
}

EmittedKernel emit_dequant(const KernelSpec& spec, const Lowering& lowering) {
  const std::string_view y_name = get_format(spec.y_format).name;
  std::vector<std::string> names = decode_fragments(spec);
  names.push_back(fmt::format("store_y_{}", y_name));

  TemplateValues values = common_values(spec, lowering);
  values["y_name"] = y_name;
  values["y_type"] = io_type(spec.y_format);
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants_for(spec, lowering));
  const std::string indent = is_blocked(spec) ? "        " : "      ";
  values["block_loop"] = scale_row_line(spec) + run_loop(spec, scale_statements(spec, "at", "kRun"),
                                                         indent + "store_y(y_row + at, weight);\n");
  values["tail"] = tail_elems(spec) == 0 || is_blocked(spec)
                       ? ""
                       : tail_decode(spec) + fmt::format(
                                                 "      {} y_tail[kRun];\n"
                                                 "      store_y(y_tail, weight);\n"
                                                 "      __builtin_memcpy(y_row + kMainCols, "
                                                 "y_tail, kTail * sizeof(y_tail[0]));\n"
                                                 "    }}\n",
                                                 io_type(spec.y_format));
  return {fill_template(get_template("cpu/dequant.cpp.in"), values), kernel_name(spec),
          LaunchShape{}, lowering};
}

EmittedKernel emit_matvec(const KernelSpec& spec, const Lowering& lowering) {
  const std::string_view x_name = get_format(spec.x_format).name;
  std::vector<std::string> names = decode_fragments(spec);
  names.insert(names.end(), {"multiply_add", "sum_of", fmt::format("load_x_{}", x_name)});

  TemplateValues values = common_values(spec, lowering);
  values["x_name"] = x_name;
  values["x_type"] = io_type(spec.x_format);
  values["x_columns"] = fmt::format("{}", spec.x_columns);
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants_for(spec, lowering));
  const std::string indent = is_blocked(spec) ? "        " : "      ";
  values["block_loop"] =
      scale_row_line(spec) +
      run_loop(
          spec, scale_statements(spec, "at", "kRun"),
          fmt::format("{0}F32Run* chain = sum[at / kRun % kChains];\n"
                      "#pragma unroll\n"
                      "{0}for (int j = 0; j < kXColumns; ++j) {{\n"
                      "{0}  chain[j] = multiply_add(weight, load_x(x_row[j] + at), chain[j]);\n"
                      "{0}}} // j: rows of x\n",
                      indent));
  values["tail"] =
      tail_elems(spec) == 0 || is_blocked(spec)
          ? ""
          : tail_decode(spec) + fmt::format(
                                    "      for (int j = 0; j < kXColumns; ++j) {{\n"
                                    "        {} x_tail[kRun] = {{}};\n"
                                    "        __builtin_memcpy(x_tail, x_row[j] + kMainCols, kTail "
                                    "* sizeof(x_tail[0]));\n"
                                    "        total[j] += sum_of(weight * load_x(x_tail));\n"
                                    "      }} // j: rows of x\n"
                                    "    }}\n",
                                    io_type(spec.x_format));
  return {fill_template(get_template("cpu/matvec.cpp.in"), values), kernel_name(spec),
          LaunchShape{}, lowering};
}

EmittedKernel emit_read_test(const KernelSpec& spec) {
  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = fmt::format("{}", kEmitterVersion);
  values["row_bytes"] = fmt::format("{}", kReadTestRowBytes);
  return {fill_template(get_template("cpu/read_test.cpp.in"), values), kernel_name(spec),
          LaunchShape{}, Lowering{LoweringKind::kNative, "", "", "native", 0}};
}

}  // namespace

EmittedKernel emit_cpu(const KernelSpec& spec) {
  if (spec.tuning != Tuning{}) {
    throw SpecError("tuning", "threads or rows_per_warp", "no knobs for CPU targets");
  }
  if (spec.op == Op::kReadTest) return emit_read_test(spec);
  const Lowering lowering = get_lowering(spec.weight, spec.target);
  return spec.op == Op::kDequant ? emit_dequant(spec, lowering) : emit_matvec(spec, lowering);
}

}  // namespace ktjit::codegen
