#include "tests/support/tensor_core_works.h"

#include <array>

#include "core/prepared_layout.h"

namespace ktjit::test {
using enum FormatId;

KernelSpec rounded_weights_spec(FormatId format, std::int64_t cols, int x_tile) {
  KernelSpec spec =
      make_spec(Op::kMatmul, format, fixed_scale_grid(format), cols, parse_target("sm_90a", {}));
  spec.tensor_core_precision = true;
  spec.x_format = kBF16;
  if (find_prepared_layout(format) != nullptr) spec.layout.kind = LayoutKind::kPrepared;
  spec.tuning.x_tile = x_tile;
  return spec;
}

KernelSpec fp8_product_spec(std::int64_t cols, int x_tile) {
  KernelSpec spec = rounded_weights_spec(kFp8E4M3, cols, x_tile);
  spec.scale = ScaleGrid{128, 128, ScaleType::kF32};
  spec.activation = ActivationPolicy::kAfp8;
  spec.x_format = kFp8E4M3;
  spec.x_scale = ScaleGrid{1, 128, ScaleType::kF32};
  return spec;
}

namespace {

/// Small: rows, columns and rows of x cut.
std::vector<BenchWork> every_format(const Target& target, FormatId x_format) {
  constexpr std::array kN = {5, 16, 21};
  std::vector<BenchWork> works;
  for (const Format& format : all_formats()) {
    const std::int64_t cols = format.block_elems == 256 ? 512 : format.block_elems > 32 ? 384 : 352;
    KernelSpec spec = rounded_weights_spec(format.id, cols, 16);
    spec.target = target;
    spec.x_format = x_format;
    if (!serves_tensor_core_precision(spec)) continue;
    const std::size_t at = works.size();
    spec.y_format = at % 3 == 0 ? kF32 : at % 3 == 1 ? kBF16 : kF16;
    works.push_back({spec, 139 + static_cast<std::int64_t>(at % 2), kN[at % kN.size()]});
  }
  return works;
}

}  // namespace

std::vector<BenchWork> every_format_rounded() {
  return every_format(parse_target("sm_90a", {}), kBF16);
}

std::vector<BenchWork> every_format_by_warps(const Target& target, FormatId x_format) {
  return every_format(target, x_format);
}

std::vector<BenchWork> variants_by_warps(const Target& target, FormatId x_format) {
  const auto spec_of = [&](FormatId format, std::int64_t cols, int tile) {
    KernelSpec spec = rounded_weights_spec(format, cols, tile);
    spec.target = target;
    spec.x_format = x_format;
    return spec;
  };
  std::vector<BenchWork> works;
  for (const ScaleGrid& grid :
       {ScaleGrid{128, 128, ScaleType::kF32}, ScaleGrid{1, 0, ScaleType::kBF16},
        ScaleGrid{0, 0, ScaleType::kF32}, ScaleGrid{16, 64, ScaleType::kF32}}) {
    works.push_back({spec_of(kFp8E4M3, 400, 32), 70, 33});
    works.back().spec.scale = grid;
  }
  works.push_back({spec_of(kFp8E5M2, 272, 64), 40, 5});
  works.push_back({spec_of(kFp8E4M3, 1296, 16), 33, 16});  // five units and a piece of one
  works.back().spec.weights_finite = true;
  for (const int tile : {16, 64, 128}) {
    KernelSpec spec = spec_of(tile == 64 ? x_format : tile == 128 ? kQ6_K : kQ4_K, 768, tile);
    spec.bias = tile == 64 ? kF16 : kF32;
    spec.y_format = kBF16;
    spec.tuning.stages = tile == 128 ? 2 : tile == 32 ? 4 : 0;
    works.push_back({spec, 128, tile + 3});
  }
  works.push_back({spec_of(kQ8_0, 2080, 128), 17, 130});  // eight units and a block of 32 columns
  return works;
}

std::vector<BenchWork> rounded_weights_variants() {
  std::vector<BenchWork> works;
  for (const ScaleGrid& grid :
       {ScaleGrid{128, 128, ScaleType::kF32}, ScaleGrid{1, 0, ScaleType::kBF16},
        ScaleGrid{0, 0, ScaleType::kF32}, ScaleGrid{16, 64, ScaleType::kF32}}) {
    KernelSpec spec = rounded_weights_spec(kFp8E4M3, 400, 32);
    spec.scale = grid;
    works.push_back({spec, 260, 33});
  }
  for (const int tile : {32, 64, 128, 256}) {
    KernelSpec spec = rounded_weights_spec(tile == 64 ? kBF16 : kQ4_K, 512, tile);
    spec.bias = tile == 64 ? kF16 : kF32;
    spec.y_format = kBF16;
    spec.tuning.stages = tile == 128 ? 2 : 0;
    works.push_back({spec, 128, tile + 3});
  }
  return works;
}

std::vector<BenchWork> fp8_product_variants() {
  std::vector<BenchWork> works;
  for (const int tile : {16, 64, 128})
    works.push_back({fp8_product_spec(512, tile), 200, tile + 5});
  works.push_back({fp8_product_spec(656, 32), 130, 40});  // five groups and a quarter
  works.back().spec.y_format = kBF16;
  works.back().spec.bias = kF32;
  works.push_back({fp8_product_spec(384, 64), 129, 64});
  works.back().spec.scale = ScaleGrid{1, 0, ScaleType::kBF16};
  works.push_back(
      {fp8_product_spec(640, 16), 500, 20});  // tiles share CTAs, stages no multiple of groups
  works.push_back({fp8_product_spec(256, 64), 64, 7});
  works.back().spec.scale = std::nullopt;
  return works;
}

}  // namespace ktjit::test
