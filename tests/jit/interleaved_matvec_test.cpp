// Interleaved weights on this machine's CPU, as it is and as plainer x86-64 code: made, taken back, and multiplied,
// against the plain reference.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "codegen/emitter.h"
#include "core/error.h"
#include "core/interleaved_layout.h"
#include "core/prepared_layout.h"
#include "jit/bench_runner.h"
#include "jit/bench_weights.h"
#include "jit/reference_ops.h"
#include "jit/toolchain.h"
#include "tests/support/checked_bench.h"
#include "tests/support/kernel_inputs.h"

namespace ktjit {
namespace {

constexpr std::int64_t kRows = 37;  // the last tile cut
constexpr std::size_t kGuardBytes = 64;
constexpr std::byte kGuard{0xa5};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<FormatId> interleaved_formats() {
  std::vector<FormatId> formats;
  for (const Format& format : all_formats()) {
    if (find_interleaved_layout(format.id) != nullptr) formats.push_back(format.id);
  }
  return formats;
}

/// Whole blocks, the last unit cut where blocks allow it.
std::int64_t cut_cols(FormatId format) { return get_format(format).block_elems == 256 ? 768 : 640; }

struct CpuBench {
  Toolchain toolchain{[] {
                        Options options;
                        options.cache_enabled = false;
                        options.worker = KTJIT_WORKER_PATH;
                        return options;
                      }(),
                      [](std::string_view) {}};
  std::unique_ptr<runtime::Device> device = toolchain.open_device("cpu");
  std::unique_ptr<runtime::Stream> stream = device->make_stream();

  /// Those of the names that this CPU can run.
  std::vector<Target> targets(std::initializer_list<const char*> names) {
    std::vector<Target> result;
    for (const char* name : names) {
      const Target target = toolchain.get_target(name);
      std::string reason;
      if (device->can_load(target, ArtifactKind::kSharedObject, &reason)) {
        result.push_back(target);
      } else {
        WARN("not run as " << name << ": " << reason);
      }
    }
    return result;
  }

  KernelSpec spec(FormatId format, std::int64_t cols, const Target& target) const {
    KernelSpec made = make_spec(Op::kMatvec, format, {}, cols, target);
    made.layout.kind = LayoutKind::kInterleaved;
    return made;
  }

  /// y of a kernel w -> y, whose memory ends with a guard.
  test::Bytes run(const KernelSpec& kernel, const test::Bytes& w, std::int64_t rows,
                  std::int64_t y_bytes) {
    const auto from = runtime::place_on_device(*device, *stream, w);
    const auto to = device->allocate(static_cast<std::size_t>(y_bytes) + kGuardBytes);
    device->fill(*stream, *to, kGuard);
    const std::uint64_t arguments[] = {from->address(), to->address(),
                                       static_cast<std::uint64_t>(rows)};
    toolchain.engine().load(*device, kernel).launch(*stream, rows, arguments);
    test::Bytes y(static_cast<std::size_t>(y_bytes) + kGuardBytes);
    device->download(*stream, *to, 0, y);
    CHECK(std::all_of(y.end() - kGuardBytes, y.end(), [](std::byte b) { return b == kGuard; }));
    y.resize(static_cast<std::size_t>(y_bytes));
    return y;
  }

  using Launch =
      std::function<void(std::int64_t rows, std::int64_t n, std::span<const std::uint64_t>)>;

  Launch launch_of(const KernelSpec& matvec) {
    auto kernel = std::make_shared<LoadedKernel>(toolchain.engine().load(*device, matvec));
    return [this, kernel](std::int64_t rows, std::int64_t n,
                          std::span<const std::uint64_t> arguments) {
      kernel->launch(*stream, rows, arguments, n);
    };
  }

