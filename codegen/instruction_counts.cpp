// The table, and which of its targets stands for which.
#include "codegen/instruction_counts.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit::codegen {
namespace {

// One per set of instructions that emitters choose from (core/target.h), and one per generation.
constexpr std::array<std::string_view, 11> kCountedTargets = {
    "sm_60", "sm_61",  "sm_70",   "sm_75",  "sm_80",  "sm_89",
    "sm_90", "sm_100", "sm_100a", "sm_120", "sm_120a"};

constexpr InstructionCount kCounts[] = {
#include "codegen/instruction_counts.inc"
};

}  // namespace

std::span<const std::string_view> counted_targets() { return kCountedTargets; }

std::string_view counted_target(const Target& target) {
  KTJIT_CHECK(target.is_cuda());
  const bool has_suffix = !target.suffix.empty();
  if (target.sm >= 120) return has_suffix ? "sm_120a" : "sm_120";
  if (target.sm >= 100) return has_suffix ? "sm_100a" : "sm_100";
  if (target.sm >= 90) return "sm_90";
  if (target.sm >= 89) return "sm_89";
  if (target.sm >= 80) return "sm_80";
  if (target.sm >= 75) return "sm_75";
  if (target.sm >= 70) return "sm_70";
  return target.sm == 61 ? "sm_61" : "sm_60";
}

std::string decode_conversion(FormatId format, bool weights_finite) {
  return fmt::format("{}{}", get_format(format).name, weights_finite ? ", finite" : "");
}

std::string pair_conversion(FormatId format, FormatId pairs, bool weights_finite) {
  return fmt::format("{} to {}x2{}", get_format(format).name, get_format(pairs).name,
                     weights_finite ? ", finite" : "");
}

std::string encode_conversion(FormatId format, bool saturate) {
  return fmt::format("f32 to {}{}", get_format(format).name, saturate ? "" : ", not saturating");
}

std::span<const InstructionCount> all_instruction_counts() { return kCounts; }

const InstructionCount* find_instruction_count(std::string_view conversion, const Target& target) {
  const std::string_view counted = counted_target(target);
  const auto* found = std::find_if(std::begin(kCounts), std::end(kCounts), [&](const auto& row) {
    return row.target == counted && row.conversion == conversion;
  });
  return found == std::end(kCounts) ? nullptr : found;
}

}  // namespace ktjit::codegen
