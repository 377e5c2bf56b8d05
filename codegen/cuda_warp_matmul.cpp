// How weights reach mma.sync without being stored in between: tiles and the places in shared memory, and what of the
// skeleton's text depends on the format.
#include "codegen/cuda_warp_matmul.h"

#include <algorithm>
#include <array>
#include <bit>
#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/cuda_unit_matvec.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/error.h"
#include "core/prepared_layout.h"

namespace ktjit::codegen {
namespace {

constexpr int kStageCols = 64;
constexpr int kRowBytesOfStage = 2 * kStageCols;
constexpr int kVectorBytes = 512;  // 16 bytes of each lane
constexpr int kXGroup = 4;
constexpr int kLeastStages = 2, kMostStages = 4;

std::string number(std::int64_t value) { return fmt::format("{}", value); }

bool is_prepared(const KernelSpec& spec) { return spec.layout.kind == LayoutKind::kPrepared; }
bool is_16_bit(const KernelSpec& spec) {
  return spec.weight == FormatId::kBF16 || spec.weight == FormatId::kF16;
}

/// Tiles, and the places in shared memory.
struct Plan {
  int x = 0;          ///< rows of x of a CTA
  int row_tiles = 0;  ///< 16-row tiles of a warp
  int warps_rows = 0, warps_k = 0;
  int ctas = 0;           ///< that share a multiprocessor
  int stages = 0;         ///< of x
  int chunk_vectors = 0;  ///< of codes that are copied at once, of each row tile
  int chunk_stages = 0;   ///< that they serve
  int head_bytes = 0;     ///< of a unit, heads and tails
  int blocks = 0;         ///< of 256 columns, with factors in a table; 0: no table
  std::int64_t w_at = 0, heads_at = 0, tables_at = 0, smem_bytes = 0;

  int warps() const { return warps_rows * warps_k; }
  int threads() const { return warps() * kWarpThreads; }
  int tiles() const { return warps_rows * row_tiles; }
  int rows() const { return tiles() * kUnitRows; }
  int chunk_slots() const { return chunk_stages == 1 ? stages : 2; }
  int table_rows() const { return row_tiles * kUnitRows; }
  /// Passes in which products leave by way of shared memory.
  int passes() const {
    constexpr int kRowPad = 4;
    int count = 1;
    while (std::int64_t{4} * warps_k * (x / count) * (rows() + kRowPad) > smem_bytes &&
           x / count > 8)
      count *= 2;
    return count;
  }

