// Built kernels as a pack: one file with all kernels of a model for some targets (cache/pack_file.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "jit/engine.h"

namespace ktjit {

struct KernelPackReport {
  std::size_t kernels = 0;  ///< different ones
  std::size_t records = 0;  ///< of tuning
  std::vector<std::string> targets;
  std::uint64_t size_bytes = 0;
};

/// Finds out before the compiles whether a pack may be written to this path.
/// Errors: SpecError if something other than a pack has the name; OutputError if its folder is
/// absent or can't be read.
void check_kernel_pack_target(const std::string& path);

/// Writes these kernels to a pack, in place of an older pack. Equal kernels, made by equal
/// compilers, give equal bytes whenever and wherever they were made: compile times stay behind.
/// `model` is what the pack says it is for, and must be no path.
/// `records`: tuning records of these kernels' specs, with their keys.
/// Errors: as check_kernel_pack_target; OutputError if the pack can't be written.
KernelPackReport write_kernel_pack(
    const std::string& path, const std::string& model, std::span<const BuiltKernel> kernels,
    std::span<const std::pair<cache::CacheKey, cache::Entry>> records = {});

}  // namespace ktjit