  /// y [n, rows] of native weights, interleaved first.
  std::vector<float> multiply(const KernelSpec& matvec, const Launch& launch,
                              const test::Bytes& native, const std::vector<float>& x) {
    const std::int64_t cols = matvec.layout.cols;
    const std::int64_t rows =
        static_cast<std::int64_t>(native.size()) / row_bytes(get_format(matvec.weight), cols);
    const auto n = static_cast<std::int64_t>(x.size()) / cols;
    const test::Bytes w = run(prepare_spec_of(matvec).value(), native, rows,
                              interleaved_bytes(matvec.weight, rows, cols));
    const auto w_at = device->allocate(w.size());
    device->upload(*stream, w, *w_at, 0);
    const auto x_at = runtime::place_on_device(*device, *stream, std::as_bytes(std::span(x)));
    std::vector<float> y(static_cast<std::size_t>(n * rows));
    const auto y_at = device->allocate(y.size() * sizeof(float));
    const std::uint64_t arguments[] = {w_at->address(), x_at->address(), y_at->address(),
                                       static_cast<std::uint64_t>(rows),
                                       static_cast<std::uint64_t>(n)};
    launch(rows, n, arguments);
    device->download(*stream, *y_at, 0, std::as_writable_bytes(std::span(y)));
    return y;
  }

  /// Compares with the reference: f32 quality, infinities and NaNs by class.
  void check_product(const KernelSpec& matvec, const test::Bytes& native,
                     const std::vector<float>& x) {
    check_product(matvec, launch_of(matvec), native, x);
  }
  void check_product(const KernelSpec& matvec, const Launch& launch, const test::Bytes& native,
                     const std::vector<float>& x) {
    const std::int64_t cols = matvec.layout.cols;
    const auto n = static_cast<std::int64_t>(x.size()) / cols;
    const std::vector<float> got = multiply(matvec, launch, native, x);
    const std::int64_t rows = static_cast<std::int64_t>(got.size()) / n;
    std::vector<double> want(got.size()), magnitudes(got.size());
    ScaledTensorView view;
    view.format = matvec.weight;
    view.rows = rows;
    view.cols = cols;
    view.data = native;
    matvec_reference(view, x, static_cast<int>(n), 0, rows, want, magnitudes);
    for (std::size_t i = 0; i < got.size(); ++i) {
      INFO(kernel_name(matvec) << " on " << matvec.target.name() << ", value " << i << ": "
                               << got[i] << ", expected " << want[i] << ", magnitudes "
                               << magnitudes[i]);
      CHECK(is_right_product(cols, FormatId::kF32, got[i], want[i], magnitudes[i]));
    }
  }
};

test::Bytes random_bytes(FormatId format, std::int64_t cols) {
  std::mt19937 random(static_cast<unsigned>(format));
  test::Bytes bytes(static_cast<std::size_t>(kRows * row_bytes(get_format(format), cols)));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 24);
  return bytes;
}

/// With scales that are finite.
test::Bytes random_weights(FormatId format, std::int64_t cols) {
  const BenchWeights weights({format, {}}, kRows, cols);
  test::Bytes bytes;
  for (std::int64_t row = 0; row < kRows; ++row) {
    const BenchRow one = weights.row(0, row);
    bytes.insert(bytes.end(), one.codes.begin(), one.codes.end());
  }
  return bytes;
}

/// Between -1 and 1, never 0.
std::vector<float> random_x(std::int64_t count) {
  std::mt19937 random(7);
  std::vector<float> x(static_cast<std::size_t>(count));
  for (float& value : x) value = (static_cast<float>(random() >> 8) + 0.5f) * 0x1p-23f - 1.0f;
  return x;
}

void check_all(CpuBench& bench, const std::vector<BenchWork>& works) {
  test::check_works(bench.toolchain.engine(), *bench.device, works);
}

/// Replaces the one instruction of the text for AVX-512 VNNI that plainer CPUs lack by its definition.
std::string with_plain_vpdpbusd(std::string text) {
  const std::string name = "__builtin_ia32_vpdpbusd512";
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at))
    text.replace(at, name.size(), "plain_vpdpbusd");
  const std::string definition =
      "typedef int Sums __attribute__((vector_size(64)));\n"
      "static inline Sums plain_vpdpbusd(Sums sum, Sums a, Sums b) {\n"
      "  for (int lane = 0; lane < 16; ++lane)\n"
      "    for (int i = 0; i < 4; ++i)\n"
      "      sum[lane] += (int)((unsigned)a[lane] >> 8 * i & 255u) * (int)(signed char)(b[lane] >> "
      "8 * i);\n"
      "  return sum;\n"
      "}\n";
  return definition + text;
}

}  // namespace

