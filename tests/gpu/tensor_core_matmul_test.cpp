// Matmul at tensor-core precision on a real GPU: the works that the simulator's test has, and large ones.
#include <catch2/catch.hpp>
#include <cstdio>
#include <vector>

#include "jit/toolchain.h"
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
    std::printf("%zu products are for sm_90a: not run\n", works.size());
    return;
  }
  BenchSettings settings;
  settings.data_bytes = 1;
  settings.samples = 1;
  const BenchReport report = run_bench(toolchain.engine(), *device, works, settings);
  REQUIRE(report.results.size() == works.size());
  for (const BenchResult& result : report.results) {
    INFO(result.kernel << ", n = " << result.work.n << ": " << result.not_run << " "
                       << result.first.problem << " " << result.last.problem);
    CHECK(result.ok());
    CHECK(result.first.rows_checked > 0);
  }
}

}  // namespace

TEST_CASE("GPU matmul at tensor-core precision, every format and variant") {
  check(test::every_format_rounded());
  check(test::rounded_weights_variants());
  check(test::fp8_product_variants());
}

TEST_CASE("GPU matmul at tensor-core precision: several tiles for each CTA") {
  std::vector<BenchWork> works;
  for (const FormatId format : {kQ4_K, kQ8_0, kFp8E4M3, kBF16})
    works.push_back({test::rounded_weights_spec(format, 2048, 128), 14336, 500});
  works.push_back({test::fp8_product_spec(2048, 256), 14336, 1000});
  check(works);
}

}  // namespace ktjit
