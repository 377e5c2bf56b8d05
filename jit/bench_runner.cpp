// Operands on the device, a first checked launch, timed replays, a check of what the last of them left.
#include "jit/bench_runner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <utility>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "core/missing_kernel_error.h"
#include "core/prepared_layout.h"
#include "jit/model_runner.h"
#include "runtime/cuda_device.h"
#include "runtime/cuda_graph.h"

namespace ktjit {
namespace {

constexpr std::size_t kDataBytes = std::size_t{1} << 30;
constexpr std::size_t kCachesOfData =
    4;                                 // data of fewer last-level caches is partly read from there
constexpr double kMinSampleUs = 2000;  // the cost of starting a replay is a few us
constexpr int kMaxLaunchesPerSample = 4096;
constexpr double kWarmUpUs = 50000;  // clocks rise within milliseconds of work
constexpr int kMaxWarmUps = 20;

/// Whether times measured there mean anything.
bool has_meaningful_times(const runtime::Device& device) { return device.name() != "sim"; }

/// All launches of one sample, queued again and again with one call.
class Replay {
 public:
  Replay(runtime::Device& device, runtime::Stream& stream, std::function<void()> enqueue,
         bool use_graph)
      : device_(device), stream_(stream), enqueue_(std::move(enqueue)) {
    const bool has_graphs = dynamic_cast<runtime::CudaDevice*>(&device) != nullptr;
    if (use_graph && has_graphs) graph_.emplace(runtime::CudaGraph::capture(stream, enqueue_));
  }

  bool in_graph() const { return graph_.has_value(); }

  /// Runs it to its end; the time by the device's clock.
  double time_us() {
    const double us = device_.time_us(stream_, [this] {
      if (graph_) {
        graph_->launch(stream_);
      } else {
        enqueue_();
      }
    });
    stream_.synchronize();
    return us;
  }