TEST_CASE("interleaved weights of every format are restored byte for byte") {
  CpuBench bench;
  const Target target = bench.device->native_target();
  REQUIRE(interleaved_formats().size() >= 25);
  for (const FormatId format : interleaved_formats()) {
    const std::int64_t cols = cut_cols(format);
    const KernelSpec matvec = bench.spec(format, cols, target);
    // Of tq1_0's bytes some mean what others mean.
    const test::Bytes native =
        format == FormatId::kTQ1_0 ? random_weights(format, cols) : random_bytes(format, cols);
    const test::Bytes interleaved = bench.run(prepare_spec_of(matvec).value(), native, kRows,
                                              interleaved_bytes(format, kRows, cols));
    INFO(get_format(format).name);
    CHECK(bench.run(restore_spec_of(matvec), interleaved, kRows,
                    static_cast<std::int64_t>(native.size())) == native);
  }
}

TEST_CASE("word j of a unit has the same four bytes of each of its 16 rows") {
  CpuBench bench;
  constexpr std::int64_t kCols = 512;
  const KernelSpec matvec = bench.spec(FormatId::kQ4_K, kCols, bench.device->native_target());
  const test::Bytes native = random_bytes(FormatId::kQ4_K, kCols);
  const std::int64_t bytes = interleaved_bytes(FormatId::kQ4_K, kRows, kCols);
  const test::Bytes w = bench.run(prepare_spec_of(matvec).value(), native, kRows, bytes);
  for (std::int64_t row = 0; row < 48; ++row) {  // 11 rows of zeros after the last
    for (std::int64_t i = 0; i < 288; ++i) {     // two blocks
      const std::int64_t unit = row / 16 * 2 + i / 144;
      const std::int64_t at = unit * 2304 + i % 144 / 4 * 64 + row % 16 * 4 + i % 4;
      const std::byte want =
          row < kRows ? native[static_cast<std::size_t>(row * 288 + i)] : std::byte{0};
      if (w[static_cast<std::size_t>(at)] != want) FAIL("row " << row << ", byte " << i);
    }
  }
}

TEST_CASE("matvec of interleaved weights is of f32 quality, every format and target") {
  CpuBench bench;
  std::vector<BenchWork> works;
  for (const Target& target :
       bench.targets({"cpu", "cpu:x86-64-v4", "cpu:x86-64-v3", "cpu:x86-64"})) {
    const bool is_native = target == bench.device->native_target();
    int turn = 0;
    for (const FormatId format : interleaved_formats()) {
      const int n = std::array{1, 2, 3, 8}[static_cast<std::size_t>(turn++ % 4)];
      // Decodes of codes in planes differ by the width of a vector alone.
      const bool has_planes = find_interleaved_layout(format)->has_planes();
      if (has_planes && !is_native && target.name() != "cpu:x86-64-v3") continue;
      BenchWork work{bench.spec(format, cut_cols(format), target), kRows, n};
      work.spec.x_columns = x_columns_for(n);
      if (is_native && n != 1 && !has_planes) {
        works.push_back(work);
        work = {bench.spec(format, cut_cols(format), target), kRows, 1};
      }
      works.push_back(work);
    }
  }
  check_all(bench, works);
}

TEST_CASE("matvec of interleaved weights takes x of 16 bits, a bias, and y of 16 bits") {
  CpuBench bench;
  std::vector<BenchWork> works;
  for (const FormatId x_format : {FormatId::kF16, FormatId::kBF16}) {
    BenchWork work{bench.spec(FormatId::kQ5_1, 544, bench.device->native_target()), kRows, 3};
    work.spec.x_columns = 4;
    work.spec.x_format = x_format;
    work.spec.y_format = x_format;
    work.spec.bias = FormatId::kF32;
    works.push_back(work);
  }
  check_all(bench, works);
}

TEST_CASE("moe_matvec of interleaved experts, with and without a gate") {
  CpuBench bench;
  std::vector<BenchWork> works;
  for (const Target& target : bench.targets({"cpu", "cpu:x86-64-v3"})) {
    for (const FormatId format : {FormatId::kQ5_K, FormatId::kQ5_0}) {
      BenchWork work{bench.spec(format, cut_cols(format), target), kRows, 5};
      work.spec.op = Op::kMoeMatvec;
      work.experts = 7;
      work.slots_per_x = 2;  // the last x has one slot
      works.push_back(work);
      work.spec.gate = Gate::kSilu;
      work.spec.bias = FormatId::kF32;
      work.spec.x_format = FormatId::kBF16;
      works.push_back(work);
      work.spec.activation = ActivationPolicy::kA8;
      work.spec.gate = Gate::kNone;
      works.push_back(work);
    }
  }
  check_all(bench, works);
}

