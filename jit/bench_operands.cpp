// Decoding and quantising; products are in bench_products.h.
#include "jit/bench_operands.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "jit/bench_launches.h"
#include "jit/bench_products.h"
#include "jit/bench_weights.h"
#include "jit/error_meter.h"
#include "jit/reference_decode.h"
#include "jit/reference_encode.h"
#include "jit/reference_ops.h"
#include "jit/row_sample.h"

namespace ktjit {
namespace {

class DequantOperands final : public BenchLaunches {
 public:
  DequantOperands(runtime::Device& device, runtime::Stream& stream, const BenchWork& work,
                  int copies, const LoadedKernel* prepare)
      : BenchLaunches(device),
        work_(work),
        weights_(device, stream, work.spec, 1, work.rows, 0, copies, prepare) {
    for (int copy = 0; copy < copies; ++copy) {
      BufferPtr y = device.allocate(static_cast<std::size_t>(work.rows) * y_row_bytes());
      std::vector<std::uint64_t> arguments = weights_.on_device(copy).arguments();
      arguments.insert(arguments.end(), {y->address(), static_cast<std::uint64_t>(work.rows)});
      std::vector<BufferPtr> results;
      results.push_back(std::move(y));
      add_copy(std::move(results), std::move(arguments));
    }
  }

  BenchCheck check(runtime::Stream& stream, int copy) const override {
    const std::int64_t cols = work_.spec.layout.cols;
    const FormatId y_format = work_.spec.y_format;
    std::vector<float> got(static_cast<std::size_t>(cols)), want(got.size());
    std::vector<std::byte> want_bytes(y_row_bytes());
    ErrorMeter meter;
    std::int64_t rows_checked = 0;
    for (std::int64_t row : sample_rows(work_.rows, cols, kMaxCheckedElements)) {
      const std::vector<std::byte> bytes = download(
          stream, result(copy), static_cast<std::size_t>(row) * y_row_bytes(), y_row_bytes());
      decode_row(y_format, bytes, got);
      const BenchRow w = weights_.row(copy, 0, row);
      decode_rows(w.view(), 0, 1, want);
      round_output(y_format, want, want_bytes);
      decode_row(y_format, want_bytes, want);
      for (std::size_t c = 0; c < got.size(); ++c) {
        const bool is_right = compare_bits({&got[c], 1}, {&want[c], 1}).equal();
        meter.add(got[c], want[c], is_right, row, static_cast<std::int64_t>(c));
      }
      ++rows_checked;
    }
    return to_check(meter, rows_checked);
  }

 private:
  std::size_t y_row_bytes() const {
    return static_cast<std::size_t>(work_.spec.layout.cols) * element_bytes(work_.spec.y_format);
  }

  BenchWork work_;
  WeightCopies weights_;
};

/// x in, codes and perhaps scales out: the result is the codes.
class QuantizeOperands final : public BenchLaunches {
 public:
  QuantizeOperands(runtime::Device& device, runtime::Stream& stream, const BenchWork& work,
                   int copies)
      : BenchLaunches(device), work_(work), x_({work.spec.x_format, {}}, work.rows, cols()) {
    const std::size_t scale_bytes = scale_plane_bytes();
    for (int copy = 0; copy < copies; ++copy) {
      x_on_device_.push_back(upload(device, stream, x_, copy));
      std::vector<std::uint64_t> arguments = x_on_device_.back().arguments();
      BufferPtr codes = device.allocate(static_cast<std::size_t>(work.rows) * code_row_bytes());
      arguments.push_back(codes->address());
      if (scale_bytes > 0) {
        scales_.push_back(device.allocate(scale_bytes));
        arguments.push_back(scales_.back()->address());
        put_tensor_scale(stream, *scales_.back());
      }
      arguments.push_back(static_cast<std::uint64_t>(work.rows));
      std::vector<BufferPtr> results;
      results.push_back(std::move(codes));
      add_copy(std::move(results), std::move(arguments));
    }
  }

  void poison(runtime::Stream& stream, int copy) override {
    BenchLaunches::poison(stream, copy);
    if (scales_.empty()) return;
    runtime::Buffer& plane = *scales_[static_cast<std::size_t>(copy)];
    device().fill(stream, plane, std::byte{0xff});
    put_tensor_scale(stream, plane);
  }

