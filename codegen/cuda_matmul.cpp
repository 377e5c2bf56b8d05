// Choice of the tensor-core instruction, and the two skeletons.
#include "codegen/cuda_matmul.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>

#include "codegen/cuda_expert_tiles.h"
#include "codegen/cuda_parts.h"
#include "codegen/emitter_parts.h"
#include "codegen/product_text.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

constexpr int kFmaThreads = 256;
constexpr int kDefaultTileX = 64;
constexpr int kGroupCols = 64;  // columns of x that have one power of two where x is scaled

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// How x gets into a tile.
enum class XForm {
  kDirect,   ///< its own 16-bit numbers, or FP8 codes for an mma that takes them
  kDecoded,  ///< FP8 codes to f16
  kScaled,   ///< f16 terms of x times a power of two per row and tile, whatever the range of x
};

/// A product on tensor cores.
struct MmaPlan {
  std::string instruction;  ///< variant of the piece "mma"
  std::string words;        ///< for people
  std::string pair_type;    ///< "f16", "bf16", or "" where mma takes the codes
  XForm x_form = XForm::kDirect;
  int parts = 1;          ///< terms of x
  int chunk = 0;          ///< columns with the same scales: 64, 32 or 16
  bool promotes = false;  ///< the sums of a chunk are scaled before they join the totals
};

/// The most columns, 64, 32 or 16, that have the same scales in both grids; 0 if 16 don't.
int chunk_of(const KernelSpec& spec) {
  for (int chunk : {64, 32, 16}) {
    const auto fits = [chunk](const std::optional<ScaleGrid>& grid) {
      return !grid || grid->block_cols % chunk == 0;
    };
    if (fits(spec.scale) && fits(spec.x_scale)) return chunk;
  }
  return 0;
}

/// Nothing where only f32 arithmetic is exact enough, or there are no tensor cores to use.
std::optional<MmaPlan> plan_mma(const KernelSpec& spec) {
  constexpr int kFirstK8 = 75, kFirstK16 = 80;
  const int sm = spec.target.sm;
  const bool is_fp8 = get_format(spec.weight).family == FormatFamily::kFp8;
  MmaPlan plan;
  plan.chunk = chunk_of(spec);
  if (sm < kFirstK8 || plan.chunk == 0) return std::nullopt;

  const bool has_bf16 = sm >= kFirstK16;
  if (spec.activation == ActivationPolicy::kAfp8) {
    if (spec.weight != FormatId::kFp8E4M3) return std::nullopt;
    const bool codes = get_cuda_facts(spec.target).fp8_cvt && plan.chunk >= 32;
    plan.pair_type = codes ? "" : "f16";
    plan.x_form = codes ? XForm::kDirect : XForm::kDecoded;
  } else if (spec.weight == FormatId::kBF16 ||
             (is_fp8 && spec.x_format == FormatId::kBF16 && has_bf16)) {
    if (!has_bf16 || spec.x_format != FormatId::kBF16) return std::nullopt;
    plan.pair_type = "bf16";
  } else if (spec.weight == FormatId::kFp8E5M2Fnuz) {
    return std::nullopt;  // no short way to f16: exponent 31 holds numbers
  } else if (is_fp8 || spec.weight == FormatId::kF16) {
    plan.pair_type = "f16";
    // Infinity times a second term that is 0 would be NaN.
    const bool may_be_infinite = spec.weight == FormatId::kF16 || spec.weight == FormatId::kFp8E5M2;
    if (spec.x_format == FormatId::kF32 && may_be_infinite && !spec.weights_finite)
      return std::nullopt;
    plan.x_form = spec.x_format == FormatId::kF16 ? XForm::kDirect : XForm::kScaled;
    plan.parts = spec.x_format == FormatId::kF32 ? 2 : 1;
  } else {
    return std::nullopt;
  }
  if (plan.pair_type.empty()) {
    plan.instruction = "e4m3_k32";
    plan.words = "mma m16n8k32 e4m3";
  } else {
    plan.instruction = plan.pair_type + (has_bf16 ? "_k16" : "_k8");
    plan.words = fmt::format("mma m16n8k{} {}", has_bf16 ? 16 : 8, plan.pair_type);
  }
  plan.promotes =
      (spec.scale && spec.scale->block_cols != 0) || spec.x_scale || plan.x_form == XForm::kScaled;
  return plan;
}

