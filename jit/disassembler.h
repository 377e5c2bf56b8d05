// GPU machine code as text, by NVIDIA's program nvdisasm.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "jit/options.h"

namespace ktjit {

/// The program that `disassemble` starts; looks where that does. Errors: ToolchainError if there is
/// none that starts.
std::string find_disassembler(const Options& options);

/// SASS of a cubin. Looks for nvdisasm in Options::disassembler alone if that is set, else on the
/// PATH, in the Python environment (its bin, and Triton's wheel), and in the CUDA toolkit; the first
/// that knows the code's architecture is taken.
///
/// Errors: ToolchainError if there is none, or if all refuse the cubin.
std::string disassemble(const Options& options, std::span<const std::byte> cubin);

}  // namespace ktjit
