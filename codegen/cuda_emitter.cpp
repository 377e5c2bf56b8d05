// The CUDA skeletons: dequant gives each thread a run of one row, matvec gives each warp a few rows
// and each lane runs of them.
#include "codegen/cuda_emitter.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>

#include "codegen/cuda_matmul.h"
#include "codegen/cuda_parts.h"
#include "codegen/cuda_quantize.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kDefaultThreads = 256;
constexpr int kNarrowDequantThreads = 128;  // results of 16 bits: measured best on an H200
constexpr int kMatvecThreads = 128;         // measured best on an H200, see docs/STATUS.md

EmittedKernel emit_dequant(const KernelSpec& spec, const Lowering& lowering) {
  const std::string_view y_name = get_format(spec.y_format).name;
  const std::int64_t runs_per_row = ceil_div(spec.layout.cols, kRun);
  const int default_threads =
      spec.y_format == FormatId::kF32 ? kDefaultThreads : kNarrowDequantThreads;
  const int threads = spec.tuning.threads == 0 ? default_threads : spec.tuning.threads;
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
  add_wait(spec, values, names);
  values["y_name"] = y_name;
  values["y_type"] = io_type(spec.y_format);
  values["threads"] = fmt::format("{}", threads);
  values["rows_per_cta"] = fmt::format("{}", shape.rows_per_cta);
  values["column_tiles"] = fmt::format("{}", shape.column_tiles);
  std::vector<Constant> constants = shared_constants(spec, kRun);
  constants.insert(
      constants.end(),
      {{"kThreads", fmt::format("{}", threads), "threads per CTA"},
       {"kThreadsPerRow", fmt::format("{}", threads_per_row), "threads side by side in one row"},
       {"kRowsPerCta", "kThreads / kThreadsPerRow", ""},
       {"kColumnTiles", fmt::format("{}", shape.column_tiles), "CTAs side by side in one row"}});
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants_for(spec, lowering));
  values["decode"] = indented(decode_statements(spec, "w + row * kRowBytes", "value"), 2);
  values["apply_scale"] = apply_scale_statements(spec, "row", "value", 2);
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
  TemplateValues values = header_values(spec);
  add_product_values(spec, values, names);
  add_wait(spec, values, names);
  if (has_tail(spec) && spec.x_format != FormatId::kF32)
    names.push_back(fmt::format("{}_to_f32", x_name));

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

  values["load_x"] = indented(load_x_statements(spec, "x_row[j]"), 6);
  values["accumulate"] =
      uniform_scale
          ? "        float run_sum = 0.0f;\n"
            "#pragma unroll\n"
            "        for (int i = 0; i < kRun; ++i) run_sum += weight[r][i] * activation[i];\n"
            "        sum[r][j] += run_scale[r] * run_sum;"
          : "#pragma unroll\n"
            "        for (int i = 0; i < kRun; ++i) sum[r][j] += weight[r][i] * activation[i];";
  values["result"] = with_bias(spec, "total", "first_row + r");
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

EmittedKernel emit_op(const KernelSpec& spec) {
  if (spec.tuning.threads % kWarpThreads != 0 || spec.tuning.threads < 0 ||
      spec.tuning.threads > 1024) {
    throw SpecError("threads", fmt::format("{}", spec.tuning.threads),
                    "multiples of 32 up to 1024");
  }
  if (spec.tuning.rows_per_warp < 0 || spec.tuning.rows_per_warp > 8) {
    throw SpecError("rows_per_warp", fmt::format("{}", spec.tuning.rows_per_warp), "1 to 8");
  }
  if (spec.op == Op::kReadTest) return emit_read_test(spec);
  if (spec.op == Op::kQuantize) return emit_quantize(spec);
  if (spec.op == Op::kNanScan) return emit_nan_scan(spec);
  const Lowering lowering = get_lowering(spec.weight, spec.target, spec.weights_finite);
  switch (spec.op) {
    case Op::kDequant:
      return emit_dequant(spec, lowering);
    case Op::kMatvec:
      return emit_matvec(spec, lowering);
    default:
      return emit_matmul(spec, lowering);
  }
}

}  // namespace

EmittedKernel emit_cuda(const KernelSpec& spec) {
  EmittedKernel emitted = emit_op(spec);
  if (!spec.dependent_launch) return emitted;
  emitted.launch.dependent_launch = true;
  emitted.source = without_restrict(std::move(emitted.source));
  return emitted;
}

}  // namespace ktjit::codegen
