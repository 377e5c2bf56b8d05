// How weights reach wgmma: tiles and the places in shared memory, and what of the skeleton's text depends on the format.
#include "codegen/cuda_warpgroup_matmul.h"

#include <algorithm>
#include <array>
#include <bit>
#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/cuda_unit_matvec.h"
#include "codegen/cuda_warpgroup_tiles.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "codegen/product_text.h"
#include "codegen/warpgroup_parts.h"
#include "core/error.h"
#include "core/prepared_layout.h"

namespace ktjit::codegen {
namespace {

using namespace warpgroup;

constexpr int kStageRowBytes = 128;  // of x
constexpr int kWarpgroupTiles = 4;   // of 16 rows, each a warp's
constexpr int kUnitSlots = 2;
constexpr int kTablePitch =
    20;  // rows of a table's block, 8 bytes each: four blocks lie in different banks
constexpr int kMostStages = 6;
constexpr int kFewRegisters = 40;

std::string number(std::int64_t value) { return fmt::format("{}", value); }

bool is_prepared(const KernelSpec& spec) { return spec.layout.kind == LayoutKind::kPrepared; }
bool has_fp8_x(const KernelSpec& spec) { return spec.activation == ActivationPolicy::kAfp8; }
int stage_cols(const KernelSpec& spec) {
  return kStageRowBytes / get_format(spec.x_format).block_bytes;
}
int element_bytes(const KernelSpec& spec) { return spec.weight == FormatId::kBF16 ? 2 : 1; }

/// The places in shared memory.
struct Plan {
  int x = 0;      ///< rows of x of a CTA
  int tiles = 0;  ///< 16-row tiles of w of a CTA
  int ctas = 0;   ///< that share a multiprocessor
  int stages = 0;
  int blocks = 0;  ///< of a unit, with scales in tables
  std::int64_t unit_bytes = 0;
  bool has_x_scales = false;
  std::int64_t units_at = 0, tables_at = 0, x_scales_at = 0, barriers_at = 0, smem_bytes = 0;
  ExpertPlan experts;

  int threads() const { return kCopyThreads + tiles * kWarpThreads; }
  int rows() const { return tiles * kUnitRows; }
  /// Rows of x that one wgmma takes: with FP8 sums of a group are apart from the totals, and 168 registers hold both.
  int part() const { return has_x_scales ? std::min(x, 64) : x; }

