// The CPU skeletons: rows one after another, 16 elements at a time; the device spreads rows over
// threads.
#include "codegen/cpu_emitter.h"

#include <algorithm>
#include <fmt/format.h>

#include "codegen/cpu_float_matvec.h"
#include "codegen/cpu_interleaved.h"
#include "codegen/cpu_parts.h"
#include "codegen/cpu_prepare.h"
#include "codegen/cpu_quantize.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "codegen/product_text.h"
#include "core/cpu_tiles.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kRun = 16;  // elements decoded at a time: a divisor of every sub-block

/// How the matmul of a spec lays out decoded weights and x, and multiplies them.
struct MatmulPanels {
  int chunk;            ///< columns decoded at a time, whole blocks of each format
  int block_rows;       ///< rows of w decoded together
  int rows_together;    ///< rows of w whose sums are in registers
  int groups_together;  ///< 16 rows of x each, likewise
  int tile_rows;        ///< of a launch
  int w_terms = 0;      ///< of bf16, that add up to a weight; 0: f32
  int x_terms = 0;
  std::string summary;
};

constexpr int kBlockGroups = 32;  // matmul: groups of 16 rows of x whose sums a thread keeps
constexpr int kTileCols = 32;     // of bf16, in a tile of AMX

/// Terms of bf16, of 8 bits each, without which weights lose bits.
int terms_of_weights(const KernelSpec& spec) {
  using enum FormatId;
  // One: codes alone, or times powers of two. Two: 11 bits of an f16 scale by at most 5 of a code, or f16 itself.
  constexpr std::array kOne = {kBF16,      kGgmlMxfp4,   kGgmlNvfp4,   kMxfp4,
                               kMxfp6E2M3, kMxfp6E3M2,   kFp8E4M3,     kFp8E5M2,
                               kFp8E4B15,  kFp8E4M3Fnuz, kFp8E5M2Fnuz, kFp4E2M1};
  constexpr std::array kTwo = {kF16, kQ4_0, kQ5_0, kTQ1_0, kTQ2_0, kQ1_0, kQ2_0};
  const auto has = [&](const auto& formats) {
    return std::ranges::find(formats, spec.weight) != formats.end();
  };
  if (has(kOne)) {
    if (!spec.scale || spec.scale->type == ScaleType::kE8M0) return 1;
    return spec.scale->type == ScaleType::kBF16 ? 2 : 3;
  }
  return has(kTwo) ? 2 : 3;
}

int terms_of_x(const KernelSpec& spec) {
  if (spec.x_scale) return 3;
  if (spec.x_format == FormatId::kBF16) return 1;
  return spec.x_format == FormatId::kF16 ? 2 : 3;
}

MatmulPanels matmul_panels(const KernelSpec& spec) {
  if (has_bf16_tiles(spec.target)) {
    const bool rounds = spec.tensor_core_precision;
    const int w_terms = rounds ? 1 : terms_of_weights(spec);
    const int x_terms = rounds ? 1 : terms_of_x(spec);
    const auto words = [](int terms) {
      return terms == 1 ? std::string("bf16") : fmt::format("{} terms of bf16", terms);
    };
    return {512,
            256,
            32,
            2,
            32,
            w_terms,
            x_terms,
            fmt::format("tiles of AMX: w as {}{}, x as {}, sums in f32", words(w_terms),
                        rounds ? ", rounded" : "", words(x_terms))};
  }
  // As many sums as hide the latency of an addition, with room for their operands.
  if (spec.target.has_cpu_feature("avx512f")) return {256, 128, 8, 2, 16, 0, 0, "f32"};
  if (spec.target.has_cpu_feature("avx")) return {256, 128, 4, 1, 16, 0, 0, "f32"};
  return {256, 128, 2, 1, 16, 0, 0, "f32"};
}

/// Rows of w and rows of x whose sums a tile of moe_matmul keeps in registers.
struct MatmulTile {
  int rows;
  int columns;
};

constexpr int kBlockRows =
    16;  // moe_matmul: rows of w decoded together; a multiple of every tile's
constexpr int kBlockColumns = 48;  // moe_matmul: rows of x widened together; as well
constexpr int kMoeChunk =
    256;  // moe_matmul: columns decoded at a time, whole blocks of each format

/// Sums of kRun lanes that the vector registers hold, with room for their operands.
MatmulTile matmul_tile(const Target& target) {
  if (target.has_cpu_feature("avx512f")) return {4, 6};  // 32 registers, each a run
  if (target.has_cpu_feature("avx")) return {2, 3};      // 16 registers, each half a run
  return {1, 2};                                         // 16 registers, each a quarter
}

