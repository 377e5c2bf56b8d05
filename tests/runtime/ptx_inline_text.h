// Finds inline PTX in CUDA text, so that a test can ask whether the simulator models all of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ktjit::test {

struct InlineInstruction {
  std::string opcode;
  int slots = 0;  ///< registers and immediates it names, results and operands together
  int line = 0;   ///< of the text, where its asm statement begins
};

/// Every instruction of every asm statement of `text`, in order. Comments are skipped, adjacent
/// string literals joined, escapes read. Declarations (.reg), scopes and labels are no
/// instructions; a predicate before one is dropped.
/// Errors: std::runtime_error with the line, for an asm statement that lacks a literal or an end.
std::vector<InlineInstruction> find_inline_ptx(std::string_view text);

}  // namespace ktjit::test
