#include "codegen/cuda_warpgroup_tiles.h"

#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/product_text.h"

namespace ktjit::codegen {
namespace {

constexpr int kLists = 2;  // of slots: the tile's that is multiplied, and the next one's

bool has_gate(const KernelSpec& spec) { return spec.gate != Gate::kNone; }

/// Tiles one after another, as the grid counts them.
void add_counted_tiles(const KernelSpec& spec, const CopyCall& copy, TemplateValues& values) {
  values["more_barriers"] = values["init_barriers"] = values["end_copies"] = "";
  values["count_tiles"] =
      "  const int x_tiles = (int)((n + kTileX - 1) / kTileX);\n"
      "  const int all_tiles = (int)((rows + kTiles * 16 - 1) / (kTiles * 16)) * x_tiles; // a "
      "grid "
      "has no more\n";
  values["begin_copies"] =
      "    for (int tile = (int)blockIdx.x; tile < all_tiles; tile += (int)gridDim.x) {\n"
      "      const long long first_row = (long long)(tile / x_tiles) * (kTiles * 16);\n"
      "      const long long first_x = (long long)(tile % x_tiles) * kTileX;\n"
      "      const int last_x = (int)min_of(kTileX, n - first_x) - 1;\n"
      "      const unsigned char* const own_x = x + first_x * kXRowBytes + 16 * own_place;\n";
  values["copy_units"] =
      "          copy_unit_tile<kTiles>(unit_ring + slot * (kTiles * kUnitBytes), w, first_row, "
      "rows, "
      "s / kUnitStages);\n";
  values["copy_x"] = fmt::format(
      "        if (last_x == kTileX - 1) {{\n"
      "          const unsigned char* const from = own_x + own_row * kXRowBytes + 128 * s;\n"
      "#pragma unroll{0}\n"
      "          for (int i = 0; i < kTileX / 16; ++i) {1}(to + 2048 * i, from + 16 * i * "
      "kXRowBytes{2});\n"
      "        }} else {{ // past the last row of x, that is read again\n"
      "#pragma unroll 1\n"
      "          for (int i = 0; i < kTileX / 16; ++i) {{\n"
      "            const int row = own_row + 16 * i < last_x ? own_row + 16 * i : last_x;\n"
      "            {1}(to + 2048 * i, own_x + row * kXRowBytes + 128 * s{2});\n"
      "          }} // i: rows of this thread\n"
      "        }}\n",
      copy.more_arguments.empty() ? "" : " 4",  // more registers than threads that copy have
      copy.name, copy.more_arguments);
  values["begin_tiles"] =
      "  for (int tile = (int)blockIdx.x; tile < all_tiles; tile += (int)gridDim.x) {\n"
      "    const int row_tile = tile / x_tiles * kTiles + tile_of_cta;\n";
  values["store"] = fmt::format(
      "    store_tile(total, y{}, (long long)row_tile * 16, (long long)(tile % x_tiles) * kTileX, "
      "rows, n, group, q);\n",
      spec.bias ? ", bias" : "");
}

std::string begin_copies(const KernelSpec& spec, const TileOfY& tile) {
  return fmt::format(
      "    Meeting meeting = {{looked, 0}};\n"
      "    ExpertTiles tiles = {{blockIdx.x, 0u, -kExpertsAtOnce, 0, 0, 0}};\n"
      "    long long expert = 0; // whose weights the pointers are at\n"
      "    int list_step = 0;    // lists are counted through all tiles\n"
      "    while (tiles.next(places, meeting, ids, slots, experts, rows)) {{\n"
      "      const int list_place = list_step % kLists;\n"
      "      TileList& list = lists[list_place];\n"
      "      wait_for_barrier(list_emptied + 8 * list_place, list_step / kLists % 2 ^ 1);\n"
      "      const int tile_slots =\n"
      "          list_slots(places, list.rows, meeting, ids, slots, slots_per_x, tiles.expert, "
      "tiles.first_slot);\n"
      "      if (threadIdx.x == 0) {{\n"
      "        list.slots = tile_slots;\n"
      "        list.expert = tiles.expert;\n"
      "        list.first_row = tiles.first_row;\n"
      "      }}\n"
      "      arrive_at_barrier(list_filled + 8 * list_place);\n"
      "      ++list_step;\n"
      "{}"
      "      const long long first_row = tiles.first_row;\n"
      "      unsigned own_x[kTileX / 16]; // where this thread's places of rows of x begin, in 16 "
      "bytes\n"
      "#pragma unroll\n"
      "      for (int i = 0; i < kTileX / 16; ++i) {{\n"
      "        const int row = (int)min_of(own_row + 16 * i, tile_slots - 1);\n"
      "        own_x[i] = (unsigned)list.rows.x_row[row] * (unsigned)(kXRowBytes / 16) + "
      "(unsigned)own_place;\n"
      "      }} // i: rows of this thread\n",
      move_to_expert(spec, {ArgumentRole::kWeights}, "tiles.expert", tile.weight_stride, 6));
}

std::string begin_tiles(const KernelSpec& spec, const TileOfY& tile) {
  std::string text;
  const bool has_scale = spec.scale && spec.layout.kind == LayoutKind::kNative;
  if (has_scale && has_gate(spec)) {
    text += fmt::format("  const {}* scale = tile_of_cta < kTiles / 2 ? scale_gate : scale_up;\n",
                        scale_c_type(spec.scale->type));
  }
  KernelSpec own = spec;
  if (has_scale) own.gate = Gate::kNone;  // the scale that is chosen
  std::string move;
  if (has_scale || spec.bias) {
    text += "  long long expert = 0; // whose scales or bias the pointers are at\n";
    if (has_scale)
      move = move_to_expert(own, {ArgumentRole::kScale}, "list.expert", tile.weight_stride, 4);
    if (spec.bias) {
      if (!move.empty()) move.erase(move.rfind("    expert = "));
      std::string bias =
          move_to_expert(spec, {ArgumentRole::kBias}, "list.expert", tile.weight_stride, 4);
      if (!move.empty()) bias.erase(0, bias.find('\n') + 1);
      move += bias;
    }
  }
  return text + fmt::format(
                    "  for (int list_step = 0;; ++list_step) {{\n"
                    "    const int list_place = list_step % kLists;\n"
                    "    const TileList& list = lists[list_place];\n"
                    "    wait_for_barrier(list_filled + 8 * list_place, list_step / kLists % 2);\n"
                    "    const int tile_slots = list.slots;\n"
                    "    if (tile_slots == 0) break;\n"
                    "{}"
                    "    const int row_tile = (int)(list.first_row / 16) + {};\n",
                    move, has_gate(spec) ? "tile_of_cta % (kTiles / 2)" : "tile_of_cta");
}

/// Statements that store a tile's sums, with a gate what the warps of w_gate make of theirs and those of w_up.
std::string store(const KernelSpec& spec, std::vector<std::string>& names) {
  const std::string call = fmt::format(
      "store_tile(total, y{}, (long long)row_tile * 16, list.rows.slot, rows, tile_slots, group, "
      "q);\n",
      spec.bias && !has_gate(spec) ? ", bias" : "");
  const std::string leave =
      "    __syncwarp(); // all lanes have read the list\n"
      "    if (lane == 0) arrive_at_barrier(list_emptied + 8 * list_place);\n";
  if (!has_gate(spec)) return "    " + call + leave;
  std::string bias;
  if (spec.bias) {
    bias =
        "        const long long row = min_of((long long)row_tile * 16 + group + i / 2 % 2 * 8, "
        "rows - 1);\n";
  }
  return fmt::format(
             "    float* const own_up = up_sums + tile_of_cta % (kTiles / 2) * (kTileX * 16) + "
             "lane;\n"
             "    const unsigned own_barrier = 8u * (unsigned)(tile_of_cta % (kTiles / 2));\n"
             "    if (tile_of_cta >= kTiles / 2) {{\n"
             "      wait_for_barrier(up_emptied + own_barrier, list_step % 2 ^ 1);\n"
             "#pragma unroll\n"
             "      for (int i = 0; i < kTileX / 2; ++i) own_up[32 * i] = total[i];\n"
             "      arrive_at_barrier(up_filled + own_barrier);\n"
             "    }} else {{\n"
             "      wait_for_barrier(up_filled + own_barrier, list_step % 2);\n"
             "#pragma unroll\n"
             "      for (int i = 0; i < kTileX / 2; ++i) {{\n"
             "{}"
             "        const float gate = total[i];\n"
             "        const float up = own_up[32 * i];\n"
             "        total[i] = {};\n"
             "      }} // i: sums\n"
             "      arrive_at_barrier(up_emptied + own_barrier);\n"
             "      {}"
             "    }}\n",
             bias, product_result(spec, "", "row", names), call) +
         leave;
}

}  // namespace

ExpertPlan plan_experts(const KernelSpec& spec, int w_tiles, int x_rows, int copy_threads,
                        std::int64_t begin) {
  ExpertPlan plan;
  plan.end = begin;
  if (!has_experts(spec.op)) return plan;
  const auto aligned = [](std::int64_t bytes) { return ceil_div(bytes, 16) * 16; };
  constexpr int kListHeadBytes = 16;  // slots, expert, first_row
  plan.places_at = aligned(begin);
  plan.lists_at = aligned(plan.places_at + expert_tiles_smem_bytes(0, copy_threads));
  plan.exchange_at = plan.lists_at + kLists * aligned(std::int64_t{8} * x_rows + kListHeadBytes);
  plan.barriers = 2 * kLists + 1;
  plan.end = plan.exchange_at;
  if (!has_gate(spec)) return plan;
  plan.end += std::int64_t{4} * w_tiles / 2 * kUnitRowsOfTile * x_rows;
  plan.barriers += w_tiles;
  return plan;
}

void add_warpgroup_tile_values(const KernelSpec& spec, const TileOfY& tile, const ExpertPlan& plan,
                               const CopyCall& copy, TemplateValues& values,
                               std::vector<Constant>& constants, FragmentVariants& variants,
                               std::vector<std::string>& names) {
  const std::int64_t y_rows = y_rows_of_tile(spec, tile.w_rows);
  values["tensor_descriptions"] = tensor_descriptions(spec);
  values["parameters"] = tile_parameters(spec, tile);
  if (!has_experts(spec.op)) {
    values["grid"] = fmt::format("ceil(rows / {}) * ceil(n / {})", y_rows, tile.x_rows);
    add_counted_tiles(spec, copy, values);
    return;
  }
  names.insert(names.end(), {"ExpertTiles", "list_slots", "store_strays", "TileList",
                             fmt::format("store_element_{}", get_format(spec.y_format).name)});
  variants["Meeting"] = "barrier";
  const auto number = [](std::int64_t value) { return fmt::format("{}", value); };
  add_expert_constants(spec, tile, "kCopyThreads", constants);
  constants.insert(
      constants.end(),
      {{"kLists", number(kLists), "lists of a tile's slots: in use or being made"},
       {"kPlacesAt", number(plan.places_at), "bytes of shared memory before the counts"},
       {"kListsAt", number(plan.lists_at), "before the lists"}});
  values["grid"] = fmt::format("ceil(rows / {}) * slots", y_rows);
  values["count_tiles"] =
      "  ExpertPlaces& places = *(ExpertPlaces*)(shared + kPlacesAt);\n"
      "  TileList* const lists = (TileList*)(shared + kListsAt);\n";
  values["more_barriers"] =
      "  const unsigned list_filled = unit_emptied + 8 * kUnitSlots;\n"
      "  const unsigned list_emptied = list_filled + 8 * kLists;\n"
      "  const unsigned looked = list_emptied + 8 * kLists; // of the threads that look for "
      "tiles\n";
  values["init_barriers"] =
      "#pragma unroll\n"
      "    for (int i = 0; i < kLists; ++i) {\n"
      "      init_barrier(list_filled + 8 * i, kCopyThreads);\n"
      "      init_barrier(list_emptied + 8 * i, kTiles);\n"
      "    } // i: lists\n"
      "    init_barrier(looked, kCopyThreads);\n";
  if (has_gate(spec)) {
    constants.push_back({"kUpSumsAt", number(plan.exchange_at), "before the sums of w_up"});
    values["count_tiles"] += "  float* const up_sums = (float*)(shared + kUpSumsAt);\n";
    values["more_barriers"] +=
        "  const unsigned up_filled = looked + 8;\n"
        "  const unsigned up_emptied = up_filled + 8 * (kTiles / 2);\n";
    values["init_barriers"] +=
        "#pragma unroll\n"
        "    for (int i = 0; i < kTiles / 2; ++i) {\n"
        "      init_barrier(up_filled + 8 * i, 32);\n"
        "      init_barrier(up_emptied + 8 * i, 32);\n"
        "    } // i: warps of w_up\n";
  }
  values["begin_copies"] = begin_copies(spec, tile);
  const std::string second_w = has_gate(spec) ? "w_up" : "w";
  const std::string second_row = has_gate(spec) ? "first_row" : "first_row + kTiles * 8";
  values["copy_units"] = fmt::format(
      "          unsigned char* const units = unit_ring + slot * (kTiles * kUnitBytes);\n"
      "          copy_unit_tile<kTiles / 2>(units, {}, first_row, rows, s / kUnitStages);\n"
      "          copy_unit_tile<kTiles / 2>(units + kTiles / 2 * kUnitBytes, {}, {}, rows, s / "
      "kUnitStages);\n",
      has_gate(spec) ? "w_gate" : "w", second_w, second_row);
  // What is multiplied past the tile's slots isn't stored: it has to be there, that is all.
  values["copy_x"] = fmt::format(
      "#pragma unroll\n"
      "        for (int i = 0; i < kTileX / 16; ++i) {{\n"
      "          if (own_row + 16 * i < tile_slots || stage < kStages) {}(to + 2048 * i, x + 16ll "
      "* "
      "own_x[i] + 128 * s{});\n"
      "        }} // i: rows of this thread; past the last slot's, what lies there\n",
      copy.name, copy.more_arguments);
  values["end_copies"] =
      "    const int list_place = list_step % kLists;\n"
      "    wait_for_barrier(list_emptied + 8 * list_place, list_step / kLists % 2 ^ 1);\n"
      "    if (threadIdx.x == 0) lists[list_place].slots = 0; // no tile is left\n"
      "    arrive_at_barrier(list_filled + 8 * list_place);\n"
      "    if (places.has_strays) store_strays(ids, slots, experts, y, rows);\n";
  values["begin_tiles"] = begin_tiles(spec, tile);
  values["store"] = store(spec, names);
}

}  // namespace ktjit::codegen
