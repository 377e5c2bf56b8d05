// Random weights for measurements: valid blocks of any format that decode to moderate finite values, the
// same at every call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/format.h"
#include "jit/reference_ops.h"
#include "runtime/device.h"

namespace ktjit {

/// One row as the reference takes it; owns its scales, while the codes are the BenchWeights'.
struct BenchRow {
  std::vector<std::byte> scales;
  std::int64_t cols = 0;
  WeightFormat format;
  std::span<const std::byte> codes;

  ScaledTensorView view() const;
};

/// Any number of [rows, cols] matrices of one format. Large ones repeat a pool of rows, whose count is odd so
/// that rows a power of two apart differ; each copy begins at another row of the pool. All copies have the
/// same scales, where the format keeps them in a tensor of their own.
class BenchWeights {
 public:
  /// Values deviate by about 1 / sqrt(cols); floats of 8 bits without scales are any codes up to 448.
  /// Errors: SpecError for a format that nothing decodes, or columns that are no whole number of blocks.
  BenchWeights(const WeightFormat& format, std::int64_t rows, std::int64_t cols);

  std::size_t code_bytes() const { return static_cast<std::size_t>(rows_) * row_bytes_; }
  /// The plane of scales as ScaleGrid describes it; empty without one.
  std::span<const std::byte> scales() const { return scales_; }

  /// Queues the upload of copy `copy` to `to`, of code_bytes. Wait for the stream before this ends.
  void upload_codes(runtime::Device& device, runtime::Stream& stream, int copy,
                    runtime::Buffer& to) const;

  /// Row `row` of copy `copy`.
  BenchRow row(int copy, std::int64_t row) const;

 private:
  std::int64_t pool_row(int copy, std::int64_t row) const;

  WeightFormat format_;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::size_t row_bytes_ = 0;
  std::int64_t pool_rows_ = 0;
  std::vector<std::byte> pool_;
  std::vector<std::byte> scales_;
};

/// Bytes of a [rows, cols] matrix in a file: codes and scales.
/// Errors: SpecError for columns that are no whole number of blocks, and rows that no memory holds.
std::size_t file_bytes(const WeightFormat& format, std::int64_t rows, std::int64_t cols);

/// Activations, [n, cols], about normally distributed, as values of `format` (f32, f16 or bf16) and as its
/// bytes.
struct BenchActivations {
  std::vector<float> values;
  std::vector<std::byte> bytes;
};
/// Errors: SpecError for another format.
BenchActivations make_bench_activations(FormatId format, std::int64_t n, std::int64_t cols);

}  // namespace ktjit
