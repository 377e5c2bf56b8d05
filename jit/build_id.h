// The build id of a library or program file: which compiler we have, learnt without opening it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace ktjit {

/// The GNU build id of an ELF64 file, in lower-case hex. Reads the headers and the note only.
/// Nothing if the file can't be read, is no little-endian ELF64 file, is damaged or has no id.
std::optional<std::string> read_build_id(const std::filesystem::path& file);

}  // namespace ktjit
