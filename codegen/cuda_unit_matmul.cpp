// How units meet x: the mma, the terms of x, tiles and the places in shared memory; and what of the skeleton's text
// depends on them.
#include "codegen/cuda_unit_matmul.h"

#include <algorithm>
#include <array>
#include <bit>
#include <fmt/format.h>

#include "codegen/cuda_expert_tiles.h"
#include "codegen/cuda_parts.h"
#include "codegen/cuda_unit_matvec.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "codegen/product_text.h"
#include "core/error.h"
#include "core/prepared_layout.h"

namespace ktjit::codegen {
namespace {

using enum FormatId;

constexpr int kStageCols = 64;  // of x
constexpr int kRowBytesOfStage = 2 * kStageCols;
constexpr int kFirstSm = 75, kFirstK16 = 80;
constexpr int kMaxStages = 5;  // units are copied four stages ahead

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// How x becomes the mma's operand.
struct XPlan {
  std::string pair_type;   ///< "f16", "bf16"
  std::string terms_form;  ///< variant of run_terms
  int terms = 1;
  bool is_copied = false;  ///< from global to shared memory as it is
  bool is_scaled = false;  ///< times a power of two per row and stage
};

/// bf16 has the exponents of f32, and three of it its bits. Without bf16, x is brought to the range of f16.
XPlan plan_x(const KernelSpec& spec) {
  const bool has_bf16 = spec.target.sm >= kFirstK16;
  XPlan plan;
  plan.pair_type = spec.x_format == kF16 || !has_bf16 ? "f16" : "bf16";
  plan.is_scaled = !has_bf16 && spec.x_format != kF16;
  if (spec.x_format == kF32) plan.terms = has_bf16 ? 3 : 2;
  plan.terms_form = plan.is_scaled ? "scaled" : plan.terms == 3 ? "bf16" : "direct";
  plan.is_copied = plan.terms_form == "direct" && rows_allow_vectors(spec.x_format, spec.layout);
  return plan;
}

/// Tiles and the places in shared memory.
struct Tiles {
  int x = 0;      ///< rows of x of a CTA
  int tiles = 0;  ///< 16-row tiles of w of a CTA
  int warps_rows = 0, warps_x = 0, warps_k = 0;
  int stages = 0;
  int unit_slots = 0;
  std::int64_t units_at = 0, factors_at = 0, sums_at = 0, x_factors_at = 0, smem_bytes = 0;