TEST_CASE("interleaved experts that are none give NaN, and any x its product") {
  CpuBench bench;
  constexpr std::int64_t kCols = 512, kExperts = 3;
  KernelSpec spec = bench.spec(FormatId::kQ8_0, kCols, bench.device->native_target());
  spec.op = Op::kMoeMatvec;
  const test::Bytes native = random_weights(FormatId::kQ8_0, kCols);
  const std::int64_t expert_bytes = interleaved_bytes(FormatId::kQ8_0, kRows, kCols);
  const test::Bytes one = bench.run(prepare_spec_of(spec).value(), native, kRows, expert_bytes);
  test::Bytes stack;
  for (int expert = 0; expert < kExperts; ++expert)
    stack.insert(stack.end(), one.begin(), one.end());
  const auto w = bench.device->allocate(stack.size());
  bench.device->upload(*bench.stream, stack, *w, 0);
  std::vector<float> x = random_x(kCols);
  x[17] = kInfinity;  // the second unit stays plain
  const std::vector<std::int32_t> ids = {2, -1, 3, 0};
  const auto slots = static_cast<std::int64_t>(ids.size());
  const auto x_at =
      runtime::place_on_device(*bench.device, *bench.stream, std::as_bytes(std::span(x)));
  const auto ids_at =
      runtime::place_on_device(*bench.device, *bench.stream, std::as_bytes(std::span(ids)));
  std::vector<float> y(static_cast<std::size_t>(slots * kRows));
  const auto y_at = bench.device->allocate(y.size() * sizeof(float));
  const std::uint64_t arguments[] = {w->address(),
                                     ids_at->address(),
                                     x_at->address(),
                                     y_at->address(),
                                     static_cast<std::uint64_t>(kRows),
                                     static_cast<std::uint64_t>(slots),
                                     static_cast<std::uint64_t>(slots),
                                     static_cast<std::uint64_t>(kExperts)};
  bench.toolchain.engine().load(*bench.device, spec).launch(*bench.stream, kRows, arguments, slots);
  bench.device->download(*bench.stream, *y_at, 0, std::as_writable_bytes(std::span(y)));
  std::vector<double> want(kRows), magnitudes(kRows);
  ScaledTensorView view;
  view.format = FormatId::kQ8_0;
  view.rows = kRows;
  view.cols = kCols;
  view.data = native;
  matvec_reference(view, x, 1, 0, kRows, want, magnitudes);
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    for (std::size_t row = 0; row < kRows; ++row) {
      const float got = y[slot * kRows + row];
      INFO("slot " << slot << ", row " << row << ": " << got);
      if (ids[slot] < 0 || ids[slot] >= kExperts) {
        CHECK(std::isnan(got));
      } else {
        CHECK(is_right_product(kCols, FormatId::kF32, got, want[row], magnitudes[row]));
      }
    }
  }
}

TEST_CASE("a8 rounds x to 8 bits of the largest of 256, no more") {
  CpuBench bench;
  std::vector<BenchWork> works;
  for (const Target& target : bench.targets({"cpu", "cpu:x86-64"})) {
    for (const FormatId format : {FormatId::kQ4_K, FormatId::kQ8_0, FormatId::kIQ4_NL}) {
      BenchWork work{bench.spec(format, cut_cols(format), target), kRows, 2};
      work.spec.x_columns = 2;
      work.spec.activation = ActivationPolicy::kA8;
      works.push_back(work);
    }
  }
  check_all(bench, works);
}

TEST_CASE("interleaved weights meet any x: infinities, NaNs, zeros, numbers far apart or tiny") {
  CpuBench bench;
  constexpr std::int64_t kCols = 768;
  const auto at = [](std::vector<float>& x, std::size_t i) -> float& { return x[i]; };
  for (const char* name : {"cpu", "cpu:x86-64"}) {
    const Target target = bench.toolchain.get_target(name);
    for (const FormatId format : {FormatId::kQ8_0, FormatId::kQ4_K}) {
      const KernelSpec matvec = bench.spec(format, kCols, target);
      const test::Bytes native = random_weights(format, kCols);
      const std::vector<float> plain = random_x(kCols);
      std::vector<std::vector<float>> inputs(7, plain);
      at(inputs[0], 300) = kInfinity;
      at(inputs[1], 5) = kInfinity;
      at(inputs[1], 9) = -kInfinity;
      at(inputs[2], 767) = std::numeric_limits<float>::quiet_NaN();
      std::fill(inputs[3].begin(), inputs[3].end(), 0.0f);
      for (std::size_t i = 0; i < inputs[4].size(); ++i)
        inputs[4][i] = std::ldexp(plain[i], static_cast<int>(i % 61) * 3 - 90);
      for (float& value : inputs[5]) value *= 0x1p-120f;
      std::fill(inputs[6].begin(), inputs[6].end(), 0.0f);
      at(inputs[6], 17) = 0x1p100f;
      at(inputs[6], 18) = 0x1p-20f;
      for (const std::vector<float>& x : inputs) bench.check_product(matvec, native, x);
    }
  }
}

