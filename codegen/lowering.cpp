// Choices of conversion by target. The instruction counts are SASS of emitted kernels, see
// docs/LOWERING.md.
#include "codegen/lowering.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit::codegen {
namespace {

using enum FormatId;

constexpr std::array kServed = {kF32, kF16, kBF16, kFp8E4M3, kFp8E5M2, kFp8E4B15, kMxfp4, kNvfp4,
                                kQ4_0, kQ8_0, kQ4_K, kQ5_K, kQ6_K,
                                // Plain numbers, and ggml's blocks without large codebooks.
                                kF64, kI8, kI16, kI32, kI64, kQ4_1, kQ5_0, kQ5_1, kQ8_1, kQ2_K,
                                kQ3_K, kQ8_K, kIQ4_NL, kIQ4_XS, kTQ1_0, kTQ2_0, kGgmlMxfp4,
                                kGgmlNvfp4, kQ1_0, kQ2_0};

Lowering fp8_lowering(FormatId format, const Target& target, bool is_finite) {
  const std::string_view name = get_format(format).name;
  if (target.is_cpu()) {
    return {LoweringKind::kSoftware, std::string(name), "no CPU instruction decodes 8-bit floats",
            "software, exact: bits moved into an f32, one multiply", 0};
  }
  const CudaFacts& facts = get_cuda_facts(target);
  const bool has_cvt = facts.fp8_cvt && format != kFp8E4B15;
  if (has_cvt) {
    return {LoweringKind::kHardware, fmt::format("{}_cvt", name),
            fmt::format("has a cvt from {}", name.substr(4)), "hardware cvt to f16x2", 7};
  }
  const std::string why = format == kFp8E4B15 ? "no GPU has a cvt from e4b15"
                                              : fmt::format("no cvt from {}", name.substr(4));
  const bool skips_nan = format == kFp8E4M3 && is_finite;
  const std::string variant = skips_nan ? "_finite" : "";
  const std::string scanned = skips_nan ? "; no NaN codes (scanned)" : "";
  if (format == kFp8E4M3 && !facts.fast_f16) {
    return {LoweringKind::kSoftware, "fp8_e4m3_f32" + variant, why + " and slow f16 arithmetic",
            "software, exact: bits moved into an f32, one multiply" + scanned, skips_nan ? 15 : 27};
  }
  const int e4m3_cost = skips_nan ? 14 : 18;
  const int cost = format == kFp8E4M3 ? e4m3_cost : format == kFp8E5M2 ? 6 : 12;
  const std::string routine =
      format == kFp8E5M2 ? "the code is the upper byte of an f16"
                         : "bits moved into an f16x2" +
                               std::string(format == kFp8E4M3 ? ", one multiply for two" : "");
  return {LoweringKind::kSoftware, fmt::format("{}_f16x2{}", name, variant), why,
          "software, exact: " + routine + scanned, cost};
}

/// SASS instructions for four weights of a block, with their share of the block's scales; 0 if not
/// counted. Alike on sm_75 to sm_120a within a tenth.
int block_cost(FormatId format, const Target& target) {
  if (target.is_cpu()) return 0;
  switch (format) {
    case kMxfp4:
      return 24;
    case kNvfp4:
      return 26;
    case kQ8_0:
    case kQ4_1:
    case kTQ2_0:
      return 18;
    case kQ4_0:
      return 20;
    case kQ1_0:
      return 11;
    case kQ2_K:
    case kQ2_0:
      return 22;
    case kQ5_1:
      return 23;
    case kQ5_0:
      return 25;
    case kIQ4_NL:
      return 27;
    case kGgmlNvfp4:
      return 28;
    case kQ4_K:
      return 26;
    case kQ5_K:
    case kQ6_K:
    case kQ3_K:
    case kIQ4_XS:
      return 30;
    case kTQ1_0:
      return 31;
    case kGgmlMxfp4:
      return 33;
    default:
      return 0;
  }
}

std::string reason_for_fp4(const Target& target) {
  if (target.is_cpu()) return "no CPU instruction decodes 4-bit floats";
  const bool has_cvt = get_cuda_facts(target).mx_cvt_with_a && !target.suffix.empty();
  return has_cvt ? "its cvt from e2m1 is not used yet" : "no cvt from e2m1";
}

}  // namespace

bool is_served(FormatId format) {
  return std::find(kServed.begin(), kServed.end(), format) != kServed.end();
}

Lowering get_lowering(FormatId format, const Target& target, bool weights_finite) {
  const Format& facts = get_format(format);
  if (!is_served(format)) {
    std::string served;
    for (FormatId id : kServed)
      served += fmt::format("{}{}", served.empty() ? "" : ", ", get_format(id).name);
    throw SpecError("format", facts.name, served + " (others are not served yet)");
  }
  switch (facts.family) {
    case FormatFamily::kFp8:
      return fp8_lowering(format, target, weights_finite);
    case FormatFamily::kMx:
      return {LoweringKind::kSoftware, "", reason_for_fp4(target),
              target.is_cpu()
                  ? "software, exact: halves from a table in a register, times the block's scale"
                  : "software, exact: bits moved into an f32, one multiply",
              block_cost(format, target)};
    case FormatFamily::kGgml:
      return {LoweringKind::kSoftware, "",
              fmt::format("no instruction decodes {} blocks", facts.name),
              "software, exact: integers times the block's scale", block_cost(format, target)};
    case FormatFamily::kInteger:
      return {LoweringKind::kNative, "", "a number type of the target",
              "native, rounded once to f32, to nearest even", 0};
    default:  // f16 and bf16 take one widening instruction each
      if (format == kF64) {
        return {LoweringKind::kNative, "", "a number type of the target",
                "native, rounded once to f32, to nearest even", 0};
      }
      return {LoweringKind::kNative, "", "a number type of the target", "native",
              target.is_cuda() && format != kF32 ? 4 : 0};
  }
}

}  // namespace ktjit::codegen
