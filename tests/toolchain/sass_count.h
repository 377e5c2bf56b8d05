// Counts instructions in what nvdisasm prints.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ktjit::test {

/// What a piece of SASS holds. Stores, NOPs and parameters copied to registers are in none of them.
struct SassCount {
  int instructions = 0;
  int loads = 0;  ///< of global, shared or local memory, and of constants that are no parameters

  SassCount operator-(const SassCount& other) const {
    return {instructions - other.instructions, loads - other.loads};
  }
  bool operator==(const SassCount&) const = default;
};

/// One line of a listing: an instruction without its predicate, or a label.
struct SassLine {
  std::string label;        ///< ".L_x_1", ".text.probe", or empty
  std::string instruction;  ///< "LDG.E.64 R2, [R4+0x10]"
};

/// The code of all functions of a listing (`nvdisasm --print-code`), in order.
std::vector<SassLine> parse_sass(std::string_view listing);

/// The lines of one function.
std::vector<SassLine> function_of(const std::vector<SassLine>& lines, std::string_view name);

/// All lines together.
SassCount count_sass(const std::vector<SassLine>& lines);

/// The longest loop that holds no other, without its branch back: lines from a label to the branch
/// to it. Empty if there is no loop.
std::vector<SassLine> longest_loop(const std::vector<SassLine>& lines);

}  // namespace ktjit::test
