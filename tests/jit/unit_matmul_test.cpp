// Matmul by units on simulated tensor cores, of native and of prepared weights, against the plain reference.
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "codegen/emitter.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/bench_runner.h"
#include "jit/bench_weights.h"
#include "jit/reference_ops.h"
#include "tests/jit/simulator_machine.h"
#include "tests/support/checked_bench.h"

namespace ktjit {
namespace {

using enum FormatId;
using test::Simulator;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

BenchWork matmul_work(FormatId format, std::int64_t rows, std::int64_t cols, int n,
                      std::string_view target, LayoutKind layout) {
  BenchWork work{
      make_spec(Op::kMatmul, format, fixed_scale_grid(format), cols, parse_target(target, {})),
      rows, n};
  work.spec.layout.kind = layout;
  work.spec.tuning = matmul_tuning(work.spec.target, n);
  return work;
}

void check(const std::vector<BenchWork>& works) {
  Simulator simulator;
  test::check_works(simulator.toolchain.engine(), *simulator.device, works);
}

/// Weights, and their scales where those lie beside them.
struct HostWeights {
  FormatId format = kQ8_0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<std::byte> codes;
  std::vector<std::byte> scales;

  HostWeights(FormatId of, std::int64_t row_count, std::int64_t col_count)
      : format(of), rows(row_count), cols(col_count) {
    const BenchWeights weights({format, fixed_scale_grid(format)}, rows, cols);
    for (std::int64_t row = 0; row < rows; ++row) {
      const BenchRow one = weights.row(0, row);
      codes.insert(codes.end(), one.codes.begin(), one.codes.end());
    }
    scales.assign(weights.scales().begin(), weights.scales().end());
  }

  ScaledTensorView view() const {
    return {format, rows, cols, codes, fixed_scale_grid(format), scales};
  }
};

/// y of native or prepared weights and f32 x.
std::vector<float> multiply(Simulator& simulator, const HostWeights& weights,
                            std::string_view target, LayoutKind layout,
                            const std::vector<float>& x) {
  Engine& engine = simulator.toolchain.engine();
  runtime::Device& device = *simulator.device;
  const auto n = static_cast<int>(static_cast<std::int64_t>(x.size()) / weights.cols);
  const KernelSpec spec =
      matmul_work(weights.format, weights.rows, weights.cols, n, target, layout).spec;
  const auto rows = static_cast<std::uint64_t>(weights.rows);
  const auto stream = device.make_stream();
  const auto native = device.allocate(weights.codes.size());
  const auto scales = device.allocate(weights.scales.size() + 1);  // empty for most formats
  const auto x_buffer = device.allocate(x.size() * sizeof(float));
  const auto y = device.allocate(rows * static_cast<std::uint64_t>(n) * sizeof(float));
  device.upload(*stream, weights.codes, *native, 0);
  device.upload(*stream, weights.scales, *scales, 0);
  device.upload(*stream, std::as_bytes(std::span(x)), *x_buffer, 0);
  std::vector<std::uint64_t> arguments = {native->address()};
  if (!weights.scales.empty()) arguments.push_back(scales->address());
  const auto prepared = device.allocate(
      static_cast<std::size_t>(prepared_bytes(weights.format, weights.rows, weights.cols)));
  if (layout == LayoutKind::kPrepared) {
    arguments.insert(arguments.end(), {prepared->address(), rows});
    engine.load(device, *prepare_spec_of(spec)).launch(*stream, weights.rows, arguments);
    arguments = {prepared->address()};
  }
  arguments.insert(arguments.end(),
                   {x_buffer->address(), y->address(), rows, static_cast<std::uint64_t>(n)});
  engine.load(device, spec).launch(*stream, weights.rows, arguments, n);
  std::vector<float> got(static_cast<std::size_t>(n) * rows);
  device.download(*stream, *y, 0, std::as_writable_bytes(std::span(got)));
  stream->synchronize();
  return got;
}

/// NaNs and infinities by class, others within the f32 bound. `any_class`: what isn't finite may be either.
void check_product(const HostWeights& weights, std::string_view target, LayoutKind layout,
                   const std::vector<float>& x, bool any_class = false) {
  Simulator simulator;
  const std::vector<float> got = multiply(simulator, weights, target, layout, x);
  const auto n = static_cast<int>(static_cast<std::int64_t>(x.size()) / weights.cols);
  std::vector<double> want(got.size()), magnitude(got.size());
  matvec_reference(weights.view(), x, n, 0, weights.rows, want, magnitude);
  int wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double value = got[i];
    const bool is_right = std::isfinite(want[i])
                              ? is_right_product(weights.cols, kF32, value, want[i], magnitude[i])
                          : any_class           ? !std::isfinite(value)
                          : std::isnan(want[i]) ? std::isnan(value)
                                                : value == want[i];
    if (is_right || wrong++ > 0) continue;
    INFO(get_format(weights.format).name << " " << layout_name(layout) << " on " << target << ", y["
                                         << i << "]: " << value << ", expected " << want[i]
                                         << ", magnitudes " << magnitude[i]);
    CHECK(is_right);
  }
  CHECK(wrong == 0);
}

/// Between -1 and 1, never 0.
std::vector<float> small_x(std::size_t count) {
  std::mt19937 random(3);
  std::vector<float> x(count);
  for (float& value : x) value = (static_cast<float>(random() % 2001) - 1000.5f) / 1000.5f;
  return x;
}

std::vector<FormatId> unit_formats() {
  std::vector<FormatId> formats;
  for (const Format& format : all_formats()) {
    if (find_prepared_layout(format.id) != nullptr && format.id != kIQ1_M)
      formats.push_back(format.id);
  }
  return formats;
}

}  // namespace