  BenchCheck check(runtime::Stream& stream, int copy) const override {
    const std::int64_t block_rows = work_.spec.scale ? work_.spec.scale->block_rows : 1;
    const std::int64_t bands =
        (work_.rows + block_rows - 1) / block_rows;  // rows that share scales
    ErrorMeter meter;
    std::string wrong_bits;
    std::int64_t rows_checked = 0;
    for (std::int64_t band : sample_rows(bands, block_rows * cols(), kMaxCheckedElements)) {
      const std::int64_t first = band * block_rows;
      const std::int64_t rows = std::min(block_rows, work_.rows - first);
      const QuantizedRows got = download_band(stream, copy, first, rows, band);
      const QuantizedRows want = quantize_band(copy, first, rows);
      if (wrong_bits.empty()) wrong_bits = difference("code", got.codes, want.codes, first);
      if (wrong_bits.empty()) wrong_bits = difference("scale", got.scales, want.scales, first);
      add_values(got, want, first, rows, meter);
      rows_checked += rows;
    }
    BenchCheck check = to_check(meter, rows_checked);
    check.problem = wrong_bits;
    return check;
  }

 private:
  std::int64_t cols() const { return work_.spec.layout.cols; }
  std::size_t code_row_bytes() const {
    return static_cast<std::size_t>(row_bytes(get_format(work_.spec.weight), cols()));
  }
  std::size_t scale_plane_bytes() const {
    const auto& grid = work_.spec.scale;
    return grid ? static_cast<std::size_t>(grid->plane_bytes(work_.rows, cols())) : 0;
  }

  /// nvfp4's, which is there before the launch: that of values of up to 6 deviations.
  float tensor_scale() const {
    const float largest = 6.0f / std::sqrt(static_cast<float>(cols()));
    return nvfp4_tensor_scale({&largest, 1});
  }

  void put_tensor_scale(runtime::Stream& stream, runtime::Buffer& plane) const {
    const auto bytes = static_cast<std::size_t>(work_.spec.scale->header_bytes());
    if (bytes == 0) return;
    std::vector<std::byte> header(bytes);
    const float scale = tensor_scale();
    std::memcpy(header.data(), &scale, sizeof scale);
    device().upload(stream, header, plane, 0);
    stream.synchronize();
  }

  /// What the kernel made of the rows that share a row of scales.
  QuantizedRows download_band(runtime::Stream& stream, int copy, std::int64_t first,
                              std::int64_t rows, std::int64_t band) const {
    QuantizedRows got;
    got.codes = download(stream, result(copy), static_cast<std::size_t>(first) * code_row_bytes(),
                         static_cast<std::size_t>(rows) * code_row_bytes());
    if (!work_.spec.scale) return got;
    const ScaleGrid& grid = *work_.spec.scale;
    const auto header = static_cast<std::size_t>(grid.header_bytes());
    const std::size_t bytes = static_cast<std::size_t>(grid.plane_bytes(rows, cols())) - header;
    const runtime::Buffer& plane = *scales_[static_cast<std::size_t>(copy)];
    got.scales = download(stream, plane, 0, header);
    const std::vector<std::byte> own =
        download(stream, plane, header + static_cast<std::size_t>(band) * bytes, bytes);
    got.scales.insert(got.scales.end(), own.begin(), own.end());
    return got;
  }

  /// What the reference makes of them.
  QuantizedRows quantize_band(int copy, std::int64_t first, std::int64_t rows) const {
    const auto row_elements = static_cast<std::size_t>(cols());
    std::vector<float> x(static_cast<std::size_t>(rows) * row_elements);
    for (std::int64_t row = 0; row < rows; ++row) {
      decode_rows(x_.row(copy, first + row).view(), 0, 1,
                  std::span(x).subspan(static_cast<std::size_t>(row) * row_elements, row_elements));
    }
    return quantize_reference({.format = work_.spec.weight,
                               .grid = work_.spec.scale,
                               .saturate = work_.spec.saturate,
                               .tensor_scale = tensor_scale()},
                              x, rows, cols());
  }

  /// The first byte that differs, in words; empty if there is none.
  static std::string difference(std::string_view what, std::span<const std::byte> got,
                                std::span<const std::byte> want, std::int64_t first_row) {
    const auto [left, right] = std::mismatch(got.begin(), got.end(), want.begin(), want.end());
    if (left == got.end()) return {};
    return fmt::format("from row {} on: {} byte {} is {:#04x}, expected {:#04x}", first_row, what,
                       left - got.begin(), std::to_integer<int>(*left),
                       std::to_integer<int>(*right));
  }

