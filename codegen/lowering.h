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
  /// SASS instructions for four elements, with their share of scales and addresses, loads not
  /// counted; 0 where nobody has counted: CPUs. See codegen/instruction_counts.h.
  int instructions_per_4 = 0;
  double loads_per_4 = 0;  ///< loads for four elements, of tables too
};

/// `weights_finite`: a scan has proved that no code is a NaN, so the shorter routine serves.
/// Errors: SpecError for a format that kernels do not decode (see is_served).
Lowering get_lowering(FormatId format, const Target& target, bool weights_finite = false);

/// Whether the target has cvt of e2m1, e2m3, e3m2 and ue8m0.
bool has_mx_cvt(const Target& target);

/// Whether a scan that found no NaN allows a shorter routine somewhere.
bool has_finite_routine(FormatId format);

/// Whether kernels decode the format: all but those that files hold and nothing computes with (bool, unsigned
/// integers, complex numbers, bare E8M0, FP6 and FP4 codes); `run` lists tensors of the others as skipped.
bool is_served(FormatId format);

}  // namespace ktjit::codegen
