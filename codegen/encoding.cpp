// Constants are from OCP OFP8 1.0, OCP MX 1.0, and Triton's for e4b15; fnuz as torch and ml_dtypes have it.
#include "codegen/encoding.h"

#include <cmath>
#include <fmt/format.h>

#include "core/error.h"

namespace ktjit::codegen {
namespace {

using enum FormatId;

/// The format of the codes of a format with scales in a tensor of their own.
FormatId element_of(FormatId format) {
  switch (format) {
    case kMxfp4:
    case kNvfp4:
      return kFp4E2M1;
    case kMxfp6E2M3:
      return kFp6E2M3;
    case kMxfp6E3M2:
      return kFp6E3M2;
    default:
      return format;
  }
}

constexpr FormatId kBlocks[] = {kQ8_0, kQ4_0};

[[noreturn]] void refuse(FormatId format) {
  std::string served;
  for (const Format& facts : all_formats()) {
    if (can_quantize_to(facts.id))
      served += fmt::format("{}{}", served.empty() ? "" : ", ", facts.name);
  }
  throw SpecError("format", get_format(format).name, served + " for quantize");
}

/// The hardware's conversion: "e4m3" of cvt.rn.satfinite.e4m3x2.f32; "" if the target has none.
std::string cvt_of(const KernelSpec& spec, FormatId element) {
  if (!spec.target.is_cuda()) return "";
  const CudaFacts& facts = get_cuda_facts(spec.target);
  switch (element) {
    case kFp8E4M3:
      return facts.fp8_cvt && spec.saturate ? "e4m3" : "";
    case kFp8E5M2:
      return facts.fp8_cvt && spec.saturate ? "e5m2" : "";
    case kFp4E2M1:
      return facts.mx_cvt_with_a && !spec.target.suffix.empty() ? "e2m1" : "";
    case kFp6E2M3:
      return facts.mx_cvt_with_a && !spec.target.suffix.empty() ? "e2m3" : "";
    case kFp6E3M2:
      return facts.mx_cvt_with_a && !spec.target.suffix.empty() ? "e3m2" : "";
    default:
      return "";
  }
}

}  // namespace

int Encoding::largest_exponent() const { return std::ilogb(largest); }

bool is_quantized_block(FormatId format) {
  for (FormatId block : kBlocks) {
    if (block == format) return true;
  }
  return false;
}

bool can_quantize_to(FormatId format) {
  switch (element_of(format)) {
    case kFp8E4M3:
    case kFp8E5M2:
    case kFp8E4B15:
    case kFp8E4M3Fnuz:
    case kFp8E5M2Fnuz:
    case kFp6E2M3:
    case kFp6E3M2:
    case kFp4E2M1:
      return true;
    default:
      return is_quantized_block(format);
  }
}

Encoding encoding_of(FormatId format, bool saturate) {
  const FormatId element = element_of(format);
  switch (element) {
    case kFp8E4M3:
      if (saturate) return {element, 8, 3, 7, 448.0f, 448.0f, 0x7e, 0x7f, false, true};
      return {element, 8, 3, 7, 448.0f, 480.0f, 0x7f, 0x7f, true, true};
    case kFp8E5M2:
      if (saturate) return {element, 8, 2, 15, 57344.0f, 57344.0f, 0x7b, 0x7f, false, true};
      return {element, 8, 2, 15, 57344.0f, 65536.0f, 0x7c, 0x7f, true, true};
    case kFp8E4B15:
      return {element, 8, 3, 15, 1.75f, 1.75f, 0x7e, 0x7e, false, true};
    case kFp8E4M3Fnuz:
      if (saturate) return {element, 8, 3, 8, 240.0f, 240.0f, 0x7f, 0x80, false, false};
      return {element, 8, 3, 8, 240.0f, 256.0f, 0x80, 0x80, true, false};
    case kFp8E5M2Fnuz:
      if (saturate) return {element, 8, 2, 16, 57344.0f, 57344.0f, 0x7f, 0x80, false, false};
      return {element, 8, 2, 16, 57344.0f, 65536.0f, 0x80, 0x80, true, false};
    case kFp6E2M3:
      return {element, 6, 3, 1, 7.5f, 7.5f, 0x1f, 0x1f, false, true};
    case kFp6E3M2:
      return {element, 6, 2, 3, 28.0f, 28.0f, 0x1f, 0x1f, false, true};
    case kFp4E2M1:
      return {element, 4, 1, 1, 6.0f, 6.0f, 0x7, 0x7, false, true};
    default:
      refuse(format);
  }
}

Lowering quantize_lowering(const KernelSpec& spec) {
  if (!can_quantize_to(spec.weight)) refuse(spec.weight);
  const std::string_view name = get_format(spec.weight).name;
  if (is_quantized_block(spec.weight)) {
    return {LoweringKind::kSoftware, "", fmt::format("no instruction makes {} blocks", name),
            "software: ggml's reference quantiser, operation by operation", 0};
  }
  const FormatId element = element_of(spec.weight);
  const std::string_view element_name = get_format(element).name;
  if (spec.target.is_cpu()) {
    return {LoweringKind::kSoftware, "",
            fmt::format("no CPU instruction narrows to {}-bit floats",
                        encoding_of(element, true).code_bits),
            "software, exact: rounded as integers", 0};
  }
  const std::string cvt = cvt_of(spec, element);
  if (!cvt.empty()) {
    return {LoweringKind::kHardware, cvt + "_cvt", fmt::format("has a cvt to {}", cvt),
            "hardware cvt from f32", 0};
  }
  const bool only_saturates = !spec.saturate && (element == kFp8E4M3 || element == kFp8E5M2) &&
                              get_cuda_facts(spec.target).fp8_cvt;
  return {LoweringKind::kSoftware, "software",
          only_saturates ? "its cvt only saturates" : fmt::format("no cvt to {}", element_name),
          "software, exact: rounded by one f32 addition", 0};
}

std::string quantize_math(const KernelSpec& spec) {
  if (is_quantized_block(spec.weight))
    return fmt::format("w = x as ggml's quantize_row_{}_ref has it, bit for bit",
                       get_format(spec.weight).name);
  const std::string text =
      fmt::format("w = the nearest code to {}, ties to even, {}", spec.scale ? "x / scale" : "x",
                  spec.saturate ? "saturating" : "overflow to infinity or NaN");
  if (!spec.scale) return text;
  const Encoding encoding = encoding_of(spec.weight, spec.saturate);
  switch (spec.scale->type) {
    case ScaleType::kE8M0:
      return fmt::format("{}; scale = 2^(floor(log2 of the largest |x|) - {}), NaN if x has one",
                         text, encoding.largest_exponent());
    case ScaleType::kE4M3:
      return fmt::format("{}; scale = e4m3 of largest |x| / {} / tensor scale, NaN if x has one",
                         text, encoding.largest);
    default:
      return fmt::format("{}; scale = largest |x| / {}, 1 if that is 0", text, encoding.largest);
  }
}

}  // namespace ktjit::codegen
