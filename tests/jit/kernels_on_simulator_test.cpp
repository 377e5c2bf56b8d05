// Every kernel as the text that GPUs of each generation get, on the simulator, against the plain
// reference: the bodies are proved without a GPU, and no access is wrong.
#include <catch2/catch.hpp>

#include "core/prepared_layout.h"
#include "jit/toolchain.h"
#include "tests/support/fused_checks.h"
#include "tests/support/kernel_checks.h"

namespace ktjit {
namespace {

/// An engine without a disk cache, so that every kernel is compiled by this test.
struct SimulatorBench {
  Toolchain toolchain{[] {
                        Options options;
                        options.cache_enabled = false;
                        options.worker = KTJIT_WORKER_PATH;
                        return options;
                      }(),
                      [](std::string_view) {}};
  std::unique_ptr<runtime::Device> device = toolchain.open_device("sim");

  /// As the text of every generation. `every`: see test::Place; compiling takes longer than running, so
  /// the long lists of shapes are sampled, with a prime step so that it falls on every format.
  void check(test::CheckResult (*run)(const test::Place&), std::int64_t least_values,
             std::int64_t every = 1) {
    for (const char* name : {"sm_61", "sm_75", "sm_86", "sm_90a", "sm_120a"}) {
      const test::CheckResult result = run(
          {toolchain.engine(), *device, toolchain.get_target(name), every, LayoutKind::kNative});
      INFO(name << ": " << result.kernels << " kernels, " << result.values << " values, "
                << result.first_problem);
      CHECK(result.wrong == 0);
      CHECK(result.values >= least_values);
    }
  }

