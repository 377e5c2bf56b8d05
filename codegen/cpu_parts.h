// What the emitters of CPU kernels share.
#pragma once

#include <string>

#include "codegen/source_writer.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// "f32_to_f16(total[j] + arguments->bias[row])": what a product stores as y, from the words for its sum and its row.
std::string y_value(const KernelSpec& spec, const std::string& total, const std::string& row);

/// How a text that reads weights as a stream asks for them ahead.
struct Prefetch {
  int bytes;     ///< how far ahead
  int locality;  ///< of __builtin_prefetch
};
/// `is_slow`: arithmetic takes more than about 60 % of the time that memory takes.
Prefetch prefetch_of(const Target& target, bool is_slow);

/// Of a product with one matrix: x_name, x_type, y_name, y_type, bias_description, bias_member.
void add_operand_values(const KernelSpec& spec, TemplateValues& values);

}  // namespace ktjit::codegen
