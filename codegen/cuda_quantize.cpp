// The CUDA quantise kernels: a few lanes for each group of a row, or a CTA for each block of rows and columns.
#include "codegen/cuda_quantize.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/emitter_parts.h"
#include "codegen/encoding.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kThreads = 128;
constexpr int kTileThreads = 256;
constexpr int kVectorBytes = 16;
constexpr int kCastCols = 128;  // columns of a group where there are no scales
constexpr int kMostColumns =
    2048;  // of a group whose values stay in registers: 16 quads of 32 lanes

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// The smallest power of two of lanes that have a quad of columns each, at most a warp.
int lanes_for(std::int64_t cols) {
  const auto quads = static_cast<std::uint64_t>(ceil_div(cols, 4));
  return static_cast<int>(std::min<std::uint64_t>(kWarpThreads, std::bit_ceil(quads)));
}

/// Constants of encode_quad and choose_scale.
void add_encoding_constants(const KernelSpec& spec, const Lowering& lowering,
                            std::vector<Constant>& constants) {
  const Encoding encoding = encoding_of(spec.weight, spec.saturate);
  if (lowering.kind == LoweringKind::kSoftware) {
    const int smallest_exponent = 1 - encoding.bias;
    constexpr unsigned kF32Bias = 127;
    const unsigned smallest_biased = kF32Bias + 1 - static_cast<unsigned>(encoding.bias);
    const unsigned last_bits = -(smallest_biased << encoding.mantissa_bits) & 0xffU;
    const unsigned anchor_exponent = kF32Bias + 23 - static_cast<unsigned>(encoding.mantissa_bits);
    constants.push_back({"kMantissaBits", number(encoding.mantissa_bits), "of a code"});
    constants.push_back({"kClamp", fmt::format("{:.2f}f", encoding.clamp),
                         encoding.clamp == encoding.largest ? "the largest number"
                                                            : "what follows the largest number",
                         "float"});
    constants.push_back(
        {"kSmallestNormal", fmt::format("0x1p{:+}f", smallest_exponent), "", "float"});
    constants.push_back(
        {"kAnchor", fmt::format("{:a}f", std::bit_cast<float>(anchor_exponent << 23 | last_bits)),
         fmt::format("2^{} (1 + {} 2^-23)", 23 - encoding.mantissa_bits, last_bits), "float"});
    if (!encoding.nan_is_clamped())
      constants.push_back({"kNanCode", fmt::format("{:#x}u", encoding.nan_code), "", "unsigned"});
  }
  if (!spec.scale) return;
  if (spec.scale->type == ScaleType::kE8M0) {
    constants.push_back({"kLargestExponent", number(encoding.largest_exponent()),
                         "of the power of two in the largest number"});
  } else {
    constants.push_back(
        {"kLargest", fmt::format("{:.2f}f", encoding.largest), "largest number", "float"});
  }
}

/// The pieces that encode and store, their variants chosen.
void add_encoding_fragments(const KernelSpec& spec, const Lowering& lowering, bool whole_quads,
                            std::vector<std::string>& names, FragmentVariants& variants) {
  const Encoding encoding = encoding_of(spec.weight, spec.saturate);
  names.insert(names.end(), {"encode_quad", "store_quad"});
  // A NaN that loses its sign has to do so before the signs are gathered, but for fnuz, whose NaN is a sign.
  const bool plain_nan = !encoding.nan_keeps_sign && encoding.has_negative_zero;
  variants["encode_quad"] = lowering.routine;
  variants["limited"] = plain_nan ? "plain_nan" : "signed_nan";
  variants["with_nan"] = encoding.nan_is_clamped() ? "clamp" : "own";
  variants["signs_for"] = encoding.has_negative_zero ? "any" : "no_negative_zero";
  variants["pack_codes"] = number(encoding.code_bits);
  variants["store_quad"] = number(encoding.code_bits);
  if (encoding.code_bits != 6) variants["store_quad"] += whole_quads ? "_vector" : "_element";
  if (!spec.scale) return;
  names.insert(names.end(), {"larger_magnitude", "choose_scale"});
  variants["larger_magnitude"] = spec.scale->type == ScaleType::kF32 ? "numbers" : "all";
  variants["choose_scale"] = scale_type_name(spec.scale->type);
  variants["e4m3_of_scale"] = get_cuda_facts(spec.target).fp8_cvt ? "cvt" : "software";
}