TEST_CASE("interleaved weights whose scales are infinite or NaN give what their values give") {
  CpuBench bench;
  constexpr std::int64_t kCols = 544;  // the last unit cut
  const KernelSpec matvec = bench.spec(FormatId::kQ4_0, kCols, bench.device->native_target());
  test::Bytes native = random_weights(FormatId::kQ4_0, kCols);
  const auto set_scale = [&](std::size_t row, std::size_t block, unsigned f16) {
    native[(row * 17 + block) * 18] = static_cast<std::byte>(f16 & 255);
    native[(row * 17 + block) * 18 + 1] = static_cast<std::byte>(f16 >> 8);
  };
  set_scale(3, 16, 0x7e00);  // NaN
  set_scale(20, 0, 0x0001);  // the smallest
  set_scale(36, 2, 0x0000);
  for (std::size_t i = 0; i < 17 * 18; ++i) native[5 * 17 * 18 + i] = std::byte{0};
  bench.check_product(matvec, native, random_x(kCols));
}

TEST_CASE("the text for AVX-512 VNNI is right, its one instruction written out") {
  CpuBench bench;
  std::vector<std::string> features = cpu_level_features("x86-64-v4");
  features.push_back("avx512vnni");
  const Target vnni = make_cpu_target("native", features);
  for (const FormatId format : {FormatId::kQ4_K, FormatId::kQ8_0, FormatId::kQ6_K}) {
    KernelSpec matvec = bench.spec(format, 768, vnni);
    const codegen::EmittedKernel emitted = codegen::emit(matvec);
    CHECK(emitted.source.find("__builtin_ia32_vpdpbusd512") != std::string::npos);
    const CompileRequest request = {with_plain_vpdpbusd(emitted.source), emitted.entry_name,
                                    bench.device->native_target(), ArtifactKind::kSharedObject};
    std::shared_ptr<runtime::Kernel> kernel;
    for (const auto& compiler : bench.toolchain.engine().compilers()) {
      if (!kernel && compiler->serves(request.target, request.kind))
        kernel = bench.device->load(compiler->compile(request));
    }
    REQUIRE(kernel);
    matvec.target = bench.device->native_target();  // of the kernel that interleaves
    const CpuBench::Launch launch = [&](std::int64_t rows, std::int64_t,
                                        std::span<const std::uint64_t> arguments) {
      kernel->launch(*bench.stream, grid_for(emitted.launch, rows), arguments);
    };
    bench.check_product(matvec, launch, random_weights(format, 768), random_x(768));
  }
}

TEST_CASE("what the interleaved layout is not for is refused") {
  CpuBench bench;
  const Target cpu = bench.device->native_target();
  KernelSpec matmul = bench.spec(FormatId::kQ4_K, 768, cpu);
  matmul.op = Op::kMatmul;
  CHECK_THROWS_AS(validate(matmul), SpecError);
  CHECK_THROWS_AS(validate(bench.spec(FormatId::kF32, 768, cpu)), SpecError);
  KernelSpec gated = bench.spec(FormatId::kQ4_K, 768, cpu);
  gated.gate = Gate::kSilu;
  CHECK_THROWS_AS(validate(gated), SpecError);
  CHECK_THROWS_AS(validate(bench.spec(FormatId::kQ4_K, 768, make_cuda_target(86))), SpecError);
  CHECK_THROWS_AS(interleaved_bytes(FormatId::kQ4_K, 0, 768), SpecError);
  CHECK_THROWS_AS(interleaved_bytes(FormatId::kF32, 16, 768), SpecError);
}

}  // namespace ktjit