TEST_CASE("matmul by units of every format, native and prepared, rows and columns cut") {
  constexpr std::array kTargets = {"sm_75", "sm_86", "sm_90a"};
  constexpr std::array kXFormats = {kF32, kF16, kBF16};
  constexpr std::array kN = {1, 7, 16, 64, 130};
  std::vector<BenchWork> works;
  std::size_t at = 0;
  for (const FormatId format : unit_formats()) {
    const std::int64_t cols = get_format(format).block_elems == 256 ? 768 : 640;
    for (const LayoutKind layout : {LayoutKind::kNative, LayoutKind::kPrepared}) {
      works.push_back(matmul_work(format, 53, cols, kN[at % kN.size()],
                                  kTargets[at % kTargets.size()], layout));
      works.back().spec.x_format = kXFormats[at / 2 % kXFormats.size()];
      ++at;
    }
  }
  CHECK(works.size() == 2 * 26);
  check(works);
}

TEST_CASE("matmul by units: every tile of x, kind of x and number of stages") {
  std::vector<BenchWork> works;
  for (const char* target : {"sm_75", "sm_86"}) {
    for (const FormatId x_format : {kF32, kF16, kBF16}) {
      const FormatId format = x_format == kF32 ? kQ4_K : x_format == kF16 ? kQ6_K : kQ8_0;
      for (const int tile : {16, 32, 64, 128}) {
        if (tile == 128 && x_format == kF32) continue;  // terms that do not fit
        works.push_back(matmul_work(format, 150, 1280, tile + 3, target, LayoutKind::kPrepared));
        works.back().spec.x_format = x_format;
        works.back().spec.tuning = {.x_tile = tile};
      }
    }
  }
  works.push_back(matmul_work(kQ4_K, 150, 768, 260, "sm_90a", LayoutKind::kPrepared));
  works.back().spec.x_format = kBF16;
  works.back().spec.tuning = {.x_tile = 256, .stages = 4};
  works.push_back(matmul_work(kQ4_0, 35, 1600, 20, "sm_90a", LayoutKind::kPrepared));
  works.back().spec.tuning = {.x_tile = 16, .stages = 5};
  works.back().spec.bias = works.back().spec.y_format = kBF16;
  check(works);
}

TEST_CASE("matmul by units with x of many binades, huge and tiny") {
  constexpr std::int64_t kRows = 19, kCols = 768;
  std::vector<float> x = small_x(2 * kCols);
  std::mt19937 random(5);
  for (float& value : x) value = std::ldexp(value, static_cast<int>(random() % 121) - 60);
  std::vector<float> huge = small_x(kCols), tiny = small_x(kCols);
  for (float& value : huge) value = std::ldexp(value, 100);
  for (float& value : tiny) value = std::ldexp(value, -100);
  for (const char* target : {"sm_75", "sm_86"}) {
    for (const FormatId format : {kQ8_0, kQ4_K, kIQ2_XS, kNvfp4}) {
      const HostWeights weights(format, kRows, kCols);
      for (const auto& values : {x, huge, tiny})
        check_product(weights, target, LayoutKind::kNative, values);
    }
  }
}

