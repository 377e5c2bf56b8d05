#include "jit/error_meter.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <fmt/format.h>
#include <limits>

namespace ktjit {

void ErrorMeter::add(double got, double want, bool is_right, std::int64_t row, std::int64_t col) {
  const double error =
      got == want || (std::isnan(got) && std::isnan(want)) ? 0.0 : std::abs(got - want);
  max_error_ =
      std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(max_error_, error);
  if (std::isfinite(want)) max_want_ = std::max(max_want_, std::abs(want));
  if (is_right || !problem_.empty()) return;
  problem_ = fmt::format("y[{}, {}] is {:a} ({:#010x}), expected {:a}", row, col, got,
                         std::bit_cast<std::uint32_t>(static_cast<float>(got)), want);
}

double ErrorMeter::max_rel_error() const {
  return max_want_ > 0 ? max_error_ / max_want_ : max_error_;
}

}  // namespace ktjit