  /// How far the codes lie apart as numbers; bare codes, which nothing decodes, as bytes.
  void add_values(const QuantizedRows& got, const QuantizedRows& want, std::int64_t first,
                  std::int64_t rows, ErrorMeter& meter) const {
    const KernelSpec& spec = work_.spec;
    if (!has_reference_decode(spec.weight)) {
      for (std::size_t i = 0; i < got.codes.size(); ++i) {
        meter.add(std::to_integer<int>(got.codes[i]), std::to_integer<int>(want.codes[i]),
                  got.codes[i] == want.codes[i], first, static_cast<std::int64_t>(i));
      }
      return;
    }
    const auto decode = [&](const QuantizedRows& quantized) {
      std::vector<float> values(static_cast<std::size_t>(rows * cols()));
      decode_rows({spec.weight, rows, cols(), quantized.codes, spec.scale, quantized.scales}, 0,
                  rows, values);
      return values;
    };
    const std::vector<float> left = decode(got), right = decode(want);
    for (std::size_t i = 0; i < left.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      meter.add(left[i], right[i], left[i] == right[i], first + at / cols(), at % cols());
    }
  }

  BenchWork work_;
  BenchWeights x_;
  std::vector<DeviceWeights> x_on_device_;
  std::vector<BufferPtr> scales_;
};

/// Matrices, experts and slots.
void check_counts(const BenchWork& work) {
  const bool is_moe = has_experts(work.spec.op);
  const auto matrices = static_cast<int>(work.all_rows().size());
  if (matrices != work.spec.matrices) {
    throw SpecError("rows", fmt::format("{} counts", matrices),
                    fmt::format("one for each of {} matrices", work.spec.matrices));
  }
  if (is_moe ? work.experts < 1 : work.experts != 0) {
    throw SpecError("experts", fmt::format("{}", work.experts),
                    is_moe ? "1 and more" : "0 but with moe_matvec and moe_matmul");
  }
  if (work.slots_per_x < 1)
    throw SpecError("slots_per_x", fmt::format("{}", work.slots_per_x), "1 and more");
}

}  // namespace

std::vector<std::int64_t> BenchWork::all_rows() const {
  std::vector<std::int64_t> all = {rows};
  all.insert(all.end(), more_rows.begin(), more_rows.end());
  return all;
}

BenchBytes bench_bytes(const BenchWork& work) {
  const KernelSpec& spec = work.spec;
  const std::int64_t cols = spec.layout.cols;
  check_counts(work);
  const std::size_t w = file_bytes(weight_of(spec), work.rows, cols);
  switch (spec.op) {
    case Op::kDequant: {
      const std::size_t y = file_bytes({spec.y_format, {}}, work.rows, cols);
      return {w + y, w + y};
    }
    case Op::kMatvec:
    case Op::kMatmul:
    case Op::kMoeMatvec:
    case Op::kMoeMatmul:
      return product_bytes(work);
    case Op::kQuantize: {
      const std::size_t x = file_bytes({spec.x_format, {}}, work.rows, cols);
      return {x + w, x + w};
    }
    case Op::kPrepare:
    case Op::kRestore:
    case Op::kNanScan:
    case Op::kReadTest:
      break;
  }
  throw SpecError("op", op_name(spec.op),
                  "dequant, matvec, moe_matvec, matmul, moe_matmul, quantize");
}

std::unique_ptr<BenchOperands> make_bench_operands(runtime::Device& device, runtime::Stream& stream,
                                                   const BenchWork& work, int copies,
                                                   const LoadedKernel* prepare) {
  bench_bytes(work);  // refuses ops and shapes
  std::unique_ptr<BenchOperands> operands;
  if (work.spec.op == Op::kDequant) {
    operands = std::make_unique<DequantOperands>(device, stream, work, copies, prepare);
  } else if (work.spec.op == Op::kQuantize) {
    operands = std::make_unique<QuantizeOperands>(device, stream, work, copies);
  } else {
    operands = make_product_operands(device, stream, work, copies, prepare);
  }
  stream.synchronize();
  return operands;
}

}  // namespace ktjit
