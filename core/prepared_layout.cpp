// Sizes of prepared weights.
#include "core/prepared_layout.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "core/error.h"
#include "core/interleaved_layout.h"

namespace ktjit {
namespace {

using enum CodePacking;

constexpr std::array kLayouts = {
    PreparedLayout{FormatId::kQ4_0, k4, 16, 0},
    PreparedLayout{FormatId::kQ4_1, k4, 32, 0},
    PreparedLayout{FormatId::kQ5_0, k5, 16, 0},
    PreparedLayout{FormatId::kQ5_1, k5, 32, 0},
    PreparedLayout{FormatId::kQ8_0, k8, 16, 0},
    PreparedLayout{FormatId::kQ2_K, k2, 16, 4},
    PreparedLayout{FormatId::kQ3_K, k3, 16, 2},
    PreparedLayout{FormatId::kQ4_K, k4, 16, 0},
    PreparedLayout{FormatId::kQ5_K, k5, 16, 0},
    PreparedLayout{FormatId::kQ6_K, k6, 16, 2},
    PreparedLayout{FormatId::kIQ4_NL, k4Table, 16, 0},
    PreparedLayout{FormatId::kIQ4_XS, k4Table, 8, 2},
    PreparedLayout{FormatId::kGgmlMxfp4, k4Table, 8, 0},
    PreparedLayout{FormatId::kGgmlNvfp4, k4Table, 16, 0},
    PreparedLayout{FormatId::kMxfp4, k4Table, 8, 0},
    PreparedLayout{FormatId::kNvfp4, k4Table, 16, 4},
    PreparedLayout{FormatId::kIQ3_S, k4Table, 4, 2},
    PreparedLayout{FormatId::kIQ3_XXS, k4Table, 4, 2},
    PreparedLayout{FormatId::kIQ2_XXS, k3Table, 4, 2},
    PreparedLayout{FormatId::kIQ2_XS, k3Table, 8, 2},
    PreparedLayout{FormatId::kIQ2_S, k3Table, 8, 2},
    PreparedLayout{FormatId::kIQ1_S, k2, 4, 2},
    PreparedLayout{FormatId::kIQ1_M, k2, 8, 4},
    PreparedLayout{FormatId::kTQ1_0, k2, 2, 0},
    PreparedLayout{FormatId::kTQ2_0, k2, 2, 0},
    PreparedLayout{FormatId::kQ1_0, k1, 4, 0},
    PreparedLayout{FormatId::kQ2_0, k2, 8, 0},
};

}  // namespace

int PreparedLayout::code_bits() const {
  switch (packing) {
    case k1:
      return 1;
    case k2:
      return 2;
    case k3:
    case k3Table:
      return 3;
    case k4:
    case k4Table:
      return 4;
    case k5:
      return 5;
    case k6:
      return 6;
    case k8:
      return 8;
  }
  KTJIT_UNREACHABLE("a known packing");
}

std::int64_t PreparedLayout::unit_bytes() const {
  return std::int64_t{kUnitRows} * (kUnitCols / 8 * code_bits() + head_bytes + tail_bytes);
}

const PreparedLayout* find_prepared_layout(FormatId format) {
  const auto found = std::find_if(kLayouts.begin(), kLayouts.end(),
                                  [format](const PreparedLayout& l) { return l.format == format; });
  return found == kLayouts.end() ? nullptr : found;
}

std::int64_t prepared_bytes(FormatId format, std::int64_t rows, std::int64_t cols) {
  const PreparedLayout* layout = find_prepared_layout(format);
  if (layout == nullptr) {
    throw SpecError("format", get_format(format).name, "a format that has a prepared layout");
  }
  row_bytes(get_format(format), cols);  // refuses columns that are no whole number of blocks
  if (rows < 1) throw SpecError("rows", fmt::format("{}", rows), "1 or more");
  const std::int64_t tile_bytes =
      ((cols - 1) / kUnitCols + 1) * layout->unit_bytes();  // of 16 rows
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow((rows - 1) / kUnitRows + 1, tile_bytes, &bytes))
    throw SpecError("rows", fmt::format("{}", rows), "fewer: less than 2^63 bytes");
  return bytes;
}

std::optional<KernelSpec> prepare_spec_of(const KernelSpec& spec) {
  if (spec.layout.kind == LayoutKind::kNative) return std::nullopt;
  KernelSpec prepare =
      make_spec(Op::kPrepare, spec.weight, spec.scale, spec.layout.cols, spec.target);
  if (spec.layout.kind == LayoutKind::kInterleaved) prepare.layout.kind = spec.layout.kind;
  return prepare;
}

KernelSpec restore_spec_of(const KernelSpec& spec) {
  KTJIT_CHECK(spec.layout.kind != LayoutKind::kNative);
  KernelSpec restore =
      make_spec(Op::kRestore, spec.weight, spec.scale, spec.layout.cols, spec.target);
  restore.layout.kind = spec.layout.kind;
  return restore;
}

std::string_view layout_name(LayoutKind kind) {
  switch (kind) {
    case LayoutKind::kNative:
      return "native";
    case LayoutKind::kPrepared:
      return "prepared";
    case LayoutKind::kInterleaved:
      return "interleaved";
  }
  KTJIT_UNREACHABLE("a known layout");
}

LayoutKind get_layout(std::string_view name) {
  for (const LayoutKind kind :
       {LayoutKind::kNative, LayoutKind::kPrepared, LayoutKind::kInterleaved}) {
    if (name == layout_name(kind)) return kind;
  }
  throw SpecError("layout", fmt::format("'{}'", name), "native, prepared, interleaved");
}

std::int64_t laid_out_bytes(LayoutKind kind, FormatId format, std::int64_t rows,
                            std::int64_t cols) {
  switch (kind) {
    case LayoutKind::kNative:
      return rows * row_bytes(get_format(format), cols);
    case LayoutKind::kPrepared:
      return prepared_bytes(format, rows, cols);
    case LayoutKind::kInterleaved:
      return interleaved_bytes(format, rows, cols);
  }
  KTJIT_UNREACHABLE("a known layout");
}

LayoutKind rearranged_layout(const Target& target) {
  return target.is_cpu() ? LayoutKind::kInterleaved : LayoutKind::kPrepared;
}

bool serves_prepared(FormatId format, const Target& target) {
  if (target.is_cpu()) return find_interleaved_layout(format) != nullptr;
  return target.is_cuda() && get_cuda_facts(target).dp4a && find_prepared_layout(format) != nullptr;
}

bool dequantizes_prepared(FormatId format, const Target& target) {
  return target.is_cuda() && find_prepared_layout(format) != nullptr &&
         !has_separate_scales(format);
}

}  // namespace ktjit
