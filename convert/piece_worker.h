// What one thread works with: a device, its kernels, and buffers that are used again for every piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/kernel_spec.h"
#include "jit/engine.h"
#include "jit/reference_ops.h"
#include "runtime/device.h"

namespace ktjit::convert {

/// A device with the kernels that were loaded for it.
/// Threads: kernel may be called from several.
class Machine {
 public:
  Machine(Engine& engine, runtime::Device& device, Target target);

  runtime::Device& device() { return device_; }
  const Target& target() const { return target_; }
  /// Whether kernels read and write host memory, so that nothing need be copied.
  bool is_host() const { return is_host_; }
  /// Errors: what Engine::load throws.
  const LoadedKernel& kernel(const KernelSpec& spec);

 private:
  Engine& engine_;
  runtime::Device& device_;
  Target target_;
  bool is_host_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<LoadedKernel>> kernels_;
};

/// This machine's CPU with every launch on the calling thread: pieces are what runs side by side.
std::unique_ptr<runtime::Device> make_single_thread_cpu();

/// Threads: belongs to one at a time.
class PieceWorker {
 public:
  /// `fast` may be the same as `host`, whose device is make_single_thread_cpu's.
  PieceWorker(Machine& fast, Machine& host);
  ~PieceWorker();

  /// Where kernels are fast: rows at a time that its caches or its launches want.
  bool is_host() const { return fast_.is_host(); }

  /// Decodes rows to `format` (f32, f16, bf16), rounded once. The span lives until the next call of this
  /// worker. Errors: SpecError if sizes disagree; what Engine and Device throw.
  std::span<const std::byte> decode(const ScaledTensorView& rows, FormatId format);
  /// As decode to f32 on the CPU, in memory that the caller may change.
  std::span<float> decode_on_host(const ScaledTensorView& rows);

  /// Codes, and the plane of scales if the format has one.
  struct Codes {
    std::span<const std::byte> codes;
    std::span<const std::byte> scales;
  };
  /// Decodes rows and quantises the result: `tensor_scale` is nvfp4's. `to` is one that kernels choose the
  /// scales of (kernels_choose_scales). Spans live until the next call.
  Codes requantize(const ScaledTensorView& rows, const WeightFormat& to, float tensor_scale);
  /// The same from f32 values on the CPU: [rows, cols] of decode_on_host, permuted or divided.
  Codes quantize_on_host(std::span<const float> x, std::int64_t cols, const WeightFormat& to,
                         float tensor_scale);

  /// Rows from a tile's first on, prepared: prepared_bytes of them. The span lives until the next call but
  /// restore's.
  std::span<const std::byte> prepare(const ScaledTensorView& rows);
  /// Native rows, and the plane of their scales if the format has one, of prepared ones. Spans live until the
  /// next call.
  Codes restore(FormatId format, std::int64_t rows, std::int64_t cols,
                std::span<const std::byte> prepared);

 private:
  class Buffers;

  Codes quantize(Machine& machine, Buffers& buffers, std::uint64_t x, std::int64_t rows,
                 std::int64_t cols, const WeightFormat& to, float tensor_scale);

  Machine& fast_;
  Machine& host_;
  std::unique_ptr<Buffers> fast_buffers_;
  std::unique_ptr<Buffers> host_buffers_;
};

/// Whether quantize kernels choose scales of this shape and type: blocks of one row and more with f32 or e8m0
/// scales, the fixed grids of the MX formats, and formats without scales.
bool kernels_choose_scales(const WeightFormat& format);

}  // namespace ktjit::convert
