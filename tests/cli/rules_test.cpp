// --rules of plan, build, run and convert, and the rules that plan --advise writes.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "model/gguf_writer.h"
#include "model/open_model.h"
#include "tests/cli/cli_fixture.h"

using Catch::Matchers::Contains;
using ktjit::FormatId;
using ktjit::test::CliFixture;

namespace {

/// A model in f32 of 256 columns: embedding, attention, FFN, norm.
std::string make_model(CliFixture& cli) {
  const std::string path = cli.path("f32.gguf");
  std::vector<float> values(256 * 256);
  for (std::size_t at = 0; at < values.size(); ++at)
    values[at] = std::sin(0.37F * static_cast<float>(at + 1));
  const auto bytes = std::as_bytes(std::span(values));
  ktjit::model::GgufWriter writer(path);
  writer.set("general.architecture", std::string("llama"));
  const auto add = [&](const std::string& name, std::vector<std::int64_t> ne) {
    const std::int64_t rows = ne.size() > 1 ? ne[1] : 1;
    writer.add_tensor(name, FormatId::kF32, ne,
                      bytes.first(static_cast<std::size_t>(256 * rows * 4)));
  };
  add("token_embd.weight", {256, 16});
  add("blk.0.attn_norm.weight", {256});
  add("blk.0.attn_q.weight", {256, 256});
  add("blk.0.ffn_up.weight", {256, 256});
  writer.finish();
  return path;
}

std::string write_rules(CliFixture& cli, const std::string& list) {
  cli.write_text("rules.yaml", "rules:\n" + list);
  return cli.path("rules.yaml");
}

std::string make_sample(CliFixture& cli, const std::string& kind) {
  const std::string path = cli.path(kind);
  REQUIRE(cli.run({"sample", path, "--kind", kind}).exit_code == 0);
  return path;
}

std::string ready_rules(const std::string& name) {
  return std::string(KTJIT_SOURCE_DIR) + "/samples/rules/" + name;
}

const nlohmann::json& group_of(const nlohmann::json& target, const std::string& format) {
  for (const auto& group : target.at("groups")) {
    if (group.at("format") == format) return group;
  }
  FAIL("no group of " << format << " in " << target.dump());
  return target;
}

}  // namespace

TEST_CASE("plan --rules counts bytes, kernels and lowering of the formats after conversion") {
  CliFixture cli;
  const std::string model = make_model(cli);
  const std::string rules = write_rules(cli,
                                        "  - {match: {group: attention}, format: fp8_e4m3}\n"
                                        "  - {match: {group: ffn}, format: bf16, layout: auto}\n");
  const auto document =
      cli.run_json({"plan", model, "--rules", rules, "--target", "sm_86", "--json"});
  const auto& target = document.at("targets").at(0);
  // f32: embedding and norm; fp8: 256 x 256 codes; bf16: twice as much.
  CHECK(target.at("memory").at("weights") == (16 + 1) * 256 * 4 + 256 * 256 + 256 * 256 * 2);
  CHECK(target.at("memory").at("scales") == 2 * 2 * 4);
  CHECK(target.at("other_devices").empty());
  const auto& fp8 = group_of(target, "fp8_e4m3");
  CHECK(fp8.at("scales") == "128x128 f32");
  CHECK_THAT(fp8.at("lowering").get<std::string>(), Contains("software, exact"));
  CHECK(fp8.at("kernels").at(0) == "dequant_fp8_e4m3_s128x128_f32_y_f32_c256");
  const auto& by_rule = document.at("rules").at("rules");
  REQUIRE(by_rule.size() == 2);
  CHECK(by_rule.at(0).at("converted") == 1);
  CHECK(by_rule.at(0).at("bytes_before") == 256 * 256 * 4);
  CHECK(by_rule.at(0).at("bytes_after") == 256 * 256 + 16);
  CHECK(by_rule.at(0).at("rms_rel_err").get<double>() == Approx(0.026).epsilon(0.2));
  CHECK(by_rule.at(1).at("rms_rel_err").get<double>() < 3e-3);
  CHECK(document.at("rules").at("tensors_without_rule") == 2);

  const auto text = cli.run({"plan", model, "--rules", rules, "--target", "sm_86"});
  CHECK(text.exit_code == 0);
  CHECK_THAT(text.out, Contains("fp8_e4m3 128x128 f32") && Contains("RMS error"));
}