  /// The same of prepared weights, as the text of each kind of tensor core and with dependent launches.
  void check_prepared(test::CheckResult (*run)(const test::Place&), std::int64_t least_values,
                      std::int64_t every) {
    for (const char* name : {"sm_75", "sm_90a"}) {
      const test::CheckResult result = run(
          {toolchain.engine(), *device, toolchain.get_target(name), every, LayoutKind::kPrepared});
      INFO(name << ": " << result.kernels << " kernels, " << result.values << " values, "
                << result.first_problem);
      CHECK(result.wrong == 0);
      CHECK(result.values >= least_values);
    }
  }
};

}  // namespace

TEST_CASE("simulated dequant equals ggml's golden vectors bit for bit") {
  SimulatorBench().check(test::check_golden_dequant, 360000);
}
TEST_CASE("simulated GPUs decode all 256 codes of each FP8 format") {
  SimulatorBench().check(test::check_fp8_codes, 3 * 16 * 256);
}
TEST_CASE("simulated dequant applies scales of every shape and type") {
  SimulatorBench().check(test::check_scaled_dequant, 100000, 13);
}
TEST_CASE("simulated dequant has the same bits at every setting of its knobs") {
  SimulatorBench().check(test::check_dequant_knobs, 100000, 5);
}
TEST_CASE("simulated matvec stays within the f32 bound") {
  SimulatorBench().check(test::check_matvec, 500, 23);
}
TEST_CASE(
    "simulated moe_matvec takes the experts that ids name, and reads nothing where there is none") {
  SimulatorBench().check(test::check_moe_matvec, 500, 31);
}
TEST_CASE(
    "simulated moe_matmul multiplies the slots of each expert, with every kind of tensor core") {
  SimulatorBench().check(test::check_moe_matmul, 500, 83);
}
TEST_CASE("simulated moe_matmul of prepared weights multiplies the slots of each expert") {
  SimulatorBench().check_prepared(test::check_moe_matmul, 500, 47);
}
TEST_CASE("simulated moe_matmul at tensor-core precision multiplies the slots of each expert") {
  SimulatorBench bench;
  for (const LayoutKind layout : {LayoutKind::kNative, LayoutKind::kPrepared}) {
    const test::CheckResult result = test::check_moe_tensor_cores(
        {bench.toolchain.engine(), *bench.device, bench.toolchain.get_target("sm_90a"),
         layout == LayoutKind::kNative ? 3 : 21, layout});
    INFO(layout_name(layout) << ": " << result.kernels << " kernels, " << result.first_problem);
    CHECK(result.wrong == 0);
    CHECK(result.values >= 5000);
  }
}
TEST_CASE("simulated moe_matmul of many experts and of many slots") {
  SimulatorBench().check(test::check_many_experts, 8000);
}
TEST_CASE("simulated matvec with gates, several matrices and residuals stays within its bounds") {
  SimulatorBench().check(test::check_fused_matvec, 500, 37);
}
TEST_CASE("simulated moe_matvec of prepared weights takes the experts that ids name") {
  SimulatorBench().check_prepared(test::check_moe_matvec, 500, 17);
}
TEST_CASE("simulated matvec of prepared weights with gates, several matrices and residuals") {
  SimulatorBench().check_prepared(test::check_fused_matvec, 500, 23);
}
TEST_CASE("simulated gates are within 2^-21 of silu and gelu") {
  SimulatorBench().check(test::check_gates, 10000);
}
TEST_CASE("simulated GPUs decode all codes and scales of mxfp4 and nvfp4") {
  SimulatorBench().check(test::check_fp4_codes, 256 * 4096, 5);
}
TEST_CASE("simulated GPUs decode all codes of mxfp6 and mxfp8") {
  SimulatorBench().check(test::check_mx_codes, 256 * 1024, 5);
}
TEST_CASE("simulated GPUs decode every entry of every codebook") {
  SimulatorBench().check(test::check_codebooks, 129 * 2048, 3);
}
TEST_CASE("simulated dequant rounds integers and f64 once, to nearest even") {
  SimulatorBench().check(test::check_numbers, 65536, 7);
}
TEST_CASE("simulated matmul stays within the f32 bound, with every kind of tensor core") {
  SimulatorBench().check(test::check_matmul, 1000, 47);
}
TEST_CASE("simulated products add the bias and round y once") {
  SimulatorBench().check(test::check_epilogues, 500, 11);
}
TEST_CASE("simulated products propagate NaN weights, unless a scan found none") {
  SimulatorBench().check(test::check_nan_weights, 20, 3);
}
TEST_CASE("simulated GPUs narrow all f16 and bf16 values to floats of 4 to 8 bits bit for bit") {
  SimulatorBench().check(test::check_quantize, 3 * 4 * 65536);
}
TEST_CASE("simulated GPUs quantise groups bit for bit") {
  SimulatorBench().check(test::check_quantize_groups, 100000);
}
TEST_CASE("simulated dependent kernels give the bits of ordinary ones") {
  SimulatorBench bench;
  constexpr std::int64_t kRows = 5, kCols = 96;
  std::vector<float> w(kRows * kCols), x(kCols);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 23) - 11.0f;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.5f * static_cast<float>(i % 7);
  const auto stream = bench.device->make_stream();
  const auto w_there = place_on_device(*bench.device, *stream, std::as_bytes(std::span(w)));
  const auto x_there = place_on_device(*bench.device, *stream, std::as_bytes(std::span(x)));
  const auto y_there = bench.device->allocate(kRows * sizeof(float));
  for (const Op op : {Op::kMatvec, Op::kMatmul}) {
    std::vector<float> results[2] = {std::vector<float>(kRows), std::vector<float>(kRows)};
    for (const bool dependent : {false, true}) {
      KernelSpec spec =
          make_spec(op, FormatId::kF32, std::nullopt, kCols, bench.toolchain.get_target("sm_90a"));
      spec.dependent_launch = dependent;
      const LoadedKernel loaded = bench.toolchain.engine().load(*bench.device, spec);
      CHECK((loaded.built.emitted.source.find("griddepcontrol") != std::string::npos) == dependent);
      bench.device->fill(*stream, *y_there, std::byte{0xff});
      const std::uint64_t arguments[] = {w_there->address(), x_there->address(), y_there->address(),
                                         kRows, 1};
      loaded.launch(*stream, kRows, arguments);
      bench.device->download(*stream, *y_there, 0,
                             std::as_writable_bytes(std::span(results[dependent])));
      stream->synchronize();
    }
    CHECK(results[0] == results[1]);
    CHECK(results[0][0] == results[0][0]);  // no NaN left from the filling
  }
}
TEST_CASE("simulated GPUs find NaN codes") { SimulatorBench().check(test::check_nan_scan, 300); }

}  // namespace ktjit