FragmentVariants variants_for(const KernelSpec& spec, const Lowering& lowering) {
  const std::string f16 = spec.target.has_cpu_feature("f16c") ? "f16c" : "bits";
  FragmentVariants variants = {
      {"f16_to_f32", f16},      {"f16_run_to_f32", f16},         {"f32_run_to_f16", f16},
      {"e4m3_run_to_f32", f16}, {"finite_e4m3_run_to_f32", f16}, {"e5m2_run_to_f32", f16}};
  variants["look_up_16"] = spec.target.has_cpu_feature("ssse3") ? "shuffle" : "compare";
  variants["ScaleMin"] = spec.op == Op::kMatmul ? "together" : "each";
  variants["multiply_add"] = spec.target.has_cpu_feature("fma") ? "fma" : "separate";
  if (!lowering.routine.empty()) {
    const bool is_shorter = spec.weights_finite && has_finite_routine(spec.weight);
    variants["decode_run_fp8"] = lowering.routine + (is_shorter ? "_finite" : "");
    variants["decode_run_fp6"] = lowering.routine;
    variants["is_not_finite"] = lowering.routine.ends_with("fnuz") ? "fnuz" : lowering.routine;
  }
  return variants;
}

/// Whether rows are made of ggml's blocks, which are opened before their runs are decoded.
bool is_blocked(const KernelSpec& spec) {
  return get_format(spec.weight).family == FormatFamily::kGgml;
}
std::int64_t tail_elems(const KernelSpec& spec) { return spec.layout.cols % kRun; }

std::vector<Constant> constants_of(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  const auto number = [](std::int64_t value) { return fmt::format("{}", value); };
  std::vector<Constant> constants = shared_constants(spec, kRun);
  if (is_blocked(spec)) {
    constants.push_back(
        {"kBlockElems", fmt::format("{}", format.block_elems), "elements of one block"});
    constants.push_back(
        {"kBlockBytes", fmt::format("{}", format.block_bytes), "bytes of one block"});
    if (!is_matmul(spec.op))
      constants.push_back({"kBlocks", "kCols / kBlockElems", "blocks of one row"});
  } else if (tail_elems(spec) != 0) {
    constants.push_back({"kMainCols", "kCols / kRun * kRun", "columns in whole runs"});
    constants.push_back({"kTail", "kCols - kMainCols", "columns after them"});
    constants.push_back(
        {"kElemBytes", fmt::format("{}", format.block_bytes), "bytes of one element of w"});
  }
  if (spec.scale && spec.scale->type == ScaleType::kE4M3) {
    constants.push_back({"kTensorScaleBytes", fmt::format("{}", spec.scale->header_bytes()),
                         "the tensor's f32 scale and zeros, before the blocks' scales"});
  }
  if (is_matvec(spec.op)) {
    // More chains than one hide the latency of the addition; with many columns there are enough.
    constants.push_back(
        {"kChains", spec.x_columns <= 2 ? "2" : "1", "sums that take turns for each row of x"});
    constants.push_back(
        {"kXColumns", fmt::format("{}", spec.x_columns), "rows of x that a launch can use"});
  }
  if (spec.op == Op::kMatmul) {
    const MatmulPanels panels = matmul_panels(spec);
    const std::int64_t cols = spec.layout.cols;
    constants.push_back({"kChunk", number(panels.chunk), "columns decoded at a time"});
    constants.push_back({"kChunks", "(kCols + kChunk - 1) / kChunk", "of a row"});
    constants.push_back({"kTileRows", number(panels.tile_rows), "rows of w of a launch's tile"});
    constants.push_back({"kBlockRows", number(panels.block_rows), "rows of w decoded together"});
    constants.push_back({"kFewGroups", "4", "of x, for which fewer are"});
    constants.push_back({"kFewRows", number(panels.tile_rows), "then"});
    constants.push_back(
        {"kRowsTogether", number(panels.rows_together), "rows of w whose sums are in registers"});
    constants.push_back(
        {"kGroupsTogether", number(panels.groups_together), "groups of 16 rows of x, likewise"});
    constants.push_back(
        {"kBlockGroups", number(kBlockGroups), "groups of x whose sums a thread keeps"});
    if (panels.w_terms > 0) {
      const std::int64_t row = row_bytes(get_format(spec.weight), cols);
      constants.push_back({"kStep", number(kTileCols), "columns of a tile"});
      constants.push_back({"kChunkSteps", "kChunk / kStep", "tiles of a chunk"});
      constants.push_back({"kAllSteps", "(kCols + kStep - 1) / kStep", "tiles of a row"});
      constants.push_back({"kWTerms", number(panels.w_terms), "of bf16, that add up to a weight"});
      constants.push_back({"kXTerms", number(panels.x_terms), "of bf16, that add up to an x"});
      constants.push_back({"kRowsAhead", "8", "that are asked for while a row is decoded"});
      constants.push_back(
          {"kChunkBytes", number(std::min(row, row * panels.chunk / cols + 1)), "of a row of w"});
    }
  }
  if (spec.op == Op::kMoeMatmul) {
    const MatmulTile tile = matmul_tile(spec.target);
    constants.push_back({"kTileRows", number(tile.rows), "rows of w in one tile"});
    constants.push_back({"kTileColumns", number(tile.columns), "rows of x in one tile"});
    constants.push_back({"kBlockRows", number(kBlockRows), "rows of w decoded together"});
    constants.push_back({"kBlockColumns", number(kBlockColumns), "rows of x widened together"});
    constants.push_back({"kChunk", number(kMoeChunk), "columns decoded at a time"});
  }
  if (spec.x_scale) {
    constants.push_back(
        {"kXGroup", number(spec.x_scale->block_cols), "columns of x that share one scale"});
    constants.push_back({"kXScaleCols", number(spec.x_scale->cols_of_scales(spec.layout.cols)),
                         "scales in one row of scales of x"});
  }
  return constants;
}

