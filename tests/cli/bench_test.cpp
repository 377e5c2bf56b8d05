// ktjit bench on the CPU device and in the simulator: small shapes, what is reported, what is refused.
#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;
using ktjit::test::ProcessResult;

namespace {

/// A call on the CPU with little data; `more` first.
std::vector<std::string> bench(std::vector<std::string> more) {
  more.insert(more.begin(), "bench");
  more.insert(more.end(), {"--device", "cpu"});
  if (std::find(more.begin(), more.end(), "--data") == more.end())
    more.insert(more.end(), {"--data", "256K"});
  if (std::find(more.begin(), more.end(), "--samples") == more.end())
    more.insert(more.end(), {"--samples", "3"});
  return more;
}

}  // namespace

TEST_CASE("bench --json has every figure of every work") {
  CliFixture cli;
  if (!cli.has_worker("bench on the CPU")) return;
  const auto report = cli.run_json(bench(
      {"--op", "dequant,matvec", "--format", "Q4_K,fp8e4nv", "--scale-block", "32x128", "--shape",
       "64x256,33x512", "--n", "1,3", "--x-format", "f16", "--y-format", "bf16", "--json"}));
  CHECK(report.at("ok") == true);
  CHECK(report.at("interrupted") == false);
  CHECK(report.at("device") == "cpu");
  CHECK(report.at("samples") == 3);
  CHECK(report.at("read_gbps").get<double>() > 0);
  CHECK(report.at("skipped").empty());
  CHECK_THAT(report.at("date").get<std::string>(),
             Catch::Matchers::Matches("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"));
  const auto& results = report.at("results");
  CHECK(results.size() == 2 * 2 * 3);  // shapes, formats, dequant and two n of matvec
  for (const auto& result : results) {
    INFO(result.dump(1));
    const bool is_fp8 = result.at("format") == "fp8_e4m3";
    const std::int64_t rows = result.at("rows"), cols = result.at("cols");
    CHECK((is_fp8 ? result.at("scale") == "32x128 f32" : result.at("scale").is_null()));
    CHECK(result.at("ok") == true);
    CHECK(result.at("target") == "cpu");
    CHECK(result.at("y_format") == "bf16");
    CHECK(result.at("copies").get<int>() > 1);
    CHECK(result.at("fits_in_cache") == true);
    CHECK(result.at("percent_of_read").is_null());
    CHECK(result.at("in_graph") == false);
    CHECK(result.at("samples_us").size() == 3);
    CHECK(result.at("min_us") <= result.at("median_us"));
    CHECK(result.at("median_us") <= result.at("max_us"));
    CHECK(result.at("gbps").get<double>() > 0);
    CHECK(result.at("tflops").is_null());
    CHECK(result.at("tuning").empty());
    for (const char* when : {"first", "last"}) {
      CHECK(result.at(when).at("ok") == true);
      CHECK(result.at(when).at("rows_checked") == rows);
    }
    const std::int64_t scales = is_fp8 ? (rows + 31) / 32 * (cols / 128) * 4 : 0;
    const std::int64_t w = is_fp8 ? rows * cols + scales : rows * cols / 256 * 144;
    const bool is_dequant = result.at("op") == "dequant";
    CHECK(result.at("streamed_bytes") == (is_dequant ? w + 2 * rows * cols : w));
    CHECK(result.contains("n") == !is_dequant);
    if (is_dequant) CHECK(result.at("first").at("max_abs_err") == 0.0);
  }
}

TEST_CASE("bench prints a table, and writes the document beside it") {
  CliFixture cli;
  if (!cli.has_worker("bench on the CPU")) return;
  const ProcessResult result =
      cli.run(bench({"--op", "matmul,quantize", "--format", "q8_0", "--shape", "40x64", "--n", "17",
                     "--json=" + cli.path("bench.json")}));
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.out, Contains("bench   q8_0 40x64: 2 works") && Contains("TFLOP/s") &&
                             Contains("matmul") && Contains("2 of 2 results correct"));
  std::ifstream file(cli.path("bench.json"));
  const auto document = nlohmann::json::parse(file);
  CHECK(document.at("results").size() == 2);
  CHECK(document.at("results").at(0).at("tflops").get<double>() > 0);
  CHECK(document.at("results").at(0).at("n") == 17);
}

TEST_CASE("bench takes the matrices of a model, each once, and says what has no kernel of the op") {
  CliFixture cli;
  if (!cli.has_worker("bench on the CPU")) return;
  const auto report = cli.run_json(bench({cli.make_sample(), "--op", "matvec", "--json"}));
  std::set<std::string> seen;
  for (const auto& result : report.at("results")) {
    const std::string key = result.at("format").get<std::string>() + " " +
                            result.at("rows").dump() + "x" + result.at("cols").dump();
    INFO(key);
    CHECK(seen.insert(key).second);
    CHECK(result.at("ok") == true);
  }
  CHECK(seen.size() > 10);
  std::string skipped = report.at("skipped").dump();
  CHECK_THAT(skipped, Contains("matvec does not take the format") && Contains(" i32"));
}