TEST_CASE("matmul by units with infinities and NaN in x is what IEEE's arithmetic gives") {
  constexpr std::int64_t kRows = 19, kCols = 512;
  for (const char* target : {"sm_75", "sm_86"}) {
    for (const FormatId format : {kQ8_0, kQ4_0, kQ6_K, kQ3_K, kQ1_0, kMxfp4, kIQ3_S}) {
      const HostWeights weights(format, kRows, kCols);
      std::vector<float> x = small_x(3 * kCols);
      x[300] = kInfinity;  // both signs, by that of the weight
      x[kCols + 300] = kInfinity;
      x[kCols + 301] = -kInfinity;
      x[2 * kCols + 511] = std::numeric_limits<float>::quiet_NaN();
      check_product(weights, target, LayoutKind::kPrepared, x);
    }
    // A block's scale and minimum are applied apart: both signs of infinity meet, or a code that is 0.
    for (const FormatId format : {kQ4_K, kQ5_1, kIQ1_S}) {
      std::vector<float> x = small_x(3 * kCols);
      x[300] = kInfinity;
      x[kCols + 7] = std::numeric_limits<float>::quiet_NaN();
      check_product(HostWeights(format, kRows, kCols), target, LayoutKind::kNative, x, true);
    }
  }
}

TEST_CASE("matmul by units: scales that are NaN or at the ends of their range") {
  constexpr std::int64_t kRows = 19, kCols = 512;
  constexpr std::size_t kBlocks = kCols / 32;
  HostWeights mxfp4(kMxfp4, kRows, kCols);
  mxfp4.scales[3 * kBlocks + 7] = std::byte{255};
  mxfp4.scales[5 * kBlocks + 1] = std::byte{0};
  HostWeights ggml(kGgmlMxfp4, kRows, kCols);  // 17 bytes for 32 elements, the scale first
  for (const int code : {0, 1, 2, 200}) {
    ggml.codes[(static_cast<std::size_t>(4 + code % 7) * kBlocks + 3) * 17] =
        static_cast<std::byte>(code);
  }
  HostWeights q8(kQ8_0, kRows, kCols);                      // 34 bytes for 32 elements, d first
  q8.codes[(11 * kBlocks + 2) * 34 + 1] = std::byte{0x7e};  // NaN
  q8.codes[(12 * kBlocks + 2) * 34] = std::byte{1};         // the least f16
  q8.codes[(12 * kBlocks + 2) * 34 + 1] = std::byte{0};
  for (const char* target : {"sm_75", "sm_86"}) {
    check_product(mxfp4, target, LayoutKind::kNative, small_x(2 * kCols));
    check_product(ggml, target, LayoutKind::kNative, small_x(2 * kCols));
    check_product(q8, target, LayoutKind::kPrepared, small_x(2 * kCols));
  }
}

TEST_CASE("matmul by units refuses knobs that do not fit") {
  KernelSpec spec = matmul_work(kQ4_K, 64, 4096, 300, "sm_86", LayoutKind::kPrepared).spec;
  CHECK_NOTHROW(codegen::emit(spec));
  const auto refuses = [&](auto change) {
    KernelSpec changed = spec;
    change(changed);
    CHECK_THROWS_AS(codegen::emit(changed), SpecError);
  };
  refuses([](KernelSpec& s) { s.tuning.x_tile = 48; });
  refuses([](KernelSpec& s) { s.tuning.x_tile = 256; });  // three terms of f32: 196608 bytes
  refuses([](KernelSpec& s) { s.tuning.stages = 6; });
  refuses([](KernelSpec& s) { s.tuning.stages = 1; });
  refuses([](KernelSpec& s) { s.target = make_cuda_target(70); });
  refuses([](KernelSpec& s) { s.weight = kIQ1_M; });
}

}  // namespace ktjit