/// From where to where a loop over a row goes, in the text's words.
struct ColumnRange {
  std::string first = "0";
  std::string end = "kCols";
  std::string first_block = "0";
  std::string end_block = "kBlocks";
};

/// The loop over a row's columns; `use` has the statements for the run of weights `weight` at
/// column `at`.
std::string run_loop(const KernelSpec& spec, const std::string& apply_scale, const std::string& use,
                     const ColumnRange& range = {}) {
  // Four runs of a matmul's: shifts are constants in most formats.
  const int unroll = spec.op == Op::kMatmul ? 4 : 2;
  if (is_blocked(spec)) {
    return fmt::format(
        "    for (int b = {}; b < {}; ++b) {{\n"
        "      const Block block = open_block(w_row + b * kBlockBytes);\n"
        "#pragma unroll {}\n"
        "      for (int first = 0; first < kBlockElems; first += kRun) {{\n"
        "        const int at = b * kBlockElems + first;\n"
        "        const F32Run weight = decode_run(block, first);\n"
        "{}"
        "      }} // first: runs of this block\n"
        "    }} // b: blocks of this row",
        range.first_block, range.end_block, unroll, use);
  }
  return fmt::format(
      "#pragma unroll 2\n"
      "    for (int at = {}; at + kRun <= {}; at += kRun) {{\n"
      "      {}F32Run weight = decode_run(w_row, at);\n"
      "{}{}"
      "    }} // at: runs of this row",
      range.first, range.end, apply_scale.empty() ? "const " : "", apply_scale, use);
}

/// Statements that multiply `weight`, the run at column `at`, by its scales.
std::string scale_statements(const KernelSpec& spec, const std::string& at,
                             const std::string& elements) {
  if (!spec.scale) return "";
  const ScaleGrid& grid = *spec.scale;
  const std::string from = grid.type == ScaleType::kE4M3 ? "scale_row, tensor_scale" : "scale_row";
  if (scale_is_uniform_in_run(grid, kRun)) {
    return fmt::format("      weight *= load_scale({}, {});\n", from, scale_col_index(grid, at));
  }
  return fmt::format("      for (int i = 0; i < {}; ++i) weight[i] *= load_scale({}, {});\n",
                     elements, from, scale_col_index(grid, fmt::format("({} + i)", at)));
}

std::string scale_row_line(const KernelSpec& spec, const std::string& plane = "arguments->scale") {
  if (!spec.scale) return "";
  const std::string row = scale_row_index(*spec.scale, "row");
  const bool has_tensor_scale = spec.scale->type == ScaleType::kE4M3;
  return fmt::format(
      "{}    const {}* scale_row = {}{}{};\n",
      has_tensor_scale ? fmt::format("    const float tensor_scale = load<float>({});\n", plane)
                       : "",
      scale_c_type(spec.scale->type), plane, has_tensor_scale ? " + kTensorScaleBytes" : "",
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
  values["arch"] = cpu_description(spec.target, lowering.summary);
  values["constants"] = format_constants(constants_of(spec));
  values["scale_member"] =
      spec.scale ? fmt::format("const {}* scale;\n  ", scale_c_type(spec.scale->type)) : "";
  return values;
}

/// Element type of x in the text.
std::string x_c_type(const KernelSpec& spec) {
  return spec.x_format == FormatId::kFp8E4M3 ? "unsigned char" : io_type(spec.x_format);
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

/// The pieces that every product uses, those of its weights first.
std::vector<std::string> product_fragments(const KernelSpec& spec) {
  std::vector<std::string> names = decode_fragments(spec);
  names.insert(names.end(), {"multiply_add", "sum_of",
                             fmt::format("load_x_{}", get_format(spec.x_format).name)});
  if (spec.bias && *spec.bias != FormatId::kF32)
    names.push_back(fmt::format("{}_to_f32", get_format(*spec.bias).name));
  if (spec.y_format != FormatId::kF32)
    names.push_back(fmt::format("f32_to_{}", get_format(spec.y_format).name));
  return names;
}

TemplateValues product_values(const KernelSpec& spec, const Lowering& lowering) {
  TemplateValues values = common_values(spec, lowering);
  add_operand_values(spec, values);
  return values;
}

/// The loop of a matvec over a row's columns; `plane` names the scales.
std::string matvec_loop(const KernelSpec& spec, const std::string& plane = "arguments->scale") {
  const std::string indent = is_blocked(spec) ? "        " : "      ";
  return scale_row_line(spec, plane) +
         run_loop(
             spec, scale_statements(spec, "at", "kRun"),
             fmt::format("{0}F32Run* chain = sum[at / kRun % kChains];\n"
                         "#pragma unroll\n"
                         "{0}for (int j = 0; j < kXColumns; ++j) {{\n"
                         "{0}  chain[j] = multiply_add(weight, load_x(x_row[j] + at), chain[j]);\n"
                         "{0}}} // j: rows of x\n",
                         indent));
}

/// The columns after a matvec's last whole run.
std::string matvec_tail(const KernelSpec& spec) {
  if (tail_elems(spec) == 0 || is_blocked(spec)) return "";
  return tail_decode(spec) + fmt::format(
                                 "      for (int j = 0; j < kXColumns; ++j) {{\n"
                                 "        {} x_tail[kRun] = {{}};\n"
                                 "        __builtin_memcpy(x_tail, x_row[j] + kMainCols, kTail "
                                 "* sizeof(x_tail[0]));\n"
                                 "        total[j] += sum_of(weight * load_x(x_tail));\n"
                                 "      }} // j: rows of x\n"
                                 "    }}\n",
                                 io_type(spec.x_format));
}

EmittedKernel emit_matvec(const KernelSpec& spec, const Lowering& lowering) {
  const std::vector<std::string> names = product_fragments(spec);
  TemplateValues values = product_values(spec, lowering);
  values["y_value"] = y_value(spec, "total[j]", "row");
  values["x_columns"] = fmt::format("{}", spec.x_columns);
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants_for(spec, lowering));
  values["block_loop"] = matvec_loop(spec);
  values["tail"] = matvec_tail(spec);
  return {fill_template(get_template("cpu/matvec.cpp.in"), values), kernel_name(spec),
          LaunchShape{}, lowering};
}

/// Text moved to the left by two columns; lines of the preprocessor begin at the first already.
std::string outdented(const std::string& text) {
  std::string result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    const bool is_indented = text.compare(begin, 2, "  ") == 0;
    result += text.substr(begin + (is_indented ? 2 : 0), end - begin - (is_indented ? 2 : 0));
    begin = end;
  }
  return result;
}

