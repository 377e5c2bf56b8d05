// How each format's units become products: the table of forms, and the two skeletons.
#include "codegen/cuda_unit_matvec.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fmt/format.h>

#include "codegen/cuda_matvec_variant.h"
#include "codegen/cuda_parts.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "codegen/product_text.h"
#include "core/error.h"
#include "core/prepared_layout.h"

namespace ktjit::codegen {
namespace {

constexpr int kDigits = 4;
constexpr int kDigitBytes = kDigits * kUnitCols;
constexpr int kZeroBytes = 256;

/// What is kept of the sums of x's digits over blocks.
enum class Sums {
  kNone,
  kStart,  ///< what an mma's sums start from: an offset of the codes times the sum
  kHalf,   ///< 16-bit sums, multiplied by integer minima
  kF32,    ///< multiplied by f32 minima
  kBytes,  ///< as two signed bytes each: an operand of an mma with integer minima
};

/// How a format's unit is multiplied.
struct UnitForm {
  FormatId format;
  std::string_view product;  ///< variant of unit_product: "f32" or "s32"
  int block_cols;            ///< columns of the blocks that an mma's sums are taken of: 32 or 16
  std::string_view scale;    ///< variant of block_scale, or of RowScales with s32
  std::string_view minimum;  ///< variant of unit_minimum
  Sums sums;
  int offset;                    ///< that codes have, for kStart and the minima made of scales
  std::string_view down;         ///< takes back what pair_codes leaves too large
  std::array<int, 16> levels{};  ///< of codes that choose from a table: 16, or 8 of 3 bits
};

// kvalues_iq4nl of ggml (MIT licence).
constexpr std::array<int, 16> kIq4Levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};
// Twice the values of e2m1.
constexpr std::array<int, 16> kE2m1Levels = {0, 1,  2,  3,  4,  6,  8,  12,
                                             0, -1, -2, -3, -4, -6, -8, -12};
// Those of iq3_s and iq3_xxs, with a sign in bit 3.
constexpr std::array<int, 16> kIq3sLevels = {1,  3,  5,  7,  9,  11,  13,  15,
                                             -1, -3, -5, -7, -9, -11, -13, -15};
constexpr std::array<int, 16> kIq3xxsLevels = {4,  12,  20,  28,  36,  44,  52,  62,
                                               -4, -12, -20, -28, -36, -44, -52, -62};

// Those of iq2_xxs, iq2_xs and iq2_s, with a sign in bit 2.
constexpr std::array<int, 16> kIq2Levels = {8, 25, 43, 0, -8, -25, -43, 0};

/// Tables for prmt: of the levels of codes 0 to 7 and of codes 15 to 8. A code chooses from both, from the one
/// that isn't its own the sign of a byte, 0 or -1: its own byte is the level less that.
std::array<std::uint32_t, 4> level_tables(const std::array<int, 16>& levels) {
  std::array<std::uint32_t, 4> words{};
  for (unsigned i = 0; i < 8; ++i) {
    const int lower = levels[i], upper = levels[i + 8];
    const bool lower_is_negative = lower < 0;
    const int own_upper = upper + (lower_is_negative ? 1 : 0);
    const int own_lower = lower + (own_upper < 0 ? 1 : 0);
    KTJIT_CHECK((own_lower < 0) == lower_is_negative && own_lower <= 127 && own_upper <= 127);
    words[i / 4] |= std::uint32_t(std::uint8_t(own_lower)) << 8 * (i % 4);
    const unsigned at = 7 - i;  // the selectors of these are inverted
    words[2 + at / 4] |= std::uint32_t(std::uint8_t(own_upper)) << 8 * (at % 4);
  }
  return words;
}

/// The same for levels as one operand (pair_codes@k4Level): the byte of a code's own table and the sign from the other
/// one, 0 or 255, add up to level + 255.
std::array<std::uint32_t, 4> joined_level_tables(const std::array<int, 16>& levels) {
  std::array<std::uint32_t, 4> words{};
  for (unsigned i = 0; i < 8; ++i) {
    const int lower = levels[i], upper = levels[i + 8];
    KTJIT_CHECK(lower < 0 ? lower >= -127 && upper >= 0 : upper <= 0 && upper >= -127);
    const int own_lower = lower < 0 ? lower - 1 : lower;
    const int own_upper = lower < 0 ? upper : upper - 1;
    const unsigned at = 7 - i;
    words[i / 4] |= std::uint32_t(std::uint8_t(own_lower)) << 8 * (i % 4);
    words[2 + at / 4] |= std::uint32_t(std::uint8_t(own_upper)) << 8 * (at % 4);
  }
  return words;
}

/// Tables for prmt: of codes 0 to 3 and of codes 4 to 7.
std::array<std::uint32_t, 2> short_level_tables(const std::array<int, 16>& levels) {
  std::array<std::uint32_t, 2> words{};
  for (unsigned i = 0; i < 8; ++i)
    words[i / 4] |= std::uint32_t(std::uint8_t(levels[i])) << 8 * (i % 4);
  return words;
}

constexpr std::array kForms = {
    UnitForm{FormatId::kQ4_0, "f32", 32, "f16", "offset", Sums::kF32, -8, "0.0625f"},
    UnitForm{FormatId::kQ4_1, "f32", 32, "f16_first", "f16", Sums::kF32, 0, "0.0625f"},
    UnitForm{FormatId::kQ5_0, "f32", 32, "f16", "none", Sums::kStart, -16, "1.0f"},
    UnitForm{FormatId::kQ5_1, "f32", 32, "f16_first", "f16", Sums::kF32, 0, "1.0f"},
    UnitForm{FormatId::kQ8_0, "f32", 32, "f16", "none", Sums::kNone, 0, "1.0f"},
    UnitForm{FormatId::kQ1_0, "f32", 32, "f16_of_128", "offset", Sums::kF32, -1, "0.25f"},
    UnitForm{FormatId::kQ2_0, "f32", 32, "f16_of_64", "offset", Sums::kF32, -1, "0.015625f"},
    UnitForm{FormatId::kQ4_K, "s32", 32, "q4_K", "minima", Sums::kHalf, 0, "0.0625f"},
    UnitForm{FormatId::kQ5_K, "s32", 32, "q4_K", "minima", Sums::kHalf, 0, "1.0f"},
    UnitForm{FormatId::kQ6_K, "s32", 16, "signed_bytes", "offset_s32", Sums::kHalf, -32, "0.25f"},
    UnitForm{FormatId::kQ3_K, "s32", 16, "signed_bytes", "offset_s32", Sums::kHalf, -4, "0.0625f"},
    UnitForm{FormatId::kQ2_K, "s32", 16, "q2_K", "minima", Sums::kHalf, 0, "0.015625f"},
    UnitForm{FormatId::kTQ1_0, "s32", 32, "whole", "offset_whole", Sums::kHalf, -1, "0.015625f"},
    UnitForm{FormatId::kTQ2_0, "s32", 32, "whole", "offset_whole", Sums::kHalf, -1, "0.015625f"},
    UnitForm{FormatId::kIQ4_NL, "f32", 32, "f16", "none", Sums::kNone, 0, "1.0f", kIq4Levels},
    UnitForm{FormatId::kIQ4_XS, "s32", 32, "signed_bytes_8", "none_s32", Sums::kNone, 0, "1.0f",
             kIq4Levels},
    UnitForm{FormatId::kGgmlMxfp4, "f32", 32, "e8m0", "none", Sums::kNone, 0, "0.5f", kE2m1Levels},
    UnitForm{FormatId::kGgmlNvfp4, "f32", 16, "ue4m3", "none", Sums::kNone, 0, "128.0f",
             kE2m1Levels},
    UnitForm{FormatId::kMxfp4, "f32", 32, "e8m0", "none", Sums::kNone, 0, "0.5f", kE2m1Levels},
    UnitForm{FormatId::kNvfp4, "f32", 16, "ue4m3", "none", Sums::kNone, 0, "128.0f", kE2m1Levels},
    UnitForm{FormatId::kIQ3_S, "s32", 32, "odd_8", "none_s32", Sums::kNone, 0, "1.0f", kIq3sLevels},
    UnitForm{FormatId::kIQ3_XXS, "s32", 32, "odd_8", "none_s32", Sums::kNone, 0, "0.25f",
             kIq3xxsLevels},
    UnitForm{FormatId::kIQ2_XXS, "s32", 32, "odd_8", "none_s32", Sums::kNone, 0, "0.125f",
             kIq2Levels},
    UnitForm{FormatId::kIQ2_XS, "s32", 16, "odd_16", "none_s32", Sums::kNone, 0, "0.125f",
             kIq2Levels},
    UnitForm{FormatId::kIQ2_S, "s32", 16, "odd_16", "none_s32", Sums::kNone, 0, "0.125f",
             kIq2Levels},
    UnitForm{FormatId::kIQ1_S, "s32", 32, "iq1_s", "iq1_s", Sums::kHalf, 0, "0.015625f"},
    UnitForm{FormatId::kIQ1_M, "s32", 16, "iq1_m", "iq1_m", Sums::kBytes, 0, "0.015625f"},
};

const UnitForm& form_of(FormatId format) {
  const auto found = std::find_if(kForms.begin(), kForms.end(),
                                  [format](const UnitForm& form) { return form.format == format; });
  KTJIT_CHECK(found != kForms.end());  // every prepared layout has one
  return *found;
}

std::string number(std::int64_t value) { return fmt::format("{}", value); }

/// Else dp4a multiplies.
bool has_integer_mma(const Target& target) {
  constexpr int kFirstIntegerMma = 75;
  return target.sm >= kFirstIntegerMma;
}

/// The form of a format on a target.
UnitForm form_for(const KernelSpec& spec) {
  UnitForm form = form_of(spec.weight);
  if (has_integer_mma(spec.target)) {
    if (form.sums == Sums::kHalf) form.sums = Sums::kBytes;
  } else if (form.sums == Sums::kStart) {
    // A lane has half of a block's columns there, so nothing to start from.
    form.sums = Sums::kF32;
    form.minimum = "offset";
  }
  return form;
}

/// Whether codes are multiplied by their block's scale before an mma: 3 times 15 fits in a byte, and 4 times as much.
bool folds_scales(const KernelSpec& spec) {
  return spec.weight == FormatId::kQ2_K && has_integer_mma(spec.target);
}

/// Columns whose sum of digits has a minimum or a shift of its own.
int minimum_cols(const UnitForm& form) { return form.minimum == "iq1_m" ? 8 : form.block_cols; }

/// Variants of what integer sums become where an mma multiplies minima (sums_of_minima).
void add_minimum_variants(const UnitForm& form, bool is_wide, FragmentVariants& variants) {
  const bool has_own_head = form.scale == "signed_bytes" || form.scale == "q2_K";
  variants["add_sums"] = form.minimum == "none_s32" ? "none"
                         : form.minimum == "minima" ? "minima"
                                                    : "offset";
  variants["sums_of_minima"] = form.minimum == "iq1_m" ? "iq1_m" : number(form.block_cols);
  variants["minimum_word"] = form.scale == "q2_K"             ? "own_upper"
                             : has_own_head                   ? "own"
                             : form.minimum == "offset_whole" ? "ones"
                                                              : "half";
  variants["mma_minima"] =
      fmt::format("{}_{}", form.scale == "signed_bytes" ? "s8" : "u8", is_wide ? "k16" : "8_rows");
  variants["OwnWord"] = has_own_head ? "head" : "none";
}

/// What each code is shifted by, in units of the integer sums: times its scale, or, of IQ1, of eighths of it.
int shift_of(const UnitForm& form) {
  const float offset = form.minimum.starts_with("iq1") ? -0.125f : static_cast<float>(form.offset);
  return static_cast<int>(offset / std::strtof(form.down.data(), nullptr));
}

std::int64_t units_of(const KernelSpec& spec) { return ceil_div(spec.layout.cols, kUnitCols); }

std::string_view packing_name(CodePacking packing) {
  constexpr std::array<std::string_view, 9> kNames = {"k1",      "k2", "k3", "k3Table", "k4",
                                                      "k4Table", "k5", "k6", "k8"};
  return kNames[static_cast<std::size_t>(packing)];
}

/// By what the sums of earlier pairs are multiplied before pair 0 to 3: codes are left where they lie in their
/// bytes, those of later pairs further up.
std::array<int, 4> pair_steps(CodePacking packing) {
  switch (packing) {
    case CodePacking::k1:
      return {1, 2, 2, 2};
    case CodePacking::k2:
      return {1, 4, 4, 4};
    case CodePacking::k3:
      return {1, 1, 8, 2};
    case CodePacking::k4:
      return {1, 1, 16, 1};
    case CodePacking::k6:
      return {1, 1, 1, 4};
    default:
      return {1, 1, 1, 1};
  }
}

/// Whether minima or offsets are summed as integers over blocks (sum_of_minima).
bool has_integer_minima(const UnitForm& form) {
  return form.minimum == "minima" || form.minimum == "offset_s32" || form.minimum == "offset_whole";
}

int sum_bytes(const UnitForm& form) {
  const int blocks = kUnitCols / form.block_cols;
  switch (form.sums) {
    case Sums::kNone:
      return 0;
    case Sums::kHalf:
      return 2 * blocks;
    case Sums::kStart:
    case Sums::kF32:
      return 4 * blocks;
    case Sums::kBytes:
      return 2 * kUnitCols / minimum_cols(form);
  }
  KTJIT_UNREACHABLE("a known kind of sums");
}

/// Bytes that the factor of a digit takes: 16 where what comes after is read as vectors.
int factor_bytes(const UnitForm& form) { return form.sums == Sums::kBytes ? 4 : 16; }

/// Shapes and the places in shared memory.
struct UnitPlan {
  int threads = 0;
  int steps = 0;       ///< units that a warp has of a tile, or of half of one
  int tile_warps = 0;  ///< that share a tile of 16 rows, side by side along the columns
  int halves = 0;      ///< of a tile: 2 with a gate
  int ctas = 0;        ///< of the grid, for each multiprocessor
  int stages = 0;
  bool has_few_digits = false;  ///< of one unit for each warp at a time
  bool fills_ring = false;      ///< before x is there, not all but one place
  std::int64_t unit_bytes = 0;
  std::int64_t x_unit_bytes = 0;
  std::int64_t group_x_bytes = 0;  ///< of the digits that the warps of a tile share
  std::int64_t partial_at = 0;
  std::int64_t ring_at = 0;
  std::int64_t smem_bytes = 0;

