// The operands of one spec on a device, for measurements: as many copies of what the kernel streams as are
// wanted, the arguments of each launch, and the comparison of results with the plain reference. To measure a
// new op, this is the place to teach it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/kernel_spec.h"
#include "jit/engine.h"
#include "runtime/device.h"

namespace ktjit {

/// What is measured: a spec, and what it leaves to the launch.
struct BenchWork {
  KernelSpec spec;
  std::int64_t rows = 0;  ///< of w; moe_matvec: of an expert
  std::int64_t n =
      1;  ///< products: rows of x; moe_matvec: slots, of different experts where there are so many
  std::vector<std::int64_t> more_rows =
      {};                        ///< of the other matrices: KernelSpec::matrices less one
  std::int64_t experts = 0;      ///< moe_matvec: in a stack
  std::int64_t slots_per_x = 1;  ///< moe_matvec

  /// Of each matrix with a y of its own.
  std::vector<std::int64_t> all_rows() const;
  bool operator==(const BenchWork&) const = default;
};

/// Bytes that one launch moves, as they lie in files: codes and scales of w, and what belongs to the work.
struct BenchBytes {
  std::size_t streamed =
      0;  ///< what GB/s counts. Products: w (of the slots' experts); dequant: w and y; quantize: x and w
  std::size_t copy = 0;  ///< on the device, for each copy: what is streamed (w as prepared), and y

  bool operator==(const BenchBytes&) const = default;
};
/// Errors: SpecError for an op that isn't measured, and shapes that the format can't have or that don't fit the spec.
BenchBytes bench_bytes(const BenchWork& work);

/// The comparison of one result with the reference.
struct BenchCheck {
  std::int64_t rows_checked = 0;
  double max_abs_err = 0.0;
  double max_rel_err = 0.0;  ///< max |difference| / max |reference|
  std::string problem;       ///< the first wrong value, in coordinates and bits

  bool ok() const { return problem.empty() && rows_checked > 0; }
};

class BenchOperands {
 public:
  virtual ~BenchOperands() = default;
  BenchOperands() = default;
  BenchOperands(const BenchOperands&) = delete;
  BenchOperands& operator=(const BenchOperands&) = delete;

  /// Of a launch on copy `copy`; codegen::emit has the order.
  virtual std::span<const std::uint64_t> arguments(int copy) const = 0;
  /// Queues a fill of the copy's result with 0xff bytes: NaNs, so that what isn't written is found.
  virtual void poison(runtime::Stream& stream, int copy) = 0;
  /// Waits for the stream, and compares the copy's result with the reference: of large ones the first row,
  /// the last and random others; that no product was left unwritten is looked at in all rows.
  virtual BenchCheck check(runtime::Stream& stream, int copy) const = 0;
};

/// Puts `copies` copies of the work's operands on the device, the weights random (bench_weights.h) and
/// prepared by `prepare` where prepare_spec_of names a kernel, and waits for that. Products share one x. The
/// device must outlive the result.
/// Errors: as bench_bytes; DriverError if memory is short.
std::unique_ptr<BenchOperands> make_bench_operands(runtime::Device& device, runtime::Stream& stream,
                                                   const BenchWork& work, int copies,
                                                   const LoadedKernel* prepare = nullptr);

}  // namespace ktjit
