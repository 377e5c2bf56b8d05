// The operands and times of `ktjit bench`, for the candidates of one kernel.
#include "jit/tuning_bench.h"

#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/bench_operands.h"
#include "jit/bench_runner.h"
#include "runtime/cuda_device.h"

namespace ktjit {
namespace {

constexpr int kSamples = 9;
constexpr std::size_t kCachesOfData = 4;  // so that little of a pass's data is left from the last
constexpr std::size_t kOneCopy = 1;       // where times decide nothing: knobs are GPUs'

void check_request(const BenchWork& work) {
  if (work.rows < 1) throw SpecError("rows", fmt::format("{}", work.rows), "1 and more");
  const bool is_matvec = work.spec.op == Op::kMatvec;
  if (work.n < 1 || (is_matvec && work.n > work.spec.x_columns)) {
    throw SpecError(
        "n", fmt::format("{}", work.n),
        is_matvec ? fmt::format("1 to {}", work.spec.x_columns) : std::string("1 and more"));
  }
}

class Bench {
 public:
  Bench(Engine& engine, runtime::Device& device, const BenchWork& work)
      : device_(device), work_(work) {
    check_request(work);
    const bool is_gpu = dynamic_cast<runtime::CudaDevice*>(&device) != nullptr;
    const std::size_t cache_bytes = device.last_level_cache_bytes();
    settings_.samples = kSamples;
    settings_.data_bytes = is_gpu ? kCachesOfData * cache_bytes : kOneCopy;
    copies_ = bench_copies(bench_bytes(work).copy, settings_.data_bytes, cache_bytes,
                           device.free_memory_bytes());
    std::optional<LoadedKernel> prepare;
    if (const auto spec = prepare_spec_of(work.spec)) prepare = engine.load(device, *spec);
    stream_ = device.make_stream();
    operands_ = make_bench_operands(device, *stream_, work, copies_, prepare ? &*prepare : nullptr);
  }

  Measurement measure(const LoadedKernel& kernel) {
    const BenchLaunch launch{&kernel, &work_, operands_.get(), copies_};
    const BenchTimes times = time_launches(device_, *stream_, {&launch, 1}, settings_);
    Measurement result;
    result.median_us = times.median_us();
    if (result.median_us <= 0) return result;
    std::vector<double> sorted = times.samples_us;
    std::sort(sorted.begin(), sorted.end());
    result.spread = (sorted[3 * kSamples / 4] - sorted[kSamples / 4]) / result.median_us;
    result.gbps = static_cast<double>(bench_bytes(work_).streamed) / result.median_us / 1e3;
    return result;
  }

  std::string check(const LoadedKernel& kernel) {
    operands_->poison(*stream_, 0);
    kernel.launch(*stream_, work_.all_rows(), operands_->arguments(0), work_.n);
    const BenchCheck check = operands_->check(*stream_, 0);
    KTJIT_CHECK(check.rows_checked > 0);
    return check.problem;
  }

 private:
  runtime::Device& device_;
  BenchWork work_;
  BenchSettings settings_;
  int copies_ = 1;
  std::unique_ptr<runtime::Stream> stream_;
  std::unique_ptr<BenchOperands> operands_;
};

}  // namespace

bool can_bench(const KernelSpec& spec, std::string* reason) {
  const auto no = [&](std::string_view why) {
    if (reason != nullptr) *reason = why;
    return false;
  };
  if (spec.op != Op::kDequant && !is_product(spec.op)) return no("dequant, matvec or matmul");
  if (spec.activation != ActivationPolicy::kA16) return no("a16 activations");
  if (has_experts(spec.op) || is_fused(spec)) return no("one matrix, without gate or residual");
  return true;
}

KernelBench make_tuning_bench(Engine& engine, runtime::Device& device, const KernelSpec& spec,
                              const TuningSize& size) {
  std::string reason;
  if (!can_bench(spec, &reason)) throw SpecError("kernel", kernel_name(spec), reason);
  return make_work_bench(engine, device, {spec, size.rows, is_product(spec.op) ? size.n : 1});
}

KernelBench make_work_bench(Engine& engine, runtime::Device& device, const BenchWork& work) {
  const auto bench = std::make_shared<Bench>(engine, device, work);
  return {[bench](const LoadedKernel& kernel) { return bench->measure(kernel); },
          [bench](const LoadedKernel& kernel) { return bench->check(kernel); }};
}

}  // namespace ktjit
