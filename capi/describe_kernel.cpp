#include "capi/describe_kernel.h"

#include <fmt/format.h>
#include <optional>

#include "capi/abi_struct.h"
#include "capi/status.h"

#include "core/error.h"
#include "core/prepared_layout.h"

namespace ktjit::capi {
namespace {

FormatId format_or(const char* name, FormatId otherwise) {
  return name == nullptr ? otherwise : get_format(name).id;
}

/// The scales that are described; nothing if none are.
std::optional<ScaleGrid> scale_of(const ktjit_kernel_desc& desc) {
  if (desc.scale_type != nullptr) {
    return ScaleGrid{desc.scale_block_rows, desc.scale_block_cols, get_scale_type(desc.scale_type)};
  }
  if (desc.scale_block_rows != 0 || desc.scale_block_cols != 0) {
    throw SpecError("scale_type", "null",
                    fmt::format("f32, bf16, e8m0 or e4m3 with blocks of {} x {}",
                                desc.scale_block_rows, desc.scale_block_cols));
  }
  return std::nullopt;
}

}  // namespace

KernelSpec to_spec(const ktjit_kernel_desc* given, const Toolchain& toolchain,
                   const Target* native) {
  const ktjit_kernel_desc desc = read_struct(given, "desc");
  require(desc.op, "op");
  require(desc.format, "format");
  if (desc.target == nullptr) require(native, "target");

  const WeightFormat weight = get_weight_format(desc.format, scale_of(desc));
  KernelSpec spec = make_spec(get_op(desc.op), weight.id, weight.scale, desc.cols,
                              desc.target == nullptr ? *native : toolchain.get_target(desc.target));
  if (spec.op == Op::kReadTest) {
    throw SpecError(
        "op", "read_test",
        "dequant, matvec, matmul, moe_matvec, moe_matmul, quantize, nan_scan, prepare, restore");
  }
  if (desc.activation != nullptr) spec.activation = get_activation(desc.activation);
  spec.x_format =
      format_or(desc.x_format,
                spec.activation == ActivationPolicy::kAfp8 ? FormatId::kFp8E4M3 : FormatId::kF32);
  if (desc.x_scale_group != 0) spec.x_scale = ScaleGrid{1, desc.x_scale_group, ScaleType::kF32};
  spec.y_format = format_or(desc.y_format, FormatId::kF32);
  if (desc.bias_format != nullptr) spec.bias = get_format(desc.bias_format).id;
  spec.weights_finite = desc.weights_finite != 0;
  spec.saturate = desc.non_saturating == 0;
  spec.dependent_launch = desc.dependent_launch != 0;
  if (desc.gate != nullptr) spec.gate = get_gate(desc.gate);
  if (desc.residual_format != nullptr) spec.residual = get_format(desc.residual_format).id;
  if (desc.matrices != 0) spec.matrices = desc.matrices;
  if (desc.layout != nullptr) {
    spec.layout.kind = get_layout(desc.layout);
    const bool is_for_matvec =
        is_matvec(spec.op) || spec.op == Op::kPrepare || spec.op == Op::kRestore;
    if (spec.layout.kind == LayoutKind::kPrepared && is_for_matvec)
      spec.layout.kind = rearranged_layout(spec.target);
    if (spec.op == Op::kPrepare && spec.layout.kind == LayoutKind::kPrepared)
      spec.layout.kind = LayoutKind::kNative;  // what the weights have before
  } else if (spec.op == Op::kRestore) {
    spec.layout.kind = LayoutKind::kPrepared;
  }
  spec.constant_weights = desc.constant_weights != 0;
  spec.tensor_core_precision = desc.tensor_core_precision != 0;
  for (const std::int32_t reserved : {desc.reserved, desc.reserved2}) {
    if (reserved != 0) throw SpecError("reserved", fmt::format("{}", reserved), "0");
  }
  if (spec.op == Op::kMoeMatmul && desc.x_columns != 0) {
    spec.tuning = moe_matmul_tuning(spec.target, desc.x_columns, 1);
  } else if (spec.op == Op::kMatmul && desc.x_columns != 0) {
    spec.tuning = matmul_tuning(spec, desc.rows > 0 ? desc.rows : desc.x_columns, desc.x_columns);
  } else if (desc.x_columns != 0) {
    spec.x_columns = desc.x_columns;
  }
  if (desc.alignment != 0) spec.layout.base_alignment_bytes = desc.alignment;
  validate(spec);
  return spec;
}

}  // namespace ktjit::capi