/// "bias_f32(b)" and the like: a value of an io format as f32.
std::string widened(FormatId format, const std::string& value) {
  return format == FormatId::kF32 ? value
                                  : fmt::format("{}_to_f32({})", get_format(format).name, value);
}

/// Where the tile's weights, scales, bias and y lie, by the names that the rest of the text uses; a slot of
/// no expert gets its NaN here.
std::string locate_tile(const KernelSpec& spec, const std::string& nan) {
  if (spec.matrices > 1) {
    return "    long long row = tile;\n" + select_matrix(spec, "row", "rows", "arguments->", 4);
  }
  if (spec.op != Op::kMoeMatvec) {
    std::string text = "    const long long row = tile;\n";
    for (const LaunchArgument& argument : launch_order(spec)) {
      const bool is_matrix = argument.role == ArgumentRole::kWeights ||
                             argument.role == ArgumentRole::kScale ||
                             argument.role == ArgumentRole::kBias;
      if (!is_matrix && argument.role != ArgumentRole::kY) continue;
      text += fmt::format("    {} = arguments->{};\n", declaration(spec, argument, ""),
                          argument_name(spec, argument));
    }
    return text;
  }
  std::string text = fmt::format(
      "    const long long slot = tile / rows;\n"
      "    const long long row = tile % rows;\n"
      "    const long long expert = arguments->ids[slot];\n"
      "    if (expert < 0 || expert >= arguments->experts) {{\n"
      "      arguments->y[slot * rows + row] = {};\n"
      "      continue;\n"
      "    }}\n",
      nan);
  for (const LaunchArgument& argument : launch_order(spec)) {
    const std::string name = argument_name(spec, argument);
    const std::string declared = declaration(spec, argument, "");
    if (argument.role == ArgumentRole::kWeights)
      text += fmt::format("    {} = arguments->{} + expert * rows * kRowBytes;\n", declared, name);
    if (argument.role == ArgumentRole::kScale) {
      text += fmt::format("    {} = arguments->{} + expert * {};\n", declared, name,
                          expert_scale_stride(spec, "rows"));
    }
    if (argument.role == ArgumentRole::kBias)
      text += fmt::format("    {} = arguments->{} + expert * rows;\n", declared, name);
    if (argument.role == ArgumentRole::kY)
      text += fmt::format("    {} = arguments->{};\n", declared, name);
  }
  return text;
}