  void lay_out() {
    w_at = std::int64_t{1} * stages * warps_k * x * kRowBytesOfStage;
    heads_at =
        w_at + std::int64_t{1} * warps() * chunk_slots() * row_tiles * chunk_vectors * kVectorBytes;
    constexpr int kTableAlignment = 128;
    const std::int64_t heads_end = heads_at + std::int64_t{1} * warps() * row_tiles * head_bytes;
    tables_at = ceil_div(heads_end, kTableAlignment) * kTableAlignment;
    smem_bytes = tables_at + std::int64_t{8} * warps() * blocks * table_rows();
  }
};

/// For few rows of x warps share the columns, so that a multiprocessor has several CTAs' codes on their way: with 16 and 64
/// rows of x these shapes were the fastest on an H200 of those with as many rows of w or twice and four times as many (sm_86
/// code, q4_K and e4m3, 2026-11-24). The large tile is what 255 registers hold.
Plan shape_of(int x) {
  switch (x) {
    case 16:
      return {.x = x, .row_tiles = 2, .warps_rows = 1, .warps_k = 4, .ctas = 3};
    case 32:
    case 64:
      return {.x = x, .row_tiles = 2, .warps_rows = 1, .warps_k = 4, .ctas = 2};
    case 128:
      return {.x = x, .row_tiles = 2, .warps_rows = 4, .warps_k = 1, .ctas = 2};
    default:
      throw SpecError("x_tile", number(x), "16, 32, 64 or 128");
  }
}

Plan make_plan(const KernelSpec& spec) {
  constexpr int kDefaultTile = 128, kDefaultStages = 3;
  Plan plan = shape_of(spec.tuning.x_tile == 0 ? kDefaultTile : spec.tuning.x_tile);
  const int wanted = spec.tuning.stages;
  if (wanted != 0 && (wanted < kLeastStages || wanted > kMostStages))
    throw SpecError("stages", number(wanted), fmt::format("{} to {}", kLeastStages, kMostStages));
  plan.stages = wanted == 0 ? kDefaultStages : wanted;
  if (is_prepared(spec)) {
    const PreparedLayout& layout = *find_prepared_layout(spec.weight);
    const bool by_pairs = layout.packing == CodePacking::k8;
    plan.chunk_vectors = by_pairs ? 2 : layout.code_bits();
    plan.chunk_stages = by_pairs ? 1 : 4;
    plan.head_bytes = kUnitRows * (layout.head_bytes + layout.tail_bytes);
    plan.blocks = kUnitCols / unit_block_cols(spec.weight);
  } else {
    plan.chunk_vectors = is_16_bit(spec) ? 4 : 2;
    plan.chunk_stages = 1;
    plan.blocks = spec.scale ? kUnitCols / kStageCols : 0;
  }
  const std::int64_t limit = get_cuda_facts(spec.target).smem_per_cta_bytes;
  plan.lay_out();
  while (plan.smem_bytes > limit) {
    if (wanted == 0 && plan.stages > kLeastStages) {
      --plan.stages;
    } else if (plan.warps_k > 1) {
      plan.warps_k /= 2;
    } else {
      throw SpecError("stages", number(plan.stages),
                      fmt::format("fewer: {} has {} bytes of shared memory for a CTA, not {}",
                                  spec.target.name(), limit, plan.smem_bytes));
    }
    plan.lay_out();
  }
  return plan;
}

/// `copy_w` of units: chunks of codes, and heads and tails where a unit begins.
std::string copy_units() {
  return "  // Begins to copy what this lane reads of w for a stage and those that share its "
         "chunk; past the last tile of rows,\n"
         "  // that is read again and its sums are not stored.\n"
         "  const long long last_tile = (rows - 1) / 16;\n"
         "  constexpr int kSlotBytes = kRowTiles * kChunkVectors * 512;\n"
         "  unsigned char* const own_w = shared + kept((unsigned)(kWAt + warp * (kChunkSlots * "
         "kSlotBytes) + 16 * lane));\n"
         "  unsigned char* const own_heads = shared + kHeadsAt + warp * (kRowTiles * kHeadBytes);\n"
         "  const unsigned char* own_tile[kRowTiles];\n"
         "#pragma unroll\n"
         "  for (int m = 0; m < kRowTiles; ++m) {\n"
         "    const long long tile = min_of(first_tile + warp_tile + m, last_tile);\n"
         "    own_tile[m] = kept(w + tile * (kUnits * (long long)kUnitBytes) + 16 * lane);\n"
         "  } // m: 16-row tiles\n"
         "  const auto copy_w = [&](int stage, int slot) {\n"
         "    if (stage % kChunkStages != 0) return;\n"
         "    const int last_u = kUnits - 1; // is copied again by warps that have no more\n"
         "    const int own_u = stage / 4 * kWarpsK + warp_k;\n"
         "    const int u = kUnits % kWarpsK == 0 || own_u < last_u ? own_u : last_u;\n"
         "    const unsigned to = shared_address(own_w) + slot * kSlotBytes;\n"
         "    const unsigned heads_to = shared_address(own_heads) + 16 * lane;\n"
         "#pragma unroll\n"
         "    for (int m = 0; m < kRowTiles; ++m) {\n"
         "      const unsigned char* const from =\n"
         "          own_tile[m] + u * kUnitBytes + stage % 4 / kChunkStages * (kChunkVectors * "
         "512);\n"
         "#pragma unroll\n"
         "      for (int i = 0; i < kChunkVectors; ++i)\n"
         "        copy_vector(to + (m * kChunkVectors + i) * 512, from + i * 512);\n"
         "      if (stage % 4 == 0) {\n"
         "#pragma unroll\n"
         "        for (int i = 0; i < kHeadBytes; i += 512) {\n"
         "          if (i + 512 <= kHeadBytes || i + 16 * lane < kHeadBytes)\n"
         "            copy_vector(heads_to + m * kHeadBytes + i, from + 512 * kCodeVectors + i);\n"
         "        } // i: 512 bytes\n"
         "      }\n"
         "    } // m: 16-row tiles\n"
         "  };\n";
}

/// Statements of copy_w: the unit of the warp's that a stage is of.
constexpr std::string_view kUnitOfStage =
    "    const int last_u = kUnits - 1; // is copied again by warps that have no more\n"
    "    const int own_u = stage / 4 * kWarpsK + warp_k;\n"
    "    const int u = kUnits % kWarpsK == 0 || own_u < last_u ? own_u : last_u;\n";

/// `copy_w` of FP8 codes as they are.
std::string copy_bytes() {
  return "  // Begins to copy what this lane reads of w for a stage: 16 columns of two rows of "
         "each tile. Past the last row, that is\n"
         "  // read again and its sums are not stored.\n"
         "  constexpr int kSlotBytes = kRowTiles * kChunkVectors * 512;\n"
         "  unsigned char* const own_w = shared + kept((unsigned)(kWAt + warp * (kChunkSlots * "
         "kSlotBytes) + 16 * lane));\n"
         "  const unsigned char* own_row[kRowTiles][2];\n"
         "#pragma unroll\n"
         "  for (int m = 0; m < kRowTiles; ++m) {\n"
         "#pragma unroll\n"
         "    for (int r = 0; r < 2; ++r) {\n"
         "      const long long row = min_of((first_tile + warp_tile + m) * 16 + group + 8 * r, "
         "rows - 1);\n"
         "      own_row[m][r] = kept(w + row * kRowBytes);\n"
         "    } // r: rows\n"
         "  } // m: 16-row tiles\n"
         "  const auto copy_w = [&](int stage, int slot) {\n" +
         std::string(kUnitOfStage) +
         "#pragma unroll\n"
         "    for (int m = 0; m < kRowTiles; ++m) {\n"
         "#pragma unroll\n"
         "      for (int r = 0; r < 2; ++r) {\n"
         "        unsigned char* const to = own_w + slot * kSlotBytes + (m * kChunkVectors + r) * "
         "512;\n"
         "        copy_row_vector(to, own_row[m][r], 256 * u + 64 * (stage % 4) + 16 * q);\n"
         "      } // r: rows\n"
         "    } // m: 16-row tiles\n"
         "  };\n";
}

/// `copy_w` of 16-bit numbers as they are.
std::string copy_halves() {
  return "  // Begins to copy what the warp reads of w for a stage: eight lanes have the 64 "
         "columns of every fourth row. 16 bytes go\n"
         "  // where the lane that feeds them reads. Past the last row, that is read again and its "
         "sums are not stored.\n"
         "  constexpr int kSlotBytes = kRowTiles * kChunkVectors * 512;\n"
         "  const int own_piece = lane % 8; // of the columns\n"
         "  unsigned char* const warp_w = shared + kWAt + warp * (kChunkSlots * kSlotBytes);\n"
         "  unsigned char* const own_w = shared + kept((unsigned)(kWAt + warp * (kChunkSlots * "
         "kSlotBytes) + 16 * lane));\n"
         "  unsigned char* const own_w_place = warp_w + own_piece % 2 * 512 + 64 * (lane / 8) + 16 "
         "* (own_piece / 2);\n"
         "  const auto copy_w = [&](int stage, int slot) {\n" +
         std::string(kUnitOfStage) +
         "#pragma unroll\n"
         "    for (int m = 0; m < kRowTiles; ++m) {\n"
         "#pragma unroll\n"
         "      for (int i = 0; i < 4; ++i) {\n"
         "        const long long row = min_of((first_tile + warp_tile + m) * 16 + 4 * i + lane / "
         "8, rows - 1);\n"
         "        unsigned char* const to =\n"
         "            own_w_place + slot * kSlotBytes + m * kChunkVectors * 512 + i / 2 * 1024 + i "
         "% 2 * 256;\n"
         "        copy_row_vector(to, w + row * kRowBytes, 512 * u + 128 * (stage % 4) + 16 * "
         "own_piece);\n"
         "      } // i: four rows\n"
         "    } // m: 16-row tiles\n"
         "  };\n";
}

/// Statements at a unit's first stage: each lane makes the factors of rows.
std::string make_unit_tables(bool has_minima) {
  std::string text =
      "  const auto make_tables = [&](int) {\n"
      "    __syncwarp(); // the tables of the unit before have been read\n"
      "#pragma unroll\n"
      "    for (int own = 0; own < kRowTiles * 16; own += 32) {\n"
      "      const int row = own + lane;\n"
      "      if (kRowTiles * 16 % 32 != 0 && row >= kRowTiles * 16) break;\n"
      "      Unit unit = {};\n"
      "      load_scales(own_heads + row / 16 * kHeadBytes - 512 * kCodeVectors, row % 16, unit);\n"
      "      const OwnScales scales = own_scales(unit, 0);\n"
      "#pragma unroll\n"
      "      for (int block = 0; block < kBlocks; ++block) {\n"
      "        const float scale = kFactor * scales.whole() * scales.of_block(block);\n";
  text +=
      has_minima
          ? "        table[block * kTableRows + (row ^ block % 2 * 8)] = block_factor(scale, "
            "block_minimum(unit, scales, block));\n"
          : "        table[block * kTableRows + (row ^ block % 2 * 8)] = block_factor(scale);\n";
  return text +
         "      } // block: of a unit\n"
         "    } // own: rows of this lane\n"
         "    __syncwarp();\n"
         "  };\n";
}

std::string make_row_tables(bool has_pairs) {
  return fmt::format(
      "  const auto make_tables = [&](int v) {{\n"
      "    __syncwarp(); // the tables of the unit before have been read\n"
      "#pragma unroll\n"
      "    for (int i = 0; i < kLaneRows; ++i) {{\n"
      "#pragma unroll\n"
      "      for (int block = 0; block < kBlocks; ++block) {{\n"
      "        if (kRowTiles % 2 == 0 || lane < 16) table[block * kTableRows + 32 * i + lane] = "
      "{};\n"
      "      }} // block: 64 columns\n"
      "    }} // i: rows of this lane\n"
      "    __syncwarp();\n"
      "    load_scales_of(v + 1);\n"
      "  }};\n",
      has_pairs ? "block_factor(next_scale[i][block])"
                : "Words2{__float_as_uint(next_scale[i][block]), 0u}");
}

std::string load_row_scales(const ScaleGrid& grid) {
  return fmt::format(
      "  // Scales of a step's units, of this lane's rows: loaded a step ahead.\n"
      "  float next_scale[kLaneRows][kBlocks];\n"
      "  const auto load_scales_of = [&](int step) {{\n"
      "#pragma unroll\n"
      "    for (int i = 0; i < kLaneRows; ++i) {{\n"
      "      const long long row = min_of((first_tile + warp_tile) * 16 + 32 * i + lane, rows - "
      "1);\n"
      "#pragma unroll\n"
      "      for (int block = 0; block < kBlocks; ++block) {{\n"
      "        const int col = (int)min_of(256 * (step * kWarpsK + warp_k) + 64 * block, kCols - "
      "1);\n"
      "        next_scale[i][block] = load_scale(scale, {});\n"
      "      }} // block: 64 columns\n"
      "    }} // i: rows of this lane\n"
      "  }};\n"
      "  load_scales_of(0);\n",
      scale_index(grid, "row", "col"));
}

/// Two small integers as bits of f16 or bf16.
std::string pair_of(int value, bool is_f16) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  const std::uint32_t f16 =
      bits >> 31 << 15 | ((bits >> 23 & 255) - 127 + 15) << 10 | (bits >> 13 & 0x3ff);
  const std::uint32_t half = is_f16 ? f16 : bits >> 16;
  return fmt::format("{:#010x}u", half << 16 | half);
}

}  // namespace