  int warps() const { return threads / kWarpThreads; }
  int tile_groups() const { return warps() / tile_warps; }
  bool has_ring() const { return stages > 1; }
  /// Whether a unit of a step always has the same place in the ring, or one of its step's.
  bool has_fixed_places() const { return steps % stages == 0; }
  bool has_tile_places() const { return !has_fixed_places() && stages % steps == 0; }
};

/// How many of the warps share a tile: all, unless with fewer much less of their time passes without a unit. Each
/// tile's warps have digits of their own, so with several rows of x it is all.
int choose_tile_warps(std::int64_t units, int warps, int x_columns) {
  int best = warps;
  if (x_columns > 1) return best;
  const auto slots = [units](int count) { return ceil_div(units, count) * count; };
  for (int count = warps / 2; count >= 1 && warps % count == 0; count /= 2) {
    if (4 * slots(count) <= 3 * slots(best)) best = count;
  }
  return best;
}

UnitPlan plan_units(const KernelSpec& spec, const UnitForm& form, const PreparedLayout& layout) {
  constexpr int kMaxStages = 8, kLongRow = 8192, kManyUnits = 16;
  constexpr int kFirstAsyncCopy = 80;
  // Measured on an H200 (docs/STATUS.md). Behind a kernel that still runs: one CTA of many warps where rows are long
  // or codes are wide, and of two rows of x anyway. Small CTAs, whose warps have more units of a tile each, where many
  // instructions come with few bytes, and where experts have few tiles. Without room for rings direct loads: as sm_86 code
  // q4_K has 4083 to 4117 GB/s by those, 4022 by a ring.
  const bool has_copies = spec.target.sm >= kFirstAsyncCopy;
  constexpr int kLargeSharedMemory = 128 * 1024;  // others have room for few warps' units
  const bool is_roomy =
      has_copies && get_cuda_facts(spec.target).smem_per_cta_bytes > kLargeSharedMemory;
  const int bits = layout.code_bits();
  const bool is_long = spec.layout.cols > kLongRow;
  // Four rows as terms: q4_K, 14336 x 4096, 12.2 us by that, 13.5 by two small ones.
  const bool has_terms = form.scale == "q4_K" && spec.x_columns == 4;
  const bool wants_one =
      (spec.constant_weights && spec.x_columns == 1 && (is_long || bits > 5)) ||
      (is_roomy && (spec.x_columns == 2 || has_terms) && units_of(spec) >= kManyUnits);
  const bool is_busy = form.scale == "q2_K" || form.scale == "ue4m3";
  const bool wants_small = is_roomy && spec.x_columns == 1 && !is_long &&
                           (spec.op == Op::kMoeMatvec || (is_busy && !spec.constant_weights));
  const int default_threads = wants_small ? 128 : wants_one ? 512 : 256;
  const int default_ctas = wants_small ? 4 : wants_one ? 1 : 2;
  // Codes of more bits, or that choose from a table, would spill registers beside a unit that is loaded ahead.
  const bool has_room_ahead = bits <= 4 && layout.packing != CodePacking::k4Table;
  const bool wants_ring = has_copies && (is_roomy || spec.x_columns > 1 || !has_room_ahead);
  const int default_stages = !wants_ring ? 1 : wants_small || is_long ? 4 : wants_one ? 2 : 3;
  const Tuning& tuning = spec.tuning;
  UnitPlan plan;
  plan.threads = tuning.threads == 0 ? default_threads : tuning.threads;
  plan.ctas = tuning.ctas_per_multiprocessor == 0 ? default_ctas : tuning.ctas_per_multiprocessor;
  plan.stages = tuning.stages == 0 ? default_stages : tuning.stages;
  if (plan.ctas < 1 || plan.ctas > 16)
    throw SpecError("ctas_per_multiprocessor", number(plan.ctas), "1 to 16");
  const int most_stages = has_copies ? kMaxStages : 1;
  if (plan.stages < 1 || plan.stages > most_stages)
    throw SpecError("stages", number(plan.stages),
                    fmt::format("1 to {} on {}", most_stages, spec.target.name()));
  plan.unit_bytes = layout.unit_bytes();
  plan.x_unit_bytes = kDigitBytes + kDigits * (sum_bytes(form) + factor_bytes(form));
  plan.halves = spec.gate == Gate::kNone ? 1 : 2;
  const auto place = [&] {
    const std::int64_t units = units_of(spec);
    plan.tile_warps = choose_tile_warps(units, plan.warps(), spec.x_columns);
    plan.steps = static_cast<int>(ceil_div(units, plan.tile_warps));
    const std::int64_t x_units = plan.has_few_digits ? plan.tile_warps : units;
    plan.group_x_bytes = x_units * spec.x_columns * plan.x_unit_bytes;
    plan.partial_at = kZeroBytes + plan.tile_groups() * plan.group_x_bytes;
    const std::int64_t partial_bytes =
        std::int64_t{2} * plan.halves * plan.warps() * spec.x_columns * kUnitRows * 4;
    plan.ring_at = ceil_div(plan.partial_at + partial_bytes, 128) * 128;
  };
  const std::int64_t limit = get_cuda_facts(spec.target).smem_per_cta_bytes;
  place();
  if (plan.ring_at > limit) {
    plan.has_few_digits = true;
    plan.stages = 1;
    place();
  }
  while (tuning.threads == 0 && plan.ring_at > limit && plan.threads > kWarpThreads) {
    plan.threads /= 2;
    place();
  }
  const auto smem_bytes = [&plan] {
    return plan.ring_at + (plan.has_ring() ? plan.warps() * plan.stages * plan.unit_bytes : 0);
  };
  // An expert's tiles are few, so a warp has one: room for more units than that has would keep out the next kernel's CTAs.
  if (tuning.stages == 0 && spec.op == Op::kMoeMatvec && plan.has_ring())
    plan.stages = std::clamp(plan.steps * plan.halves, 2, plan.stages);
  while (tuning.stages == 0 && plan.has_ring() && smem_bytes() > limit) --plan.stages;
  // Of two places one stays empty where rows are short: 4096 x 4096 of q8_0 takes 6.32 us if both are filled, else 5.27.
  plan.fills_ring = plan.stages > 2 || (plan.has_ring() && is_long);
  // A multiprocessor of sm_61 has room for two CTAs of the largest size.
  constexpr int kPascalSmemBytes = 96 * 1024;
  const std::int64_t shared_limit = spec.target.sm < 70 ? kPascalSmemBytes : limit;
  // More than fit side by side would only take registers from those that do.
  while (tuning.ctas_per_multiprocessor == 0 && plan.ctas > 1 &&
         plan.ctas * smem_bytes() > shared_limit)
    --plan.ctas;
  plan.smem_bytes = smem_bytes();
  if (plan.smem_bytes > limit) {
    throw SpecError(
        "cols", fmt::format("{} with {} rows of x", spec.layout.cols, spec.x_columns),
        fmt::format(
            "what {} bytes of shared memory hold on {} (it takes {}): fewer rows of x, threads or "
            "stages, or the native layout",
            limit, spec.target.name(), plan.smem_bytes));
  }
  return plan;
}

/// Whether several rows of x are multiplied as terms of f16 (unit_terms): codes times scales, at most 31 * 63, are integers
/// that f16 holds.
bool takes_terms(const KernelSpec& spec, const UnitForm& form, const UnitPlan& plan) {
  constexpr int kFirstWideMma = 80, kLeastColumns = 4;
  return form.scale == "q4_K" && spec.x_columns >= kLeastColumns && !plan.has_few_digits &&
         spec.target.sm >= kFirstWideMma;
}

std::string pair_step_text(const std::array<int, 4>& steps) {
  return fmt::format(
      "// By what sums are multiplied before a pair's are added, whose codes lie further up in "
      "their bytes.\n"
      "__device__ __forceinline__ constexpr int pair_step(int pair) {{\n"
      "  return pair == 0 ? {} : pair == 1 ? {} : pair == 2 ? {} : {};\n"
      "}}\n",
      steps[0], steps[1], steps[2], steps[3]);
}

/// Statements before x is there.
std::string first_loads(const UnitPlan& plan, bool has_mma) {
  if (!has_mma) return "";
  if (!plan.has_ring()) {
    return "  const unsigned char* at = unit_at(walk, 0, 0);\n"
           "  if (at == nullptr) at = tile_of(weights, tiles - 1, 0); // some unit\n"
           "  Unit ahead = load_unit(at, lane);\n";
  }
  return "  unsigned char* ring = shared + kRingAt + warp * kStages * kUnitBytes;\n"
         "#pragma unroll\n"
         "  for (int i = 0; i < kFirstUnits; ++i) {\n"
         "    copy_unit(ring + i * kUnitBytes, unit_at(walk, i / kSteps, i % kSteps), lane);\n"
         "  } // i: units in flight\n" +
         std::string(plan.has_fixed_places() ? ""
                                             : "  int place = 0; // of the unit that is next\n");
}

/// Statements that have unit i of a step as `unit`, and request one that comes later.
std::string next_unit(const UnitPlan& plan, bool has_mma) {
  // Registers for a unit ahead are few with dp4a, and these multiprocessors need some 10 KB in flight: their other
  // warps have that.
  if (!has_mma)
    return "const Unit unit = has_unit ? load_unit(unit_at(walk, step, i), lane) : Unit{};";
  if (!plan.has_ring()) {
    return "const Unit unit = ahead;\n"
           "const unsigned char* next = unit_at(walk, step + (i + 1) / kSteps, (i + 1) % kSteps);\n"
           "if (next != nullptr) at = next; // else the same again: were nothing loaded, the unit "
           "would have to be kept\n"
           "ahead = load_unit(at, lane);";
  }
  return fmt::format(
      "wait_for_copies<kStages - 2>();\n"
      "__syncwarp(); // what other lanes copied is there, and what this one overwrites has been "
      "read\n"
      "const int now = {};\n"
      "const Unit unit = has_unit ? load_unit(ring + now * kUnitBytes, lane) : Unit{{}};\n"
      "{}"
      "const unsigned char* next_units = i + kStages - 1 < (kAhead + 1) * kSteps ? soon : later;\n"
      "copy_unit(ring + {} * kUnitBytes, {}unit_of(walk, next_units, (i + kStages - 1) % "
      "kSteps){}, "
      "lane);{}",
      plan.has_fixed_places()  ? "i % kStages"
      : plan.has_tile_places() ? "place + i"
                               : "place",
      plan.fills_ring ? "const bool has_place = step > 0 || i > 0; // of the unit before\n" : "",
      plan.has_fixed_places()  ? "((i + kStages - 1) % kStages)"
      : plan.has_tile_places() ? "(i > 0 ? place + i - 1 : place == 0 ? kStages - 1 : place - 1)"
                               : "(place == 0 ? kStages - 1 : place - 1)",
      plan.fills_ring ? "has_place ? " : "", plan.fills_ring ? " : nullptr" : "",
      plan.has_fixed_places() || plan.has_tile_places()
          ? ""
          : "\nplace = place == kStages - 1 ? 0 : place + 1;");
}

/// Statements before and after the units of a step: where those lie that are requested meanwhile, and where the next
/// ones are in the ring.
std::string later_units(const UnitPlan& plan, bool has_mma) {
  if (!has_mma || !plan.has_ring()) return "";
  return "        constexpr int kAhead = (kStages - 1) / kSteps;\n"
         "        const unsigned char* soon = units_of(walk, step + kAhead);\n"
         "        const unsigned char* later = units_of(walk, step + kAhead + 1);\n";
}
std::string next_place(const UnitPlan& plan, bool has_mma) {
  if (!has_mma || !plan.has_ring() || !plan.has_tile_places()) return "";
  return "        place = place == kStages - kSteps ? 0 : place + kSteps;\n";
}

/// Where a lane finds the digits that it multiplies by.
std::string b_columns(bool has_mma, bool folds, int x_columns) {
  if (!has_mma) {
    return "  const unsigned char* b_at = digits + first * kXUnitStep + lane % 4 * 16; // of this "
           "lane's columns\n"
           "  constexpr int b_step = kXUnitBytes;\n";
  }
  if (folds) {
    return fmt::format(
        "  // Column 2 i of an mma has digit i of a row of x, column 2 i + 1 {}.\n"
        "{}"
        "  const unsigned char* b_at = {}digits + first * kXUnitStep + lane / 8 * 256 + lane % 4 "
        "* 16{};\n"
        "  const int b_step = {}kXUnitBytes{};\n",
        x_columns == 1 ? "zeros" : "that of the next row",
        x_columns == 1 ? "  const bool has_digits = lane / 4 % 2 == 0;\n" : "",
        x_columns == 1 ? "has_digits ? " : "",
        x_columns == 1 ? " : shared" : " + lane / 4 % 2 * kXUnitBytes",
        x_columns == 1 ? "has_digits ? " : "", x_columns == 1 ? " : 0" : "");
  }
  return "  // Lanes 0 and 1 of four hold columns of one block, lanes 2 and 3 of another: columns "
         "2 i "
         "and 2 i + 1 of\n"
         "  // an mma have digit i of x for the one and for the other, and zeros elsewhere.\n"
         "  const bool has_digits = lane % 4 / 2 == lane / 4 % 2;\n"
         "  const unsigned char* b_at = has_digits ? digits + first * kXUnitStep + lane / 8 * 256 "
         "+ "
         "lane % 4 * 16 : shared;\n"
         "  const int b_step = has_digits ? kXUnitBytes : 0;\n";
}

/// Makes the digits of x, or only finds how many levels there are where shared memory doesn't hold them.
std::string first_digits(const UnitPlan& plan, bool has_terms, const std::string& x_row,
                         const std::string& n) {
  if (has_terms) {
    return fmt::format(
        "  const bool has_terms = prepare_row_terms({0}, {1}, first, lane, digits);\n"
        "  const Levels levels = has_terms ? Levels{{1, 1}} : prepare_x({0}, {1}, first, lane, "
        "digits);\n",
        x_row, n);
  }
  if (!plan.has_few_digits)
    return fmt::format("  const Levels levels = prepare_x({}, {}, first, lane, digits);\n", x_row,
                       n);
  return fmt::format(
      "  Levels levels = {{1, 1}};\n"
      "  for (int u = first; u < kUnits; u += kTileWarps) {{\n"
      "    levels = most_levels(levels, prepare_x({}, {}, u, lane, digits - (u - first) * "
      "kXUnitStep));\n"
      "  }} // u: units of this warp\n",
      x_row, n);
}

/// Which weights there are, whose x and y, and what is stored.
void add_matrix_values(const KernelSpec& spec, TemplateValues& values,
                       std::vector<std::string>& names) {
  constexpr std::string_view kStoreNans =
      "    for (long long row = (long long)blockIdx.x * kThreads + threadIdx.x; row < rows;\n"
      "         row += (long long)gridDim.x * kThreads) {\n"
      "      store_element(y + slot * rows + row, __uint_as_float(0x7fc00000u));\n"
      "    } // row: of y\n";
  const bool is_moe = spec.op == Op::kMoeMatvec;
  const bool has_gate = spec.gate != Gate::kNone;
  const std::string store_nans =  // y is what the kernel ahead may use
      fmt::format("{}{}", spec.constant_weights ? "    wait_for_earlier_grids();\n" : "",
                  kStoreNans);
  const auto tiles_of = [](const std::string& rows) {
    return fmt::format("(int)(({} + 15) / 16)", rows);
  };
  std::vector<std::string> w, rows, tiles;
  for (const LaunchArgument& argument : launch_order(spec)) {
    const std::string name = argument_name(spec, argument);
    if (argument.role == ArgumentRole::kWeights) w.push_back(name);
    if (argument.role != ArgumentRole::kRows) continue;
    rows.push_back(name);
    tiles.push_back(tiles_of(name));
  }
  values["weights"] =
      has_gate ? fmt::format("  const int tiles = {};\n  const Weights weights = {{{{{}}}}};",
                             tiles[0], fmt::join(w, ", "))
               : fmt::format(
                     "  const Weights weights = {{{{{}}}, {{{}}}}};\n"
                     "  int tiles = 0;\n"
                     "  for (int i = 0; i < kMatrices; ++i) tiles += weights.tiles[i];",
                     fmt::join(w, ", "), fmt::join(tiles, ", "));
  values["parameters"] = parameter_list(spec);
  values["tensor_descriptions"] = tensor_descriptions(spec);
  values["all_rows"] = fmt::format("{}", fmt::join(rows, " + "));
  values["grid_y"] = is_moe ? "slots" : "1";
  values["select_expert"] =
      is_moe ? select_expert(spec, fmt::format("{} * kUnits * kUnitBytes", tiles_of("rows")),
                             store_nans)
             : "";
  values["x_row"] = is_moe ? "x + slot / slots_per_x * kCols" : "x";
  values["n"] = is_moe ? "1" : "n";
  values["is_used"] = is_moe ? "" : "j < n && ";
  values["y_row"] = is_moe ? "slot" : "j";
  values["tile"] = spec.matrices > 1 ? "own_tile" : "tile";
  values["select_matrix"] =
      spec.matrices == 1
          ? ""
          : "    int own_tile = tile;\n" +
                select_matrix(spec, "own_tile", tiles_of("rows"), "", 4, Selected::kAllButWeights);
  values["totals"] = has_gate ? "      const float gate = sum[0], up = sum[1];\n"
                              : "      const float total = sum[0];\n";
  names.push_back(fmt::format("store_element_{}", get_format(spec.y_format).name));
  values["result"] = result_text(spec, "row", names);
}

}  // namespace

