// Every kind of kernel that emitters make, for tests of what compilers say to them.
#pragma once

#include <string>
#include <vector>

#include "core/kernel_spec.h"

namespace ktjit::test {

/// Specs for one target that differ in what changes the emitted text: op, formats of x and y, scales,
/// columns, tails, bias, tuning. In a fixed order, which doesn't depend on the target; without those
/// that no kernel serves.
std::vector<KernelSpec> kernel_variants(FormatId format, const Target& target);

/// sm_60 to sm_121a, each suffix of a chip by itself.
std::vector<Target> all_cuda_targets();

}  // namespace ktjit::test
