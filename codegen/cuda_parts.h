// What the CUDA skeletons share: loads of runs of weights, their tails and their scales, as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/fragment_library.h"
#include "codegen/lowering.h"
#include "codegen/source_writer.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// Consecutive elements that one thread decodes: a divisor of every sub-block.
constexpr int kRun = 8;
constexpr int kWarpThreads = 32;

std::int64_t ceil_div(std::int64_t a, std::int64_t b);

/// Whether rows of this io format, one after another, allow 16-byte vectors.
bool rows_allow_vectors(FormatId io_format, const TensorLayout& layout);
/// Whether the last run of a row is cut.
bool has_tail(const KernelSpec& spec);

/// The variants that the spec's alignments and lowering pick.
FragmentVariants variants_for(const KernelSpec& spec, const Lowering& lowering);
/// Chooses the piece fp8x4_to_pairs: `routine` is one to f16x2 or bf16x2, as Lowering has it.
void add_pair_variants(const std::string& routine, FragmentVariants& variants);
/// Names of the pieces that decode_statements and the scale's load call.
std::vector<std::string> decode_fragments(const KernelSpec& spec);

/// Statements that decode the run at `col` of the row at `row_pointer` into `value`, zeros past the
/// last column.
std::string decode_statements(const KernelSpec& spec, const std::string& row_pointer,
                              const std::string& value);
/// Statements that load the run of activations at `col` of the row at `row_pointer` into
/// `activation` as f32, zeros past the last column. x is f32, f16 or bf16.
std::string load_x_statements(const KernelSpec& spec, const std::string& row_pointer);
/// Index into the scales of the block at (row, col), given as names in the text.
std::string scale_index(const ScaleGrid& grid, const std::string& row, const std::string& col);
/// Multiplies each element of the run `value` by the scale of its own column; `scale` names the plane.
std::string scale_each_element(const ScaleGrid& grid, const std::string& row,
                               const std::string& value, const std::string& scale = "scale");

/// Lines, moved right by `spaces`, that multiply the run `value` at `col` by its scales; "" without any.
std::string apply_scale_statements(const KernelSpec& spec, const std::string& row,
                                   const std::string& value, int spaces);

/// "sm_86, no cvt from e4m3: software, exact": the target and how it decodes, in the header.
std::string arch_description(const KernelSpec& spec, const Lowering& lowering);
/// Values "arch", "scale_parameter" of every kernel that decodes.
void add_common_values(const KernelSpec& spec, const Lowering& lowering, TemplateValues& values);

/// Value "wait", the first statements of a kernel, and the pieces they need, added to `names`: nothing
/// unless the spec asks for dependent launches.
void add_wait(const KernelSpec& spec, TemplateValues& values, std::vector<std::string>& names);
/// The text without __restrict__, for dependent launches.
std::string without_restrict(std::string text);

/// Values "y_name", "y_type", "bias_parameter", "bias_description" of a product, and the pieces
/// they need, added to `names`.
void add_product_values(const KernelSpec& spec, TemplateValues& values,
                        std::vector<std::string>& names);
/// "total" or "total + load_bias(bias, row)": what a product stores, from names in the text.
std::string with_bias(const KernelSpec& spec, const std::string& total, const std::string& row);

}  // namespace ktjit::codegen
