// ktjit tune, and what the other verbs make of its records. The simulator's times are of no use, but they
// are times: the whole way is the one of a GPU.
#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>

#include "tests/cli/cli_fixture.h"

using Catch::Contains;

namespace ktjit::test {
namespace {

const std::vector<std::string> kOnSimulator = {"--device", "sim", "--target", "sm_86"};

std::vector<std::string> on_simulator(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), kOnSimulator.begin(), kOnSimulator.end());
  return arguments;
}

std::vector<std::string> tune_matvec() {
  return on_simulator({"tune", "--format", "q4_K", "--shape", "24x512", "--op", "matvec"});
}

}  // namespace

TEST_CASE("tune measures a kernel once, and every verb of cache knows the record") {
  CliFixture cli;
  if (!cli.has_worker("tune on the simulator")) return;
  auto arguments = tune_matvec();
  arguments.push_back("--json");
  const auto report = cli.run_json(arguments);
  CHECK(report.at("ok") == true);
  CHECK(report.at("kept") == true);
  CHECK(report.at("device") == "sim");
  REQUIRE(report.at("results").size() == 1);
  const auto& result = report.at("results")[0];
  CHECK(result.at("outcome") == "measured");
  CHECK(result.at("rows") == 24);
  CHECK(result.at("cols") == 512);
  CHECK(result.at("n") == 1);
  CHECK(result.at("complete") == true);
  CHECK(result.at("timings").size() >= 4);
  for (const auto& timing : result.at("timings")) {
    CHECK(timing.at("problem") == "");
    CHECK(timing.at("median_us").get<double>() > 0);
  }
  CHECK(cli.run_json(arguments).at("results")[0].at("outcome") == "recorded before");
  CHECK_THAT(cli.run(tune_matvec()).out, Contains("recorded before") && Contains("matvec_q4_K"));

  const auto stats = cli.run_json({"cache", "stats", "--json"});
  CHECK(stats.at("tuning_records") == 1);
  CHECK_THAT(cli.run({"cache", "stats"}).out, Contains("(1 tuning record)"));
  std::string digest;
  const auto listed = cli.run_json({"cache", "list", "--json"});
  for (const auto& entry : listed.at("entries")) {
    if (entry.at("manifest").at("kind") == "tuning")
      digest = entry.at("artifact").get<std::string>();
  }
  REQUIRE_FALSE(digest.empty());
  CHECK_THAT(cli.run({"cache", "list"}).out, Contains("tuning") && Contains("on CUDA simulated"));
  CHECK_THAT(cli.run({"cache", "show", digest}).out, Contains("rows 24, n 1") &&
                                                         Contains("threads 256, rows_per_warp 2") &&
                                                         Contains("median us") && Contains("best"));
  CHECK(cli.run({"cache", "verify"}).exit_code == 0);

  CHECK(cli.run({"cache", "list", "--keep-tuning"}).exit_code == 2);
  CHECK(cli.run_json({"cache", "clear", "--keep-tuning", "--json"}).at("tuning_records") == 0);
  CHECK(cli.run_json({"cache", "stats", "--json"}).at("entries") == 1);
  CHECK(cli.run_json(arguments).at("results")[0].at("outcome") == "recorded before");
  CHECK_THAT(cli.run({"cache", "clear"}).out, Contains("(1 tuning record)"));
  CHECK(cli.run_json(arguments).at("results")[0].at("outcome") == "measured");
}

TEST_CASE("tune goes through a model, with a budget, and run says which knobs were measured") {
  CliFixture cli;
  if (!cli.has_worker("tune of a model on the simulator")) return;
  const std::string sample = cli.make_sample();
  const auto arguments = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"tune", sample, "--op", "matvec", "--json"});
    return on_simulator(more);
  };
  const auto none = cli.run_json(arguments({"--budget", "0.000001"}));
  CHECK(none.at("ok") == true);
  for (const auto& result : none.at("results")) CHECK(result.at("outcome") == "no time left");
  const auto report = cli.run_json(arguments({}));
  CHECK(report.at("ok") == true);
  CHECK(report.at("results").size() == none.at("results").size());

  const auto run = on_simulator({"run", sample, "--json"});
  std::size_t tuned = 0;
  const auto with = cli.run_json(run);
  CHECK(with.at("ok") == true);
  for (const auto& kernel : with.at("kernels")) {
    if (!kernel.at("tuned").is_null()) ++tuned;
  }
  CHECK(tuned > 0);
  auto off = run;
  off.push_back("--no-tuning");
  const auto takes_no_record = [&](const std::vector<std::string>& command) {
    const auto result = cli.run_json(command);
    for (const auto& kernel : result.at("kernels")) CHECK(kernel.at("tuned").is_null());
  };
  takes_no_record(off);
  cli.environment["KTJIT_TUNING"] = "off";
  takes_no_record(run);
  cli.environment["KTJIT_TUNING"] = "maybe";
  CHECK(cli.run(run).exit_code == 2);
}

TEST_CASE("a pack carries the records of its kernels, and the kernels that they chose") {
  CliFixture cli;
  if (!cli.has_worker("a pack with tuning records")) return;
  REQUIRE(cli.run(tune_matvec()).exit_code == 0);
  const std::string pack = cli.path("tuned.ktpack");
  const auto built = cli.run_json(
      on_simulator({"build", "--format", "q4_K", "--shape", "24x512", "--pack", pack, "--json"}));
  CHECK(built.at("pack").at("tuning_records") == 1);
  const auto listed = cli.run_json({"cache", "list", "--from", pack, "--json"});
  const auto& entries = listed.at("entries");
  CHECK(std::count_if(entries.begin(), entries.end(), [](const auto& entry) {
          return entry.at("manifest").at("kind") == "tuning";
        }) == 1);

  // Elsewhere: the record of the pack serves.
  cli.environment["KTJIT_CACHE_DIR"] = cli.path("elsewhere");
  auto again = tune_matvec();
  again.insert(again.end(), {"--from", pack, "--json"});
  CHECK(cli.run_json(again).at("results")[0].at("outcome") == "recorded before");
}

TEST_CASE("tuning where there are no knobs says so") {
  CliFixture cli;
  if (!cli.has_worker("tune on the CPU")) return;
  const auto report =
      cli.run_json({"tune", "--format", "q4_K", "--shape", "24x512", "--device", "cpu", "--json"});
  CHECK(report.at("ok") == true);
  CHECK(report.at("results").size() == 3);
  for (const auto& result : report.at("results")) CHECK(result.at("outcome") == "no knobs");
}

TEST_CASE("wrong arguments of tune are usage errors") {
  CliFixture cli;
  const auto code_of = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"tune", "--format", "q4_K", "--shape", "24x512"});
    return cli.run(more).exit_code;
  };
  CHECK(code_of({"--op", "quantize"}) == 2);
  CHECK(code_of({"--op", "solve"}) == 2);
  CHECK(code_of({"--n", "9"}) == 2);
  CHECK(code_of({"--n", "-1"}) == 2);
  CHECK(code_of({"--budget", "-1"}) == 2);
  CHECK(code_of({"--x-format", "q4_K", "--device", "cpu"}) == 2);
}

}  // namespace ktjit::test
