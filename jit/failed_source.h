// Keeps the text that a compiler refused, so that the error can name a file.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace ktjit {

/// Writes `source` to a new file "ktjit-<name>-XXXXXX<extension>" in `folder`, or in the folder for
/// temporary files if `folder` is empty. Returns its path, "" if it can't be written.
std::string save_failed_source(const std::filesystem::path& folder, std::string_view name,
                               std::string_view extension, std::string_view source) noexcept;

}  // namespace ktjit
