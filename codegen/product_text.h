// What the CUDA and the CPU text of matvec and moe_matvec have in common: the description of the tensors,
// the formula, and the choice of one of several matrices.
#pragma once

#include <string>

#include "core/kernel_spec.h"
#include "core/launch_order.h"

namespace ktjit::codegen {

/// The header's lines of the tensors of a matvec or moe_matvec, in the order of the launch.
std::string tensor_descriptions(const KernelSpec& spec);

/// The header's formula of a product.
std::string product_math(const KernelSpec& spec);

/// "const unsigned char* w_up", from the type and the name; counts are long long, ids int. `restrict` comes
/// after each pointer but those of a residual and its y, which may be the same memory.
std::string declaration(const KernelSpec& spec, const LaunchArgument& argument,
                        const std::string& restrict_word);

/// Statements, moved right by `spaces`, that choose one of several matrices, `position`, a variable that counts through
/// all of them, is left where it is in its own matrix, and the names without a number are what belongs to
/// it: all of it, or all but the weights. `matrix_extent` tells from "rows" how many positions a matrix has; `prefix`
/// stands before arguments.
enum class Selected { kAll, kAllButWeights };
std::string select_matrix(const KernelSpec& spec, const std::string& position,
                          const std::string& matrix_extent, const std::string& prefix, int spaces,
                          Selected selected = Selected::kAll);

/// Elements from one expert's scales to the next one's, from the name of the count of rows.
std::string expert_scale_stride(const KernelSpec& spec, const std::string& rows);

/// The piece with `activate` of the spec's gate. REQUIRES: there is one.
std::string gate_fragment(const KernelSpec& spec);

}  // namespace ktjit::codegen
