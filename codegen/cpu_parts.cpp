// Text that several CPU kernels have.
#include "codegen/cpu_parts.h"

#include <fmt/format.h>

#include "codegen/emitter_parts.h"

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

Prefetch prefetch_of(const Target& target, bool is_slow) {
  // Quick kernels of an EPYC (Zen 4; best of 11 passes of 4096 x 4096 beside a read test) gain 3 to 17 % by the
  // non-temporal prefetch 4 KB ahead, slow ones up to a third by what the second-level cache takes. A Xeon (Granite Rapids)
  // reads 6.5 GB/s by the former where it reads 16 by any other; kernels are at that speed by the latter alone.
  const bool is_amd = target.has_cpu_feature("sse4a");  // no other maker has it
  if (is_amd && !is_slow) return {4096, 0};
  return {16384, 2};
}

void add_operand_values(const KernelSpec& spec, TemplateValues& values) {
  values["x_name"] = get_format(spec.x_format).name;
  values["x_type"] = spec.x_format == FormatId::kFp8E4M3 ? "unsigned char" : io_type(spec.x_format);
  values["y_name"] = get_format(spec.y_format).name;
  values["y_type"] = io_type(spec.y_format);
  values["bias_description"] = "";
  values["bias_member"] = "";
  if (spec.bias) {
    values["bias_description"] =
        fmt::format("//   bias     in   {}  [rows]\n", get_format(*spec.bias).name);
    values["bias_member"] = fmt::format("const {}* bias;\n  ", io_type(*spec.bias));
  }
}

}  // namespace ktjit::codegen