/// matvec with a gate, of several matrices or with a residual, and moe_matvec.
EmittedKernel emit_fused_matvec(const KernelSpec& spec, const Lowering& lowering) {
  const bool is_moe = spec.op == Op::kMoeMatvec;
  const bool has_gate = spec.gate != Gate::kNone;
  std::vector<std::string> names = product_fragments(spec);
  if (has_gate) names.push_back(gate_fragment(spec));
  if (spec.residual && *spec.residual != FormatId::kF32)
    names.push_back(fmt::format("{}_to_f32", get_format(*spec.residual).name));

  TemplateValues values = common_values(spec, lowering);
  for (const char* unused : {"weight_description", "scale_description", "cols", "scale_member"})
    values.erase(unused);
  values["tensor_descriptions"] = tensor_descriptions(spec);
  values["tiles"] = is_moe ? "rows of slots" : "rows";
  values["x_type"] = io_type(spec.x_format);
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants_for(spec, lowering));
  values["members"] = "";
  values["counts"] = "";
  for (const LaunchArgument& argument : launch_order(spec)) {
    const std::string member = declaration(spec, argument, "");
    values["members"] += fmt::format("  {};\n", member);
    if (argument.role == ArgumentRole::kN || argument_name(spec, argument) == "rows")
      values["counts"] +=
          fmt::format("  const {} = arguments->{};\n", member, argument_name(spec, argument));
  }
  const std::string scale_parameter =
      spec.scale ? fmt::format("const {}* scale, ", scale_c_type(spec.scale->type)) : "";
  values["row_parameters"] =
      fmt::format("const unsigned char* w, {}long long row, const {}* const* x_row, float* total",
                  scale_parameter, io_type(spec.x_format));
  values["block_loop"] = outdented(matvec_loop(spec, "scale"));
  values["tail"] = outdented(matvec_tail(spec));

  const auto rounded = [&](const std::string& value) {
    return spec.y_format == FormatId::kF32
               ? value
               : fmt::format("f32_to_{}({})", get_format(spec.y_format).name, value);
  };
  values["locate"] = locate_tile(spec, rounded("__builtin_nanf(\"\")"));
  values["x_row"] = is_moe ? "(slot / arguments->slots_per_x)" : "(j < n ? j : n - 1)";
  const auto biased = [&](const std::string& total, const std::string& bias) {
    return spec.bias ? fmt::format("{} + {}", total, widened(*spec.bias, bias + "[row]")) : total;
  };
  const std::string y_row = is_moe ? "slot" : "j";
  values["products"] = "";
  for (const char* suffix :
       has_gate ? std::vector<const char*>{"_gate", "_up"} : std::vector<const char*>{""}) {
    values["products"] += fmt::format(
        "    float total{0}[kXColumns];\n"
        "    multiply_row(w{0}, {1}row, x_row, total{0});\n",
        suffix, spec.scale ? fmt::format("scale{}, ", suffix) : "");
  }
  std::string result = biased("total[j]", "bias");
  if (has_gate) {
    const std::string up = biased("total_up[j]", "bias_up");
    result = fmt::format("activate({}) * {}", biased("total_gate[j]", "bias_gate"),
                         spec.bias ? fmt::format("({})", up) : up);
  }
  if (spec.residual)
    result += " + " + widened(*spec.residual, "arguments->residual[j * rows + row]");
  values["store"] = fmt::format("{}y[{} * rows + row] = {};", is_moe ? "" : "if (j < n) ", y_row,
                                rounded(result));
  LaunchShape launch;
  launch.x_rows_per_cta = is_moe ? 1 : 0;
  return {fill_template(get_template("cpu/matvec_fused.cpp.in"), values), kernel_name(spec), launch,
          lowering};
}

/// The body of widen_row: a row of x as f32, times its scales.
std::string widen_loop(const KernelSpec& spec) {
  std::string load = "load_x(x_row + at)";
  std::string tail_load = "load_x(x_tail)";
  std::string scale_row;
  if (spec.x_scale) {
    scale_row = "  const float* scale_row = arguments->x_scale + j * kXScaleCols;\n";
    const auto scaled = [&](const std::string& value, const std::string& at) {
      return scale_is_uniform_in_run(*spec.x_scale, kRun)
                 ? fmt::format("{} * scale_row[{} / kXGroup]", value, at)
                 : fmt::format("scaled({}, scale_row, {})", value, at);
    };
    load = scaled(load, "at");
    tail_load = scaled(tail_load, "kMainCols");
  }
  std::string text = scale_row + fmt::format(
                                     "  for (int at = begin; at + kRun <= end; at += kRun) "
                                     "store(out + (at - begin), {});\n",
                                     load);
  if (tail_elems(spec) == 0) return text;
  return text + fmt::format(
                    "  if (end == kCols) {{\n"
                    "    {} x_tail[kRun] = {{}};\n"
                    "    __builtin_memcpy(x_tail, x_row + kMainCols, kTail * sizeof(x_tail[0]));\n"
                    "    store(out + (kMainCols - begin), {});\n"
                    "  }}\n",
                    x_c_type(spec), tail_load);
}

