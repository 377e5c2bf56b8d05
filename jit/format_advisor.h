// Chooses formats by which a model fits a memory within an error budget, and writes them as rules.
#pragma once

#include <cstdint>
#include <string>

#include "jit/plan_report.h"

namespace ktjit {

struct FormatAdvice {
  /// Empty if it can be done; else why not, and the nearest that can.
  std::string problem;
  std::string rules_yaml;          ///< empty with a problem
  double error = 0;                ///< of the chosen formats
  std::uint64_t memory_bytes = 0;  ///< of everything, as MemoryNeed::total
};

/// The formats with the least error by which the model fits into place.available_bytes.
///
/// Error:   root of the mean over all weights of the squared relative error of their kind: sum d^2 / sum v^2 of
///          a sample of the kind's tensors (tensor_sample.h), 0 of what stays as it is. Tensors are of a kind if
///          their names differ in the numbers between dots only, and their formats are the same.
/// Choice:  norms, routers, biases and what has no known group stay as they are; embeddings and the output
///          layer get 16 bits at least. Of the others those are converted that lose least for each byte that
///          they save, so what measures worst stays.
/// Text:    rules with comments, the same for equal models and places; read again, they choose the same.
/// Errors:  SpecError if the budget is no number from 0, or there is no memory to fit in.
FormatAdvice advise_formats(const ModelFacts& facts, const PlanPlace& place, double error_budget);

}  // namespace ktjit
