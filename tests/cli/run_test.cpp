// ktjit run and build on the CPU: cold, warm, with a damaged cache, and interrupted.
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/cli/cli_fixture.h"
#include "tests/cli/partly_served.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;

namespace {

std::vector<std::filesystem::path> cache_entries(const CliFixture& cli) {
  std::vector<std::filesystem::path> files;
  if (!std::filesystem::exists(cli.cache_folder())) return files;
  for (const auto& file : std::filesystem::recursive_directory_iterator(cli.cache_folder())) {
    if (file.is_regular_file() && file.path().extension() == ".ktk") files.push_back(file.path());
  }
  return files;
}

void flip_bits(const std::filesystem::path& path, std::uint64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const char byte = static_cast<char>(file.get());
  file.seekp(static_cast<std::streamoff>(at));
  file.put(static_cast<char>(~byte));
  REQUIRE(file.good());
}

std::size_t kernels_in_plan(CliFixture& cli, const std::string& model) {
  const auto plan = cli.run_json({"plan", model, "--target", "cpu", "--json"});
  std::size_t count = 0;
  for (const auto& group : plan.at("targets").at(0).at("groups")) {
    count += group.at("kernels").size();
  }
  return count;
}

}  // namespace

TEST_CASE("run checks the sample model on the CPU, and a second run compiles nothing") {
  CliFixture cli;
  if (!cli.has_worker("run on the CPU")) return;
  const std::string sample = cli.make_sample();
  const std::size_t kernels = kernels_in_plan(cli, sample);
  REQUIRE(kernels > 0);

  const auto cold = cli.run_json({"run", sample, "--device", "cpu", "--json"});
  CHECK(cold.at("ok") == true);
  CHECK(cold.at("compiled") == kernels);
  CHECK(cold.at("cache_hits") == 0);
  CHECK(cold.at("workers_started").get<int>() > 0);

  const auto warm = cli.run_json({"run", sample, "--device", "cpu", "--json"});
  CHECK(warm.at("ok") == true);
  CHECK(warm.at("compiled") == 0);
  CHECK(warm.at("cache_hits") == kernels);
  CHECK(warm.at("workers_started") == 0);
  CHECK(warm.at("compiler_libraries_opened") == 0);
  for (const auto& kernel : warm.at("kernels")) CHECK(kernel.at("cached") == true);
}

TEST_CASE("run --json has the fields that scripts rely on") {
  CliFixture cli;
  if (!cli.has_worker("run on the CPU")) return;
  const auto report = cli.run_json({"run", cli.make_sample(), "--device", "cpu", "--json"});
  CHECK(report.at("device") == "cpu");
  CHECK(report.at("target") == "cpu");
  CHECK(report.at("compiled").is_number_unsigned());
  CHECK(report.at("cache_hits").is_number_unsigned());
  CHECK(report.at("ready_ms").is_number());
  CHECK(report.at("workers_started").is_number_integer());
  CHECK(report.at("ok").is_boolean());
  REQUIRE(!report.at("kernels").empty());
  for (const auto& kernel : report.at("kernels")) {
    CHECK(kernel.at("tensor").is_string());
    CHECK((kernel.at("op") == "dequant" || kernel.at("op") == "matvec" ||
           kernel.at("op") == "matmul"));
    CHECK(kernel.at("format").is_string());
    CHECK(kernel.at("rows").is_number_integer());
    CHECK(kernel.at("cols").is_number_integer());
    CHECK(kernel.at("lowering").is_string());
    CHECK(kernel.at("cached").is_boolean());
    CHECK(kernel.at("compile_ms").is_number());
    CHECK(kernel.at("gbps").is_number());
    CHECK(kernel.at("max_abs_err").is_number());
    CHECK(kernel.at("max_rel_err").is_number());
    CHECK(kernel.at("ok") == true);
    if (kernel.at("op") == "dequant") CHECK(kernel.at("max_abs_err") == 0.0);
  }
  REQUIRE(report.at("skipped").is_array());
  CHECK(report.at("skipped").empty());
}

