// Matvec of native bf16, f16, e4m3 and e5m2 weights on tensor cores, in the simulator, against the plain reference.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "codegen/cuda_float_matvec.h"
#include "core/error.h"
#include "core/launch_order.h"
#include "jit/reference_decode.h"
#include "jit/reference_ops.h"
#include "jit/tuner.h"
#include "tests/jit/simulator_machine.h"

namespace ktjit {
namespace {

using enum FormatId;

constexpr std::array kFormats = {kBF16, kF16, kFp8E4M3, kFp8E5M2};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using test::Simulator;

/// One launch: weights as bytes, x as numbers of the spec's format.
struct Case {
  KernelSpec spec;
  std::int64_t rows = 0;
  int n = 1;
  std::vector<std::byte> w, scales, bias;
  std::vector<float> x;  // [n, cols]

  std::int64_t cols() const { return spec.layout.cols; }
  ScaledTensorView view() const { return {spec.weight, rows, cols(), w, spec.scale, scales}; }
  /// Overwrites the weight at (row, col) by the low bytes of `code`.
  void set_code(std::int64_t row, std::int64_t col, unsigned code) {
    const int size = get_format(spec.weight).block_bytes;
    for (int byte = 0; byte < size; ++byte)
      w[static_cast<std::size_t>((row * cols() + col) * size + byte)] = std::byte(code >> 8 * byte);
  }
};

/// Numbers as elements of an io format, as they are after their rounding to it.
std::vector<std::byte> rounded(FormatId format, std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() *
                               static_cast<std::size_t>(get_format(format).block_bytes));
  round_output(format, values, bytes);
  decode_row(format, bytes, values);
  return bytes;
}

/// Weights of moderate size without special codes, x between -1 and 1 and never 0.
Case make_case(FormatId weight, std::int64_t rows, std::int64_t cols, int n,
               std::string_view target, const std::optional<ScaleGrid>& grid = {},
               FormatId x_format = kF32) {
  Case made;
  made.spec = make_spec(Op::kMatvec, weight, grid, cols, parse_target(target, {}));
  made.spec.x_columns = x_columns_for(n);
  made.spec.x_format = x_format;
  made.rows = rows;
  made.n = n;
  std::mt19937 random(static_cast<unsigned>(rows * 31 + cols));
  std::uniform_real_distribution<float> uniform(-1, 1);
  if (get_format(weight).block_bytes == 2) {
    std::vector<float> values(static_cast<std::size_t>(rows * cols));
    for (float& value : values) value = uniform(random);
    made.w = rounded(weight, values);
  } else {
    made.w.resize(static_cast<std::size_t>(rows * cols));
    for (std::byte& code : made.w)
      code = static_cast<std::byte>(random() % 0x70 | (random() & 0x80));
  }
  if (grid) {
    const auto count =
        static_cast<std::size_t>(grid->rows_of_scales(rows) * grid->cols_of_scales(cols));
    std::vector<float> values(count);
    for (float& value : values)
      value = std::ldexp(1.0f + uniform(random) / 3, static_cast<int>(random() % 7) - 3);
    if (grid->type == ScaleType::kE8M0) {
      for (std::size_t i = 0; i < count; ++i)
        made.scales.push_back(static_cast<std::byte>(120 + random() % 14));
    } else {
      made.scales = rounded(grid->type == ScaleType::kF32 ? kF32 : kBF16, values);
    }
  }
  made.x.resize(static_cast<std::size_t>(n * cols));
  for (float& value : made.x) value = uniform(random) + 0x1p-20f;
  return made;
}

/// Runs the case; the largest error as a share of the largest finite result.
double check(Simulator& simulator, Case given) {
  Engine& engine = simulator.toolchain.engine();
  runtime::Device& device = *simulator.device;
  const auto stream = device.make_stream();
  const KernelSpec& spec = given.spec;
  const LoadedKernel kernel = engine.load(device, spec);
  REQUIRE(codegen::takes_float_matvec(spec));
  REQUIRE(kernel.built.emitted.source.find("mma.sync.aligned.m16n8k16") != std::string::npos);

  const std::vector<std::byte> x = rounded(spec.x_format, given.x);
  const auto y_size = static_cast<std::size_t>(given.n * given.rows);
  const auto there = [&](const std::vector<std::byte>& bytes) {
    auto buffer = device.allocate(std::max<std::size_t>(bytes.size(), 1));
    device.upload(*stream, bytes, *buffer, 0);
    return buffer;
  };
  const auto w_there = there(given.w), scales_there = there(given.scales), x_there = there(x);
  const auto y_there = device.allocate(y_size * sizeof(float));
  device.fill(*stream, *y_there, std::byte{0xff});
  std::vector<std::uint64_t> arguments;
  for (const LaunchArgument& argument : launch_order(spec)) {
    switch (argument.role) {
      case ArgumentRole::kWeights:
        arguments.push_back(w_there->address());
        break;
      case ArgumentRole::kScale:
        arguments.push_back(scales_there->address());
        break;
      case ArgumentRole::kX:
        arguments.push_back(x_there->address());
        break;
      case ArgumentRole::kY:
        arguments.push_back(y_there->address());
        break;
      case ArgumentRole::kRows:
        arguments.push_back(static_cast<std::uint64_t>(given.rows));
        break;
      case ArgumentRole::kN:
        arguments.push_back(static_cast<std::uint64_t>(given.n));
        break;
      default:
        FAIL("no argument of these cases");
    }
  }
  kernel.launch(*stream, given.rows, arguments);
  std::vector<float> got(y_size);
  device.download(*stream, *y_there, 0, std::as_writable_bytes(std::span(got)));
  stream->synchronize();

  std::vector<double> want(y_size), magnitude(y_size);
  matvec_reference(given.view(), given.x, given.n, 0, given.rows, want, magnitude);
  int wrong = 0;
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < y_size; ++i) {
    INFO(kernel_name(spec) << " on " << spec.target.name() << ", result " << i << ": " << got[i]
                           << ", expected " << want[i] << ", magnitudes " << magnitude[i]);
    const bool is_right = std::isfinite(want[i])
                              ? is_right_product(given.cols(), kF32, got[i], want[i], magnitude[i])
                          : std::isnan(want[i]) ? std::isnan(got[i])
                                                : static_cast<double>(got[i]) == want[i];
    if (!is_right && wrong++ < 3) CHECK(is_right);
    if (!std::isfinite(want[i])) continue;
    largest = std::max(largest, std::abs(want[i]));
    error = std::max(error, std::abs(static_cast<double>(got[i]) - want[i]));
  }
  CHECK(wrong == 0);
  return largest == 0 ? 0 : error / largest;
}

