// The table of well-formed sequences is Unicode 15, section 3.9, table 3-7.
#include "model/utf8.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>

namespace ktjit::model {
namespace {

unsigned char byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

bool is_within(unsigned char byte, unsigned low, unsigned high) {
  return byte >= low && byte <= high;
}

bool is_ascii_control(unsigned char byte) { return byte < 0x20 || byte == 0x7f; }

}  // namespace

std::size_t utf8_sequence_bytes(std::string_view text) {
  if (text.empty()) return 0;
  const unsigned char lead = byte_at(text, 0);
  if (lead < 0x80) return 1;
  if (!is_within(lead, 0xc2, 0xf4)) return 0;
  const std::size_t bytes = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (text.size() < bytes) return 0;
  // The second byte is narrower after these four: no overlong form, surrogate or too large code
  // point.
  const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (!is_within(byte_at(text, 1), low, high)) return 0;
  for (std::size_t i = 2; i < bytes; ++i) {
    if (!is_within(byte_at(text, i), 0x80, 0xbf)) return 0;
  }
  return bytes;
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t bytes = utf8_sequence_bytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return is_ascii_control(static_cast<unsigned char>(c)); });
}

std::string escape_text(std::string_view text, std::size_t max_bytes) {
  std::string out;
  auto append = std::back_inserter(out);
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t bytes = utf8_sequence_bytes(rest);
    const std::size_t taken = text.size() - rest.size();
    if (taken + std::max<std::size_t>(bytes, 1) > max_bytes) {
      fmt::format_to(append, "... ({} bytes)", text.size());
      return out;
    }
    const unsigned char lead = byte_at(rest, 0);
    // U+0080 to U+009F are control characters to a terminal too.
    const bool is_c1_control = bytes == 2 && lead == 0xc2 && byte_at(rest, 1) < 0xa0;
    if (lead == '\\') {
      out += "\\\\";
    } else if (lead == '\n') {
      out += "\\n";
    } else if (lead == '\r') {
      out += "\\r";
    } else if (lead == '\t') {
      out += "\\t";
    } else if (bytes == 0 || is_ascii_control(lead)) {
      fmt::format_to(append, "\\x{:02x}", lead);
    } else if (is_c1_control) {
      fmt::format_to(append, "\\x{:02x}\\x{:02x}", lead, byte_at(rest, 1));
    } else {
      out += rest.substr(0, bytes);
    }
    rest.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return out;
}

}  // namespace ktjit::model