TEST_CASE("plan with the ready rules of DeepSeek-V3 puts experts on the CPU, in all forms") {
  CliFixture cli;
  for (const std::string kind : {"deepseek-fp8", "hybrid", "mixed"}) {
    INFO(kind);
    const std::string model = make_sample(cli, kind);
    const auto whole = cli.run_json({"plan", model, "--target", "sm_86", "--json"});
    const auto document =
        cli.run_json({"plan", model, "--rules", ready_rules("deepseek-v3-fp8.yaml"), "--target",
                      "sm_86", "--context", "4096", "--json"});
    const auto& target = document.at("targets").at(0);
    REQUIRE(target.at("other_devices").size() == 1);
    const auto& on_cpu = target.at("other_devices").at(0);
    CHECK(on_cpu.at("device") == "cpu");
    CHECK_THAT(on_cpu.at("target").get<std::string>(), Contains("cpu"));
    CHECK(on_cpu.at("memory").at("kv_cache").is_null());
    CHECK(target.at("memory").at("kv_cache") ==
          whole.at("targets").at(0).at("memory").at("kv_cache"));
    const auto sum = [](const nlohmann::json& report) {
      return report.at("weight_bytes").get<std::int64_t>();
    };
    // Two kv_b of 1024 x 512 double, and lose their scales of 8 x 4.
    CHECK(sum(target) + sum(on_cpu) ==
          sum(whole.at("targets").at(0)) + 2 * (1024 * 512 - 8 * 4 * 4));
    CHECK(target.at("tokens_per_second").is_null());
    CHECK_THAT(target.at("no_speed_reason").get<std::string>(), Contains("another device"));
  }
  const auto text = cli.run({"plan", cli.path("hybrid"), "--rules",
                             ready_rules("deepseek-v3-nvfp4-experts.yaml"), "--target", "sm_86"});
  CHECK(text.exit_code == 0);
  CHECK_THAT(text.out, Contains("nvfp4"));
}

TEST_CASE(
    "rules that are wrong, fit nothing or can't be are refused by every verb that takes them") {
  CliFixture cli;
  const std::string model = make_model(cli);
  struct Case {
    std::string list;
    std::string part;
  };
  const std::vector<Case> cases = {
      {"  - {match: all, fromat: keep}\n", "rules.yaml:2: rule 1: the rule has the key 'fromat'"},
      {"  - {match: {group: experts}, format: bf16}\n",
       "rules.yaml:2: rule 1: matches none of the model's 4 tensors (each condition alone: group: "
       "0 "
       "tensors)"},
      {"  - {match: all, format: fp8_e4m3}\n",
       "tensor 'blk.0.attn_norm.weight' is a vector, only matrices can be fp8_e4m3"},
  };
  for (const Case& one : cases) {
    const std::string rules = write_rules(cli, one.list);
    for (const std::vector<std::string>& verb :
         {std::vector<std::string>{"plan", model, "--target", "sm_86"},
          {"build", model, "--target", "cpu"},
          {"run", model, "--device", "cpu"},
          {"convert", model, cli.path("out")}}) {
      INFO(verb.front() << "\n" << one.list);
      auto arguments = verb;
      arguments.insert(arguments.end(), {"--rules", rules});
      const auto result = cli.run(arguments);
      CHECK(result.exit_code == 3);
      CHECK_THAT(result.err, Contains(one.part));
    }
  }
  const std::string a8 = write_rules(cli, "  - {match: {group: ffn}, activation: a8}\n");
  const auto refused = cli.run({"plan", model, "--target", "cpu", "--rules", a8});
  CHECK(refused.exit_code == 3);
  CHECK_THAT(refused.err, Contains("activation is 'a8' for tensor 'blk.0.ffn_up.weight'"));
  const std::string gpu = write_rules(cli, "  - {match: {group: ffn}, device: 'cuda:1'}\n");
  const auto no_gpu = cli.run({"plan", model, "--target", "cpu", "--rules", gpu});
  CHECK(no_gpu.exit_code == 2);
  CHECK_THAT(no_gpu.err, Contains("sends tensors to cuda:1") && Contains("--target such as sm_86"));
  const std::string prepared = write_rules(cli, "  - {match: {group: ffn}, layout: prepared}\n");
  const auto no_layout = cli.run({"plan", model, "--target", "sm_86", "--rules", prepared});
  CHECK(no_layout.exit_code == 3);
  CHECK_THAT(no_layout.err,
             Contains("layout is 'prepared' for tensor 'blk.0.ffn_up.weight', which is "
                      "f32 on sm_86"));
  CHECK(cli.run({"plan", model, "--rules", cli.path("absent.yaml")}).exit_code == 3);
}

TEST_CASE(
    "run --rules converts when it loads, and runs each tensor on its device with its activations") {
  CliFixture cli;
  if (!cli.has_worker("run with rules")) return;
  const std::string model = make_model(cli);
  const std::string rules =
      write_rules(cli,
                  "  - {match: {group: attention}, format: fp8_e4m3, activation: afp8}\n"
                  "  - {match: {group: ffn}, format: q8_0, device: sim, layout: prepared}\n");
  const auto document = cli.run_json({"run", model, "--device", "cpu", "--rules", rules, "--json"});
  CHECK(document.at("ok") == true);
  CHECK(document.at("device") == "cpu");
  std::set<std::string> fp8_ops;
  for (const auto& kernel : document.at("kernels")) {
    CHECK(kernel.at("tensor") != "blk.0.ffn_up.weight");
    CHECK(kernel.at("ok") == true);
    if (kernel.at("tensor") == "blk.0.attn_q.weight") {
      fp8_ops.insert(kernel.at("op").get<std::string>());
      CHECK(kernel.at("format") == "fp8_e4m3");
    }
  }
  CHECK(fp8_ops == std::set<std::string>{"dequant", "matmul", "matvec", "quantize"});
  REQUIRE(document.at("other_devices").size() == 1);
  const auto& simulator = document.at("other_devices").at(0);
  CHECK(simulator.at("device") == "sim");
  CHECK(simulator.at("ok") == true);
  std::set<std::string> layouts;
  for (const auto& kernel : simulator.at("kernels")) {
    CHECK(kernel.at("tensor") == "blk.0.ffn_up.weight");
    CHECK(kernel.at("format") == "q8_0");
    if (kernel.at("op") == "matvec") layouts.insert(kernel.at("layout").get<std::string>());
  }
  CHECK(layouts == std::set<std::string>{"prepared"});
}

