// Choices of conversion by target. What they cost is data: codegen/instruction_counts.h.
#include "codegen/lowering.h"

#include <fmt/format.h>

#include "codegen/instruction_counts.h"
#include "core/codebooks.h"
#include "core/error.h"

namespace ktjit::codegen {
namespace {

using enum FormatId;

constexpr int kFirstSmWithBf16 = 80;  // bf16x2 arithmetic

/// An exact routine of integers and floats: what it is called, how it works.
struct SoftwareRoutine {
  std::string_view form;  ///< of the results: f16x2, bf16x2, f32
  std::string_view words;
};

/// For FP8 on a GPU. Through f16x2 or bf16x2 where that arithmetic is fast and holds the values.
SoftwareRoutine fp8_routine(FormatId format, const CudaFacts& facts) {
  constexpr SoftwareRoutine kF16x2 = {"f16x2", "bits moved into an f16x2, one multiply for two"};
  constexpr SoftwareRoutine kF32 = {"f32", "bits moved into an f32, one multiply"};
  switch (format) {
    case kFp8E5M2:
      return {"f16x2", "the code is the upper byte of an f16"};
    case kFp8E4B15:
      return {"f16x2", "bits moved into an f16x2"};
    case kFp8E4M3:
    case kFp8E4M3Fnuz:
      return facts.fast_f16 ? kF16x2 : kF32;
    default:  // e5m2fnuz has numbers where f16 has infinity
      if (facts.sm < kFirstSmWithBf16) return kF32;
      return {"bf16x2", "bits moved into a bf16x2, one multiply for two"};
  }
}

Lowering fp8_lowering(FormatId format, const Target& target, bool is_finite) {
  const std::string_view name = get_format(format).name;
  const std::string_view kind = name.substr(std::string_view("fp8_").size());
  if (target.is_cpu()) {
    return {LoweringKind::kSoftware, std::string(name), "no CPU instruction decodes 8-bit floats",
            "software, exact: bits moved into an f32, one multiply"};
  }
  const CudaFacts& facts = get_cuda_facts(target);
  const bool is_ocp = format == kFp8E4M3 || format == kFp8E5M2;
  if (is_ocp && facts.fp8_cvt) {
    return {LoweringKind::kHardware, fmt::format("{}_cvt", name),
            fmt::format("has a cvt from {}", kind), "hardware cvt to f16x2"};
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
                      skips_nan ? "; no NaN codes (scanned)" : "")};
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
                   : "software, exact: bits moved into an f32, one multiply"};
  }
  if (has_mx_cvt(target)) {
    return {LoweringKind::kHardware, fmt::format("{}_cvt", element),
            fmt::format("has a cvt from {}", element),
            "hardware cvt to f16x2, and of the block's scale"};
  }
  return {LoweringKind::kSoftware, fmt::format("{}_{}", element, is_fp4 ? "bytes" : "f32"),
          fmt::format("no cvt from {}", element),
          is_fp4 ? "software, exact: upper bytes of f16 from a table in two registers"
                 : "software, exact: bits moved into an f32, one multiply"};
}

Lowering choose_lowering(FormatId format, const Target& target, bool weights_finite) {
  const Format& facts = get_format(format);
  switch (facts.family) {
    case FormatFamily::kFp8:
      return fp8_lowering(format, target, weights_finite);
    case FormatFamily::kMx:
      return mx_lowering(format, target);
    case FormatFamily::kGgml:
      return {LoweringKind::kSoftware, "",
              fmt::format("no instruction decodes {} blocks", facts.name),
              find_codebook(format) != nullptr
                  ? "software, exact: entries of a codebook, read through the cache, times the "
                    "block's scale"
                  : "software, exact: integers times the block's scale"};
    default:  // floats of 16 bits and more, and integers
      const bool rounds = format == kF64 || format == kI32 || format == kI64;
      return {LoweringKind::kNative, "", "a number type of the target",
              rounds ? "native, rounded once to f32, to nearest even" : "native"};
  }
}

}  // namespace

bool has_mx_cvt(const Target& target) {
  return target.is_cuda() && get_cuda_facts(target).mx_cvt_with_a && !target.suffix.empty();
}

bool has_finite_routine(FormatId format) {
  return format == kFp8E4M3 || format == kFp8E4M3Fnuz || format == kFp8E5M2Fnuz;
}

bool is_served(FormatId format) {
  const Format& facts = get_format(format);
  const bool is_files_only =
      facts.family == FormatFamily::kStored ||
      (facts.family == FormatFamily::kInteger && facts.ggml_type < 0);  // bool, unsigned
  return !is_files_only;
}

Lowering get_lowering(FormatId format, const Target& target, bool weights_finite) {
  if (!is_served(format)) {
    std::string others;
    for (const Format& other : all_formats()) {
      if (!is_served(other.id))
        others += fmt::format("{}{}", others.empty() ? "" : ", ", other.name);
    }
    throw SpecError("format", get_format(format).name,
                    fmt::format("a format that kernels decode: any but {}", others));
  }
  Lowering lowering = choose_lowering(format, target, weights_finite);
  if (!target.is_cuda()) return lowering;
  const InstructionCount* count =
      find_instruction_count(decode_conversion(format, weights_finite), target);
  if (count == nullptr && weights_finite)  // the scan changes nothing
    count = find_instruction_count(decode_conversion(format, false), target);
  if (count == nullptr) return lowering;
  lowering.instructions_per_4 = count->instructions_per_4();
  lowering.loads_per_4 = count->loads_per_4();
  return lowering;
}

}  // namespace ktjit::codegen
