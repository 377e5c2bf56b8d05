// How far a kernel's results lie from the reference, collected value by value.
#pragma once

#include <cstdint>
#include <string>

namespace ktjit {

class ErrorMeter {
 public:
  /// Adds y[row, col]. A pair of NaNs has no error, a NaN beside a number an infinite one; `is_right`
  /// is the judgement of whoever knows the bound.
  void add(double got, double want, bool is_right, std::int64_t row, std::int64_t col);

  /// max |got - want|.
  double max_abs_error() const { return max_error_; }
  /// max |got - want| / max |want|, the latter over finite values; the former where all are zero.
  double max_rel_error() const;
  /// The first value that was not right, in coordinates and bits; empty if there is none.
  const std::string& problem() const { return problem_; }

 private:
  double max_error_ = 0.0;
  double max_want_ = 0.0;
  std::string problem_;
};

}  // namespace ktjit