/// The tile instructions of 32 columns: each term of w times each of x that is no smaller than an f32's last bit.
std::string tile_products(const MatmulPanels& panels) {
  constexpr int kLastTerm = 2;
  std::string text;
  int w_loaded = -1, x_loaded = -1;
  for (int t = 0; t < panels.w_terms; ++t) {
    for (int i = 0; i < panels.x_terms; ++i) {
      // There and back again, so that one operand stays.
      const int u = t % 2 == 0 ? i : panels.x_terms - 1 - i;
      if (t + u > kLastTerm) continue;
      const auto load = [&](const char* name, int tile, int term) {
        text +=
            tile < 6
                ? fmt::format(
                      "    __builtin_ia32_tileloadd64({}, {} + {} * kRun, sizeof(panel.row[0]));\n",
                      tile, name, term)
                : fmt::format("    __builtin_ia32_tileloadd64({}, {}[{}], 64);\n", tile, name,
                              term);
      };
      const auto multiply = [&](int sum) {
        text += fmt::format("    __builtin_ia32_tdpbf16ps({}, {}, {});\n", sum, 4 + sum / 2,
                            6 + sum % 2);
      };
      if (w_loaded != t) load("w0", 4, t);
      if (x_loaded != u) load("x0", 6, u);
      multiply(0);
      if (w_loaded != t) load("w1", 5, t);
      multiply(2);
      if (x_loaded != u) load("x1", 7, u);
      multiply(1);
      multiply(3);
      w_loaded = t;
      x_loaded = u;
    }
  }
  return text;
}

EmittedKernel emit_matmul(const KernelSpec& spec, const Lowering& lowering) {
  const MatmulPanels panels = matmul_panels(spec);
  const bool has_terms = panels.w_terms > 0;
  std::vector<std::string> names = product_fragments(spec);
  names.insert(names.end(), {"load", "store", "transpose"});
  if (!has_terms) std::erase(names, "sum_of");
  if (has_terms) names.push_back("split_weights");
  if (spec.x_scale && !scale_is_uniform_in_run(*spec.x_scale, kRun)) names.push_back("scaled");

  TemplateValues values = product_values(spec, lowering);
  values["panels"] = panels.summary;
  values["tile_rows"] = fmt::format("{}", panels.tile_rows);
  FragmentVariants variants = variants_for(spec, lowering);
  variants["split_weights"] = spec.tensor_core_precision ? "rounded" : "exactly";
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants);
  values["x_scale_description"] = "";
  values["x_scale_member"] = "";
  if (spec.x_scale) {
    values["x_scale_description"] =
        fmt::format("//   x_scale  in   f32  [n, {}]  row-major, one per {} columns of x\n",
                    spec.x_scale->cols_of_scales(spec.layout.cols), spec.x_scale->block_cols);
    values["x_scale_member"] = "const float* x_scale;\n  ";
  }
  const ColumnRange range = {"begin", "end", "begin / kBlockElems", "end / kBlockElems"};
  const std::string indent = is_blocked(spec) ? "        " : "      ";
  values["decode_loop"] = outdented(
      scale_row_line(spec) + run_loop(spec, scale_statements(spec, "at", "kRun"),
                                      indent + "store(out + (at - begin), weight);\n", range));
  values["decode_tail"] = tail_elems(spec) == 0 || is_blocked(spec)
                              ? ""
                              : "  if (end == kCols) {\n" + tail_decode(spec) +
                                    "      store(out + (kMainCols - begin), weight);\n"
                                    "    }\n"
                                    "  }\n";
  values["widen_loop"] = widen_loop(spec);
  values["y_statement"] = fmt::format("y_row[r] = {};", y_value(spec, "total[r]", "row + r"));
  values["panel_functions"] = FragmentLibrary::of("cpu").splice(
      {has_terms ? "panels_tiles" : "panels_f32"}, FragmentVariants{});
  values["finish"] = values["open"] = values["close"] = "";
  if (has_terms) {
    const std::string from = "${products}";
    std::string& text = values["panel_functions"];
    text.replace(text.find(from), from.size(), tile_products(panels));
    values["finish"] = "finish(arguments, row, block_rows, j + i, x->factor[i], total);\n    ";
    values["open"] =
        "// Others of this thread may count on a configuration of theirs.\n"
        "  alignas(64) TileConfig before;\n"
        "  __builtin_ia32_tile_storeconfig(&before);\n"
        "  alignas(64) const TileConfig config = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, "
        "{16, 16, 16, 16, 16, 16, 16, 16}};\n"
        "  __builtin_ia32_tile_loadconfig(&config);\n";
    values["close"] =
        "if (before.palette == 0) {\n"
        "    __builtin_ia32_tilerelease();\n"
        "  } else {\n"
        "    __builtin_ia32_tile_loadconfig(&before);\n"
        "  }";
  }
  LaunchShape launch;
  launch.rows_per_cta = panels.tile_rows;
  return {fill_template(get_template("cpu/matmul.cpp.in"), values), kernel_name(spec), launch,
          lowering};
}

/// Where rows of w, of x and of y of a block are, in the text's words.
struct BlockWords {
  std::string matrix_of_row, row_of_block, x_row, y_row, stored_rows, y_statement;
};

std::string block_text(const KernelSpec& spec, const BlockWords& words) {
  return fill_template(get_template("cpu/moe_matmul_block.cpp.in"),
                       {{"matrix_of_row", words.matrix_of_row},
                        {"row_of_block", words.row_of_block},
                        {"x_row", words.x_row},
                        {"y_row", words.y_row},
                        {"y_type", io_type(spec.y_format)},
                        {"stored_rows", words.stored_rows},
                        {"y_statement", words.y_statement}});
}