TEST_CASE("run lists tensors that nothing computes with, and checks the others") {
  CliFixture cli;
  if (!cli.has_worker("run on the CPU")) return;
  const std::string model = ktjit::test::make_partly_served(cli);
  const auto report = cli.run_json({"run", model, "--device", "cpu", "--json"});
  CHECK(report.at("ok") == true);
  CHECK(report.at("kernels").size() == 3);
  REQUIRE(report.at("skipped").size() == 1);
  CHECK(report.at("skipped").at(0).at("tensor") == "codes");
  CHECK(report.at("skipped").at(0).at("format") == "u8");
  CHECK_THAT(report.at("skipped").at(0).at("reason").get<std::string>(), Contains("u8"));
  CHECK_THAT(cli.run({"run", model, "--device", "cpu"}).out,
             Contains("skipped 1 tensor of format u8") && Contains("codes"));
}

TEST_CASE("run checks the sample model as a GPU's code on the simulator, and caches it") {
  CliFixture cli;
  if (!cli.has_worker("run on the simulator")) return;
  const std::string sample = cli.make_sample();
  const std::vector<std::string> run = {"run",      sample,  "--device", "sim",
                                        "--target", "sm_86", "--json"};
  const auto cold = cli.run_json(run);
  CHECK(cold.at("ok") == true);
  CHECK(cold.at("device") == "sim");
  CHECK(cold.at("target") == "sm_86");
  CHECK(cold.at("compiled").get<int>() > 0);
  std::set<std::string> ops;
  for (const auto& kernel : cold.at("kernels")) {
    ops.insert(kernel.at("op").get<std::string>());
    CHECK(kernel.at("ok") == true);
  }
  CHECK(ops == std::set<std::string>{"dequant", "matvec", "matmul"});

  const auto warm = cli.run_json(run);
  CHECK(warm.at("compiled") == 0);
  CHECK(warm.at("workers_started") == 0);

  std::vector<std::string> with_layout = run;
  with_layout.insert(with_layout.end(), {"--layout", "auto"});
  const auto prepared = cli.run_json(with_layout);
  CHECK(prepared.at("ok") == true);
  std::map<std::string, int> formats;  // by op, of kernels that read prepared weights
  for (const auto& kernel : prepared.at("kernels")) {
    CHECK(kernel.at("ok") == true);
    if (kernel.at("layout") == "prepared") ++formats[kernel.at("op").get<std::string>()];
  }
  CHECK(formats["matvec"] >= 20);
  CHECK(formats["restore"] == formats["matvec"]);
}

TEST_CASE("run on the CPU interleaves weights if asked, and restores them") {
  CliFixture cli;
  if (!cli.has_worker("run on the CPU")) return;
  const auto report =
      cli.run_json({"run", cli.make_sample(), "--device", "cpu", "--layout", "prepared", "--json"});
  CHECK(report.at("ok") == true);
  std::map<std::string, int> kernels;  // by op, of interleaved weights
  for (const auto& kernel : report.at("kernels")) {
    INFO(kernel.dump(1));
    CHECK(kernel.at("ok") == true);
    if (kernel.at("layout") == "interleaved") ++kernels[kernel.at("op").get<std::string>()];
  }
  CHECK(kernels["matvec"] >= 15);
  CHECK(kernels["restore"] == kernels["matvec"]);
}

TEST_CASE("run refuses prepared weights by name where nothing reads them") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  const auto too_old =
      cli.run({"run", sample, "--device", "sim", "--target", "sm_60", "--layout", "prepared"});
  CHECK(too_old.exit_code == 2);
  CHECK_THAT(too_old.err, Contains("--layout is 'prepared'") && Contains("sm_70"));
  const auto unknown = cli.run({"run", sample, "--layout", "packed"});
  CHECK(unknown.exit_code == 2);
  CHECK_THAT(unknown.err, Contains("give auto, native or prepared"));
}

