// What the emitters of CPU kernels share.
#pragma once

#include <string>

#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// "f32_to_f16(total[j] + arguments->bias[row])": what a product stores as y, from the words for its sum and its row.
std::string y_value(const KernelSpec& spec, const std::string& total, const std::string& row);

}  // namespace ktjit::codegen
