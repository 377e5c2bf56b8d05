// Which rows of a large result get checked.
#pragma once

#include <cstdint>
#include <vector>

namespace ktjit {

/// All rows if rows * cols is at most `max_elements`; else the first, the last and random others,
/// about `max_elements` elements in all. Sorted, without repetition; the same for equal arguments.
std::vector<std::int64_t> sample_rows(std::int64_t rows, std::int64_t cols,
                                      std::int64_t max_elements);

}  // namespace ktjit
