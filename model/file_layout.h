// Where the tensors of a file that is still to be written will lie: for those who write them in another order
// than the file's.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace ktjit::model {

struct FileLayout {
  std::string head;         ///< the file's first bytes, up to the first tensor's
  std::uint64_t bytes = 0;  ///< of the whole file; what no tensor fills is zero
  std::map<std::string, std::uint64_t>
      offsets;  ///< of each tensor's first byte, from the file's beginning
};

}  // namespace ktjit::model
