// What differs in the CUDA text of a plain matvec, one with a gate, of several matrices, with a residual, and
// of moe_matvec: whose weights a warp reads, how many sums it has, and what it stores.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "codegen/emitter_parts.h"
#include "codegen/source_writer.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

struct MatvecVariant {
  std::string w;                       ///< where the weights of sum r begin, in the text's words
  std::string scale;                   ///< and its scales
  std::string sums;                    ///< how many sums a warp has
  std::vector<std::string> fragments;  ///< pieces that these values call
  std::vector<Constant> constants;     ///< that they use
  TemplateValues values;               ///< of templates/cuda/matvec.cu.in
};

/// The kernel's parameters, one a line. How many slots there are, the grid says.
std::string parameter_list(const KernelSpec& spec);

/// Statements that move weights, scales and biases on to the slot's expert: weights by expert times
/// `weight_stride` bytes. Where no expert has the id, those of `store_nans`, then the end. REQUIRES: moe_matvec.
std::string select_expert(const KernelSpec& spec, std::string_view weight_stride,
                          std::string_view store_nans);

/// What is stored: an expression of `total`, or `gate` and `up`, where the text names the row `row` and the row
/// of x j. `fragments` gets the pieces that it calls.
std::string result_text(const KernelSpec& spec, std::string_view row,
                        std::vector<std::string>& fragments);

MatvecVariant matvec_variant(const KernelSpec& spec, int rows_per_cta);

}  // namespace ktjit::codegen
