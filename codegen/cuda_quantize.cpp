// Constants of the FP8 encoders are from OCP OFP8 1.0, and Triton's for e4b15.
#include "codegen/cuda_quantize.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/emitter_parts.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kThreads = 128;
constexpr int kVectorBytes = 16;
constexpr int kCastCols = 128;  // columns of a group where there are no scales

/// How f32 becomes a code of an FP8 format.
struct Encoding {
  float largest;  ///< finite value that encoding gives at most
  float clamp;    ///< magnitudes beyond it become it: `largest`, or the number after it
  float smallest_normal;
  int mantissa_bits;
  int nan_code;
  bool nan_keeps_sign;
};

Encoding encoding_of(const KernelSpec& spec) {
  switch (spec.weight) {
    case FormatId::kFp8E4M3:
      return {448.0f, spec.saturate ? 448.0f : 480.0f, 0x1p-6f, 3, 0x7f, !spec.saturate};
    case FormatId::kFp8E5M2:
      return {57344.0f, spec.saturate ? 57344.0f : 65536.0f, 0x1p-14f, 2, 0x7f, !spec.saturate};
    case FormatId::kFp8E4B15:
      return {1.75f, 1.75f, 0x1p-14f, 3, 0x7e, false};
    default:
      throw SpecError("format", get_format(spec.weight).name,
                      "fp8_e4m3, fp8_e5m2, fp8_e4b15 for quantize");
  }
}

std::string hex_bits(float value) {
  return fmt::format("0x{:08x}u", std::bit_cast<std::uint32_t>(value));
}

}  // namespace