TEST_CASE("bench of all formats leaves out those that an op or the columns don't take") {
  CliFixture cli;
  if (!cli.has_worker("bench on the CPU")) return;
  const auto report =
      cli.run_json(bench({"--op", "quantize", "--format", "all", "--shape", "8x32", "--json"}));
  std::set<std::string> formats;
  for (const auto& result : report.at("results")) formats.insert(result.at("format"));
  CHECK(formats.contains("q8_0"));
  CHECK(formats.contains("mxfp8_e4m3"));
  CHECK(formats.contains("nvfp4"));
  CHECK_FALSE(formats.contains("q4_K"));
  CHECK_THAT(report.at("skipped").dump(), Contains("q4_K"));
}

TEST_CASE("bench measures several targets, with knobs") {
  CliFixture cli;
  if (!cli.has_worker("bench on the CPU and in the simulator")) return;
  const auto cpu = cli.run_json(bench({"--op", "dequant", "--format", "q4_0", "--shape", "9x64",
                                       "--target", "native", "--target", "cpu:x86-64", "--json"}));
  REQUIRE(cpu.at("results").size() == 2);
  CHECK(cpu.at("results").at(0).at("target") == "cpu");
  CHECK(cpu.at("results").at(1).at("target") == "cpu:x86-64");

  const auto simulated =
      cli.run_json({"bench", "--format", "q4_0", "--shape", "9x64", "--device", "sim", "--target",
                    "sm_86", "--target", "sm_61", "--tuning", "threads=64,rows_per_warp=2",
                    "--data", "1K", "--samples", "1", "--json"});
  REQUIRE(simulated.at("results").size() == 2);
  CHECK(simulated.at("read_gbps") == 0);
  for (const auto& result : simulated.at("results")) {
    CHECK(result.at("ok") == true);
    CHECK(result.at("tuning") == nlohmann::json({{"threads", 64}, {"rows_per_warp", 2}}));
  }
}

TEST_CASE("bench --tune measures with the fastest knobs, and records them") {
  CliFixture cli;
  if (!cli.has_worker("bench in the simulator")) return;
  const std::vector<std::string> command = {
      "bench", "--op",      "moe_matvec", "--format",  "q4_0", "--shape",  "9x64", "--n",
      "2",     "--experts", "3",          "--gate",    "silu", "--device", "sim",  "--target",
      "sm_86", "--layout",  "native",     "--samples", "1",    "--data",   "1K",   "--json"};
  std::vector<std::string> tuned = command;
  tuned.emplace_back("--tune");
  const auto report = cli.run_json(tuned);
  REQUIRE(report.at("results").size() == 1);
  CHECK(report.at("results").at(0).at("ok") == true);
  CHECK_THAT(cli.run({"cache", "list"}).out, Contains("tuning"));
  tuned.insert(tuned.end(), {"--tuning", "threads=64"});
  CHECK_THAT(cli.run(tuned).err, Contains("--tune and --tuning do not go together"));
}

TEST_CASE("bench prepares weights where the target reads them so, and checks what comes out") {
  CliFixture cli;
  if (!cli.has_worker("bench in the simulator")) return;
  const auto report = cli.run_json({"bench", "--format", "q4_0,bf16", "--shape", "37x512",
                                    "--device", "sim", "--target", "sm_86", "--target", "sm_61",
                                    "--data", "1K", "--samples", "1", "--json"});
  REQUIRE(report.at("results").size() == 4);
  for (const auto& result : report.at("results")) {
    INFO(result.dump(1));
    const bool is_prepared = result.at("format") == "q4_0";
    CHECK(result.at("layout") == (is_prepared ? "prepared" : "native"));
    CHECK(result.at("ok") == true);
  }
}

TEST_CASE("bench prepares weights on the CPU where matvec reads them so, for both activations") {
  CliFixture cli;
  if (!cli.has_worker("bench on the CPU")) return;
  for (const bool is_a8 : {false, true}) {
    const auto report =
        cli.run_json(bench({"--format", is_a8 ? "q4_K" : "q4_K,bf16", "--shape", "37x512",
                            "--activation", is_a8 ? "a8" : "a16", "--json"}));
    for (const auto& result : report.at("results")) {
      INFO(result.dump(1));
      const bool is_prepared = result.at("format") == "q4_K";
      CHECK(result.at("layout") == (is_prepared ? "interleaved" : "native"));
      CHECK(result.at("ok") == true);
    }
  }
}