/// The values that both kernels' headers have.
TemplateValues common_values(const KernelSpec& spec, const Lowering& lowering,
                             const LaunchShape& shape) {
  TemplateValues values = header_values(spec);
  values["x_name"] = get_format(spec.x_format).name;
  values["x_type"] = io_type(spec.x_format);
  values["arch"] = fmt::format("{}, {}: {}", spec.target.name(), lowering.reason, lowering.summary);
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["column_tiles"] = number(shape.column_tiles);
  values["threads"] = number(shape.threads);
  values["scale_parameter"] = "";
  if (spec.scale) {
    values["scale_parameter"] =
        fmt::format("    {}* __restrict__ scale,\n", scale_c_type(spec.scale->type));
  }
  return values;
}

/// What is done with the values of a group: blocks of ggml's.
std::string use_in_block(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  return fmt::format("  quantize_block(w + row * kRowBytes + group * {}, lane, value[0]);\n",
                     format.block_bytes);
}

/// What is done with the values of a group: codes, and a scale if there are some.
std::string use_in_group(const KernelSpec& spec) {
  std::string text;
  if (spec.scale) {
    const bool has_tensor_scale = spec.scale->type == ScaleType::kE4M3;
    text = fmt::format(
        "\n"
        "  float largest = 0.0f;\n"
        "#pragma unroll\n"
        "  for (int step = 0; step < kSteps; ++step) {{\n"
        "#pragma unroll\n"
        "    for (int i = 0; i < 4; ++i) largest = larger_magnitude(largest, value[step][i]);\n"
        "  }} // step: quads of this lane\n"
        "#pragma unroll\n"
        "  for (int distance = kLanes / 2; distance > 0; distance /= 2) {{\n"
        "    largest = larger_magnitude(largest, __shfl_xor_sync(0xffffffffu, largest, "
        "distance));\n"
        "  }} // distance: lanes apart\n"
        "  const GroupScale group_scale = choose_scale(largest{});\n"
        "  if (lane == 0) scale[{}row * kGroups + group] = group_scale.stored;\n"
        "\n",
        has_tensor_scale ? ", *(const float*)scale" : "",
        has_tensor_scale ? "kTensorScaleBytes + " : "");
  }
  return text + fmt::format(
                    "#pragma unroll\n"
                    "  for (int step = 0; step < kSteps; ++step) {{\n"
                    "{}"
                    "    store_quad(w + row * kRowBytes, begin + (step * kLanes + lane) * 4, end, "
                    "encode_quad(value[step]));\n"
                    "  }} // step: quads of this lane\n",
                    spec.scale ? "#pragma unroll\n"
                                 "    for (int i = 0; i < 4; ++i) value[step][i] = "
                                 "scaled(value[step][i], group_scale);\n"
                               : "");
}

/// Whether quads lie whole within a block, and on their own alignment.
bool has_whole_quads(const KernelSpec& spec, std::int64_t block_cols) {
  return spec.layout.cols % 4 == 0 && block_cols % 4 == 0 &&
         spec.layout.base_alignment_bytes >= kVectorBytes;
}

