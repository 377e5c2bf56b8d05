// How weights reach wgmma: tiles and the places in shared memory, and what of the skeleton's text depends on the format.
#include "codegen/cuda_warpgroup_matmul.h"

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

constexpr int kStageCols = 64;  // of x
constexpr int kStageRowBytes = 2 * kStageCols;
constexpr int kCopyThreads = 128;
constexpr int kTiles = 8;  // of 16 rows, each a warp's: two warpgroups
constexpr int kThreads = kCopyThreads + kTiles * kWarpThreads;
constexpr int kUnitSlots = 2;
constexpr int kTablePitch =
    20;  // rows of a table's block, 8 bytes each: four blocks lie in different banks
constexpr int kLeastStages = 2, kMostStages = 6;
constexpr int kBarrierBytes = 8;

std::string number(std::int64_t value) { return fmt::format("{}", value); }

bool is_prepared(const KernelSpec& spec) { return spec.layout.kind == LayoutKind::kPrepared; }
int element_bytes(const KernelSpec& spec) { return spec.weight == FormatId::kBF16 ? 2 : 1; }

/// The places in shared memory.
struct Plan {
  int x = 0;  ///< rows of x of a CTA
  int stages = 0;
  int blocks = 0;  ///< of a unit, with scales in tables
  std::int64_t unit_bytes = 0;
  std::int64_t units_at = 0, tables_at = 0, barriers_at = 0, smem_bytes = 0;

  void lay_out() {
    units_at = std::int64_t{1} * stages * x * kStageRowBytes;
    tables_at = units_at + kUnitSlots * kTiles * unit_bytes;
    barriers_at = tables_at + std::int64_t{8} * kTiles * blocks * kUnitRows;
    smem_bytes = barriers_at + std::int64_t{2} * kBarrierBytes * (stages + kUnitSlots);
  }
};

/// As many stages as fit, unless a knob says how many.
Plan make_plan(const KernelSpec& spec) {
  constexpr std::array kTilesOfX = {16, 32, 64, 128, 256};
  constexpr int kDefaultTile = 256;
  Plan plan;
  plan.x = spec.tuning.x_tile == 0 ? kDefaultTile : spec.tuning.x_tile;
  if (std::ranges::find(kTilesOfX, plan.x) == kTilesOfX.end())
    throw SpecError("x_tile", number(plan.x), "16, 32, 64, 128 or 256");
  const int wanted = spec.tuning.stages;
  if (wanted != 0 && (wanted < kLeastStages || wanted > kMostStages))
    throw SpecError("stages", number(wanted), fmt::format("{} to {}", kLeastStages, kMostStages));
  plan.unit_bytes = is_prepared(spec) ? find_prepared_layout(spec.weight)->unit_bytes()
                                      : kUnitRows * kUnitCols * element_bytes(spec);
  plan.blocks = is_prepared(spec) ? kUnitCols / unit_block_cols(spec.weight) : 0;
  const std::int64_t limit = get_cuda_facts(spec.target).smem_per_cta_bytes;
  plan.stages = wanted == 0 ? kMostStages : wanted;
  plan.lay_out();
  while (wanted == 0 && plan.smem_bytes > limit && plan.stages > kLeastStages) {
    --plan.stages;
    plan.lay_out();
  }
  if (plan.smem_bytes > limit) {
    throw SpecError("stages", number(plan.stages),
                    fmt::format("fewer: {} has {} bytes of shared memory, not {}",
                                spec.target.name(), limit, plan.smem_bytes));
  }
  return plan;
}

