// Plan, load all kernels, then tensor by tensor: upload, launch, time, check.
#include "jit/model_runner.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "core/missing_kernel_error.h"
#include "jit/reference_ops.h"
#include "jit/row_sample.h"

namespace ktjit {
namespace {

constexpr int kTimedLaunches = 3;
constexpr std::int64_t kMaxCheckedElements = std::int64_t{1} << 21;  // of one tensor, per op
constexpr std::size_t kMaxPieceBytes = std::size_t{1} << 30;         // of w and y together
constexpr std::byte kPoison{0xff};                                   // four of them are a NaN
constexpr std::int64_t kMatmulColumns = 32;  // rows of x that matmul runs with

double ms_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

ScaledTensorView view_of(const model::TensorInfo& tensor) {
  return {tensor.format, tensor.rows(),     tensor.cols(),
          tensor.data,   tensor.scale_grid, tensor.scale_data};
}

/// A range of a tensor's rows that goes through the device at once.
struct Piece {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

/// Cuts a tensor so that weights and decoded values of a piece fit the device; pieces begin at a
/// scale block.
std::vector<Piece> cut_into_pieces(const model::TensorInfo& tensor, const runtime::Device& device) {
  const std::size_t budget =
      std::max<std::size_t>(1, std::min(kMaxPieceBytes, device.free_memory_bytes() / 2));
  const std::size_t bytes_per_row = model::row_bytes(tensor.format, tensor.cols()) +
                                    static_cast<std::size_t>(tensor.cols()) * sizeof(float);
  std::int64_t rows_per_piece =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(budget / bytes_per_row));
  if (tensor.scale_grid && tensor.scale_grid->block_rows > 1) {
    const std::int64_t block = tensor.scale_grid->block_rows;
    rows_per_piece = std::max(block, rows_per_piece / block * block);
  }
  std::vector<Piece> pieces;
  for (std::int64_t row = 0; row < tensor.rows(); row += rows_per_piece) {
    pieces.push_back({row, std::min(rows_per_piece, tensor.rows() - row)});
  }
  return pieces;
}

/// Weights and scales of one piece, on the device.
class PieceOnDevice {
 public:
  PieceOnDevice(runtime::Device& device, runtime::Stream& stream, const model::TensorInfo& tensor,
                const Piece& piece) {
    const std::size_t row_size = model::row_bytes(tensor.format, tensor.cols());
    weights_ = runtime::place_on_device(
        device, stream,
        tensor.data.subspan(static_cast<std::size_t>(piece.first_row) * row_size,
                            static_cast<std::size_t>(piece.rows) * row_size));
    arguments_ = {weights_->address()};
    if (!tensor.scale_grid) return;
    const ScaleGrid& grid = *tensor.scale_grid;
    const std::size_t scale_row_size =
        static_cast<std::size_t>(grid.cols_of_scales(tensor.cols())) *
        static_cast<std::size_t>(scale_type_bytes(grid.type));
    const std::int64_t first = grid.block_rows == 0 ? 0 : piece.first_row / grid.block_rows;
    // Of the tensor's scale, which some planes begin with, each piece has its copy.
    const auto header = static_cast<std::size_t>(grid.header_bytes());
    const std::span<const std::byte> scales = tensor.scale_data.subspan(
        header + static_cast<std::size_t>(first) * scale_row_size,
        static_cast<std::size_t>(grid.rows_of_scales(piece.rows)) * scale_row_size);
    if (header == 0) {
      scale_ = runtime::place_on_device(device, stream, scales);
    } else {
      scale_ = device.allocate(header + scales.size());
      device.upload(stream, tensor.scale_data.first(header), *scale_, 0);
      device.upload(stream, scales, *scale_, header);
    }
    arguments_.push_back(scale_->address());
  }

  const runtime::Buffer& weights() const { return *weights_; }

