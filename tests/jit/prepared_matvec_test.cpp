// Matvec of prepared weights in the simulator, the weights prepared by their kernel, against the plain reference.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/bench_runner.h"
#include "jit/bench_weights.h"
#include "jit/reference_ops.h"
#include "tests/jit/simulator_machine.h"
#include "tests/support/checked_bench.h"
#include "tests/support/golden_data.h"

namespace ktjit {
namespace {

using test::Simulator;

BenchWork prepared_work(FormatId format, std::int64_t rows, std::int64_t cols, int n,
                        std::string_view target) {
  BenchWork work{
      make_spec(Op::kMatvec, format, fixed_scale_grid(format), cols, parse_target(target, {})),
      rows, n};
  work.spec.layout.kind = LayoutKind::kPrepared;
  work.spec.x_columns = x_columns_for(n);
  return work;
}

void check(const std::vector<BenchWork>& works) {
  Simulator simulator;
  test::check_works(simulator.toolchain.engine(), *simulator.device, works);
}

constexpr std::int64_t kRows = 19, kCols = 2560;  // ten units for eight warps
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Weights, and their scales where those lie beside them.
struct HostWeights {
  std::int64_t rows = kRows;
  std::int64_t cols = kCols;
  std::vector<std::byte> codes;
  std::vector<std::byte> scales;
};

HostWeights random_weights(FormatId format) {
  const BenchWeights weights({format, fixed_scale_grid(format)}, kRows, kCols);
  HostWeights result;
  for (std::int64_t row = 0; row < kRows; ++row) {
    const BenchRow one = weights.row(0, row);
    result.codes.insert(result.codes.end(), one.codes.begin(), one.codes.end());
  }
  result.scales.assign(weights.scales().begin(), weights.scales().end());
  return result;
}

/// Prepares the weights and multiplies them by n rows of x.
std::vector<float> multiply(Simulator& simulator, FormatId format, std::string_view target,
                            const HostWeights& weights, const std::vector<float>& x, int n = 1) {
  Engine& engine = simulator.toolchain.engine();
  runtime::Device& device = *simulator.device;
  const BenchWork work = prepared_work(format, weights.rows, weights.cols, n, target);
  const auto rows = static_cast<std::uint64_t>(weights.rows);
  const auto stream = device.make_stream();
  const auto native = device.allocate(weights.codes.size());
  const auto scales = device.allocate(weights.scales.size() + 1);  // empty for most formats
  const auto prepared =
      device.allocate(static_cast<std::size_t>(prepared_bytes(format, weights.rows, weights.cols)));
  const auto x_buffer = device.allocate(x.size() * sizeof(float));
  const auto results = rows * static_cast<std::uint64_t>(n);
  const auto y = device.allocate(results * sizeof(float));
  device.upload(*stream, weights.codes, *native, 0);
  device.upload(*stream, weights.scales, *scales, 0);
  device.upload(*stream, std::as_bytes(std::span(x)), *x_buffer, 0);
  std::vector<std::uint64_t> prepare = {native->address()};
  if (!weights.scales.empty()) prepare.push_back(scales->address());
  prepare.insert(prepare.end(), {prepared->address(), rows});
  engine.load(device, *prepare_spec_of(work.spec)).launch(*stream, weights.rows, prepare);
  const std::uint64_t arguments[] = {prepared->address(), x_buffer->address(), y->address(), rows,
                                     static_cast<std::uint64_t>(n)};
  engine.load(device, work.spec).launch(*stream, weights.rows, arguments);
  std::vector<float> got(results);
  device.download(*stream, *y, 0, std::as_writable_bytes(std::span(got)));
  stream->synchronize();
  return got;
}

/// NaNs and infinities by class, others within the f32 bound.
bool is_right(std::int64_t cols, double value, double want, double magnitude) {
  if (std::isfinite(want)) return is_right_product(cols, FormatId::kF32, value, want, magnitude);
  return std::isnan(want) ? std::isnan(value) : value == want;
}

/// Multiplies the weights by n rows of x, prepared and in the simulator, and compares with the reference.
void check_product(FormatId format, std::string_view target, const HostWeights& weights,
                   const std::vector<float>& x, int n = 1) {
  Simulator simulator;
  const std::vector<float> got = multiply(simulator, format, target, weights, x, n);
  const ScaledTensorView view = {
      format, kRows, kCols, weights.codes, fixed_scale_grid(format), weights.scales};
  for (std::int64_t j = 0; j < n; ++j) {
    const std::span<const float> own =
        std::span(x).subspan(static_cast<std::size_t>(j * kCols), kCols);
    for (std::int64_t row = 0; row < kRows; ++row) {
      double want = 0, magnitude = 0;
      matvec_reference(view, own, 1, row, 1, {&want, 1}, {&magnitude, 1});
      const double value = got[static_cast<std::size_t>(j * kRows + row)];
      INFO(get_format(format).name << " on " << target << ", row " << row << ", row " << j
                                   << " of x: " << value << ", expected " << want << ", magnitudes "
                                   << magnitude);
      CHECK(is_right(kCols, value, want, magnitude));
    }
  }
}

void check_x(FormatId format, std::string_view target, const std::vector<float>& x) {
  check_product(format, target, random_weights(format), x);
}

/// q8_0 with zeros in a column.
HostWeights with_zeros_in(std::int64_t column) {
  HostWeights weights = random_weights(FormatId::kQ8_0);
  const std::int64_t row_size = row_bytes(get_format(FormatId::kQ8_0), kCols);
  for (std::int64_t row = 0; row < kRows; ++row) {  // 34 bytes for 32 columns, codes from byte 2 on
    const std::int64_t at = row * row_size + column / 32 * 34 + 2 + column % 32;
    weights.codes[static_cast<std::size_t>(at)] = std::byte{0};
  }
  return weights;
}

/// Between -1 and 1, never 0.
std::vector<float> small_x() {
  std::mt19937 random(3);
  std::vector<float> x(kCols);
  for (float& value : x) value = (static_cast<float>(random() % 2001) - 1000.5f) / 1000.5f;
  return x;
}

}  // namespace

TEST_CASE("prepared matvec with x of many binades") {
  std::vector<float> x = small_x();
  std::mt19937 random(5);
  for (float& value : x) value = std::ldexp(value, static_cast<int>(random() % 121) - 60);
  for (const char* target : {"sm_61", "sm_75", "sm_86"}) {
    for (const FormatId format : {FormatId::kQ8_0, FormatId::kQ4_K, FormatId::kIQ4_NL,
                                  FormatId::kIQ2_XS, FormatId::kIQ1_M, FormatId::kNvfp4}) {
      if (!serves_prepared(format, parse_target(target, {}))) continue;
      check_x(format, target, x);
    }
  }
  std::vector<float> huge = small_x(), tiny = small_x();
  for (float& value : huge) value = std::ldexp(value, 115);
  for (float& value : tiny) value = std::ldexp(value, -115);
  for (const char* target : {"sm_70", "sm_86"}) {
    check_x(FormatId::kQ6_K, target, huge);
    check_x(FormatId::kQ6_K, target, tiny);
  }
}

TEST_CASE("prepared matvec where the largest x meets weights of zero") {
  std::vector<float> x = small_x();
  x[700] = 0x1p+60f;  // the others have no bit of the first 30 below it
  for (const char* target : {"sm_61", "sm_75", "sm_86"})
    check_product(FormatId::kQ8_0, target, with_zeros_in(700), x);
}

TEST_CASE("prepared matvec with infinities and NaN in x is what IEEE's arithmetic gives") {
  for (const char* target : {"sm_61", "sm_86"}) {
    for (const FormatId format :
         {FormatId::kQ8_0, FormatId::kQ4_0, FormatId::kQ4_K, FormatId::kQ6_K, FormatId::kQ3_K,
          FormatId::kGgmlMxfp4, FormatId::kIQ3_S, FormatId::kIQ2_XXS, FormatId::kIQ1_S,
          FormatId::kIQ1_M, FormatId::kNvfp4}) {
      if (!serves_prepared(format, parse_target(target, {}))) continue;
      std::vector<float> x = small_x();
      x[300] = kInfinity;
      check_x(format, target, x);  // both signs, by that of the weight
      x[301] = -kInfinity;
      x[2559] = kInfinity;
      check_x(format, target, x);  // NaN where they have both signs
      x = small_x();
      x[1111] = std::numeric_limits<float>::quiet_NaN();
      check_x(format, target, x);
    }
  }
  std::vector<float> x = small_x();
  x[700] = kInfinity;
  for (const char* target : {"sm_61", "sm_75"})
    check_product(FormatId::kQ8_0, target, with_zeros_in(700), x);  // 0 times infinity
}

TEST_CASE("prepared matvec of several rows of x, some of which two f16 don't hold") {
  constexpr int kXRows = 4;
  const auto with = [](auto change) {  // row by row; the others are plain
    std::vector<float> x;
    for (int j = 0; j < kXRows; ++j) {
      std::vector<float> row = small_x();
      std::rotate(row.begin(), row.begin() + 100 * j, row.end());
      change(j, row);
      x.insert(x.end(), row.begin(), row.end());
    }
    return x;
  };
  const std::vector<float> special = with([](int j, std::vector<float>& row) {
    if (j == 1) row[300] = kInfinity;
    if (j == 2) row[301] = std::numeric_limits<float>::quiet_NaN();
    if (j == 3) std::fill(row.begin(), row.begin() + 256, 0.0f);
  });
  const std::vector<float> wide = with([](int j, std::vector<float>& row) {
    std::mt19937 random(7);
    if (j == 1)
      for (float& value : row) value = std::ldexp(value, static_cast<int>(random() % 121) - 60);
    if (j == 2)
      for (float& value : row) value = std::ldexp(value, 110);
    if (j == 3) row[600] = 0x1p+60f;  // the others leave no bit in two f16
  });
  for (const FormatId format : {FormatId::kQ4_K, FormatId::kQ5_K}) {
    const HostWeights weights = random_weights(format);
    check_product(format, "sm_86", weights, special, kXRows);
    check_product(format, "sm_86", weights, wide, kXRows);
  }
}

TEST_CASE("prepared matvec of the blocks whose values ggml computed") {
  Simulator simulator;
  int entries = 0;
  for (const test::GoldenEntry& entry : test::load_golden()) {
    if (find_prepared_layout(entry.format) == nullptr) continue;
    ++entries;
    std::vector<float> x = small_x();
    x.resize(static_cast<std::size_t>(entry.cols));
    const std::vector<float> got =
        multiply(simulator, entry.format, "sm_86", {entry.rows, entry.cols, entry.encoded, {}}, x);
    for (std::int64_t row = 0; row < entry.rows; ++row) {
      double want = 0, magnitude = 0;
      for (std::int64_t col = 0; col < entry.cols; ++col) {
        const double product =
            static_cast<double>(entry.values[static_cast<std::size_t>(row * entry.cols + col)]) *
            static_cast<double>(x[static_cast<std::size_t>(col)]);
        want += product;
        magnitude += std::abs(product);
      }
      // The block scales of prepared ggml_mxfp4 end at 2^-126, and their sums at the largest f32.
      const bool is_extreme = magnitude < 0x1p-110 || magnitude > 0x1p+127;
      if (entry.format == FormatId::kGgmlMxfp4 && magnitude != 0 && is_extreme) continue;
      const double value = got[static_cast<std::size_t>(row)];
      INFO(entry.type << ", row " << row << ", " << entry.row_kinds[static_cast<std::size_t>(row)]
                      << ": " << value << ", expected " << want << ", magnitudes " << magnitude);
      CHECK(is_right(entry.cols, value, want, magnitude));
    }
  }
  CHECK(entries >= 20);
}

TEST_CASE("prepared iq1, iq2, mxfp4 and nvfp4 as sm_61, sm_75, sm_86 and sm_90a") {
  std::vector<BenchWork> works;
  for (const char* target : {"sm_61", "sm_75", "sm_86", "sm_90a"}) {
    for (const FormatId format :
         {FormatId::kIQ1_S, FormatId::kIQ1_M, FormatId::kIQ2_XXS, FormatId::kIQ2_XS,
          FormatId::kIQ2_S, FormatId::kMxfp4, FormatId::kNvfp4}) {
      if (serves_prepared(format, parse_target(target, {})))
        works.push_back(prepared_work(format, 35, 1280, 1, target));
    }
  }
  works.push_back(prepared_work(FormatId::kIQ1_M, 18, 512, 4, "sm_86"));
  works.push_back(prepared_work(FormatId::kIQ2_S, 18, 512, 2, "sm_75"));
  works.push_back(
      prepared_work(FormatId::kNvfp4, 18, 528, 3, "sm_90a"));  // 16 columns in the last unit
  check(works);
}

TEST_CASE("prepared mxfp4: a scale that is NaN makes its rows NaN, the least counts as 0") {
  HostWeights weights = random_weights(FormatId::kMxfp4);
  constexpr std::size_t kBlocks = kCols / 32;
  weights.scales[3 * kBlocks + 7] = std::byte{255};
  weights.scales[18 * kBlocks] = std::byte{255};
  weights.scales[5 * kBlocks + 1] = std::byte{0};
  for (const char* target : {"sm_61", "sm_75", "sm_86"})
    check_product(FormatId::kMxfp4, target, weights, small_x());
}

TEST_CASE(
    "prepared nvfp4: scales that are NaN, negative or subnormal, and small and large tensor "
    "scales") {
  HostWeights weights = random_weights(FormatId::kNvfp4);
  constexpr std::size_t kHeader = 16, kBlocks = kCols / 16;
  REQUIRE(weights.scales.size() == kHeader + kRows * kBlocks);
  const auto scale = [&](std::size_t row, std::size_t block) -> std::byte& {
    return weights.scales[kHeader + row * kBlocks + block];
  };
  scale(2, 9) = std::byte{0x7f};
  scale(11, 159) = std::byte{0xff};
  for (std::size_t block = 0; block < kBlocks; ++block) {
    scale(4, block) |= std::byte{0x80};
    scale(6, block) = static_cast<std::byte>(block % 8);  // 0 to 7 times 2^-9
    scale(8, block) = static_cast<std::byte>(block % 2 == 0 ? 0x7e : 0xfe);
  }
  for (const float tensor_scale : {1.0f, 0x1p-70f, 0x1.8p+90f}) {
    std::memcpy(weights.scales.data(), &tensor_scale, sizeof tensor_scale);
    for (const char* target : {"sm_61", "sm_75", "sm_86"})
      check_product(FormatId::kNvfp4, target, weights, small_x());
  }
}

TEST_CASE("prepared weights are for products, from addresses of 16 bytes") {
  KernelSpec spec = prepared_work(FormatId::kQ4_K, kRows, kCols, 1, "sm_86").spec;
  CHECK_NOTHROW(validate(spec));
  const auto refuses = [&](auto change) {
    KernelSpec changed = spec;
    change(changed);
    CHECK_THROWS_AS(validate(changed), SpecError);
  };
  refuses([](KernelSpec& s) {
    s.op = Op::kMatmul;
    s.target = make_cuda_target(70);  // no tensor cores for it
  });
  refuses([](KernelSpec& s) { s.layout.base_alignment_bytes = 8; });
  refuses([](KernelSpec& s) { s.target = make_cuda_target(60); });  // no dp4a
  spec.target = make_cuda_target(61);
  CHECK_NOTHROW(validate(spec));
  refuses([](KernelSpec& s) { s.constant_weights = true; });
  spec.target = parse_target("sm_90a", {});
  spec.dependent_launch = spec.constant_weights = true;
  CHECK_NOTHROW(validate(spec));
}

TEST_CASE("prepared matvec of every format that has the layout, rows and columns cut") {
  std::vector<BenchWork> works;
  int formats = 0;
  for (const Format& format : all_formats()) {
    if (find_prepared_layout(format.id) == nullptr) continue;
    const std::int64_t cols = format.block_elems == 256 ? 768 : 640;  // 640: half of the last unit
    const char* const mma = formats % 2 == 0 ? "sm_86" : "sm_75";
    const char* const dp4a = formats % 3 == 0 ? "sm_70" : "sm_61";
    works.push_back(prepared_work(format.id, 53, cols, 1, mma));
    if (serves_prepared(format.id, parse_target(dp4a, {})))
      works.push_back(prepared_work(format.id, 53, cols, 1, dp4a));
    ++formats;
  }
  CHECK(formats == 27);
  check(works);
}

TEST_CASE("prepared matvec with several rows of x, 16-bit ones, and units in flight") {
  std::vector<BenchWork> works;
  for (const FormatId format : {FormatId::kQ4_K, FormatId::kQ8_0, FormatId::kGgmlNvfp4}) {
    works.push_back(prepared_work(format, 37, 512, 3, "sm_86"));
    works.back().spec.x_format = FormatId::kF16;
    works.push_back(prepared_work(format, 70, 2560, 1, "sm_90a"));
    works.back().spec.tuning.stages = 3;
    works.back().spec.tuning.ctas_per_multiprocessor = 1;
    for (const int n : {2, 4, 8}) works.push_back(prepared_work(format, 37, 768, n, "sm_61"));
    works.back().spec.x_format = FormatId::kBF16;
  }
  check(works);
}

TEST_CASE("prepared matvec where shared memory holds the digits of few units of x") {
  std::vector<BenchWork> works;
  works.push_back(prepared_work(FormatId::kQ4_K, 21, 14336, 1, "sm_61"));  // 48 KiB
  works.push_back(prepared_work(FormatId::kQ8_0, 21, 4096 + 32, 8, "sm_61"));
  works.push_back(prepared_work(FormatId::kQ6_K, 21, 16384, 1, "sm_75"));  // 64 KiB
  works.push_back(prepared_work(FormatId::kGgmlMxfp4, 21, 14336, 8, "sm_86"));
  check(works);
}

TEST_CASE("the size of prepared weights: units of 16 rows and 256 columns") {
  CHECK(prepared_bytes(FormatId::kQ4_K, 16, 256) == 16 * 144);  // as large as the native blocks
  CHECK(prepared_bytes(FormatId::kQ6_K, 17, 512) == 2 * 2 * 16 * 210);
  CHECK(prepared_bytes(FormatId::kQ3_K, 16, 256) == 16 * 114);  // scales of 6 bits become bytes
  CHECK(prepared_bytes(FormatId::kQ8_0, 1, 32) == 16 * 272);
  CHECK(prepared_bytes(FormatId::kIQ2_XXS, 16, 256) == 16 * 102);  // 66 in the file
  CHECK(prepared_bytes(FormatId::kIQ2_XS, 16, 256) == 16 * 106);   // 74
  CHECK(prepared_bytes(FormatId::kIQ2_S, 16, 256) == 16 * 106);    // 82
  CHECK(prepared_bytes(FormatId::kIQ1_S, 16, 256) == 16 * 70);     // 50
  CHECK(prepared_bytes(FormatId::kIQ1_M, 16, 256) == 16 * 76);     // 56
  CHECK(prepared_bytes(FormatId::kMxfp4, 16, 256) == 16 * 136);    // codes and scales
  CHECK(prepared_bytes(FormatId::kNvfp4, 16, 256) ==
        16 * 148);  // and the tensor's scale in each row
  CHECK_THROWS_AS(prepared_bytes(FormatId::kFp8E4M3, 16, 256), SpecError);
  CHECK_THROWS_AS(prepared_bytes(FormatId::kQ4_K, 0, 256), SpecError);
}

}  // namespace ktjit
