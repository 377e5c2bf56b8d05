// How the weights meet x: the mma, the terms of x, the chunks that share a scale; and the launch shape.
#include "codegen/cuda_float_matvec.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "codegen/cuda_parts.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

using enum FormatId;

constexpr int kTileRows = 16;
constexpr int kPieceBytes = 64;  // of a row, that four lanes have of one load
constexpr int kMmaColumns = 8;
constexpr int kFirstSm = 80;  // m16n8k16, cp.async
constexpr int kMaxStages = 8;
constexpr int kMaxCtas = 16;
constexpr int kMaxThreadsPerMultiprocessor = 2048;

std::string number(std::int64_t value) { return fmt::format("{}", value); }

int element_bytes(FormatId format) { return get_format(format).block_bytes; }

bool is_fp8(FormatId format) { return get_format(format).family == FormatFamily::kFp8; }

/// x as 16-bit terms.
struct XTerms {
  std::string_view type;   ///< "f16" or "bf16", of the mma
  int terms = 1;           ///< whose sum is a number of x
  bool has_power = false;  ///< they are of x times a power of two, one for each unit's columns
  std::string_view step = "1.0f";           ///< by what each further term is too large
  std::string_view most_left = "0x1p-21f";  ///< 2^-21 times step to the power of terms
};

/// bf16 has the exponents of f32, and three of it have its bits, so they leave nothing but of numbers that are nearly
/// subnormal. Two f16 have 22 bits, of numbers down to 2^-29 of the largest since the second is 2^11 times too large; f16
/// and bf16 numbers are one of it.
XTerms terms_of(FormatId weight, FormatId x) {
  if (weight == kBF16)
    return {.type = "bf16", .terms = x == kF32 ? 3 : x == kF16 ? 2 : 1, .most_left = "0.0f"};
  if (x == kF32) return {"f16", 2, true, "0x1p+11f", "2.0f"};
  return {"f16", 1, x == kBF16};
}

/// Sizes, the launch shape, and the places in shared memory.
struct FloatPlan {
  XTerms x;
  int row_pieces = 0;  ///< of a unit, 64 bytes each
  int columns = 0;     ///< of mma that are used: terms of all rows of x
  int unit_cols = 0;
  std::int64_t units = 0;  ///< side by side
  int chunk_cols = 0;      ///< columns of a unit with the same scale and power
  std::int64_t x_unit_bytes = 0;
  int threads = 0;
  int ctas = 0;
  int stages = 0;
  std::int64_t partial_at = 0;
  std::int64_t ring_at = 0;
  std::int64_t smem_bytes = 0;

  int warps() const { return threads / kWarpThreads; }
  int groups() const { return static_cast<int>(ceil_div(columns, kMmaColumns)); }
  int chunks() const { return unit_cols / chunk_cols; }
  bool has_ring() const { return stages > 1; }
  /// Columns of x that a warp has on their way: 16 or 32 registers of a lane.
  int batch_cols() const { return row_pieces == 2 && !has_ring() ? 512 : 1024; }
  int unit_bytes() const { return kTileRows * row_pieces * kPieceBytes; }
  std::int64_t term_bytes() const { return std::int64_t{2} * unit_cols * columns; }
};

/// Whether a scale serves other columns of the same row, too, so that it isn't applied at the end.
bool has_column_scales(const KernelSpec& spec) { return spec.scale && spec.scale->block_cols != 0; }