EmittedKernel emit_quantize(const KernelSpec& spec) {
  const Encoding encoding = encoding_of(spec);
  const std::string_view x_name = get_format(spec.x_format).name;
  const std::string_view w_name = get_format(spec.weight).name;
  const bool has_cvt =
      get_cuda_facts(spec.target).fp8_cvt && spec.saturate && spec.weight != FormatId::kFp8E4B15;

  const std::int64_t group_cols =
      std::min(spec.scale ? spec.scale->block_cols : kCastCols, spec.layout.cols);
  const std::int64_t quads = ceil_div(group_cols, 4);
  const int lanes = static_cast<int>(
      std::min<std::int64_t>(kWarpThreads, std::bit_ceil(static_cast<std::uint64_t>(quads))));
  constexpr std::int64_t kMaxSteps = 16;  // quads of one lane stay in registers
  if (ceil_div(quads, lanes) > kMaxSteps) {
    throw SpecError("scale", scale_grid_name(spec.scale),
                    fmt::format("groups of at most {} columns", kMaxSteps * lanes * 4));
  }
  const std::int64_t groups = ceil_div(spec.layout.cols, group_cols);
  const int groups_per_cta = kThreads / lanes;
  const int groups_per_row = static_cast<int>(
      std::min<std::int64_t>(groups_per_cta, std::bit_ceil(static_cast<std::uint64_t>(groups))));
  const LaunchShape shape{.rows_per_cta = groups_per_cta / groups_per_row,
                          .column_tiles = static_cast<unsigned>(ceil_div(groups, groups_per_row)),
                          .threads = kThreads};

  const auto number = [](std::int64_t value) { return fmt::format("{}", value); };
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of x and w"},
      {"kGroupCols", number(group_cols),
       spec.scale ? "columns that share one scale" : "columns that a few lanes share"},
      {"kGroups", number(groups), "groups in one row"},
      {"kThreads", number(kThreads), "threads per CTA"},
      {"kLanes", number(lanes), "threads of one group"},
      {"kSteps", number(ceil_div(quads, lanes)), "quads of columns of one thread"},
      {"kGroupsPerRow", number(groups_per_row), "groups of one row in a CTA"},
      {"kRowsPerCta", number(shape.rows_per_cta), ""},
      {"kColumnTiles", fmt::format("{}", shape.column_tiles), "CTAs side by side in one row"}};
  if (!has_cvt) {
    constants.insert(
        constants.end(),
        {{"kMantissaBits", number(encoding.mantissa_bits), "of a code"},
         {"kClampBits", hex_bits(encoding.clamp), fmt::format("f32 {}", encoding.clamp)},
         {"kSmallestNormalBits", hex_bits(encoding.smallest_normal),
          fmt::format("f32 {}", encoding.smallest_normal)},
         {"kNanCode", number(encoding.nan_code), encoding.nan_keeps_sign ? "beside the sign" : ""},
         {"kNanKeepsSign", encoding.nan_keeps_sign ? "1" : "0", ""}});
  }

  // Quads lie whole within a group, and on their own alignment, if both extents allow it.
  const bool whole_quads = spec.layout.cols % 4 == 0 && group_cols % 4 == 0 &&
                           spec.layout.base_alignment_bytes >= kVectorBytes;
  const std::string quad_variant = whole_quads ? "vector" : "element";
  FragmentVariants variants = {
      {fmt::format("load_quad_{}", x_name), quad_variant},
      {"store_quad", quad_variant},
      {"f32x2_to_fp8", has_cvt ? fmt::format("{}_cvt", w_name) : "software"}};

  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = number(kEmitterVersion);
  values["cols"] = number(spec.layout.cols);
  values["x_name"] = x_name;
  values["x_type"] = io_type(spec.x_format);
  values["w_name"] = w_name;
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["column_tiles"] = number(shape.column_tiles);
  values["threads"] = number(kThreads);
  values["scale_description"] = "";
  values["scale_parameter"] = "";
  values["choose_scale"] = "";
  values["scaled_0"] = "value[step][i]";
  values["scaled_1"] = "value[step][i + 1]";
  const std::string overflow = spec.saturate ? "saturating" : "overflow to infinity or NaN";
  values["math"] = fmt::format("w = the nearest code to {}, ties to even, {}",
                               spec.scale ? "x / scale" : "x", overflow);
  std::vector<std::string> names = {"min_of", fmt::format("load_quad_{}", x_name), "f32x2_to_fp8",
                                    "store_quad"};
  if (spec.scale) {
    names.insert(names.end(), {"max_of", "divide"});
    values["scale_description"] =
        fmt::format("//   scale    out  f32  [rows, {}]  row-major, one per group of {} columns\n",
                    groups, group_cols);
    values["scale_parameter"] = "    float* __restrict__ scale,\n";
    values["math"] +=
        fmt::format("; scale = largest |x| of the group / {}, 1 if that is 0", encoding.largest);
    values["scaled_0"] = "divide(value[step][i], group_scale)";
    values["scaled_1"] = "divide(value[step][i + 1], group_scale)";
    values["choose_scale"] = fmt::format(
        "\n"
        "  float largest = 0.0f;  // NaNs don't count\n"
        "#pragma unroll\n"
        "  for (int step = 0; step < kSteps; ++step) {{\n"
        "#pragma unroll\n"
        "    for (int i = 0; i < 4; ++i) largest = max_of(largest, value[step][i] < 0.0f ? "
        "-value[step][i] : value[step][i]);\n"
        "  }} // step: quads of this lane\n"
        "#pragma unroll\n"
        "  for (int distance = kLanes / 2; distance > 0; distance /= 2) {{\n"
        "    largest = max_of(largest, __shfl_xor_sync(0xffffffffu, largest, distance));\n"
        "  }} // distance: lanes apart\n"
        "  float group_scale = divide(largest, {:.2f}f);\n"
        "  if (group_scale == 0.0f) group_scale = 1.0f;\n"
        "  if (lane == 0) scale[row * kGroups + group] = group_scale;\n"
        "\n",
        encoding.largest);
  }
  const std::string software = "software, exact: rounded by an f32 addition";
  Lowering lowering = {has_cvt ? LoweringKind::kHardware : LoweringKind::kSoftware, "",
                       has_cvt ? fmt::format("has a cvt to {}", w_name)
                       : get_cuda_facts(spec.target).fp8_cvt
                           ? "cvt only saturates, or has no such format"
                           : fmt::format("no cvt to {}", w_name),
                       has_cvt ? "hardware cvt from f32" : software, 0};
  values["arch"] = fmt::format("{}, {}: {}", spec.target.name(), lowering.reason, lowering.summary);
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants);
  return {fill_template(get_template("cuda/quantize.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

EmittedKernel emit_nan_scan(const KernelSpec& spec) {
  constexpr int kScanThreads = 256;
  constexpr std::int64_t kBytesPerCta = 65536;
  const auto number = [](std::int64_t value) { return fmt::format("{}", value); };
  const Format& format = get_format(spec.weight);
  const bool is_fnuz =
      spec.weight == FormatId::kFp8E4M3Fnuz || spec.weight == FormatId::kFp8E5M2Fnuz;
  const int last_number = spec.weight == FormatId::kFp8E4M3   ? 0x7e
                          : spec.weight == FormatId::kFp8E5M2 ? 0x7b
                                                              : 0x7f;
  if (!is_served(spec.weight)) get_lowering(spec.weight, spec.target);  // refuses it
  if (spec.layout.base_alignment_bytes < kVectorBytes) {
    throw SpecError("base_alignment_bytes", number(spec.layout.base_alignment_bytes),
                    "16 and more for nan_scan");
  }
  const LaunchShape shape{
      .rows_per_cta = std::max<std::int64_t>(1, kBytesPerCta / spec.layout.cols),
      .threads = kScanThreads};
  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = number(kEmitterVersion);
  values["cols"] = number(spec.layout.cols);
  values["w_name"] = format.name;
  values["nan_codes"] =
      is_fnuz ? "code 0x80 is"
              : fmt::format("codes whose low 7 bits are above {:#x} are", last_number);
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["threads"] = number(kScanThreads);
  std::vector<Constant> constants = {{"kCols", number(spec.layout.cols), "columns of w"},
                                     {"kRowsPerCta", number(shape.rows_per_cta), "rows of one CTA"},
                                     {"kThreads", number(kScanThreads), "threads per CTA"}};
  if (!is_fnuz) {
    constants.push_back(
        {"kLastNumber", fmt::format("{:#x}", last_number), "codes above it are NaNs"});
  }
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(
      {"Words4", "nan_bits"}, {{"nan_bits", is_fnuz ? "minus_zero" : "above"}});
  return {fill_template(get_template("cuda/nan_scan.cu.in"), values), kernel_name(spec), shape,
          Lowering{LoweringKind::kNative, "", "", "native", 0}};
}

}  // namespace ktjit::codegen