EmittedKernel emit_unit_matvec(const KernelSpec& spec, const Lowering& weights) {
  constexpr int kMostUnrolled = 4;
  constexpr int kFirstWideMma = 80;
  constexpr int kFirstReduction = 80;  // redux.sync, max.NaN
  const UnitForm form = form_for(spec);
  const bool has_mma = has_integer_mma(spec.target);
  const PreparedLayout& layout = *find_prepared_layout(spec.weight);
  const UnitPlan plan = plan_units(spec, form, layout);
  LaunchShape shape{.rows_per_cta = kUnitRows * plan.tile_groups(),
                    .threads = static_cast<unsigned>(plan.threads),
                    .x_rows_per_cta = spec.op == Op::kMoeMatvec ? 1 : 0};
  shape.smem_bytes = static_cast<unsigned>(plan.smem_bytes);
  shape.ctas_per_multiprocessor = static_cast<unsigned>(plan.ctas);

  const bool is_long_table = layout.packing == CodePacking::k4Table;
  const bool is_short_table = layout.packing == CodePacking::k3Table;
  const bool is_signed = layout.packing == CodePacking::k8 || is_long_table || is_short_table;
  const bool is_wide = spec.target.sm >= kFirstWideMma;
  const std::string_view x_name = get_format(spec.x_format).name;
  std::vector<std::string> names = {"Unit", "Walk", "prepare_x", "unit_product", "multiply_levels"};
  const bool has_terms = takes_terms(spec, form, plan);
  names.emplace_back("store_totals");
  if (has_terms)
    names.insert(names.end(), {"prepare_row_terms", "unit_terms", "store_term_totals"});
  if (plan.has_few_digits) names.emplace_back("most_levels");
  if (plan.has_ring()) names.insert(names.end(), {"wait_for_copies", "copy_unit"});
  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = number(kEmitterVersion);
  values["math"] = product_math(spec);
  add_matrix_values(spec, values, names);
  add_wait(spec, values, names);
  Lowering lowering = weights;
  const std::string code_type = is_signed ? "s8" : "u8";
  const std::string product = has_mma ? is_wide ? "mma m16n8k32" : "mma m8n8k16" : "dp4a";
  lowering.summary = has_terms ? "mma m16n8k16 f16, x in 2 terms"
                               : fmt::format("{} {}: 4 digits of x", product, code_type);
  values["arch"] = arch_description(spec, lowering);

  FragmentVariants variants = variants_for(spec, weights);
  variants["multiply_levels"] = plan.has_few_digits ? "few" : "all";
  variants["Weights"] = plan.halves == 2 ? "pair" : "several";
  add_unit_variants(spec, !has_mma, variants);
  const bool folds = folds_scales(spec);
  if (has_mma) add_minimum_variants(form, is_wide, variants);
  if (folds) variants["RowScales"] = "q2_K_folded";
  variants["unit_product"] = folds ? "folded" : has_mma ? form.product : "dp4a";
  variants["dot_4"] = code_type;
  variants["unit_minimum"] = form.minimum;
  variants["mma_codes"] = is_wide ? code_type + "_k32" : "k16";
  variants["mma_8_rows"] = code_type;
  variants["starts_of"] = form.sums == Sums::kStart ? "sums" : "none";
  variants["store_sums"] = form.sums == Sums::kNone    ? "none"
                           : form.sums == Sums::kBytes ? fmt::format("bytes_{}", minimum_cols(form))
                                                       : number(form.block_cols);
  variants["keep_sum"] = form.sums == Sums::kStart  ? "start"
                         : form.sums == Sums::kHalf ? "half"
                                                    : "f32";
  variants["digits_of"] = number(form.block_cols);
  variants["largest_bits"] = spec.target.sm >= kFirstReduction ? "f32" : "integers";
  variants["warp_max_bits"] = spec.target.sm >= kFirstReduction ? "reduced" : "shuffled";
  variants["mma"] = "f16_k16";
  variants["load_x"] = x_name;
  variants["load_8_x"] = spec.x_format == FormatId::kF32 ? "f32" : "16_bits";

  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of w, and of each row of x"},
      {"kUnits", number(units_of(spec)), "units side by side, of 16 rows and 256 columns"},
      {"kUnitBytes", number(plan.unit_bytes), "bytes of a unit"},
      {"kCodeVectors", number(layout.code_bits()),
       "16-byte vectors of codes that a lane has of a unit"},
      {"kThreads", number(plan.threads), "threads per CTA"},
      {"kWarpThreads", number(kWarpThreads), "threads of one warp"},
      {"kWarps", "kThreads / kWarpThreads", ""},
      {"kTileWarps", number(plan.tile_warps), "warps that share a tile of 16 rows"},
      {"kTileGroups", "kWarps / kTileWarps", "tiles side by side in a CTA"},
      {"kGroupThreads", "kTileWarps * kWarpThreads", ""},
      {"kSteps", number(plan.steps),
       "units that a warp has of a tile, or of half of one; the last may be none"},
      {"kMatrices", number(weight_matrices(spec)), "with weights"},
      {"kHalves", number(plan.halves), "16 rows each of a tile, of one matrix or of gate and up"},
      {"kXColumns", number(spec.x_columns), "rows of x that a launch can use"},
      {"kSumBytes", number(sum_bytes(form)), "bytes of a digit's sums over blocks"},
      {"kSumStep", fmt::format("kSumBytes + {}", factor_bytes(form)),
       "with the factor of the digit"},
      {"kXStep", plan.has_few_digits ? "kUnits" : "kTileWarps",
       "from one unit to the next whose digits are made at once"},
      {"kXUnitBytes", number(plan.x_unit_bytes),
       "bytes of the digits and sums of 256 columns of x"},
      {"kXUnitStep", "kXColumns * kXUnitBytes", "of all rows of x"},
      {"kGroupXBytes", number(plan.group_x_bytes), "of all columns, for the warps of a tile"},
      {"kInfinityDigits", has_mma ? "0x01010101" : "1",
       has_mma ? "for an infinity in x: 1 in each, 0 times the factor were NaN"
               : "for an infinity in x"},
      {"kZeroBytes", number(kZeroBytes), "zeros for the lanes whose columns of an mma are none"},
      {"kPartialAt", number(plan.partial_at), "bytes of shared memory before the sums of warps"}};
  if (!folds) {
    constants.push_back(
        {"kSets", is_long_table && has_mma ? "2" : "1", "operands whose sum is a code's number"});
    constants.push_back(
        {"kGroups", number(32 / form.block_cols), "two blocks each, in a pair of mma"});
  }
  if (!has_terms) {
    constants.push_back({"kXUnits", plan.has_few_digits ? "kTileWarps" : "kUnits",
                         "units whose digits of a row of x are there at a time"});
  }
  if (has_terms) {
    constants.push_back({"kTermColumns", "2 * kXColumns", "of mma: terms of all rows of x"});
    constants.push_back({"kTermGroups", number(spec.x_columns / 4), "eight columns of mma each"});
    constants.push_back({"kTermSumsAt", "512 * kTermColumns", "of a unit's terms, their sums"});
    constants.push_back(
        {"kTermFactorsAt", "kTermSumsAt + 16 * kTermColumns", "and what takes back powers"});
  }
  if (has_mma && form.product == "s32" && variants["add_sums"] == "offset")
    constants.push_back({"kShift", number(shift_of(form)), "of codes, in units of their sums"});
  if (!has_mma && has_integer_minima(form)) {
    constants.push_back({"kBlocks", number(kUnitCols / form.block_cols),
                         "blocks of columns in a unit that have a scale"});
  }
  if (plan.has_ring()) {
    constants.push_back({"kRingAt", number(plan.ring_at), "before the units in flight"});
    constants.push_back({"kStages", number(plan.stages), "units of a warp: in use or in flight"});
    constants.push_back({"kFirstUnits", plan.fills_ring ? "kStages" : "kStages - 1",
                         "that are requested before x is there"});
  }
  const bool has_shift = has_mma && form.product == "s32";  // then that has the offset
  if (form.sums == Sums::kStart || (form.offset != 0 && !has_shift))
    constants.push_back(
        {"kOffset", number(form.offset), "what is added to a code: minus the code of zero"});
  if (has_mma && !folds) {
    const bool starts_at_magic = form.product != "s32";  // the sums of scaled ones are f32
    constants.push_back({"kStart", starts_at_magic ? "0x4b400000" : "0",
                         starts_at_magic ? "1.5 * 2^23 as f32" : "of an mma's sums"});
  }
  constants.push_back({"kDown", folds ? "0.25f" : std::string(form.down),
                       "takes back what codes and levels are too large", "float"});
  add_level_constants(spec.weight, !has_mma, constants);
  values["constants"] = format_constants(constants);
  values["functions"] = fmt::format("using XType = {};\n\n{}{}", io_type(spec.x_format),
                                    pair_step_text(pair_steps(layout.packing)),
                                    FragmentLibrary::of("cuda").splice(names, variants));
  values["threads"] = number(plan.threads);
  values["tile_warps"] = number(plan.tile_warps);
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["barrier"] = plan.tile_warps == 1 ? "__syncwarp()" : "__syncthreads()";
  values["smem_bytes"] = number(plan.smem_bytes);
  values["least_ctas"] = fmt::format(", {}", plan.ctas);
  values["b_columns"] = b_columns(has_mma, folds, spec.x_columns);
  values["x_form"] =
      has_terms ? "two terms of f16, or, where these leave too much, as four digits of base 256"
      : has_mma ? "four digits of base 256 in the columns of an integer mma"
                : "four digits of base 256";
  values["first_digits"] = first_digits(plan, has_terms, values["x_row"], values["n"]);
  values["totals_text"] =
      fmt::format("      float total[{}] = {{}};\n", has_terms ? "kTermGroups][2" : "2][kXColumns");
  values["is_simple"] = has_terms ? "has_terms" : "kXUnits == kUnits && levels.all == 1";
  values["unit_product"] =
      has_terms ? "unit_terms(unit, digits + (first + i * kTileWarps) * kXUnitStep, lane, total)"
                : "unit_product(unit, b_at + i * kTileWarps * kXColumns * b_step, b_step,\n"
                  "                         sums_at + i * kTileWarps * kXUnitStep, total)";
  values["store_terms"] = has_terms ? "        store_term_totals(total, lane, own_partial);\n" : "";
  values["store_all"] = has_terms ? "        store_totals(all, lane, own_partial);\n      }\n"
                                  : "#pragma unroll\n"
                                    "        for (int j = 0; j < kXColumns; ++j) {\n"
                                    "          total[0][j] = all[0][j];\n"
                                    "          total[1][j] = all[1][j];\n"
                                    "        } // j: rows of x\n"
                                    "      }\n";
  values["store_totals"] = has_terms ? "" : "      store_totals(total, lane, own_partial);\n";
  values["first_loads"] = first_loads(plan, has_mma);
  values["next_unit"] = indented(next_unit(plan, has_mma), 10);
  values["later_units"] = later_units(plan, has_mma);
  values["next_place"] = next_place(plan, has_mma);
  values["unroll"] = number(plan.steps <= kMostUnrolled ? plan.steps : 1);
  // Where all of a CTA's units have been requested the next grid's may be; else not before more of its own have been: they
  // would come after those (q4_K, 6144 x 4096: 4.87 us for 5.59, 4096 x 4096 the other way round: 4.30 for 3.68).
  const bool triggers_late = spec.constant_weights && plan.has_ring();
  values["early_wait"] = spec.constant_weights ? "" : values["wait"];
  values["late_wait"] =
      triggers_late
          ? "  wait_for_earlier_grids();\n"
            "  const int own_steps = (tiles - 1 - walk.first_tile) / walk.tile_step + 1;\n"
            "  const bool has_all = own_steps * kHalves * kSteps <= kFirstUnits;\n"
            "  if (has_all) let_next_grid_start();\n\n"
      : spec.constant_weights ? values["wait"]
                              : "";
  values["late_trigger"] = triggers_late ? "  if (!has_all) let_next_grid_start();\n" : "";
  values.erase("wait");
  return {fill_template(get_template("cuda/unit_matvec.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

Tuning unit_matvec_tuning(const KernelSpec& spec, std::int64_t rows) {
  // Behind a kernel that still runs, with two or three tiles for each of 132 multiprocessors: one CTA whose ring has most of
  // its units, small enough that the next kernel's fits beside it. An H200, us, and those of the other default: q4_K 4096 x 4096
  // 3.7 (4.7), 6144 x 4096 5.0 (5.9), 14336 x 4096 10.6 (9.2); q4_0 7168 x 4096 6.3 (6.1), iq4_xs 6144 x 4096 6.9 (6.2).
  constexpr std::int64_t kMostRows = 6144, kUnits = 16;
  constexpr int kFirstEarly = 90;
  const PreparedLayout* layout = find_prepared_layout(spec.weight);
  if (spec.op != Op::kMatvec || spec.layout.kind != LayoutKind::kPrepared || layout == nullptr ||
      layout->packing != CodePacking::k4 || !spec.constant_weights || spec.x_columns != 1 ||
      spec.target.sm < kFirstEarly || units_of(spec) != kUnits ||
      rows * (spec.gate == Gate::kNone ? 1 : 2) > kMostRows) {
    return {};
  }
  return {.threads = 256, .ctas_per_multiprocessor = 1, .stages = 5};
}

int unit_block_cols(FormatId format) { return form_of(format).block_cols; }

std::string add_prepare_parts(const KernelSpec& spec, std::vector<Constant>& constants,
                              FragmentVariants& variants, std::vector<std::string>& names) {
  const PreparedLayout& layout = *find_prepared_layout(spec.weight);
  const int code_bytes = kUnitRows * kUnitCols / 8 * layout.code_bits();
  constants.insert(constants.end(),
                   {{"kCodeBytes", number(code_bytes),
                     "of a unit are codes, then come the heads of 16 rows, then their tails"},
                    {"kHeadBytes", number(layout.head_bytes), "bytes of a row's head"},
                    {"kTailBytes", number(layout.tail_bytes), "bytes of a row's tail"}});
  if (spec.scale) {
    constants.push_back({"kScaleCols", number(spec.scale->cols_of_scales(spec.layout.cols)),
                         "scales of one row", "long long"});
    constants.push_back({"kScalesAt", number(spec.scale->header_bytes()),
                         "bytes of the plane of scales before the first"});
  }
  variants["store_codes"] = packing_name(layout.packing);
  variants["column_of"] = number(form_of(spec.weight).block_cols);
  names.push_back(fmt::format("prepare_{}", get_format(spec.weight).name));
  names.emplace_back("prepare_quarter");
  return spec.scale ? "ScaledRow{w + row * kRowBytes, scale + kScalesAt + row * kScaleCols, scale}"
                    : "w + row * kRowBytes";
}

UnitDecode unit_decode(FormatId format) {
  const UnitForm& form = form_of(format);
  const PreparedLayout& layout = *find_prepared_layout(format);
  UnitDecode decode;
  decode.block_cols = form.block_cols;
  decode.has_signed_codes = layout.packing == CodePacking::k8 ||
                            layout.packing == CodePacking::k4Table ||
                            layout.packing == CodePacking::k3Table;
  decode.offset = form.offset;
  int shift = 0, step = 1;
  for (std::size_t pair = 0; pair < 4; ++pair) {
    step *= pair_steps(layout.packing)[pair];
    while (1 << shift < step) ++shift;
    decode.code_shifts[pair] = shift;
  }
  decode.factor = std::strtof(form.down.data(), nullptr) * static_cast<float>(step);
  if (decode.factor == 2.0f && form.offset != 0) {  // an offset of half a code
    for (int& code_shift : decode.code_shifts) --code_shift;
    decode.factor = 1.0f;
  }
  decode.has_scale_nan = format == FormatId::kMxfp4;
  if (form.scale == "e8m0") decode.factor = 1.0f;
  const bool has_minimum =
      form.minimum == "minima" || form.minimum == "f16" || form.minimum == "iq1_s";
  decode.minimum = has_minimum ? form.minimum : "none";
  return decode;
}

std::string code_shift_text(const std::array<int, 4>& shifts) {
  return fmt::format(
      "// Bits by which codes of pair 0 to 3 lie further up in their bytes.\n"
      "__device__ __forceinline__ constexpr int code_shift(int pair) {{\n"
      "  return pair == 0 ? {} : pair == 1 ? {} : pair == 2 ? {} : {};\n"
      "}}\n",
      shifts[0], shifts[1], shifts[2], shifts[3]);
}

void add_unit_variants(const KernelSpec& spec, bool has_joined_levels, FragmentVariants& variants) {
  const UnitForm& form = form_of(spec.weight);
  const PreparedLayout& layout = *find_prepared_layout(spec.weight);
  const bool is_joined = layout.packing == CodePacking::k4Table && has_joined_levels;
  variants["Unit"] = "loaded";
  variants["Head"] = number(layout.head_bytes);
  variants["Tail"] = layout.tail_bytes == 0 ? "none" : number(layout.tail_bytes);
  variants["OwnWord"] = "none";
  variants["pair_codes"] = is_joined ? "k4Level" : packing_name(layout.packing);
  variants["OwnScales"] = form.product;
  variants["block_scale"] = form.scale;
  variants["RowScales"] = form.scale;
  variants["whole_scale"] = spec.weight == FormatId::kNvfp4 ? "tail" : "none";
}

void add_level_constants(FormatId format, bool has_joined_levels,
                         std::vector<Constant>& constants) {
  const UnitForm& form = form_of(format);
  const CodePacking packing = find_prepared_layout(format)->packing;
  if (packing == CodePacking::k3Table) {
    const std::array<std::uint32_t, 2> tables = short_level_tables(form.levels);
    constants.push_back({"kLevels0", fmt::format("{:#010x}u", tables[0]),
                         "levels of codes 0 to 3, 4 to 7", "unsigned"});
    constants.push_back({"kLevels1", fmt::format("{:#010x}u", tables[1]), "", "unsigned"});
  }
  if (packing != CodePacking::k4Table) return;
  const std::array<std::uint32_t, 4> tables =
      has_joined_levels ? joined_level_tables(form.levels) : level_tables(form.levels);
  constexpr std::array<std::string_view, 4> kNames = {"kLower0", "kLower1", "kUpper0", "kUpper1"};
  for (std::size_t i = 0; i < 4; ++i) {
    constants.push_back(
        {std::string(kNames[i]), fmt::format("{:#010x}u", tables[i]),
         i == 0 ? "levels of codes 0 to 3, 4 to 7, 15 to 12, 11 to 8: see pair_codes" : "",
         "unsigned"});
  }
}

std::string_view unit_packing(FormatId format) {
  return packing_name(find_prepared_layout(format)->packing);
}

EmittedKernel emit_prepare(const KernelSpec& spec, const Lowering& weights) {
  constexpr int kThreads = 256;
  const PreparedLayout& layout = *find_prepared_layout(spec.weight);
  const LaunchShape shape{
      .rows_per_cta = kUnitRows,
      .column_tiles = static_cast<unsigned>(ceil_div(units_of(spec), kThreads / 64)),
      .threads = kThreads};
  Lowering lowering = weights;
  lowering.summary = "codes and scales moved";
  TemplateValues values = header_values(spec);
  add_common_values(spec, lowering, values);
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols), "columns of w"},
      {"kRowBytes", number(row_bytes(get_format(spec.weight), spec.layout.cols)),
       "bytes of one row of w", "long long"},
      {"kUnits", number(units_of(spec)), "units side by side"},
      {"kUnitBytes", number(layout.unit_bytes()), "bytes of a unit", "long long"},
      {"kThreads", number(kThreads), "threads per CTA"},
      {"kColumnTiles", number(shape.column_tiles), "CTAs side by side in 16 rows"}};
  FragmentVariants variants;
  std::vector<std::string> names;
  values["row"] = add_prepare_parts(spec, constants, variants, names);
  values["constants"] = format_constants(constants);
  values["functions"] = FragmentLibrary::of("cuda").splice(names, variants);
  values["math"] = "codes and scales are moved, none is changed";
  values["unit_bytes"] = number(layout.unit_bytes());
  values["rows_per_cta"] = number(shape.rows_per_cta);
  values["column_tiles"] = number(shape.column_tiles);
  values["threads"] = number(kThreads);
  return {fill_template(get_template("cuda/prepare.cu.in"), values), kernel_name(spec), shape,
          lowering};
}

}  // namespace ktjit::codegen