int tile_x_of(const KernelSpec& spec) {
  const int tile = spec.tuning.x_tile == 0 ? kDefaultTileX : spec.tuning.x_tile;
  if (tile != 16 && tile != 32 && tile != 64) throw SpecError("x_tile", number(tile), "16, 32, 64");
  return tile;
}

/// CTAs that share a multiprocessor where each goes on from tile to tile.
int ctas_of(const KernelSpec& spec) {
  constexpr int kCtas = 2;
  return spec.tuning.ctas_per_multiprocessor == 0 ? kCtas : spec.tuning.ctas_per_multiprocessor;
}

/// Values that both skeletons have.
TemplateValues matmul_values(const KernelSpec& spec, const Lowering& lowering, const TileOfY& tile,
                             std::vector<std::string>& names) {
  TemplateValues values = {{"kernel", kernel_name(spec)},
                           {"emitter_version", fmt::format("{}", kEmitterVersion)},
                           {"math", product_math(spec)},
                           {"arch", arch_description(spec, lowering)},
                           {"threads", number(tile.threads)}};
  names.push_back(fmt::format("store_element_{}", get_format(spec.y_format).name));
  add_wait(spec, values, names);
  values["least_ctas"] = has_experts(spec.op) ? fmt::format(", {}", tile.ctas) : "";
  return values;
}

void add_x_scale_constants(const KernelSpec& spec, std::vector<Constant>& constants) {
  if (!spec.x_scale) return;
  constants.push_back(
      {"kXGroupCols", number(spec.x_scale->block_cols), "columns of x that share one scale"});
  constants.push_back({"kXGroups", number(spec.x_scale->cols_of_scales(spec.layout.cols)),
                       "scales in one row of x_scale"});
}

EmittedKernel emit_fma(const KernelSpec& spec, const Lowering& weights) {
  constexpr int kTile = 64, kTileCols = 32, kSums = 4;
  static_assert(kTile * kTileCols / kRun == kFmaThreads &&
                kTile / kSums * (kTile / kSums) == kFmaThreads);
  const TileOfY tile{.w_rows = kTile,
                     .x_rows = kTile,
                     .threads = kFmaThreads,
                     .x_type = spec.x_scale ? "unsigned char" : io_type(spec.x_format),
                     .weight_stride = "rows * kRowBytes",
                     .ctas = ctas_of(spec)};
  const bool has_gate = spec.gate != Gate::kNone;
  Lowering lowering = weights;
  lowering.summary += "; f32 fma";

  std::vector<std::string> names = decode_fragments(spec);
  names.insert(names.end(), {"min_of", "Words4"});
  TemplateValues values = matmul_values(spec, lowering, tile, names);
  FragmentVariants variants = variants_for(spec, weights);
  std::vector<Constant> constants = shared_constants(spec, kRun);
  add_x_scale_constants(spec, constants);
  constants.insert(constants.end(),
                   {{"kThreads", number(kFmaThreads), "threads per CTA"},
                    {"kTileRows", number(kTile), "rows of w of a CTA"},
                    {"kTileX", number(kTile), "rows of x of a CTA"},
                    {"kTileCols", number(kTileCols), "columns in shared memory at a time"},
                    {"kRunsPerRow", "kTileCols / kRun", ""},
                    {"kSums", number(kSums), "rows of w, and of x, of one thread"},
                    {"kPad", "4", "spreads the columns of a tile over the banks"}});
  add_tile_values(spec, tile, values, constants, variants, names);
  values["constants"] = format_constants(constants);

  const std::string x_row = x_row_of_tile(spec, "thread / kRunsPerRow");
  const StoredRows stored = stored_rows(spec, "y_x");
  // With a gate even rows of the tile are of w_gate, odd ones of w_up: a thread has both sums behind a row of y.
  TemplateValues of_tile = {
      {"row_of_thread", has_gate ? "thread / kRunsPerRow / 2" : "thread / kRunsPerRow"},
      {"select_matrix", select_gate_matrix(spec, "thread / kRunsPerRow % 2 != 0", 2)},
      {"x_type", tile.x_type},
      {"x_row_of_thread", x_row},
      {"decode", indented(decode_statements(spec, "w + row * kRowBytes", "value"), 6)},
      {"apply_scale", apply_scale_statements(spec, "row", "value", 6)},
      {"x_scale_row", ""},
      {"next_row", has_gate ? "r += 2" : "++r"},
      {"row_of_sum", has_gate ? "(row_of_sums + r) / 2" : "row_of_sums + r"},
      {"sums", has_gate ? "      const float gate = sum[r][j];\n"
                          "      const float up = sum[r + 1][j];\n"
                        : ""},
      {"x_row_type", stored.type},
      {"first_x", stored.first_x},
      {"last_x", stored.last_x},
      {"y_x", stored.y_row}};
  if (spec.x_scale) {
    of_tile["x_scale_row"] =
        fmt::format("  const float* x_scale_row = x_scale + {} * kXGroups;\n", x_row);
    names.push_back("e4m3_to_f32");
    of_tile["load_x"] = indented(
        "#pragma unroll\n"
        "for (int i = 0; i < kRun; ++i) {\n"
        "  if (col + i < kCols) {\n"
        "    activation[i] = e4m3_to_f32(x_row[col + i]) * x_scale_row[(col + i) / kXGroupCols];\n"
        "  }\n"
        "} // i: elements",
        6);
  } else {
    const std::string_view x_name = get_format(spec.x_format).name;
    names.push_back(fmt::format("load_run_{}", x_name));
    if (has_tail(spec) && spec.x_format != FormatId::kF32)
      names.push_back(fmt::format("{}_to_f32", x_name));
    of_tile["load_x"] = indented(load_x_statements(spec, "x_row"), 6);
  }
  of_tile["result"] = product_result(spec, "sum[r][j]", "y_row", names);
  values["tile"] =
      placed_tile(spec, fill_template(get_template("cuda/matmul_fma_tile.cu.in"), of_tile));
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants);
  return {fill_template(get_template("cuda/matmul_fma.cu.in"), values), kernel_name(spec),
          tiles_launch(spec, tile), lowering};
}