EmittedKernel emit_warp_matmul(const KernelSpec& spec, const Lowering& weights) {
  const Plan plan = make_plan(spec);
  const bool has_units = is_prepared(spec);
  const bool is_wide = !has_units && is_16_bit(spec);
  LaunchShape shape{.rows_per_cta = plan.rows(),
                    .threads = static_cast<unsigned>(plan.threads()),
                    .x_rows_per_cta = plan.x,
                    .is_flat = true};
  shape.smem_bytes = static_cast<unsigned>(plan.smem_bytes);

  Lowering lowering = weights;
  const bool has_cvt = get_cuda_facts(spec.target).fp8_cvt;
  const bool is_f16 = spec.x_format == FormatId::kF16;
  const std::string pair_type(get_format(spec.x_format).name);
  lowering.summary = fmt::format("{}; mma m16n8k16 {}",
                                 is_wide     ? "as they are"
                                 : has_units ? "codes times scales, rounded to " + pair_type
                                             : weights.summary + ", rounded to " + pair_type,
                                 pair_type);

  const bool cuts_x = spec.layout.cols % (kUnitCols * plan.warps_k) != 0 &&
                      (spec.layout.cols % kStageCols != 0 || plan.warps_k > 1);
  const bool cuts_w = spec.layout.cols % (kUnitCols * plan.warps_k) != 0;
  std::vector<std::string> names = {"min_of",
                                    cuts_x ? "copy_vector_of" : "copy_vector",
                                    "shared_address",
                                    "x_row_of",
                                    "kept",
                                    "end_copy_group",
                                    "wait_for_copies",
                                    "x_place",
                                    "x_sixteen",
                                    "Words4",
                                    "Words2",
                                    "mma"};
  FragmentVariants variants = variants_for(spec, weights);
  variants["mma"] = pair_type + "_k16";
  variants["copy_row_vector"] = cuts_w ? "cut" : "whole";

  TemplateValues values = header_values(spec);
  add_product_values(spec, values, names);
  add_wait(spec, values, names);
  const std::int64_t units = ceil_div(spec.layout.cols, kUnitCols);
  const std::int64_t unit_steps = ceil_div(units, plan.warps_k);
  std::vector<Constant> constants = {
      {"kXRowBytes", number(2 * spec.layout.cols), "bytes of a row of x"},
      {"kThreads", number(plan.threads()), "threads per CTA"},
      {"kCtas", number(plan.ctas), "CTAs that are to share a multiprocessor"},
      {"kWarpsRows", number(plan.warps_rows), "warps side by side along the rows of w"},
      {"kWarpsK", number(plan.warps_k), "along the columns: each has every so manyth unit"},
      {"kRowTiles", number(plan.row_tiles), "16-row tiles of w of a warp"},
      {"kTiles", "kWarpsRows * kRowTiles", "of a CTA"},
      {"kTileX", number(plan.x), "rows of x of a CTA"},
      {"kXTiles", "kTileX / 8", "8-row tiles of x"},
      {"kXGroup", number(std::min(plan.x / 8, kXGroup)), "of which a lane loads at once"},
      {"kStages", number(plan.stages), "of 64 columns of x: in use or on their way"},
      {"kUnits", number(units), "units side by side, of 16 rows and 256 columns"},
      {"kSteps",
       number(plan.warps_k == 1 ? ceil_div(spec.layout.cols, kStageCols) : 4 * unit_steps),
       "stages of a tile"},
      {"kXStageBytes", "kWarpsK * kTileX * 128", "bytes of a stage of x"},
      {"kXRuns", "kWarpsK * kTileX * 8 / kThreads",
       "16-byte vectors of x that a thread copies for a stage"},
      {"kLineStep", "kThreads / 8", "lines of a stage from one of them to the next"},
      {"kWAt", number(plan.w_at), "bytes of shared memory before codes of w"},
      {"kChunkVectors", number(plan.chunk_vectors),
       "16-byte vectors that a lane copies of a row tile at once"},
      {"kChunkSlots", number(plan.chunk_slots()), "places for them: in use or on their way"},
      {"kPasses", number(plan.passes()), "in which products pass through shared memory"}};
  if (is_prepared(spec))
    constants.push_back({"kChunkStages", number(plan.chunk_stages), "stages that a vector serves"});
  int block_cols = 32;
  std::string w_source, make, load, decode;
  std::string more_functions;
  const std::string table = fmt::format(
      "  Words2* const table = (Words2*)(shared + kTablesAt) + warp * (kBlocks * kTableRows);\n"
      "  const unsigned own_factors = kept((unsigned)(kTablesAt + 8 * (warp * (kBlocks * "
      "kTableRows) + {})));\n",
      has_units ? "q / 2 * kTableRows + (group ^ q / 2 * 8)" : "group");
  const auto add_table_constants = [&] {
    constants.push_back(
        {"kBlocks", number(plan.blocks), "of 256 columns, whose numbers share a factor"});
    constants.push_back(
        {"kTablesAt", number(plan.tables_at), "bytes of shared memory before tables of factors"});
    constants.push_back(
        {"kTableRows", number(plan.table_rows()), "places for a block's rows in a table"});
  };
  if (has_units) {
    const PreparedLayout& layout = *find_prepared_layout(spec.weight);
    const UnitDecode form = unit_decode(spec.weight);
    block_cols = form.block_cols;
    const bool has_minima = form.minimum != "none";
    const bool has_shifts =
        std::ranges::any_of(form.code_shifts, [](int shift) { return shift != 0; });
    KTJIT_CHECK(!has_minima || (form.offset == 0 && !form.has_signed_codes));
    names.insert(names.end(), {"copy_vector", "Unit", "pair_codes", "OwnScales", "load_scales",
                               "block_factor", "round_codes"});
    if (has_minima) names.emplace_back("block_minimum");
    if (has_shifts) {
      more_functions += code_shift_text(form.code_shifts);
    }
    add_unit_variants(spec, true, variants);
    if (variants["block_scale"] == "e8m0")
      variants["block_scale"] = form.has_scale_nan ? "e8m0_half_nan" : "e8m0_half";
    variants["Unit"] = "copied";
    variants["unit_minimum"] = variants["OwnScales"] == "s32" ? "none_s32" : "none";
    variants["block_minimum"] = form.minimum;
    variants["code_pairs"] = pair_type + (form.has_signed_codes ? "_signed" : "_unsigned");
    variants["block_factor"] = has_minima ? "minima" : is_f16 ? "scaled_f16" : "scaled";
    variants["round_codes"] = has_minima ? is_f16 ? "minima_f16" : "minima_once"
                              : is_f16   ? "scaled_f16"
                                         : "scaled";
    constants.push_back({"kUnitBytes", number(layout.unit_bytes()), "bytes of a unit"});
    constants.push_back({"kCodeVectors", number(layout.code_bits()),
                         "16-byte vectors of codes that a lane has of a unit"});
    constants.push_back(
        {"kHeadsAt", number(plan.heads_at), "bytes of shared memory before heads and tails"});
    constants.push_back({"kHeadBytes", number(plan.head_bytes), "bytes of them of a unit"});
    add_table_constants();
    constants.push_back({"kFactor", fmt::format("{}f", fmt::format("{:#}", form.factor)),
                         "by which all scales are too small", "float"});
    if (!has_minima && (!form.has_signed_codes || is_f16)) {
      const int magic = !is_f16 ? 128 : form.has_signed_codes ? 1152 : 1024;
      constants.push_back({"kPairOffset", pair_of(-(magic - form.offset), is_f16),
                           fmt::format("{}, twice", -(magic - form.offset)), "unsigned"});
    }
    add_level_constants(spec.weight, true, constants);
    w_source = copy_units() + table;
    make = make_unit_tables(has_minima);
    load =
        "if (pair == 0) make_tables(stage / 4);\n"
        "unsigned codes[kRowTiles][1][2][4];\n"
        "load_codes(own_w + kSlotBytes * (" +
        std::string(plan.chunk_stages == 1 ? "slot" : "stage / 4 % 2") +
        "), pair, codes);\n"
        "const unsigned factors_at = own_factors + 8 * kBlocks / 4 * kTableRows * pair;\n";
    names.emplace_back("load_codes");
    variants["load_codes"] = plan.chunk_stages == 1 ? "any_pair" : "by_pair";
    variants["plain_pair_codes"] = has_shifts ? "shifted" : "plain";
    decode =
        "const unsigned factor_at = (factors_at ^ 64 * r) + 8 * (kBlocks / 16 * 2 * half * "
        "kTableRows + 16 * m);\n"
        "const Words2 factor = *(const Words2*)(shared + factor_at);\n"
        "#pragma unroll\n"
        "for (int k = 0; k < 2; ++k) round_codes(codes[m][0][r][2 * half + k], factor, a[k][m][r], "
        "a[k][m][r + 2]);\n";
  } else {
    names.emplace_back("copy_row_vector");
    constants.push_back({"kRowBytes", number(spec.layout.cols * (is_wide ? 2 : 1)),
                         "bytes of a row of w", "long long"});
    w_source = is_wide ? copy_halves() : copy_bytes();
    load = std::string(spec.scale ? "if (pair == 0) make_tables(stage / 4);\n" : "") +
           "Words4 codes[kRowTiles][kChunkVectors];\n"
           "#pragma unroll\n"
           "for (int m = 0; m < kRowTiles; ++m) {\n"
           "#pragma unroll\n"
           "  for (int i = 0; i < kChunkVectors; ++i) {\n"
           "    codes[m][i] = *(const Words4*)(own_w + slot * kSlotBytes + (m * kChunkVectors + i) "
           "* 512);\n"
           "  } // i: vectors of two rows\n"
           "} // m: 16-row tiles\n";
    if (is_wide) {
      w_source +=
          "  // 0, which compilers don't know: a word of w becomes another where mma wants it, not "
          "a copy for each mma.\n"
          "  const unsigned nothing = (unsigned)(rows >> 62);\n";
      decode =
          "#pragma unroll\n"
          "for (int k = 0; k < 2; ++k) {\n"
          "  a[k][m][r] = codes[m][2 * r + half].word[2 * k] ^ nothing;\n"
          "  a[k][m][r + 2] = codes[m][2 * r + half].word[2 * k + 1] ^ nothing;\n"
          "} // k: steps of 16 columns\n";
    } else {
      const bool is_e4m3 = spec.weight == FormatId::kFp8E4M3;
      variants["Head"] = "4";  // none
      variants["Tail"] = "none";
      const bool by_f32 = spec.scale && (has_cvt || is_f16);
      const bool by_cvt = has_cvt && (by_f32 || is_f16);
      const bool is_finite = is_e4m3 && spec.weights_finite && !by_cvt;
      add_pair_variants(fmt::format("{}_{}{}", get_format(spec.weight).name,
                                    by_cvt             ? "cvt"
                                    : by_f32 || is_f16 ? "f16x2"
                                                       : "bf16x2",
                                    is_finite ? "_finite" : ""),
                        variants);
      const std::string code = "codes[m][r].word[2 * half + k]";
      const std::string operands = ", a[k][m][r], a[k][m][r + 2]);\n";
      const std::string steps = "#pragma unroll\nfor (int k = 0; k < 2; ++k) ";
      if (spec.scale) {
        const std::string round = is_f16 ? "round_fp8_f16" : by_f32 ? "round_fp8" : "round_pairs";
        names.push_back(round);
        if (!by_f32) names.emplace_back("block_factor");
        variants["block_factor"] = "scaled";
        decode = std::string(
                     "const Words2 factor = *(const Words2*)(shared + own_factors + 8 * (pair * "
                     "kTableRows + 16 * m + 8 * r));\n") +
                 steps + round + "(" + code +
                 (by_f32 ? ", __uint_as_float(factor.word[0])" : ", factor") + operands;
        names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
        constants.push_back({"kCols", number(spec.layout.cols), "columns of w"});
        constants.push_back(
            {"kLaneRows", "(kRowTiles + 1) / 2", "rows of w whose scales a lane loads"});
        for (const Constant& constant : shared_constants(spec, kRun)) {
          if (constant.name.starts_with("kScale")) constants.push_back(constant);
        }
        add_table_constants();
        w_source += table + load_row_scales(*spec.scale);
        make = make_row_tables(!by_f32);
      } else {
        names.emplace_back("fp8x4_to_pairs");
        decode = steps + "fp8x4_to_pairs(" + code + operands;
      }
    }
  }
  const bool by_32 = block_cols == 32;
  variants["x_sixteen"] = by_32 ? "32" : "16";
  constants.push_back({"kXRowMask", "1", "how 16-byte places of x are exchanged"});
  constants.push_back({"kXHalf", by_32 ? "16" : "64",
                       "changes places of a stage's first half to those of the second"});
  constants.push_back({"kXRowStep", by_32 ? "1" : "4", ""});
  add_common_values(spec, lowering, values);
  if (has_units) values["scale_parameter"] = values["scale_description"] = "";

  values["x_name"] = get_format(spec.x_format).name;
  values["constants"] = format_constants(constants);
  values["functions"] = more_functions + FragmentLibrary::of("cuda").splice(names, variants);
  values["tiles"] = fmt::format(
      "{} rows of w, {} of x, {} stages of {} columns; warps {} x {} along rows, columns",
      plan.rows(), plan.x, plan.stages, kStageCols, plan.warps_rows, plan.warps_k);
  values["threads"] = number(plan.threads());
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["x_rows_per_cta"] = number(shape.x_rows_per_cta);
  values["smem_bytes"] = number(plan.smem_bytes);
  const auto copy_vector = [cuts_x](const std::string& from) {
    const std::string places = "to + 128 * kLineStep * i, from + " + from;
    return cuts_x ? fmt::format(
                        "copy_vector_of({}, own_x_at + at + 512 * x_unit_of(i) < kXRowBytes ? 16 : "
                        "0);",
                        places)
                  : fmt::format("copy_vector({});", places);
  };
  values["copy_x_vector"] = copy_vector("(x_row_of(i) * kXRowBytes + 512 * x_unit_of(i))");
  values["copy_cut_x_vector"] = copy_vector("512 * x_unit_of(i)");
  values["precision"] = is_wide ? "sums in f32" : "each number of w rounded once to " + pair_type;
  values["lane_columns"] = by_32 ? "16 columns of 64" : "8 columns of each 32";
  values["w_source"] = w_source;
  const bool by_stage = plan.chunk_stages == 1;
  values["first_slot"] = by_stage ? "stage" : "stage / 4";
  values["far_slot"] = by_stage ? "far_slot" : "(stage + kStages - 1) / 4 % 2";
  values["make_tables"] = make;
  values["load_codes"] = placed_lines(load, 6);
  values["decode"] = placed_lines(decode, 12);
  values["result"] = with_bias(spec, "product", "row");
  return {fill_template(get_template("cuda/warp_matmul.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

}  // namespace ktjit::codegen
