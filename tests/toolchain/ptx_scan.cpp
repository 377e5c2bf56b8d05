#include "tests/toolchain/ptx_scan.h"

#include <algorithm>
#include <array>

namespace ktjit::test {
namespace {

/// The first instruction whose opcode (all up to the first space) satisfies `is_meant`. Inline text may
/// hold several in a line, between ';' or '{'.
template <class Predicate>
std::string find_instruction(std::string_view ptx, Predicate is_meant) {
  while (!ptx.empty()) {
    const auto end = ptx.find_first_of("\n;{");
    std::string_view instruction = ptx.substr(0, end);
    ptx.remove_prefix(end == std::string_view::npos ? ptx.size() : end + 1);
    instruction.remove_prefix(std::min(instruction.find_first_not_of(" \t"), instruction.size()));
    if (instruction.starts_with("//")) continue;
    if (instruction.starts_with('@')) {
      instruction.remove_prefix(std::min(instruction.find(' ') + 1, instruction.size()));
      instruction.remove_prefix(std::min(instruction.find_first_not_of(" \t"), instruction.size()));
    }
    const std::string_view opcode = instruction.substr(0, instruction.find_first_of(" \t"));
    if (is_meant(opcode)) return std::string(instruction);
  }
  return "";
}

}  // namespace

std::string find_f16_arithmetic(std::string_view ptx) {
  constexpr std::array<std::string_view, 15> kArithmetic = {"add",  "sub", "mul",  "fma", "mad",
                                                            "neg",  "abs", "min",  "max", "set",
                                                            "setp", "ex2", "tanh", "mma", "wmma"};
  return find_instruction(ptx, [&](std::string_view opcode) {
    const std::string_view name = opcode.substr(0, opcode.find('.'));
    return opcode.find("f16") != std::string_view::npos &&
           std::find(kArithmetic.begin(), kArithmetic.end(), name) != kArithmetic.end();
  });
}

std::string find_dp4a(std::string_view ptx) {
  return find_instruction(ptx, [](std::string_view opcode) {
    return opcode.starts_with("dp4a") || opcode.starts_with("dp2a");
  });
}

}  // namespace ktjit::test
