// Names of the parts of a split GGUF model: NAME-00002-of-00003.gguf, as llama.cpp's gguf-split
// writes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ktjit::model {

struct SplitName {
  std::string prefix;  ///< the file name before "-00002-of-00003.gguf"
  int number;          ///< from 1 to count
  int count;

  bool operator==(const SplitName&) const = default;
};

/// Nothing if `file_name` (no folder) isn't the name of a part.
std::optional<SplitName> parse_split_name(std::string_view file_name);

std::string split_file_name(const SplitName& part);

}  // namespace ktjit::model