/// Units for the plan's launch shape. In flight they are in registers, if there is no ring: where more than 16 warps
/// share these, units have half the size.
void lay_out(const KernelSpec& spec, FloatPlan& plan) {
  constexpr int kRoomyThreads = 512;
  const bool is_tight = !plan.has_ring() && plan.ctas * plan.threads > kRoomyThreads;
  plan.row_pieces = is_tight ? 2 : 4;
  plan.unit_cols = plan.row_pieces * kPieceBytes / element_bytes(spec.weight);
  plan.units = ceil_div(spec.layout.cols, plan.unit_cols);
  plan.chunk_cols = plan.unit_cols;
  if (has_column_scales(spec)) {
    while (spec.scale->block_cols % plan.chunk_cols != 0) plan.chunk_cols /= 2;
  }
  const std::int64_t factor_bytes = plan.x.has_power ? ceil_div(4 * plan.columns, 16) * 16 : 0;
  plan.x_unit_bytes = plan.term_bytes() + factor_bytes;
  const std::int64_t partial_bytes = std::int64_t{2} * plan.warps() * plan.columns * kTileRows * 4;
  plan.partial_at = plan.units * plan.x_unit_bytes;
  plan.ring_at = ceil_div(plan.partial_at + partial_bytes, 128) * 128;
  const int ring_units = plan.has_ring() ? plan.warps() * plan.stages : 0;
  plan.smem_bytes = plan.ring_at + std::int64_t{1} * ring_units * plan.unit_bytes();
}

/// With the spec's knobs, and defaults that fit the target's shared memory for the others.
FloatPlan plan_of(const KernelSpec& spec) {
  constexpr int kThreads = 256, kManyThreads = 512;
  constexpr int kReservedBytes = 1024;  // of a CTA, by CUDA
  const Tuning& tuning = spec.tuning;
  const std::int64_t limit = get_cuda_facts(spec.target).smem_per_cta_bytes;
  FloatPlan plan;
  plan.x = terms_of(spec.weight, spec.x_format);
  plan.columns = plan.x.terms * spec.x_columns;
  plan.stages = tuning.stages == 0 ? 1 : tuning.stages;
  if (plan.stages < 1 || plan.stages > kMaxStages)
    throw SpecError("stages", number(plan.stages), fmt::format("1 to {}", kMaxStages));
  // A warp without units would only wait for the others.
  const std::int64_t least_units =
      ceil_div(spec.layout.cols * element_bytes(spec.weight), 4 * kPieceBytes);
  plan.threads = kThreads;
  while (plan.threads > kWarpThreads && plan.warps() / 2 >= least_units) plan.threads /= 2;
  if (tuning.threads != 0) plan.threads = tuning.threads;
  // 24 warps with 4 KiB each in flight reached the memory's speed on an H200, and so should
  // 32 with 2 KiB; cards with little shared memory have less bandwidth to fill, and sums of more groups of columns
  // leave registers for 16.
  constexpr int kLargeSharedMemory = 128 * 1024;
  const bool is_cut = spec.layout.cols * element_bytes(spec.weight) % (2 * kPieceBytes) != 0;
  const bool is_simple = spec.x_columns == 1 && !is_cut;
  // Scales of chunks take the registers of 16 warps too: on an H200 e4m3 with 128 x 128 scales has 4201 GB/s by those, 3824
  // by 32.
  const bool has_few_warps = plan.groups() > 1 || (is_fp8(spec.weight) && has_column_scales(spec));
  const int wanted_threads = has_few_warps                             ? 512
                             : limit > kLargeSharedMemory && is_simple ? 1024
                                                                       : 768;
  plan.ctas = std::clamp(wanted_threads / plan.threads, 1, kMaxCtas);
  lay_out(spec, plan);
  while (plan.ctas > 1 && plan.ctas * (plan.smem_bytes + kReservedBytes) > limit + kReservedBytes) {
    --plan.ctas;
    lay_out(spec, plan);
  }
  if (tuning.threads == 0 && tuning.ctas_per_multiprocessor == 0 && plan.ctas == 1 &&
      plan.threads == kThreads && least_units >= kManyThreads / kWarpThreads) {
    FloatPlan larger = plan;
    larger.threads = kManyThreads;
    lay_out(spec, larger);
    if (larger.smem_bytes <= limit) plan = larger;
  }
  // Behind a kernel that still runs rings were faster on an H200 (docs/STATUS.md): of one large CTA, for FP8 of two
  // where rows are not long. Where 16-bit rows are long x leaves little room for them.
  const bool has_knobs =
      tuning.threads != 0 || tuning.stages != 0 || tuning.ctas_per_multiprocessor != 0;
  if (spec.constant_weights && !has_knobs && plan.groups() == 1 &&
      least_units >= kManyThreads / kWarpThreads) {
    constexpr std::int64_t kLongRow = 8192;
    const bool is_long = spec.layout.cols > kLongRow;
    const bool wants_two = is_fp8(spec.weight) && !is_long;
    FloatPlan ring = plan;
    ring.threads = wants_two ? kThreads : kManyThreads;
    ring.ctas = wants_two ? 2 : 1;
    ring.stages = is_fp8(spec.weight) ? 2 : is_long ? 1 : 3;
    lay_out(spec, ring);
    while (ring.has_ring() &&
           ring.ctas * (ring.smem_bytes + kReservedBytes) > limit + kReservedBytes) {
      --ring.stages;
      lay_out(spec, ring);
    }
    if (ring.has_ring() || (is_long && ring.smem_bytes <= limit)) plan = ring;
  }
  if (tuning.ctas_per_multiprocessor != 0) plan.ctas = tuning.ctas_per_multiprocessor;
  if (plan.ctas < 1 || plan.ctas > kMaxCtas ||
      plan.ctas * plan.threads > kMaxThreadsPerMultiprocessor) {
    throw SpecError(
        "ctas_per_multiprocessor", number(plan.ctas),
        fmt::format("1 to {} with {} threads",
                    std::min(kMaxCtas, kMaxThreadsPerMultiprocessor / plan.threads), plan.threads));
  }
  lay_out(spec, plan);
  return plan;
}

