// The verb `convert`: what it writes opens and passes, and each wrong use is refused.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;
using ktjit::test::ProcessResult;
using ktjit::test::run_process;

namespace {

namespace fs = std::filesystem;

void require_sample(CliFixture& cli, const std::string& kind, const std::string& path) {
  const ProcessResult result = cli.run({"sample", "--kind", kind, path});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
}

void check_refused(CliFixture& cli, std::vector<std::string> arguments, int exit_code,
                   const std::string& words) {
  arguments.insert(arguments.begin(), "convert");
  const ProcessResult result = cli.run(arguments);
  CAPTURE(words);
  CHECK(result.exit_code == exit_code);
  CHECK_THAT(result.err, Contains(words));
}

}  // namespace

TEST_CASE("convert refuses wrong uses by name") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  const std::string out = cli.path("out");
  check_refused(cli, {}, 2, "IN and OUT");
  check_refused(cli, {sample, out}, 2, "--to is missing");
  check_refused(cli, {sample, out, "--to", "fp9"}, 2, "fp9");
  check_refused(cli, {sample, cli.path("out.gguf"), "--to", "q4_K"}, 2,
                "'q4_K', which nothing is converted to");
  check_refused(cli, {sample, out, "--to", "bf16", "--scale-block", "128x128"}, 2, "--scale-block");
  check_refused(cli, {sample, out, "--to", "fp8_e4m3", "--scale-block", "0x9"}, 2, "0x9");
  check_refused(cli, {sample, out, "--to", "fp8_e4m3", "--scale-type", "e4m3"}, 2,
                "f32, bf16 or e8m0");
  check_refused(cli, {sample, out, "--to", "bf16", "--names", "torch"}, 2, "gguf or hf");
  check_refused(cli, {sample, out, "--to", "bf16", "--rest", "q8_0"}, 2, "bf16, f16 or f32");
  check_refused(cli, {sample, out, "--to", "bf16", "--shard-size", "much"}, 2, "--shard-size");
  check_refused(cli, {sample, out, "--to", "q8_0"}, 2, "dtype");
  check_refused(cli, {sample, cli.path("out.gguf"), "--to", "fp8_e4m3"}, 2, "type id in GGUF");
  check_refused(cli, {sample, sample, "--to", "bf16", "--force"}, 2, "not the input's");
  check_refused(cli, {sample, cli.path("no/out"), "--to", "bf16"}, 2, "is not");
  check_refused(cli, {cli.path("absent.gguf"), out, "--to", "bf16"}, 3, "absent.gguf");
  cli.write_text("out.safetensors", "precious");
  check_refused(cli, {sample, cli.path("out.safetensors"), "--to", "bf16"}, 2, "--force");
  // A model that ends too early.
  std::error_code error;
  fs::copy_file(sample, cli.path("cut.gguf"), error);
  fs::resize_file(cli.path("cut.gguf"), fs::file_size(sample) / 2);
  check_refused(cli, {cli.path("cut.gguf"), out, "--to", "bf16"}, 3, "cut.gguf");
  CHECK_FALSE(fs::exists(out));
  // None of it has left anything.
  for (const fs::directory_entry& entry : fs::directory_iterator(fs::path(out).parent_path()))
    CHECK_FALSE(entry.path().filename().string().ends_with(".converting"));
}

TEST_CASE(
    "the hybrid of an FP8 checkpoint and a GGUF's experts is what the merge script makes, and "
    "runs") {
  CliFixture cli;
  if (!cli.has_worker("convert")) return;
  require_sample(cli, "deepseek-fp8", cli.path("fp8"));
  require_sample(cli, "mixed", cli.path("mixed"));
  require_sample(cli, "hybrid", cli.path("merged"));
  const auto report = cli.run_json({"convert", cli.path("fp8"), cli.path("hybrid"), "--experts",
                                    cli.path("mixed/experts-Q4_K_M.gguf"), "--device", "cpu",
                                    "--verify", "--json"});
  CHECK(report.at("ok") == true);
  const auto listed = [&](const std::string& folder) {
    std::map<std::string, nlohmann::json> tensors;
    const auto document = cli.run_json({"inspect", folder, "--json"});
    CHECK(document.at("container") == "KTransformers hybrid");
    for (auto tensor : document.at("tensors")) {
      for (const char* of_the_file : {"offset", "file", "part"}) tensor.erase(of_the_file);
      tensors[tensor.at("name")] = tensor;
    }
    return tensors;
  };
  const auto made = listed(cli.path("hybrid"));
  CHECK(made == listed(cli.path("merged")));
  const auto run = cli.run_json({"run", cli.path("hybrid"), "--device", "cpu", "--json"});
  CHECK(run.at("ok") == true);
  // Experts of a model that has none are refused.
  check_refused(cli, {cli.path("fp8"), cli.path("never"), "--experts", cli.path("fp8")}, 3,
                "no routed experts");
}

TEST_CASE(
    "a file that may not grow is an error that keeps what was done, and the same command goes on") {
  CliFixture cli;
  if (!cli.has_worker("convert")) return;
  const std::string sample = cli.make_sample();
  const std::vector<std::string> convert = {"convert",  sample, cli.path("out"), "--to", "fp8_e4m3",
                                            "--device", "cpu"};
  std::string command = "ulimit -f 64; exec '" KTJIT_CLI_PATH "'";
  for (const std::string& argument : convert) command += " '" + argument + "'";
  auto environment = ktjit::test::current_environment();
  for (const auto& [name, value] : cli.environment) environment[name] = value;
  environment["KTJIT_CACHE"] = "off";  // its files are limited too
  const ProcessResult full = run_process({"/bin/bash", "-c", command}, environment);
  CHECK(full.exit_code == 1);
  CHECK_THAT(full.err, Contains("is kept in") && Contains("the same command goes on"));
  CHECK_FALSE(fs::exists(cli.path("out")));
  CHECK(fs::exists(cli.path(".out.converting")));
  CHECK(cli.run(convert).exit_code == 0);
  CHECK(fs::exists(cli.path("out")));
  CHECK_FALSE(fs::exists(cli.path(".out.converting")));
}
