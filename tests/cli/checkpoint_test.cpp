// The verbs on safetensors checkpoints, KTransformers' hybrids and mixed folders.
#include <catch2/catch.hpp>
#include <filesystem>
#include <set>
#include <string>

#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;
using ktjit::test::read_floats;

namespace {

struct SampleFacts {
  std::string kind;
  std::string container;
  std::string fp8_tensor;  ///< that ends inside a scale block
  std::string raw_tensor;  ///< of ggml's blocks, if there is one
};

const std::vector<SampleFacts> kSamples = {
    {"deepseek-fp8", "safetensors", "model.layers.0.self_attn.kv_a_proj_with_mqa.weight", ""},
    {"hybrid", "KTransformers hybrid", "blk.0.attn_kv_a_mqa.weight", "blk.1.ffn_down_exps.weight"},
    {"mixed", "safetensors + GGUF", "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
     "blk.1.ffn_down_exps.weight"},
};

std::string make_checkpoint(CliFixture& cli, const SampleFacts& sample) {
  const std::string folder = cli.path(sample.kind);
  const auto result = cli.run({"sample", "--kind", sample.kind, folder});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.out, Contains("wrote " + folder));
  return folder;
}

}  // namespace

TEST_CASE("inspect shows each scale with its tensor") {
  for (const SampleFacts& sample : kSamples) {
    CAPTURE(sample.kind);
    CliFixture cli;
    const std::string folder = make_checkpoint(cli, sample);
    const auto document = cli.run_json({"inspect", folder, "--json"});
    CHECK(document.at("container") == sample.container);
    bool found = false;
    for (const auto& tensor : document.at("tensors")) {
      const std::string name = tensor.at("name");
      CHECK(name.find("_scale_inv") == std::string::npos);
      if (name != sample.fp8_tensor) continue;
      found = true;
      CHECK(tensor.at("format") == "fp8_e4m3");
      CHECK(tensor.at("rows") == 576);
      CHECK(tensor.at("cols") == 512);
      CHECK(tensor.at("scales") == "128x128 f32");
      CHECK(tensor.at("scale_tensor") == name + "_scale_inv");
      CHECK(tensor.at("scale_bytes") == 5 * 4 * 4);
    }
    CHECK(found);
    const auto text = cli.run({"inspect", folder});
    CHECK_THAT(text.out, Contains("\n" + sample.container));
    CHECK_THAT(text.out, Contains("128x128 f32"));
  }
}

TEST_CASE("plan serves every tensor of a checkpoint on GPUs and the CPU") {
  for (const SampleFacts& sample : kSamples) {
    CAPTURE(sample.kind);
    CliFixture cli;
    const auto plan = cli.run_json({"plan", make_checkpoint(cli, sample), "--target", "sm_86",
                                    "--target", "sm_75", "--target", "cpu", "--json"});
    REQUIRE(plan.at("targets").size() == 3);
    for (const auto& target : plan.at("targets")) {
      CAPTURE(target.at("target"));
      CHECK(target.at("skipped").empty());
      CHECK(target.at("verdict") != "no");
    }
  }
}

TEST_CASE("run checks every tensor of a checkpoint on the CPU, after build without a compile") {
  for (const SampleFacts& sample : kSamples) {
    CAPTURE(sample.kind);
    CliFixture cli;
    if (!cli.has_worker("checkpoints on the CPU")) return;
    const std::string folder = make_checkpoint(cli, sample);
    const auto built = cli.run_json({"build", folder, "--target", "cpu", "--json"});
    CHECK(built.at("kernels").size() > 0);
    const auto report = cli.run_json({"run", folder, "--device", "cpu", "--all", "--json"});
    CHECK(report.at("ok") == true);
    CHECK(report.at("compiled") == 0);
    CHECK(report.at("skipped").empty());
    std::set<std::string> named;
    for (const auto& kernel : report.at("kernels")) {
      CAPTURE(kernel.at("tensor"));
      CHECK(kernel.at("ok") == true);
      named.insert(kernel.at("tensor"));
    }
    const auto model = cli.run_json({"inspect", folder, "--json"});
    CHECK(named.size() == model.at("tensors").size());
  }
}

TEST_CASE("exec and emit take tensors of a checkpoint by name") {
  for (const SampleFacts& sample : kSamples) {
    CAPTURE(sample.kind);
    CliFixture cli;
    const std::string folder = make_checkpoint(cli, sample);
    const auto emitted = cli.run({"emit", folder, "--tensor", sample.fp8_tensor, "--op", "dequant",
                                  "--target", "sm_86", "--stage", "cuda"});
    INFO(emitted.err);
    CHECK(emitted.exit_code == 0);
    CHECK_THAT(emitted.out, Contains("128"));
    if (!cli.has_worker("exec on the CPU")) continue;
    for (const std::string& tensor : {sample.fp8_tensor, sample.raw_tensor}) {
      if (tensor.empty()) continue;
      const auto done = cli.run({"exec", folder, "--tensor", tensor, "--op", "dequant", "--device",
                                 "cpu", "--out", cli.path("y")});
      INFO(done.err);
      REQUIRE(done.exit_code == 0);
      const std::size_t elements =
          tensor == sample.fp8_tensor ? 576 * 512 : std::size_t{4} * 512 * 256;
      CHECK(read_floats(cli.path("y")).size() == elements);
    }
  }
}

TEST_CASE("a checkpoint that is damaged is exit code 3, and a pickle too") {
  CliFixture cli;
  const std::string folder = make_checkpoint(cli, kSamples[0]);
  std::filesystem::resize_file(folder + "/model-00002-of-00004.safetensors", 100'000);
  const auto cut = cli.run({"inspect", folder});
  CHECK(cut.exit_code == 3);
  CHECK_THAT(cut.err, Contains("model-00002-of-00004.safetensors") && Contains("cut short"));
  std::filesystem::remove(folder + "/model-00002-of-00004.safetensors");
  const auto missing = cli.run({"run", folder, "--device", "cpu"});
  CHECK(missing.exit_code == 3);
  CHECK_THAT(missing.err, Contains("1 is missing in its folder: model-00002-of-00004.safetensors"));
  cli.write_text("pytorch_model.bin", "\x80\x02}q");
  const auto pickle = cli.run({"inspect", cli.path("pytorch_model.bin")});
  CHECK(pickle.exit_code == 3);
  CHECK_THAT(pickle.err, Contains("safetensors.torch.save_file"));
}

TEST_CASE("sample refuses an unknown kind and a folder in use") {
  CliFixture cli;
  CHECK(cli.run({"sample", "--kind", "llama", cli.path("x")}).exit_code == 2);
  make_checkpoint(cli, kSamples[2]);
  const auto again = cli.run({"sample", "--kind", "mixed", cli.path("mixed")});
  CHECK(again.exit_code == 1);
  CHECK_THAT(again.err, Contains("is not empty, expected a new or empty folder"));
}
