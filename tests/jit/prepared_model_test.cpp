// Models whose weights are prepared in the file: planned, run and used without a prepare kernel, on targets that read them
// and on those that restore them.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "core/prepared_layout.h"
#include "jit/expert_stack.h"
#include "jit/model_runner.h"
#include "jit/planner.h"
#include "jit/prepared_ops.h"
#include "jit/reference_prepared.h"
#include "jit/tensor_ops.h"
#include "jit/toolchain.h"
#include "tests/jit/made_model.h"
#include "tests/jit/simulator_machine.h"
#include "tests/support/kernel_inputs.h"

namespace ktjit {
namespace {

constexpr std::int64_t kExperts = 3, kExpertRows = 24;  // no whole tiles

/// A native tensor of random weights, and its values prepared as a tensor of a made model.
struct Sample {
  FormatId format;
  std::int64_t rows, cols, matrices;
  test::Bytes data, scales;

  Sample(FormatId format_id, std::int64_t rows_of_matrix, std::int64_t columns,
         std::int64_t count = 1)
      : format(format_id), rows(rows_of_matrix), cols(columns), matrices(count) {
    std::mt19937 random(static_cast<unsigned>(format_id));
    data = test::make_weights(format, rows * matrices, cols, random);
    if (const auto grid = fixed_scale_grid(format))
      scales = test::make_scales(*grid, rows * matrices, cols, random);
  }

  ScaledTensorView view() const {
    return {format, rows * matrices, cols, data, fixed_scale_grid(format), scales};
  }

