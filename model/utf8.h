// Text that comes from files: is it UTF-8, and how is it shown without harm to a terminal or a log.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ktjit::model {

/// Bytes of the UTF-8 sequence at the front of `text`, 0 if there is none or it is malformed
/// (overlong forms, surrogates and code points above U+10FFFF are).
std::size_t utf8_sequence_bytes(std::string_view text);

bool is_valid_utf8(std::string_view text);

/// True if a byte below 0x20, or 0x7F, occurs: no name of a tensor or of a metadata key has one.
bool has_control_character(std::string_view text);

/// `text` for messages and tables: control characters, backslashes and bytes that are not UTF-8
/// become escapes (\n, \x1b, \\). Past `max_bytes` of input it is cut and its whole size is said.
std::string escape_text(std::string_view text, std::size_t max_bytes = 160);

}  // namespace ktjit::model
