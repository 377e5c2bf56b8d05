// Sizes and type ids of the ggml formats are facts of ggml (ggml.h, ggml-common.h, August 2026).
#include "core/format.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fmt/format.h>
#include <vector>

#include "core/error.h"

namespace ktjit {
namespace {

using enum FormatId;
using enum FormatFamily;

constexpr std::array kFormats = {
    Format{kF32, "f32", kFloat, 1, 4, 0},
    Format{kF16, "f16", kFloat, 1, 2, 1},
    Format{kBF16, "bf16", kFloat, 1, 2, 30},
    Format{kF64, "f64", kFloat, 1, 8, 28},
    Format{kI8, "i8", kInteger, 1, 1, 24},
    Format{kI16, "i16", kInteger, 1, 2, 25},
    Format{kI32, "i32", kInteger, 1, 4, 26},
    Format{kI64, "i64", kInteger, 1, 8, 27},
    Format{kFp8E4M3, "fp8_e4m3", kFp8, 1, 1, -1},
    Format{kFp8E5M2, "fp8_e5m2", kFp8, 1, 1, -1},
    Format{kFp8E4B15, "fp8_e4b15", kFp8, 1, 1, -1},
    Format{kFp8E4M3Fnuz, "fp8_e4m3fnuz", kFp8, 1, 1, -1},
    Format{kFp8E5M2Fnuz, "fp8_e5m2fnuz", kFp8, 1, 1, -1},
    Format{kMxfp6E2M3, "mxfp6_e2m3", kMx, 32, 24, -1},
    Format{kMxfp6E3M2, "mxfp6_e3m2", kMx, 32, 24, -1},
    Format{kMxfp4, "mxfp4", kMx, 32, 16, -1},
    Format{kNvfp4, "nvfp4", kMx, 16, 8, -1},
    Format{kQ4_0, "q4_0", kGgml, 32, 18, 2},
    Format{kQ4_1, "q4_1", kGgml, 32, 20, 3},
    Format{kQ5_0, "q5_0", kGgml, 32, 22, 6},
    Format{kQ5_1, "q5_1", kGgml, 32, 24, 7},
    Format{kQ8_0, "q8_0", kGgml, 32, 34, 8},
    Format{kQ8_1, "q8_1", kGgml, 32, 36, 9},
    Format{kQ2_K, "q2_K", kGgml, 256, 84, 10},
    Format{kQ3_K, "q3_K", kGgml, 256, 110, 11},
    Format{kQ4_K, "q4_K", kGgml, 256, 144, 12},
    Format{kQ5_K, "q5_K", kGgml, 256, 176, 13},
    Format{kQ6_K, "q6_K", kGgml, 256, 210, 14},
    Format{kQ8_K, "q8_K", kGgml, 256, 292, 15},
    Format{kIQ1_S, "iq1_s", kGgml, 256, 50, 19},
    Format{kIQ1_M, "iq1_m", kGgml, 256, 56, 29},
    Format{kIQ2_XXS, "iq2_xxs", kGgml, 256, 66, 16},
    Format{kIQ2_XS, "iq2_xs", kGgml, 256, 74, 17},
    Format{kIQ2_S, "iq2_s", kGgml, 256, 82, 22},
    Format{kIQ3_XXS, "iq3_xxs", kGgml, 256, 98, 18},
    Format{kIQ3_S, "iq3_s", kGgml, 256, 110, 21},
    Format{kIQ4_NL, "iq4_nl", kGgml, 32, 18, 20},
    Format{kIQ4_XS, "iq4_xs", kGgml, 256, 136, 23},
    Format{kTQ1_0, "tq1_0", kGgml, 256, 54, 34},
    Format{kTQ2_0, "tq2_0", kGgml, 256, 66, 35},
    Format{kGgmlMxfp4, "ggml_mxfp4", kGgml, 32, 17, 39},
    Format{kGgmlNvfp4, "ggml_nvfp4", kGgml, 64, 36, 40},
    Format{kQ1_0, "q1_0", kGgml, 128, 18, 41},
    Format{kQ2_0, "q2_0", kGgml, 64, 18, 42},
    Format{kBool, "bool", kInteger, 1, 1, -1},
    Format{kU8, "u8", kInteger, 1, 1, -1},
    Format{kU16, "u16", kInteger, 1, 2, -1},
    Format{kU32, "u32", kInteger, 1, 4, -1},
    Format{kU64, "u64", kInteger, 1, 8, -1},
    Format{kC64, "c64", kStored, 1, 8, -1},
    Format{kE8M0, "e8m0", kStored, 1, 1, -1},
    Format{kFp4E2M1, "fp4_e2m1", kStored, 2, 1, -1},
    Format{kFp6E2M3, "fp6_e2m3", kStored, 4, 3, -1},
    Format{kFp6E3M2, "fp6_e3m2", kStored, 4, 3, -1},
};

// FP8 names: Triton's, torch's, ml_dtypes', safetensors'.
constexpr std::array<std::string_view, 6> kE4M3Aliases = {"fp8e4nv", "float8_e4m3fn", "float8_e4m3",
                                                          "e4m3",    "e4m3fn",        "f8_e4m3"};
constexpr std::array<std::string_view, 4> kE5M2Aliases = {"fp8e5", "float8_e5m2", "e5m2",
                                                          "f8_e5m2"};
constexpr std::array<std::string_view, 2> kE4B15Aliases = {"fp8e4b15", "e4b15"};
constexpr std::array<std::string_view, 3> kE4M3FnuzAliases = {"fp8e4b8", "float8_e4m3fnuz",
                                                              "e4m3fnuz"};
constexpr std::array<std::string_view, 3> kE5M2FnuzAliases = {"fp8e5b16", "float8_e5m2fnuz",
                                                              "e5m2fnuz"};
constexpr std::array<std::string_view, 2> kF32Aliases = {"float32", "fp32"};
constexpr std::array<std::string_view, 2> kF16Aliases = {"float16", "fp16"};
constexpr std::array<std::string_view, 1> kBF16Aliases = {"bfloat16"};

constexpr ScaleGrid kMxGrid = {1, 32, ScaleType::kE8M0};

// MXFP8's elements are FP8, which may have scales of any shape: only the two together have the name.
constexpr std::array<std::string_view, 2> kScaledNames = {"mxfp8_e4m3", "mxfp8_e5m2"};
constexpr std::array<FormatId, 2> kScaledElements = {kFp8E4M3, kFp8E5M2};

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

[[noreturn]] void throw_unknown(std::string_view name, std::span<const std::string_view> more) {
  std::vector<std::string_view> names;
  for (const Format& format : kFormats) names.push_back(format.name);
  names.insert(names.end(), more.begin(), more.end());
  throw SpecError("format", fmt::format("'{}'", name), fmt::format("{}", fmt::join(names, ", ")));
}

}  // namespace

std::span<const Format> all_formats() { return kFormats; }

const Format& get_format(FormatId id) {
  const Format& format = kFormats.at(static_cast<std::size_t>(id));
  KTJIT_CHECK(format.id == id);
  return format;
}

const Format* find_format(std::string_view name) {
  for (const Format& format : kFormats) {
    if (equals_ignoring_case(format.name, name)) return &format;
    for (std::string_view alias : format_aliases(format.id)) {
      if (equals_ignoring_case(alias, name)) return &format;
    }
  }
  return nullptr;
}

const Format& get_format(std::string_view name) {
  if (const Format* format = find_format(name)) return *format;
  throw_unknown(name, {});
}

const Format* find_ggml_format(std::uint32_t ggml_type) {
  for (const Format& format : kFormats) {
    if (format.ggml_type >= 0 && static_cast<std::uint32_t>(format.ggml_type) == ggml_type) {
      return &format;
    }
  }
  return nullptr;
}

std::span<const std::string_view> format_aliases(FormatId id) {
  switch (id) {
    case kF32:
      return kF32Aliases;
    case kF16:
      return kF16Aliases;
    case kBF16:
      return kBF16Aliases;
    case kFp8E4M3:
      return kE4M3Aliases;
    case kFp8E5M2:
      return kE5M2Aliases;
    case kFp8E4B15:
      return kE4B15Aliases;
    case kFp8E4M3Fnuz:
      return kE4M3FnuzAliases;
    case kFp8E5M2Fnuz:
      return kE5M2FnuzAliases;
    default:
      return {};
  }
}

std::int64_t ScaleGrid::rows_of_scales(std::int64_t rows) const {
  return block_rows == 0 ? 1 : ceil_div(rows, block_rows);
}

std::int64_t ScaleGrid::cols_of_scales(std::int64_t cols) const {
  return block_cols == 0 ? 1 : ceil_div(cols, block_cols);
}

std::int64_t ScaleGrid::header_bytes() const { return type == ScaleType::kE4M3 ? 16 : 0; }

std::int64_t ScaleGrid::plane_bytes(std::int64_t rows, std::int64_t cols) const {
  return header_bytes() + rows_of_scales(rows) * cols_of_scales(cols) * scale_type_bytes(type);
}

std::optional<ScaleGrid> fixed_scale_grid(FormatId id) {
  if (id == kMxfp6E2M3 || id == kMxfp6E3M2 || id == kMxfp4) return kMxGrid;
  if (id == kNvfp4) return ScaleGrid{1, 16, ScaleType::kE4M3};
  return std::nullopt;
}

bool has_separate_scales(FormatId id) {
  const FormatFamily family = get_format(id).family;
  return family == kFp8 || family == kMx;
}

std::string_view scale_type_name(ScaleType type) {
  switch (type) {
    case ScaleType::kF32:
      return "f32";
    case ScaleType::kBF16:
      return "bf16";
    case ScaleType::kE8M0:
      return "e8m0";
    case ScaleType::kE4M3:
      return "e4m3";
  }
  KTJIT_UNREACHABLE("a known scale type");
}

int scale_type_bytes(ScaleType type) {
  switch (type) {
    case ScaleType::kF32:
      return 4;
    case ScaleType::kBF16:
      return 2;
    case ScaleType::kE8M0:
    case ScaleType::kE4M3:
      return 1;
  }
  KTJIT_UNREACHABLE("a known scale type");
}

ScaleType get_scale_type(std::string_view name) {
  for (ScaleType type : {ScaleType::kF32, ScaleType::kBF16, ScaleType::kE8M0, ScaleType::kE4M3}) {
    if (equals_ignoring_case(scale_type_name(type), name)) return type;
  }
  throw SpecError("scale type", fmt::format("'{}'", name), "f32, bf16, e8m0, e4m3");
}

std::string scale_grid_name(const std::optional<ScaleGrid>& grid) {
  if (!grid) return "none";
  const std::string_view type = scale_type_name(grid->type);
  if (grid->block_rows == 0 && grid->block_cols == 0) return fmt::format("tensor {}", type);
  if (grid->block_rows == 1 && grid->block_cols == 0) return fmt::format("row {}", type);
  return fmt::format("{}x{} {}", grid->block_rows, grid->block_cols, type);
}

std::string_view WeightFormat::name() const {
  for (std::size_t i = 0; i < kScaledNames.size(); ++i) {
    if (id == kScaledElements[i] && scale == kMxGrid) return kScaledNames[i];
  }
  return get_format(id).name;
}

std::span<const std::string_view> scaled_format_names() { return kScaledNames; }

WeightFormat get_weight_format(std::string_view name, const std::optional<ScaleGrid>& scale) {
  WeightFormat implied;
  if (const Format* format = find_format(name)) {
    implied = {format->id, fixed_scale_grid(format->id)};
  } else {
    const auto* at = std::ranges::find_if(
        kScaledNames, [&](std::string_view known) { return equals_ignoring_case(known, name); });
    if (at == kScaledNames.end()) throw_unknown(name, kScaledNames);
    implied = {kScaledElements[static_cast<std::size_t>(at - kScaledNames.begin())], kMxGrid};
  }
  if (!implied.scale) return {implied.id, scale};
  if (scale && scale != implied.scale) {
    throw SpecError("scale", scale_grid_name(scale),
                    fmt::format("{} with {}", scale_grid_name(implied.scale), implied.name()));
  }
  return implied;
}

}  // namespace ktjit
