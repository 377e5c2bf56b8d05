// Names and checks of kernel specs.
#include "core/kernel_spec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <fmt/format.h>
#include <utility>

#include "core/cpu_tiles.h"
#include "core/error.h"
#include "core/interleaved_layout.h"
#include "core/prepared_layout.h"

namespace ktjit {
namespace {

constexpr std::array<std::pair<Op, std::string_view>, 10> kOps = {{{Op::kDequant, "dequant"},
                                                                   {Op::kMatvec, "matvec"},
                                                                   {Op::kMatmul, "matmul"},
                                                                   {Op::kMoeMatvec, "moe_matvec"},
                                                                   {Op::kMoeMatmul, "moe_matmul"},
                                                                   {Op::kQuantize, "quantize"},
                                                                   {Op::kPrepare, "prepare"},
                                                                   {Op::kRestore, "restore"},
                                                                   {Op::kNanScan, "nan_scan"},
                                                                   {Op::kReadTest, "read_test"}}};
constexpr std::array<std::pair<ActivationPolicy, std::string_view>, 3> kActivations = {
    {{ActivationPolicy::kA16, "a16"},
     {ActivationPolicy::kA8, "a8"},
     {ActivationPolicy::kAfp8, "afp8"}}};

constexpr std::array<std::pair<Gate, std::string_view>, 3> kGates = {
    {{Gate::kNone, "none"}, {Gate::kSilu, "silu"}, {Gate::kGeluTanh, "gelu_tanh"}}};
constexpr int kMaxMatrices = 4;  // that share x

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

bool reads_prepared(Op op) { return is_product(op) || op == Op::kDequant || op == Op::kRestore; }

/// Matmul of prepared weights is for tensor cores.
void validate_prepared_matmul(const KernelSpec& spec, const Format& format) {
  constexpr int kFirstSm = 75;
  if (!spec.target.is_cuda() || spec.target.sm < kFirstSm ||
      spec.activation != ActivationPolicy::kA16 || spec.weight == FormatId::kIQ1_M) {
    throw SpecError("layout", fmt::format("prepared {} on {}", format.name, spec.target.name()),
                    fmt::format("native with {} before sm_75, of iq1_m, or with FP8 activations",
                                op_name(spec.op)));
  }
}

/// What reads and what makes the prepared layout.
void validate_prepared(const KernelSpec& spec, const Format& format) {
  const bool is_prepared = spec.layout.kind == LayoutKind::kPrepared;
  const bool makes_units = spec.op == Op::kPrepare && spec.layout.kind == LayoutKind::kNative;
  constexpr int kVectorBytes = 16;
  if (is_prepared && !reads_prepared(spec.op))
    throw SpecError("layout", "prepared", fmt::format("native with {}", op_name(spec.op)));
  if (spec.op == Op::kRestore && spec.layout.kind == LayoutKind::kNative)
    throw SpecError("layout", "native", "prepared with restore, whose result is native");
  if (is_prepared && spec.layout.base_alignment_bytes < kVectorBytes) {
    throw SpecError("base_alignment_bytes", fmt::format("{}", spec.layout.base_alignment_bytes),
                    fmt::format("{} and more with prepared weights", kVectorBytes));
  }
  if ((is_prepared || makes_units) && find_prepared_layout(spec.weight) == nullptr) {
    throw SpecError("layout", fmt::format("prepared {}", format.name),
                    "native: the prepared layout is for ggml's block formats, mxfp4 and nvfp4");
  }
  if (is_prepared && is_matvec(spec.op) &&
      !(spec.target.is_cuda() && serves_prepared(spec.weight, spec.target))) {
    throw SpecError("layout", fmt::format("prepared {} on {}", format.name, spec.target.name()),
                    fmt::format("interleaved on CPUs, else native: {} of prepared weights is for "
                                "targets that have dp4a: sm_61, and from sm_70 on",
                                op_name(spec.op)));
  }
  if (is_prepared && is_matmul(spec.op)) validate_prepared_matmul(spec, format);
  if (is_prepared && spec.op == Op::kDequant && !dequantizes_prepared(spec.weight, spec.target)) {
    throw SpecError("layout", fmt::format("prepared {} on {}", format.name, spec.target.name()),
                    "native with dequant: restore the weights first");
  }
  if (spec.constant_weights && !(can_request_early(spec) && spec.dependent_launch)) {
    throw SpecError("constant_weights", "true",
                    "false without dependent_launch of prepared, bf16, f16, e4m3 or e5m2 weights");
  }
}

/// What reads and what makes the interleaved layout.
void validate_interleaved(const KernelSpec& spec, const Format& format) {
  if (spec.layout.kind != LayoutKind::kInterleaved) return;
  constexpr std::array kServed = {Op::kMatvec, Op::kMoeMatvec, Op::kPrepare, Op::kRestore};
  if (std::ranges::find(kServed, spec.op) == kServed.end()) {
    throw SpecError(
        "layout", "interleaved",
        fmt::format("native with {} (matvec and moe_matvec take interleaved)", op_name(spec.op)));
  }
  if (!spec.target.is_cpu() || find_interleaved_layout(spec.weight) == nullptr) {
    throw SpecError("layout", fmt::format("interleaved {} on {}", format.name, spec.target.name()),
                    "native: the interleaved layout is for ggml's block formats on CPUs");
  }
  if (spec.op == Op::kMatvec && is_fused(spec)) {
    throw SpecError("layout", "interleaved",
                    "native with a gate, a residual or several matrices of matvec on CPUs");
  }
}

/// x, its scales, bias and the number of columns of a product.
void validate_activations(const KernelSpec& spec) {
  const std::string_view x_name = get_format(spec.x_format).name;
  if (spec.activation == ActivationPolicy::kAfp8) {
    if (!is_matmul(spec.op))
      throw SpecError("activation", "afp8", fmt::format("a16 for {}", op_name(spec.op)));
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
  if (has_experts(spec.op) && spec.x_columns != 1) {
    throw SpecError("x_columns", fmt::format("{}", spec.x_columns),
                    fmt::format("1 with {}", op_name(spec.op)));
  }
}

/// Several matrices in one launch, and what follows the product.
void validate_fusion(const KernelSpec& spec) {
  const std::string_view op = op_name(spec.op);
  const std::string_view gate = gate_name(spec.gate);
  const std::string matrices = fmt::format("{}", spec.matrices);
  if (spec.gate != Gate::kNone && !is_matvec(spec.op) && spec.op != Op::kMoeMatmul)
    throw SpecError("gate", gate, fmt::format("none with {}", op));
  if (spec.matrices < 1 || spec.matrices > kMaxMatrices)
    throw SpecError("matrices", matrices, fmt::format("1 to {}", kMaxMatrices));
  if (spec.matrices > 1) {
    if (has_experts(spec.op))
      throw SpecError("matrices", matrices, fmt::format("1 with {} (a gate takes two)", op));
    if (spec.op != Op::kMatvec) throw SpecError("matrices", matrices, fmt::format("1 with {}", op));
    if (spec.gate != Gate::kNone)
      throw SpecError("matrices", matrices, fmt::format("1 with gate {}, which takes two", gate));
  }
  if (!spec.residual) return;
  const std::string_view residual = get_format(*spec.residual).name;
  if (has_experts(spec.op)) {
    throw SpecError("residual", residual,
                    fmt::format("none with {}, whose slots are weighted and added afterwards", op));
  }
  if (spec.op != Op::kMatvec)
    throw SpecError("residual", residual, fmt::format("none with {}", op));
  if (spec.gate != Gate::kNone)
    throw SpecError("residual", residual, fmt::format("none with gate {}", gate));
  if (spec.matrices > 1)
    throw SpecError("residual", residual, fmt::format("none with {} matrices", matrices));
  if (!is_io_format(*spec.residual)) throw SpecError("residual", residual, "f32, f16, bf16");
}

}  // namespace

bool is_product(Op op) { return is_matvec(op) || is_matmul(op); }

bool is_matvec(Op op) { return op == Op::kMatvec || op == Op::kMoeMatvec; }

bool is_matmul(Op op) { return op == Op::kMatmul || op == Op::kMoeMatmul; }

bool has_experts(Op op) { return op == Op::kMoeMatvec || op == Op::kMoeMatmul; }

bool is_fused(const KernelSpec& spec) { return weight_matrices(spec) > 1 || spec.residual; }

bool can_request_early(const KernelSpec& spec) {
  constexpr std::array kNative = {FormatId::kBF16, FormatId::kF16, FormatId::kFp8E4M3,
                                  FormatId::kFp8E5M2};
  if (spec.layout.kind == LayoutKind::kPrepared) return is_matvec(spec.op);
  return spec.op == Op::kMatvec && !is_fused(spec) &&
         std::ranges::find(kNative, spec.weight) != kNative.end();
}

bool has_wgmma(const Target& target) {
  constexpr int kHopper = 90;
  return target.is_cuda() && target.sm == kHopper && !target.suffix.empty();
}

bool serves_tensor_core_precision(const KernelSpec& spec) {
  constexpr int kFirstBf16 = 80, kVectorBytes = 16, kStageCols = 64, kGroup = 128;
  constexpr std::int64_t kMostCols = 1 << 20;  // 32-bit offsets within a tile of x
  if (spec.target.is_cpu()) {
    return spec.op == Op::kMatmul && spec.layout.kind == LayoutKind::kNative &&
           spec.activation == ActivationPolicy::kA16 && spec.x_format == FormatId::kBF16 &&
           !is_dequant_only(spec.weight) && has_bf16_tiles(spec.target);
  }
  const bool has_op =
      spec.op == Op::kMatmul || (spec.op == Op::kMoeMatmul && has_wgmma(spec.target));
  if (!has_op || !spec.target.is_cuda() || spec.target.sm < kFirstBf16 ||
      spec.layout.base_alignment_bytes < kVectorBytes || spec.layout.cols > kMostCols)
    return false;
  const auto spans = [&spec](int cols) {
    return !spec.scale || spec.scale->block_cols % cols == 0;  // 0: all
  };
  if (spec.activation == ActivationPolicy::kAfp8) {
    return has_wgmma(spec.target) && spec.weight == FormatId::kFp8E4M3 &&
           spec.layout.cols % kVectorBytes == 0 && spec.x_scale &&
           spec.x_scale->block_cols == kGroup && spans(kGroup);
  }
  const bool takes_f16 = !has_wgmma(spec.target) && spec.x_format == FormatId::kF16;
  if (spec.activation != ActivationPolicy::kA16 || (spec.x_format != FormatId::kBF16 && !takes_f16))
    return false;
  if (spec.layout.kind == LayoutKind::kPrepared)
    return spec.weight != FormatId::kIQ1_M && find_prepared_layout(spec.weight) != nullptr;
  if (spec.layout.kind != LayoutKind::kNative) return false;
  if (spec.layout.cols % kVectorBytes != 0) return false;
  const bool is_fp8 = spec.weight == FormatId::kFp8E4M3 || spec.weight == FormatId::kFp8E5M2;
  if (!is_fp8) return spec.weight == spec.x_format;
  return spans(kStageCols);
}

int weight_matrices(const KernelSpec& spec) { return spec.gate != Gate::kNone ? 2 : spec.matrices; }

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

std::string_view data_path_name(DataPath path) {
  switch (path) {
    case DataPath::kDefault:
      return "default";
    case DataPath::kDirect:
      return "direct";
    case DataPath::kShared:
      return "shared";
  }
  KTJIT_UNREACHABLE("a known data path");
}

std::string_view gate_name(Gate gate) {
  for (const auto& [value, name] : kGates) {
    if (value == gate) return name;
  }
  KTJIT_UNREACHABLE("a known gate");
}

Gate get_gate(std::string_view name) {
  for (const auto& [value, known] : kGates) {
    if (known == name) return value;
  }
  throw SpecError("gate", quoted(name), names_of(kGates));
}

int x_columns_for(int n) {
  for (int columns : {1, 2, 4, 8}) {
    if (n >= 1 && n <= columns) return columns;
  }
  throw SpecError("n", fmt::format("{}", n), "1 to 8 activation columns");
}

Tuning matmul_tuning(const Target& target, std::int64_t n) {
  Tuning tuning;
  if (!target.is_cuda()) return tuning;
  for (const int tile : {64, 32, 16}) {
    if (n <= tile) tuning.x_tile = tile;
  }
  return tuning;
}

Tuning matmul_tuning(const KernelSpec& spec, std::int64_t rows, std::int64_t n) {
  const Tuning tuning = matmul_tuning(spec.target, n);
  if (!spec.tensor_core_precision || !spec.target.is_cuda() || rows <= 0 || n <= 0) return tuning;
  if (tuning.x_tile != 0) return tuning;
  if (!has_wgmma(spec.target) || spec.activation == ActivationPolicy::kAfp8) return {.x_tile = 128};
  constexpr int kMultiprocessors = 132, kTileRows = 128, kLarge = 256, kSmall = 128;
  // What a wave of tiles takes. Of q4_K, q8_0 and e4m3 with 4096 and 14336 columns small ones took 0.66 to 0.80 of large
  // ones' time on an H200 (m = 512, 2026-11-24).
  constexpr double kLargeTime = 1.0, kSmallTime = 0.73;
  const auto time = [&](int tile, double tile_time) {
    const std::int64_t tiles = ((rows - 1) / kTileRows + 1) * ((n - 1) / tile + 1);
    return static_cast<double>((tiles - 1) / kMultiprocessors + 1) * tile_time;
  };
  return {.x_tile = time(kSmall, kSmallTime) < time(kLarge, kLargeTime) ? kSmall : kLarge};
}

Tuning moe_matmul_tuning(const Target& target, std::int64_t slots, std::int64_t experts) {
  const std::int64_t average = slots / std::max<std::int64_t>(experts, 1);
  return matmul_tuning(target, std::max<std::int64_t>(average + average / 2, 1));
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
  validate_fusion(spec);
  if (spec.tensor_core_precision && !serves_tensor_core_precision(spec)) {
    throw SpecError(
        "tensor_core_precision", "true",
        "false but for matmul from sm_80 on and moe_matmul on sm_90a: of bf16 activations (f16 "
        "too, but on sm_90a) and prepared weights, or native e4m3, e5m2 with scales of 64 columns "
        "and more, or weights of the activations' format; or on sm_90a of e4m3 weights and "
        "activations with scales of 128; or for matmul of bf16 activations and native weights on "
        "CPUs with AMX (amx-bf16, avx512bf16)");
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
  constexpr std::array kInOrder = {Op::kReadTest, Op::kPrepare, Op::kRestore};
  if (spec.dependent_launch && std::ranges::find(kInOrder, spec.op) != kInOrder.end())
    throw SpecError("dependent_launch", "true", fmt::format("false with {}", op_name(spec.op)));
  validate_prepared(spec, format);
  validate_interleaved(spec, format);
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
  line("layout", layout_name(spec.layout.kind));
  line("cols", fmt::format("{}", spec.layout.cols));
  line("base_alignment_bytes", fmt::format("{}", spec.layout.base_alignment_bytes));
  if (is_product(spec.op)) {
    line("activation", activation_name(spec.activation));
    line("x_format", get_format(spec.x_format).name);
    line("x_scale", scale_grid_name(spec.x_scale));
    line("bias", spec.bias ? get_format(*spec.bias).name : "none");
  }
  if (spec.op == Op::kMatvec) line("x_columns", fmt::format("{}", spec.x_columns));
  if (spec.gate != Gate::kNone) line("gate", gate_name(spec.gate));
  if (spec.matrices > 1) line("matrices", fmt::format("{}", spec.matrices));
  if (spec.residual) line("residual", get_format(*spec.residual).name);
  if (spec.op == Op::kQuantize) {
    line("x_format", get_format(spec.x_format).name);
    line("saturate", spec.saturate ? "yes" : "no");
  }
  if (format.family == FormatFamily::kFp8)
    line("weights_finite", spec.weights_finite ? "yes" : "not known");
  if (spec.tensor_core_precision) line("tensor_core_precision", "yes");
  line("y_format", get_format(spec.y_format).name);
  line("threads", spec.tuning.threads == 0 ? "default" : fmt::format("{}", spec.tuning.threads));
  line("rows_per_warp",
       spec.tuning.rows_per_warp == 0 ? "default" : fmt::format("{}", spec.tuning.rows_per_warp));
  if (spec.tuning.runs_per_thread != 0)
    line("runs_per_thread", fmt::format("{}", spec.tuning.runs_per_thread));
  if (spec.tuning.w_path != DataPath::kDefault) line("w_path", data_path_name(spec.tuning.w_path));
  if (spec.tuning.y_path != DataPath::kDefault) line("y_path", data_path_name(spec.tuning.y_path));
  if (is_matmul(spec.op))
    line("x_tile", spec.tuning.x_tile == 0 ? "default" : fmt::format("{}", spec.tuning.x_tile));
  if (spec.tuning.ctas_per_multiprocessor != 0)
    line("ctas_per_multiprocessor", fmt::format("{}", spec.tuning.ctas_per_multiprocessor));
  if (spec.tuning.stages != 0) line("stages", fmt::format("{}", spec.tuning.stages));
  if (spec.dependent_launch) line("dependent_launch", "yes");
  if (spec.constant_weights) line("constant_weights", "yes");
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
  const std::string prepared = spec.layout.kind == LayoutKind::kNative
                                   ? ""
                                   : fmt::format("_{}", layout_name(spec.layout.kind));
  const std::string_view y_name = get_format(spec.y_format).name;
  switch (spec.op) {
    case Op::kDequant:
      return fmt::format("dequant_{}{}_y_{}{}_c{}", format, scale, y_name, prepared,
                         spec.layout.cols);
    case Op::kMatvec:
    case Op::kMatmul:
    case Op::kMoeMatvec:
    case Op::kMoeMatmul: {
      std::string name = fmt::format("{}_{}{}", op_name(spec.op), format, scale);
      if (spec.activation != ActivationPolicy::kA16)
        name += fmt::format("_{}", activation_name(spec.activation));
      name += spec.x_scale ? fmt::format("_x_{}_g{}", x_name, spec.x_scale->block_cols)
                           : fmt::format("_x_{}", x_name);
      if (spec.y_format != FormatId::kF32) name += fmt::format("_y_{}", y_name);
      if (spec.bias) name += fmt::format("_bias_{}", get_format(*spec.bias).name);
      if (spec.gate != Gate::kNone) name += fmt::format("_gate_{}", gate_name(spec.gate));
      if (spec.matrices > 1) name += fmt::format("_m{}", spec.matrices);
      if (spec.residual) name += fmt::format("_residual_{}", get_format(*spec.residual).name);
      if (spec.tensor_core_precision) name += "_tc";
      name += fmt::format("{}_c{}", prepared, spec.layout.cols);
      return spec.op == Op::kMatvec ? name + fmt::format("_n{}", spec.x_columns) : name;
    }
    case Op::kQuantize:
      return fmt::format("quantize_{}{}_x_{}{}_c{}", format, scale, x_name,
                         spec.saturate ? "" : "_nosat", spec.layout.cols);
    case Op::kNanScan:
      return fmt::format("nan_scan_{}_c{}", format, spec.layout.cols);
    case Op::kPrepare:
    case Op::kRestore:
      return fmt::format("{}_{}{}_c{}", op_name(spec.op), format,
                         spec.layout.kind == LayoutKind::kInterleaved ? prepared : "",
                         spec.layout.cols);
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
