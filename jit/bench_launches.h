// What the operands of all measured works have in common: weights on the device, in the layout of the spec, and
// the results and arguments of each copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/kernel_spec.h"
#include "jit/bench_operands.h"
#include "jit/bench_weights.h"
#include "jit/error_meter.h"
#include "runtime/device.h"

namespace ktjit {

constexpr std::int64_t kMaxCheckedElements = std::int64_t{1} << 20;  ///< of one result

using BufferPtr = std::unique_ptr<runtime::Buffer>;

inline WeightFormat weight_of(const KernelSpec& spec) { return {spec.weight, spec.scale}; }

std::size_t element_bytes(FormatId format);

/// Queues the upload to a buffer of its own. Wait for the stream before `host` ends.
BufferPtr upload(runtime::Device& device, runtime::Stream& stream, std::span<const std::byte> host);

/// Weights of one copy.
struct DeviceWeights {
  BufferPtr codes;
  BufferPtr scales;  ///< if there are any

  std::vector<std::uint64_t> arguments() const;
};

DeviceWeights upload(runtime::Device& device, runtime::Stream& stream, const BenchWeights& weights,
                     int copy);

/// A matrix, or a stack of experts, in several copies, as a kernel of the spec reads it.
class WeightCopies {
 public:
  /// Uploads them, and waits where `prepare` has to work on them. `first_copy`: of the BenchWeights.
  WeightCopies(runtime::Device& device, runtime::Stream& stream, const KernelSpec& spec,
               std::int64_t experts, std::int64_t rows, int first_copy, int copies,
               const LoadedKernel* prepare);

  BenchRow row(int copy, std::int64_t expert, std::int64_t row) const;
  const DeviceWeights& on_device(int copy) const {
    return on_device_[static_cast<std::size_t>(copy)];
  }

 private:
  DeviceWeights prepared(runtime::Device& device, runtime::Stream& stream, const KernelSpec& spec,
                         const LoadedKernel& prepare, const DeviceWeights& native) const;
  /// The experts' planes, one after another.
  BufferPtr upload_scales(runtime::Device& device, runtime::Stream& stream,
                          const ScaleGrid& grid) const;

  std::int64_t experts_;
  std::int64_t rows_;
  std::int64_t cols_;
  int first_copy_;
  BenchWeights codes_;   ///< [experts * rows, cols]
  BenchWeights scaled_;  ///< [rows, cols]: its scales are those of each expert
  std::vector<DeviceWeights> on_device_;
};

/// Results and arguments of all copies.
class BenchLaunches : public BenchOperands {
 public:
  std::span<const std::uint64_t> arguments(int copy) const override;
  void poison(runtime::Stream& stream, int copy) override;

 protected:
  explicit BenchLaunches(runtime::Device& device) : device_(device) {}

  void add_copy(std::vector<BufferPtr> results, std::vector<std::uint64_t> arguments);
  runtime::Device& device() const { return device_; }
  runtime::Buffer& result(int copy, std::size_t matrix = 0) const;
  std::vector<std::byte> download(runtime::Stream& stream, const runtime::Buffer& buffer,
                                  std::size_t offset, std::size_t bytes) const;

 private:
  runtime::Device& device_;
  std::vector<std::vector<BufferPtr>> results_;  ///< of each copy, of each matrix
  std::vector<std::vector<std::uint64_t>> arguments_;
};

BenchCheck to_check(const ErrorMeter& meter, std::int64_t rows_checked);

}  // namespace ktjit