/// `add_product`: one wgmma, whose sums are all of a thread's. PTX ISA, "wgmma.mma_async".
std::string add_product(int x_rows) {
  const int sums = x_rows / 2;
  std::string names, bindings;
  for (int i = 0; i < sums; ++i) {
    const bool starts_line = i % 16 == 0;
    names += fmt::format("{}%{}{}", starts_line ? "\n      \"" : "", i,
                         i + 1 == sums  ? "}, \""
                         : i % 16 == 15 ? ", \""
                                        : ", ");
    bindings += fmt::format("{}\"+f\"(total[{}]){}", i % 8 == 0 ? "\n        " : " ", i,
                            i + 1 == sums ? "" : ",");
  }
  return fmt::format(
      "\n// total += a b for 64 rows of w, of which this warp has 16, all {0} rows of x and 16 "
      "columns. The products are "
      "there\n"
      "// after products_done; until then no one changes what they read.\n"
      "__device__ __forceinline__ void add_product(float (&total)[{1}], const unsigned (&a)[4], "
      "unsigned long long x_matrix) "
      "{{\n"
      "  asm volatile(\n"
      "      \"wgmma.mma_async.sync.aligned.m64n{0}k16.f32.bf16.bf16 {{\"{2}\n"
      "      \"{{%{1}, %{3}, %{4}, %{5}}}, %{6}, 1, 1, 1, 0;\"\n"
      "      :{7}\n"
      "      : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"l\"(x_matrix)\n"
      "      : \"memory\");\n"
      "}}\n\n"
      "// After products_done: no one reads the sums from before.\n"
      "__device__ __forceinline__ void keep_totals(float (&total)[{1}]) {{\n"
      "  asm volatile(\"\"\n"
      "               :{7}\n"
      "               : : \"memory\");\n"
      "}}\n",
      x_rows, sums, names, sums + 1, sums + 2, sums + 3, sums + 4, bindings);
}

