// Names and checks of kernel specs.
#include "core/kernel_spec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <fmt/format.h>
#include <utility>

#include "core/error.h"

namespace ktjit {
namespace {

constexpr std::array<std::pair<Op, std::string_view>, 6> kOps = {{{Op::kDequant, "dequant"},
                                                                  {Op::kMatvec, "matvec"},
                                                                  {Op::kMatmul, "matmul"},
                                                                  {Op::kQuantize, "quantize"},
                                                                  {Op::kNanScan, "nan_scan"},
                                                                  {Op::kReadTest, "read_test"}}};
constexpr std::array<std::pair<ActivationPolicy, std::string_view>, 3> kActivations = {
    {{ActivationPolicy::kA16, "a16"},
     {ActivationPolicy::kA8, "a8"},
     {ActivationPolicy::kAfp8, "afp8"}}};

template <typename Table>
std::string names_of(const Table& table) {
  std::string names;
  for (const auto& [value, name] : table)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  return names;
}

bool is_io_format(FormatId id) {
  return id == FormatId::kF32 || id == FormatId::kF16 || id == FormatId::kBF16;
}

/// 1 x N blocks with f32 scales, as activations are quantised.
bool is_group_grid(const ScaleGrid& grid) {
  return grid.block_rows == 1 && grid.block_cols > 0 && grid.type == ScaleType::kF32;
}

/// Blocks of a known number of rows, whose scales a kernel can choose one by one.
bool can_choose_scales(FormatId weight, const ScaleGrid& grid) {
  if (fixed_scale_grid(weight)) return true;  // and no other
  return grid.block_rows > 0 && (grid.type == ScaleType::kF32 || grid.type == ScaleType::kE8M0);
}

std::string quoted(std::string_view text) { return fmt::format("'{}'", text); }

void validate_scale(const KernelSpec& spec, const Format& format) {
  const std::optional<ScaleGrid> fixed = fixed_scale_grid(format.id);
  if (fixed && spec.scale != fixed) {
    throw SpecError("scale", scale_grid_name(spec.scale),
                    fmt::format("{} with {}", scale_grid_name(fixed), format.name));
  }
  if (!spec.scale) return;
  if (!has_separate_scales(format.id))
    throw SpecError("scale", scale_grid_name(spec.scale), fmt::format("none with {}", format.name));
  if (spec.scale->block_rows < 0 || spec.scale->block_cols < 0) {
    throw SpecError("scale", scale_grid_name(spec.scale),
                    "blocks of positive size, 0 for the whole extent");
  }
}

constexpr int kFirstDependentSm = 90;  // PTX ISA 9.0, griddepcontrol

bool can_launch_dependent(const Target& target) {
  return target.is_cuda() && target.sm >= kFirstDependentSm;
}

/// x, its scales, bias and the number of columns of a product.
void validate_activations(const KernelSpec& spec) {
  const std::string_view x_name = get_format(spec.x_format).name;
  if (spec.activation == ActivationPolicy::kAfp8) {
    if (spec.op != Op::kMatmul) throw SpecError("activation", "afp8", "a16 for matvec");
    if (spec.x_format != FormatId::kFp8E4M3)
      throw SpecError("x_format", x_name, "fp8_e4m3 with afp8");
    if (!spec.x_scale || !is_group_grid(*spec.x_scale))
      throw SpecError("x_scale", scale_grid_name(spec.x_scale), "1 x N groups with f32 scales");
  } else {
    if (!is_io_format(spec.x_format)) throw SpecError("x_format", x_name, "f32, f16, bf16");
    if (spec.x_scale) throw SpecError("x_scale", scale_grid_name(spec.x_scale), "none with a16");
  }
  if (spec.bias && !is_io_format(*spec.bias))
    throw SpecError("bias", get_format(*spec.bias).name, "f32, f16, bf16");
  if (spec.op == Op::kMatvec && (spec.x_columns < 1 || spec.x_columns > 8 ||
                                 !std::has_single_bit(unsigned(spec.x_columns)))) {
    throw SpecError("x_columns", fmt::format("{}", spec.x_columns), "1, 2, 4, 8");
  }
}

}  // namespace

bool is_product(Op op) { return op == Op::kMatvec || op == Op::kMatmul; }

bool is_dequant_only(FormatId weight) {
  constexpr std::array kFormats = {FormatId::kI8,  FormatId::kI16,  FormatId::kI32,
                                   FormatId::kI64, FormatId::kQ8_1, FormatId::kQ8_K};
  return std::find(kFormats.begin(), kFormats.end(), weight) != kFormats.end();
}

std::string_view op_name(Op op) {
  for (const auto& [value, name] : kOps) {
    if (value == op) return name;
  }
  KTJIT_UNREACHABLE("a known op");
}

Op get_op(std::string_view name) {
  for (const auto& [value, known] : kOps) {
    if (known == name) return value;
  }
  throw SpecError("op", quoted(name), names_of(kOps));
}

std::string_view activation_name(ActivationPolicy policy) {
  for (const auto& [value, name] : kActivations) {
    if (value == policy) return name;
  }
  KTJIT_UNREACHABLE("a known activation policy");
}

ActivationPolicy get_activation(std::string_view name) {
  for (const auto& [value, known] : kActivations) {
    if (known == name) return value;
  }
  throw SpecError("activation", quoted(name), names_of(kActivations));
}

int x_columns_for(int n) {
  for (int columns : {1, 2, 4, 8}) {
    if (n >= 1 && n <= columns) return columns;
  }
  throw SpecError("n", fmt::format("{}", n), "1 to 8 activation columns");
}

Tuning matmul_tuning(const Target& target, std::int64_t n) {
  constexpr int kSmallTile = 16;
  Tuning tuning;
  if (target.is_cuda() && n <= kSmallTile) tuning.x_tile = kSmallTile;
  return tuning;
}

KernelSpec make_spec(Op op, FormatId weight, const std::optional<ScaleGrid>& scale,
                     std::int64_t cols, const Target& target) {
  KernelSpec spec;
  spec.op = op;
  spec.weight = weight;
  spec.scale = scale;
  spec.layout.cols = cols;
  spec.target = target;
  return spec;
}

KernelSpec make_read_test_spec(const Target& target) {
  return make_spec(Op::kReadTest, FormatId::kI8, std::nullopt, kReadTestRowBytes, target);
}

void validate(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  row_bytes(format, spec.layout.cols);  // refuses columns that are no whole number of blocks
  const int alignment = spec.layout.base_alignment_bytes;
  if (alignment < 1 || !std::has_single_bit(unsigned(alignment))) {
    throw SpecError("base_alignment_bytes", fmt::format("{}", alignment), "powers of two");
  }
  validate_scale(spec, format);
  if (!is_io_format(spec.y_format)) {
    throw SpecError("y_format", get_format(spec.y_format).name, "f32, f16, bf16");
  }
  if (spec.op == Op::kReadTest &&
      (spec.weight != FormatId::kI8 || spec.layout.cols != kReadTestRowBytes)) {
    throw SpecError("read_test", fmt::format("{} x {}", format.name, spec.layout.cols),
                    fmt::format("i8 x {}", kReadTestRowBytes));
  }
  const bool is_fp8 = format.family == FormatFamily::kFp8;
  if (spec.weights_finite && !is_fp8)
    throw SpecError("weights_finite", "true", fmt::format("false with {}", format.name));
  if (spec.op == Op::kNanScan && !is_fp8)
    throw SpecError("format", format.name, "an FP8 format for nan_scan");
  if (is_product(spec.op)) {
    if (is_dequant_only(spec.weight)) {
      throw SpecError("format", format.name,
                      fmt::format("formats that {} takes ({} has dequant only)", op_name(spec.op),
                                  format.name));
    }
    validate_activations(spec);
  } else if (spec.bias || spec.x_scale) {
    throw SpecError(spec.bias ? "bias" : "x_scale", "given",
                    fmt::format("none with {}", op_name(spec.op)));
  }
  if (spec.op == Op::kQuantize) {
    if (!is_io_format(spec.x_format))
      throw SpecError("x_format", get_format(spec.x_format).name, "f32, f16, bf16");
    if (spec.scale && !can_choose_scales(spec.weight, *spec.scale)) {
      throw SpecError("scale", scale_grid_name(spec.scale),
                      "none, or blocks of N rows with f32 or e8m0 scales");
    }
    if (spec.scale && !spec.saturate)
      throw SpecError("saturate", "false", "true where scales are chosen");
  }
  if (spec.dependent_launch && !can_launch_dependent(spec.target)) {
    throw SpecError("dependent_launch", fmt::format("true for {}", spec.target.name()),
                    fmt::format("false below sm_{} and on CPUs", kFirstDependentSm));
  }
  if (spec.dependent_launch && spec.op == Op::kReadTest)
    throw SpecError("dependent_launch", "true", "false with read_test");
  if (spec.target.is_cuda())
    make_cuda_target(spec.target.sm, spec.target.suffix);  // refuses others
}

std::string to_text(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  std::string text;
  const auto line = [&text](std::string_view field, std::string_view value) {
    text += fmt::format("{}: {}\n", field, value);
  };
  line("op", op_name(spec.op));
  line("weight", WeightFormat{spec.weight, spec.scale}.name());
  line("scale", scale_grid_name(spec.scale));
  line("layout", "native");
  line("cols", fmt::format("{}", spec.layout.cols));
  line("base_alignment_bytes", fmt::format("{}", spec.layout.base_alignment_bytes));
  if (is_product(spec.op)) {
    line("activation", activation_name(spec.activation));
    line("x_format", get_format(spec.x_format).name);
    line("x_scale", scale_grid_name(spec.x_scale));
    line("bias", spec.bias ? get_format(*spec.bias).name : "none");
  }
  if (spec.op == Op::kMatvec) line("x_columns", fmt::format("{}", spec.x_columns));
  if (spec.op == Op::kQuantize) {
    line("x_format", get_format(spec.x_format).name);
    line("saturate", spec.saturate ? "yes" : "no");
  }
  if (format.family == FormatFamily::kFp8)
    line("weights_finite", spec.weights_finite ? "yes" : "not known");
  line("y_format", get_format(spec.y_format).name);
  line("threads", spec.tuning.threads == 0 ? "default" : fmt::format("{}", spec.tuning.threads));
  line("rows_per_warp",
       spec.tuning.rows_per_warp == 0 ? "default" : fmt::format("{}", spec.tuning.rows_per_warp));
  if (spec.op == Op::kMatmul)
    line("x_tile", spec.tuning.x_tile == 0 ? "default" : fmt::format("{}", spec.tuning.x_tile));
  if (spec.dependent_launch) line("dependent_launch", "yes");
  line("target", spec.target.name());
  if (spec.target.is_cpu())
    line("cpu_features", fmt::format("{}", fmt::join(spec.target.cpu_features, ",")));
  return text;
}

namespace {

/// The name without what only changes how it is launched.
std::string name_of_work(const KernelSpec& spec) {
  const std::string_view format = WeightFormat{spec.weight, spec.scale}.name();
  std::string scale;
  if (spec.scale) {
    scale = fmt::format("_s{}x{}_{}", spec.scale->block_rows, spec.scale->block_cols,
                        scale_type_name(spec.scale->type));
  }
  if (spec.weights_finite) scale += "_finite";
  const std::string x_name(get_format(spec.x_format).name);
  const std::string_view y_name = get_format(spec.y_format).name;
  switch (spec.op) {
    case Op::kDequant:
      return fmt::format("dequant_{}{}_y_{}_c{}", format, scale, y_name, spec.layout.cols);
    case Op::kMatvec:
    case Op::kMatmul: {
      std::string name = fmt::format("{}_{}{}", op_name(spec.op), format, scale);
      if (spec.activation != ActivationPolicy::kA16)
        name += fmt::format("_{}", activation_name(spec.activation));
      name += spec.x_scale ? fmt::format("_x_{}_g{}", x_name, spec.x_scale->block_cols)
                           : fmt::format("_x_{}", x_name);
      if (spec.y_format != FormatId::kF32) name += fmt::format("_y_{}", y_name);
      if (spec.bias) name += fmt::format("_bias_{}", get_format(*spec.bias).name);
      name += fmt::format("_c{}", spec.layout.cols);
      return spec.op == Op::kMatmul ? name : name + fmt::format("_n{}", spec.x_columns);
    }
    case Op::kQuantize:
      return fmt::format("quantize_{}{}_x_{}{}_c{}", format, scale, x_name,
                         spec.saturate ? "" : "_nosat", spec.layout.cols);
    case Op::kNanScan:
      return fmt::format("nan_scan_{}_c{}", format, spec.layout.cols);
    case Op::kReadTest:
      return "read_test";
  }
  KTJIT_UNREACHABLE("a known op");
}

}  // namespace

std::string kernel_name(const KernelSpec& spec) {
  return name_of_work(spec) + (spec.dependent_launch ? "_dependent" : "");
}

}  // namespace ktjit
