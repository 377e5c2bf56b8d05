// The kernels whose text is kept in tests/golden, one for each path through the emitters.
#pragma once

#include <string>
#include <vector>

#include "core/kernel_spec.h"

namespace ktjit::test {

struct KernelCase {
  std::string path;  ///< below tests/golden: "matvec/q4_K_f32_sm_86.cu"
  KernelSpec spec;
};

/// In a fixed order.
std::vector<KernelCase> kernel_cases();

/// A spec with the defaults that tests share: f32 activations and results, one column.
KernelSpec make_spec(Op op, std::string_view format, std::int64_t cols, const Target& target);

/// The CPU target that golden files are made for, whatever this machine has.
Target avx2_target();

/// Every format that kernels serve.
std::vector<FormatId> served_formats();
/// Those that matvec and matmul take.
std::vector<FormatId> product_formats();

/// The floats of 4 to 8 bits that a plain cast gives.
std::vector<FormatId> narrow_floats();

}  // namespace ktjit::test
