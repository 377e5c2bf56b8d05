// The named arguments of a launch, in the order that kernels take them.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "capi/ktjit.h"

#include "core/kernel_spec.h"

namespace ktjit::capi {

/// Bytes behind each address of a launch; 0 for addresses that the kernel has no use for.
/// Errors: SpecError for counts below 1, or whose bytes no 64-bit number holds.
ktjit_arguments argument_bytes(const KernelSpec& spec, std::int64_t rows, std::int64_t n);

/// Arguments of one launch; holds no memory of its own.
class LaunchArguments {
 public:
  /// Errors: SpecError for an address that is missing, too many or not aligned, and for counts that
  /// the kernel doesn't serve.
  LaunchArguments(const KernelSpec& spec, std::int64_t rows, std::int64_t n,
                  const ktjit_arguments& given);

  std::span<const std::uint64_t> values() const { return {values_.data(), count_}; }
  /// Rows of x of a product, 1 for other ops.
  std::int64_t n() const { return n_; }

 private:
  void add(std::uint64_t value) { values_[count_++] = value; }

  std::array<std::uint64_t, 8> values_{};
  std::size_t count_ = 0;
  std::int64_t n_ = 1;
};

}  // namespace ktjit::capi
