// Operands of products: matvec and matmul of one or several matrices, with a gate, a residual or a bias, and
// moe_matvec.
#pragma once

#include <memory>

#include "jit/bench_operands.h"

namespace ktjit {

/// Errors: SpecError for shapes that the format can't have.
BenchBytes product_bytes(const BenchWork& work);

/// As make_bench_operands. REQUIRES: a product.
std::unique_ptr<BenchOperands> make_product_operands(runtime::Device& device,
                                                     runtime::Stream& stream, const BenchWork& work,
                                                     int copies, const LoadedKernel* prepare);

}  // namespace ktjit
