// The way of prepared weights through the command: convert --prepare, run and exec on what that wrote, convert --restore.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <set>
#include <string>

#include "model/open_model.h"
#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;
using ktjit::test::read_floats;

namespace {

std::string tiny_model() {
  return std::string(KTJIT_TEST_DATA_DIR) + "/models/tiny-llama-q4_k_m.gguf";
}

/// Op and layout of each kernel of a run, as "matvec prepared".
std::multiset<std::string> kernels_of(const nlohmann::json& report) {
  std::multiset<std::string> kernels;
  for (const auto& kernel : report.at("kernels")) {
    kernels.insert(kernel.at("op").get<std::string>() + " " +
                   kernel.at("layout").get<std::string>());
  }
  return kernels;
}

}  // namespace

TEST_CASE("a sample is prepared for sm_86, used as it is, and restored to the same bytes") {
  CliFixture cli;
  if (!cli.has_worker("convert --prepare")) return;
  const std::string sample = cli.make_sample(), folder = cli.path("prepared");
  const auto converted = cli.run_json({"convert", sample, folder, "--prepare", "sm_86", "--json"});
  int prepared = 0;
  for (const auto& tensor : converted.at("tensors")) {
    const std::string to = tensor.at("to").get<std::string>();
    prepared += to.find("prepared as units_16x256 version 1") != std::string::npos ? 1 : 0;
  }
  CHECK(prepared >= 10);

  const auto shown = cli.run_json({"inspect", folder, "--json"});
  int listed = 0;
  for (const auto& tensor : shown.at("tensors"))
    listed += tensor.at("layout") == "prepared" ? 1 : 0;
  CHECK(listed == prepared);
  CHECK_THAT(cli.run({"inspect", folder}).out, Contains("q4_K prepared as units_16x256 version 1"));

  // The same numbers from both, prepared and native, on a target that reads them and on one that doesn't.
  for (const char* device : {"sim", "cpu"}) {
    std::vector<float> values[2];
    for (const std::string& model : {sample, folder}) {
      const std::string out = cli.path("y.f32");
      std::vector<std::string> arguments = {"exec",  model,     "--tensor", "blk.0.attn_v.weight",
                                            "--op",  "dequant", "--device", device,
                                            "--out", out};
      if (device == std::string("sim")) arguments.insert(arguments.end(), {"--target", "sm_86"});
      const auto done = cli.run(arguments);
      INFO(done.err);
      CHECK(done.exit_code == 0);
      values[model == folder ? 1 : 0] = read_floats(out);
    }
    CHECK(values[0] == values[1]);
  }

  const std::string again = cli.path("again.gguf");
  const auto restored = cli.run({"convert", folder, again, "--restore"});
  INFO(restored.err);
  CHECK(restored.exit_code == 0);
  const auto before = ktjit::model::open_model(sample), after = ktjit::model::open_model(again);
  REQUIRE(before.tensors().size() == after.tensors().size());
  for (const auto& tensor : before.tensors()) {
    const auto& same = after.get_tensor(tensor.name);
    INFO(tensor.name);
    CHECK(same.format == tensor.format);
    CHECK(same.ne == tensor.ne);
    CHECK(std::ranges::equal(same.data, tensor.data));
  }
  CHECK(before.metadata().entries().size() == after.metadata().entries().size());
}

TEST_CASE("run of a prepared model compiles no prepare kernel, wherever it runs") {
  CliFixture cli;
  if (!cli.has_worker("run of a prepared model")) return;
  const std::string folder = cli.path("prepared");
  REQUIRE(cli.run({"convert", tiny_model(), folder, "--prepare", "sm_86"}).exit_code == 0);

  const auto read = cli.run_json({"run", folder, "--device", "sim", "--target", "sm_86", "--json"});
  CHECK(read.at("ok") == true);
  CHECK(kernels_of(read).count("matvec prepared") >= 2);
  CHECK(kernels_of(read).count("dequant prepared") >= 2);
  CHECK(kernels_of(read).count("prepare native") == 0);

  const auto restored = cli.run_json({"run", folder, "--device", "cpu", "--json"});
  CHECK(restored.at("ok") == true);
  CHECK(kernels_of(restored).count("matvec prepared") == 0);
  CHECK(kernels_of(restored).count("restore prepared") >= 2);
  CHECK(kernels_of(restored).count("prepare native") == 0);

  const auto plan = cli.run_json({"plan", folder, "--target", "sm_86", "--json"});
  CHECK(plan.at("targets").at(0).at("verdict") == "ok");
}

TEST_CASE("wrong uses of --prepare and --restore say what is expected") {
  CliFixture cli;
  const std::string model = tiny_model(), out = cli.path("out");
  const auto refuses = [&](std::vector<std::string> arguments, int exit_code, const char* says) {
    const auto result = cli.run(arguments);
    INFO(result.err);
    CHECK(result.exit_code == exit_code);
    CHECK_THAT(result.err, Contains(says));
    CHECK_FALSE(std::filesystem::exists(out));
  };
  refuses({"convert", model, out, "--prepare", "sm_999"}, 2, "sm_999");
  refuses({"convert", model, out, "--prepare", "cpu"}, 2, "sm_61, and from sm_70 on");
  refuses({"convert", model, out, "--prepare", "sm_60"}, 2, "sm_60");
  refuses({"convert", model, out + ".gguf", "--prepare", "sm_86"}, 2, "safetensors");
  refuses({"convert", model, out, "--restore"}, 2, "prepared");
  refuses({"convert", model, out, "--prepare", "sm_86", "--restore"}, 2, "--restore");
  refuses({"convert", model, out, "--prepare", "sm_86", "--to", "bf16"}, 2, "--to");
}