  /// The launch arguments: those of the weights, then `more`.
  std::vector<std::uint64_t> arguments(std::initializer_list<std::uint64_t> more) const {
    std::vector<std::uint64_t> all = arguments_;
    all.insert(all.end(), more);
    return all;
  }

 private:
  std::unique_ptr<runtime::Buffer> weights_;
  std::unique_ptr<runtime::Buffer> scale_;
  std::vector<std::uint64_t> arguments_;
};

/// Median time of several launches, after one that warms up.
double median_time_us(runtime::Device& device, runtime::Stream& stream,
                      const std::function<void()>& launch) {
  launch();
  stream.synchronize();
  std::vector<double> times;
  for (int i = 0; i < kTimedLaunches; ++i) times.push_back(device.time_us(stream, launch));
  std::nth_element(times.begin(), times.begin() + kTimedLaunches / 2, times.end());
  return times[kTimedLaunches / 2];
}

/// Collects differences of one kernel's results from the reference.
class ErrorMeter {
 public:
  void add(double got, double want, bool is_right, std::int64_t row, std::int64_t col) {
    const double error =
        got == want || (std::isnan(got) && std::isnan(want)) ? 0.0 : std::abs(got - want);
    max_error_ =
        std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(max_error_, error);
    if (std::isfinite(want)) max_want_ = std::max(max_want_, std::abs(want));
    if (is_right || !problem_.empty()) return;
    problem_ = fmt::format("y[{}, {}] is {:a} ({:#010x}), expected {:a}", row, col, got,
                           std::bit_cast<std::uint32_t>(static_cast<float>(got)), want);
  }

  void write_to(KernelRun& run) const {
    run.max_abs_err = max_error_;
    run.max_rel_err = max_want_ > 0 ? max_error_ / max_want_ : max_error_;
    run.problem = problem_;
    run.ok = problem_.empty() && run.rows_checked > 0;
  }

 private:
  double max_error_ = 0.0;
  double max_want_ = 0.0;
  std::string problem_;
};

/// One kernel's results over all pieces of a tensor.
struct Measured {
  KernelRun run;
  ErrorMeter meter;
};

/// The kernels of a group of tensors, of the plan's. Formats that only dequant reads have no products.
struct GroupKernels {
  const LoadedKernel* dequant = nullptr;
  const LoadedKernel* matvec = nullptr;
  const LoadedKernel* matmul = nullptr;
};

/// The kernels for any weights, and for formats with NaN codes the scan for them and the kernels for
/// weights that it found finite.
struct GroupChoice {
  GroupKernels any;
  const LoadedKernel* nan_scan = nullptr;
  GroupKernels finite;
};

GroupChoice choice_of(std::span<const LoadedKernel> kernels) {
  GroupChoice choice;
  for (const LoadedKernel& kernel : kernels) {
    const KernelSpec& spec = kernel.built.spec;
    GroupKernels& set = spec.weights_finite ? choice.finite : choice.any;
    switch (spec.op) {
      case Op::kDequant:
        set.dequant = &kernel;
        break;
      case Op::kMatvec:
        set.matvec = &kernel;
        break;
      case Op::kMatmul:
        set.matmul = &kernel;
        break;
      case Op::kNanScan:
        choice.nan_scan = &kernel;
        break;
      case Op::kQuantize:
      case Op::kReadTest:
        KTJIT_UNREACHABLE("an op that a plan has");
    }
  }
  return choice;
}

class TensorRunner {
 public:
  TensorRunner(runtime::Device& device, const model::TensorInfo& tensor)
      : device_(device),
        tensor_(tensor),
        stream_(device.make_stream()),
        pieces_(cut_into_pieces(tensor, device)),
        max_checked_elements_(std::max<std::int64_t>(
            1, kMaxCheckedElements / static_cast<std::int64_t>(pieces_.size()))) {}

