// A small parser of PTX: statements end with ";", operands are separated by commas outside of brackets.
#include "worker/ptx_template.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <initializer_list>

namespace ktjit::worker {
namespace {

std::string_view trim(std::string_view text) {
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

bool is_name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// The template without comments and with "$$" as "$", which PTX allows in names.
std::string without_comments(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) == "//") {
      i = std::min(text.find('\n', i), text.size()) - 1;
    } else if (text.substr(i, 2) == "/*") {
      const auto end = text.find("*/", i + 2);
      i = end == std::string_view::npos ? text.size() - 1 : end + 1;
      result += ' ';
    } else {
      result += text[i];
    }
  }
  return result;
}

/// Pieces between separators that lie outside of {} and [].
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '{' || text[i] == '[') ++depth;
    if (text[i] == '}' || text[i] == ']') --depth;
    if (text[i] == separator && depth == 0) {
      pieces.push_back(trim(text.substr(begin, i - begin)));
      begin = i + 1;
    }
  }
  pieces.push_back(trim(text.substr(begin)));
  return pieces;
}

template <typename T>
bool parse_number(std::string_view text, int base, T& value) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value, base);
  return error == std::errc() && rest == end && !text.empty();
}

/// 12, -3, 0x1f, 0f3f800000 (bits of an f32), 0d... (of an f64).
bool parse_immediate(std::string_view text, std::uint64_t& bits) {
  if (text.size() > 1 && (text.back() == 'U' || text.back() == 'u')) text.remove_suffix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char kind = static_cast<char>(std::tolower(static_cast<unsigned char>(text[1])));
    if (kind == 'x') return parse_number(text.substr(2), 16, bits);
    if (kind == 'f' && text.size() == 10) return parse_number(text.substr(2), 16, bits);
    if (kind == 'd' && text.size() == 18) return parse_number(text.substr(2), 16, bits);
  }
  std::int64_t value = 0;
  if (!parse_number(text, 10, value)) return parse_number(text, 10, bits);
  bits = static_cast<std::uint64_t>(value);
  return true;
}

class Parser {
 public:
  Parser(PtxTemplate& result, std::string& problem) : result_(result), problem_(problem) {}

  bool parse(std::string_view text) {
    while (!(text = trim(text)).empty()) {
      if (text.front() == '{' || text.front() == '}') {  // a scope
        text.remove_prefix(1);
        continue;
      }
      const auto end = text.find(';');
      const std::string_view statement = trim(text.substr(0, end));
      if (!statement.empty() && !parse_statement(statement)) return false;
      if (end == std::string_view::npos) break;
      text.remove_prefix(end + 1);
    }
    return true;
  }

 private:
  bool fail(std::string_view what, std::string_view where) {
    problem_ = std::string(what) + ": '" + std::string(where) + "'";
    return false;
  }

  bool parse_statement(std::string_view text) {
    if (text.front() == '@') return fail("predicated statements are not simulated", text);
    if (text.find(':') < text.find_first_of(" \t\n") && text.find("::") == std::string_view::npos)
      return fail("labels are not simulated", text);
    const auto end = std::min(text.find_first_of(" \t\n"), text.size());
    PtxStatement statement;
    statement.opcode = text.substr(0, end);
    const std::string_view rest = trim(text.substr(end));
    if (statement.opcode == ".reg") return declare(rest);
    if (statement.opcode.front() == '.') return fail("this directive is not simulated", text);
    if (!rest.empty()) {
      for (std::string_view piece : split(rest, ',')) {
        for (std::string_view part : split_tensor_address(piece)) {
          PtxOperands operands;
          if (!parse_operands(part, operands)) return false;
          statement.operands.push_back(std::move(operands));
        }
      }
    }
    result_.statements.push_back(std::move(statement));
    return true;
  }

