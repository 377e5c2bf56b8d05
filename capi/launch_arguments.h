// The named arguments of a launch, in the order that kernels take them.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "capi/ktjit.h"

#include "core/kernel_spec.h"
#include "core/launch_order.h"

namespace ktjit::capi {

/// Counts of a launch that has no others than these.
ktjit_counts counts_of(std::int64_t rows, std::int64_t n);

/// Bytes behind each address of a launch; 0 for addresses that the kernel has no use for.
/// Errors: SpecError for counts that the kernel doesn't serve, or whose bytes no 64-bit number holds.
ktjit_arguments argument_bytes(const KernelSpec& spec, const ktjit_counts& counts);

/// Arguments of one launch; holds no memory of its own.
class LaunchArguments {
 public:
  /// Errors: SpecError for an address that is missing, too many or not aligned, and for counts that
  /// the kernel doesn't serve.
  LaunchArguments(const KernelSpec& spec, const ktjit_counts& counts, const ktjit_arguments& given);

  std::span<const std::uint64_t> values() const { return {values_.data(), count_}; }
  /// Of each matrix that has its own.
  std::span<const std::int64_t> rows() const { return {rows_.data(), matrices_}; }
  /// Rows of x of a product, slots of moe_matvec, 1 for other ops.
  std::int64_t n() const { return n_; }

 private:
  std::array<std::uint64_t, kMaxLaunchArguments> values_{};
  std::array<std::int64_t, 4> rows_{};
  std::size_t count_ = 0;
  std::size_t matrices_ = 1;
  std::int64_t n_ = 1;
};

}  // namespace ktjit::capi