  int threads() const { return warps_rows * warps_x * warps_k * kWarpThreads; }
  int rows() const { return tiles * kUnitRows; }
  int row_tiles() const { return tiles / warps_rows; }
  int x_tiles() const { return x / warps_x / 8; }
};

/// Few rows of x leave a warp little to do with a decoded code: there warps share the columns, and many CTAs the rows.
Tiles shape_of(int x, int terms) {
  switch (x) {
    case 16:
      return {.x = x, .tiles = 2, .warps_rows = 2, .warps_x = 1, .warps_k = 4};
    case 32:
      return {.x = x, .tiles = 4, .warps_rows = 4, .warps_x = 1, .warps_k = 2};
    case 64:
      // With terms, a thread has more of x on its way.
      return {.x = x, .tiles = 8, .warps_rows = 4, .warps_x = terms > 1 ? 2 : 1, .warps_k = 1};
    case 128:
    case 256:
      return {.x = x, .tiles = 8, .warps_rows = 4, .warps_x = 2, .warps_k = 1};
    default:
      throw SpecError("x_tile", number(x), "16, 32, 64, 128 or 256");
  }
}

/// Whether native blocks are made units of by the CTA itself.
bool is_native(const KernelSpec& spec) { return spec.layout.kind == LayoutKind::kNative; }

void lay_out(const KernelSpec& spec, const XPlan& x, const UnitDecode& decode, Tiles& tiles) {
  const std::int64_t unit_bytes = find_prepared_layout(spec.weight)->unit_bytes();
  const int blocks = kUnitCols / decode.block_cols;
  const bool has_minima = decode.minimum != "none";
  const auto aligned = [](std::int64_t bytes) { return ceil_div(bytes, 128) * 128; };
  tiles.units_at =
      std::int64_t{1} * tiles.stages * tiles.warps_k * x.terms * tiles.x * kRowBytesOfStage;
  tiles.factors_at =
      aligned(tiles.units_at + tiles.unit_slots * tiles.warps_k * tiles.tiles * unit_bytes);
  const std::int64_t table_bytes = std::int64_t{4} * tiles.warps_k * blocks * tiles.rows();
  tiles.sums_at = tiles.factors_at + (has_minima ? 2 : 1) * table_bytes;
  tiles.x_factors_at =
      tiles.sums_at + (has_minima ? std::int64_t{4} * tiles.warps_k * blocks * tiles.x : 0);
  tiles.smem_bytes = tiles.x_factors_at +
                     (x.is_scaled ? std::int64_t{4} * tiles.stages * tiles.warps_k * tiles.x : 0);
  constexpr int kRowPad = 4;
  const std::int64_t product_bytes =
      std::int64_t{4} * tiles.warps_k * tiles.x * (tiles.rows() + kRowPad);
  tiles.smem_bytes = std::max(tiles.smem_bytes, product_bytes);
}

/// Bytes of dynamic shared memory that a CTA may have.
std::int64_t smem_limit(const KernelSpec& spec, const Tiles& tiles) {
  const std::int64_t limit = get_cuda_facts(spec.target).smem_per_cta_bytes;
  return has_experts(spec.op) ? limit - expert_tiles_smem_bytes(tiles.x, tiles.threads()) : limit;
}

/// With a tile of x of that size: where the target's shared memory is too small fewer stages, unless a knob says how
/// many, then fewer columns at once, then fewer rows of w, at least `least_tiles` times 16.
Tiles fitted_tiles(const KernelSpec& spec, const XPlan& x, const UnitDecode& decode, int x_tile,
                   int least_tiles) {
  constexpr int kDefaultStages = 3, kLeastStages = 2;
  const int wanted = spec.tuning.stages;
  Tiles tiles = shape_of(x_tile, x.terms);
  tiles.unit_slots = is_native(spec) ? 1 : 2;
  tiles.stages = wanted != 0 ? wanted : x.is_copied ? kDefaultStages : kLeastStages;
  if (tiles.stages < kLeastStages || tiles.stages > kMaxStages)
    throw SpecError("stages", number(tiles.stages), fmt::format("2 to {}", kMaxStages));
  lay_out(spec, x, decode, tiles);
  while (tiles.smem_bytes > smem_limit(spec, tiles)) {
    if (wanted == 0 && tiles.stages > kLeastStages) {
      --tiles.stages;
    } else if (tiles.warps_k > 1) {
      tiles.warps_k /= 2;
    } else if (tiles.tiles > least_tiles) {
      tiles.tiles /= 2;
      tiles.warps_rows = std::min(tiles.warps_rows, tiles.tiles);
    } else {
      break;
    }
    lay_out(spec, x, decode, tiles);
  }
  return tiles;
}

/// With experts: CTAs that share a multiprocessor, each going on from tile to tile; two or three where a small tile leaves
/// registers and shared memory.
int ctas_of(const KernelSpec& spec, const Tiles& tiles) {
  constexpr int kSmallTile = 64, kReservedBytes = 1024;
  if (spec.tuning.ctas_per_multiprocessor != 0) return spec.tuning.ctas_per_multiprocessor;
  const std::int64_t used =
      tiles.smem_bytes + kReservedBytes + expert_tiles_smem_bytes(tiles.x, tiles.threads());
  const std::int64_t fitting = get_cuda_facts(spec.target).smem_per_cta_bytes / used;
  if (tiles.x > kSmallTile) return 1;
  constexpr int kFewThreads = 128;
  return static_cast<int>(
      std::clamp<std::int64_t>(fitting, 1, tiles.threads() <= kFewThreads ? 3 : 2));
}

/// By the spec's knobs, or the largest tile that fits.
Tiles choose_tiles(const KernelSpec& spec, const XPlan& x, const UnitDecode& decode) {
  constexpr int kLeastTiles = 4, kLargeTile = 128, kSmallTile = 64;
  if (spec.tuning.x_tile == 0 && x.terms == 1) {
    const Tiles large = fitted_tiles(spec, x, decode, kLargeTile, kLeastTiles);
    if (large.smem_bytes <= smem_limit(spec, large)) return large;
  }
  const int x_tile = spec.tuning.x_tile == 0 ? kSmallTile : spec.tuning.x_tile;
  const int least_tiles = spec.gate == Gate::kNone ? 1 : 2;  // one of each matrix
  const Tiles tiles = fitted_tiles(spec, x, decode, x_tile, least_tiles);
  const std::int64_t limit = smem_limit(spec, tiles);
  if (tiles.smem_bytes > limit) {
    throw SpecError(
        "x_tile", number(tiles.x),
        fmt::format("smaller, or fewer stages: {} has {} bytes of shared memory, not {}",
                    spec.target.name(), limit, tiles.smem_bytes));
  }
  return tiles;
}

/// `copy_x`, or `load_x` and `store_x`.
std::string x_source(const KernelSpec& spec, const XPlan& x, bool has_tail) {
  const std::string x_row = x_row_of_tile(spec, "row");
  const std::string places =
      "#pragma unroll\n"
      "    for (int i = 0; i < kXRuns; ++i) {\n"
      "      const int run = threadIdx.x + i * kThreads;\n"
      "      const int row = run / 8 % kTileX;\n"
      "      const int k = run / (8 * kTileX);\n"
      "      const int col = (stage / 4 * kWarpsK + k) * 256 + stage % 4 * 64 + run % 8 * kRun;\n";
  if (x.is_copied) {
    return "  const auto copy_x = [&](int stage) {\n" + places +
           "      unsigned char* to = x_ring + ((stage % kStages * kWarpsK + k) * kTileX + row) * "
           "128 + x_place(row, run % 8);\n"
           "      const unsigned char* from = x + (" +
           x_row + " * kCols + col) * kXBytes;\n" +
           (has_tail ? "      if (col < kCols) begin_copy(to, from);\n"
                       "      else *(Words4*)to = Words4{};\n"
                     : "      begin_copy(to, from);\n") +
           "    } // i: runs of this thread\n"
           "  };\n";
  }
  return "  Run<kXBytes> x_next[kXRuns];\n"
         "  const auto load_x = [&](int stage) {\n" +
         places + "      x_next[i] = load_run<kXBytes>(x + " + x_row +
         " * kCols * kXBytes, col);\n"
         "    } // i: runs of this thread\n"
         "  };\n"
         "  const auto store_x = [&](int stage) {\n"
         "#pragma unroll\n"
         "    for (int i = 0; i < kXRuns; ++i) {\n"
         "      const int run = threadIdx.x + i * kThreads;\n"
         "      const int row = run / 8 % kTileX;\n"
         "      const int k = run / (8 * kTileX);\n"
         "      Words4 term[kTerms];\n" +
         (x.is_scaled ? "      const float x_factor = run_terms(x_next[i], term);\n"
                        "      if (run % 8 == 0) x_factors[(stage % kStages * kWarpsK + k) * "
                        "kTileX + row] = x_factor;\n"
                      : "      run_terms(x_next[i], term);\n") +
         "#pragma unroll\n"
         "      for (int t = 0; t < kTerms; ++t) {\n"
         "        *(Words4*)(x_ring + (((stage % kStages * kWarpsK + k) * kTerms + t) * kTileX + "
         "row) * 128 + x_place(row, run % 8)) = term[t];\n"
         "      } // t: terms of x\n"
         "    } // i: runs of this thread\n"
         "  };\n";
}

std::string unit_copy(const KernelSpec& spec) {
  const bool has_gate = spec.gate != Gate::kNone;
  const std::string tile = has_gate ? "tile % (kTiles / 2)" : "tile";
  const std::string w = has_gate ? "(tile < kTiles / 2 ? w_gate : w_up)" : "w";
  return "  // Begins to copy the units that the CTA has next.\n"
         "  const long long last_tile = (rows - 1) / 16;\n"
         "  const auto copy_units = [&](int v) {\n"
         "#pragma unroll 1\n"
         "    for (int at = threadIdx.x; at < kWarpsK * kTiles * (kUnitBytes / 16); at += "
         "kThreads) "
         "{\n"
         "      const int vector = at % (kUnitBytes / 16);\n"
         "      const int tile = at / (kUnitBytes / 16) % kTiles;\n"
         "      const int unit = v * kWarpsK + at / (kUnitBytes / 16 * kTiles);\n"
         "      // Past the last tile of rows, that is read again and its sums are not stored.\n"
         "      const long long from = (min_of(first_tile + " +
         tile +
         ", last_tile) * kUnits + unit) * kUnitBytes;\n"
         "      if (unit < kUnits)\n"
         "        begin_copy(units + v % kUnitSlots * (kWarpsK * kTiles * kUnitBytes) + 16 * at, " +
         w +
         " + from + 16 * vector);\n"
         "    } // at: vectors of this thread\n"
         "  };\n";
}

/// Statements that make units of native blocks.
std::string make_units(const KernelSpec& spec, const std::string& row) {
  const bool has_gate = spec.gate != Gate::kNone;
  const std::string tile = has_gate ? "task / 64 % (kTiles / 2)" : "task / 64 % kTiles";
  return fmt::format(
      "for (int task = threadIdx.x; task < kWarpsK * kTiles * 64; task += kThreads) {{\n"
      "  const int row_of_unit = task / 4 % 16;\n"
      "  const int u = v * kWarpsK + task / (64 * kTiles);\n"
      "  const long long row = (first_tile + {}) * 16 + row_of_unit;\n"
      "  if (u >= kUnits) continue;\n"
      "{}"
      "  const auto from = {};\n"
      "  prepare_quarter(from, row < rows, u, row_of_unit, task % 4, units + task / 64 * "
      "kUnitBytes);\n"
      "}} // task: quarters of a row\n"
      "__syncthreads();",
      tile, select_gate_matrix(spec, "task / 64 % kTiles >= kTiles / 2", 2), row);
}

/// Statements after a thread has the scales of a row.
std::string make_factors(bool has_minima) {
  const std::string place = "block * (kTiles * 16) + row";
  const auto loop = [](const std::string& body) {
    return "#pragma unroll\nfor (int block = 0; block < kBlocks; ++block) {\n  " + body +
           "\n} // block: of a unit\n";
  };
  const std::string store_factors =
      loop("own[" + place + "] = kFactor * scales.whole() * scales.of_block(block);");
  std::string text = "float* own = factors + k * (kBlocks * kTiles * 16);\n";
  if (!has_minima) return text + store_factors;
  return "float* own = (task / (kTiles * 16) % 2 == 0 ? factors : minima) + k * (kBlocks * kTiles "
         "* 16);\n"
         "if (task / (kTiles * 16) % 2 == 0) {\n  " +
         indented(store_factors, 2) + "\n} else {\n  " +
         indented(loop("own[" + place + "] = block_minimum(unit, scales, block);"), 2) + "\n}\n";
}

/// The sums of x over a block, each row by one warp: an mma with ones.
std::string sum_x(const XPlan& x) {
  return fmt::format(
      "#pragma unroll 1\n"
      "          for (int j = warp % (kWarpsRows * kWarpsX); j < kTileX / 8; j += kWarpsRows * "
      "kWarpsX) {{\n"
      "            float sum[4] = {{}};\n"
      "            const unsigned ones[4] = {{kOnes, kOnes, kOnes, kOnes}};\n"
      "#pragma unroll\n"
      "            for (int t = 0; t < kTerms; ++t) {{\n"
      "              const XWords own = *(const XWords*)(x_lane + (t * kTileX + j * 8 - warp_x) * "
      "128);\n"
      "#pragma unroll\n"
      "              for (int s = 0; s < kBlockSteps; ++s) {{\n"
      "                const unsigned x_words[2] = {{own.word[2 * s], own.word[2 * s + 1]}};\n"
      "                mma(sum, ones, x_words);\n"
      "              }} // s: 16 columns\n"
      "            }} // t: terms of x\n"
      "            if (group == 0) {{ // all 16 rows of the product are the same\n"
      "              float* own_sums = x_sums + (warp_k * kBlocks + pair * kPairBlocks + b) * "
      "kTileX "
      "+ j * 8 + 2 * q;\n"
      "{}"
      "              own_sums[0] = {}sum[0];\n"
      "              own_sums[1] = {}sum[1];\n"
      "            }}\n"
      "          }} // j: 8-row tiles of x\n",
      x.is_scaled ? "              const float* x_scale = x_factors + (stage % kStages * kWarpsK + "
                    "warp_k) * kTileX + j * 8 + 2 * q;\n"
                  : "",
      x.is_scaled ? "x_scale[0] * " : "", x.is_scaled ? "x_scale[1] * " : "");
}

/// After a unit: each block's minimum times its sum of x.
std::string add_minima() {
  return "    __syncthreads(); // the sums of x over the unit's blocks are there\n"
         "    if (has_unit) {\n"
         "#pragma unroll 1\n"
         "      for (int block = 0; block < kBlocks; ++block) {\n"
         "        const float* own_minima = minima + (warp_k * kBlocks + block) * (kTiles * 16) + "
         "warp_tile * 16 + group;\n"
         "        const float* own_sums = x_sums + (warp_k * kBlocks + block) * kTileX + warp_x + "
         "2 "
         "* q;\n"
         "        float minimum[kRowTiles][2];\n"
         "#pragma unroll\n"
         "        for (int m = 0; m < kRowTiles; ++m) {\n"
         "          minimum[m][0] = own_minima[m * 16];\n"
         "          minimum[m][1] = own_minima[m * 16 + 8];\n"
         "        } // m: 16-row tiles\n"
         "#pragma unroll\n"
         "        for (int j = 0; j < kXTiles; ++j) {\n"
         "          const float sum[2] = {own_sums[j * 8], own_sums[j * 8 + 1]};\n"
         "#pragma unroll\n"
         "          for (int m = 0; m < kRowTiles; ++m) {\n"
         "#pragma unroll\n"
         "            for (int i = 0; i < 4; ++i) total[m][j][i] += minimum[m][i / 2] * sum[i % "
         "2];\n"
         "          } // m: 16-row tiles\n"
         "        } // j: 8-row tiles of x\n"
         "      } // block: of a unit\n"
         "    }\n";
}

/// Statements that add up what the warps along the columns have of a row of the tile.
std::string sum_of_products(const std::string& name, const std::string& row) {
  return fmt::format(
      "    float {0} = products[j * kRowPitch + {1}];\n"
      "#pragma unroll\n"
      "    for (int k = 1; k < kWarpsK; ++k) {0} += products[(k * kTileX + j) * kRowPitch + "
      "{1}];\n",
      name, row);
}

/// What a CTA does with a tile of y. `row`: of native weights, as add_prepare_parts gives it.
std::string tile_text(const KernelSpec& spec, const XPlan& x, const Tiles& tiles,
                      const UnitDecode& decode, const std::string& row,
                      std::vector<std::string>& names) {
  const bool has_minima = decode.minimum != "none";
  const bool has_shifts =
      std::ranges::any_of(decode.code_shifts, [](int shift) { return shift != 0; });
  const bool has_gate = spec.gate != Gate::kNone;
  const bool cuts_x = spec.layout.cols % (kUnitCols * tiles.warps_k) != 0;
  TemplateValues values;
  values["x_source"] = x_source(spec, x, cuts_x);
  values["unit_copy"] = is_native(spec) ? "" : unit_copy(spec);
  const std::string copy_first = is_native(spec) ? "" : "copy_units(0);\n";
  const std::string copy_next =
      is_native(spec) ? "" : "if (pair == 0 && v + 1 < kUnitSteps) copy_units(v + 1);\n";
  const std::string fill = x.is_copied ? "copy_x(stage);" : "load_x(stage);\n    store_x(stage);";
  values["first_stages"] = fmt::format(
      "{}#pragma unroll\n"
      "  for (int stage = 0; stage < kStages - 1; ++stage) {{\n"
      "    {}\n"
      "    end_copies();\n"
      "  }} // stage: on their way\n",
      copy_first.empty() ? "" : "  " + copy_first, fill);
  const std::string has_next = "if (stage + kStages - 1 < 4 * kUnitSteps) ";
  values["next_stage"] =
      indented(fmt::format("{}{}(stage + kStages - 1);\n{}end_copies();", has_next,
                           x.is_copied ? "copy_x" : "load_x", copy_next),
               6);
  values["store_stage"] =
      x.is_copied ? "" : fmt::format("      {}store_x(stage + kStages - 1);\n", has_next);
  values["make_units"] = is_native(spec) ? indented(make_units(spec, row), 8) + "\n        " : "";
  values["make_factors"] = indented(make_factors(has_minima), 10);
  const std::string code = "codes[m][0][r][b * kBlockSteps + s]";
  values["codes"] = has_shifts ? fmt::format("plain_codes({}, pair)", code) : code;
  values["x_lane"] = decode.block_cols == 32 ? "x_place(group, 4 * b + 2 * (q % 2) + q / 2)"
                                             : "x_place(group, 2 * b + q % 2) + 8 * (q / 2)";
  values["x_factor"] =
      x.is_scaled ? "            const float* x_factor = x_factors + (stage % kStages * kWarpsK + "
                    "warp_k) * kTileX + warp_x + j * 8 + 2 * q;\n"
                  : "";
  values["factor"] = x.is_scaled ? "factor[m][i / 2] * x_factor[i % 2]" : "factor[m][i / 2]";
  values["sum_x"] = has_minima ? sum_x(x) : "";
  values["add_minima"] = has_minima ? add_minima() : "";

  // With a gate the upper half of the 16-row tiles is of w_gate, the lower one of w_up.
  const StoredRows stored = stored_rows(spec, "j");
  values["stored_rows"] = has_gate ? "(kTiles * 8)" : "(kTiles * 16)";
  values["leave"] = has_experts(spec.op) ? "continue" : "return";
  values["products"] = has_gate ? sum_of_products("gate", "row_of_tile") +
                                      sum_of_products("up", "kTiles * 8 + row_of_tile")
                                : sum_of_products("product", "row_of_tile");
  values["first_x"] = stored.first_x;
  values["last_x"] = stored.last_x;
  values["y_row"] = has_experts(spec.op) ? stored.y_row : "(first_x + j)";
  values["result"] = product_result(spec, "product", "row", names);
  return fill_template(get_template("cuda/unit_matmul_tile.cu.in"), values);
}

/// Two small integers as bits of f16 or bf16.
std::string pair_of(int value, const std::string& type) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  std::uint32_t half = bits >> 16;
  if (type == "f16") {
    const std::uint32_t exponent = (bits >> 23 & 255) - 127 + 15;
    half = bits >> 31 << 15 | exponent << 10 | (bits >> 13 & 0x3ff);
  }
  return fmt::format("{:#010x}u", half << 16 | half);
}

}  // namespace