  /// ".b32 a, b<4>"
  bool declare(std::string_view text) {
    const auto end = std::min(text.find_first_of(" \t\n"), text.size());
    const std::string_view type = text.substr(0, end);
    int bits = 1;
    if (type != ".pred" && (type.size() < 3 || !parse_number(type.substr(2), 10, bits)))
      return fail("a register's type is not known", type);
    for (std::string_view name : split(text.substr(end), ',')) {
      const auto bracket = name.find('<');
      if (bracket == std::string_view::npos) {
        result_.registers[std::string(name)] = bits;
        continue;
      }
      int count = 0;
      if (name.back() != '>' ||
          !parse_number(name.substr(bracket + 1, name.size() - bracket - 2), 10, count) ||
          count > 4096) {
        return fail("a range of registers that can't be read", name);
      }
      for (int i = 0; i < count; ++i)
        result_.registers[std::string(name.substr(0, bracket)) + std::to_string(i)] = bits;
    }
    return true;
  }

  /// "[map, {x, y}]" as "map" and "{x, y}": the address of a tensor map is no address of what is read.
  static std::vector<std::string_view> split_tensor_address(std::string_view text) {
    if (text.size() < 2 || text.front() != '[' || text.back() != ']') return {text};
    const std::string_view inside = text.substr(1, text.size() - 2);
    return inside.find(',') == std::string_view::npos ? std::vector{text} : split(inside, ',');
  }

  bool parse_operands(std::string_view text, PtxOperands& operands) {
    if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
      operands.is_address = true;
      std::string_view address = trim(text.substr(1, text.size() - 2));
      const auto plus = address.find('+');
      if (plus != std::string_view::npos) {
        std::uint64_t offset = 0;
        if (!parse_immediate(trim(address.substr(plus + 1)), offset))
          return fail("an address that can't be read", text);
        operands.offset = static_cast<std::int64_t>(offset);
        address = trim(address.substr(0, plus));
      }
      return add_operand(address, operands);
    }
    if (text.size() >= 2 && text.front() == '{' && text.back() == '}') {
      for (std::string_view piece : split(text.substr(1, text.size() - 2), ','))
        if (!add_operand(piece, operands)) return false;
      return true;
    }
    for (std::string_view piece : split(text, '|'))
      if (!add_operand(piece, operands)) return false;
    return true;
  }

  bool add_operand(std::string_view text, PtxOperands& operands) {
    PtxOperand operand;
    if (text.size() > 1 && text.front() == '$') {
      operand.kind = PtxOperand::Kind::kArgument;
      std::string_view number = text.substr(1);
      if (number.front() == '{' && number.back() == '}')
        number = number.substr(1, number.size() - 2);
      if (!parse_number(number, 10, operand.argument))
        return fail("an operand that can't be read", text);
    } else if (result_.registers.count(std::string(text)) != 0) {
      operand.kind = PtxOperand::Kind::kRegister;
      operand.name = text;
    } else if (text.size() > 1 && text.front() == '%') {
      operand.kind = PtxOperand::Kind::kSpecial;
      operand.name = text.substr(1);
    } else if (!text.empty() && is_name_start(text.front())) {
      return fail("a name that the statement doesn't declare", text);
    } else if (!parse_immediate(text, operand.immediate)) {
      return fail("an operand that can't be read", text);
    }
    operands.registers.push_back(std::move(operand));
    return true;
  }

  PtxTemplate& result_;
  std::string& problem_;
};

}  // namespace

bool PtxStatement::has_result() const {
  static constexpr std::array kWithout = {"st.",
                                          "red.",
                                          "bar.",
                                          "barrier.",
                                          "membar.",
                                          "fence.",
                                          "cp.",
                                          "prefetch",
                                          "nanosleep",
                                          "stmatrix.",
                                          "exit",
                                          "trap",
                                          "ret",
                                          "griddepcontrol",
                                          "discard.",
                                          "wgmma.fence",
                                          "wgmma.commit_group",
                                          "wgmma.wait_group",
                                          "tcgen05.",
                                          "setmaxnreg",
                                          "clusterlaunchcontrol",
                                          "multimem.red"};
  if (operands.empty() || operands.front().is_address) return false;
  return std::none_of(kWithout.begin(), kWithout.end(),
                      [this](const char* stem) { return opcode.starts_with(stem); });
}

bool parse_ptx_template(std::string_view text, PtxTemplate& result, std::string& problem) {
  const std::string plain = without_comments(text);
  return Parser(result, problem).parse(plain);
}

}  // namespace ktjit::worker
