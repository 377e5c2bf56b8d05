// Runs one modelled PTX instruction on a device and compares it with its model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "jit/compiler.h"
#include "runtime/device.h"
#include "runtime/ptx_instructions.h"

namespace ktjit::test {

struct PtxCheckResult {
  std::int64_t compared = 0;  ///< results: registers of threads, or bytes in memory
  std::int64_t wrong = 0;
  std::string first_problem;  ///< operands and both results
};

/// Where an instruction is run.
struct PtxPlace {
  Compiler& compiler;
  runtime::Device& device;
  Target target;
  ArtifactKind kind = ArtifactKind::kCubin;  ///< what the compiler makes and the device loads
  /// How often an instruction on registers is executed; a multiple of 128.
  std::size_t executions = std::size_t{1} << 20;
};

/// Operands: of one 8- or 16-bit register all values; else `executions` sets, at random, with
/// special values, and from 2^17 on with every value of the low and of the high half of the first
/// register, or, for dp4a, with every pair of a byte of each. Equal means bit for bit, any NaN for
/// another where PTX leaves it open, and for products of floats the table's bound; products of
/// small whole numbers are exact.
/// REQUIRES: the target has the instruction, and the device can run its code.
PtxCheckResult check_ptx_instruction(const runtime::PtxInstruction& entry, const PtxPlace& place);

}  // namespace ktjit::test