/// Whether e4m3 becomes f16 by moving bits: the numbers are 2^-8 as large, and NaNs are found apart.
bool moves_bits(const KernelSpec& spec) {
  return spec.weight == kFp8E4M3 && !get_cuda_facts(spec.target).fp8_cvt;
}

/// Whether the sums of a chunk are multiplied before they join the total.
bool has_chunk_sums(const KernelSpec& spec, const FloatPlan& plan) {
  return has_column_scales(spec) || plan.x.has_power || moves_bits(spec);
}

/// Whether the ring is filled before x is there, not all but one place: of two one stays empty where rows are short. On an
/// H200 e4m3, 4096 x 4096, takes 7.29 us if both are filled, else 5.93; 4096 x 14336 17.2 and 17.8.
bool fills_ring(const KernelSpec& spec, const FloatPlan& plan) {
  constexpr std::int64_t kLongRow = 8192;
  return plan.stages > 2 || (plan.has_ring() && spec.layout.cols > kLongRow);
}

/// Statements before the loop over tiles, "source" and "next" among them.
std::string first_loads(const KernelSpec& spec, const FloatPlan& plan) {
  const std::string cursor = "weight_cursor(w, rows, (int)blockIdx.x, warp, lane)";
  if (plan.has_ring()) {
    return fmt::format(
        "  WeightCursor next = {};\n"
        "  unsigned char* ring = shared + kRingAt + warp * kStages * kUnitBytes + 16 * lane;\n"
        "  for (int stage = 0; stage < kFirstUnits; ++stage) {{\n"
        "    copy_weights(ring + stage * kUnitBytes, next, tiles, lane);\n"
        "    advance(next, w, rows, warp, lane);\n"
        "  }} // stage: units in flight\n"
        "  int stage = 0; // of the unit that is next\n",
        cursor);
  }
  std::string text = fmt::format(
      "  WeightSource source = {{{{}}, {}, false}};\n"
      "  if (source.next.tile < tiles && source.next.unit < kUnits) {{\n"
      "#pragma unroll\n"
      "    for (int p = 0; p < kRowPieces; ++p) source.load(p, lane);\n"
      "  }}\n",
      cursor);
  if (has_column_scales(spec))
    text += "  UnitScales ahead_scales = unit_scales(scale, rows, (int)blockIdx.x, warp, lane);\n";
  return text;
}

