// What a conversion cost: the written output, read again, beside the input, by the plain reference decode.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "convert/model_conversion.h"

#include "model/model.h"

namespace ktjit::convert {

/// How one tensor of the output differs from what it was made of.
struct TensorError {
  std::string name;
  std::string from;
  std::string to;
  std::int64_t elements = 0;
  double max_abs = 0;          ///< of finite differences
  double rms = 0;              ///< root of their mean square
  double cosine = 1;           ///< between both; 1 where both are zero
  double relative = 0;         ///< rms / root mean square of the input; 0 where that is 0
  std::int64_t saturated = 0;  ///< finite values beyond what the format's largest code rounds from
  std::int64_t nan_in = 0;     ///< NaN or infinite in the input
  std::int64_t nan_out = 0;    ///< NaN or infinite in the output
  std::string problem;         ///< why the check failed; empty if it didn't
};

struct VerifyReport {
  std::vector<TensorError> tensors;
  bool ok = true;
};

struct VerifyOptions {
  int threads = 0;  ///< 0: as many as the process may use
  std::function<void(std::uint64_t done, std::uint64_t total)> on_progress;  ///< bytes of input
  std::stop_token stop;
};

/// Compares every tensor of `output`, as opened from the written files, with the conversion's sources. A check
/// fails where a tensor is missing or has another format or shape, where a copy's bytes differ, where a finite
/// value became NaN or infinite, and where a value that didn't saturate is farther off than half a step of its
/// format under the scale that was stored (q4_0: a step, whose largest code ggml's rule may clamp).
/// Errors: InputError if the input can't be decoded; InterruptedError.
VerifyReport verify_conversion(const Conversion& conversion, const model::Model& output,
                               const VerifyOptions& options);

}  // namespace ktjit::convert
