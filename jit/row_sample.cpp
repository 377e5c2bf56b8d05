// Deterministic choice of rows.
#include "jit/row_sample.h"

#include <algorithm>
#include <numeric>
#include <random>

namespace ktjit {

std::vector<std::int64_t> sample_rows(std::int64_t rows, std::int64_t cols,
                                      std::int64_t max_elements) {
  const std::int64_t wanted =
      std::max<std::int64_t>(2, max_elements / std::max<std::int64_t>(cols, 1));
  std::vector<std::int64_t> chosen;
  if (rows <= wanted) {
    chosen.resize(static_cast<std::size_t>(std::max<std::int64_t>(rows, 0)));
    std::iota(chosen.begin(), chosen.end(), std::int64_t{0});
    return chosen;
  }
  chosen = {0, rows - 1};
  std::mt19937_64 random(static_cast<std::uint64_t>(rows) * 1000003u +
                         static_cast<std::uint64_t>(cols));
  while (static_cast<std::int64_t>(chosen.size()) < wanted) {
    chosen.push_back(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(rows)));
  }
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

}  // namespace ktjit
