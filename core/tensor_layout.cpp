// Row sizes and alignment.
#include "core/tensor_layout.h"

#include <bit>
#include <fmt/format.h>
#include <limits>

#include "core/error.h"

namespace ktjit {

std::int64_t row_bytes(const Format& format, std::int64_t cols) {
  if (cols <= 0 || cols % format.block_elems != 0) {
    throw SpecError(
        "cols", fmt::format("{}", cols),
        fmt::format("positive multiples of the {} block, {}", format.name, format.block_elems));
  }
  const std::int64_t blocks = cols / format.block_elems;
  if (blocks > std::numeric_limits<std::int64_t>::max() / format.block_bytes) {
    throw SpecError("cols", fmt::format("{}", cols), "rows of less than 2^63 bytes");
  }
  return blocks * format.block_bytes;
}

int row_alignment_bytes(const Format& format, const TensorLayout& layout) {
  int alignment = layout.base_alignment_bytes;
  KTJIT_CHECK(alignment > 0 && std::has_single_bit(unsigned(alignment)));
  while (row_bytes(format, layout.cols) % alignment != 0) alignment /= 2;
  return alignment;
}

}  // namespace ktjit
