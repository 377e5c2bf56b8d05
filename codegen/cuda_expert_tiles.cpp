#include "codegen/cuda_expert_tiles.h"

#include <algorithm>
#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/product_text.h"

namespace ktjit::codegen {
namespace {

constexpr int kExpertsAtOnce = 512;  // a power of two

}  // namespace

std::string tile_parameters(const KernelSpec& spec, const TileOfY& tile) {
  std::string text;
  for (const LaunchArgument& argument : launch_order(spec)) {
    text += text.empty() ? "    " : ",\n    ";
    text += argument.role == ArgumentRole::kX ? fmt::format("const {}* __restrict__ x", tile.x_type)
                                              : declaration(spec, argument, " __restrict__");
  }
  return text;
}

std::string move_to_expert(const KernelSpec& spec, std::initializer_list<ArgumentRole> roles,
                           const std::string& to, const std::string& weight_stride, int spaces) {
  const std::string margin(static_cast<std::size_t>(spaces), ' ');
  std::string text = fmt::format(
      "{}const long long experts_on = {} - expert; // from the last tile's\n", margin, to);
  for (const LaunchArgument& argument : launch_order(spec)) {
    if (std::find(roles.begin(), roles.end(), argument.role) == roles.end()) continue;
    const std::string stride = argument.role == ArgumentRole::kWeights ? "(" + weight_stride + ")"
                               : argument.role == ArgumentRole::kScale
                                   ? expert_scale_stride(spec, "rows")
                                   : "rows";
    text +=
        fmt::format("{}{} += experts_on * {};\n", margin, argument_name(spec, argument), stride);
  }
  return text + fmt::format("{}expert = {};\n", margin, to);
}

void add_expert_constants(const KernelSpec& spec, const TileOfY& tile, const std::string& threads,
                          std::vector<Constant>& constants) {
  constants.insert(
      constants.end(),
      {{"kYRows", fmt::format("{}", y_rows_of_tile(spec, tile.w_rows)),
        "rows of y, along the rows of w, of a CTA"},
       {"kExpertsAtOnce", fmt::format("{}", kExpertsAtOnce), "whose slots are counted together"},
       {"kListThreads", threads, "threads that look for the CTA's tiles"}});
}

std::int64_t y_rows_of_tile(const KernelSpec& spec, int w_rows) {
  return spec.gate == Gate::kNone ? w_rows : w_rows / 2;
}

LaunchShape tiles_launch(const KernelSpec& spec, const TileOfY& tile) {
  LaunchShape shape{.rows_per_cta = y_rows_of_tile(spec, tile.w_rows),
                    .threads = static_cast<unsigned>(tile.threads),
                    .smem_bytes = tile.smem_bytes,
                    .x_rows_per_cta = tile.x_rows};
  if (!has_experts(spec.op)) return shape;
  // How many tiles there are the ids say; each slot has one at most for each tile of rows.
  shape.x_rows_per_cta = 1;
  shape.is_flat = true;
  shape.ctas_per_multiprocessor = static_cast<unsigned>(tile.ctas);
  return shape;
}

std::int64_t expert_tiles_smem_bytes(int x_rows, int threads) {
  constexpr int kWords = 1;  // has_strays
  return std::int64_t{4} * (kExpertsAtOnce + threads / kWarpThreads + kWords + 2 * x_rows);
}

void add_tile_values(const KernelSpec& spec, const TileOfY& tile, TemplateValues& values,
                     std::vector<Constant>& constants, FragmentVariants& variants,
                     std::vector<std::string>& names) {
  const std::int64_t y_rows = y_rows_of_tile(spec, tile.w_rows);
  values["tensor_descriptions"] = tensor_descriptions(spec);
  values["parameters"] = tile_parameters(spec, tile);
  if (!has_experts(spec.op)) {
    values["grid"] = fmt::format("ceil(rows / {}), ceil(n / {})", y_rows, tile.x_rows);
    values["begin_tiles"] = fmt::format(
        "  const long long {};\n"
        "  const long long first_x = (long long)blockIdx.y * kTileX;\n",
        tile.counts_unit_rows ? "first_tile = (long long)blockIdx.x * kTiles"
                              : "first_row = (long long)blockIdx.x * kTileRows");
    values["end_tiles"] = "";
    return;
  }
  names.insert(names.end(), {"ExpertTiles", "list_slots", "store_strays"});
  variants["Meeting"] = "all";
  add_expert_constants(spec, tile, "kThreads", constants);
  values["grid"] = fmt::format("ceil(rows / {}) * slots or less, 1", y_rows);
  values["begin_tiles"] = fmt::format(
      "  __shared__ ExpertPlaces places;\n"
      "  __shared__ TileSlots list;\n"
      "  Meeting meeting;\n"
      "  ExpertTiles tiles = {{blockIdx.x, 0u, -kExpertsAtOnce, 0, 0, 0}};\n"
      "  long long expert = 0; // whose weights the pointers are at\n"
      "  while (tiles.next(places, meeting, ids, slots, experts, rows)) {{\n"
      "    const int tile_slots =\n"
      "        list_slots(places, list, meeting, ids, slots, slots_per_x, tiles.expert, "
      "tiles.first_slot);\n"
      "{}"
      "    const long long {};\n",
      move_to_expert(spec, {ArgumentRole::kWeights, ArgumentRole::kScale, ArgumentRole::kBias},
                     "tiles.expert", tile.weight_stride, 4),
      tile.counts_unit_rows ? "first_tile = tiles.first_row / 16" : "first_row = tiles.first_row");
  values["end_tiles"] =
      "  }\n"
      "  if (places.has_strays) store_strays(ids, slots, experts, y, rows);\n";
}

std::string placed_tile(const KernelSpec& spec, const std::string& text) {
  return has_experts(spec.op) ? "  " + indented(text, 2) + "\n" : text;
}

std::string x_row_of_tile(const KernelSpec& spec, const std::string& row) {
  return has_experts(spec.op)
             ? fmt::format("(long long)list.x_row[min_of({}, tile_slots - 1)]", row)
             : fmt::format("min_of(first_x + {}, n - 1)", row);
}

StoredRows stored_rows(const KernelSpec& spec, const std::string& row) {
  if (!has_experts(spec.op)) return {"first_x + ", "n", "long long", row};
  return {"", "tile_slots", "int", fmt::format("(long long)list.slot[{}]", row)};
}

std::string select_gate_matrix(const KernelSpec& spec, const std::string& is_up, int spaces) {
  if (spec.gate == Gate::kNone) return "";
  const std::string margin(static_cast<std::size_t>(spaces), ' ');
  std::string text =
      fmt::format("{}const unsigned char* const w = {} ? w_up : w_gate;\n", margin, is_up);
  if (spec.scale && spec.layout.kind == LayoutKind::kNative) {
    text += fmt::format("{}const {}* const scale = {} ? scale_up : scale_gate;\n", margin,
                        scale_c_type(spec.scale->type), is_up);
  }
  return text;
}

std::string product_result(const KernelSpec& spec, const std::string& total, const std::string& row,
                           std::vector<std::string>& names) {
  if (spec.bias) names.push_back(fmt::format("load_bias_{}", get_format(*spec.bias).name));
  const auto biased = [&](const std::string& sum, const std::string& bias) {
    return spec.bias ? fmt::format("{} + load_bias({}, {})", sum, bias, row) : sum;
  };
  if (spec.gate == Gate::kNone) return biased(total, "bias");
  names.push_back(gate_fragment(spec));
  const std::string up = biased("up", "bias_up");
  return fmt::format("activate({}) * {}", biased("gate", "bias_gate"),
                     spec.bias ? fmt::format("({})", up) : up);
}

}  // namespace ktjit::codegen