TEST_CASE("the simulator runs GPUs' code only, and needs no --target") {
  CliFixture cli;
  if (!cli.has_worker("run on the simulator")) return;
  const std::string sample = cli.make_sample();
  const auto wrong = cli.run({"run", sample, "--device", "sim", "--target", "cpu"});
  CHECK(wrong.exit_code == 2);
  CHECK_THAT(wrong.err, Contains("the simulator does not run code for cpu"));
  const std::string out = cli.path("y.f32");
  const auto done = cli.run({"exec", sample, "--tensor", "blk.0.attn_v.weight", "--op", "dequant",
                             "--device", "sim", "--out", out});
  CHECK(done.exit_code == 0);
  CHECK(ktjit::test::read_floats(out).size() == 128 * 256);
}

TEST_CASE("run accounts for every tensor with --all, and prints a table") {
  CliFixture cli;
  if (!cli.has_worker("run on the CPU")) return;
  const std::string sample = cli.make_sample();
  const auto report = cli.run_json({"run", sample, "--device", "cpu", "--all", "--json"});
  const auto model = cli.run_json({"inspect", sample, "--json"});
  std::set<std::string> named;
  for (const auto& kernel : report.at("kernels")) named.insert(kernel.at("tensor"));
  for (const auto& skipped : report.at("skipped")) named.insert(skipped.at("tensor"));
  CHECK(named.size() == model.at("tensors").size());

  const auto text = cli.run({"run", sample});
  INFO(text.err);
  CHECK(text.exit_code == 0);
  CHECK_THAT(text.out, Contains("tensor "));
  CHECK_THAT(text.out, Contains("matvec"));
  CHECK_THAT(text.out, Contains("correct"));
  CHECK(text.out.find('\x1b') == std::string::npos);
  CHECK(text.err.find('\x1b') == std::string::npos);
}

TEST_CASE("a model with nothing to check is exit code 1") {
  CliFixture cli;
  const std::string models = std::string(KTJIT_TEST_DATA_DIR) + "/models/";
  const auto result = cli.run({"run", models + "tiny-vocab-only.gguf", "--device", "cpu"});
  INFO(result.err);
  CHECK(result.exit_code == 1);
  CHECK_THAT(result.out, Contains("nothing was checked"));
}

TEST_CASE("damaged cache entries are made again") {
  CliFixture cli;
  if (!cli.has_worker("run with a damaged cache")) return;
  const std::string sample = cli.make_sample();
  const auto cold = cli.run_json({"run", sample, "--device", "cpu", "--json"});
  const std::vector<std::filesystem::path> entries = cache_entries(cli);
  REQUIRE(!entries.empty());
  for (const auto& entry : entries) flip_bits(entry, std::filesystem::file_size(entry) / 2);
  CHECK(cli.run({"cache", "verify"}).exit_code == 1);

  const auto again = cli.run_json({"run", sample, "--device", "cpu", "--json"});
  CHECK(again.at("ok") == true);
  CHECK(again.at("compiled") == cold.at("compiled"));
  CHECK(again.at("cache_hits") == 0);
  CHECK(cli.run({"cache", "verify"}).exit_code == 0);
}

TEST_CASE("run without a cache, or with one that can't be made, still runs") {
  CliFixture cli;
  if (!cli.has_worker("run without a cache")) return;
  const std::string sample = cli.make_sample();
  CHECK(cli.run_json({"run", sample, "--device", "cpu", "--no-cache", "--json"}).at("ok") == true);
  CHECK(!std::filesystem::exists(cli.cache_folder()));
  cli.write_text("file", "in the way");
  const auto result =
      cli.run({"run", sample, "--device", "cpu", "--cache-dir", cli.path("file") + "/cache"});
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.err, Contains("ktjit: warning: "));
}

