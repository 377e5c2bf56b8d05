// Matmul at tensor-core precision on a real GPU: the works that the simulator's test has, and large ones.
#include <catch2/catch.hpp>
#include <vector>

#include "jit/toolchain.h"
#include "tests/support/checked_bench.h"
#include "tests/support/tensor_core_works.h"

namespace ktjit {
namespace {

using enum FormatId;

void check(const std::vector<BenchWork>& works) {
  Options options;
  options.cache_enabled = false;
  Toolchain toolchain(options, [](std::string_view) {});
  const auto device = toolchain.open_device("cuda");
  if (device->native_target().name() != "sm_90a") {
    WARN(works.size() << " products are for sm_90a: not run");
    return;
  }
  test::check_works(toolchain.engine(), *device, works);
}

}  // namespace

TEST_CASE("GPU matmul at tensor-core precision, every format and variant") {
  check(test::every_format_rounded());
  check(test::rounded_weights_variants());
  check(test::fp8_product_variants());
}

TEST_CASE("GPU matmul at tensor-core precision by warps, every format and variant") {
  Options options;
  options.cache_enabled = false;
  Toolchain toolchain(options, [](std::string_view) {});
  const auto device = toolchain.open_device("cuda");
  if (device->native_target().sm < 80) {
    WARN("products are for sm_80 and up: not run");
    return;
  }
  const Target target = make_cuda_target(80);  // its PTX is code for every later GPU
  for (const FormatId x_format : {kBF16, kF16}) {
    for (const auto& works :
         {test::every_format_by_warps(target, x_format), test::variants_by_warps(target, x_format)})
      test::check_works(toolchain.engine(), *device, works);
  }
}

TEST_CASE("GPU matmul at tensor-core precision: several tiles for each CTA") {
  std::vector<BenchWork> works;
  for (const FormatId format : {kQ4_K, kQ8_0, kFp8E4M3, kBF16})
    works.push_back({test::rounded_weights_spec(format, 2048, 128), 14336, 500});
  works.push_back({test::fp8_product_spec(2048, 128), 14336, 1000});
  check(works);
}

}  // namespace ktjit
