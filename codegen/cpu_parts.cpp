// Text that several CPU kernels have.
#include "codegen/cpu_parts.h"

#include <fmt/format.h>

namespace ktjit::codegen {

std::string y_value(const KernelSpec& spec, const std::string& total, const std::string& row) {
  std::string value = total;
  if (spec.bias) {
    const std::string bias = fmt::format("arguments->bias[{}]", row);
    value += *spec.bias == FormatId::kF32
                 ? " + " + bias
                 : fmt::format(" + {}_to_f32({})", get_format(*spec.bias).name, bias);
  }
  if (spec.y_format == FormatId::kF32) return value;
  return fmt::format("f32_to_{}({})", get_format(spec.y_format).name, value);
}

}  // namespace ktjit::codegen
