// Lines of nvdisasm look so:
//   .L_x_1:
//           /*0110*/              @!P0 LDG.E.64 R2, desc[UR4][R4.64+0x10] ;
// and, up to sm_62, with a brace before instructions that are issued in pairs.
#include "tests/toolchain/sass_count.h"

#include <cctype>
#include <map>

namespace ktjit::test {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t{}");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t{};") - first + 1);
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> prefixes) {
  for (std::string_view prefix : prefixes) {
    if (text.starts_with(prefix)) return true;
  }
  return false;
}

std::string_view opcode_of(std::string_view instruction) {
  return instruction.substr(0, instruction.find_first_of(". "));
}

/// c[0x0] holds the launch's parameters.
bool copies_parameter(std::string_view instruction) {
  return instruction.find("c[0x0]") != std::string_view::npos &&
         (starts_with_any(opcode_of(instruction), {"LDC", "ULDC", "LDCU", "MOV"}) ||
          starts_with_any(instruction, {"IMAD.MOV"}));
}

}  // namespace

std::vector<SassLine> parse_sass(std::string_view listing) {
  std::vector<SassLine> lines;
  while (!listing.empty()) {
    const auto end = listing.find('\n');
    const std::string_view line = trimmed(listing.substr(0, end));
    listing.remove_prefix(end == std::string_view::npos ? listing.size() : end + 1);
    if (starts_with_any(line, {".L_", ".text."}) && line.ends_with(':')) {
      lines.push_back({std::string(line.substr(0, line.size() - 1)), ""});
      continue;
    }
    // "/*0110*/ instruction"; lines with other comments have no hexadecimal offset.
    if (!line.starts_with("/*") || line.size() < 4) continue;
    const auto close = line.find("*/");
    if (close == std::string_view::npos || std::isxdigit(line[2]) == 0) continue;
    std::string_view instruction = trimmed(line.substr(close + 2));
    if (instruction.starts_with('@')) {
      const auto space = instruction.find(' ');
      instruction = space == std::string_view::npos ? "" : trimmed(instruction.substr(space));
    }
    if (!instruction.empty()) lines.push_back({"", std::string(instruction)});
  }
  return lines;
}

std::vector<SassLine> function_of(const std::vector<SassLine>& lines, std::string_view name) {
  std::vector<SassLine> function;
  bool is_inside = false;
  for (const SassLine& line : lines) {
    if (line.label.starts_with(".text.")) is_inside = line.label.substr(6) == name;
    if (is_inside) function.push_back(line);
  }
  return function;
}

SassCount count_sass(const std::vector<SassLine>& lines) {
  SassCount count;
  for (const SassLine& line : lines) {
    const std::string_view opcode = opcode_of(line.instruction);
    if (opcode.empty() || opcode == "NOP" || copies_parameter(line.instruction)) continue;
    if (starts_with_any(opcode, {"ST"})) continue;
    const bool is_load = starts_with_any(opcode, {"LD", "ULDC", "TLD", "TEX"});
    (is_load ? count.loads : count.instructions) += 1;
  }
  return count;
}

std::vector<SassLine> longest_loop(const std::vector<SassLine>& lines) {
  std::map<std::string, std::size_t> label_at;
  std::size_t best_begin = 0, best_end = 0, innermost_begin = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!lines[i].label.empty()) {
      label_at[lines[i].label] = i;
      continue;
    }
    const std::string_view instruction = lines[i].instruction;
    if (opcode_of(instruction) != "BRA") continue;
    const auto open = instruction.find("`(");
    if (open == std::string_view::npos) continue;
    const auto close = instruction.find(')', open);
    const auto label = label_at.find(std::string(instruction.substr(open + 2, close - open - 2)));
    if (label == label_at.end() || label->second + 1 == i) continue;  // forward, or the end's trap
    if (label->second < innermost_begin) continue;                    // holds the loop before it
    innermost_begin = label->second + 1;
    if (i - label->second > best_end - best_begin) {
      best_begin = label->second;
      best_end = i;
    }
  }
  return {lines.begin() + static_cast<std::ptrdiff_t>(best_begin),
          lines.begin() + static_cast<std::ptrdiff_t>(best_end)};
}

}  // namespace ktjit::test