/// Statements that make "source" and "scales" those of the next unit of this warp.
std::string next_unit(const KernelSpec& spec, const FloatPlan& plan) {
  const bool has_scales = has_column_scales(spec);
  if (plan.has_ring()) {
    return fmt::format(
        "const UnitScales scales{};\n"
        "wait_for_copies<kStages - 2>();\n"
        "WeightSource source = {{ring + stage * kUnitBytes}};\n"
        "{}"
        "copy_weights(ring + (stage == 0 ? kStages - 1 : stage - 1) * kUnitBytes, next, {}, "
        "lane);\n"
        "{}advance(next, w, rows, warp, lane);\n"
        "stage = stage == kStages - 1 ? 0 : stage + 1;",
        has_scales ? " = unit_scales(scale, rows, tile, u, lane)" : "",
        fills_ring(spec, plan)
            ? "const bool has_place = u != warp || tile != (int)blockIdx.x; // of the unit before\n"
            : "",
        fills_ring(spec, plan) ? "has_place ? tiles : 0" : "tiles",
        fills_ring(spec, plan) ? "if (has_place) " : "");
  }
  return fmt::format(
      "const UnitScales scales{};\n"
      "source.next.unit = u; // as it is, but needs no registers meanwhile\n"
      "source.next.tile = tile;\n"
      "advance(source.next, w, rows, warp, lane);\n"
      "source.has_next = source.next.tile < tiles;{}",
      has_scales ? " = ahead_scales" : "",
      has_scales ? "\nif (source.has_next) ahead_scales = unit_scales(scale, rows, "
                   "source.next.tile, source.next.unit, lane);"
                 : "");
}

/// `scale_place`, where the scale of a weight lies.
std::string scale_place(const KernelSpec& spec) {
  if (!spec.scale) return "";
  const ScaleGrid& grid = *spec.scale;
  const std::string index = scale_index(grid, "row", "col");
  return fmt::format(
      "using ScaleType = {};\n\n"
      "// Where the scale of a weight lies.\n"
      "__device__ __forceinline__ long long scale_place([[maybe_unused]] long long row, "
      "[[maybe_unused]] int col) {{\n"
      "  return {};\n"
      "}}\n",
      scale_c_type(grid.type), index);
}

std::vector<Constant> constants_of(const KernelSpec& spec, const FloatPlan& plan) {
  const int weight_bytes = element_bytes(spec.weight);
  const int units_per_warp = static_cast<int>(ceil_div(plan.units, plan.warps()));
  std::vector<Constant> constants = shared_constants(spec, kRun);
  std::erase_if(constants, [](const Constant& constant) { return constant.name == "kRun"; });
  constants.insert(
      constants.end(),
      {{"kUnits", number(plan.units), "units side by side, of 16 rows"},
       {"kRowPieces", number(plan.row_pieces), "64 bytes of each row, in a unit"},
       {"kUnitCols", number(plan.unit_cols), "columns of a unit"},
       {"kPieceCols", number(16 / weight_bytes), "columns of 16 bytes of a row"},
       {"kHalves", number(2 / weight_bytes), "times 32 columns, in 64 bytes of a row"},
       {"kThreads", number(plan.threads), "threads per CTA"},
       {"kWarpThreads", number(kWarpThreads), "threads of one warp"},
       {"kWarps", "kThreads / kWarpThreads", ""},
       {"kXColumns", number(spec.x_columns), "rows of x that a launch can use"},
       {"kTerms", number(plan.x.terms), "16-bit numbers whose sum is a number of x"},
       {"kTermColumns", "kXColumns * kTerms", "columns of mma that are used"},
       {"kGroups", number(plan.groups()), "mma side by side, of eight columns"},
       {"kTermBytes", "64 * kTermColumns", "bytes of the terms of 32 columns of x"},
       {"kXQuads", "(kUnitCols + 127) / 128",
        "times four columns of x that a lane prepares of a unit"},
       {"kUnitsPerWarp", number(units_per_warp), ""},
       {"kBatch",
        number(std::min(plan.batch_cols() / std::max(plan.unit_cols, 128),
                        spec.x_columns * units_per_warp)),
        "units of x that a warp has on their way at a time"},
       {"kXUnitBytes", number(plan.x_unit_bytes), "bytes of the terms of a unit's columns"}});
  if (plan.x.has_power)
    constants.push_back({"kFactorAt", number(plan.term_bytes()), "of which terms, then factors"});
  if (has_chunk_sums(spec, plan))
    constants.push_back(
        {"kChunks", number(plan.chunks()), "times columns of a unit that share a scale"});
  if (has_column_scales(spec)) {
    constants.push_back({"kChunkCols", "kUnitCols / kChunks", ""});
    const int rows = static_cast<int>(spec.scale->block_rows % kTileRows == 0 ? 1 : 2);
    constants.push_back({"kScaleRows", number(rows), "rows of scales that a lane's rows have"});
  }
  constants.push_back({"kSecond", moves_bits(spec) ? "2" : "1",
                       "of four columns the one that shares a pair with the first"});
  constants.push_back({"kUp", moves_bits(spec) ? "0x1p+8f" : "1.0f",
                       "takes back what converted weights are too small", "float"});
  constants.push_back(
      {"kPartialAt", number(plan.partial_at), "bytes of shared memory before the sums of warps"});
  if (plan.has_ring()) {
    constants.push_back({"kRingAt", number(plan.ring_at), "before the units in flight"});
    constants.push_back({"kStages", number(plan.stages), "units of a warp: in use or in flight"});
    constants.push_back({"kFirstUnits", fills_ring(spec, plan) ? "kStages" : "kStages - 1",
                         "that are requested before x is there"});
    constants.push_back({"kUnitBytes", number(plan.unit_bytes()), "bytes of a unit"});
  }
  constants.push_back(
      {"kTermStep", std::string(plan.x.step), "by what each further term is too large", "float"});
  constants.push_back({"kMostLeft", std::string(plan.x.most_left),
                       "share of a number that terms may leave: 2^-21 times the step of the last",
                       "float"});
  return constants;
}