 private:
  runtime::Device& device_;
  runtime::Stream& stream_;
  std::function<void()> enqueue_;
  std::optional<runtime::CudaGraph> graph_;
};

std::size_t wanted_bytes(const runtime::Device& device, const BenchSettings& settings) {
  if (settings.data_bytes > 0) return settings.data_bytes;
  return std::max(kDataBytes, kCachesOfData * device.last_level_cache_bytes());
}

/// How many copies of a work's operands are walked over, if they share `data_bytes` with others.
int copies_for(const runtime::Device& device, const BenchBytes& bytes, std::size_t data_bytes) {
  return bench_copies(bytes.copy, data_bytes, device.last_level_cache_bytes(),
                      device.free_memory_bytes());
}

double gbps_of(std::size_t bytes, const BenchTimes& times) {
  const double median_us = times.median_us();
  KTJIT_CHECK(median_us > 0);
  return static_cast<double>(bytes) / median_us / 1e3;
}

/// `prepare`: of prepare_spec_of, where that names a kernel. REQUIRES: bench_bytes accepts the work.
void measure_work(runtime::Device& device, const LoadedKernel& kernel, const LoadedKernel* prepare,
                  const BenchSettings& settings, BenchResult& result) {
  const BenchWork& work = result.work;
  result.kernel = kernel.built.emitted.entry_name;
  result.lowering = kernel.built.emitted.lowering.summary;
  result.cached = kernel.built.from_cache();
  result.compile_ms = result.cached ? 0.0 : kernel.built.artifact.compile_ms;
  result.resources = kernel.kernel->resources();

  const BenchBytes bytes = bench_bytes(work);
  result.copies = copies_for(device, bytes, wanted_bytes(device, settings));
  result.data_bytes = bytes.copy * static_cast<std::size_t>(result.copies);
  result.streamed_bytes = bytes.streamed;
  result.fits_in_cache = bytes.streamed * static_cast<std::size_t>(result.copies) <
                         2 * device.last_level_cache_bytes();

  const auto stream = device.make_stream();
  const auto operands = make_bench_operands(device, *stream, work, result.copies, prepare);
  operands->poison(*stream, 0);
  kernel.launch(*stream, work.all_rows(), operands->arguments(0), work.n);
  result.first = operands->check(*stream, 0);
  const BenchLaunch launch{&kernel, &work, operands.get(), result.copies};
  result.times = time_launches(device, *stream, {&launch, 1}, settings);
  result.last = operands->check(*stream, result.copies - 1);
  result.gbps = gbps_of(bytes.streamed, result.times);
  if (is_matmul(work.spec.op)) {
    result.tflops = 2.0 * weight_matrices(work.spec) * static_cast<double>(work.rows) *
                    static_cast<double>(work.spec.layout.cols) * static_cast<double>(work.n) /
                    result.times.median_us() / 1e6;
  }
}

/// What a work is run with.
struct WorkKernels {
  LoadedKernel kernel;
  std::optional<LoadedKernel> prepare;
};

WorkKernels load(Engine& engine, runtime::Device& device, const BenchWork& work,
                 const std::stop_token& stop) {
  WorkKernels kernels;
  kernels.kernel = engine.load(device, work.spec, stop);
  if (const auto prepare = prepare_spec_of(work.spec))
    kernels.prepare = engine.load(device, *prepare, stop);
  return kernels;
}

/// The kernels of all works, in their order, compiled side by side; where one of them can't be had, none, and
/// each is asked for alone.
std::vector<WorkKernels> try_load_all(Engine& engine, runtime::Device& device,
                                      std::span<const BenchWork> works,
                                      const BenchSettings& settings,
                                      const BenchCallbacks& callbacks) {
  std::vector<KernelSpec> specs;
  for (const BenchWork& work : works) {
    specs.push_back(work.spec);
    if (const auto prepare = prepare_spec_of(work.spec)) specs.push_back(*prepare);
  }
  std::vector<LoadedKernel> loaded;
  try {
    loaded = engine.load_all(device, specs, callbacks.compile_threads, callbacks.on_kernel,
                             settings.stop);
  } catch (const CompileError&) {
    return {};
  } catch (const DriverError&) {
    return {};
  }
  std::vector<WorkKernels> kernels;
  auto next = loaded.begin();
  for (const BenchWork& work : works) {
    WorkKernels& of = kernels.emplace_back();
    of.kernel = *next++;
    if (prepare_spec_of(work.spec)) of.prepare = *next++;
  }
  return kernels;
}

BenchSequence measure_in_turn(Engine& engine, runtime::Device& device,
                              std::span<const BenchWork> works, const BenchSettings& settings) {
  BenchSequence sequence;
  const std::size_t data_bytes = wanted_bytes(device, settings) / works.size();
  const auto stream = device.make_stream();
  std::vector<WorkKernels> kernels;  // all that launches point to is there before the first one
  std::vector<std::unique_ptr<BenchOperands>> operands;
  std::vector<int> copies;
  std::size_t walked_bytes = 0;
  for (const BenchWork& work : works) {
    const BenchBytes bytes = bench_bytes(work);
    copies.push_back(copies_for(device, bytes, data_bytes));
    sequence.rounds = std::max(sequence.rounds, copies.back());
    sequence.streamed_bytes += bytes.streamed;
    walked_bytes += bytes.streamed * static_cast<std::size_t>(copies.back());
    kernels.push_back(load(engine, device, work, settings.stop));
    const auto& prepare = kernels.back().prepare;
    operands.push_back(
        make_bench_operands(device, *stream, work, copies.back(), prepare ? &*prepare : nullptr));
  }
  sequence.fits_in_cache = walked_bytes < 2 * device.last_level_cache_bytes();
  std::vector<BenchLaunch> launches;
  for (std::size_t i = 0; i < works.size(); ++i)
    launches.push_back({&kernels[i].kernel, &works[i], operands[i].get(), copies[i]});
  sequence.times = time_launches(device, *stream, launches, settings);
  for (std::size_t i = 0; i < works.size(); ++i)
    sequence.last.push_back(operands[i]->check(*stream, copies[i] - 1));
  sequence.gbps = gbps_of(sequence.streamed_bytes, sequence.times);
  return sequence;
}

void check_works(std::span<const BenchWork> works, const BenchSettings& settings) {
  if (settings.samples < 1)
    throw SpecError("samples", fmt::format("{}", settings.samples), "1 and more");
  for (const BenchWork& work : works) {
    validate(work.spec);
    bench_bytes(work);
    if (work.n < 1 || (work.spec.op == Op::kMatvec && work.n > work.spec.x_columns))
      throw SpecError("n", fmt::format("{}", work.n), "1 to the spec's x_columns");
  }
}

}  // namespace

double BenchTimes::median_us() const {
  std::vector<double> sorted = samples_us;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
double BenchTimes::min_us() const {
  return *std::min_element(samples_us.begin(), samples_us.end());
}
double BenchTimes::max_us() const {
  return *std::max_element(samples_us.begin(), samples_us.end());
}

bool BenchSequence::ok() const {
  return not_run.empty() && !last.empty() &&
         std::all_of(last.begin(), last.end(), [](const BenchCheck& check) { return check.ok(); });
}

bool BenchReport::ok() const {
  return !results.empty() && !interrupted && (!in_turn || in_turn->ok()) &&
         std::all_of(results.begin(), results.end(),
                     [](const BenchResult& result) { return result.ok(); });
}

BenchTimes time_launches(runtime::Device& device, runtime::Stream& stream,
                         std::span<const BenchLaunch> launches, const BenchSettings& settings) {
  int rounds = 0;
  std::vector<std::vector<std::int64_t>> rows;
  for (const BenchLaunch& launch : launches) {
    rounds = std::max(rounds, launch.copies);
    rows.push_back(launch.work->all_rows());
  }
  const auto enqueue_passes = [&](int passes) {
    for (int pass = 0; pass < passes; ++pass) {
      for (int round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < launches.size(); ++i) {
          const BenchLaunch& launch = launches[i];
          launch.kernel->launch(stream, rows[i], launch.operands->arguments(round % launch.copies),
                                launch.work->n);
        }
      }
    }
  };
  const double pass_us = device.time_us(stream, [&] { enqueue_passes(1); });
  stream.synchronize();
  const int most =
      std::max(1, kMaxLaunchesPerSample / (rounds * static_cast<int>(launches.size())));
  const int passes =
      std::clamp(static_cast<int>(std::ceil(kMinSampleUs / std::max(pass_us, 1.0))), 1, most);
  Replay replay(device, stream, [&] { enqueue_passes(passes); }, settings.use_graph);

  double warm_us = 0;
  for (int i = 0; i < kMaxWarmUps && warm_us < kWarmUpUs; ++i) warm_us += replay.time_us();
  BenchTimes times;
  times.launches_per_sample = passes * rounds * static_cast<int>(launches.size());
  times.in_graph = replay.in_graph();
  for (int sample = 0; sample < settings.samples; ++sample) {
    if (sample == settings.samples - 1) {
      for (const BenchLaunch& launch : launches) launch.operands->poison(stream, launch.copies - 1);
      stream.synchronize();
    }
    times.samples_us.push_back(replay.time_us() / (passes * rounds));
  }
  return times;
}

int bench_copies(std::size_t copy_bytes, std::size_t data_bytes, std::size_t cache_bytes,
                 std::size_t free_bytes) {
  const auto copies_of = [&](std::size_t bytes) { return (bytes + copy_bytes - 1) / copy_bytes; };
  std::size_t copies = std::min<std::size_t>(copies_of(data_bytes), BenchSettings::kMaxCopies);
  copies =
      std::max(copies, std::min(copies_of(kCachesOfData * cache_bytes), copies_of(data_bytes)));
  copies = std::min(copies, free_bytes / 2 / copy_bytes);
  return static_cast<int>(std::clamp<std::size_t>(copies, 1, kMaxLaunchesPerSample));
}

BenchReport run_bench(Engine& engine, runtime::Device& device, std::span<const BenchWork> works,
                      const BenchSettings& settings, const BenchCallbacks& callbacks) {
  check_works(works, settings);
  BenchReport report;
  try {
    const std::vector<WorkKernels> kernels =
        try_load_all(engine, device, works, settings, callbacks);
    if (!works.empty() && has_meaningful_times(device))
      report.read_gbps = measure_read_gbps(engine, device, works.front().spec.target);
    for (std::size_t i = 0; i < works.size(); ++i) {
      if (settings.stop.stop_requested()) {
        report.interrupted = true;
        break;
      }
      BenchResult& result = report.results.emplace_back();
      result.work = works[i];
      try {
        const WorkKernels own =
            kernels.empty() ? load(engine, device, works[i], settings.stop) : kernels[i];
        measure_work(device, own.kernel, own.prepare ? &*own.prepare : nullptr, settings, result);
      } catch (const CompileError& error) {
        result.not_run = error.what();
      } catch (const DriverError& error) {
        result.not_run = error.what();
      }
      if (callbacks.on_result) callbacks.on_result(i + 1, works.size(), result);
    }
    if (settings.in_turn && !report.interrupted) {
      report.in_turn.emplace();
      try {
        report.in_turn = measure_in_turn(engine, device, works, settings);
      } catch (const CompileError& error) {
        report.in_turn->not_run = error.what();
      } catch (const DriverError& error) {
        report.in_turn->not_run = error.what();
      }
    }
  } catch (const InterruptedError&) {
    report.interrupted = true;
  }
  return report;
}

}  // namespace ktjit
