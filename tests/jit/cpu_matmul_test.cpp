// Matmul by tiles of AMX: at tensor-core precision, and of numbers that tiles can't take.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "core/cpu_tiles.h"
#include "core/format.h"
#include "core/kernel_spec.h"
#include "jit/reference_ops.h"
#include "jit/toolchain.h"
#include "runtime/cpu_device.h"
#include "tests/support/checked_bench.h"
#include "tests/support/kernel_cases.h"

namespace ktjit {
namespace {

using enum FormatId;

struct TileBench {
  Toolchain toolchain{[] {
                        Options options;
                        options.cache_enabled = false;
                        options.worker = KTJIT_WORKER_PATH;
                        return options;
                      }(),
                      [](std::string_view) {}};
  std::unique_ptr<runtime::Device> device = runtime::make_cpu_device(runtime::make_tbb_executor(1));

  /// Says that a test wasn't run where the CPU has no tiles.
  bool has_tiles() const {
    if (has_bf16_tiles(device->native_target())) return true;
    WARN("not run: this CPU has no AMX for bf16, or Linux keeps it");
    return false;
  }

  KernelSpec spec(FormatId format, std::int64_t cols) const {
    return make_spec(Op::kMatmul, format, fixed_scale_grid(format), cols, device->native_target());
  }

  KernelSpec rounded_spec(FormatId format, std::int64_t cols) const {
    KernelSpec spec = this->spec(format, cols);
    spec.tensor_core_precision = true;
    spec.x_format = kBF16;
    return spec;
  }

  /// y of f32 weights [rows, cols] and f32 x [n, cols].
  std::vector<float> multiply(const std::vector<float>& w, const std::vector<float>& x,
                              std::int64_t rows, std::int64_t cols, std::int64_t n) {
    const LoadedKernel kernel = toolchain.engine().load(*device, spec(kF32, cols));
    const auto stream = device->make_stream();
    const auto w_at = runtime::place_on_device(*device, *stream, std::as_bytes(std::span(w)));
    const auto x_at = runtime::place_on_device(*device, *stream, std::as_bytes(std::span(x)));
    std::vector<float> y(static_cast<std::size_t>(rows * n));
    const auto y_at = device->allocate(y.size() * sizeof(float));
    const std::uint64_t arguments[] = {w_at->address(), x_at->address(), y_at->address(),
                                       static_cast<std::uint64_t>(rows),
                                       static_cast<std::uint64_t>(n)};
    kernel.launch(*stream, rows, arguments, n);
    device->download(*stream, *y_at, 0, std::as_writable_bytes(std::span(y)));
    return y;
  }
};

struct alignas(64) TileConfig {
  unsigned char bytes[64] = {};
};

__attribute__((target("amx-tile"))) void set_tile_config(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" : : "m"(config));
}
__attribute__((target("amx-tile"))) TileConfig get_tile_config() {
  TileConfig config;
  __asm__ volatile("sttilecfg %0" : "=m"(config));
  return config;
}

}  // namespace

TEST_CASE("CPU matmul at tensor-core precision stays within its bound") {
  TileBench bench;
  if (!bench.has_tiles()) return;
  constexpr std::array kN = {5, 16, 33};
  std::vector<BenchWork> works;
  const std::vector<FormatId> formats = test::product_formats();
  // Each second one: what differs between formats is the decode, which a16's tests have all of.
  for (std::size_t i = 0; i < formats.size(); i += 2) {
    const Format& format = get_format(formats[i]);
    const std::int64_t cols = format.block_elems == 256 ? 768 : format.block_elems > 1 ? 640 : 537;
    KernelSpec spec = bench.rounded_spec(format.id, cols);
    REQUIRE(serves_tensor_core_precision(spec));
    const std::size_t at = works.size();
    spec.y_format = at % 3 == 0 ? kF32 : at % 3 == 1 ? kBF16 : kF16;
    if (at % 2 == 1) spec.bias = kF32;
    works.push_back({spec, 139 + static_cast<std::int64_t>(at % 2), kN[at % kN.size()]});
  }
  REQUIRE(works.size() >= 19);
  test::check_works(bench.toolchain.engine(), *bench.device, works);
}

TEST_CASE("CPU matmul at tensor-core precision is for bf16 activations and CPUs with AMX") {
  const std::vector<std::string> amx = {"amx-bf16", "amx-tile", "avx512bf16", "avx512bw",
                                        "avx512f"};
  KernelSpec spec =
      make_spec(Op::kMatmul, kQ4_K, std::nullopt, 512, make_cpu_target("native", amx));
  spec.tensor_core_precision = true;
  spec.x_format = kBF16;
  CHECK_NOTHROW(validate(spec));
  const auto is_refused = [](const KernelSpec& refused) {
    try {
      validate(refused);
      return false;
    } catch (const SpecError& error) {
      return std::string(error.what()).find("CPUs with AMX (amx-bf16, avx512bf16)") !=
             std::string::npos;
    }
  };
  KernelSpec of_f32 = spec;
  of_f32.x_format = kF32;
  CHECK(is_refused(of_f32));
  for (const std::string& without : amx) {
    if (without == "avx512f") continue;
    std::vector<std::string> fewer = amx;
    std::erase(fewer, without);
    KernelSpec on_less = spec;
    on_less.target = make_cpu_target("native", fewer);
    INFO(without);
    CHECK(is_refused(on_less));
  }
}

TEST_CASE("CPU matmul by tiles is right where numbers have no place in bf16's range") {
  TileBench bench;
  if (!bench.has_tiles()) return;
  constexpr std::int64_t kRows = 37, kCols = 100, kN = 19;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> w(kRows * kCols), x(kN * kCols);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::sin(static_cast<float>(i) * 0.7f);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<float>(i) * 1.3f);
  const auto w_at = [&](std::int64_t row, std::int64_t col) -> float& {
    return w[static_cast<std::size_t>(row * kCols + col)];
  };
  const auto x_at = [&](std::int64_t j, std::int64_t col) -> float& {
    return x[static_cast<std::size_t>(j * kCols + col)];
  };
  w_at(0, 3) = kInfinity;
  w_at(1, 99) = -kInfinity;
  w_at(2, 0) = std::numeric_limits<float>::quiet_NaN();
  w_at(3, 17) = std::numeric_limits<float>::max();
  for (std::int64_t c = 0; c < kCols; ++c) {
    w_at(4, c) *= 0x1p-110f;                        // terms would be subnormal
    w_at(5, c) = c == 7 ? 0.0f : 0x1.234567p-120f;  // beside x that is large where w is 0
    w_at(6, c) = 0.0f;
    x_at(4, c) *= 0x1p-130f;  // subnormal
    x_at(5, c) *= 0x1p+100f;
    x_at(6, c) = c == 7 ? 0x1p+90f : x_at(6, c) * 0x1p-100f;  // far apart
    x_at(7, c) = 0.0f;
  }
  x_at(1, 2) = kInfinity;
  x_at(2, 50) = std::numeric_limits<float>::quiet_NaN();
  x_at(3, 98) = -std::numeric_limits<float>::max();