std::string lowering_words(const KernelSpec& spec, const FloatPlan& plan, const Lowering& weights) {
  std::string words = fmt::format("mma m16n8k16 {}, x in {} term{}", plan.x.type, plan.x.terms,
                                  plan.x.terms == 1 ? "" : "s");
  if (plan.x.has_power) words += " times a power of two";
  return is_fp8(spec.weight) ? fmt::format("{}; {}", weights.summary, words) : words;
}

}  // namespace

bool takes_float_matvec(const KernelSpec& spec) {
  constexpr std::array kFormats = {kBF16, kF16, kFp8E4M3, kFp8E5M2};
  constexpr int kVectorBytes = 16;
  if (spec.op != Op::kMatvec || spec.layout.kind != LayoutKind::kNative || is_fused(spec) ||
      !spec.target.is_cuda() || spec.target.sm < kFirstSm || spec.tuning.rows_per_warp != 0 ||
      std::find(kFormats.begin(), kFormats.end(), spec.weight) == kFormats.end() ||
      row_alignment_bytes(get_format(spec.weight), spec.layout) < kVectorBytes) {
    return false;
  }
  const int piece_cols = kPieceBytes / element_bytes(spec.weight);
  if (has_column_scales(spec) && spec.scale->block_cols % piece_cols != 0) return false;
  KernelSpec with_defaults = spec;
  with_defaults.tuning = {};
  return plan_of(with_defaults).smem_bytes <= get_cuda_facts(spec.target).smem_per_cta_bytes;
}