TEST_CASE("build --rules compiles what run --rules needs") {
  CliFixture cli;
  if (!cli.has_worker("build with rules")) return;
  const std::string model = make_model(cli);
  const std::string rules =
      write_rules(cli, "  - {match: {name: 'blk.*.*_[qu]*.weight'}, format: nvfp4}\n");
  const auto built = cli.run_json({"build", model, "--target", "cpu", "--rules", rules, "--json"});
  const auto is_nvfp4 = [](const nlohmann::json& kernel) {
    return kernel.at("kernel").get<std::string>().find("nvfp4") != std::string::npos;
  };
  const auto& kernels = built.at("kernels");
  CHECK(std::any_of(kernels.begin(), kernels.end(), is_nvfp4));
  const auto run = cli.run_json({"run", model, "--device", "cpu", "--rules", rules, "--json"});
  CHECK(run.at("ok") == true);
  CHECK(run.at("compiled") == 0);
}

TEST_CASE("convert --rules writes each tensor in the format of its rule") {
  CliFixture cli;
  if (!cli.has_worker("convert with rules")) return;
  const std::string model = make_model(cli);
  const std::string rules = write_rules(cli,
                                        "  - {match: {group: attention}, format: fp8_e4m3}\n"
                                        "  - {match: {group: ffn}, format: bf16, device: cpu}\n");
  const auto document = cli.run_json({"convert", model, cli.path("out"), "--rules", rules,
                                      "--device", "cpu", "--verify", "--json"});
  CHECK(document.at("ok") == true);
  CHECK_THAT(document.at("notes").dump(), Contains("devices, activations and layouts"));
  const auto out = ktjit::model::open_model(cli.path("out"));
  CHECK(out.get_tensor("blk.0.attn_q.weight").format == FormatId::kFp8E4M3);
  CHECK(out.get_tensor("blk.0.ffn_up.weight").format == FormatId::kBF16);
  CHECK(out.get_tensor("token_embd.weight").format == FormatId::kF32);
  const auto both = cli.run(
      {"convert", model, cli.path("out2"), "--rules", rules, "--to", "bf16", "--device", "cpu"});
  CHECK(both.exit_code == 2);
}

TEST_CASE("plan --advise --error writes rules that plan and read back with the same sizes") {
  CliFixture cli;
  const std::string model = make_model(cli);
  const std::string out = cli.path("advised.yaml");
  const auto whole = cli.run_json({"plan", model, "--target", "sm_86", "--json"});
  const auto bytes = whole.at("targets").at(0).at("memory_bytes").get<std::int64_t>();
  // The matrices have 512 KiB: 300 less means 16 bits for one and fewer for the other, or so.
  const std::string memory = std::to_string(bytes - 300 * 1024);
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"plan", model, "--target", "sm_86", "--memory", memory};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  CHECK(cli.run(with({})).exit_code == 1);  // does not fit
  const auto advised = cli.run(with({"--advise", "--error", "0.1", "--out", out}));
  INFO(advised.err);
  REQUIRE(advised.exit_code == 0);
  CHECK_THAT(advised.out, Contains("relative RMS error"));
  const auto plan = cli.run_json(with({"--rules", out, "--json"}));  // exit code 0: it fits
  CHECK(plan.at("targets").at(0).at("fits") == true);
  const auto printed = cli.run(with({"--advise", "--error", "0.1"}));
  CHECK(printed.exit_code == 0);
  cli.write_text("printed.yaml", printed.out);
  const auto again = cli.run_json(with({"--rules", cli.path("printed.yaml"), "--json"}));
  CHECK(again.at("targets") == plan.at("targets"));
  CHECK_THAT(printed.out, Contains("group: [norm]") && Contains("# "));

  const auto impossible =
      cli.run(with({"--advise", "--error", "1e-6", "--out", cli.path("none.yaml")}));
  CHECK(impossible.exit_code == 1);
  CHECK_THAT(impossible.err, Contains("more than the budget") && Contains("--memory"));
  CHECK(!std::filesystem::exists(cli.path("none.yaml")));
  CHECK(cli.run(with({"--error", "0.1"})).exit_code == 2);
  CHECK(cli.run(with({"--advise", "--out", out})).exit_code == 2);
}