  test::Bytes prepared() const {
    test::Bytes all;
    for (std::int64_t i = 0; i < matrices; ++i) {
      const std::size_t bytes = data.size() / static_cast<std::size_t>(matrices);
      const std::size_t plane = scales.size() / static_cast<std::size_t>(matrices);
      const test::Bytes one = prepare_reference(
          {format, rows, cols, std::span(data).subspan(static_cast<std::size_t>(i) * bytes, bytes),
           fixed_scale_grid(format),
           std::span(scales).subspan(static_cast<std::size_t>(i) * plane, plane)});
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  void add_to(test::MadeModel& made, std::string name) const {
    model::TensorInfo& tensor = made.add(std::move(name), format, rows, cols, matrices);
    tensor.layout = LayoutKind::kPrepared;
    tensor.scale_grid = fixed_scale_grid(format);
    tensor.data = made.keep(prepared());
  }
};

std::vector<Sample> samples() {
  return {{FormatId::kQ4_K, 37, 512},
          {FormatId::kMxfp4, 20, 96},
          {FormatId::kIQ3_S, kExpertRows, 256, kExperts}};
}

model::Model prepared_model(test::MadeModel& made) {
  int number = 0;
  for (const Sample& sample : samples()) {
    sample.add_to(made, sample.matrices > 1 ? "blk.0.ffn_up_exps.weight"
                                            : "w" + std::to_string(number++) + ".weight");
  }
  return made.make();
}

}  // namespace

TEST_CASE("a plan for weights that are prepared in the file has no prepare kernel") {
  test::MadeModel made;
  const model::Model model = prepared_model(made);
  for (const char* name : {"sm_86", "sm_60", "cpu:x86-64-v3"}) {
    const Target target = parse_target(name, {});
    const Plan plan = make_plan(model, target);
    INFO(name);
    CHECK(plan.groups.size() == 3);
    CHECK(plan.skipped.empty());
    CHECK(plan.has_prepared() == (std::string_view(name) == "sm_86"));
    CHECK(plan.extra_bytes_of_prepared() == 0);  // they are no larger than in the file
    std::uint64_t bytes = 0;
    for (const model::TensorInfo& tensor : model.tensors()) bytes += tensor.bytes();
    CHECK(plan.weight_bytes == bytes);
    for (const TensorGroup& group : plan.groups) {
      std::map<Op, int> of_op;
      for (const KernelSpec& spec : group.kernels) {
        CHECK_NOTHROW(validate(spec));
        ++of_op[spec.op];
        const bool reads = spec.op == Op::kRestore || reads_prepared(spec.op, group.format, target);
        CHECK((spec.layout.kind == LayoutKind::kPrepared) == reads);
      }
      CHECK(of_op[Op::kPrepare] == 0);
      CHECK(of_op[Op::kRestore] == 1);
      CHECK(of_op[Op::kMatvec] == 1);
    }
  }
}

TEST_CASE("a model prepared in the file runs as it is, or restored where no kernel reads it") {
  test::Simulator machine;
  test::MadeModel made;
  const model::Model model = prepared_model(made);
  RunOptions options;
  options.all_tensors = true;
  const auto cpu = machine.toolchain.open_device("cpu");
  const auto check = [&](runtime::Device& device, const Target& target, int reading) {
    const RunReport report = run_model(machine.toolchain.engine(), device, target, model, options);
    int read = 0, experts = 0;
    for (const KernelRun& kernel : report.kernels) {
      INFO(target.name() << ": " << kernel.tensor << " " << op_name(kernel.op) << ": "
                         << kernel.problem);
      CHECK(kernel.ok);
      CHECK(kernel.op != Op::kPrepare);
      read += kernel.op != Op::kRestore && kernel.layout == LayoutKind::kPrepared ? 1 : 0;
      experts += has_experts(kernel.op) ? 1 : 0;
    }
    CHECK(report.ok);
    CHECK(read == reading);
    CHECK(experts == 2);
  };
  check(*machine.device, parse_target("sm_86", {}), 7);  // 3 matvec, 2 dequant, 2 of experts
  check(*machine.device, parse_target("sm_60", {}), 2);  // dequant
  check(*cpu, cpu->native_target(), 0);
}

TEST_CASE("prepared tensors give what native ones give, op by op") {
  test::Simulator machine;
  Engine& engine = machine.toolchain.engine();
  const Target target = parse_target("sm_86", {});
  const auto cpu = machine.toolchain.open_device("cpu");
  for (const Sample& sample : samples()) {
    const test::Bytes bytes = sample.prepared();
    const PreparedTensorView prepared = {sample.format, sample.matrices, sample.rows, sample.cols,
                                         bytes};
    INFO(get_format(sample.format).name);
    for (runtime::Device* device : {machine.device.get(), cpu.get()}) {
      const NativeWeights native =
          restore(engine, *device, device == cpu.get() ? cpu->native_target() : target, prepared);
      CHECK(native.data == sample.data);
      CHECK(native.scales == sample.scales);
    }
    if (reads_prepared(Op::kDequant, sample.format, target)) {
      CHECK(dequantize_prepared(engine, *machine.device, target, prepared) ==
            dequantize(engine, *machine.device, target, sample.view()));
    }
    constexpr std::int64_t kN = 9;  // two launches
    std::mt19937 random(1);
    const auto x = test::normal_values(static_cast<std::size_t>(kN * sample.cols), random);
    const auto got = multiply_prepared(engine, *machine.device, target, prepared, x, kN);
    const auto want = multiply_by(Op::kMatvec, engine, *machine.device, target, sample.view(), x,
                                  kN, ActivationPolicy::kA16);
    REQUIRE(got.size() == want.size());
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      largest = std::max(largest, std::abs(double(want[i])));
      difference = std::max(difference, std::abs(double(got[i]) - double(want[i])));
    }
    CHECK(difference < 1e-5 * largest);
    if (sample.matrices == 1) continue;
    const std::vector<std::int32_t> ids = {2, 0, 7};
    const std::span<const float> rows_of_x =
        std::span(x).first(static_cast<std::size_t>(3 * sample.cols));
    for (const Op op : {Op::kMoeMatvec, Op::kMoeMatmul}) {
      if (!reads_prepared(op, sample.format, target)) continue;
      const auto routed = multiply_prepared_experts(op, engine, *machine.device, target, prepared,
                                                    ids, rows_of_x, 1);
      const ExpertStack stack = split_into_experts(sample.view(), sample.matrices);
      const auto routed_native =
          multiply_experts(op, engine, *machine.device, target, stack.view, ids, rows_of_x, 1);
      REQUIRE(routed.size() == routed_native.size());
      for (std::size_t i = 0; i < routed.size(); ++i) {
        if (i >= static_cast<std::size_t>(2 * sample.rows)) {
          CHECK(std::isnan(routed[i]));
        } else {
          CHECK(std::abs(double(routed[i]) - double(routed_native[i])) < 1e-5 * largest);
        }
      }
    }
  }
}

}  // namespace ktjit
