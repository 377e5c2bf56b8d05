// The one place that answers "how does this target convert this format?", with the reason in words.
#pragma once

#include <string>

#include "core/format.h"
#include "core/target.h"

namespace ktjit::codegen {

enum class LoweringKind {
  kNative,    ///< the target's own number type: a load, a move or a plain conversion
  kHardware,  ///< an instruction made for this format
  kSoftware,  ///< an exact routine of integer and float instructions
};

/// How a target turns codes of a format into f32. Every lowering is exact.
struct Lowering {
  LoweringKind kind = LoweringKind::kNative;
  std::string
      routine;  ///< variant of the decode piece in templates/, empty if the format has only one
  std::string reason;   ///< for headers and reports: "no cvt from e4m3"
  std::string summary;  ///< "software, exact: f16x2 bit routine", as `plan` and `run` print it
  /// SASS instructions that turn four codes in a register into four f32, loads not counted; 0 for
  /// none: native f32, and where nobody has counted.
  int instructions_per_4 = 0;
};

/// `weights_finite`: a scan has proved that no code is a NaN, so the shorter routine serves.
/// Errors: SpecError if no kernel serves the format yet.
Lowering get_lowering(FormatId format, const Target& target, bool weights_finite = false);

/// Whether the target has cvt of e2m1, e2m3, e3m2 and ue8m0.
bool has_mx_cvt(const Target& target);

/// Whether a scan that found no NaN allows a shorter routine somewhere.
bool has_finite_routine(FormatId format);

/// Whether any kernel serves the format; if not, `run` lists its tensors as skipped.
bool is_served(FormatId format);

}  // namespace ktjit::codegen
