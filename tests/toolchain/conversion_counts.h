// Counts what conversions cost, by compiling emitted text and reading the machine code.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/format.h"
#include "core/target.h"
#include "jit/compiler.h"
#include "jit/options.h"

namespace ktjit::test {

/// A conversion whose cost is kept in codegen/instruction_counts.inc.
struct Conversion {
  enum class Kind {
    kDecode,  ///< weights to f32: the main loop of a matvec
    kPairs,   ///< four codes of FP8 to pairs of 16-bit numbers: a probe around matmul's function
    kEncode,  ///< f32 to codes: a probe around quantize's function
  };
  Kind kind = Kind::kDecode;
  FormatId format = FormatId::kF32;
  bool weights_finite = false;
  FormatId pairs = FormatId::kF16;  ///< kPairs: f16 or bf16
  bool saturate = true;             ///< kEncode

  /// As codegen/instruction_counts.h names it.
  std::string name() const;
};

/// Of every served format, in the order of the file.
std::vector<Conversion> all_conversions();

/// What was counted: as codegen::InstructionCount.
struct CountedConversion {
  int instructions = 0;
  int loads = 0;
  int elements = 0;
};

/// Nothing if no emitted kernel for the target has the conversion (tensor-core pairs on sm_61, a
/// hardware conversion that no scan changes). Errors: as those of emit, compile and disassemble;
/// InternalError if the code doesn't look as expected.
std::optional<CountedConversion> count_conversion(const Conversion& conversion,
                                                  const Target& target, Compiler& compiler,
                                                  const Options& options);

}  // namespace ktjit::test
