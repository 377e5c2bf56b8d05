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

constexpr std::array kServed = {kF32,      kF16,         kBF16,        kFp8E4M3,   kFp8E5M2,
                                kFp8E4B15, kFp8E4M3Fnuz, kFp8E5M2Fnuz, kMxfp6E2M3, kMxfp6E3M2,
                                kMxfp4,    kNvfp4,       kQ4_0,        kQ8_0,      kQ4_K,
                                kQ5_K,     kQ6_K};

constexpr int kFirstSmWithBf16 = 80;  // bf16x2 arithmetic

/// An exact routine of integers and floats: what it is called, how it works, what it costs.
struct SoftwareRoutine {
  std::string_view form;  ///< of the results: f16x2, bf16x2, f32
  std::string_view words;
  int instructions;         ///< SASS, for four codes to f32
  int finite_instructions;  ///< with no NaN among them
};

/// For FP8 on a GPU. Through f16x2 or bf16x2 where that arithmetic is fast and holds the values.
SoftwareRoutine fp8_routine(FormatId format, const CudaFacts& facts) {
  constexpr std::string_view kMoved = "bits moved into an f16x2, one multiply for two";
  constexpr std::string_view kMovedToF32 = "bits moved into an f32, one multiply";
  switch (format) {
    case kFp8E5M2:
      return {"f16x2", "the code is the upper byte of an f16", 6, 6};
    case kFp8E4B15:
      return {"f16x2", "bits moved into an f16x2", 12, 12};
    case kFp8E4M3:
      if (!facts.fast_f16) return {"f32", kMovedToF32, 27, 15};
      return {"f16x2", kMoved, 16, 14};
    case kFp8E4M3Fnuz:
      if (!facts.fast_f16) return {"f32", kMovedToF32, 23, 15};
      return {"f16x2", kMoved, 16, 14};
    default:  // e5m2fnuz has numbers where f16 has infinity
      if (facts.sm < kFirstSmWithBf16) return {"f32", kMovedToF32, 23, 15};
      return {"bf16x2", "bits moved into a bf16x2, one multiply for two", 16, 14};
  }
}

Lowering fp8_lowering(FormatId format, const Target& target, bool is_finite) {
  const std::string_view name = get_format(format).name;
  const std::string_view kind = name.substr(std::string_view("fp8_").size());
  if (target.is_cpu()) {
    return {LoweringKind::kSoftware, std::string(name), "no CPU instruction decodes 8-bit floats",
            "software, exact: bits moved into an f32, one multiply", 0};
  }
  const CudaFacts& facts = get_cuda_facts(target);
  const bool is_ocp = format == kFp8E4M3 || format == kFp8E5M2;
  if (is_ocp && facts.fp8_cvt) {
    return {LoweringKind::kHardware, fmt::format("{}_cvt", name),
            fmt::format("has a cvt from {}", kind), "hardware cvt to f16x2", 7};
  }
  const SoftwareRoutine routine = fp8_routine(format, facts);
  std::string why =
      is_ocp ? fmt::format("no cvt from {}", kind) : fmt::format("no GPU has a cvt from {}", kind);
  if (routine.form == "f32") {
    why += facts.fast_f16 ? " and no bf16 arithmetic" : " and slow f16 arithmetic";
  }
  const bool skips_nan = is_finite && has_finite_routine(format);
  return {LoweringKind::kSoftware,
          fmt::format("{}_{}{}", name, routine.form, skips_nan ? "_finite" : ""), why,
          fmt::format("software, exact: {}{}", routine.words,
                      skips_nan ? "; no NaN codes (scanned)" : ""),
          skips_nan ? routine.finite_instructions : routine.instructions};
}

/// SASS instructions for four weights of a block, with their share of the block's scales; 0 if not
/// counted. Alike on sm_75 to sm_120a within a tenth.
int block_cost(FormatId format, const Target& target) {
  if (target.is_cpu()) return 0;
  const bool has_cvt = has_mx_cvt(target);
  switch (format) {
    case kMxfp6E2M3:
    case kMxfp6E3M2:
      return has_cvt ? 21 : 27;
    case kMxfp4:
      return has_cvt ? 9 : 18;
    case kNvfp4:
      return has_cvt ? 10 : 20;
    case kQ8_0:
      return 22;
    case kQ4_0:
      return 23;
    case kQ4_K:
      return 26;
    case kQ5_K:
      return 30;
    case kQ6_K:
      return 34;
    default:
      return 0;
  }
}

/// OCP's and NVIDIA's blocks of FP6 and FP4.
Lowering mx_lowering(FormatId format, const Target& target) {
  const std::string_view element = format == kMxfp6E2M3   ? "e2m3"
                                   : format == kMxfp6E3M2 ? "e3m2"
                                                          : "e2m1";
  const bool is_fp4 = element == "e2m1";
  if (target.is_cpu()) {
    return {LoweringKind::kSoftware, std::string(element),
            fmt::format("no CPU instruction decodes {}-bit floats", is_fp4 ? 4 : 6),
            is_fp4 ? "software, exact: halves from a table in a register, times the block's scale"
                   : "software, exact: bits moved into an f32, one multiply",
            0};
  }
  const int cost = block_cost(format, target);
  if (has_mx_cvt(target)) {
    return {LoweringKind::kHardware, fmt::format("{}_cvt", element),
            fmt::format("has a cvt from {}", element),
            "hardware cvt to f16x2, and of the block's scale", cost};
  }
  return {LoweringKind::kSoftware, fmt::format("{}_{}", element, is_fp4 ? "bytes" : "f32"),
          fmt::format("no cvt from {}", element),
          is_fp4 ? "software, exact: upper bytes of f16 from a table in two registers"
                 : "software, exact: bits moved into an f32, one multiply",
          cost};
}

}  // namespace

bool has_mx_cvt(const Target& target) {
  return target.is_cuda() && get_cuda_facts(target).mx_cvt_with_a && !target.suffix.empty();
}

bool has_finite_routine(FormatId format) {
  return format == kFp8E4M3 || format == kFp8E4M3Fnuz || format == kFp8E5M2Fnuz;
}

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
      return mx_lowering(format, target);
    case FormatFamily::kGgml:
      return {LoweringKind::kSoftware, "",
              fmt::format("no instruction decodes {} blocks", facts.name),
              "software, exact: integers times the block's scale", block_cost(format, target)};
    default:  // f16 and bf16 take one widening instruction each
      return {LoweringKind::kNative, "", "a number type of the target", "native",
              target.is_cuda() && format != kF32 ? 4 : 0};
  }
}

}  // namespace ktjit::codegen
