// run_bench as a check of results: small works, each of which has to be right.
#pragma once

#include <catch2/catch.hpp>
#include <vector>

#include "jit/bench_runner.h"

namespace ktjit::test {

inline void check_works(Engine& engine, runtime::Device& device,
                        const std::vector<BenchWork>& works) {
  BenchSettings settings;
  settings.data_bytes = 1;
  settings.samples = 1;
  const BenchReport report = run_bench(engine, device, works, settings);
  REQUIRE(report.results.size() == works.size());
  for (const BenchResult& result : report.results) {
    INFO(result.kernel << " on " << result.work.spec.target.name() << ", n = " << result.work.n
                       << ": " << result.not_run << " " << result.first.problem << " "
                       << result.last.problem);
    CHECK(result.ok());
    CHECK(result.first.rows_checked > 0);
  }
}

}  // namespace ktjit::test
