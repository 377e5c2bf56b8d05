// The CUDA emitter: chooses by op, and the matvec skeleton, which gives each warp a few rows and each lane runs of
// them.
#include "codegen/cuda_emitter.h"

#include <algorithm>
#include <fmt/format.h>

#include "codegen/cuda_dequant.h"
#include "codegen/cuda_float_matvec.h"
#include "codegen/cuda_matmul.h"
#include "codegen/cuda_matvec_variant.h"
#include "codegen/cuda_parts.h"
#include "codegen/cuda_quantize.h"
#include "codegen/cuda_restore.h"
#include "codegen/cuda_unit_matmul.h"
#include "codegen/cuda_unit_matvec.h"
#include "codegen/cuda_warp_matmul.h"
#include "codegen/cuda_warpgroup_fp8_matmul.h"
#include "codegen/cuda_warpgroup_matmul.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "codegen/product_text.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kReadTestThreads = 256;
constexpr int kMatvecThreads = 128;  // measured best on an H200, see docs/STATUS.md

/// Two rows share the loads of x where that measured faster (H200, docs/STATUS.md): not with the K formats,
/// whose decode takes the registers, and not in long rows, of which there are few.
int default_rows_per_warp(const KernelSpec& spec) {
  constexpr std::int64_t kLongRow = 8192;
  if (spec.gate != Gate::kNone) return 1;  // which are two rows
  const bool is_k_format = get_format(spec.weight).block_elems == 256;
  return is_k_format || spec.layout.cols > kLongRow ? 1 : 2;
}

EmittedKernel emit_matvec(const KernelSpec& spec, const Lowering& lowering) {
  const std::string_view x_name = get_format(spec.x_format).name;
  const int threads = spec.tuning.threads == 0 ? kMatvecThreads : spec.tuning.threads;
  const int rows_per_warp =
      spec.tuning.rows_per_warp == 0 ? default_rows_per_warp(spec) : spec.tuning.rows_per_warp;
  const bool is_moe = spec.op == Op::kMoeMatvec;
  const LaunchShape shape{std::int64_t{threads / kWarpThreads} * rows_per_warp, 1,
                          static_cast<unsigned>(threads), 0, is_moe ? 1 : 0};
  const bool uniform_scale = spec.scale && scale_is_uniform_in_run(*spec.scale, kRun);
  const MatvecVariant variant = matvec_variant(spec, static_cast<int>(shape.rows_per_cta));

  std::vector<std::string> names = decode_fragments(spec);
  names.insert(names.end(), {"min_of", "warp_sum", fmt::format("load_run_{}", x_name)});
  names.insert(names.end(), variant.fragments.begin(), variant.fragments.end());
  TemplateValues values = variant.values;
  add_wait(spec, values, names);
  if (has_tail(spec) && spec.x_format != FormatId::kF32)
    names.push_back(fmt::format("{}_to_f32", x_name));

  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = fmt::format("{}", kEmitterVersion);
  values["tensor_descriptions"] = tensor_descriptions(spec);
  values["math"] = product_math(spec);
  values["arch"] = arch_description(spec, lowering);
  values["x_type"] = io_type(spec.x_format);
  values["threads"] = fmt::format("{}", threads);
  std::vector<Constant> constants = shared_constants(spec, kRun);
  constants.insert(
      constants.end(),
      {{"kThreads", fmt::format("{}", threads), "threads per CTA"},
       {"kWarpThreads", fmt::format("{}", kWarpThreads), "threads of one warp"},
       {"kWarps", "kThreads / kWarpThreads", ""},
       {"kRowsPerWarp", fmt::format("{}", rows_per_warp), "rows of w that share one pass over x"}});
  constants.insert(constants.end(), variant.constants.begin(), variant.constants.end());
  constants.push_back(
      {"kXColumns", fmt::format("{}", spec.x_columns), "rows of x that a launch can use"});
  values["constants"] = format_constants(constants);
  // Two runs in flight hide latency; q6_K, or more columns, would spill registers.
  values["unroll"] = spec.x_columns <= 2 && spec.weight != FormatId::kQ6_K ? "2" : "1";
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants_for(spec, lowering));

  std::string decode =
      decode_statements(spec, fmt::format("{} + row[r] * kRowBytes", variant.w), "weight[r]");
  values["scale_declaration"] = "";
  if (uniform_scale) {
    values["scale_declaration"] = fmt::format("    float run_scale[{}];\n", variant.sums);
    decode += fmt::format("\nrun_scale[r] = load_scale({}, {});", variant.scale,
                          scale_index(*spec.scale, "row[r]", "col"));
  } else if (spec.scale) {
    decode += "\n" + scale_each_element(*spec.scale, "row[r]", "weight[r]", variant.scale);
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
  return {fill_template(get_template("cuda/matvec.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

EmittedKernel emit_read_test(const KernelSpec& spec) {
  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = fmt::format("{}", kEmitterVersion);
  values["row_bytes"] = fmt::format("{}", kReadTestRowBytes);
  values["threads"] = fmt::format("{}", kReadTestThreads);
  return {fill_template(get_template("cuda/read_test.cu.in"), values), kernel_name(spec),
          LaunchShape{1, 1, kReadTestThreads, 0},
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
  const int runs = spec.tuning.runs_per_thread;
  if (runs != 0 && runs != 1 && runs != 2 && runs != 4)
    throw SpecError("runs_per_thread", fmt::format("{}", runs), "1, 2 or 4");
  if (spec.op == Op::kReadTest) return emit_read_test(spec);
  if (spec.op == Op::kQuantize) return emit_quantize(spec);
  if (spec.op == Op::kNanScan) return emit_nan_scan(spec);
  const Lowering lowering = get_lowering(spec.weight, spec.target, spec.weights_finite);
  if (spec.op == Op::kPrepare) return emit_prepare(spec, lowering);
  if (spec.op == Op::kRestore) return emit_restore(spec, lowering);
  if (spec.tensor_core_precision) {
    if (!has_wgmma(spec.target)) return emit_warp_matmul(spec, lowering);
    return spec.op == Op::kMatmul && spec.activation == ActivationPolicy::kAfp8
               ? emit_warpgroup_fp8_matmul(spec, lowering)
               : emit_warpgroup_matmul(spec, lowering);
  }
  if (takes_unit_matmul(spec)) return emit_unit_matmul(spec, lowering);
  if (spec.layout.kind == LayoutKind::kPrepared) {
    return spec.op == Op::kDequant ? emit_dequant_prepared(spec, lowering)
                                   : emit_unit_matvec(spec, lowering);
  }
  if (takes_float_matvec(spec)) return emit_float_matvec(spec, lowering);
  switch (spec.op) {
    case Op::kDequant:
      return emit_dequant(spec, lowering);
    case Op::kMatvec:
    case Op::kMoeMatvec:
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
