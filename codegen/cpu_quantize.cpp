// The CPU quantise kernel: runs of 16 columns, or ggml's blocks; scales are chosen in a pass of their own.
#include "codegen/cpu_quantize.h"

#include <algorithm>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "codegen/emitter_parts.h"
#include "codegen/encoding.h"
#include "codegen/fragment_library.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kRun = 16;  // columns encoded at a time: whole bytes of codes of every width

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// The constants of encode_run.
void add_encoding_constants(const Encoding& encoding, std::vector<Constant>& constants) {
  constexpr int kF32Bias = 127;
  constexpr int kF32MantissaBits = 23;
  const int dropped_bits = kF32MantissaBits - encoding.mantissa_bits;
  const auto exponent_bits = [](int exponent) {
    return fmt::format("{:#x}u", static_cast<unsigned>(exponent) << kF32MantissaBits);
  };
  constants.insert(
      constants.end(),
      {{"kCodeBits", number(encoding.code_bits), "of a code"},
       {"kDroppedBits", number(dropped_bits), "mantissa bits of f32 that the format lacks"},
       {"kRebias", exponent_bits(kF32Bias - encoding.bias), "from f32's exponent to the format's",
        "unsigned"},
       {"kSmallestNormal", exponent_bits(kF32Bias + 1 - encoding.bias), "as bits of an f32",
        "unsigned"},
       {"kSubnormalShift", fmt::format("0x1p{:+}f", dropped_bits + 1 - encoding.bias),
        "its last bit is worth the smallest subnormal", "float"},
       {"kOverflowCode", fmt::format("{:#x}u", encoding.clamp_code), "of what is too large",
        "unsigned"},
       {"kNanCode", fmt::format("{:#x}u", encoding.nan_code), "", "unsigned"}});
}

std::vector<Constant> constants_of(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of x and w"},
      {"kRowBytes", number(row_bytes(format, spec.layout.cols)), "bytes of one row of w"},
      {"kRun", number(kRun), "consecutive elements encoded at a time"}};
  if (is_quantized_block(spec.weight)) {
    constants.push_back({"kBlockBytes", number(format.block_bytes), "bytes of one block"});
    return constants;
  }
  const Encoding encoding = encoding_of(spec.weight, spec.saturate);
  add_encoding_constants(encoding, constants);
  if (!spec.scale) return constants;
  const ScaleGrid& grid = *spec.scale;
  const std::int64_t block_cols = grid.block_cols == 0 ? spec.layout.cols : grid.block_cols;
  constants.push_back({"kBlockRows", number(grid.block_rows), "rows that share one scale"});
  constants.push_back({"kGroup", number(block_cols), "columns that share one scale"});
  constants.push_back({"kGroups", number(grid.cols_of_scales(spec.layout.cols)), "of one row"});
  if (grid.type == ScaleType::kE8M0) {
    constants.push_back({"kLargestExponent", number(encoding.largest_exponent()),
                         "of the power of two in the largest number"});
  } else {
    constants.push_back({"kLargest", fmt::format("{:.2f}f", encoding.largest),
                         "what the largest value of a group becomes", "float"});
  }
  if (grid.header_bytes() != 0) {
    constants.push_back({"kTensorScaleBytes", number(grid.header_bytes()),
                         "the tensor's f32 scale and zeros, before the blocks' scales"});
  }
  return constants;
}

/// Loops over ggml's blocks.
constexpr std::string_view kBlockBody =
    "  for (long long row = row_begin; row < row_end; ++row) {\n"
    "    unsigned char* block = arguments->w + row * kRowBytes;\n"
    "    for (long long at = 0; at < kCols; at += kBlockElems) {\n"
    "      quantize_block(load_block(arguments->x + row * kCols + at), block);\n"
    "      block += kBlockBytes;\n"
    "    } // at: blocks of this row\n"
    "  } // row: rows of this call\n";

/// Loops over runs, without scales.
constexpr std::string_view kCastBody =
    "  for (long long row = row_begin; row < row_end; ++row) {\n"
    "    for (long long at = 0; at < kCols; at += kRun) {\n"
    "      const F32Run value = load_x_part(arguments->x + row * kCols + at, kCols - at);\n"
    "      store_codes(arguments->w + row * kRowBytes, at, encode_run(value), kCols - at);\n"
    "    } // at: runs of this row\n"
    "  } // row: rows of this call\n";

