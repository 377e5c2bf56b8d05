// The choice of rows that are checked.
#include "jit/row_sample.h"

#include <algorithm>
#include <catch2/catch.hpp>

namespace ktjit {

TEST_CASE("small tensors are checked whole") {
  CHECK(sample_rows(5, 10, 50) == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  CHECK(sample_rows(1, 1000, 10) == std::vector<std::int64_t>{0});
  CHECK(sample_rows(0, 10, 50).empty());
}

TEST_CASE(
    "of large tensors the first, the last and other rows are checked, the same ones each time") {
  const std::vector<std::int64_t> rows = sample_rows(100000, 4096, 1 << 20);
  CHECK(rows.front() == 0);
  CHECK(rows.back() == 99999);
  CHECK(rows.size() > 200);
  CHECK(rows.size() <= 256);
  CHECK(std::adjacent_find(rows.begin(), rows.end(), std::greater_equal<>()) == rows.end());
  CHECK(rows == sample_rows(100000, 4096, 1 << 20));
  CHECK(sample_rows(100000, 4096, 1).size() == 2);
}

}  // namespace ktjit
