// A range of tiles of 16 rows a call: of each unit first all rows are taken apart, then their codes put together.
#include "codegen/cpu_prepare.h"

#include <fmt/format.h>
#include <string>
#include <vector>

#include "codegen/cuda_unit_matvec.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/prepared_layout.h"

namespace ktjit::codegen {
namespace {

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// Bytes and scales of the last unit's columns, which may be fewer than 256.
struct LastUnit {
  std::int64_t bytes;
  std::int64_t scales;
};

struct Units {
  std::int64_t count;  ///< side by side
  std::int64_t row_bytes;
  std::int64_t scales;  ///< of a row, in a plane of their own
  LastUnit last;

  bool is_cut() const { return last.bytes != row_bytes; }
};

Units units_of(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  const std::int64_t count = (spec.layout.cols - 1) / kUnitCols + 1;
  const std::int64_t row = row_bytes(format, kUnitCols);
  const std::int64_t scales = spec.scale ? spec.scale->cols_of_scales(kUnitCols) : 0;
  const std::int64_t all_scales = spec.scale ? spec.scale->cols_of_scales(spec.layout.cols) : 0;
  return {
      count,
      row,
      scales,
      {row_bytes(format, spec.layout.cols) - (count - 1) * row, all_scales - (count - 1) * scales}};
}

std::vector<Constant> constants_of(const KernelSpec& spec, const Units& units) {
  const PreparedLayout& layout = *find_prepared_layout(spec.weight);
  std::vector<Constant> constants = {
      {"kRowBytes", number(row_bytes(get_format(spec.weight), spec.layout.cols)),
       "bytes of one native row", "long long"},
      {"kUnits", number(units.count), "units side by side"},
      {"kUnitBytes", number(layout.unit_bytes()), "bytes of a unit", "long long"},
      {"kCodeBytes", number(kUnitRows * kUnitCols / 8 * layout.code_bits()),
       "of which codes, then the heads of 16 rows, then their tails"},
      {"kHeadBytes", number(layout.head_bytes), "bytes of a row's head"},
      {"kTailBytes", number(layout.tail_bytes), "bytes of a row's tail"},
      {"kUnitRowBytes", number(units.row_bytes), "bytes of the native blocks of 256 columns"}};
  if (units.is_cut())
    constants.push_back({"kLastBytes", number(units.last.bytes), "of which the last unit has"});
  if (spec.scale) {
    constants.push_back({"kScaleCols", number(spec.scale->cols_of_scales(spec.layout.cols)),
                         "scales of one row", "long long"});
    constants.push_back({"kScalesAt", number(spec.scale->header_bytes()),
                         "bytes of the plane of scales before the first"});
    constants.push_back({"kUnitScales", number(units.scales), "scales of 256 columns"});
    constants.push_back({"kLastScales", number(units.last.scales), "of which the last unit has"});
  }
  return constants;
}

TemplateValues values_of(const KernelSpec& spec, const Units& units, const Lowering& lowering,
                         const std::string& rows_fragment, const char* codes_fragment) {
  FragmentVariants variants;
  variants[codes_fragment] = unit_packing(spec.weight);
  for (const char* pair : {"load_pair", "store_pair"})
    variants[pair] = number(unit_block_cols(spec.weight));
  TemplateValues values = header_values(spec);
  values.erase("math");
  values["arch"] = cpu_description(spec.target, lowering.summary);
  values["unit_bytes"] = number(find_prepared_layout(spec.weight)->unit_bytes());
  values["constants"] = format_constants(constants_of(spec, units));
  values["functions"] = FragmentLibrary::of("cpu").splice(
      {"Units", codes_fragment, fmt::format("{}_{}", rows_fragment, get_format(spec.weight).name)},
      variants);
  values["scale_member"] = spec.scale ? "unsigned char* scale;\n  " : "";
  return values;
}

Lowering lowering_of(const KernelSpec& spec) {
  Lowering lowering = get_lowering(spec.weight, spec.target);
  lowering.summary = "codes and scales moved";
  return lowering;
}

LaunchShape tiles_of_rows() {
  LaunchShape launch;
  launch.rows_per_cta = kUnitRows;
  return launch;
}

}  // namespace

EmittedKernel emit_cpu_prepare(const KernelSpec& spec) {
  const Lowering lowering = lowering_of(spec);
  const Units units = units_of(spec);
  TemplateValues values = values_of(spec, units, lowering, "take_row", "store_codes");
  values["scales"] = "";
  values["scale_arguments"] = "";
  if (spec.scale) {
    values["scale_member"] = "const " + values["scale_member"];
    values["scale_arguments"] = "scales, arguments->scale, ";
    values["scales"] =
        "        unsigned char scales[kUnitScales] = {};\n"
        "        __builtin_memcpy(scales, arguments->scale + kScalesAt + row * kScaleCols + u * "
        "kUnitScales,\n"
        "                         u == kUnits - 1 ? kLastScales : kUnitScales);\n";
  }
  values["cut"] = units.is_cut() ? "        unsigned char whole[kUnitRowBytes] = {};\n"
                                   "        if (u == kUnits - 1) native = (const unsigned "
                                   "char*)__builtin_memcpy(whole, native, kLastBytes);\n"
                                 : "";
  return {fill_template(get_template("cpu/prepare.cpp.in"), values), kernel_name(spec),
          tiles_of_rows(), lowering};
}

EmittedKernel emit_cpu_restore(const KernelSpec& spec) {
  const Lowering lowering = lowering_of(spec);
  const Units units = units_of(spec);
  TemplateValues values = values_of(spec, units, lowering, "give_row", "load_codes");
  values.erase("cols");
  KernelSpec native = spec;
  native.layout.kind = LayoutKind::kNative;
  values["native_description"] = weight_text(native, "rows");

  const std::string row =
      fmt::format("codes[r], heads + r * kHeadBytes, tails + r * kTailBytes, {}{}", "{}",
                  spec.scale ? ", scales" : "");
  const auto give = [&](const char* to) {
    return fmt::format("give_row({});", fmt::format(fmt::runtime(row), to));
  };
  std::string text;
  if (spec.scale) text += "        unsigned char scales[kUnitScales];\n";
  if (units.is_cut()) {
    text += fmt::format(
        "        if (u < kUnits - 1) {{\n"
        "          {}\n"
        "        }} else {{\n"
        "          unsigned char whole[kUnitRowBytes];\n"
        "          {}\n"
        "          __builtin_memcpy(native, whole, kLastBytes);\n"
        "        }}\n",
        give("native"), give("whole"));
  } else {
    text += fmt::format("        {}\n", give("native"));
  }
  if (spec.scale) {
    text +=
        "        __builtin_memcpy(arguments->scale + kScalesAt + row * kScaleCols + u * "
        "kUnitScales, scales,\n"
        "                         u == kUnits - 1 ? kLastScales : kUnitScales);\n";
    if (spec.scale->header_bytes() != 0) {
      text +=
          "        if (row == 0 && u == 0) {\n"
          "          __builtin_memcpy(arguments->scale, tails, kTailBytes);\n"
          "          __builtin_memset(arguments->scale + kTailBytes, 0, kScalesAt - kTailBytes);\n"
          "        }\n";
    }
  }
  values["give"] = text;
  return {fill_template(get_template("cpu/restore.cpp.in"), values), kernel_name(spec),
          tiles_of_rows(), lowering};
}

}  // namespace ktjit::codegen
