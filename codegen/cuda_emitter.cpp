// The CUDA skeletons: dequant gives each thread a run of one row, matvec gives each warp a few rows
// and each lane runs of them.
#include "codegen/cuda_emitter.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>
#include <numeric>

#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kRun =
    8;  // consecutive elements that one thread decodes: a divisor of every sub-block
constexpr int kWarpThreads = 32;
constexpr int kDefaultThreads = 256;
constexpr int kMatvecThreads = 128;  // measured best on an H200, see docs/STATUS.md

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Largest alignment, up to 8, of the 8-byte pieces that decodes load: those of a block's payload.
int payload_alignment(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  const int row_alignment = row_alignment_bytes(format, spec.layout);
  const int block_alignment = format.block_elems == 1 ? 8 : std::gcd(format.block_bytes, 8);
  return std::min({row_alignment, block_alignment, 8});
}

/// Whether rows of this io format, one after another, allow 16-byte vectors.
bool rows_allow_vectors(FormatId io_format, const TensorLayout& layout) {
  return row_alignment_bytes(get_format(io_format), layout) >= 16;
}

FragmentVariants variants_for(const KernelSpec& spec, const Lowering& lowering) {
  FragmentVariants variants;
  variants["load_8_bytes"] = fmt::format("{}", payload_alignment(spec));
  if (!lowering.routine.empty()) variants["fp8x4_to_f32"] = lowering.routine;
  variants["f32_to_bf16"] = get_cuda_facts(spec.target).bf16_cvt ? "hardware" : "software";
  for (FormatId io : {FormatId::kF32, FormatId::kF16, FormatId::kBF16}) {
    const std::string name(get_format(io).name);
    const std::string variant = rows_allow_vectors(io, spec.layout) ? "vector" : "element";
    variants["load_run_" + name] = variant;
    variants["store_run_" + name] = variant;
  }
  return variants;
}

bool has_tail(const KernelSpec& spec) { return spec.layout.cols % kRun != 0; }

std::string indented(std::string_view text, int spaces) {
  std::string result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (begin > 0) result += "\n";
    const std::string_view line = text.substr(begin, end - begin);
    const bool at_margin = line.empty() || line.front() == '#';
    if (begin > 0 && !at_margin) result += std::string(static_cast<std::size_t>(spaces), ' ');
    result += line;
    begin = end + 1;
  }
  return result;
}

/// Statements that decode the run at `col` of row `row_pointer` into `value`, zeros past the last
/// column.
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

/// Multiplies each element by the scale of its own column.
std::string scale_each_element(const ScaleGrid& grid, const std::string& row,
                               const std::string& value) {
  return fmt::format(
      "#pragma unroll\n"
      "for (int i = 0; i < kRun; ++i) {{\n"
      "  if (col + i < kCols) {}[i] *= load_scale(scale, {});\n"
      "}} // i: elements, each with a scale of its own",
      value, scale_index(grid, row, "(col + i)"));
}

