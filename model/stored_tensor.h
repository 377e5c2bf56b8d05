// A tensor as a safetensors file lists it, before anything is known of what its bytes mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/format.h"

namespace ktjit::model {

struct StoredTensor {
  std::string name;
  FormatId format = FormatId::kU8;  ///< one that has a dtype in safetensors
  std::vector<std::int64_t> shape;  ///< row-major, the contiguous dimension last; may be empty
  std::span<const std::byte> data;
  int part = 0;  ///< index of its file
};

/// "[576, 7168]", in the order of the file.
std::string shape_to_text(std::span<const std::int64_t> shape);

}  // namespace ktjit::model