/// "matrix", with a gate "gate" and "up": an expert's matrices, declared.
std::string expert_matrices(const KernelSpec& spec) {
  std::string text;
  for (const LaunchArgument& argument : launch_order(spec)) {
    if (argument.role != ArgumentRole::kWeights) continue;
    const std::string suffix = spec.gate == Gate::kNone ? ""
                               : argument.matrix == 0   ? "_gate"
                                                        : "_up";
    text += fmt::format(
        "      const Matrix matrix{0} = {{arguments->w{0} + expert * rows * kRowBytes", suffix);
    if (spec.scale) {
      text += fmt::format(", arguments->scale{} + expert * {}", suffix,
                          expert_scale_stride(spec, "rows"));
    }
    text += "};\n";
  }
  return text;
}

/// The blocks of slots of each expert that meet one of w, found one after another; rows of slots whose id is no expert's get NaN.
/// With a gate half of the block's rows are of w_gate, the others of w_up.
std::string expert_blocks(const KernelSpec& spec) {
  const bool has_gate = spec.gate != Gate::kNone;
  const auto rounded = [&](const std::string& value) {
    return spec.y_format == FormatId::kF32
               ? value
               : fmt::format("f32_to_{}({})", get_format(spec.y_format).name, value);
  };
  const auto biased = [&](const std::string& sum, const std::string& bias) {
    return spec.bias
               ? fmt::format("{} + {}", sum,
                             widened(*spec.bias,
                                     fmt::format("arguments->{}[expert * rows + row + r]", bias)))
               : sum;
  };
  std::string value = biased("sum_of(sum[r][j])", "bias");
  if (has_gate) {
    const std::string up = biased("sum_of(sum[kYRows + r][j])", "bias_up");
    value = fmt::format("activate({}) * {}", biased("sum_of(sum[r][j])", "bias_gate"),
                        spec.bias ? fmt::format("({})", up) : up);
  }
  const BlockWords words = {
      has_gate ? "r < kYRows ? &matrix_gate : &matrix_up" : "&matrix",
      has_gate ? "at_most(y_rows - 1, r % kYRows)" : "at_most(block_rows - 1, r)",
      "slot_of[at_most(block_columns - 1, j)] / arguments->slots_per_x",
      "slot_of[j]",
      "y_rows",
      fmt::format("y_row[r] = {};", rounded(value))};
  return fmt::format(
             "    const int y_rows = at_most({}, rows - row);\n"
             "    const int block_rows = {};\n"
             "    for (long long slot = 0; slot < slots; ++slot) {{\n"
             "      if (ids[slot] >= 0 && ids[slot] < experts) continue;\n"
             "      for (int r = 0; r < y_rows; ++r) arguments->y[slot * rows + row + r] = {};\n"
             "    }} // slot: of no expert\n"
             "    for (long long expert = 0; expert < experts; ++expert) {{\n"
             "{}"
             "      for (long long slot = 0; slot < slots;) {{\n"
             "        long long slot_of[kBlockColumns];\n"
             "        int block_columns = 0;\n"
             "        for (; slot < slots && block_columns < kBlockColumns; ++slot) {{\n"
             "          if (ids[slot] == expert) slot_of[block_columns++] = slot;\n"
             "        }} // slot: of the expert\n"
             "        if (block_columns == 0) break;\n",
             has_gate ? "kYRows" : "kBlockRows", has_gate ? "kBlockRows" : "y_rows",
             rounded("__builtin_nanf(\"\")"), expert_matrices(spec)) +
         "  " + indented(block_text(spec, words), 2) +
         "\n      } // slot: blocks of the expert's\n"
         "    } // expert: one after another\n";
}