void add_common_values(const KernelSpec& spec, const Lowering& lowering, TemplateValues& values) {
  values["arch"] = fmt::format("{}, {}: {}", spec.target.name(), lowering.reason, lowering.summary);
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

EmittedKernel emit_dequant(const KernelSpec& spec, const Lowering& lowering) {
  const std::string_view y_name = get_format(spec.y_format).name;
  const std::int64_t runs_per_row = ceil_div(spec.layout.cols, kRun);
  const int threads = spec.tuning.threads == 0 ? kDefaultThreads : spec.tuning.threads;
  const int threads_per_row = static_cast<int>(
      std::min<std::int64_t>(threads, std::bit_ceil(static_cast<std::uint64_t>(runs_per_row))));
  const LaunchShape shape{threads / threads_per_row,
                          static_cast<unsigned>(ceil_div(runs_per_row, threads_per_row)),
                          static_cast<unsigned>(threads), 0};

  std::vector<std::string> names = decode_fragments(spec);
  names.push_back(fmt::format("store_run_{}", y_name));
  if (has_tail(spec)) names.push_back(fmt::format("store_element_{}", y_name));

  TemplateValues values = header_values(spec);
  add_common_values(spec, lowering, values);
  values["y_name"] = y_name;
  values["y_type"] = io_type(spec.y_format);
  values["threads"] = fmt::format("{}", threads);
  values["rows_per_cta"] = fmt::format("{}", shape.rows_per_cta);
  values["column_tiles"] = fmt::format("{}", shape.column_tiles);
  std::vector<Constant> constants = shared_constants(spec, kRun);
  constants.insert(constants.end(), {{"kThreads", fmt::format("{}", threads), "threads per CTA"},
                                     {"kThreadsPerRow", fmt::format("{}", threads_per_row),
                                      "threads side by side in one row"},
                                     {"kRowsPerCta", "kThreads / kThreadsPerRow", ""}});
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants_for(spec, lowering));
  values["decode"] = indented(decode_statements(spec, "w + row * kRowBytes", "value"), 2);
  values["apply_scale"] = "";
  if (spec.scale) {
    const std::string statements =
        scale_is_uniform_in_run(*spec.scale, kRun)
            ? fmt::format(
                  "const float run_scale = load_scale(scale, {});\n"
                  "#pragma unroll\n"
                  "for (int i = 0; i < kRun; ++i) value[i] *= run_scale;",
                  scale_index(*spec.scale, "row", "col"))
            : scale_each_element(*spec.scale, "row", "value");
    values["apply_scale"] = "  " + indented(statements, 2) + "\n";
  }
  values["store"] =
      !has_tail(spec)
          ? fmt::format("store_run_{}(y + row * kCols + col, value);", y_name)
          : indented(
                fmt::format(
                    "if (col + kRun <= kCols) {{\n"
                    "  store_run_{}(y + row * kCols + col, value);\n"
                    "}} else {{\n"
                    "#pragma unroll\n"
                    "  for (int i = 0; i < kRun; ++i) {{\n"
                    "    if (col + i < kCols) store_element(y + row * kCols + col + i, value[i]);\n"
                    "  }} // i: elements\n"
                    "}}",
                    y_name),
                2);
  return {fill_template(get_template("cuda/dequant.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

/// Two rows share the loads of x where that measured faster (H200, docs/STATUS.md): not with the K formats,
/// whose decode takes the registers, and not in long rows, of which there are few.
int default_rows_per_warp(const KernelSpec& spec) {
  constexpr std::int64_t kLongRow = 8192;
  const bool is_k_format = get_format(spec.weight).block_elems == 256;
  return is_k_format || spec.layout.cols > kLongRow ? 1 : 2;
}

EmittedKernel emit_matvec(const KernelSpec& spec, const Lowering& lowering) {
  const std::string_view x_name = get_format(spec.x_format).name;
  const int threads = spec.tuning.threads == 0 ? kMatvecThreads : spec.tuning.threads;
  const int rows_per_warp =
      spec.tuning.rows_per_warp == 0 ? default_rows_per_warp(spec) : spec.tuning.rows_per_warp;
  const LaunchShape shape{std::int64_t{threads / kWarpThreads} * rows_per_warp, 1,
                          static_cast<unsigned>(threads), 0};
  const bool uniform_scale = spec.scale && scale_is_uniform_in_run(*spec.scale, kRun);

  std::vector<std::string> names = decode_fragments(spec);
  names.insert(names.end(), {"min_of", "warp_sum", fmt::format("load_run_{}", x_name)});
  if (has_tail(spec) && spec.x_format != FormatId::kF32)
    names.push_back(fmt::format("{}_to_f32", x_name));

  TemplateValues values = header_values(spec);
  add_common_values(spec, lowering, values);
  values["x_name"] = x_name;
  values["x_type"] = io_type(spec.x_format);
  values["x_columns"] = fmt::format("{}", spec.x_columns);
  values["threads"] = fmt::format("{}", threads);
  values["rows_per_cta"] = fmt::format("{}", shape.rows_per_cta);
  std::vector<Constant> constants = shared_constants(spec, kRun);
  constants.insert(
      constants.end(),
      {{"kThreads", fmt::format("{}", threads), "threads per CTA"},
       {"kWarpThreads", fmt::format("{}", kWarpThreads), "threads of one warp"},
       {"kWarps", "kThreads / kWarpThreads", ""},
       {"kRowsPerWarp", fmt::format("{}", rows_per_warp), "rows of w that share one pass over x"},
       {"kXColumns", fmt::format("{}", spec.x_columns), "rows of x that a launch can use"}});
  values["constants"] = format_constants(constants);
  // Two runs in flight hide latency; q6_K, or more columns, would spill registers.
  values["unroll"] = spec.x_columns <= 2 && spec.weight != FormatId::kQ6_K ? "2" : "1";
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants_for(spec, lowering));

  std::string decode = decode_statements(spec, "w + row[r] * kRowBytes", "weight[r]");
  values["scale_declaration"] = "";
  if (uniform_scale) {
    values["scale_declaration"] = "    float run_scale[kRowsPerWarp];\n";
    decode += fmt::format("\nrun_scale[r] = load_scale(scale, {});",
                          scale_index(*spec.scale, "row[r]", "col"));
  } else if (spec.scale) {
    decode += "\n" + scale_each_element(*spec.scale, "row[r]", "weight[r]");
  }
  values["decode"] = indented(decode, 6);

  const std::string element = spec.x_format == FormatId::kF32
                                  ? "x_row[j][col + i]"
                                  : fmt::format("{}_to_f32(x_row[j][col + i])", x_name);
  const std::string load_run =
      fmt::format("load_run_{}((const unsigned char*)(x_row[j] + col), activation);", x_name);
  values["load_x"] = !has_tail(spec)
                         ? load_run
                         : indented(fmt::format("if (col + kRun <= kCols) {{\n"
                                                "  {}\n"
                                                "}} else {{\n"
                                                "#pragma unroll\n"
                                                "  for (int i = 0; i < kRun; ++i) activation[i] = "
                                                "col + i < kCols ? {} : 0.0f;\n"
                                                "}}",
                                                load_run, element),
                                    6);
  values["accumulate"] =
      uniform_scale
          ? "        float run_sum = 0.0f;\n"
            "#pragma unroll\n"
            "        for (int i = 0; i < kRun; ++i) run_sum += weight[r][i] * activation[i];\n"
            "        sum[r][j] += run_scale[r] * run_sum;"
          : "#pragma unroll\n"
            "        for (int i = 0; i < kRun; ++i) sum[r][j] += weight[r][i] * activation[i];";
  return {fill_template(get_template("cuda/matvec.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

EmittedKernel emit_read_test(const KernelSpec& spec) {
  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = fmt::format("{}", kEmitterVersion);
  values["row_bytes"] = fmt::format("{}", kReadTestRowBytes);
  values["threads"] = fmt::format("{}", kDefaultThreads);
  return {fill_template(get_template("cuda/read_test.cu.in"), values), kernel_name(spec),
          LaunchShape{1, 1, kDefaultThreads, 0},
          Lowering{LoweringKind::kNative, "", "", "native", 0}};
}

}  // namespace

EmittedKernel emit_cuda(const KernelSpec& spec) {
  if (spec.tuning.threads % kWarpThreads != 0 || spec.tuning.threads < 0 ||
      spec.tuning.threads > 1024) {
    throw SpecError("threads", fmt::format("{}", spec.tuning.threads),
                    "multiples of 32 up to 1024");
  }
  if (spec.tuning.rows_per_warp < 0 || spec.tuning.rows_per_warp > 8) {
    throw SpecError("rows_per_warp", fmt::format("{}", spec.tuning.rows_per_warp), "1 to 8");
  }
  if (spec.op == Op::kReadTest) return emit_read_test(spec);
  const Lowering lowering = get_lowering(spec.weight, spec.target);
  return spec.op == Op::kDequant ? emit_dequant(spec, lowering) : emit_matvec(spec, lowering);
}

}  // namespace ktjit::codegen