int element_bytes(FormatId format) { return get_format(format).block_bytes; }

/// How runs of eight columns are read: whole vectors if rows allow it.
std::string run_variant(const KernelSpec& spec, int tile_cols) {
  constexpr int kVectorBytes = 16;
  if (spec.layout.cols % kRun != 0 || spec.layout.base_alignment_bytes < kVectorBytes)
    return "element";
  return spec.layout.cols % tile_cols == 0 ? "vector" : "tail";
}

/// Whether the decode may skip NaN codes; those of x, where the same routine decodes them, are not scanned.
bool is_scanned(const KernelSpec& spec, const MmaPlan& plan) {
  return spec.weights_finite && has_finite_routine(spec.weight) && plan.x_form != XForm::kDecoded;
}

/// How codes become pairs, as Lowering names routines.
std::string pair_routine(const KernelSpec& spec, const MmaPlan& plan) {
  const bool is_e4m3 = spec.weight == FormatId::kFp8E4M3;
  if (is_e4m3 && plan.pair_type == "f16" && get_cuda_facts(spec.target).fp8_cvt)
    return "fp8_e4m3_cvt";
  return fmt::format("{}_{}x2{}", get_format(spec.weight).name, plan.pair_type,
                     is_scanned(spec, plan) ? "_finite" : "");
}

std::string store_x_statements(const KernelSpec& spec, const MmaPlan& plan) {
  if (plan.x_form == XForm::kScaled) {
    return "float value[kRun];\n"
           "x_values(x_next[i], value);\n"
           "const float power = power_of_row(value);\n"
           "if (run_col % kGroupCols == 0) x_factor[run_col / kGroupCols][row] = "
           "inverse_power(power);\n"
           "#pragma unroll\n"
           "for (int q = 0; q < 2; ++q) {\n"
           "  const int quad = run_col / 4 + q;\n"
           "  Quad<2> part[kTerms];\n"
           "  f16_parts(value + 4 * q, power, part);\n"
           "#pragma unroll\n"
           "  for (int p = 0; p < kTerms; ++p) x_tile[p][step_of(quad)][row][lane_of(quad)] = "
           "part[p];\n"
           "} // q: quads of a run";
  }
  std::string text;
  if (spec.x_scale) {
    text =
        "if (run_col % kChunk == 0) {\n"
        "  const long long scale_row = " +
        x_row_of_tile(spec, "row") +
        " * kXGroups;\n"
        "  x_factor[run_col / kChunk][row] = x_scale[scale_row + min_of(col + run_col, kCols - 1) "
        "/ kXGroupCols];\n"
        "}\n";
  }
  return text +
         "#pragma unroll\n"
         "for (int q = 0; q < 2; ++q) {\n"
         "  const int quad = run_col / 4 + q;\n"
         "  x_tile[0][step_of(quad)][row][lane_of(quad)] = x_quad(x_next[i], q);\n"
         "} // q: quads of a run";
}

