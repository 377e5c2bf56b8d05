// FP8 products on wgmma: tiles and the places in shared memory, and what of the skeleton's text depends on the spec.
#include "codegen/cuda_warpgroup_fp8_matmul.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <functional>
#include <numeric>

#include "codegen/cuda_parts.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "codegen/warpgroup_parts.h"
#include "core/error.h"
#include "core/launch_order.h"

namespace ktjit::codegen {
namespace {

using namespace warpgroup;

constexpr int kStageCols = 128;
constexpr int kWarpgroupTokens = 64;  // rows of x that one wgmma takes

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// How a tile is cut.
struct Cut {
  int x = 0;             ///< rows of x
  int rows = 0;          ///< of w
  int stage_groups = 0;  ///< of warpgroups that multiply the same, and take turns with the stages
  int parts = 0;         ///< in which a warpgroup multiplies its rows of w: an even number
};
// Many rows of x: 128 sums, 64 of a group of columns and 16 registers of x leave room for one CTA. Few: small tiles, so that
// there are about as many as multiprocessors.
constexpr std::array kCuts = {Cut{16, 64, 3, 2}, Cut{32, 64, 3, 2}, Cut{64, 64, 3, 2},
                              Cut{128, 256, 1, 4}};
constexpr int kCtas = 1, kFewRegisters = 24, kMostStages = 9;

/// The places in shared memory.
struct Plan {
  Cut cut;
  int stages = 0;
  std::int64_t joined_at = 0, barriers_at = 0, smem_bytes = 0;

  int token_warps() const { return std::max(cut.x / kWarpgroupTokens, 1) * kWarpgroupTokens / 16; }
  int product_warps() const { return token_warps() * cut.stage_groups; }
  int threads() const { return kCopyThreads + product_warps() * kWarpThreads; }
  int part_rows() const { return cut.rows / cut.parts; }
  std::int64_t stage_bytes() const { return std::int64_t{1} * (cut.x + cut.rows) * kStageCols; }

  /// Whether there is a row of x for each of 64 that wgmma multiplies.
  bool fills_warps() const { return cut.x >= kWarpgroupTokens; }

