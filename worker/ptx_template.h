// The statements of an inline assembly template, as Clang hands it to LLVM ("$0" is an operand).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit::worker {

struct PtxOperand {
  enum class Kind {
    kArgument,   ///< `$3`: operand `argument` of the asm statement
    kRegister,   ///< `name`, which the template declares
    kSpecial,    ///< `%name`: a special register, without its percent sign
    kImmediate,  ///< `immediate`, raw bits
  };
  Kind kind = Kind::kImmediate;
  int argument = 0;
  std::string name;
  std::uint64_t immediate = 0;
};

/// What stands between two commas: a register, a group `{a, b}`, a pair `a|b`, or an address `[a+8]`.
struct PtxOperands {
  std::vector<PtxOperand> registers;
  bool is_address = false;
  std::int64_t offset = 0;  ///< of an address, in bytes
};

struct PtxStatement {
  std::string opcode;  ///< with all modifiers: "prmt.b32"
  std::vector<PtxOperands> operands;

  /// Whether the first operand is written: not for stores, barriers and the like.
  bool has_result() const;
};

struct PtxTemplate {
  std::map<std::string, int>
      registers;  ///< declared ones, with their width in bits; 1: a predicate
  std::vector<PtxStatement> statements;
};

/// Parses straight-line PTX. Where it can't, says why in `problem` and returns false: predicated
/// statements, labels and directives other than .reg are not served.
bool parse_ptx_template(std::string_view text, PtxTemplate& result, std::string& problem);

}  // namespace ktjit::worker