EmittedKernel emit_moe_matmul(const KernelSpec& spec, const Lowering& lowering) {
  const bool has_gate = spec.gate != Gate::kNone;
  std::vector<std::string> names = product_fragments(spec);
  names.insert(names.end(), {"load", "store"});
  if (spec.x_scale && !scale_is_uniform_in_run(*spec.x_scale, kRun)) names.push_back("scaled");
  if (has_gate) names.push_back(gate_fragment(spec));

  TemplateValues values = {{"kernel", kernel_name(spec)},
                           {"emitter_version", fmt::format("{}", kEmitterVersion)},
                           {"math", product_math(spec)},
                           {"arch", cpu_description(spec.target, lowering.summary)},
                           {"tensor_descriptions", tensor_descriptions(spec)}};
  std::vector<Constant> constants = constants_of(spec);
  if (has_gate)
    constants.push_back(
        {"kYRows", fmt::format("{}", kBlockRows / 2), "rows of y, of each matrix, in a block"});
  values["constants"] = format_constants(constants);
  values["block_rows"] = fmt::format("{}", has_gate ? kBlockRows / 2 : kBlockRows);
  values["y_rows"] = has_gate ? "kYRows" : "kBlockRows";
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants_for(spec, lowering));
  values["x_type"] = x_c_type(spec);
  values["members"] = "";
  for (const LaunchArgument& argument : launch_order(spec)) {
    const bool is_x = argument.role == ArgumentRole::kX;
    values["members"] += is_x ? fmt::format("  const {}* x;\n", x_c_type(spec))
                              : fmt::format("  {};\n", declaration(spec, argument, ""));
  }
  const std::string scale_member =
      spec.scale ? fmt::format("  const {}* scale;\n", scale_c_type(spec.scale->type)) : "";
  values["scale_member"] = scale_member;
  const ColumnRange range = {"begin", "end", "begin / kBlockElems", "end / kBlockElems"};
  const std::string indent = is_blocked(spec) ? "        " : "      ";
  values["decode_loop"] =
      outdented(scale_row_line(spec, "matrix->scale") +
                run_loop(spec, scale_statements(spec, "at", "kRun"),
                         indent + "store(out + (at - begin), weight);\n", range));
  values["decode_tail"] = tail_elems(spec) == 0 || is_blocked(spec)
                              ? ""
                              : "  if (end == kCols) {\n" + tail_decode(spec) +
                                    "      store(out + (kMainCols - begin), weight);\n"
                                    "    }\n"
                                    "  }\n";
  values["widen_loop"] = widen_loop(spec);
  values["blocks"] = expert_blocks(spec);
  LaunchShape launch;
  launch.rows_per_cta = has_gate ? kBlockRows / 2 : kBlockRows;
  return {fill_template(get_template("cpu/moe_matmul.cpp.in"), values), kernel_name(spec), launch,
          lowering};
}

EmittedKernel emit_nan_scan(const KernelSpec& spec, Lowering lowering) {
  lowering.summary = "codes are compared, not decoded";
  if (spec.weight == FormatId::kFp8E4B15) {
    throw SpecError("format", get_format(spec.weight).name,
                    "an FP8 format that has NaN codes, as all but this one");
  }
  TemplateValues values = common_values(spec, lowering);
  for (const char* unused : {"constants", "scale_member", "scale_description", "math"})
    values.erase(unused);
  values["functions"] =
      FragmentLibrary::of("cpu").splice({"is_not_finite"}, variants_for(spec, lowering));
  return {fill_template(get_template("cpu/nan_scan.cpp.in"), values), kernel_name(spec),
          LaunchShape{}, lowering};
}

EmittedKernel emit_read_test(const KernelSpec& spec) {
  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = fmt::format("{}", kEmitterVersion);
  values["row_bytes"] = fmt::format("{}", kReadTestRowBytes);
  const Prefetch prefetch = prefetch_of(spec.target, false);
  values["prefetch_bytes"] = fmt::format("{}", prefetch.bytes);
  values["prefetch_locality"] = fmt::format("{}", prefetch.locality);
  return {fill_template(get_template("cpu/read_test.cpp.in"), values), kernel_name(spec),
          LaunchShape{}, Lowering{LoweringKind::kNative, "", "", "native", 0}};
}

}  // namespace

EmittedKernel emit_cpu(const KernelSpec& spec) {
  if (spec.tuning != Tuning{}) {
    throw SpecError("tuning", "threads or rows_per_warp", "no knobs for CPU targets");
  }
  if (spec.op == Op::kReadTest) return emit_read_test(spec);
  if (spec.op == Op::kQuantize) return emit_cpu_quantize(spec);
  if (spec.layout.kind == LayoutKind::kInterleaved) {
    if (spec.op == Op::kMoeMatvec) return emit_interleaved_moe_matvec(spec);
    return spec.op == Op::kMatvec ? emit_interleaved_matvec(spec) : emit_interleave(spec);
  }
  if (spec.op == Op::kPrepare) return emit_cpu_prepare(spec);
  if (spec.op == Op::kRestore) return emit_cpu_restore(spec);
  Lowering lowering = get_lowering(spec.weight, spec.target);
  if (spec.weights_finite) lowering.summary += ", no NaN codes (scanned)";
  switch (spec.op) {
    case Op::kDequant:
      return emit_dequant(spec, lowering);
    case Op::kMatvec:
    case Op::kMoeMatvec:
      if (spec.op == Op::kMoeMatvec || is_fused(spec)) return emit_fused_matvec(spec, lowering);
      return has_cpu_float_matvec(spec) ? emit_cpu_float_matvec(spec, lowering)
                                        : emit_matvec(spec, lowering);
    case Op::kMatmul:
      return emit_matmul(spec, lowering);
    case Op::kMoeMatmul:
      return emit_moe_matmul(spec, lowering);
    case Op::kQuantize:
    case Op::kNanScan:
      return emit_nan_scan(spec, lowering);
    case Op::kPrepare:
    case Op::kRestore:
    case Op::kReadTest:
      break;  // need no lowering of a decode: done above
  }
  KTJIT_UNREACHABLE("a known op");
}

}  // namespace ktjit::codegen