  void lay_out() {
    joined_at = stages * stage_bytes();
    barriers_at =
        joined_at + std::int64_t{4} * (cut.stage_groups - 1) * kWarpgroupTokens * cut.rows;
    smem_bytes = barriers_at + std::int64_t{2} * kBarrierBytes * (stages + 1);
  }
};

/// As many stages as fit, unless a knob says how many.
Plan make_plan(const KernelSpec& spec) {
  constexpr int kDefaultTile = 128;
  const int tile = spec.tuning.x_tile == 0 ? kDefaultTile : spec.tuning.x_tile;
  const auto* const cut = std::ranges::find(kCuts, tile, &Cut::x);
  if (cut == kCuts.end()) throw SpecError("x_tile", number(tile), "16, 32, 64 or 128");
  Plan plan;
  plan.cut = *cut;
  if (ceil_div(spec.layout.cols, kStageCols) < plan.cut.stage_groups) plan.cut.stage_groups = 1;
  // A place in the ring always has stages of the same group: who waits for one knows that the stage there before has been.
  const int step = plan.cut.stage_groups;
  const int least = static_cast<int>(ceil_div(kLeastStages, step)) * step;
  const int wanted = spec.tuning.stages;
  if (wanted != 0 && (wanted < least || wanted > kMostStages || wanted % step != 0)) {
    throw SpecError("stages", number(wanted),
                    step == 1 ? fmt::format("{} to {}", least, kMostStages)
                              : fmt::format("multiples of {} up to {}", step, kMostStages));
  }
  const std::int64_t limit = smem_limit(spec.target, kCtas);
  plan.stages = wanted == 0 ? kMostStages : wanted;
  plan.lay_out();
  while (wanted == 0 && plan.smem_bytes > limit && plan.stages > least) {
    plan.stages -= step;
    plan.lay_out();
  }
  if (plan.smem_bytes > limit) {
    throw SpecError("stages", number(plan.stages),
                    fmt::format("fewer: {} has {} bytes of shared memory for a CTA, not {}",
                                spec.target.name(), limit, plan.smem_bytes));
  }
  return plan;
}

/// Of rows of as many bytes as columns.
TensorMapShape tensor_map(const KernelSpec& spec, ArgumentRole matrix, ArgumentRole rows,
                          int box_rows) {
  return {argument_index(spec, matrix), argument_index(spec, rows), spec.layout.cols,
          static_cast<unsigned>(box_rows)};
}

/// Statements with what depends on the scales of w.
struct ScaleText {
  std::string load_scales;  ///< those of a stage
  /// Adds the sums of a part of stage s, given as text.
  std::function<std::string(const std::string& part, const std::string& sum, const std::string& s)>
      add;
  bool needs_s = false;  ///< add does
};

std::string load_x(const Plan& plan) {
  const std::string_view load =
      "#pragma unroll\n"
      "for (int k = 0; k < 4; ++k) load_matrices(x_at + 128 * matrix_row + 16 * (2 * k + lane / 16 "
      "^ matrix_row % 8), a[k]);\n";
  return plan.fills_warps() ? std::string(load) : fmt::format("if (has_tokens) {{\n{}}}\n", load);
}

/// Statements of a stage: while a part is multiplied, sums of the one before are added, at first those of the stage before.
std::string multiply(const Plan& plan, const ScaleText& scales) {
  return "products_done<0>(); // of the stage before\n"
         "keep_sums(sum[1]);\n" +
         load_x(plan) + "multiply_part(sum[0], a, w_matrix);\n" +
         (scales.needs_s ? "if (s > first_step) " : "") +
         scales.add("kParts - 1", "sum[1]", "s - kStageGroups") +
         "\nif (s > first_step) {\n"
         "  __syncwarp(); // the warp has read all of the stage before\n"
         "  if (lane == 0) arrive_at_barrier(emptied + 8 * ((stage + s - kStageGroups) % "
         "kStages));\n"
         "}\n" +
         scales.load_scales +
         "#pragma unroll\n"
         "for (int part = 1; part < kParts; ++part) {\n"
         "  multiply_part(sum[part % 2], a, w_matrix + part * (kPartRows * 8));\n"
         "  products_done<1>();\n"
         "  keep_sums(sum[(part - 1) % 2]);\n"
         "  " +
         scales.add("part - 1", "sum[(part - 1) % 2]", "s") + "\n} // part: of the rows of w\n";
}

/// Statements after the last stage.
std::string finish(const ScaleText& scales) {
  return "products_done<0>();\n"
         "keep_sums(sum[1]);\n"
         "const int last_step = kSteps - 1 - (kSteps - 1 - first_step) % kStageGroups; // of this "
         "group\n" +
         scales.add("kParts - 1", "sum[1]", "last_step") +
         "\n__syncwarp();\n"
         "if (lane == 0) arrive_at_barrier(emptied + 8 * ((stage + last_step) % kStages));\n";
}

/// Statements that give the sums of all groups of stages to the first one.
constexpr std::string_view kJoin =
    "constexpr int kJoinedSums = kParts * kPartRows / 2, kGroupThreads = kProductWarps / "
    "kStageGroups * 32;\n"
    "float* const joined = (float*)(shared + kJoinedAt) + warp % (kProductWarps / kStageGroups) * "
    "32 + lane;\n"
    "const int turn = stage / kSteps;\n"
    "if (stage_group > 0) {\n"
    "  wait_for_barrier(joined_emptied, turn % 2 ^ 1);\n"
    "#pragma unroll\n"
    "  for (int i = 0; i < kJoinedSums; ++i) {\n"
    "    joined[((stage_group - 1) * kJoinedSums + i) * kGroupThreads] = total[i / (kPartRows / "
    "2)][i % (kPartRows / 2)];\n"
    "  } // i: sums\n"
    "  __syncwarp();\n"
    "  if (lane == 0) arrive_at_barrier(joined_filled);\n"
    "  continue;\n"
    "}\n"
    "wait_for_barrier(joined_filled, turn % 2);\n"
    "#pragma unroll\n"
    "for (int g = 0; g < kStageGroups - 1; ++g) {\n"
    "#pragma unroll\n"
    "  for (int i = 0; i < kJoinedSums; ++i) {\n"
    "    total[i / (kPartRows / 2)][i % (kPartRows / 2)] += joined[(g * kJoinedSums + i) * "
    "kGroupThreads];\n"
    "  } // i: sums\n"
    "} // g: groups of stages\n"
    "__syncwarp();\n"
    "if (lane == 0) arrive_at_barrier(joined_emptied);\n";

/// How many parts of a warpgroup's rows share scales of w; 0 if not even the rows of a part do.
int parts_of_scale(const KernelSpec& spec, const Plan& plan) {
  if (!spec.scale || spec.scale->block_rows == 0) return plan.cut.parts;  // all rows
  if (spec.scale->block_rows % plan.part_rows() != 0) return 0;
  return std::gcd(static_cast<int>(spec.scale->block_rows) / plan.part_rows(), plan.cut.parts);
}

ScaleText scale_text_of(const KernelSpec& spec, const Plan& plan) {
  const std::string load_x_scale =
      "x_scale[min_of(first_x + group + 8 * r, n - 1) * kXScaleCols + s]";
  const std::string load_x_scales = fmt::format(
      "#pragma unroll\n"
      "for (int r = 0; r < 2; ++r) own_x_scale[r] = {};\n",
      plan.fills_warps() ? load_x_scale : "has_tokens ? " + load_x_scale + " : 0.0f");
  if (parts_of_scale(spec, plan) != 0) {
    std::string load = load_x_scales;
    if (spec.scale) {
      load += fmt::format(
          "#pragma unroll\n"
          "for (int i = 0; i < kParts / kScaledParts; ++i) {{\n"
          "  const long long row = min_of(first_row + i * (kScaledParts * kPartRows), rows - 1);\n"
          "  w_scale[i] = load_scale(scale, {});\n"
          "}} // i: scales of rows of w\n",
          scale_index(*spec.scale, "row", fmt::format("({} * s)", kStageCols)));
    }
    const bool has_scale = spec.scale.has_value();
    return {load, [has_scale](const std::string& part, const std::string& sum, const std::string&) {
              return fmt::format(
                  "add_part(total[{0}], {1}, own_x_scale, {2});", part, sum,
                  has_scale ? fmt::format("w_scale[({}) / kScaledParts]", part) : "1.0f");
            }};
  }
  return {load_x_scales,
          [](const std::string& part, const std::string& sum, const std::string& s) {
            return fmt::format(
                "add_part(total[{0}], {1}, own_x_scale, scale, first_row + ({0}) * kPartRows, "
                "rows, {2}, q);",
                part, sum, s);
          },
          true};
}

/// `add_part` where rows of w have scales of their own.
std::string add_part_by_row(const ScaleGrid& grid) {
  return fmt::format(
      "\n// Adds sums of stage s times the scales of the lane's two rows of x, and of its rows of "
      "w: 8 j + 2 q and the next.\n"
      "__device__ __forceinline__ void add_part(float (&total)[kPartRows / 2], const float "
      "(&sum)[kPartRows / 2],\n"
      "                                         const float (&x_scales)[2], const {}* scale, long "
      "long first_row,\n"
      "                                         long long rows, int s, int q) {{\n"
      "#pragma unroll\n"
      "  for (int j = 0; j < kPartRows / 8; ++j) {{\n"
      "#pragma unroll\n"
      "    for (int i = 0; i < 2; ++i) {{\n"
      "      const long long row = min_of(first_row + 8 * j + 2 * q + i, rows - 1);\n"
      "      const float w_scale = load_scale(scale, {});\n"
      "#pragma unroll\n"
      "      for (int r = 0; r < 2; ++r) total[4 * j + 2 * r + i] += w_scale * x_scales[r] * "
      "sum[4 * j + 2 * r + i];\n"
      "    }} // i: two rows of w\n"
      "  }} // j: eight rows of w\n"
      "}}\n",
      scale_c_type(grid.type), scale_index(grid, "row", fmt::format("({} * s)", kStageCols)));
}

/// `store_part`: sums are of rows group and group + 8 of x, and of rows 8 j + 2 q and one more of w.
std::string store_part(const KernelSpec& spec) {
  const std::string bias_parameter =
      spec.bias ? fmt::format("const {}* bias, ", io_type(*spec.bias)) : "";
  const std::string value = spec.bias ? "total[4 * j + 2 * r + i] + load_bias(bias, row + i)"
                                      : "total[4 * j + 2 * r + i]";
  std::string pairs;
  if (spec.y_format != FormatId::kF32) {
    const auto sum = [&](int i) {
      return spec.bias ? fmt::format("total[4 * j + 2 * r + {0}] + load_bias(bias, row + {0})", i)
                       : fmt::format("total[4 * j + 2 * r + {}]", i);
    };
    pairs = fmt::format(
        "      if (in_pairs) {{\n"
        "        *(unsigned*)own = f32x2_to_{}x2({}, {});\n"
        "        continue;\n"
        "      }}\n",
        get_format(spec.y_format).name, sum(0), sum(1));
  }
  return fmt::format(
      "\n// Rows and rows of x past the last ones are left out.\n"
      "__device__ __forceinline__ void store_part(const float (&total)[kPartRows / 2], {0}* y, "
      "{1}long long first_row,\n"
      "                                           long long first_x, long long rows, long long n, "
      "int group, int q) {{\n"
      "{2}"
      "#pragma unroll\n"
      "  for (int r = 0; r < 2; ++r) {{\n"
      "    const long long x_row = first_x + group + 8 * r;\n"
      "    if (x_row >= n) continue;\n"
      "#pragma unroll\n"
      "    for (int j = 0; j < kPartRows / 8; ++j) {{\n"
      "      const long long row = first_row + 8 * j + 2 * q;\n"
      "      if (row >= rows) continue;\n"
      "      {0}* const own = y + x_row * rows + row;\n"
      "{3}"
      "#pragma unroll\n"
      "      for (int i = 0; i < 2; ++i) {{\n"
      "        if (row + i < rows) store_element(own + i, {4});\n"
      "      }} // i: two rows of w\n"
      "    }} // j: eight rows of w\n"
      "  }} // r: rows of x\n"
      "}}\n",
      io_type(spec.y_format), bias_parameter,
      pairs.empty() ? ""
                    : "  const bool in_pairs = rows % 2 == 0 && (unsigned long long)y % 4 == 0;\n",
      pairs, value);
}

}  // namespace

EmittedKernel emit_warpgroup_fp8_matmul(const KernelSpec& spec, const Lowering& weights) {
  const Plan plan = make_plan(spec);
  LaunchShape shape{.rows_per_cta = plan.cut.rows,
                    .threads = static_cast<unsigned>(plan.threads()),
                    .x_rows_per_cta = plan.cut.x,
                    .is_flat = true,
                    .ctas_per_multiprocessor = kCtas};
  shape.smem_bytes = static_cast<unsigned>(plan.smem_bytes);
  shape.tensor_maps = {
      {tensor_map(spec, ArgumentRole::kWeights, ArgumentRole::kRows, plan.cut.rows),
       tensor_map(spec, ArgumentRole::kX, ArgumentRole::kN, plan.cut.x)},
      2};
  Lowering lowering = weights;
  lowering.summary = fmt::format("as they are; wgmma m64n{}k32 e4m3", plan.part_rows());

  std::vector<std::string> names = {
      "min_of",           "shared_address", "init_barrier",  "arrive_at_barrier",
      "wait_for_barrier", "expect_bytes",   "copy_box",      "see_copies",
      "products_done",    "x_descriptor",   "load_matrices", "multiply_part"};
  FragmentVariants variants = variants_for(spec, weights);
  if (spec.y_format != FormatId::kF32)
    names.push_back(fmt::format("f32x2_to_{}x2", get_format(spec.y_format).name));
  TemplateValues values = header_values(spec);
  add_product_values(spec, values, names);
  add_wait(spec, values, names);
  const std::int64_t x_scale_cols = spec.x_scale->cols_of_scales(spec.layout.cols);
  std::vector<Constant> constants = {
      {"kXScaleCols", number(x_scale_cols), "scales of a row of x"},
      {"kThreads", number(plan.threads()), "threads per CTA"},
      {"kCopyThreads", number(kCopyThreads), "of which copy"},
      {"kCtas", number(kCtas), "CTAs on a multiprocessor"},
      {"kTileX", number(plan.cut.x), "rows of x of a CTA"},
      {"kTileRows", number(plan.cut.rows), "rows of w of a CTA"},
      {"kTokenWarps", number(plan.token_warps()), "warps that share rows of w, each with 16 of x"},
      {"kStageGroups", number(plan.cut.stage_groups), "of warps, which take turns with the stages"},
      {"kParts", number(plan.cut.parts), "in which a warpgroup multiplies its rows"},
      {"kPartRows", number(plan.part_rows()), "rows of a part"},
      {"kProductWarps", number(plan.product_warps()), "warps that multiply"},
      {"kStages", number(plan.stages), "of 128 columns: in use or on their way"},
      {"kStageBytes", number(plan.stage_bytes()), "x, then w"},
      {"kSteps", number(ceil_div(spec.layout.cols, kStageCols)), "stages of a tile"},
      {"kBarriersAt", number(plan.barriers_at), "before the barriers"}};
  if (plan.cut.stage_groups > 1)
    constants.push_back({"kJoinedAt", number(plan.joined_at), "before sums of groups of stages"});
  const bool shares_registers = plan.cut.stage_groups == 1;
  if (shares_registers) {
    names.insert(names.end(), {"keep_few_registers", "keep_many_registers"});
    constants.insert(constants.end(),
                     {{"kFewRegisters", number(kFewRegisters), "of a thread that copies"},
                      {"kManyRegisters", number(many_registers(plan.threads(), kFewRegisters)),
                       "of one that multiplies"}});
  }
  const int scaled_parts = parts_of_scale(spec, plan);
  if (scaled_parts != 0) names.emplace_back("add_part");
  if (spec.scale) {
    if (scaled_parts != 0)
      constants.push_back({"kScaledParts", number(scaled_parts), "parts that share scales of w"});
    names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
    for (const Constant& constant : shared_constants(spec, kRun)) {
      if (constant.name.starts_with("kScale")) constants.push_back(constant);
    }
  }
  add_common_values(spec, lowering, values);

  values["constants"] = format_constants(constants);
  const int rows = plan.part_rows();
  const std::string products =
      product_function(true, rows, true) + product_function(true, rows, false) + keep_sums(rows);
  values["functions"] = products + FragmentLibrary::of("cuda").splice(names, variants) +
                        (scaled_parts != 0 ? "" : add_part_by_row(*spec.scale)) + store_part(spec);
  values["tiles"] = fmt::format(
      "{} rows of w, {} of x, {} stages of 128 columns; one thread copies, {} warps multiply",
      plan.cut.rows, plan.cut.x, plan.stages, plan.product_warps());
  values["threads"] = number(plan.threads());
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["x_rows_per_cta"] = number(shape.x_rows_per_cta);
  values["smem_bytes"] = number(plan.smem_bytes);
  values["x_scale_cols"] = number(x_scale_cols);
  values["few_registers"] = shares_registers ? "    keep_few_registers();\n" : "";
  values["many_registers"] = shares_registers ? "  keep_many_registers();\n" : "";
  const ScaleText scales = scale_text_of(spec, plan);
  values["w_scale"] =
      spec.scale && scaled_parts != 0 ? "    float w_scale[kParts / kScaledParts] = {};\n" : "";
  const bool joins = plan.cut.stage_groups > 1;
  values["init_joined"] =
      joins ? "    init_barrier(joined_filled, kProductWarps - kProductWarps / kStageGroups);\n"
              "    init_barrier(joined_emptied, kProductWarps / kStageGroups);\n"
            : "";
  values["joined_barriers"] = joins ? "  const unsigned joined_filled = emptied + 8 * kStages;\n"
                                      "  const unsigned joined_emptied = joined_filled + 8;\n"
                                    : "";
  values["stage_group"] = joins
                              ? "  const int stage_group = warp / (kProductWarps / kStageGroups); "
                                "// whose warps multiply every kStageGroups-th stage\n"
                              : "";
  values["first_step"] =
      joins
          ? "    // Stages are counted through all tiles: each place in the ring keeps its group.\n"
            "    const int first_step = (stage_group + kStageGroups - stage % kStageGroups) % "
            "kStageGroups;\n"
          : "    constexpr int first_step = 0;\n";
  values["join"] = joins ? placed_lines(kJoin, 4) : "";
  values["has_tokens"] =
      plan.fills_warps()
          ? ""
          : "  const bool has_tokens = first_token < kTileX; // others multiply zeros\n";
  values["if_tokens"] = plan.fills_warps() ? "" : "if (has_tokens) ";
  values["multiply"] = placed_lines(multiply(plan, scales), 6);
  values["finish"] = placed_lines(finish(scales), 4);
  values["bias_argument"] = spec.bias ? ", bias" : "";
  return {fill_template(get_template("cuda/warpgroup_fp8_matmul.cu.in"), values), kernel_name(spec),
          shape, lowering};
}

}  // namespace ktjit::codegen
