// What every kernel must satisfy on every device: written once, run on the CPU, on GPUs natively
// and as other targets' code.
#pragma once

#include <cstdint>
#include <string>

#include "jit/engine.h"
#include "runtime/device.h"

namespace ktjit::test {

/// What a check tried, and what was wrong first.
struct CheckResult {
  std::int64_t kernels = 0;
  std::int64_t values = 0;  ///< compared
  std::int64_t wrong = 0;   ///< values that differ, or guard bytes that were written
  std::string first_problem;

  void merge(const CheckResult& other);
};

/// Where a check runs.
struct Place {
  Engine& engine;
  runtime::Device& device;
  Target target;
};

/// dequant of every golden vector to f32, f16 and bf16: bit for bit, and no byte around the result
/// touched.
CheckResult check_golden_dequant(const Place& place);

/// All 256 codes of every served FP8 format, at every position of a run, to f32.
CheckResult check_fp8_codes(const Place& place);

/// FP8 dequant with scales of every shape and type, blocks that don't divide the matrix among them.
CheckResult check_scaled_dequant(const Place& place);

/// matvec of every served format: f32, f16 and bf16 activations, 1 to 8 columns, odd shapes; within
/// (cols / 16 + 16) * 2^-24 * sum |w x| of the sum in double, nothing around the result touched.
CheckResult check_matvec(const Place& place);

}  // namespace ktjit::test