/// Where in the tile a thread's row of y lies; with a gate the upper halves of 16-row tiles are of w_gate, the lower ones of
/// w_up, so that a thread has both sums behind it.
std::string row_of_half(const KernelSpec& spec) {
  return spec.gate == Gate::kNone ? "warp_row + m * 16 + half * 8 + group"
                                  : "warp_row / 2 + m * 8 + group";
}

/// The end of a chunk in the loop over steps: its sums, scaled, join the totals.
std::string promote_statements(const KernelSpec& spec, const MmaPlan& plan) {
  const bool scales_w = spec.scale && spec.scale->block_cols != 0;
  const bool scales_x = spec.x_scale || plan.x_form == XForm::kScaled;
  std::string text =
      "      if ((step + kStepsPerMma) % kChunkSteps == 0) { // the chunk's sums, scaled, join the "
      "totals\n";
  if (scales_w)
    text +=
        "        const int chunk_col = (int)min_of(col + step / kChunkSteps * kChunk, kCols - "
        "1);\n";
  text +=
      "#pragma unroll\n"
      "        for (int m = 0; m < kRowTiles; ++m) {\n"
      "#pragma unroll\n"
      "          for (int half = 0; half < 2; ++half) {\n";
  if (scales_w) {
    text += fmt::format(
        "            const long long row = min_of(first_row + {}, rows - 1);\n"
        "            const float w_factor = load_scale({}, {});\n",
        row_of_half(spec), spec.gate == Gate::kNone ? "scale" : "half == 0 ? scale_gate : scale_up",
        scale_index(*spec.scale, "row", "chunk_col"));
  }
  const std::string x_factor = fmt::format(
      "x_factor[{}][warp_x + j * 8 + 2 * quad_lane + i]",
      plan.x_form == XForm::kScaled ? "step / (kGroupCols / 16)" : "step / kChunkSteps");
  const std::string factor = scales_w && scales_x ? "w_factor * " + x_factor
                             : scales_w           ? "w_factor"
                                                  : x_factor;
  text += fmt::format(
      "#pragma unroll\n"
      "            for (int j = 0; j < kXTiles; ++j) {{\n"
      "#pragma unroll\n"
      "              for (int i = 0; i < 2; ++i) {{\n"
      "                total[m][j][2 * half + i] += {} * sum[m][j][2 * half + i];\n"
      "                sum[m][j][2 * half + i] = 0.0f;\n"
      "              }} // i: rows of x\n"
      "            }} // j: 8-row tiles of x\n"
      "          }} // half: of a 16-row tile\n"
      "        }} // m: 16-row tiles\n"
      "      }}\n",
      factor);
  return text;
}

/// How a CTA shares the work of its tile.
struct TileShape {
  int rows, x, cols;
  int warps_rows, warps_x;
};

/// With few rows of x the weights' way from memory is all that counts: many CTAs, each with long rows
/// on their way. With more of them, a decoded weight serves as many as registers allow.
TileShape tile_shape(const KernelSpec& spec) {
  const int x = tile_x_of(spec);
  if (x == 16) return {32, x, 256, 2, 2};
  return x == 32 ? TileShape{128, x, 64, 8, 1} : TileShape{128, x, 64, 4, 2};
}

/// Statements between a thread's sums and what is stored: `product`, or `gate` and `up`.
std::string product_statements(const KernelSpec& spec, bool scales_at_end, bool promotes) {
  const auto sum = [&](const std::string& factor, const std::string& place) {
    return fmt::format("{}{}[m][j][{}]", scales_at_end ? factor + " * " : "",
                       promotes ? "total" : "sum", place);
  };
  const std::string margin(12, ' ');
  if (spec.gate == Gate::kNone)
    return fmt::format("{}const float product = {};\n", margin, sum("w_factor", "2 * half + i"));
  return fmt::format("{0}const float gate = {1};\n{0}const float up = {2};\n", margin,
                     sum("gate_factor", "i"), sum("up_factor", "2 + i"));
}