TEST_CASE("an interrupted run is exit code 130") {
  CliFixture cli;
  if (!cli.has_worker("run interrupted")) return;
  const std::string sample = cli.make_sample();
  const auto interrupt_at_first_entry = [&](pid_t pid) {
    // The handler is there before the first kernel is; a fixed pause would be a guess.
    for (int i = 0; i < 3000 && cache_entries(cli).empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::kill(pid, SIGINT);
  };
  const auto result = ktjit::test::run_process(
      {KTJIT_CLI_PATH, "run", sample, "--device", "cpu", "--all", "--json"}, cli.environment,
      interrupt_at_first_entry);
  INFO(result.err);
  REQUIRE(result.exit_code == 130);
  const auto report = nlohmann::json::parse(result.out);
  CHECK(report.at("interrupted") == true);
  CHECK(report.at("ok") == false);
}

TEST_CASE("an interrupted build says what is kept, leaves nothing half done, and can go on") {
  CliFixture cli;
  if (!cli.has_worker("build interrupted")) return;
  const std::string sample = cli.make_sample();
  const auto interrupt_at_first_entry = [&](pid_t pid) {
    for (int i = 0; i < 3000 && cache_entries(cli).empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::kill(pid, SIGINT);
  };
  const std::vector<std::string> command = {KTJIT_CLI_PATH, "build", sample, "--target",
                                            "cpu",          "-j",    "2"};
  const auto result = ktjit::test::run_process(command, cli.environment, interrupt_at_first_entry);
  INFO(result.err);
  REQUIRE(result.exit_code == 130);
  const std::size_t kept = cache_entries(cli).size();
  CHECK(kept >= 1);
  CHECK_THAT(result.err, Contains(fmt::format("interrupted: {} of ", kept)) &&
                             Contains("kernels are in the cache"));
  for (const auto& file : std::filesystem::recursive_directory_iterator(cli.cache_folder())) {
    INFO(file.path());
    CHECK(file.path().filename().string().find("tmp") == std::string::npos);
  }
  const auto report = cli.run_json({"build", sample, "--target", "cpu", "--json"});
  CHECK(report.at("cache_hits") == kept);
  CHECK(report.at("compiled").get<std::size_t>() + kept == report.at("kernels").size());
}

TEST_CASE("build fills the cache for run") {
  CliFixture cli;
  if (!cli.has_worker("build for the CPU")) return;
  const std::string sample = cli.make_sample();
  const auto built = cli.run_json({"build", sample, "--target", "cpu", "-j", "2", "--json"});
  REQUIRE(!built.at("kernels").empty());
  for (const auto& kernel : built.at("kernels")) {
    CHECK(kernel.at("target") == "cpu");
    CHECK(kernel.at("cached") == false);
    CHECK(kernel.at("bytes").get<int>() > 0);
  }
  const auto run = cli.run_json({"run", sample, "--device", "cpu", "--json"});
  CHECK(run.at("compiled") == 0);
  CHECK(run.at("cache_hits") == built.at("kernels").size());
  const auto text = cli.run({"build", sample, "--target", "cpu"});
  CHECK(text.exit_code == 0);
  CHECK_THAT(text.out, Contains("cached"));
}

TEST_CASE("build for GPUs needs none") {
  CliFixture cli;
  if (!cli.has_nvrtc("build for sm_86 and sm_90a")) return;
  const auto built =
      cli.run_json({"build", "--format", "fp8e4nv", "--shape", "256x512", "--scale-block",
                    "128x128", "--target", "sm_86", "--target", "sm_90a", "--json"});
  CHECK(built.at("kernels").size() == 14);
  CHECK(built.at("compiled") == 14);
  for (const auto& kernel : built.at("kernels")) {
    CHECK(kernel.at("kind") == "cubin");
    CHECK_THAT(kernel.at("compiler").get<std::string>(), Contains("NVRTC"));
  }
}