  void lay_out(const KernelSpec& spec) {
    units_at = std::int64_t{1} * stages * x * kStageRowBytes;
    tables_at = units_at + kUnitSlots * tiles * unit_bytes;
    x_scales_at = tables_at + std::int64_t{8} * tiles * blocks * kUnitRows;
    experts = plan_experts(spec, tiles, x, kCopyThreads,
                           x_scales_at + (has_x_scales ? std::int64_t{4} * stages * x : 0));
    barriers_at = experts.end;
    smem_bytes =
        barriers_at + std::int64_t{kBarrierBytes} * (2 * (stages + kUnitSlots) + experts.barriers);
  }
};

/// As many stages as fit, unless a knob says how many.
Plan make_plan(const KernelSpec& spec) {
  constexpr std::array kTilesOfX = {16, 32, 64, 128, 256};
  constexpr int kDefaultTile = 256, kLargestOfExperts = 128;
  Plan plan;
  const bool is_moe = has_experts(spec.op);
  const int largest = is_moe ? kLargestOfExperts : kDefaultTile;
  plan.x = spec.tuning.x_tile == 0 ? largest : spec.tuning.x_tile;
  if (std::ranges::find(kTilesOfX, plan.x) == kTilesOfX.end() || plan.x > largest)
    throw SpecError("x_tile", number(plan.x),
                    is_moe ? "16, 32, 64 or 128" : "16, 32, 64, 128 or 256");
  const int wanted = spec.tuning.stages;
  if (wanted != 0 && (wanted < kLeastStages || wanted > kMostStages))
    throw SpecError("stages", number(wanted), fmt::format("{} to {}", kLeastStages, kMostStages));
  plan.unit_bytes = is_prepared(spec) ? find_prepared_layout(spec.weight)->unit_bytes()
                                      : kUnitRows * kUnitCols * element_bytes(spec);
  plan.blocks = is_prepared(spec) ? kUnitCols / unit_block_cols(spec.weight) : 0;
  plan.has_x_scales = has_fp8_x(spec);
  // Few rows of x leave registers for two CTAs on a multiprocessor, each of one warpgroup that multiplies: more CTAs share
  // the rows of w.
  constexpr int kSmallTile = 64;
  // With experts many rows of w share a tile of x, whose rows come from far apart, and more warps decode at a time.
  constexpr int kManyTiles = 4 * kWarpgroupTiles;
  plan.ctas = plan.x <= kSmallTile && !is_moe ? 2 : 1;
  plan.tiles = plan.ctas == 2 ? kWarpgroupTiles : 2 * kWarpgroupTiles;
  if (is_moe) {
    if (plan.x <= kSmallTile) plan.tiles = kManyTiles;
    const int threads = spec.tuning.threads;
    if (threads != 0) plan.tiles = (threads - kCopyThreads) / kWarpThreads;
    if (threads != 0 && (plan.threads() != threads || plan.tiles % kWarpgroupTiles != 0 ||
                         plan.tiles < kWarpgroupTiles * 2 || plan.tiles > kManyTiles)) {
      throw SpecError("threads", number(threads), "384, 512 or 640 with moe_matmul");
    }
    if (spec.gate != Gate::kNone && plan.tiles % (2 * kWarpgroupTiles) != 0)
      throw SpecError("threads", number(threads), "384 or 640 with a gate");
  }
  const std::int64_t limit = smem_limit(spec.target, plan.ctas);
  plan.stages = wanted == 0 ? kMostStages : wanted;
  plan.lay_out(spec);
  while (wanted == 0 && plan.smem_bytes > limit && plan.stages > kLeastStages) {
    --plan.stages;
    plan.lay_out(spec);
  }
  if (plan.smem_bytes > limit && is_moe && spec.tuning.threads == 0 && plan.tiles == kManyTiles) {
    KernelSpec fewer = spec;  // rows of 16-bit numbers, which are larger than codes
    fewer.tuning.threads = kCopyThreads + kManyTiles / 2 * kWarpThreads;
    return make_plan(fewer);
  }
  if (plan.smem_bytes > limit) {
    throw SpecError("stages", number(plan.stages),
                    fmt::format("fewer: {} has {} bytes of shared memory for a CTA, not {}",
                                spec.target.name(), limit, plan.smem_bytes));
  }
  return plan;
}

/// Statements that multiply a stage while the one before may still be being multiplied.
constexpr std::string_view kMultiply =
    "begin_products();\n"
    "#pragma unroll\n"
    "for (int k = 0; k < 4; ++k) add_product(total, a[k], x_matrix + 2 * k);\n"
    "end_products();\n"
    "products_done<1>();\n"
    "if (kUnitStages * u + pair > 0) {\n"
    "  __syncwarp(); // the warp's products of the stage before are there\n"
    "  if (lane == 0) arrive_at_barrier(x_emptied + 8 * ((stage + kStages - 1) % kStages));\n"
    "}\n";
constexpr std::string_view kFinish =
    "products_done<0>();\n"
    "keep_sums(total);\n"
    "__syncwarp();\n"
    "if (lane == 0) arrive_at_barrier(x_emptied + 8 * ((stage + kStages - 1) % kStages));\n";

/// Statements that multiply a stage of FP8, part by part, and add the sums times their scales to the totals.
std::string multiply_fp8(const KernelSpec& spec) {
  const bool has_scale = spec.scale.has_value();
  const bool same_rows = !has_scale || spec.scale->block_rows % kUnitRows == 0;  // 0: all rows
  const std::string w_scale =
      has_scale ? fmt::format("scale_of_row[{}] * ", same_rows ? "0" : "i / 2") : "";
  return fmt::format(
      "const float* const own_x_scales = (const float*)(shared + kXScalesAt) + stage % kStages * "
      "kTileX + 2 * q;\n"
      "#pragma unroll\n"
      "for (int part = 0; part < kTileX / kPartX; ++part) {{\n"
      "  float sum[kPartX / 2];\n"
      "  begin_products();\n"
      "  start_product(sum, a[0], x_matrix + part * (kPartX * 8));\n"
      "#pragma unroll\n"
      "  for (int k = 1; k < 4; ++k) add_product(sum, a[k], x_matrix + part * (kPartX * 8) + 2 * "
      "k);\n"
      "  end_products();\n"
      "  products_done<0>();\n"
      "  keep_sums(sum);\n"
      "#pragma unroll\n"
      "  for (int j = 0; j < kPartX / 8; ++j) {{\n"
      "    const Words2 x_scales = *(const Words2*)(own_x_scales + part * kPartX + 8 * j);\n"
      "#pragma unroll\n"
      "    for (int i = 0; i < 4; ++i) {{\n"
      "      const float scale_of_sum = {}__uint_as_float(x_scales.word[i % 2]);\n"
      "      total[part * (kPartX / 2) + 4 * j + i] += scale_of_sum * sum[4 * j + i];\n"
      "    }} // i: two rows of w and of x\n"
      "  }} // j: eight rows of x\n"
      "}} // part: of the rows of x\n"
      "__syncwarp(); // all lanes have read the stage's scales\n"
      "if (lane == 0) arrive_at_barrier(x_emptied + 8 * (stage % kStages));\n",
      w_scale);
}

/// Statements that copy the scales of a stage's rows of x.
std::string copy_x_scales(const KernelSpec& spec) {
  return fmt::format(
      "#pragma unroll 1\n"
      "for (int row = threadIdx.x; row < kTileX; row += kCopyThreads) {{\n"
      "  const float* own = x_scale + {} * kXScaleCols + s;\n"
      "  copy_4_bytes(shared + kXScalesAt + 4 * (slot * kTileX + row), (const unsigned "
      "char*)own);\n"
      "}} // row: of x\n",
      has_experts(spec.op) ? "(long long)list.rows.x_row[min_of(row, tile_slots - 1)]"
                           : "(first_x + (row < last_x ? row : last_x))");
}

/// `store_tile`: sums are of rows group and group + 8, and of rows 8 j + 2 q and one more of x.
std::string store_tile(const KernelSpec& spec) {
  const bool is_moe = has_experts(spec.op);
  const bool has_bias = spec.bias && spec.gate == Gate::kNone;  // with a gate it is there already
  const std::string bias_type =
      has_bias ? fmt::format("const {}* bias, ", io_type(*spec.bias)) : "";
  const std::string type = io_type(spec.y_format);
  std::string text = fmt::format(
      "\n// Rows and rows of x past the last ones are left out.\n"
      "__device__ __forceinline__ void store_tile(const float (&total)[kTileX / 2], {}* y, {}long "
      "long first_row, {},\n"
      "                                           long long rows, {} n, int group, int q) {{\n",
      type, bias_type, is_moe ? "const int (&slot)[kTileX]" : "long long first_x",
      is_moe ? "int" : "long long");
  const std::string x_type = is_moe ? "int" : "long long";
  const std::string first_x = is_moe ? "" : "first_x + ";
  const std::string y_row = is_moe ? "(long long)slot[x_row]" : "x_row";
  if (has_bias) {
    text +=
        "  float own_bias[2];\n"
        "#pragma unroll\n"
        "  for (int r = 0; r < 2; ++r) {\n"
        "    own_bias[r] = load_bias(bias, min_of(first_row + group + 8 * r, rows - 1));\n"
        "  } // r: rows\n";
  }
  const std::string sum = has_bias ? "total[4 * j + i] + own_bias[i / 2]" : "total[4 * j + i]";
  if (spec.y_format != FormatId::kF32) {
    const std::string pack = fmt::format("f32x2_to_{}x2", get_format(spec.y_format).name);
    const auto value = [&](int i) {
      return has_bias ? fmt::format("total[4 * j + 2 * r + {}] + own_bias[r]", i)
                      : fmt::format("total[4 * j + 2 * r + {}]", i);
    };
    text += fmt::format(
        "  if (rows % 2 == 0 && (unsigned long long)y % 4 == 0) {{ // two rows of y at once\n"
        "#pragma unroll\n"
        "    for (int j = 0; j < kTileX / 8; ++j) {{\n"
        "#pragma unroll\n"
        "      for (int r = 0; r < 2; ++r) {{\n"
        "        const unsigned pair = transposed({}({}, {}));\n"
        "        const {} x_row = {}8 * j + group;\n"
        "        const long long row = first_row + 8 * r + 2 * q;\n"
        "        if (x_row < n && row < rows) *(unsigned*)(y + {} * rows + row) = pair;\n"
        "      }} // r: eight rows\n"
        "    }} // j: eight rows of x\n"
        "    return;\n"
        "  }}\n",
        pack, value(0), value(1), x_type, first_x, y_row);
  }
  text += fmt::format(
      "#pragma unroll\n"
      "  for (int j = 0; j < kTileX / 8; ++j) {{\n"
      "#pragma unroll\n"
      "    for (int i = 0; i < 4; ++i) {{\n"
      "      const {} x_row = {}8 * j + 2 * q + i % 2;\n"
      "      const long long row = first_row + group + i / 2 * 8;\n"
      "      if (x_row < n && row < rows) store_element(y + {} * rows + row, {});\n"
      "    }} // i: two rows of w and of x\n"
      "  }} // j: eight rows of x\n"
      "}}\n",
      x_type, first_x, y_row, sum);
  return text;
}

/// Statements that make a unit's table of factors.
std::string make_tables(bool has_minima) {
  std::string text =
      "{\n"
      "  Unit unit = {};\n"
      "  load_scales(own_unit, lane % 16, unit);\n"
      "  const OwnScales scales = own_scales(unit, 0);\n"
      "  __syncwarp(); // the table of the unit before has been read\n"
      "  if (lane < 16) {\n"
      "#pragma unroll\n"
      "    for (int block = 0; block < kBlocks; ++block) {\n"
      "      const float scale = kFactor * scales.whole() * scales.of_block(block);\n";
  text += has_minima ? "      table[block * 16 + lane] = block_factor(scale, "
                       "block_minimum(unit, scales, block));\n"
                     : "      table[block * 16 + lane] = block_factor(scale);\n";
  return text +
         "    } // block: of a unit\n"
         "  }\n"
         "  __syncwarp();\n"
         "}\n";
}

/// Statements that decode a pair's codes of this lane into the operands a.
std::string decode_units(const std::string& code) {
  return "unsigned codes[1][2][4];\n"
         "pair_codes(unit, pair, codes);\n"
         "#pragma unroll\n"
         "for (int r = 0; r < 2; ++r) {\n"
         "#pragma unroll\n"
         "  for (int k = 0; k < 4; ++k) {\n"
         "    const Words2 factor = own_table[(kBlocks / 4 * pair + k * kBlocks / 16) * 16 + 8 * "
         "r];\n"
         "    round_codes(" +
         code +
         ", factor, a[k][r], a[k][r + 2]);\n"
         "  } // k: steps of 16 columns\n"
         "} // r: rows\n";
}

std::string decode_fp8(bool has_scale) {
  return fmt::format(
      "#pragma unroll\n"
      "for (int r = 0; r < 2; ++r) {{\n"
      "#pragma unroll\n"
      "  for (int k = 0; k < 4; ++k) round_fp8(unit.codes[2 * pair + r].word[k], {}, a[k][r], "
      "a[k][r + 2]);\n"
      "}} // r: rows\n",
      has_scale ? "scale_of_stage[pair][r]" : "1.0f");
}

/// Of 16 bytes of a row lane q of four feeds four: bf16, or FP8 codes that are multiplied as they are.
constexpr std::string_view kTakeWords =
    "#pragma unroll\n"
    "for (int r = 0; r < 2; ++r) {\n"
    "  const unsigned char* own = own_unit + 1024 * (2 * pair + r) + 128 * group + 4 * q;\n"
    "#pragma unroll\n"
    "  for (int i = 0; i < 8; ++i) a[i / 2][r + i % 2 * 2] = *(const unsigned*)(own + 16 * (i ^ "
    "group));\n"
    "} // r: rows\n";

/// Statements that load the scales of a stage's rows, which are used when its products are there.
std::string load_stage_scales(const ScaleGrid& grid, int cols_of_stage) {
  return fmt::format(
      "float scale_of_row[2];\n"
      "#pragma unroll\n"
      "for (int r = 0; r < 2; ++r) {{\n"
      "  const long long row = min_of((long long)row_tile * 16 + group + 8 * r, rows - 1);\n"
      "  const int col = {} * (kUnitStages * u + pair);\n"
      "  scale_of_row[r] = load_scale(scale, {});\n"
      "}} // r: rows\n",
      cols_of_stage, scale_index(grid, "row", "col"));
}

/// Statements that load the scales of a unit's rows: one for each stage and row of this lane.
std::string load_scales(const ScaleGrid& grid, int cols_of_stage) {
  return fmt::format(
      "float scale_of_stage[kUnitStages][2];\n"
      "#pragma unroll\n"
      "for (int r = 0; r < 2; ++r) {{\n"
      "  const long long row = min_of((long long)row_tile * 16 + group + 8 * r, rows - 1);\n"
      "#pragma unroll\n"
      "  for (int pair = 0; pair < kUnitStages; ++pair) {{\n"
      "    const int col = (int)min_of(256 * u + {} * pair, kCols - 1);\n"
      "    scale_of_stage[pair][r] = load_scale(scale, {});\n"
      "  }} // pair: a stage's columns\n"
      "}} // r: rows\n",
      cols_of_stage, scale_index(grid, "row", "col"));
}

std::string bf16_pair_of(int value) {
  const std::uint32_t half = std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16;
  return fmt::format("{:#010x}u", half << 16 | half);
}

}  // namespace

EmittedKernel emit_warpgroup_matmul(const KernelSpec& spec, const Lowering& weights) {
  const Plan plan = make_plan(spec);
  const bool has_units = is_prepared(spec);
  const bool is_bf16 = !has_units && spec.weight == FormatId::kBF16;
  const TileOfY tile{
      .w_rows = plan.rows(),
      .x_rows = plan.x,
      .threads = plan.threads(),
      .x_type = "unsigned char",
      .weight_stride = has_units ? "(rows + 15) / 16 * kUnits * kUnitBytes" : "rows * kRowBytes",
      .smem_bytes = static_cast<unsigned>(plan.smem_bytes),
      .ctas = plan.ctas};
  LaunchShape shape = tiles_launch(spec, tile);
  shape.is_flat = true;
  shape.ctas_per_multiprocessor = static_cast<unsigned>(plan.ctas);

  Lowering lowering = weights;
  const bool is_fp8 = has_fp8_x(spec);
  const bool takes_words = is_bf16 || is_fp8;
  lowering.summary = fmt::format("{}; wgmma m64n{}k{}",
                                 takes_words ? "as they are"
                                 : has_units ? "codes times scales, rounded to bf16"
                                             : weights.summary + ", rounded to bf16",
                                 plan.part(), is_fp8 ? "32 e4m3" : "16 bf16");

  const int cols_of_stage = stage_cols(spec);
  const bool cuts_stage = spec.layout.cols % cols_of_stage != 0;
  const bool cuts_unit = spec.layout.cols % kUnitCols != 0;
  std::vector<std::string> names = {
      "min_of",           "shared_address",
      "init_barrier",     "arrive_at_barrier",
      "wait_for_barrier", cuts_stage ? "copy_16_bytes_of" : "copy_16_bytes",
      "copy_unit_tile",   "arrive_after_copies",
      "finish_copies",    "see_copies",
      "begin_products",   "end_products",
      "products_done",    "x_descriptor"};
  FragmentVariants variants = variants_for(spec, weights);
  variants["copy_unit_tile"] = has_units ? "prepared" : is_bf16 ? "bf16" : is_fp8 ? "codes" : "fp8";
  variants["copy_row_vector"] = cuts_unit ? "cut" : "whole";
  if (spec.y_format != FormatId::kF32) {
    names.emplace_back("transposed");
    names.push_back(fmt::format("f32x2_to_{}x2", get_format(spec.y_format).name));
  }

  TemplateValues values = {{"kernel", kernel_name(spec)},
                           {"emitter_version", fmt::format("{}", kEmitterVersion)},
                           {"math", product_math(spec)},
                           {"arch", arch_description(spec, lowering)}};
  names.push_back(fmt::format("store_element_{}", get_format(spec.y_format).name));
  if (spec.bias) names.push_back(fmt::format("load_bias_{}", get_format(*spec.bias).name));
  add_wait(spec, values, names);
  std::vector<Constant> constants = {
      {"kXRowBytes", number(spec.layout.cols * get_format(spec.x_format).block_bytes),
       "bytes of a row of x"},
      {"kThreads", number(plan.threads()), "threads per CTA"},
      {"kCopyThreads", number(kCopyThreads), "of which copy"},
      {"kCtas", number(plan.ctas), "CTAs on a multiprocessor"},
      {"kTiles", number(plan.tiles), "16-row tiles of w of a CTA, each of one warp"},
      {"kTileX", number(plan.x), "rows of x of a CTA"},
      {"kStages", number(plan.stages),
       fmt::format("of {} columns of x: in use or on their way", cols_of_stage)},
      {"kSteps", number(ceil_div(spec.layout.cols, cols_of_stage)), "stages of a tile"},
      {"kUnitStages", number(kUnitCols / cols_of_stage), "stages of a unit"},
      {"kUnits", number(ceil_div(spec.layout.cols, kUnitCols)),
       "units side by side, of 16 rows and 256 columns"},
      {"kUnitBytes", number(plan.unit_bytes), "bytes of a unit in shared memory"},
      {"kUnitSlots", number(kUnitSlots), "places for units: in use or on their way"},
      {"kUnitsAt", number(plan.units_at), "bytes of shared memory before the units"},
      {"kBarriersAt", number(plan.barriers_at), "before the barriers"}};
  const bool shares_registers = plan.ctas == 1 && !has_experts(spec.op);
  if (shares_registers) {
    names.insert(names.end(), {"keep_few_registers", "keep_many_registers"});
    constants.insert(constants.end(),
                     {{"kFewRegisters", number(kFewRegisters), "of a thread that copies"},
                      {"kManyRegisters", number(many_registers(plan.threads(), kFewRegisters)),
                       "of one that multiplies"}});
  }
  std::string more_functions, tables, make, load, decode;
  std::string unit = "";
  if (has_units) {
    const PreparedLayout& layout = *find_prepared_layout(spec.weight);
    const UnitDecode form = unit_decode(spec.weight);
    const bool has_minima = form.minimum != "none";
    const bool has_shifts =
        std::ranges::any_of(form.code_shifts, [](int shift) { return shift != 0; });
    KTJIT_CHECK(!has_minima || (form.offset == 0 && !form.has_signed_codes));
    names.insert(names.end(), {"Unit", "pair_codes", "OwnScales", "load_scales", "block_factor",
                               "round_codes", "Words2"});
    if (has_minima) names.emplace_back("block_minimum");
    if (has_shifts) {
      names.emplace_back("plain_codes");
      more_functions += code_shift_text(form.code_shifts);
    }
    add_unit_variants(spec, true, variants);
    if (variants["block_scale"] == "e8m0")
      variants["block_scale"] = form.has_scale_nan ? "e8m0_half_nan" : "e8m0_half";
    variants["unit_minimum"] = variants["OwnScales"] == "s32" ? "none_s32" : "none";
    variants["block_minimum"] = form.minimum;
    const std::string packing(unit_packing(spec.weight));
    const bool has_parts =
        packing == "k1" || packing == "k3" || packing == "k3Table" || packing == "k5";
    if (has_parts) variants["pair_codes"] = packing + "_halves";
    variants["step_source"] = number(form.block_cols);
    variants["halves_of"] = packing == "k4Table" || packing == "k3Table" ? "nibbles" : "bytes";
    variants["code_pairs"] = form.has_signed_codes ? "bf16_signed" : "bf16_unsigned";
    variants["block_factor"] = variants["round_codes"] = has_minima ? "minima" : "scaled";
    constants.insert(
        constants.end(),
        {{"kCodeVectors", number(layout.code_bits()),
          "16-byte vectors of codes that a lane has of a unit"},
         {"kBlocks", number(plan.blocks), "blocks of a unit, whose columns share a scale"},
         {"kTablesAt", number(plan.tables_at), "bytes of shared memory before the tables"},
         {"kFactor", fmt::format("{}f", fmt::format("{:#}", form.factor)),
          "by which all scales are too small", "float"}});
    if (!form.has_signed_codes && !has_minima) {
      constants.push_back({"kPairOffset", bf16_pair_of(-(128 - form.offset)),
                           fmt::format("{}, twice", -(128 - form.offset)), "unsigned"});
    }
    add_level_constants(spec.weight, true, constants);
    tables =
        "  Words2* const table = (Words2*)(shared + kTablesAt) + tile_of_cta * (kBlocks * 16);\n"
        "  const Words2* const own_table = table + group;\n";
    make = make_tables(has_minima);
    decode = decode_units(has_shifts ? "plain_codes(codes[0][r][k], pair)" : "codes[0][r][k]");
  } else {
    constants.push_back({"kRowBytes", number(spec.layout.cols * element_bytes(spec)),
                         "bytes of a row of w", "long long"});
    if (takes_words) {
      decode = kTakeWords;
    } else {
      names.emplace_back("round_fp8");
      variants["Head"] = "4";  // neither
      variants["Tail"] = "none";
      variants["halves_of"] = "bytes";
      variants["step_source"] = "32";
      add_pair_variants(spec.weight == FormatId::kFp8E4M3 ? "fp8_e4m3_cvt" : "fp8_e5m2_cvt",
                        variants);
      decode = decode_fp8(spec.scale.has_value());
    }
    if (spec.scale) {
      if (is_fp8) {
        decode = load_stage_scales(*spec.scale, cols_of_stage) + decode;
      } else {
        load = load_scales(*spec.scale, cols_of_stage);
        constants.push_back({"kCols", number(spec.layout.cols), "columns of w"});
      }
      names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
      for (const Constant& constant : shared_constants(spec, kRun)) {
        if (constant.name.starts_with("kScale")) constants.push_back(constant);
      }
    }
    if (is_fp8) {
      names.insert(names.end(), {"Words2", "copy_4_bytes"});
      constants.insert(
          constants.end(),
          {{"kXScaleCols", number(spec.x_scale->cols_of_scales(spec.layout.cols)),
            "scales of a row of x"},
           {"kXScalesAt", number(plan.x_scales_at), "bytes of shared memory before those"},
           {"kPartX", number(plan.part()), "rows of x that one wgmma takes"}});
    }
  }
  if (!takes_words) {
    variants["Unit"] = "halves";
    names.insert(names.end(), {"Unit", "halves_of"});
    unit =
        "Unit unit = {};\n"
        "unit.codes.lane = {own_unit + 64 * group, 16u * (unsigned)(group / 2), halves_of(q), q / "
        "2};\n";
  }
  add_warpgroup_tile_values(spec, tile, plan.experts,
                            {cuts_stage ? "copy_16_bytes_of" : "copy_16_bytes",
                             cuts_stage ? ", 128 * s + 16 * own_place < kXRowBytes ? 16 : 0" : ""},
                            values, constants, variants, names);
  values["constants"] = format_constants(constants);
  values["functions"] = more_functions + FragmentLibrary::of("cuda").splice(names, variants) +
                        product_function(is_fp8, plan.part(), false) +
                        (is_fp8 ? product_function(is_fp8, plan.part(), true, "=f") : "") +
                        keep_sums(plan.part()) + store_tile(spec);
  values["tiles"] = fmt::format(
      "{} rows of w, {} of x, {} stages of {} columns, {} places for 256 columns of w; "
      "4 warps copy, {} multiply",
      plan.rows(), plan.x, plan.stages, cols_of_stage, kUnitSlots, plan.tiles);
  values["threads"] = number(plan.threads());
  values["smem_bytes"] = number(plan.smem_bytes);
  values["stage_unroll"] = is_fp8 ? " 1" : "";  // its sums leave few registers
  values["stage_cols"] = number(cols_of_stage);
  values["precision"] = is_fp8    ? "sums of 128 columns as FP8 tensor cores make them"
                        : is_bf16 ? "sums in f32"
                                  : "each number of w rounded once to bf16";
  values["columns_note"] =
      takes_words
          ? ""
          : " Of each 8 columns lane 4 g + q feeds columns 2 q and 2 q + 1 of rows g and g + 8 to\n"
            "// wgmma: it reads those of units, which lie otherwise, wherever they are.";
  values["tables"] = tables;
  values["copy_x_scales"] = is_fp8 ? placed_lines(copy_x_scales(spec), 8) : "";
  values["few_registers"] = shares_registers ? "    keep_few_registers();\n" : "";
  values["many_registers"] = shares_registers ? "  keep_many_registers();\n" : "";
  values["multiply"] = placed_lines(is_fp8 ? multiply_fp8(spec) : std::string(kMultiply), 8);
  values["finish"] = is_fp8 ? "" : placed_lines(std::string(kFinish), 4);
  values["load_scales"] = placed_lines(load, 6);
  values["make_tables"] = placed_lines(make, 6);
  values["unit"] = placed_lines(unit, 6);
  values["decode"] = placed_lines(decode, 8);
  return {fill_template(get_template("cuda/warpgroup_matmul.cu.in"), values), kernel_name(spec),
          shape, lowering};
}

}  // namespace ktjit::codegen
