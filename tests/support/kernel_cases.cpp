// The list of golden kernels.
#include "tests/support/kernel_cases.h"

#include <fmt/format.h>
#include <tuple>

#include "codegen/lowering.h"

namespace ktjit::test {
namespace {

std::string target_label(const Target& target) {
  return target.is_cuda() ? target.name() : target.cpu_level;
}

void add(std::vector<KernelCase>& cases, std::string_view detail, const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  std::string name(format.name);
  if (!detail.empty()) name += fmt::format("_{}", detail);
  const FormatId io = spec.op == Op::kDequant ? spec.y_format : spec.x_format;
  cases.push_back({fmt::format("{}/{}_{}_{}.{}", op_name(spec.op), name, get_format(io).name,
                               target_label(spec.target), spec.target.is_cuda() ? "cu" : "cpp"),
                   spec});
}

}  // namespace

KernelSpec make_spec(Op op, std::string_view format, std::int64_t cols, const Target& target) {
  const FormatId id = get_format(format).id;
  return ktjit::make_spec(op, id, fixed_scale_grid(id), cols, target);
}

Target avx2_target() { return parse_target("cpu:x86-64-v3", {}); }

std::vector<FormatId> served_formats() {
  std::vector<FormatId> served;
  for (const Format& format : all_formats()) {
    if (codegen::is_served(format.id)) served.push_back(format.id);
  }
  return served;
}

std::vector<FormatId> product_formats() {
  std::vector<FormatId> formats = served_formats();
  std::erase_if(formats, is_dequant_only);
  return formats;
}

std::vector<FormatId> narrow_floats() {
  return {FormatId::kFp8E4M3,     FormatId::kFp8E5M2, FormatId::kFp8E4B15, FormatId::kFp8E4M3Fnuz,
          FormatId::kFp8E5M2Fnuz, FormatId::kFp6E2M3, FormatId::kFp6E3M2,  FormatId::kFp4E2M1};
}

std::vector<KernelCase> kernel_cases() {
  std::vector<KernelCase> cases;
  const Target sm_75 = make_cuda_target(75), sm_86 = make_cuda_target(86),
               sm_90a = make_cuda_target(90, "a"), sm_120a = make_cuda_target(120, "a");
  const Target sm_61 = make_cuda_target(61), avx2 = avx2_target();
  const Target baseline = parse_target("cpu:x86-64", {});

  // Interleaved weights: made, undone, and multiplied by each kind of integer products.
  {
    std::vector<std::string> vnni = cpu_level_features("x86-64-v4");
    vnni.push_back("avx512vnni");
    KernelSpec spec = make_spec(Op::kMatvec, "q4_K", 512, make_cpu_target("vnni", vnni));
    spec.layout.kind = LayoutKind::kInterleaved;
    add(cases, "interleaved", spec);
    spec.target = avx2;
    add(cases, "interleaved", spec);
    spec = make_spec(Op::kMatvec, "q8_0", 480, baseline);
    spec.layout.kind = LayoutKind::kInterleaved;
    spec.activation = ActivationPolicy::kA8;
    spec.x_columns = 4;
    add(cases, "c480_n4_a8_interleaved", spec);
    for (const Op op : {Op::kPrepare, Op::kRestore}) {
      spec = make_spec(op, "q5_0", 480, avx2);
      spec.layout.kind = LayoutKind::kInterleaved;
      add(cases, "c480_interleaved", spec);
      spec = make_spec(op, "q1_0", 640, avx2);  // codes in planes
      spec.layout.kind = LayoutKind::kInterleaved;
      add(cases, "c640_interleaved", spec);
    }
    spec = make_spec(Op::kMoeMatvec, "q5_0", 480, avx2);
    spec.layout.kind = LayoutKind::kInterleaved;
    spec.gate = Gate::kSilu;
    spec.bias = FormatId::kBF16;
    spec.y_format = FormatId::kF16;
    add(cases, "c480_bias_silu_interleaved", spec);
    for (const char* format : {"iq2_s", "iq1_m"}) {
      spec = make_spec(Op::kMatvec, format, 512, avx2);
      spec.layout.kind = LayoutKind::kInterleaved;
      add(cases, "interleaved", spec);
    }
  }
  // Every format on one GPU and on the CPU.
  for (FormatId format : served_formats()) {
    for (const Target& target : {sm_86, avx2}) {
      for (Op op : {Op::kDequant, Op::kMatvec}) {
        if (is_product(op) && is_dequant_only(format)) continue;
        add(cases, "", make_spec(op, get_format(format).name, 512, target));
      }
    }
  }
  // The other conversions of FP8.
  for (const char* format : {"fp8_e4m3", "fp8_e5m2"}) {
    add(cases, "", make_spec(Op::kDequant, format, 512, sm_90a));
    add(cases, "", make_spec(Op::kDequant, format, 512, sm_61));
  }
  for (const char* format : {"fp8_e4m3fnuz", "fp8_e5m2fnuz"}) {
    add(cases, "", make_spec(Op::kDequant, format, 512, sm_75));
    add(cases, "", make_spec(Op::kDequant, format, 512, sm_61));
    for (const Target& target : {sm_61, sm_86, avx2}) {
      KernelSpec spec = make_spec(Op::kMatvec, format, 77, target);
      spec.weights_finite = true;
      add(cases, "c77_finite", spec);
    }
    for (const Target& target : {sm_86, sm_90a}) {
      for (FormatId x_format : {FormatId::kF16, FormatId::kBF16}) {
        KernelSpec spec = make_spec(Op::kMatmul, format, 512, target);
        spec.x_format = x_format;
        add(cases, "", spec);
        spec.weights_finite = true;
        add(cases, "finite", spec);
      }
    }
    for (const Target& target : {sm_86, avx2})
      add(cases, "", make_spec(Op::kNanScan, format, 512, target));
  }
  // The hardware's conversions of FP4, FP6 and E8M0; MXFP8 has the latter too.
  for (Op op : {Op::kDequant, Op::kMatvec}) {
    for (const char* format : {"mxfp4", "nvfp4", "mxfp6_e2m3", "mxfp6_e3m2"})
      add(cases, "", make_spec(op, format, 512, sm_120a));
  }
  for (const Target& target : {sm_86, sm_120a, avx2}) {
    KernelSpec spec = make_spec(Op::kMatvec, "fp8_e4m3", 512, target);
    spec.scale = get_weight_format("mxfp8_e4m3").scale;
    add(cases, "mx", spec);
  }
  // Scales: per tensor, per row, per block, and blocks that cut runs, of each scale type.
  for (const Target& target : {sm_86, avx2}) {
    KernelSpec spec = make_spec(Op::kMatvec, "fp8_e4m3", 512, target);
    spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
    add(cases, "block128", spec);
    spec.scale = ScaleGrid{32, 5, ScaleType::kE8M0};
    add(cases, "block32x5", spec);
    spec = make_spec(Op::kDequant, "fp8_e4m3", 512, target);
    spec.y_format = FormatId::kBF16;
    spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
    add(cases, "block128", spec);
    spec.scale = ScaleGrid{0, 0, ScaleType::kF32};
    add(cases, "tensor", spec);
    spec.scale = ScaleGrid{1, 0, ScaleType::kBF16};
    add(cases, "row", spec);
    spec.scale = ScaleGrid{32, 5, ScaleType::kE8M0};
    add(cases, "block32x5", spec);
  }
  // Rounding to f16 and bf16, with and without the instruction.
  for (const Target& target : {sm_75, sm_86, avx2, baseline}) {
    for (FormatId y_format : {FormatId::kF16, FormatId::kBF16}) {
      KernelSpec spec = make_spec(Op::kDequant, "q8_0", 512, target);
      spec.y_format = y_format;
      add(cases, "", spec);
    }
  }
  // Prepared weights: scales that are folded into codes, minima by an mma of either width, x as digits and as terms.
  for (const auto& [format, target, x_columns] :
       {std::tuple{"q2_K", sm_86, 1}, {"q6_K", sm_75, 1}, {"q4_K", sm_90a, 4}}) {
    KernelSpec spec = make_spec(Op::kMatvec, format, 1024, target);
    spec.layout.kind = LayoutKind::kPrepared;
    spec.x_columns = x_columns;
    add(cases, "prepared", spec);
  }
  // Activation formats, several columns, and columns that are no whole number of runs.
  for (const Target& target : {sm_86, avx2, baseline}) {
    for (FormatId x_format : {FormatId::kF16, FormatId::kBF16}) {
      KernelSpec spec = make_spec(Op::kMatvec, "q4_K", 512, target);
      spec.x_format = x_format;
      spec.x_columns = 4;
      add(cases, "n4", spec);
      spec = make_spec(Op::kMatvec, "f16", 77, target);
      spec.x_format = x_format;
      add(cases, "c77", spec);
    }
    KernelSpec spec = make_spec(Op::kDequant, "fp8_e5m2", 77, target);
    spec.scale = ScaleGrid{32, 32, ScaleType::kF32};
    spec.y_format = FormatId::kF16;
    add(cases, "c77_block32", spec);
  }
  for (const Target& target : {sm_86, avx2}) {
    add(cases, "", make_read_test_spec(target));
  }
  // Matmul: plain and blocked weights, scales, odd columns, FP8 activations; bias and rounded y. On GPUs each
  // kind of tensor core, and none.
  for (const Target& target : {sm_61, avx2}) {
    add(cases, "", make_spec(Op::kMatmul, "q4_K", 512, target));
    add(cases, "", make_spec(Op::kMatmul, "mxfp4", 512, target));
  }
  // By units: each kind of tensor core, x copied and in terms, of prepared and of native weights.
  KernelSpec units = make_spec(Op::kMatmul, "q4_K", 512, sm_86);
  units.layout.kind = LayoutKind::kPrepared;
  units.x_format = units.y_format = FormatId::kBF16;
  add(cases, "prepared", units);
  units = make_spec(Op::kMatmul, "mxfp4", 544, sm_75);
  units.bias = FormatId::kF16;
  add(cases, "c544_bias", units);
  units = make_spec(Op::kMatmul, "q6_K", 2048, sm_90a);
  units.tuning = matmul_tuning(units.target, 1);
  add(cases, "c2048_few", units);
  // At tensor-core precision: units, rows, FP8 activations; a large and a small tile, cut columns.
  units = make_spec(Op::kMatmul, "q4_K", 512, sm_90a);
  units.tensor_core_precision = true;
  units.layout.kind = LayoutKind::kPrepared;
  units.x_format = units.y_format = FormatId::kBF16;
  add(cases, "prepared_tc", units);
  KernelSpec rows = make_spec(Op::kMatmul, "fp8_e4m3", 656, sm_90a);
  rows.tensor_core_precision = true;
  rows.scale = ScaleGrid{128, 128, ScaleType::kF32};
  rows.x_format = FormatId::kBF16;
  rows.tuning = matmul_tuning(rows.target, 32);
  add(cases, "c656_few_tc", rows);
  rows.activation = ActivationPolicy::kAfp8;
  rows.x_format = FormatId::kFp8E4M3;
  rows.x_scale = ScaleGrid{1, 128, ScaleType::kF32};
  rows.tuning = {};
  add(cases, "c656_group128_tc", rows);
  KernelSpec experts = rows;
  // The same by mma.sync: units of blocks of 32 and of 16 columns, FP8 with and without conversions, f16.
  units.target = sm_86;
  add(cases, "prepared_tc", units);
  units.weight = FormatId::kQ6_K;
  units.x_format = FormatId::kF16;
  units.bias = FormatId::kF32;
  units.tuning = matmul_tuning(units.target, 16);
  add(cases, "prepared_few_tc_bias", units);
  rows = make_spec(Op::kMatmul, "fp8_e4m3", 656, sm_86);
  rows.tensor_core_precision = true;
  rows.scale = ScaleGrid{128, 128, ScaleType::kF32};
  rows.x_format = FormatId::kBF16;
  rows.tuning = matmul_tuning(rows.target, 64);
  add(cases, "c656_some_tc", rows);
  rows.target = parse_target("sm_120a", {});
  add(cases, "c656_some_tc", rows);
  add(cases, "", make_spec(Op::kMatmul, "bf16", 512, baseline));
  // Tiles of AMX: three terms of weights and of x, and weights rounded to one.
  {
    std::vector<std::string> amx = cpu_level_features("x86-64-v4");
    amx.insert(amx.end(), {"amx-bf16", "amx-tile", "avx512bf16"});
    KernelSpec spec = make_spec(Op::kMatmul, "q4_K", 512, make_cpu_target("amx", amx));
    add(cases, "", spec);
    spec = make_spec(Op::kMatmul, "fp8_e4m3", 77, spec.target);
    spec.scale = ScaleGrid{32, 5, ScaleType::kF32};
    spec.x_format = spec.y_format = FormatId::kBF16;
    spec.bias = FormatId::kF16;
    spec.tensor_core_precision = true;
    add(cases, "c77_block32x5_bias_tc", spec);
  }
  for (const Target& target : {sm_61, sm_75, sm_86, sm_90a, avx2}) {
    KernelSpec spec = make_spec(Op::kMatmul, "fp8_e4m3", 512, target);
    spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
    spec.x_format = spec.y_format = FormatId::kBF16;
    spec.bias = FormatId::kF16;
    spec.weights_finite = true;
    add(cases, "block128_finite_bias", spec);
  }
  for (const Target& target : {sm_86, sm_90a, avx2}) {
    KernelSpec spec = make_spec(Op::kMatmul, "fp8_e4m3", 77, target);
    spec.activation = ActivationPolicy::kAfp8;
    spec.x_format = FormatId::kFp8E4M3;
    spec.x_scale = ScaleGrid{1, 5, ScaleType::kF32};
    add(cases, "c77_group5", spec);
    spec.layout.cols = 576;
    spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
    spec.x_scale = ScaleGrid{1, 128, ScaleType::kF32};
    add(cases, "c576_group128", spec);
  }
  KernelSpec few = make_spec(Op::kMatmul, "fp8_e4m3", 512, sm_86);
  few.scale = ScaleGrid{1, 0, ScaleType::kF32};
  few.tuning = matmul_tuning(few.target, 1);
  add(cases, "row_few", few);
  for (const Target& target : {sm_86, avx2}) {
    KernelSpec spec = make_spec(Op::kMatvec, "q8_0", 512, target);
    spec.y_format = FormatId::kF16;
    spec.bias = FormatId::kBF16;
    add(cases, "bias_y_f16", spec);
  }
  // Experts, plain and scaled, and what follows a product or comes beside it: gates, several matrices, residuals.
  for (const Target& target : {sm_86, avx2}) {
    add(cases, "", make_spec(Op::kMoeMatvec, "q4_K", 512, target));
    add(cases, "", make_spec(Op::kMoeMatvec, "nvfp4", 512, target));
    for (Op op : {Op::kMoeMatvec, Op::kMatvec}) {
      KernelSpec spec = make_spec(op, "fp8_e4m3", 77, target);
      spec.scale = ScaleGrid{32, 5, ScaleType::kE8M0};
      spec.x_format = spec.y_format = FormatId::kF16;
      spec.bias = FormatId::kBF16;
      spec.gate = Gate::kSilu;
      add(cases, "c77_block32x5_bias_silu", spec);
      spec = make_spec(op, "q8_0", 512, target);
      spec.gate = Gate::kGeluTanh;
      add(cases, "gelu", spec);
    }
    KernelSpec spec = make_spec(Op::kMatvec, "fp8_e4m3", 512, target);
    spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
    spec.bias = FormatId::kF32;
    spec.matrices = 3;
    spec.x_columns = 2;
    add(cases, "block128_m3", spec);
    spec = make_spec(Op::kMatvec, "q6_K", 512, target);
    spec.residual = spec.y_format = FormatId::kBF16;
    add(cases, "residual", spec);
  }
  // Many tokens by experts: each skeleton, with a gate, bias and rounded y; at tensor-core precision.
  for (const Target& target : {sm_61, sm_86, avx2}) {
    KernelSpec spec = make_spec(Op::kMoeMatmul, "fp8_e4m3", 544, target);
    spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
    spec.x_format = spec.y_format = FormatId::kBF16;
    spec.tuning = moe_matmul_tuning(target, 32, 1);
    spec.bias = FormatId::kF16;
    spec.gate = Gate::kSilu;
    add(cases, "c544_block128_bias_silu", spec);
  }
  for (const Target& target : {sm_75, sm_86, avx2}) {
    KernelSpec spec = make_spec(Op::kMoeMatmul, "q4_K", 512, target);
    spec.tuning = moe_matmul_tuning(target, 32, 1);
    add(cases, "", spec);
  }
  units = make_spec(Op::kMoeMatmul, "q8_0", 512, sm_90a);
  units.layout.kind = LayoutKind::kPrepared;
  units.x_format = FormatId::kBF16;
  units.gate = Gate::kGeluTanh;
  units.tuning = moe_matmul_tuning(sm_90a, 16, 1);
  add(cases, "prepared_gelu", units);
  units.tensor_core_precision = true;
  units.bias = FormatId::kF32;
  add(cases, "prepared_gelu_tc", units);
  experts.op = Op::kMoeMatmul;
  experts.layout.cols = 640;
  add(cases, "c640_group128_tc", experts);
  // Quantise: in groups, in blocks of rows and columns, as a cast that doesn't saturate; each width of codes,
  // kind of scale and of NaN, ggml's blocks; hardware where there is some. The scan.
  const Target sm_100a = make_cuda_target(100, "a");
  for (const Target& target : {sm_86, sm_90a, avx2}) {
    KernelSpec spec = make_spec(Op::kQuantize, "fp8_e4m3", 512, target);
    spec.scale = ScaleGrid{1, 128, ScaleType::kF32};
    spec.x_format = FormatId::kBF16;
    add(cases, "group128", spec);
    spec = make_spec(Op::kQuantize, "fp8_e5m2", 77, target);
    spec.saturate = false;
    add(cases, "c77_nosat", spec);
  }
  for (const Target& target : {sm_86, avx2}) {
    KernelSpec spec = make_spec(Op::kQuantize, "fp8_e4m3", 512, target);
    spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
    add(cases, "block128", spec);
    spec.scale = ScaleGrid{1, 32, ScaleType::kE8M0};
    add(cases, "mx", spec);
    add(cases, "", make_spec(Op::kQuantize, "fp8_e4m3fnuz", 512, target));
    add(cases, "c26", make_spec(Op::kQuantize, "fp4_e2m1", 26, target));
    for (const char* format : {"q8_0", "q4_0"})
      add(cases, "", make_spec(Op::kQuantize, format, 512, target));
  }
  for (const Target& target : {sm_86, sm_100a, avx2}) {
    for (const char* format : {"mxfp6_e3m2", "mxfp4", "nvfp4"})
      add(cases, "", make_spec(Op::kQuantize, format, 512, target));
  }
  add(cases, "", make_spec(Op::kQuantize, "mxfp6_e2m3", 512, sm_100a));
  for (const Target& target : {sm_86, avx2})
    add(cases, "", make_spec(Op::kNanScan, "fp8_e4m3", 512, target));
  // Dependent launches: each template once.
  const auto add_dependent = [&](std::string_view detail, KernelSpec spec) {
    spec.dependent_launch = true;
    add(cases, detail, spec);
  };
  KernelSpec spec = make_spec(Op::kDequant, "fp8_e4m3", 512, sm_90a);
  spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
  spec.y_format = FormatId::kBF16;
  add_dependent("block128_dependent", spec);
  add_dependent("dependent", make_spec(Op::kMatvec, "q4_K", 512, make_cuda_target(90)));
  add_dependent("dependent", make_spec(Op::kMoeMatvec, "q4_K", 512, sm_90a));
  spec.op = Op::kMatmul;
  spec.x_format = FormatId::kBF16;
  add_dependent("block128_dependent", spec);
  add_dependent("dependent", make_spec(Op::kMatmul, "q4_K", 512, sm_90a));
  spec = make_spec(Op::kQuantize, "fp8_e4m3", 512, sm_90a);
  spec.scale = ScaleGrid{1, 128, ScaleType::kF32};
  add_dependent("group128_dependent", spec);
  spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
  add_dependent("block128_dependent", spec);
  add_dependent("dependent", make_spec(Op::kNanScan, "fp8_e4m3", 512, sm_90a));
  spec = make_spec(Op::kMatvec, "bf16", 4096, sm_90a);
  spec.constant_weights = true;
  add_dependent("early", spec);
  spec = make_spec(Op::kMatvec, "fp8_e4m3", 4096, sm_90a);
  spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
  spec.x_columns = 2;
  spec.tuning.stages = 3;
  spec.constant_weights = true;
  add_dependent("early_ring", spec);
  return cases;
}

}  // namespace ktjit::test