  /// Runs dequant, matvec and matmul, as far as the group has them, on each piece while it is on the
  /// device.
  std::vector<KernelRun> run(const GroupChoice& choice) {
    const bool is_scanned = choice.nan_scan != nullptr;
    const bool has_nans = is_scanned && find_nans(*choice.nan_scan);
    const GroupKernels& kernels = is_scanned && !has_nans ? choice.finite : choice.any;
    struct Product {
      const LoadedKernel* kernel;
      std::int64_t n;  // rows of x
      Measured measured;
    };
    std::vector<Product> products;
    for (const auto& [kernel, n] :
         {std::pair{kernels.matvec, std::int64_t{1}}, std::pair{kernels.matmul, kMatmulColumns}}) {
      if (kernel != nullptr) products.push_back({kernel, n, begin(*kernel, has_nans)});
    }
    Measured decoded = begin(*kernels.dequant, has_nans);
    std::vector<float> x;
    std::unique_ptr<runtime::Buffer> x_buffer;
    if (!products.empty()) {
      x = make_x(kMatmulColumns);
      x_buffer = device_.allocate(x.size() * sizeof(float));
      device_.upload(*stream_, std::as_bytes(std::span(x)), *x_buffer, 0);
    }
    for (const Piece& piece : pieces_) {
      const PieceOnDevice w(device_, *stream_, tensor_, piece);
      run_dequant(*kernels.dequant, piece, w, decoded);
      for (Product& product : products)
        run_product(*product.kernel, product.n, piece, w, x, *x_buffer, product.measured);
    }
    const double weight_bytes = static_cast<double>(tensor_.bytes());
    const double decoded_bytes =
        static_cast<double>(tensor_.elements()) * static_cast<double>(sizeof(float));
    std::vector<KernelRun> runs = {end(decoded, weight_bytes + decoded_bytes)};
    for (Product& product : products) runs.push_back(end(product.measured, weight_bytes));
    return runs;
  }

 private:
  /// Whether any code of the tensor is a NaN, by the device.
  bool find_nans(const LoadedKernel& nan_scan) {
    const auto found = device_.allocate(sizeof(std::uint32_t));
    device_.fill(*stream_, *found, std::byte{0});
    for (const Piece& piece : pieces_) {
      const PieceOnDevice w(device_, *stream_, tensor_, piece);
      const std::uint64_t arguments[] = {w.weights().address(), found->address(),
                                         static_cast<std::uint64_t>(piece.rows)};
      nan_scan.launch(*stream_, piece.rows, arguments);
      stream_->synchronize();  // before the piece is freed
    }
    std::uint32_t result = 0;
    device_.download(*stream_, *found, 0, std::as_writable_bytes(std::span(&result, 1)));
    stream_->synchronize();
    return result != 0;
  }

  void run_dequant(const LoadedKernel& kernel, const Piece& piece, const PieceOnDevice& w,
                   Measured& measured) {
    const std::size_t cols = static_cast<std::size_t>(tensor_.cols());
    const auto y = device_.allocate(static_cast<std::size_t>(piece.rows) * cols * sizeof(float));
    device_.fill(*stream_, *y, kPoison);
    const auto arguments = w.arguments({y->address(), static_cast<std::uint64_t>(piece.rows)});
    measured.run.time_us +=
        median_time_us(device_, *stream_, [&] { kernel.launch(*stream_, piece.rows, arguments); });

    std::vector<float> got(cols), want(cols);
    for (std::int64_t row : sample_rows(piece.rows, tensor_.cols(), max_checked_elements_)) {
      device_.download(*stream_, *y, static_cast<std::size_t>(row) * cols * sizeof(float),
                       std::as_writable_bytes(std::span(got)));
      stream_->synchronize();
      decode_rows(view_of(tensor_), piece.first_row + row, 1, want);
      const bool row_is_right = compare_bits(got, want).equal();
      for (std::size_t c = 0; c < cols; ++c) {
        const bool is_right = row_is_right || compare_bits({&got[c], 1}, {&want[c], 1}).equal();
        measured.meter.add(got[c], want[c], is_right, piece.first_row + row,
                           static_cast<std::int64_t>(c));
      }
      ++measured.run.rows_checked;
    }
  }