  const std::vector<float> y = bench.multiply(w, x, kRows, kCols, kN);
  ScaledTensorView view;
  view.format = kF32;
  view.rows = kRows;
  view.cols = kCols;
  const auto bytes = std::as_bytes(std::span(w));
  view.data = bytes;
  std::vector<double> want(y.size()), sums(y.size());
  matvec_reference(view, x, kN, 0, kRows, want, sums);
  int wrong = 0, special = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    // Beyond f32: the sum overflows, and so may parts of it that cancel out.
    if (std::abs(want[i]) > 0x1p+127 && std::isfinite(want[i])) continue;
    special += !std::isfinite(want[i]);
    // Beneath f32's smallest normal number bits are lost by y itself.
    if (is_right_product(kCols, kF32, y[i], want[i], sums[i] + 0x1p-126)) continue;
    ++wrong;
    UNSCOPED_INFO("row " << i % kRows << ", column " << i / kRows << ": " << y[i] << ", not "
                         << want[i]);
  }
  CHECK(wrong == 0);
  CHECK(special > 100);
}

TEST_CASE("CPU matmul by tiles leaves a thread the tile configuration that it had") {
  TileBench bench;
  if (!bench.has_tiles()) return;
  TileConfig config;
  config.bytes[0] = 1;  // palette
  config.bytes[16] = 64;
  config.bytes[18] = 32;  // bytes of a row of tiles 0 and 1
  config.bytes[48] = 8;
  config.bytes[49] = 16;  // their rows
  set_tile_config(config);
  const std::vector<float> y =
      bench.multiply(std::vector<float>(64, 0.5f), std::vector<float>(64, 2.0f), 1, 64, 1);
  CHECK(y[0] == 64.0f);
  const TileConfig after = get_tile_config();
  CHECK(std::memcmp(after.bytes, config.bytes, sizeof config.bytes) == 0);
  set_tile_config({});  // palette 0: as after tilerelease
  bench.multiply(std::vector<float>(64, 0.5f), std::vector<float>(64, 2.0f), 1, 64, 1);
  CHECK(get_tile_config().bytes[0] == 0);
}

}  // namespace ktjit
