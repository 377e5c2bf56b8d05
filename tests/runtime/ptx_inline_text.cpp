#include "tests/runtime/ptx_inline_text.h"

#include <algorithm>
#include <cctype>
#include <stdexcept>

namespace ktjit::test {
namespace {

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }
bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// `text` with comments blanked, line breaks kept. Literals are left alone.
std::string without_comments(std::string_view text) {
  std::string result(text);
  for (std::size_t i = 0; i + 1 < result.size(); ++i) {
    if (result[i] == '"') {
      for (++i; i < result.size() && result[i] != '"'; ++i)
        if (result[i] == '\\') ++i;
    } else if (result[i] == '/' && (result[i + 1] == '/' || result[i + 1] == '*')) {
      const bool is_line = result[i + 1] == '/';
      const auto found = result.find(is_line ? "\n" : "*/", i + 2);
      const auto end = found == std::string::npos ? result.size() : is_line ? found : found + 2;
      for (; i < end; ++i)
        if (result[i] != '\n') result[i] = ' ';
      --i;
    }
  }
  return result;
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(without_comments(text)) {}

  std::vector<InlineInstruction> scan() {
    while (find_asm()) {
      const int line = line_at(at_);
      const std::string assembly = read_literals(line);
      add_instructions(assembly, line);
    }
    return std::move(found_);
  }

 private:
  /// Moves behind the bracket of the next asm statement.
  bool find_asm() {
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        skip_literal();
        continue;
      }
      if (!is_word(text_[at_])) continue;
      const std::string word = read_word();
      if (word == "asm" || word == "__asm__" || word == "__asm") {
        skip_space();
        while (at_ < text_.size() && is_word(text_[at_])) {
          read_word();  // volatile
          skip_space();
        }
        if (at_ < text_.size() && text_[at_] == '(') {
          ++at_;
          return true;
        }
      }
      --at_;
    }
    return false;
  }

  std::string read_word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  /// Leaves the position at the closing quote.
  std::string skip_literal() {
    std::string value;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') {
        value += text_[at_];
        continue;
      }
      ++at_;
      const char escaped = at_ < text_.size() ? text_[at_] : ' ';
      value += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
    }
    return value;
  }

  std::string read_literals(int line) {
    std::string assembly;
    skip_space();
    if (at_ >= text_.size() || text_[at_] != '"')
      throw std::runtime_error("line " + std::to_string(line) + ": asm without a string literal");
    while (at_ < text_.size() && text_[at_] == '"') {
      assembly += skip_literal();
      ++at_;
      skip_space();
    }
    if (at_ >= text_.size())
      throw std::runtime_error("line " + std::to_string(line) + ": asm without an end");
    return assembly;
  }

  void add_instructions(const std::string& assembly, int line) {
    std::size_t begin = 0;
    while (begin < assembly.size()) {
      const std::size_t end = std::min(assembly.find(';', begin), assembly.size());
      add_statement(assembly.substr(begin, end - begin), line);
      begin = end + 1;
    }
  }

  void add_statement(std::string statement, int line) {
    const auto trim_front = [&] {
      const auto starts_scope = [](char c) { return is_space(c) || c == '{' || c == '}'; };
      statement.erase(statement.begin(),
                      std::find_if_not(statement.begin(), statement.end(), starts_scope));
    };
    trim_front();
    if (statement.starts_with('@')) {
      statement.erase(statement.begin(),
                      std::find_if(statement.begin(), statement.end(), is_space));
      trim_front();
    }
    while (true) {  // labels
      const auto label_end = std::find_if_not(statement.begin(), statement.end(), [](char c) {
        return is_word(c) || c == '$' || c == '%';
      });
      if (label_end == statement.end() || *label_end != ':' ||
          (label_end + 1 != statement.end() && label_end[1] == ':'))
        break;
      statement.erase(statement.begin(), label_end + 1);
      trim_front();
    }
    if (statement.empty() || statement.starts_with('.')) return;  // a declaration
    const auto opcode_end = std::find_if(statement.begin(), statement.end(), is_space);
    InlineInstruction instruction{std::string(statement.begin(), opcode_end), 0, line};
    // A slot is whatever stands between commas and brackets.
    bool in_slot = false;
    for (auto c = opcode_end; c != statement.end(); ++c) {
      const bool separates = is_space(*c) || *c == ',' || *c == '{' || *c == '}' || *c == '[' ||
                             *c == ']' || *c == '|';
      if (!separates && !in_slot) ++instruction.slots;
      in_slot = !separates;
    }
    found_.push_back(std::move(instruction));
  }

  int line_at(std::size_t at) const {
    return 1 + static_cast<int>(std::count(text_.begin(),
                                           text_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
  }

  std::string text_;
  std::size_t at_ = 0;
  std::vector<InlineInstruction> found_;
};

}  // namespace

std::vector<InlineInstruction> find_inline_ptx(std::string_view text) {
  return Scanner(text).scan();
}

}  // namespace ktjit::test