bool takes(FormatId format, std::int64_t cols, std::string_view target,
           const std::function<void(KernelSpec&)>& change = {},
           const std::optional<ScaleGrid>& grid = {}) {
  KernelSpec spec = make_spec(Op::kMatvec, format, grid, cols, parse_target(target, {}));
  if (change) change(spec);
  return codegen::takes_float_matvec(spec);
}

}  // namespace

TEST_CASE("matvec of 16- and 8-bit floats goes through tensor cores where rows are aligned") {
  for (const FormatId format : kFormats) {
    for (const char* target : {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"})
      CHECK(takes(format, 4096, target));
    CHECK_FALSE(takes(format, 4096, "sm_75"));
    CHECK_FALSE(takes(format, 4096 + 4, "sm_90a"));
    CHECK_FALSE(
        takes(format, 4096, "sm_90a", [](KernelSpec& s) { s.layout.base_alignment_bytes = 8; }));
    CHECK_FALSE(takes(format, 4096, "sm_90a", [](KernelSpec& s) { s.op = Op::kMoeMatvec; }));
    CHECK_FALSE(takes(format, 4096, "sm_90a", [](KernelSpec& s) { s.gate = Gate::kSilu; }));
    CHECK_FALSE(takes(format, 4096, "sm_90a", [](KernelSpec& s) { s.residual = kF32; }));
    CHECK_FALSE(takes(format, 4096, "sm_90a", [](KernelSpec& s) { s.matrices = 3; }));
    // The knob of the f32 kernel asks for it.
    CHECK_FALSE(takes(format, 4096, "sm_90a", [](KernelSpec& s) { s.tuning.rows_per_warp = 1; }));
    CHECK_FALSE(takes(format, 262144, "sm_90a"));  // x takes more than shared memory
    CHECK(takes(format, 14336, "sm_86"));
  }
  CHECK(takes(kBF16, 8, "sm_86"));
  CHECK_FALSE(takes(kFp8E4M3, 8, "sm_86"));
  CHECK_FALSE(takes(kFp8E4M3Fnuz, 4096, "sm_90a"));
  CHECK_FALSE(takes(kF32, 4096, "sm_90a"));
  for (const ScaleGrid& grid :
       {ScaleGrid{0, 0}, ScaleGrid{1, 0}, ScaleGrid{128, 128}, ScaleGrid{5, 192}})
    CHECK(takes(kFp8E4M3, 4096, "sm_90a", {}, grid));
  for (const ScaleGrid& grid : {ScaleGrid{1, 32}, ScaleGrid{32, 5}})
    CHECK_FALSE(takes(kFp8E4M3, 4096, "sm_90a", {}, grid));
}

TEST_CASE(
    "float matvec of every weight and activation format, rows and columns cut, 1 to 8 rows of x") {
  Simulator simulator;
  constexpr std::array kTargets = {"sm_86", "sm_90a", "sm_80"};
  int kernel = 0;
  for (const FormatId format : kFormats) {
    for (const FormatId x_format : {kF32, kF16, kBF16}) {
      for (const int n : {1, 3, 8}) {
        const std::int64_t cols = std::array{1296, 272, 512}[static_cast<std::size_t>(kernel % 3)];
        const std::int64_t rows = std::array{53, 16, 1, 40}[static_cast<std::size_t>(kernel % 4)];
        check(simulator, make_case(format, rows, cols, n,
                                   kTargets[static_cast<std::size_t>(kernel % 3)], {}, x_format));
        ++kernel;
      }
    }
  }
  // Fewer columns than a load of the four lanes, and a last row that isn't whole.
  for (const std::int64_t cols : {8, 16, 40, 120, 136})
    check(simulator, make_case(kBF16, 17, cols, 1, "sm_86"));
  for (const std::int64_t cols : {16, 48, 240, 272})
    check(simulator, make_case(kFp8E4M3, 17, cols, 2, "sm_86"));
}

TEST_CASE("float matvec with scales of every shape and type") {
  Simulator simulator;
  int kernel = 0;
  for (const ScaleType type : {ScaleType::kF32, ScaleType::kBF16, ScaleType::kE8M0}) {
    for (const auto& [rows, cols] :
         {std::pair{0, 0}, {1, 0}, {128, 0}, {0, 64}, {1, 128}, {128, 128}, {5, 192}, {16, 512}}) {
      const FormatId format = kernel % 3 == 1 ? kFp8E5M2 : kFp8E4M3;
      const char* const target = kernel % 2 == 0 ? "sm_86" : "sm_90a";
      const FormatId x_format = kernel % 5 == 2 ? kF16 : kF32;
      Case given = make_case(format, 149, 784, kernel % 4 == 3 ? 4 : 1, target,
                             ScaleGrid{rows, cols, type}, x_format);
      if (kernel % 3 == 2) given.spec.tuning.stages = 2;
      check(simulator, given);
      ++kernel;
    }
  }
}

TEST_CASE("float matvec at many settings of its knobs") {
  Simulator simulator;
  struct Knobs {
    int threads, ctas, stages;
  };
  for (const Knobs& knobs : {Knobs{32, 16, 1},
                             {64, 2, 2},
                             {128, 6, 8},
                             {256, 1, 3},
                             {512, 1, 2},
                             {1024, 1, 1},
                             {384, 2, 4}}) {
    for (const FormatId format : {kBF16, kFp8E4M3}) {
      Case given =
          make_case(format, 70, 2560, 1, "sm_90a",
                    format == kFp8E4M3 ? std::optional(ScaleGrid{128, 128}) : std::nullopt);
      given.spec.tuning = {
          .threads = knobs.threads, .ctas_per_multiprocessor = knobs.ctas, .stages = knobs.stages};
      check(simulator, given);
    }
  }
}

TEST_CASE("float matvec refuses knobs that don't fit") {
  KernelSpec spec = make_spec(Op::kMatvec, kBF16, {}, 4096, parse_target("sm_86", {}));
  const auto refuses = [&](const Tuning& tuning) {
    KernelSpec changed = spec;
    changed.tuning = tuning;
    CHECK_THROWS_AS(codegen::emit(changed), SpecError);
  };
  CHECK_NOTHROW(codegen::emit(spec));
  refuses({.stages = 9});
  refuses({.ctas_per_multiprocessor = 17});
  refuses({.threads = 1024, .ctas_per_multiprocessor = 3});
  refuses({.threads = 512, .stages = 2});  // 128 KiB
  refuses({.threads = 100});
  const std::vector<Tuning> candidates = candidates_for(spec);
  CHECK(candidates.size() > 4);
  CHECK(std::any_of(candidates.begin(), candidates.end(),
                    [](const Tuning& t) { return t.rows_per_warp != 0; }));
  CHECK(std::any_of(candidates.begin(), candidates.end(),
                    [](const Tuning& t) { return t.ctas_per_multiprocessor != 0; }));
}

TEST_CASE("float matvec with infinities and NaN in x is what IEEE's arithmetic gives") {
  Simulator simulator;
  for (const FormatId format : kFormats) {
    for (const FormatId x_format : {kF32, kF16, kBF16}) {
      Case given = make_case(format, 37, 1040, 2, "sm_86", {}, x_format);
      given.x[300] = kInfinity;
      given.set_code(3, 300, 0);  // 0 times infinity
      check(simulator, given);
      given.x[1000] = -kInfinity;
      given.x[1040] = kNan;  // of the second row of x only
      check(simulator, given);
    }
  }
}

TEST_CASE("float matvec with NaN and infinity in w and its scales") {
  Simulator simulator;
  struct Special {
    FormatId format;
    std::vector<unsigned> codes;
  };
  for (const char* target : {"sm_86", "sm_90a"}) {
    for (const auto& [format, codes] :
         {Special{kFp8E4M3, {0x7f, 0xff}}, Special{kFp8E5M2, {0x7c, 0xfc, 0x7d, 0xff}},
          Special{kF16, {0x7c00, 0xfc00, 0x7e00}}, Special{kBF16, {0x7f80, 0xff80, 0xffc0}}}) {
      for (const FormatId x_format : {kF32, kBF16}) {
        Case given = make_case(format, 40, 528, 2, target, {}, x_format);
        given.x[517] = 0.0f;  // of an infinite weight NaN in row 39
        for (std::size_t i = 0; i < codes.size(); ++i)
          given.set_code(static_cast<std::int64_t>(9 * i + 1),
                         static_cast<std::int64_t>(131 * i + 5), codes[i]);
        given.set_code(39, 517, codes[0]);
        check(simulator, given);
      }
    }
    for (const float special : {kInfinity, kNan}) {
      for (const ScaleGrid& grid : {ScaleGrid{1, 0}, ScaleGrid{16, 128}}) {
        Case given = make_case(kFp8E4M3, 40, 528, 1, target, grid);
        std::vector<float> scales(given.scales.size() / 4, 0.5f);
        scales[1] = special;
        given.scales = rounded(kF32, scales);
        check(simulator, given);
      }
    }
  }
  Case scanned = make_case(kFp8E4M3, 40, 528, 1, "sm_86", ScaleGrid{128, 128});
  scanned.spec.weights_finite = true;
  check(simulator, scanned);
}

TEST_CASE("float matvec decodes each 8-bit code at each place of 16") {
  Simulator simulator;
  for (const FormatId format : {kFp8E4M3, kFp8E5M2}) {
    for (const char* target : {"sm_80", "sm_89"}) {
      Case given = make_case(format, 256, 64, 1, target);
      for (std::int64_t row = 0; row < 256;
           ++row) {  // row r has code r where x is not 0, at place r % 16 and so on
        for (std::int64_t col = 0; col < 64; ++col)
          given.set_code(row, col, static_cast<unsigned>(row));
      }
      check(simulator, given);
    }
  }
}

TEST_CASE("float matvec with x of many binades keeps every number's bits") {
  Simulator simulator;
  std::mt19937 random(5);
  for (const FormatId format : kFormats) {
    for (const FormatId x_format : {kF32, kBF16}) {
      Case wide = make_case(format, 19, 1040, 1, "sm_86", {}, x_format);
      Case huge = wide, tiny = wide, hidden = wide;
      for (float& value : wide.x) value = std::ldexp(value, static_cast<int>(random() % 121) - 60);
      for (float& value : huge.x) value = std::ldexp(value, 100);
      for (float& value : tiny.x) value = std::ldexp(value, -100);
      // The largest meets weights of zero: what is left are the others, far below it.
      for (const int binades : {12, 25, 40, 90}) {
        hidden.x[700] = std::ldexp(1.0f, binades);
        for (std::int64_t row = 0; row < hidden.rows; ++row) hidden.set_code(row, 700, 0);
        check(simulator, hidden);
      }
      check(simulator, wide);
      check(simulator, huge);
      check(simulator, tiny);
    }
  }
}

TEST_CASE("float matvec is of f32 quality") {
  Simulator simulator;
  for (const FormatId format : kFormats) {
    Case given = make_case(format, 64, 4096, 1, "sm_90a");
    const double error = check(simulator, given);
    INFO(get_format(format).name << ": " << error << " of the largest result");
    CHECK(error < 3e-7);
  }
}

TEST_CASE("float matvec requests weights before it waits, and gives the same bits") {
  for (const FormatId format : {kBF16, kFp8E4M3}) {
    for (const int stages : {1, 3}) {
      Simulator simulator;
      Case given =
          make_case(format, 70, 1024, 1, "sm_90a",
                    format == kFp8E4M3 ? std::optional(ScaleGrid{128, 128}) : std::nullopt);
      given.spec.tuning.stages = stages;
      given.spec.dependent_launch = true;
      const auto loads_before_wait = [&] {
        const std::string source = codegen::emit(given.spec).source;
        const std::size_t kernel = source.find("extern \"C\"");
        return source.find(stages == 1 ? "source.load(p, lane)" : "copy_weights(ring", kernel) <
               source.find("wait_for_earlier_grids();", kernel);
      };
      CHECK_FALSE(loads_before_wait());
      check(simulator, given);
      given.spec.constant_weights = true;
      CHECK(loads_before_wait());
      check(simulator, given);
    }
  }
  KernelSpec spec = make_spec(Op::kMatvec, kBF16, {}, 4096, parse_target("sm_90a", {}));
  spec.constant_weights = true;
  CHECK_THROWS_AS(validate(spec), SpecError);  // without dependent launches
  spec.dependent_launch = true;
  CHECK_NOTHROW(validate(spec));
  spec.gate = Gate::kSilu;
  CHECK_THROWS_AS(validate(spec), SpecError);
  spec.gate = Gate::kNone;
  spec.weight = kQ8_0;
  CHECK_THROWS_AS(validate(spec), SpecError);
}

}  // namespace ktjit
