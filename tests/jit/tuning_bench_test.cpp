// The tuner's own data and check, on the CPU and the simulator: right kernels pass, wrong ones don't.
#include "jit/tuning_bench.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "jit/reference_ops.h"
#include "jit/toolchain.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

struct RealBench {
  Toolchain toolchain{[] {
                        Options options;
                        options.cache_enabled = false;
                        options.worker = KTJIT_WORKER_PATH;
                        return options;
                      }(),
                      [](std::string_view) {}};
};

}  // namespace

TEST_CASE("the check passes right kernels on the CPU and refuses those of other weights") {
  RealBench real;
  const auto device = real.toolchain.open_device("cpu");
  Engine& engine = real.toolchain.engine();
  const Target target = device->native_target();
  for (const char* format : {"q4_K", "bf16", "mxfp4"}) {
    for (const Op op : {Op::kDequant, Op::kMatvec, Op::kMatmul}) {
      const KernelSpec spec = test::make_spec(op, format, 512, target);
      const TuningSize size{77, op == Op::kMatmul ? 5 : op == Op::kMatvec ? 1 : 0};
      const KernelBench bench = make_tuning_bench(engine, *device, spec, size);
      INFO(format << " " << op_name(op));
      const LoadedKernel kernel = engine.load(*device, spec);
      CHECK(bench.check(kernel).empty());
      const Measurement measured = bench.measure(kernel);
      CHECK(measured.median_us > 0);
      CHECK(measured.gbps > 0);
    }
  }
  // A kernel of the same arguments that computes something else.
  const KernelSpec q4_0 = test::make_spec(Op::kMatvec, "q4_0", 512, target);
  const KernelSpec iq4_nl = test::make_spec(Op::kMatvec, "iq4_nl", 512, target);
  const KernelBench bench = make_tuning_bench(engine, *device, q4_0, {64, 1});
  CHECK_THAT(bench.check(engine.load(*device, iq4_nl)), Catch::Contains("expected"));
}

TEST_CASE("a kernel is tuned on the simulator from candidates to knobs in use") {
  RealBench real;
  const auto device = real.toolchain.open_device("sim");
  Engine& engine = real.toolchain.engine();
  const KernelSpec spec = test::make_spec(Op::kMatvec, "q4_K", 512, make_cuda_target(86));
  const TuningSize size{33, 1};
  TunerOptions options;
  const TuneResult result = tune_kernel(
      engine, *device, spec, size,
      [&](const KernelSpec& of, const TuningSize& at) {
        return make_tuning_bench(engine, *device, of, at);
      },
      options);
  REQUIRE(result.outcome == TuneOutcome::kMeasured);
  for (const KnobTiming& timing : result.tuned->timings) {
    INFO(knobs_text(timing.tuning));
    CHECK(timing.problem.empty());
  }
  CHECK(engine.tuned(*device, spec, size).tuning == result.tuned->best);
}

TEST_CASE("persistent kernels of prepared weights are tuned, the weights prepared first") {
  RealBench real;
  const auto device = real.toolchain.open_device("sim");
  Engine& engine = real.toolchain.engine();
  KernelSpec spec = test::make_spec(Op::kMatvec, "q8_0", 512, make_cuda_target(86));
  spec.layout.kind = LayoutKind::kPrepared;
  const std::vector<Tuning> candidates = candidates_for(spec);  // those that shared memory holds
  CHECK(candidates.size() >= 4);
  const KernelBench bench = make_tuning_bench(engine, *device, spec, {33, 1});
  for (const std::size_t i : {std::size_t{0}, candidates.size() - 1}) {
    KernelSpec candidate = spec;
    candidate.tuning = candidates[i];
    INFO(knobs_text(candidate.tuning));
    CHECK(bench.check(engine.load(*device, candidate)).empty());
  }
}

TEST_CASE("a size that a kernel can't have is refused") {
  RealBench real;
  const auto device = real.toolchain.open_device("cpu");
  const KernelSpec spec = test::make_spec(Op::kMatvec, "q4_K", 512, device->native_target());
  CHECK_THROWS_AS(make_tuning_bench(real.toolchain.engine(), *device, spec, {0, 1}), SpecError);
  CHECK_THROWS_AS(make_tuning_bench(real.toolchain.engine(), *device, spec, {64, 0}), SpecError);
  CHECK_THROWS_AS(make_tuning_bench(real.toolchain.engine(), *device, spec, {64, 2}), SpecError);
}

}  // namespace ktjit