EmittedKernel emit_float_matvec(const KernelSpec& spec, const Lowering& weights) {
  const FloatPlan plan = plan_of(spec);
  const int limit = get_cuda_facts(spec.target).smem_per_cta_bytes;
  if (plan.smem_bytes > limit) {
    throw SpecError(plan.has_ring() ? "stages" : "threads",
                    fmt::format("{} stages of {} threads", plan.stages, plan.threads),
                    fmt::format("what {} bytes of shared memory hold on {} (they take {})", limit,
                                spec.target.name(), plan.smem_bytes));
  }
  LaunchShape shape{.rows_per_cta = kTileRows, .threads = static_cast<unsigned>(plan.threads)};
  shape.smem_bytes = static_cast<unsigned>(plan.smem_bytes);
  shape.ctas_per_multiprocessor = static_cast<unsigned>(plan.ctas);
  const std::string_view x_name = get_format(spec.x_format).name;
  const std::string_view weight_name = get_format(spec.weight).name;

  std::vector<std::string> names;
  if (spec.scale) names.push_back(fmt::format("load_scale_{}", scale_type_name(spec.scale->type)));
  names.insert(names.end(), {"load_x", "magnitude", "min_of"});
  names.push_back(is_fp8(spec.weight) ? "decode_element_fp8"
                                      : fmt::format("decode_element_{}", weight_name));
  names.insert(names.end(), {"WeightCursor", "prepare_terms"});
  if (plan.has_ring()) names.insert(names.end(), {"wait_for_copies", "copy_weights"});
  names.push_back("float_product");
  TemplateValues values = header_values(spec);
  add_product_values(spec, values, names);
  add_wait(spec, values, names);
  Lowering lowering = weights;
  lowering.summary = lowering_words(spec, plan, weights);
  add_common_values(spec, lowering, values);

  FragmentVariants variants = variants_for(spec, weights);
  variants["WeightSource"] = plan.has_ring() ? "ring" : "direct";
  variants["load_x"] = x_name;
  variants["load_x4"] = x_name;
  variants["narrow"] = plan.x.type;
  variants["mma"] = fmt::format("{}_k16", plan.x.type);
  variants["mma_operand"] = moves_bits(spec)      ? "e4m3_bits"
                            : is_fp8(spec.weight) ? "codes"
                                                  : "native";
  variants["note_special"] = moves_bits(spec) && !spec.weights_finite ? "e4m3" : "none";
  variants["x_power"] = plan.x.has_power ? "largest" : "one";
  variants["UnitScales"] = has_column_scales(spec) ? "blocks" : "none";
  variants["float_product"] = has_chunk_sums(spec, plan) ? "chunks" : "whole";
  variants["piece_at"] = spec.layout.cols % plan.unit_cols == 0 ? "whole" : "cut";

  values["constants"] = format_constants(constants_of(spec, plan));
  values["functions"] =
      fmt::format("using XType = {};\n{}{}", io_type(spec.x_format), scale_place(spec),
                  FragmentLibrary::of("cuda").splice(names, variants));
  values["x_name"] = x_name;
  values["x_type"] = io_type(spec.x_format);
  values["x_columns"] = number(spec.x_columns);
  values["unit_cols"] = number(plan.unit_cols);
  values["threads"] = number(plan.threads);
  values["warps"] = number(plan.warps());
  values["smem_bytes"] = number(plan.smem_bytes);
  values["least_ctas"] = fmt::format(", {}", plan.ctas);
  values["first_loads"] = first_loads(spec, plan);
  values["next_unit"] = indented(next_unit(spec, plan), 6);
  values["early_wait"] = spec.constant_weights ? "" : values["wait"];
  values["late_wait"] = spec.constant_weights ? values["wait"] : "";
  values.erase("wait");
  const bool has_row_scales = spec.scale && !has_column_scales(spec);
  values["row_scales"] = has_row_scales ? "    const float row_scale[2] = {load_scale(scale, "
                                          "scale_place(row_of(tile, lane, 0, rows), 0)),\n"
                                          "                                load_scale(scale, "
                                          "scale_place(row_of(tile, lane, 1, rows), 0))};\n"
                                        : "";
  values["scale_rows"] =
      has_row_scales ? "      total[i / 4][i % 4] *= row_scale[i % 4 / 2];\n" : "";
  const std::string weight = "decode_element(w + row * kRowBytes, col)";
  values["weight"] =
      spec.scale ? fmt::format("({} * load_scale(scale, scale_place(row, col)))", weight) : weight;
  values["result"] = with_bias(spec, "sum", "row");
  return {fill_template(get_template("cuda/float_matvec.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

}  // namespace ktjit::codegen
