// The command line itself: help, mistakes, and which exit code follows from what.
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;
using ktjit::test::ProcessResult;

namespace {

const std::vector<std::string> kVerbs = {"doctor", "sample", "inspect", "plan", "build", "run",
                                         "bench",  "exec",   "convert", "emit", "cache"};

}  // namespace

TEST_CASE("every verb has help with options, exit codes and an example") {
  CliFixture cli;
  for (const std::string& verb : kVerbs) {
    INFO(verb);
    const ProcessResult result = cli.run({verb, "--help"});
    CHECK(result.exit_code == 0);
    CHECK(result.err.empty());
    CHECK_THAT(result.out, Contains("Usage: ktjit " + verb));
    CHECK_THAT(result.out, Contains("Options:"));
    CHECK_THAT(result.out, Contains("Exit codes:\n  0  "));
    CHECK_THAT(result.out, Contains("Example:\n  ktjit " + verb));
  }
}

TEST_CASE("the program's own help lists the verbs") {
  CliFixture cli;
  const ProcessResult help = cli.run({"--help"});
  CHECK(help.exit_code == 0);
  for (const std::string& verb : kVerbs) CHECK_THAT(help.out, Contains("\n  " + verb + " "));
  const ProcessResult nothing = cli.run({});
  CHECK(nothing.exit_code == 2);
  CHECK(nothing.out.empty());
  CHECK_THAT(nothing.err, Contains("Usage: ktjit VERB"));
  const ProcessResult version = cli.run({"--version"});
  CHECK(version.exit_code == 0);
  CHECK_THAT(version.out, Catch::Matchers::Matches("ktjit [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST_CASE("an unknown verb is exit code 2, with the closest one") {
  CliFixture cli;
  const ProcessResult result = cli.run({"rnu", "model.gguf"});
  CHECK(result.exit_code == 2);
  CHECK(result.out.empty());
  CHECK(result.err == "ktjit: unknown verb 'rnu'; did you mean 'run'?\n");
  CHECK_THAT(cli.run({"something-else"}).err, Contains("the verbs are doctor, "));
  CHECK(cli.run({"--nonsense"}).exit_code == 2);
}

TEST_CASE("a wrong option is exit code 2, with the closest one") {
  CliFixture cli;
  for (const std::string& verb : kVerbs) {
    INFO(verb);
    const ProcessResult result = cli.run({verb, "--no-such-option"});
    CHECK(result.exit_code == 2);
    CHECK_THAT(result.err, Contains("ktjit " + verb + ": unknown option '--no-such-option'"));
  }
  CHECK_THAT(cli.run({"run", "m.gguf", "--devize", "cpu"}).err,
             Contains("did you mean '--device'?"));
  CHECK_THAT(cli.run({"plan", "m.gguf", "--targe", "sm_86"}).err,
             Contains("did you mean '--target'?"));
}

TEST_CASE("values that are not allowed are exit code 2") {
  CliFixture cli;
  const std::vector<std::vector<std::string>> wrong = {
      {"plan"},
      {"run"},
      {"inspect"},
      {"sample"},
      {"cache"},
      {"cache", "polish"},
      {"cache", "show"},
      {"cache", "list", "more"},
      {"inspect", "a.gguf", "b.gguf"},
      {"plan", "m.gguf", "--format", "q4_K", "--shape", "1x256"},
      {"plan", "--format", "q4_K"},
      {"plan", "--shape", "1x256"},
      {"plan", "--format", "q4_Z", "--shape", "1x256"},
      {"plan", "--format", "q4_K", "--shape", "1x255"},
      {"plan", "--format", "q4_K", "--shape", "0x256"},
      {"plan", "--format", "q4_K", "--shape", "12"},
      {"plan", "--format", "f32", "--shape", "9000000000000000000x4096"},
      {"plan", "--format", "q4_K", "--shape", "8x256", "--scale-block", "128x128"},
      {"plan", "--format", "fp8e5", "--shape", "8x256", "--scale-block", "0x1"},
      {"plan", "--format", "fp8e5", "--shape", "8x256", "--scale-type", "bf16"},
      {"plan", "--format", "fp8e5", "--shape", "8x256", "--target", "sm_87b"},
      {"plan", "--format", "fp8e5", "--shape", "8x256", "--target", "sm_86", "--memory", "much"},
      {"plan", "--format", "fp8e5", "--shape", "8x256", "--target", "sm_86", "--context", "0"},
      {"build", "--format", "q4_K", "--shape", "8x256", "-j", "-1"},
      {"build", "--format", "q4_K", "--shape", "8x256", "--pack", "folder/"},
      {"run", "m.gguf", "--threads", "many"},
      {"exec", "m.gguf", "--tensor", "w", "--out", "y"},
      {"exec", "m.gguf", "--tensor", "w", "--op", "read_test", "--out", "y"},
      {"exec", "m.gguf", "--tensor", "w", "--op", "matvec", "--out", "y"},
      {"exec", "m.gguf", "--op", "dequant", "--out", "y"},
      {"exec", "--raw", "w.bin", "--op", "dequant", "--out", "y"},
      {"emit", "--format", "q4_K", "--shape", "8x256", "--target", "sm_86", "--stage", "cpp"},
      {"emit", "--format", "q4_K", "--shape", "8x256", "--target", "cpu", "--stage", "sass"},
      {"emit", "--format", "q4_K", "--shape", "8x256", "--target", "cpu", "--op", "conv"},
      {"emit", "--format", "q4_K", "--shape", "8x256", "--target", "cpu", "--n", "3", "--op",
       "matvec"},
      {"doctor", "--target", "sm_42"},
  };
  for (const std::vector<std::string>& arguments : wrong) {
    std::string line;
    for (const std::string& argument : arguments) line += argument + " ";
    INFO(line);
    const ProcessResult result = cli.run(arguments);
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    CHECK_THAT(result.err, Catch::Matchers::StartsWith("ktjit " + arguments.front() + ": "));
  }
}

TEST_CASE("what is wrong with a model file is exit code 3, and names it") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  std::filesystem::copy_file(sample, cli.path("cut.gguf"));
  std::filesystem::resize_file(cli.path("cut.gguf"), 100'000);
  cli.write_text("notes.txt", "this is no model\n");
  std::filesystem::create_directory(cli.path("empty"));
  for (const std::string name : {"absent.gguf", "cut.gguf", "notes.txt", "empty"}) {
    for (const std::string verb : {"inspect", "plan", "build", "run"}) {
      INFO(verb << " " << name);
      const ProcessResult result = cli.run({verb, cli.path(name)});
      INFO(result.err);
      CHECK(result.exit_code == 3);
      CHECK(result.out.empty());
      CHECK_THAT(result.err, Catch::Matchers::StartsWith("ktjit " + verb + ": "));
      CHECK_THAT(result.err, Contains(name));
    }
  }
  const ProcessResult tensor = cli.run({"exec", sample, "--tensor", "blk.0.atn_q.weight", "--op",
                                        "dequant", "--out", cli.path("y")});
  CHECK(tensor.exit_code == 3);
  CHECK_THAT(tensor.err, Contains("blk.0.attn_q.weight"));
}

TEST_CASE("a device that is not there is exit code 4") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  if (cli.has_gpu()) {
    WARN("not tested, since there is a GPU: --device cuda without one");
  } else {
    for (const std::string device : {"cuda", "cuda:0"}) {
      const ProcessResult result = cli.run({"run", sample, "--device", device});
      INFO(result.err);
      CHECK(result.exit_code == 4);
      CHECK_THAT(result.err, Catch::Matchers::StartsWith("ktjit run: "));
    }
    CHECK(cli.run({"run", sample, "--target", "sm_86"}).exit_code == 4);
  }
  CHECK(cli.run({"run", sample, "--device", "cuda:63"}).exit_code == 4);
  CHECK(cli.run({"run", sample, "--device", "abacus"}).exit_code == 2);
}

TEST_CASE("a compiler that is not there is exit code 4, with what to install") {
  CliFixture cli;
  const ProcessResult result =
      cli.run({"build", cli.make_sample(), "--target", "sm_86", "--nvrtc", "/nonexistent"});
  INFO(result.err);
  CHECK(result.exit_code == 4);
  CHECK_THAT(result.err, Contains("nvrtc", Catch::CaseSensitive::No));
}

TEST_CASE("output that can't be written is exit code 1") {
  CliFixture cli;
  const ProcessResult result = cli.run({"sample", cli.path("no/such/folder/sample.gguf")});
  CHECK(result.exit_code == 1);
  CHECK_THAT(result.err, Catch::Matchers::StartsWith("ktjit sample: "));
  if (!std::filesystem::exists("/dev/full")) return;
  const ProcessResult full = ktjit::test::run_process(
      {"/bin/sh", "-c", "exec \"$0\" doctor >/dev/full", KTJIT_CLI_PATH}, cli.environment);
  CHECK(full.exit_code == 1);
  CHECK_THAT(full.err, Contains("standard output"));
}

TEST_CASE("a reader that goes away ends the program quietly") {
  CliFixture cli;
  const ProcessResult result = ktjit::test::run_process(
      {"/bin/sh", "-c", "{ \"$0\" inspect \"$1\"; echo \"code $?\" >&2; } | exec /bin/true",
       KTJIT_CLI_PATH, std::string(KTJIT_TEST_DATA_DIR) + "/models/tiny-llama-q4_k_m.gguf"},
      cli.environment);
  // The pipe may still have taken all of the text.
  CHECK((result.err == "code 141\n" || result.err == "code 0\n"));
}