EmittedKernel emit_groups(const KernelSpec& spec, const Lowering& lowering,
                          std::int64_t group_cols) {
  const std::string_view x_name = get_format(spec.x_format).name;
  const Format& format = get_format(spec.weight);
  const int lanes = lanes_for(group_cols);
  const std::int64_t groups = ceil_div(spec.layout.cols, group_cols);
  const int groups_per_cta = kThreads / lanes;
  const int groups_per_row = static_cast<int>(
      std::min<std::int64_t>(groups_per_cta, std::bit_ceil(static_cast<std::uint64_t>(groups))));
  const LaunchShape shape{.rows_per_cta = groups_per_cta / groups_per_row,
                          .column_tiles = static_cast<unsigned>(ceil_div(groups, groups_per_row)),
                          .threads = kThreads};
  const bool is_block = is_quantized_block(spec.weight);
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of x and w"},
      {"kRowBytes", number(row_bytes(format, spec.layout.cols)), "bytes of one row of w"},
      {"kGroupCols", number(group_cols),
       spec.scale || is_block ? "columns that share one scale" : "columns that a few lanes share"},
      {"kGroups", number(groups), "groups in one row"},
      {"kThreads", number(kThreads), "threads per CTA"},
      {"kLanes", number(lanes), "threads of one group"},
      {"kSteps", number(ceil_div(ceil_div(group_cols, 4), lanes)),
       "quads of columns of one thread"},
      {"kGroupsPerRow", number(groups_per_row), "groups of one row in a CTA"},
      {"kRowsPerCta", number(shape.rows_per_cta), ""},
      {"kColumnTiles", number(shape.column_tiles), "CTAs side by side in one row"}};
  if (spec.scale && spec.scale->type == ScaleType::kE4M3) {
    constants.push_back({"kTensorScaleBytes", number(spec.scale->header_bytes()),
                         "the tensor's f32 scale and zeros, before the blocks' scales"});
  }

  const bool whole_quads = has_whole_quads(spec, group_cols);
  const std::string load = fmt::format("load_quad_{}", x_name);
  std::vector<std::string> names = {"min_of", load};
  FragmentVariants variants = {{load, whole_quads ? "vector" : "element"}};
  if (is_block) {
    names.push_back(fmt::format("quantize_block_{}", format.name));
    variants["larger_magnitude"] = "all";
    variants["store_half"] = spec.layout.base_alignment_bytes >= 2 ? "2" : "1";
  } else {
    add_encoding_constants(spec, lowering, constants);
    add_encoding_fragments(spec, lowering, whole_quads, names, variants);
  }
  TemplateValues values = common_values(spec, lowering, shape);
  add_wait(spec, values, names);
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants);
  values["use_values"] = is_block ? use_in_block(spec) : use_in_group(spec);
  return {fill_template(get_template("cuda/quantize.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

EmittedKernel emit_tiles(const KernelSpec& spec, const Lowering& lowering,
                         std::int64_t block_cols) {
  const std::string_view x_name = get_format(spec.x_format).name;
  const int lanes = lanes_for(block_cols);
  const ScaleGrid& grid = *spec.scale;
  const LaunchShape shape{
      .rows_per_cta = grid.block_rows,
      .column_tiles = static_cast<unsigned>(grid.cols_of_scales(spec.layout.cols)),
      .threads = kTileThreads};
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of x and w"},
      {"kRowBytes", number(row_bytes(get_format(spec.weight), spec.layout.cols)),
       "bytes of one row of w"},
      {"kBlockRows", number(grid.block_rows), "rows that share one scale"},
      {"kBlockCols", number(block_cols), "columns that share one scale"},
      {"kScaleCols", number(shape.column_tiles), "scales in one row of scales"},
      {"kThreads", number(kTileThreads), "threads per CTA"},
      {"kWarpThreads", number(kWarpThreads), "threads of one warp"},
      {"kWarps", "kThreads / kWarpThreads", ""},
      {"kLanes", number(lanes), "threads side by side in one row"},
      {"kRowsAtATime", "kThreads / kLanes", "rows that a CTA works on together"}};
  add_encoding_constants(spec, lowering, constants);

  const bool whole_quads = has_whole_quads(spec, block_cols);
  const std::string load = fmt::format("load_quad_{}", x_name);
  std::vector<std::string> names = {"min_of", load};
  FragmentVariants variants = {{load, whole_quads ? "vector" : "element"}};
  add_encoding_fragments(spec, lowering, whole_quads, names, variants);

  TemplateValues values = common_values(spec, lowering, shape);
  add_wait(spec, values, names);
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants);
  return {fill_template(get_template("cuda/quantize_tile.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

}  // namespace

EmittedKernel emit_quantize(const KernelSpec& spec) {
  const Lowering lowering = quantize_lowering(spec);
  std::int64_t group_cols = std::min<std::int64_t>(kCastCols, spec.layout.cols);
  if (is_quantized_block(spec.weight)) {
    group_cols = get_format(spec.weight).block_elems;
  } else if (spec.scale) {
    const std::int64_t block_cols = spec.scale->block_cols;
    group_cols = block_cols == 0 ? spec.layout.cols : std::min(block_cols, spec.layout.cols);
    if (spec.scale->block_rows > 1 || group_cols > kMostColumns)
      return emit_tiles(spec, lowering, group_cols);
  }
  return emit_groups(spec, lowering, group_cols);
}

EmittedKernel emit_nan_scan(const KernelSpec& spec) {
  constexpr int kScanThreads = 256;
  constexpr std::int64_t kBytesPerCta = 65536;
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
  std::vector<std::string> names = {"Words4", "nan_bits"};
  add_wait(spec, values, names);
  values["functions"] =
      FragmentLibrary::of("cuda").splice(names, {{"nan_bits", is_fnuz ? "minus_zero" : "above"}});
  return {fill_template(get_template("cuda/nan_scan.cu.in"), values), kernel_name(spec), shape,
          Lowering{LoweringKind::kNative, "", "", "native", 0}};
}

}  // namespace ktjit::codegen