/// Statements that load a row's scale where it has one for all columns.
std::string end_scale_statements(const KernelSpec& spec) {
  const std::string index = scale_index(*spec.scale, "row", "0");
  const auto load = [&](std::string_view name, std::string_view plane) {
    return fmt::format("        const float {} = load_scale({}, {});\n", name, plane, index);
  };
  return spec.gate == Gate::kNone
             ? load("w_factor", "scale")
             : load("gate_factor", "scale_gate") + load("up_factor", "scale_up");
}

EmittedKernel emit_mma(const KernelSpec& spec, const Lowering& weights, const MmaPlan& plan) {
  const TileShape tile = tile_shape(spec);
  const int threads = tile.warps_rows * tile.warps_x * kWarpThreads;
  const TileOfY tile_of_y{.w_rows = tile.rows,
                          .x_rows = tile.x,
                          .threads = threads,
                          .x_type = "unsigned char",
                          .weight_stride = "rows * kRowBytes",
                          .ctas = ctas_of(spec)};
  const bool has_gate = spec.gate != Gate::kNone;
  const bool takes_codes = plan.pair_type.empty();
  const bool is_fp8 = get_format(spec.weight).family == FormatFamily::kFp8;

  Lowering lowering = weights;
  if (takes_codes) {
    lowering.kind = LoweringKind::kHardware;
    lowering.summary = plan.words;
  } else {
    if (is_fp8) {
      const bool by_cvt = pair_routine(spec, plan).ends_with("_cvt");
      lowering.kind = by_cvt ? LoweringKind::kHardware : LoweringKind::kSoftware;
      lowering.summary =
          by_cvt ? "hardware cvt to f16x2"
                 : fmt::format("software, exact: bits moved into {}x2{}", plan.pair_type,
                               is_scanned(spec, plan) ? "; no NaN codes (scanned)" : "");
    }
    lowering.summary += "; " + plan.words;
  }
  std::vector<std::string> names = {"min_of",   "Run",    "Quad", "step_of",
                                    "load_run", "w_quad", "mma"};
  if (!takes_codes) names.push_back("w_pairs");
  if (plan.x_form == XForm::kScaled) {
    names.insert(names.end(),
                 {"x_values", "power_of_row", "inverse_power", "finite_rest", "f16_parts"});
  } else {
    names.push_back("x_quad");
  }
  if (spec.scale) names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
  FragmentVariants variants = variants_for(spec, weights);
  variants["load_run"] = run_variant(spec, tile.cols);
  variants["mma"] = plan.instruction;
  variants["w_pairs"] = is_fp8 ? "codes" : "native";
  variants["x_quad"] = plan.x_form == XForm::kDecoded ? "decoded" : "codes";
  variants["x_values"] = get_format(spec.x_format).name;
  if (is_fp8 && !takes_codes) add_pair_variants(pair_routine(spec, plan), variants);

  TemplateValues values = matmul_values(spec, lowering, tile_of_y, names);
  const int w_bytes = element_bytes(spec.weight), x_bytes = element_bytes(spec.x_format);
  std::vector<Constant> constants = shared_constants(spec, kRun);
  add_x_scale_constants(spec, constants);
  constants.insert(
      constants.end(),
      {{"kThreads", number(threads), "threads per CTA"},
       {"kTileRows", number(tile.rows), "rows of w of a CTA"},
       {"kTileX", number(tile.x), "rows of x of a CTA"},
       {"kTileCols", number(tile.cols), "columns in shared memory at a time"},
       {"kRunsPerTile", "kTileCols / kRun", "runs of one row in a tile"},
       {"kWarpsX", number(tile.warps_x), "warps side by side along x"},
       {"kWarpsRows", number(tile.warps_rows), "and along the rows of w"},
       {"kRowTiles", "kTileRows / kWarpsRows / 16", "16-row tiles of a warp"},
       {"kXTiles", "kTileX / kWarpsX / 8", "8-row tiles of x of a warp"},
       {"kSteps", "kTileCols / 16", "16 columns each"},
       {"kStepsPerMma", takes_codes ? "2" : "1", ""},
       {"kChunk", number(plan.chunk), "columns that have the same scales"},
       {"kChunkSteps", "kChunk / 16", ""},
       {"kTerms", number(plan.parts), "terms of x"},
       {"kWBytes", number(w_bytes), "bytes of an element of w"},
       {"kXBytes", number(x_bytes), "bytes of an element of x"},
       {"kWWords", number(w_bytes), "words of four columns of w in a tile"},
       {"kXWords", takes_codes ? "1" : "2", "words of four columns of x in a tile"},
       {"kXRowBytes", "kCols * kXBytes", ""},
       {"kWRuns", "kTileRows * kRunsPerTile / kThreads", "runs of w that a thread loads"},
       {"kXRuns", "(kTileX * kRunsPerTile + kThreads - 1) / kThreads", "runs of x"}});
  if (plan.x_form == XForm::kScaled) {
    constants.push_back(
        {"kGroupCols", number(kGroupCols), "columns of x that have one power of two"});
  }
  add_tile_values(spec, tile_of_y, values, constants, variants, names);
  values["constants"] = format_constants(constants);
  values["tiles"] =
      fmt::format("{} rows of w, {} of x, {} columns; {}{}", tile.rows, tile.x, tile.cols,
                  plan.words, plan.parts > 1 ? fmt::format(", x in {} terms", plan.parts) : "");
  values["x_factor_declaration"] =
      spec.x_scale || plan.x_form == XForm::kScaled
          ? fmt::format("  __shared__ float x_factor[{}][kTileX];\n",
                        spec.x_scale ? "kTileCols / kChunk" : "kTileCols / kGroupCols")
          : "";

  const StoredRows stored = stored_rows(spec, "x_row");
  const bool scales_at_end = spec.scale && spec.scale->block_cols == 0;
  TemplateValues of_tile = {
      {"w_row", has_gate ? "(row / 8 % 2 == 0 ? w_gate : w_up) + min_of(first_row + row / 16 * 8 + "
                           "row % 8, rows - 1)"
                         : "w + min_of(first_row + row, rows - 1)"},
      {"x_row", x_row_of_tile(spec, "row")},
      {"total_declaration", plan.promotes ? "  float total[kRowTiles][kXTiles][4] = {};\n" : ""},
      {"store_x", indented(store_x_statements(spec, plan), 8)},
      {"load_a",
       indented(takes_codes ? "a[m][0] = w_tile[step][row][quad_lane].word[0];\n"
                              "a[m][1] = w_tile[step][row + 8][quad_lane].word[0];\n"
                              "a[m][2] = w_tile[step + 1][row][quad_lane].word[0];\n"
                              "a[m][3] = w_tile[step + 1][row + 8][quad_lane].word[0];"
                            : "w_pairs(w_tile[step][row][quad_lane], a[m][0], a[m][2]);\n"
                              "w_pairs(w_tile[step][row + 8][quad_lane], a[m][1], a[m][3]);",
                8)},
      {"load_b",
       indented(takes_codes
                    ? "const unsigned b[2] = {x_tile[part][step][x_row][quad_lane].word[0],\n"
                      "                       x_tile[part][step + 1][x_row][quad_lane].word[0]};"
                    : "const Quad<2> quad = x_tile[part][step][x_row][quad_lane];\n"
                      "const unsigned b[2] = {quad.word[0], quad.word[1]};",
                10)},
      {"promote", plan.promotes ? promote_statements(spec, plan) : ""},
      {"halves", has_gate ? "1" : "2"},
      {"row_of_sum", row_of_half(spec)},
      {"end_scale", scales_at_end ? end_scale_statements(spec) : ""},
      {"x_row_type", stored.type},
      {"first_x", stored.first_x},
      {"last_x", stored.last_x},
      {"y_row", stored.y_row},
      {"products", product_statements(spec, scales_at_end, plan.promotes)},
      {"result", product_result(spec, "product", "row", names)}};
  values["tile"] =
      placed_tile(spec, fill_template(get_template("cuda/matmul_mma_tile.cu.in"), of_tile));
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants);
  return {fill_template(get_template("cuda/matmul_mma.cu.in"), values), kernel_name(spec),
          tiles_launch(spec, tile_of_y), lowering};
}

}  // namespace

EmittedKernel emit_matmul(const KernelSpec& spec, const Lowering& lowering) {
  const std::optional<MmaPlan> plan = plan_mma(spec);
  return plan ? emit_mma(spec, lowering, *plan) : emit_fma(spec, lowering);
}

}  // namespace ktjit::codegen
