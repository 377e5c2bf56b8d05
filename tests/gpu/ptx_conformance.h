// Runs one modelled PTX instruction on a device and compares it with its model.
#pragma once

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

/// Operands: of one 8- or 16-bit register all values; else at least 2^20 sets, at random, with special
/// values and every value of the low 16 bits, or, of two registers of bytes, every pair of a byte of
/// each. Equal means bit for bit, any NaN for another where PTX leaves it open, and for products of
/// floats the table's bound; products of small whole numbers are exact.
/// REQUIRES: the target has the instruction, and the device can run its code.
PtxCheckResult check_ptx_instruction(const runtime::PtxInstruction& entry, Compiler& compiler,
                                     runtime::Device& device, const Target& target);

}  // namespace ktjit::test