  /// matvec or matmul with the first n rows of x.
  void run_product(const LoadedKernel& kernel, std::int64_t n, const Piece& piece,
                   const PieceOnDevice& w, std::span<const float> x,
                   const runtime::Buffer& x_buffer, Measured& measured) {
    std::vector<float> got(static_cast<std::size_t>(n * piece.rows));
    const auto y = device_.allocate(got.size() * sizeof(float));
    device_.fill(*stream_, *y, kPoison);
    const auto arguments =
        w.arguments({x_buffer.address(), y->address(), static_cast<std::uint64_t>(piece.rows),
                     static_cast<std::uint64_t>(n)});
    measured.run.time_us += median_time_us(
        device_, *stream_, [&] { kernel.launch(*stream_, piece.rows, arguments, n); });
    device_.download(*stream_, *y, 0, std::as_writable_bytes(std::span(got)));
    stream_->synchronize();

    const auto x_used = x.first(static_cast<std::size_t>(n * tensor_.cols()));
    std::vector<double> want(static_cast<std::size_t>(n)), sum_of_magnitudes(want.size());
    for (std::int64_t row : sample_rows(piece.rows, n * tensor_.cols(), max_checked_elements_)) {
      matvec_reference(view_of(tensor_), x_used, static_cast<int>(n), piece.first_row + row, 1,
                       want, sum_of_magnitudes);
      for (std::int64_t j = 0; j < n; ++j) {
        const std::size_t at = static_cast<std::size_t>(j);
        const double y_row = got[static_cast<std::size_t>(j * piece.rows + row)];
        const bool is_right = is_right_product(tensor_.cols(), FormatId::kF32, y_row, want[at],
                                               sum_of_magnitudes[at]);
        measured.meter.add(y_row, want[at], is_right, j, piece.first_row + row);
      }
      ++measured.run.rows_checked;
    }
  }

  /// [n, cols]
  std::vector<float> make_x(std::int64_t n) const {
    std::vector<float> x(static_cast<std::size_t>(n * tensor_.cols()));
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i + 1)));
    return x;
  }

  Measured begin(const LoadedKernel& kernel, bool has_nans) const {
    Measured measured;
    KernelRun& run = measured.run;
    run.tensor = tensor_.name;
    run.op = kernel.built.spec.op;
    run.format = tensor_.format;
    run.scale = tensor_.scale_grid;
    run.rows = tensor_.rows();
    run.cols = tensor_.cols();
    run.lowering = kernel.built.emitted.lowering.summary;
    if (has_nans) run.lowering += ", has NaN or infinite codes (scanned)";
    run.cached = kernel.built.from_cache();
    run.compile_ms = run.cached ? 0.0 : kernel.built.artifact.compile_ms;
    return measured;
  }

  KernelRun end(Measured& measured, double bytes_moved) const {
    KernelRun& run = measured.run;
    run.gbps = run.time_us > 0 ? bytes_moved / run.time_us / 1e3 : 0.0;
    run.fits_in_cache = bytes_moved < 2.0 * static_cast<double>(device_.last_level_cache_bytes());
    measured.meter.write_to(run);
    return run;
  }

  runtime::Device& device_;
  const model::TensorInfo& tensor_;
  std::unique_ptr<runtime::Stream> stream_;
  std::vector<Piece> pieces_;
  std::int64_t max_checked_elements_;  // of one piece, per op
};

}  // namespace