TEST_CASE("bench measures works in turn, each shape with a gate and slots of its own") {
  CliFixture cli;
  if (!cli.has_worker("bench on the CPU")) return;
  const auto report = cli.run_json(
      bench({"--op", "moe_matvec", "--format", "q4_K", "--shape", "40x256,24x512", "--experts", "9",
             "--n", "4", "--slots-per-x", "4,1", "--gate", "silu,none", "--in-turn", "--json"}));
  CHECK(report.at("ok") == true);
  const auto& results = report.at("results");
  REQUIRE(results.size() == 2);
  CHECK(results.at(0).at("gate") == "silu");
  CHECK(results.at(0).at("slots_per_x") == 4);
  CHECK(!results.at(1).contains("gate"));
  CHECK(results.at(1).at("slots_per_x") == 1);
  const auto& in_turn = report.at("in_turn");
  CHECK(in_turn.at("ok") == true);
  CHECK(in_turn.at("streamed_bytes") == 4 * 144 * (2 * 40 + 24 * 2));
  CHECK(in_turn.at("samples_us").size() == 3);
  CHECK(in_turn.at("gbps").get<double>() > 0);
  CHECK(in_turn.at("launches_per_sample").get<int>() % (2 * in_turn.at("rounds").get<int>()) == 0);
  REQUIRE(in_turn.at("last").size() == 2);
  CHECK(in_turn.at("last").at(0).at("rows_checked") == 40);
}

TEST_CASE("bench refuses what can't be measured, and says why") {
  CliFixture cli;
  const auto refuses = [&](const std::vector<std::string>& more, const std::string& words) {
    std::string line;
    for (const std::string& argument : more) line += argument + " ";
    INFO(line);
    const ProcessResult result = cli.run(bench(more));
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    CHECK_THAT(result.err, Contains("ktjit bench: ") && Contains(words));
  };
  refuses({}, "MODEL is missing, or --format");
  refuses({"--format", "q4_K"}, "--format needs --shape");
  refuses({"m.gguf", "--format", "q4_K", "--shape", "8x256"}, "not both");
  refuses({"m.gguf", "--scale-block", "128x128"}, "go with --format");
  refuses({"--format", "q4_Z", "--shape", "8x256"}, "q4_Z");
  refuses({"--format", "q4_K,", "--shape", "8x256"}, "--format has an empty part");
  refuses({"--format", "q4_K", "--shape", "8"}, "--shape is '8'");
  refuses({"--format", "q4_K", "--shape", "8x255"}, "cols is 255");
  refuses({"--format", "q4_K", "--shape", "9000000000000000000x256"}, "rows is");
  refuses({"--format", "q4_K", "--shape", "8x256,8x512,8x768", "--gate", "silu,none"},
          "--gate has 2 parts for 3 shapes");
  refuses({"--format", "q4_K", "--shape", "8x256", "--op", "moe_matvec", "--experts", "2",
           "--slots-per-x", "0"},
          "--slots-per-x is '0'");
  refuses({"--format", "q4_K", "--shape", "8x256", "--op", "conv"}, "--op is 'conv'");
  refuses({"--format", "q4_K", "--shape", "8x256", "--op", "nan_scan"}, "--op is 'nan_scan'");
  refuses({"--format", "q4_K", "--shape", "8x256", "--op", "quantize"}, "for quantize");
  refuses({"--format", "i32", "--shape", "8x256"}, "i32 has dequant only");
  refuses({"--format", "q4_K", "--shape", "8x256", "--n", "9"}, "1 to 8");
  refuses({"--format", "q4_K", "--shape", "8x256", "--n", "0"}, "--n is '0'");
  refuses({"--format", "q4_K", "--shape", "8x256", "--samples", "0"}, "--samples is 0");
  refuses({"--format", "q4_K", "--shape", "8x256", "--data", "much"}, "--data is 'much'");
  refuses({"--format", "q4_K", "--shape", "8x256", "--x-format", "q8_0"}, "x_format is q8_0");
  refuses({"--format", "all", "--shape", "8x256", "--y-format", "q8_Z"}, "q8_Z");
  refuses({"--format", "q4_K", "--shape", "8x256", "--scale-block", "8x8"},
          "--scale-block does not go");
  refuses({"--format", "fp8e5", "--shape", "8x256", "--scale-type", "f32"}, "needs --scale-block");
  refuses({"--format", "q4_K", "--shape", "8x256", "--layout", "best"}, "--layout is 'best'");
  refuses({"--format", "bf16", "--shape", "8x256", "--layout", "prepared"}, "native");
  refuses({"--format", "q4_K", "--shape", "8x256", "--layout", "native", "--activation", "a8"},
          "activation is a8");
  refuses({"--format", "q4_K", "--shape", "8x256", "--tuning", "warps=2"}, "threads=N");
  refuses({"--format", "q4_K", "--shape", "8x256", "--tuning", "threads"}, "threads=N");
  refuses({"--format", "q4_K", "--shape", "8x256", "--dependent-launch"}, "dependent_launch");
  refuses({"--format", "i32", "--shape", "8x256", "--op", "matvec", "--target", "sm_42"}, "sm_42");
}

TEST_CASE("bench of a missing model is exit code 3") {
  CliFixture cli;
  const ProcessResult result = cli.run(bench({cli.path("absent.gguf")}));
  CHECK(result.exit_code == 3);
  CHECK_THAT(result.err, Contains("absent.gguf"));
}
