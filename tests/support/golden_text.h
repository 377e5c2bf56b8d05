// Compares emitted text with the files in tests/golden, byte for byte.
#pragma once

#include <optional>
#include <string>

namespace ktjit::test {

/// The first differing line with its neighbours, or nothing if `text` equals tests/golden/`path`.
/// With KTJIT_UPDATE_GOLDEN=1 in the environment the file is written instead; review the diff.
std::optional<std::string> difference_from_golden(const std::string& path, const std::string& text);

}  // namespace ktjit::test
