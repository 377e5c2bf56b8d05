// A CTA has one unit: it goes to shared memory by wide loads, whose order the native bytes don't have.
#include "codegen/cuda_restore.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>
#include <string>
#include <vector>

#include "codegen/cuda_parts.h"
#include "codegen/cuda_unit_matvec.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/prepared_layout.h"

namespace ktjit::codegen {
namespace {

constexpr int kThreads = 256;

std::string number(std::int64_t value) { return fmt::format("{}", value); }

std::int64_t units_of(const KernelSpec& spec) { return ceil_div(spec.layout.cols, kUnitCols); }

LaunchShape shape_of(const KernelSpec& spec) {
  return {.rows_per_cta = kUnitRows,
          .column_tiles = static_cast<unsigned>(units_of(spec)),
          .threads = kThreads};
}

/// What the text says of units and of the blocks in their place.
std::vector<Constant> unit_constants(const KernelSpec& spec) {
  const Format& format = get_format(spec.weight);
  const PreparedLayout& layout = *find_prepared_layout(spec.weight);
  return {{"kUnits", number(units_of(spec)), "units side by side"},
          {"kUnitBytes", number(layout.unit_bytes()), "bytes of a unit", "long long"},
          {"kCodeBytes", number(kUnitRows * kUnitCols / 8 * layout.code_bits()),
           "of which codes, then the heads of 16 rows, then their tails"},
          {"kHeadBytes", number(layout.head_bytes), "bytes of a row's head"},
          {"kTailBytes", number(layout.tail_bytes), "bytes of a row's tail"},
          {"kUnitRowBytes", number(row_bytes(format, kUnitCols)),
           "bytes of the native blocks of 256 columns"},
          {"kThreads", number(kThreads), "threads per CTA"}};
}

FragmentVariants restore_variants(FormatId format) {
  return {{"code_at", std::string(unit_packing(format))},
          {"place_of", number(unit_block_cols(format))}};
}

std::string restore_fragment(FormatId format) {
  return fmt::format("restore_{}", get_format(format).name);
}

/// Header values and the shape.
TemplateValues header_values(const KernelSpec& spec, const LaunchShape& shape) {
  TemplateValues values = codegen::header_values(spec);
  values["unit_bytes"] = number(find_prepared_layout(spec.weight)->unit_bytes());
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["column_tiles"] = number(shape.column_tiles);
  values["threads"] = number(shape.threads);
  return values;
}

/// Scales that lie in a plane of their own, which begins with the tensor's scale where there are two levels.
void add_scales(const KernelSpec& spec, TemplateValues& values, std::vector<Constant>& constants) {
  const std::int64_t of_unit = spec.scale->cols_of_scales(kUnitCols);
  const std::int64_t of_row = spec.scale->cols_of_scales(spec.layout.cols);
  constants.insert(constants.end(),
                   {{"kScaleCols", number(of_row), "scales of one row", "long long"},
                    {"kUnitScales", number(of_unit), "scales of 256 columns"},
                    {"kLastScales", number(of_row - (units_of(spec) - 1) * of_unit),
                     "of which the last unit has"},
                    {"kScalesAt", number(spec.scale->header_bytes()),
                     "bytes of the plane of scales before the first"}});
  values["scale_parameter"] = "    unsigned char* __restrict__ scale,\n";
  values["scales"] =
      "    const int lane = threadIdx.x % kWarpThreads;\n"
      "    if (lane < (u == kUnits - 1 ? kLastScales : kUnitScales))\n"
      "      scale[kScalesAt + row * kScaleCols + u * kUnitScales + lane] = (unsigned "
      "char)native_scale(prepared, lane);\n";
  if (spec.scale->header_bytes() == 0) return;
  values["scales"] +=
      "    if (row == 0 && u == 0 && lane < kScalesAt) scale[lane] = lane < kTailBytes ? (unsigned "
      "char)prepared.tail(lane) : 0;\n";
}

}  // namespace

EmittedKernel emit_restore(const KernelSpec& spec, const Lowering& weights) {
  constexpr std::int64_t kMostStoreBytes = 4;
  const Format& format = get_format(spec.weight);
  const LaunchShape shape = shape_of(spec);
  Lowering lowering = weights;
  lowering.summary = "codes and scales moved";
  TemplateValues values = header_values(spec, shape);
  values["arch"] = arch_description(spec, lowering);
  values["math"] = "codes and scales are moved back, none is changed";
  values.erase("cols");
  KernelSpec native = spec;
  native.layout.kind = LayoutKind::kNative;
  values["native_description"] = weight_text(native, "rows");

  const std::int64_t store_bytes =
      std::gcd(kMostStoreBytes, std::gcd(std::int64_t{row_alignment_bytes(format, spec.layout)},
                                         row_bytes(format, kUnitCols)));
  values["store_type"] = store_bytes == 4   ? "unsigned"
                         : store_bytes == 2 ? "unsigned short"
                                            : "unsigned char";
  std::vector<Constant> constants = unit_constants(spec);
  constants.insert(constants.begin(), {"kRowBytes", number(row_bytes(format, spec.layout.cols)),
                                       "bytes of one row of y", "long long"});
  values["scale_parameter"] = "";
  values["scales"] = "";
  if (spec.scale) add_scales(spec, values, constants);
  constants.push_back({"kWarpThreads", number(kWarpThreads), "threads of one warp"});
  constants.push_back({"kStoreBytes", number(store_bytes), "bytes that a thread stores at once"});
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(
      {"Words4", restore_fragment(spec.weight)}, restore_variants(spec.weight));
  return {fill_template(get_template("cuda/restore.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

EmittedKernel emit_dequant_prepared(const KernelSpec& spec, const Lowering& lowering) {
  const std::string_view y_name = get_format(spec.y_format).name;
  const LaunchShape shape = shape_of(spec);
  TemplateValues values = header_values(spec, shape);
  values.erase("scale_description");  // none: see dequantizes_prepared
  values["arch"] = arch_description(spec, lowering);
  values["y_name"] = y_name;
  values["y_type"] = io_type(spec.y_format);

  std::vector<Constant> constants = unit_constants(spec);
  constants.insert(constants.begin(), {"kCols", number(spec.layout.cols), "columns of w and y"});
  constants.push_back({"kRun", number(kRun), "consecutive elements decoded at a time"});
  values["constants"] = format_constants(constants);

  KernelSpec in_shared = spec;  // rows of 256 columns, one after another
  in_shared.layout.cols = kUnitCols;
  FragmentVariants variants = variants_for(in_shared, lowering);
  variants.merge(restore_variants(spec.weight));
  values["functions"] = FragmentLibrary::of("cuda").splice(
      {"Words4", restore_fragment(spec.weight), decode_run_fragment(spec.weight),
       fmt::format("store_run_{}", y_name)},
      variants);
  return {fill_template(get_template("cuda/dequant_prepared.cu.in"), values), kernel_name(spec),
          shape, lowering};
}

}  // namespace ktjit::codegen
