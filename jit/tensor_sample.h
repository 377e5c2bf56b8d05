// A sample of one tensor's values, and what converting them to a format adds: for tensors of any format.
#pragma once

#include <cstdint>
#include <vector>

#include "core/format.h"
#include "model/model.h"

namespace ktjit {

/// Sums over sampled values v, and d, what the conversion adds to them.
struct ErrorSums {
  double difference_squares = 0;  ///< sum d^2
  double value_squares = 0;       ///< sum v^2
  std::uint64_t values = 0;

  /// sum d^2 / sum v^2; 0 where all values are zeros.
  double relative_squares() const {
    return value_squares > 0 ? difference_squares / value_squares : 0;
  }
  void add(const ErrorSums& other);
};

/// A block of at most 128 x 512 values, on multiples of these; the same for equal tensors.
class TensorSample {
 public:
  /// Decodes the sample. What is no finite number counts as 0.
  /// REQUIRES: the tensor has elements, and its format is one that the reference decodes.
  explicit TensorSample(const model::TensorInfo& tensor);

  /// Converts as convert_tensor and back. Scale blocks larger than the sample are taken to end with it.
  /// Errors: as convert_tensor. REQUIRES: no rules::conversion_problem of the whole tensor.
  ErrorSums error_as(const WeightFormat& format) const;

 private:
  model::TensorInfo block_;  // f32, of values_
  std::vector<float> values_;
};

/// The error of converting tensors to the format, from a sample of eight of them or of all, spread over the
/// list. Errors and REQUIRES: as TensorSample.
ErrorSums sample_error(const std::vector<const model::TensorInfo*>& tensors,
                       const WeightFormat& format);

}  // namespace ktjit