/// Loops over blocks of rows and columns that share a scale.
std::string scaled_body(const ScaleGrid& grid) {
  const bool has_tensor_scale = grid.type == ScaleType::kE4M3;
  return fmt::format(
      "  for (long long block = block_begin; block < block_end; ++block) {{\n"
      "    const long long first_row = block * kBlockRows;\n"
      "    const long long rows_left = arguments->rows - first_row;\n"
      "    const long long end_row = first_row + (kBlockRows < rows_left ? kBlockRows : "
      "rows_left);\n"
      "    for (long long group = 0; group < kGroups; ++group) {{\n"
      "      const long long first = group * kGroup;\n"
      "      const long long end = first + kGroup < kCols ? first + kGroup : kCols;\n"
      "      F32Run largest = {{}};\n"
      "      for (long long row = first_row; row < end_row; ++row) {{\n"
      "        for (long long at = first; at < end; at += kRun)\n"
      "          largest = larger_magnitude(largest, load_x_part(arguments->x + row * kCols + at, "
      "end - at));\n"
      "      }} // row: rows of this block\n"
      "      const GroupScale scale = choose_scale(largest_of(largest){});\n"
      "      arguments->scale[{}block * kGroups + group] = scale.stored;\n"
      "      for (long long row = first_row; row < end_row; ++row) {{\n"
      "        for (long long at = first; at < end; at += kRun) {{\n"
      "          const F32Run value = load_x_part(arguments->x + row * kCols + at, end - at);\n"
      "          store_codes(arguments->w + row * kRowBytes, at, encode_run(divided(value, "
      "scale)), "
      "end - at);\n"
      "        }} // at: runs of this block\n"
      "      }} // row: rows of this block\n"
      "    }} // group: blocks side by side\n"
      "  }} // block: blocks of rows of this call\n",
      has_tensor_scale ? ", load<float>(arguments->scale)" : "",
      has_tensor_scale ? "kTensorScaleBytes + " : "");
}

}  // namespace

EmittedKernel emit_cpu_quantize(const KernelSpec& spec) {
  const Lowering lowering = quantize_lowering(spec);
  const bool is_block = is_quantized_block(spec.weight);
  const std::string_view x_name = get_format(spec.x_format).name;
  const std::string f16 = spec.target.has_cpu_feature("f16c") ? "f16c" : "bits";
  FragmentVariants variants = {
      {"f16_to_f32", f16}, {"f16_run_to_f32", f16}, {"f32_run_to_f16", f16}};
  std::vector<std::string> names = {fmt::format("load_x_{}", x_name)};
  LaunchShape launch;
  if (is_block) {
    names.push_back(fmt::format("quantize_block_{}", get_format(spec.weight).name));
  } else {
    const Encoding encoding = encoding_of(spec.weight, spec.saturate);
    names.insert(names.end(), {"encode_run", "load_x_part", "store_codes"});
    variants["nan_code"] = encoding.nan_keeps_sign ? "with_sign" : "without_sign";
    variants["with_sign"] = encoding.has_negative_zero ? "any" : "no_negative_zero";
    variants["store_codes"] = number(encoding.code_bits);
  }
  if (spec.scale) {
    names.insert(names.end(), {"larger_magnitude", "largest_of", "choose_scale"});
    if (spec.scale->type == ScaleType::kE4M3) names.push_back("load");
    variants["larger_magnitude"] = spec.scale->type == ScaleType::kF32 ? "numbers" : "all";
    variants["choose_scale"] = scale_type_name(spec.scale->type);
    launch.rows_per_cta = spec.scale->block_rows;
  }

  TemplateValues values = header_values(spec);
  values["arch"] = cpu_description(spec.target, lowering.summary);
  values["constants"] = format_constants(constants_of(spec));
  values["functions"] = FragmentLibrary::of("cpu").splice(names, variants);
  values["x_name"] = x_name;
  values["x_type"] = io_type(spec.x_format);
  values["scale_member"] =
      spec.scale ? fmt::format("{}* scale;\n  ", scale_c_type(spec.scale->type)) : "";
  values["unit"] = spec.scale ? "block" : "row";
  values["units"] = spec.scale ? "blocks of kBlockRows rows" : "rows";
  values["body"] = is_block     ? std::string(kBlockBody)
                   : spec.scale ? scaled_body(*spec.scale)
                                : std::string(kCastBody);
  return {fill_template(get_template("cpu/quantize.cpp.in"), values), kernel_name(spec), launch,
          lowering};
}

}  // namespace ktjit::codegen
