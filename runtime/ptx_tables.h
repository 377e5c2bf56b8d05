// The parts of the table of PTX instructions, by topic. For ptx_instructions.cpp.
#pragma once

#include <span>

#include "runtime/ptx_instructions.h"

namespace ktjit::runtime::ptx {

std::span<const PtxInstruction> conversion_instructions();
std::span<const PtxInstruction> integer_instructions();
std::span<const PtxInstruction> float_instructions();
std::span<const PtxInstruction> mma_instructions();
std::span<const PtxInstruction> memory_instructions();

}  // namespace ktjit::runtime::ptx