/// `store_tile`: sums are of rows group and group + 8, and of rows 8 j + 2 q and one more of x.
std::string store_tile(const KernelSpec& spec) {
  const std::string bias_type =
      spec.bias ? fmt::format("const {}* bias, ", io_type(*spec.bias)) : "";
  const std::string type = io_type(spec.y_format);
  std::string text = fmt::format(
      "\n// Rows and rows of x past the last ones are left out.\n"
      "__device__ __forceinline__ void store_tile(const float (&total)[kTileX / 2], {}* y, {}long "
      "long first_row, long long "
      "first_x,\n"
      "                                           long long rows, long long n, int group, int q) "
      "{{\n",
      type, bias_type);
  if (spec.bias) {
    text +=
        "  float own_bias[2];\n"
        "#pragma unroll\n"
        "  for (int r = 0; r < 2; ++r) {\n"
        "    own_bias[r] = load_bias(bias, min_of(first_row + group + 8 * r, rows - 1));\n"
        "  } // r: rows\n";
  }
  const std::string sum = spec.bias ? "total[4 * j + i] + own_bias[i / 2]" : "total[4 * j + i]";
  if (spec.y_format != FormatId::kF32) {
    const std::string pack = fmt::format("f32x2_to_{}x2", get_format(spec.y_format).name);
    const auto value = [&](int i) {
      return spec.bias ? fmt::format("total[4 * j + 2 * r + {}] + own_bias[r]", i)
                       : fmt::format("total[4 * j + 2 * r + {}]", i);
    };
    text += fmt::format(
        "  if (rows % 2 == 0 && (unsigned long long)y % 4 == 0) {{ // two rows of y at once\n"
        "#pragma unroll\n"
        "    for (int j = 0; j < kTileX / 8; ++j) {{\n"
        "#pragma unroll\n"
        "      for (int r = 0; r < 2; ++r) {{\n"
        "        const unsigned pair = transposed({}({}, {}));\n"
        "        const long long x_row = first_x + 8 * j + group;\n"
        "        const long long row = first_row + 8 * r + 2 * q;\n"
        "        if (x_row < n && row < rows) *(unsigned*)(y + x_row * rows + row) = pair;\n"
        "      }} // r: eight rows\n"
        "    }} // j: eight rows of x\n"
        "    return;\n"
        "  }}\n",
        pack, value(0), value(1));
  }
  text += fmt::format(
      "#pragma unroll\n"
      "  for (int j = 0; j < kTileX / 8; ++j) {{\n"
      "#pragma unroll\n"
      "    for (int i = 0; i < 4; ++i) {{\n"
      "      const long long x_row = first_x + 8 * j + 2 * q + i % 2;\n"
      "      const long long row = first_row + group + i / 2 * 8;\n"
      "      if (x_row < n && row < rows) store_element(y + x_row * rows + row, {});\n"
      "    }} // i: two rows of w and of x\n"
      "  }} // j: eight rows of x\n"
      "}}\n",
      sum);
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

constexpr std::string_view kDecodeBf16 =
    "#pragma unroll\n"
    "for (int r = 0; r < 2; ++r) {\n"
    "  const unsigned char* own = own_unit + 1024 * (2 * pair + r) + 128 * group + 4 * q;\n"
    "#pragma unroll\n"
    "  for (int i = 0; i < 8; ++i) a[i / 2][r + i % 2 * 2] = *(const unsigned*)(own + 16 * (i ^ "
    "group));\n"
    "} // r: rows\n";

/// Statements that load the scales of a unit's rows: one for each stage and row of this lane.
std::string load_scales(const ScaleGrid& grid) {
  return fmt::format(
      "float scale_of_stage[4][2];\n"
      "#pragma unroll\n"
      "for (int r = 0; r < 2; ++r) {{\n"
      "  const long long row = min_of(first_row + group + 8 * r, rows - 1);\n"
      "#pragma unroll\n"
      "  for (int pair = 0; pair < 4; ++pair) {{\n"
      "    const int col = (int)min_of(256 * u + 64 * pair, kCols - 1);\n"
      "    scale_of_stage[pair][r] = load_scale(scale, {});\n"
      "  }} // pair: 64 columns\n"
      "}} // r: rows\n",
      scale_index(grid, "row", "col"));
}

std::string code_shift_text(const std::array<int, 4>& shifts) {
  return fmt::format(
      "// Bits by which codes of pair 0 to 3 lie further up in their bytes.\n"
      "__device__ __forceinline__ constexpr int code_shift(int pair) {{\n"
      "  return pair == 0 ? {} : pair == 1 ? {} : pair == 2 ? {} : {};\n"
      "}}\n",
      shifts[0], shifts[1], shifts[2], shifts[3]);
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
  LaunchShape shape{.rows_per_cta = kTiles * kUnitRows,
                    .threads = kThreads,
                    .x_rows_per_cta = plan.x,
                    .is_flat = true,
                    .ctas_per_multiprocessor = 1};
  shape.smem_bytes = static_cast<unsigned>(plan.smem_bytes);

  Lowering lowering = weights;
  lowering.summary = fmt::format("{}; wgmma m64n{}k16 bf16",
                                 is_bf16     ? "as they are"
                                 : has_units ? "codes times scales, rounded to bf16"
                                             : weights.summary + ", rounded to bf16",
                                 plan.x);

  const bool cuts_stage = spec.layout.cols % kStageCols != 0;
  const bool cuts_unit = spec.layout.cols % kUnitCols != 0;
  std::vector<std::string> names = {"min_of",
                                    "shared_address",
                                    "init_barrier",
                                    "arrive_at_barrier",
                                    "wait_for_barrier",
                                    cuts_stage ? "copy_16_bytes_of" : "copy_16_bytes",
                                    "copy_unit_tile",
                                    "arrive_after_copies",
                                    "finish_copies",
                                    "see_copies",
                                    "keep_few_registers",
                                    "keep_many_registers",
                                    "begin_products",
                                    "end_products",
                                    "products_done",
                                    "x_descriptor"};
  FragmentVariants variants = variants_for(spec, weights);
  variants["copy_unit_tile"] = has_units ? "prepared" : is_bf16 ? "bf16" : "fp8";
  variants["copy_row_vector"] = cuts_unit ? "cut" : "whole";
  if (spec.y_format != FormatId::kF32) {
    names.emplace_back("transposed");
    names.push_back(fmt::format("f32x2_to_{}x2", get_format(spec.y_format).name));
  }

  TemplateValues values = header_values(spec);
  add_product_values(spec, values, names);
  add_wait(spec, values, names);
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of w, and of each row of x"},
      {"kXRowBytes", "2 * kCols", "bytes of a row of x"},
      {"kThreads", number(kThreads), "threads per CTA"},
      {"kCopyThreads", number(kCopyThreads), "of which copy"},
      {"kTiles", number(kTiles), "16-row tiles of w of a CTA, each of one warp"},
      {"kTileX", number(plan.x), "rows of x of a CTA"},
      {"kStages", number(plan.stages), "of 64 columns of x: in use or on their way"},
      {"kSteps", "(kCols + 63) / 64", "stages of a tile"},
      {"kUnits", number(ceil_div(spec.layout.cols, kUnitCols)),
       "units side by side, of 16 rows and 256 columns"},
      {"kUnitBytes", number(plan.unit_bytes), "bytes of a unit in shared memory"},
      {"kUnitSlots", number(kUnitSlots), "places for units: in use or on their way"},
      {"kUnitsAt", number(plan.units_at), "bytes of shared memory before the units"},
      {"kBarriersAt", number(plan.barriers_at), "before the barriers"}};
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
    if (is_bf16) {
      decode = kDecodeBf16;
    } else {
      names.emplace_back("round_fp8");
      variants["Head"] = "4";  // neither
      variants["Tail"] = "none";
      variants["halves_of"] = "bytes";
      variants["step_source"] = "32";
      add_pair_variants(spec.weight == FormatId::kFp8E4M3 ? "fp8_e4m3_cvt" : "fp8_e5m2_cvt",
                        variants);
      decode = decode_fp8(spec.scale.has_value());
      if (spec.scale) {
        load = load_scales(*spec.scale);
        names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
        for (const Constant& constant : shared_constants(spec, kRun)) {
          if (constant.name.starts_with("kScale")) constants.push_back(constant);
        }
      }
    }
  }
  if (!is_bf16) {
    variants["Unit"] = "halves";
    names.insert(names.end(), {"Unit", "halves_of"});
    unit =
        "Unit unit = {};\n"
        "unit.codes.lane = {own_unit + 64 * group, 16u * (unsigned)(group / 2), halves_of(q), q / "
        "2};\n";
  }
  add_common_values(spec, lowering, values);
  if (has_units) values["scale_parameter"] = values["scale_description"] = "";

  values["x_name"] = get_format(spec.x_format).name;
  values["constants"] = format_constants(constants);
  values["functions"] = more_functions + FragmentLibrary::of("cuda").splice(names, variants) +
                        add_product(plan.x) + store_tile(spec);
  values["tiles"] = fmt::format(
      "{} rows of w, {} of x, {} stages of 64 columns, {} places for 256 columns of w; "
      "4 warps copy, {} multiply",
      kTiles * kUnitRows, plan.x, plan.stages, kUnitSlots, kTiles);
  values["threads"] = number(kThreads);
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["x_rows_per_cta"] = number(shape.x_rows_per_cta);
  values["smem_bytes"] = number(plan.smem_bytes);
  values["copy_of"] = cuts_stage ? "_of" : "";
  values["x_bytes"] = cuts_stage ? ", 64 * s + 8 * own_place < kCols ? 16 : 0" : "";
  values["tables"] = tables;
  const auto lines = [](const std::string& text, int spaces) {
    const std::string margin(static_cast<std::size_t>(spaces), ' ');
    return text.empty() ? "" : (text.front() == '#' ? "" : margin) + indented(text, spaces) + "\n";
  };
  values["load_scales"] = lines(load, 6);
  values["make_tables"] = lines(make, 6);
  values["unit"] = lines(unit, 6);
  values["decode"] = lines(decode, 8);
  values["bias_argument"] = spec.bias ? ", bias" : "";
  return {fill_template(get_template("cuda/warpgroup_matmul.cu.in"), values), kernel_name(spec),
          shape, lowering};
}

}  // namespace ktjit::codegen
