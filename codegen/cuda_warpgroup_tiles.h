// Where the warps of a warpgroup matmul have their tiles of y from: a count of all tiles, or, with experts, lists of slots that
// the warps which copy make and the others read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/cuda_expert_tiles.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"
#include "codegen/source_writer.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// Places in shared memory that experts and a gate need: lists of slots, and sums of w_up on their way to those of w_gate.
struct ExpertPlan {
  std::int64_t places_at = 0, lists_at = 0, exchange_at = 0;
  std::int64_t end = 0;  ///< bytes, a multiple of 16
  int barriers = 0;      ///< more than a matmul has
};

/// Laid out from byte `begin` on; nothing but `end` without experts.
ExpertPlan plan_experts(const KernelSpec& spec, int w_tiles, int x_rows, int copy_threads,
                        std::int64_t begin);

/// Values of the skeleton that depend on where tiles come from. `copy_x`: what fills a stage of x where tiles are counted;
/// `copy`: the call that copies 16 bytes, with what follows its two addresses.
struct CopyCall {
  std::string name, more_arguments;
};
void add_warpgroup_tile_values(const KernelSpec& spec, const TileOfY& tile, const ExpertPlan& plan,
                               const CopyCall& copy, TemplateValues& values,
                               std::vector<Constant>& constants, FragmentVariants& variants,
                               std::vector<std::string>& names);

}  // namespace ktjit::codegen