namespace {

/// The read test as the device's own code; sealed, as code of the model's target; if it is in no pack
/// either, nothing.
std::optional<LoadedKernel> load_read_test(Engine& engine, runtime::Device& device,
                                           const Target& target) {
  for (const Target* choice : {&device.native_target(), &target}) {
    try {
      return engine.load(device, make_read_test_spec(*choice));
    } catch (const MissingKernelError&) {
      // What is compared with it is not shown then.
    }
  }
  return std::nullopt;
}

}  // namespace

double measure_read_gbps(Engine& engine, runtime::Device& device, const Target& target) {
  constexpr int kPasses = 5;
  const std::optional<LoadedKernel> kernel = load_read_test(engine, device, target);
  if (!kernel) return 0.0;

  const std::size_t at_least = 8 * device.last_level_cache_bytes();
  const std::size_t wanted = std::clamp(at_least, std::size_t{256} << 20, std::size_t{1} << 30);
  const std::int64_t rows = static_cast<std::int64_t>(
      std::min(wanted, device.free_memory_bytes() / 2) / kReadTestRowBytes);
  if (rows < 1) return 0.0;
  const std::size_t bytes = static_cast<std::size_t>(rows) * kReadTestRowBytes;
  const auto stream = device.make_stream();
  const auto w = device.allocate(bytes);
  const auto y = device.allocate(static_cast<std::size_t>(rows) * sizeof(std::uint32_t));
  device.fill(*stream, *w, std::byte{0x5a});
  device.fill(*stream, *y, std::byte{0});
  double best_us = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < kPasses; ++pass) {
    const std::uint64_t arguments[] = {w->address(), y->address(),
                                       static_cast<std::uint64_t>(rows)};
    best_us = std::min(best_us,
                       device.time_us(*stream, [&] { kernel->launch(*stream, rows, arguments); }));
  }
  return static_cast<double>(bytes) / best_us / 1e3;
}

RunReport run_model(Engine& engine, runtime::Device& device, const Target& target,
                    const model::Model& model, const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  RunReport report;
  report.device = device.name();
  report.device_description = device.description();
  report.target = target.name();
  report.route = engine.describe_route(device, target);
  Plan plan = make_plan(model, target);
  report.skipped = std::move(plan.skipped);

  const std::vector<KernelSpec> specs = plan.all_kernels();
  std::vector<LoadedKernel> kernels;
  try {
    kernels =
        engine.load_all(device, specs, options.compile_threads, options.on_kernel, options.stop);
  } catch (const InterruptedError&) {
    report.interrupted = true;
    return report;
  }
  report.ready_ms = ms_since(start);
  for (const LoadedKernel& kernel : kernels)
    ++(kernel.built.from_cache() ? report.cache_hits : report.compiled);

  struct Work {
    const model::TensorInfo* tensor;
    GroupChoice kernels;
  };
  std::vector<Work> work;
  std::size_t first_kernel = 0;
  for (const TensorGroup& group : plan.groups) {
    const GroupChoice choice =
        choice_of(std::span(kernels).subspan(first_kernel, group.kernels.size()));
    first_kernel += group.kernels.size();
    const std::size_t count = options.all_tensors ? group.tensors.size() : 1;
    for (std::size_t t = 0; t < count; ++t) work.push_back({group.tensors[t], choice});
  }
  if (!work.empty()) report.read_gbps = measure_read_gbps(engine, device, target);

  for (std::size_t i = 0; i < work.size(); ++i) {
    if (options.stop.stop_requested()) {
      report.interrupted = true;
      break;
    }
    TensorRunner runner(device, *work[i].tensor);
    for (KernelRun& run : runner.run(work[i].kernels)) {
      report.kernels.push_back(std::move(run));
    }
    if (options.on_tensor) options.on_tensor(i + 1, work.size(), work[i].tensor->name);
  }
  report.ok = !report.kernels.empty() && !report.interrupted &&
              std::all_of(report.kernels.begin(), report.kernels.end(),
                          [](const KernelRun& run) { return run.ok; });
  return report;
}

}  // namespace ktjit