bool takes_unit_matmul(const KernelSpec& spec) {
  return is_matmul(spec.op) && spec.activation == ActivationPolicy::kA16 && spec.target.is_cuda() &&
         spec.target.sm >= kFirstSm && spec.weight != kIQ1_M &&
         find_prepared_layout(spec.weight) != nullptr;
}

EmittedKernel emit_unit_matmul(const KernelSpec& spec, const Lowering& weights) {
  const PreparedLayout& layout = *find_prepared_layout(spec.weight);
  const UnitDecode decode = unit_decode(spec.weight);
  const XPlan x = plan_x(spec);
  const Tiles tiles = choose_tiles(spec, x, decode);
  const bool has_copies = spec.target.sm >= kFirstK16;
  const bool has_minima = decode.minimum != "none";
  const bool has_shifts = std::any_of(decode.code_shifts.begin(), decode.code_shifts.end(),
                                      [](int shift) { return shift != 0; });
  const int blocks = kUnitCols / decode.block_cols;
  const TileOfY tile{.w_rows = tiles.rows(),
                     .x_rows = tiles.x,
                     .threads = tiles.threads(),
                     .x_type = "unsigned char",
                     .weight_stride = is_native(spec) ? "rows * kRowBytes"
                                                      : "(rows + 15) / 16 * kUnits * kUnitBytes",
                     .counts_unit_rows = true,
                     .smem_bytes = static_cast<unsigned>(tiles.smem_bytes),
                     .ctas = ctas_of(spec, tiles)};

  Lowering lowering = weights;
  lowering.kind = LoweringKind::kSoftware;
  lowering.summary =
      fmt::format("codes to {}x2 integers; mma m16n8k{} {}{}", x.pair_type, has_copies ? 16 : 8,
                  x.pair_type, x.terms > 1 ? fmt::format(", x in {} terms", x.terms) : "");

  const std::string packing(unit_packing(spec.weight));
  const bool has_own_words = packing == "k8" || packing == "k6" || packing == "k4" ||
                             packing == "k4Table" || packing == "k2";
  const std::string block_cols = number(decode.block_cols);
  std::vector<std::string> names = {"min_of",     "Unit",      "exchange_words", "pair_codes",
                                    "code_pairs", "OwnScales", "load_scales",    "XWords",
                                    "x_place",    "mma",       "begin_copy",     "end_copies",
                                    "copies_done"};
  if (has_minima) names.push_back("block_minimum");
  if (has_shifts) names.push_back("plain_codes");
  if (!x.is_copied) names.insert(names.end(), {"Run", "load_run", "run_terms"});
  if (x.is_copied && spec.layout.cols % (kUnitCols * tiles.warps_k) != 0)
    names.emplace_back("Words4");
  FragmentVariants variants = variants_for(spec, weights);
  add_unit_variants(spec, true, variants);
  if (variants["block_scale"] == "e8m0")
    variants["block_scale"] = decode.has_scale_nan ? "e8m0_half_nan" : "e8m0_half";
  const bool has_row_scales = variants["OwnScales"] == "s32";
  variants["unit_minimum"] = has_row_scales ? "none_s32" : "none";
  variants["block_minimum"] = decode.minimum;
  variants["Unit"] = "in_place";
  variants["word_place"] = has_own_words ? "direct_" + block_cols : "own";
  variants["exchange_words"] = has_own_words ? "none" : block_cols;
  variants["code_pairs"] = x.pair_type + (decode.has_signed_codes ? "_signed" : "_unsigned");
  variants["XWords"] = block_cols;
  variants["mma"] = x.pair_type + (has_copies ? "_k16" : "_k8");
  for (const char* name : {"begin_copy", "end_copies", "copies_done"})
    variants[name] = has_copies ? "async" : "plain";
  const bool has_vectors = spec.layout.base_alignment_bytes >= 16;
  variants["load_run"] = !has_vectors                                             ? "element"
                         : spec.layout.cols % kUnitCols != 0 || tiles.warps_k > 1 ? "tail"
                                                                                  : "vector";
  variants["run_terms"] = x.terms_form;
  variants["x_values"] = get_format(spec.x_format).name;

  TemplateValues values = {{"kernel", kernel_name(spec)},
                           {"emitter_version", fmt::format("{}", kEmitterVersion)},
                           {"math", product_math(spec)},
                           {"arch", arch_description(spec, lowering)}};
  names.push_back(fmt::format("store_element_{}", get_format(spec.y_format).name));
  add_wait(spec, values, names);
  const int units = static_cast<int>(ceil_div(spec.layout.cols, kUnitCols));
  const int x_bytes = get_format(spec.x_format).block_bytes;
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of w, and of each row of x"},
      {"kRun", number(kRun), "columns of x that a thread moves at once"},
      {"kXBytes", number(x_bytes), "bytes of an element of x"},
      {"kUnits", number(units), "units side by side, of 16 rows and 256 columns"},
      {"kUnitBytes", number(layout.unit_bytes()), "bytes of a unit"},
      {"kCodeVectors", number(layout.code_bits()),
       "16-byte vectors of codes that a lane has of a unit"},
      {"kThreads", number(tiles.threads()), "threads per CTA"},
      {"kTiles", number(tiles.tiles), "16-row tiles of w of a CTA"},
      {"kTileX", number(tiles.x), "rows of x of a CTA"},
      {"kWarpsRows", number(tiles.warps_rows), "warps side by side along the rows of w"},
      {"kWarpsX", number(tiles.warps_x), "along the rows of x"},
      {"kWarpsK", number(tiles.warps_k), "along the columns: each has every so manyth unit"},
      {"kUnitSteps", "(kUnits + kWarpsK - 1) / kWarpsK", "units that a warp has at most"},
      {"kRowTiles", "kTiles / kWarpsRows", "16-row tiles of a warp"},
      {"kXTiles", "kTileX / kWarpsX / 8", "8-row tiles of x of a warp"},
      {"kTerms", number(x.terms), "16-bit numbers whose sum is a number of x"},
      {"kXRuns", "kWarpsK * kTileX * 8 / kThreads", "runs of x that a thread moves of a stage"},
      {"kStages", number(tiles.stages), "stages of x: in use or on their way"},
      {"kUnitSlots", number(tiles.unit_slots), "places for a unit: in use or on its way"},
      {"kBlocks", number(blocks), "blocks of a unit, whose columns share a scale"},
      {"kPairBlocks", "kBlocks / 4", "in a stage"},
      {"kBlockSteps", number(decode.block_cols / 16), "mma along the columns of a block"},
      {"kTables", has_minima ? "2" : "1", has_minima ? "of scales and of minima" : "of scales"},
      {"kXRowMask", decode.block_cols == 32 ? "1" : "3", "how 16-byte places of x are exchanged"},
      {"kXRowStep", decode.block_cols == 32 ? "4" : "2", ""},
      {"kUnitsAt", number(tiles.units_at), "bytes of shared memory before the units"},
      {"kFactorsAt", number(tiles.factors_at), "before the scales of blocks"},
      {"kFactor", fmt::format("{}f", fmt::format("{:#}", decode.factor)),
       "by which all scales are too small", "float"}};
  if (!decode.has_signed_codes || x.pair_type == "f16") {
    const int magic = x.pair_type == "f16" ? decode.has_signed_codes ? 1152 : 1024 : 128;
    constants.push_back({"kPairOffset", pair_of(-(magic - decode.offset), x.pair_type),
                         fmt::format("{}, twice", -(magic - decode.offset)), "unsigned"});
  }
  if (has_minima) {
    constants.push_back({"kSumsAt", number(tiles.sums_at), "before the sums of x over blocks"});
    constants.push_back({"kOnes", pair_of(1, x.pair_type), "1, twice", "unsigned"});
  }
  if (x.is_scaled)
    constants.push_back({"kXFactorsAt", number(tiles.x_factors_at), "before the powers of x"});
  std::string row;
  if (is_native(spec)) {
    constants.push_back({"kRowBytes", number(row_bytes(get_format(spec.weight), spec.layout.cols)),
                         "bytes of one row of w", "long long"});
    row = add_prepare_parts(spec, constants, variants, names);
  }
  add_level_constants(spec.weight, true, constants);

  add_tile_values(spec, tile, values, constants, variants, names);
  values["least_ctas"] = number(has_experts(spec.op) ? tile.ctas : 1);
  values["constants"] = format_constants(constants);
  values["tiles"] =
      fmt::format("{} rows of w, {} of x, {} stages; warps {} x {} x {} along rows, x, columns; {}",
                  tiles.rows(), tiles.x, tiles.stages, tiles.warps_rows, tiles.warps_x,
                  tiles.warps_k, lowering.summary);
  values["threads"] = number(tiles.threads());
  values["smem_bytes"] = number(tiles.smem_bytes);
  values["block_cols"] = block_cols;
  values["unit_source"] = is_native(spec) ? ", made of native blocks here" : "";
  values["more_shared"] = fmt::format(
      "{}{}",
      has_minima ? "  float* const minima = factors + kWarpsK * (kBlocks * kTiles * "
                   "16);\n"
                   "  float* const x_sums = (float*)(shared + kSumsAt);\n"
                 : "",
      x.is_scaled ? "  float* const x_factors = (float*)(shared + kXFactorsAt);\n" : "");
  values["tile"] = placed_tile(spec, tile_text(spec, x, tiles, decode, row, names));
  values["functions"] = fmt::format("{}{}", has_shifts ? code_shift_text(decode.code_shifts) : "",
                                    FragmentLibrary::of("cuda").splice(names, variants));
  return {fill_template(get_template("cuda/unit_matmul.cu.in"), values), kernel_name(spec),
          tiles_launch(spec, tile), lowering};
}

}  // namespace ktjit::codegen
