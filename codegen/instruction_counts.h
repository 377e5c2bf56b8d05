// What conversions cost on GPUs: SASS instructions, counted in compiled kernels and kept as data, so
// that reports need neither a compiler nor a disassembler.
//
// The rows are in instruction_counts.inc. tests/toolchain/instruction_count_test.cpp counts again
// and compares; KTJIT_UPDATE_COUNTS=1 makes it write the file. docs/LOWERING.md says what is counted.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/format.h"
#include "core/target.h"

namespace ktjit::codegen {

/// Instructions that convert `elements` elements on a counted target.
struct InstructionCount {
  std::string_view conversion;  ///< as the functions below name it
  std::string_view target;      ///< one of counted_targets()
  int instructions = 0;         ///< loads and stores not counted
  int loads = 0;                ///< of weights, scales and tables, from any memory
  int elements = 0;

  /// Per four elements, rounded to the nearest whole number.
  int instructions_per_4() const { return (8 * instructions + elements) / (2 * elements); }
  double loads_per_4() const { return 4.0 * loads / elements; }
};

/// The targets that are counted: one of each kind of GPU code.
std::span<const std::string_view> counted_targets();
/// The counted target whose code is that of `target`: sm_80 for sm_86. REQUIRES: a CUDA target.
std::string_view counted_target(const Target& target);

/// Weights to f32 in the main loop of a matvec: "q4_K", "fp8_e4m3, finite".
std::string decode_conversion(FormatId format, bool weights_finite);
/// Four codes in a register to pairs for tensor cores: "fp8_e4m3 to f16x2", with ", finite".
std::string pair_conversion(FormatId format, FormatId pairs, bool weights_finite);
/// Four f32 to codes: "f32 to fp8_e4m3", with ", not saturating".
std::string encode_conversion(FormatId format, bool saturate);

/// All rows, in the file's order.
std::span<const InstructionCount> all_instruction_counts();
/// Nothing where it was not counted. REQUIRES: a CUDA target.
const InstructionCount* find_instruction_count(std::string_view conversion, const Target& target);

}  // namespace ktjit::codegen
