// ktjit plan and doctor: what they say about targets that are not here.
#include <catch2/catch.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "codegen/lowering.h"
#include "tests/cli/cli_fixture.h"
#include "tests/cli/partly_served.h"

using Catch::Matchers::Contains;
using ktjit::test::CliFixture;

namespace {

const std::vector<std::string> kSeedCase = {"--format",      "fp8e4nv", "--shape",  "4096x14336",
                                            "--scale-block", "128x128", "--target", "sm_86"};

std::vector<std::string> with_seed_case(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), kSeedCase.begin(), kSeedCase.end());
  return arguments;
}

}  // namespace

TEST_CASE("plan serves fp8e4nv on sm_86 by exact software") {
  CliFixture cli;
  const auto text = cli.run(with_seed_case({"plan"}));
  INFO(text.err);
  CHECK(text.exit_code == 0);
  CHECK_THAT(text.out, Contains("software, exact"));
  CHECK_THAT(text.out, Contains("fp8_e4m3"));
  CHECK_THAT(text.out, Contains("fp8e4nv"));
  CHECK_THAT(text.out, Contains("A10"));

  const auto document = cli.run_json(with_seed_case({"plan", "--json"}));
  REQUIRE(document.at("targets").size() == 1);
  const auto& target = document.at("targets").at(0);
  CHECK(target.at("target") == "sm_86");
  CHECK(target.at("verdict") == "ok");
  CHECK(target.at("reason").is_string());
  CHECK(target.at("tokens_per_second").is_null());
  CHECK(target.at("card").at("name") == "A10");
  CHECK(target.at("card").at("chosen") == "assumed");
  CHECK(target.at("other_cards").size() > 5);
  CHECK(target.at("fits") == true);  // in an A10
  CHECK(target.at("advice").is_array());
  // 4096 x 14336 codes, and 32 x 112 scales of four bytes.
  CHECK(target.at("memory_bytes") == 4096 * 14336 + 32 * 112 * 4);
  REQUIRE(target.at("groups").size() == 1);
  const auto& group = target.at("groups").at(0);
  CHECK(group.at("format") == "fp8_e4m3");
  CHECK(group.at("tensors") == 1);
  CHECK(group.at("bytes") == 4096 * 14336);
  CHECK_THAT(group.at("lowering").get<std::string>(), Contains("software, exact"));
  const int count =
      ktjit::codegen::get_lowering(ktjit::FormatId::kFp8E4M3, ktjit::make_cuda_target(86))
          .instructions_per_4;
  CHECK(group.at("cost") == count);
  CHECK(group.at("instructions_per_weight") == count / 4.0 + 1);
  CHECK(group.at("issued_per_weight").get<double>() == Approx(26.0).epsilon(0.01));
  CHECK(group.at("bytes_per_weight").get<double>() == Approx(1 + 4 / (128.0 * 128)));
  CHECK(group.at("kernels").size() == 7);  // three, the scan, three for what it finds finite
}

TEST_CASE("plan on sm_89 and sm_90a takes the hardware's conversion") {
  CliFixture cli;
  const auto document = cli.run_json({"plan", "--format", "FP8_E4M3", "--shape", "8x128",
                                      "--target", "sm_89", "--target", "sm_90a", "--json"});
  REQUIRE(document.at("targets").size() == 2);
  for (const auto& target : document.at("targets")) {
    CHECK_THAT(target.at("groups").at(0).at("lowering").get<std::string>(),
               Contains("hardware cvt"));
  }
}

TEST_CASE(
    "plan shows other formats for FP8 that is converted in software, without made-up errors") {
  CliFixture cli;
  const auto document = cli.run_json(with_seed_case({"plan", "--json"}));
  const auto& alternatives = document.at("targets").at(0).at("alternatives");
  std::vector<std::string> formats;
  for (const auto& other : alternatives) {
    formats.push_back(other.at("format"));
    const bool kept = other.at("kept");
    CHECK(kept == (other.at("format") == "fp8_e4m3"));
    CHECK(other.at("memory_bytes").is_number_unsigned());
    // A described tensor has no values to measure on.
    CHECK(other.at("rms_rel_err").is_null() == !kept);
    CHECK(other.at("values_measured") == 0);
  }
  CHECK(formats ==
        std::vector<std::string>{"fp8_e4m3", "fp8_e5m2", "fp8_e4b15", "bf16", "f16", "q8_0"});
  CHECK_THAT(cli.run(with_seed_case({"plan"})).out, Contains("FP8 weights as"));
  const std::vector<std::string> on_l4 = {"plan",    "--format", "fp8e4nv", "--shape",
                                          "128x128", "--card",   "L4"};
  CHECK_THAT(cli.run(on_l4).out, !Contains("FP8 weights as"));
  auto with_advise = on_l4;
  with_advise.push_back("--advise");
  CHECK_THAT(cli.run(with_advise).out, Contains("FP8 weights as"));
}

TEST_CASE("plan of an FP8 checkpoint has its latent cache, its experts and measured errors") {
  CliFixture cli;
  const std::string folder = (cli.cache_folder().parent_path() / "deepseek").string();
  REQUIRE(cli.run({"sample", folder, "--kind", "deepseek-fp8"}).exit_code == 0);
  const auto document =
      cli.run_json({"plan", folder, "--target", "sm_86", "--context", "1000", "--json"});
  const auto& target = document.at("targets").at(0);
  CHECK(target.at("verdict") == "ok");
  CHECK(target.at("kv_cache_bytes") == 1000 * 2 * (512 + 64) * 2);
  CHECK(target.at("experts_on_cpu").at("host_bytes").get<std::uint64_t>() > 0);
  for (const auto& other : target.at("alternatives")) {
    INFO(other.dump());
    const double rms = other.at("rms_rel_err");
    const std::string format = other.at("format");
    const bool exact = format == "fp8_e4m3" || format == "fp8_e4b15";
    CHECK((rms == 0) == exact);
    CHECK(rms < 0.1);
    if (!other.at("kept").get<bool>()) {
      CHECK(other.at("values_measured").get<std::uint64_t>() > 100'000);
      CHECK(other.at("tensors_measured").get<std::uint64_t>() > 5);
    }
  }
}

TEST_CASE("plan takes cards, in place of targets or with them") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  const auto cards = cli.run_json({"plan", sample, "--card", "RTX 3090", "--card", "t4", "--json"});
  REQUIRE(cards.at("targets").size() == 2);
  CHECK(cards.at("targets").at(0).at("target") == "sm_86");
  CHECK(cards.at("targets").at(0).at("card").at("name") == "RTX 3090");
  CHECK(cards.at("targets").at(0).at("card").at("chosen") == "named");
  CHECK(cards.at("targets").at(0).at("available_bytes") == std::uint64_t{24} << 30);
  CHECK(cards.at("targets").at(1).at("target") == "sm_75");

  const auto both = cli.run_json(
      {"plan", sample, "--target", "sm_80", "--target", "sm_90a", "--card", "3090", "--json"});
  CHECK(both.at("targets").at(0).at("card").at("name") == "RTX 3090");
  CHECK(both.at("targets").at(1).at("card").at("name") == "H100 SXM");

  const auto unknown = cli.run({"plan", sample, "--card", "A11"});
  CHECK(unknown.exit_code == 2);
  CHECK_THAT(unknown.err, Contains("'A11'") && Contains("A10G") && Contains("RTX 5090"));
  const auto mismatched = cli.run({"plan", sample, "--card", "T4", "--target", "sm_86"});
  CHECK(mismatched.exit_code == 2);
  CHECK_THAT(mismatched.err, Contains("T4") && Contains("sm_75"));
}

TEST_CASE("plan says how many tokens/s a card's memory allows, and why there are none") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  const auto document = cli.run_json(
      {"plan", sample, "--target", "sm_86", "--target", "cpu", "--context", "512", "--json"});
  const auto& a10 = document.at("targets").at(0);
  CHECK(a10.at("tokens_per_second").get<double>() ==
        Approx(540e9 / a10.at("bytes_per_token").get<double>()));
  CHECK(a10.at("no_speed_reason").is_null());
  const auto& cpu = document.at("targets").at(1);
  CHECK(cpu.at("tokens_per_second").is_null());
  CHECK(cpu.at("card").is_null());
  CHECK_THAT(cpu.at("no_speed_reason").get<std::string>(), Contains("bandwidth"));
  CHECK_THAT(cli.run({"plan", sample, "--target", "sm_86"}).out,
             Contains("tokens/s") && Contains("90 % of the data sheet's"));
}

TEST_CASE("plan says whether a model fits") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  const auto small =
      cli.run_json({"plan", sample, "--target", "sm_86", "--memory", "1M", "--json"}, 1);
  const auto& refused = small.at("targets").at(0);
  CHECK(refused.at("fits") == false);
  CHECK(refused.at("verdict") == "no");
  CHECK_FALSE(refused.at("advice").empty());
  std::uint64_t parts = 0;
  for (const char* part : {"weights", "scales", "kv_cache", "activations", "driver"})
    parts += refused.at("memory").at(part).get<std::uint64_t>();
  CHECK(refused.at("memory_bytes") == parts);
  const auto large =
      cli.run_json({"plan", sample, "--target", "sm_86", "--memory", "24G", "--json"});
  CHECK(large.at("targets").at(0).at("fits") == true);
  // Five layers, two heads of 64 for keys and for values, two bytes each.
  CHECK(large.at("targets").at(0).at("kv_cache_bytes") == 5 * 4096 * 2 * (64 + 64) * 2);
  const auto shorter =
      cli.run_json({"plan", sample, "--target", "sm_86", "--context", "100", "--json"});
  CHECK(shorter.at("targets").at(0).at("kv_cache_bytes") == 5 * 100 * 2 * (64 + 64) * 2);
}

TEST_CASE("plan with prepared weights names their groups, kernels and memory") {
  CliFixture cli;
  const std::string sample = cli.make_sample();
  const auto document = cli.run_json(
      {"plan", sample, "--target", "sm_86", "--target", "sm_60", "--layout", "auto", "--json"});
  std::uint64_t prepared = 0;
  for (const auto& group : document.at("targets").at(0).at("groups")) {
    const bool is_prepared = group.at("matvec_layout") == "prepared";
    prepared += is_prepared ? 1 : 0;
    CHECK((group.at("prepared_bytes") > 0) == is_prepared);
    const std::string kernels = group.at("kernels").dump();
    CHECK((kernels.find("_prepared_c") != std::string::npos) == is_prepared);
    CHECK((kernels.find("restore_") != std::string::npos) == is_prepared);
  }
  CHECK(prepared >= 20);
  const auto& memory = document.at("targets").at(0).at("memory");
  CHECK(memory.at("prepared_extra") > 0);  // small matrices are padded
  CHECK(document.at("targets").at(0).at("memory_bytes").get<std::uint64_t>() -
            memory.at("prepared_extra").get<std::uint64_t>() ==
        document.at("targets").at(1).at("memory_bytes"));
  for (const auto& group : document.at("targets").at(1).at("groups"))
    CHECK(group.at("matvec_layout") == "native");
  const std::string text = cli.run({"plan", sample, "--target", "sm_86", "--layout", "auto"}).out;
  CHECK_THAT(text, Contains("matvec's layout") && Contains("that prepared ones take more"));
  CHECK_THAT(cli.run({"plan", sample, "--target", "sm_86"}).out, !Contains("matvec's layout"));
}

TEST_CASE("plan without a target plans for this machine") {
  CliFixture cli;
  const auto document = cli.run_json({"plan", cli.make_sample(), "--json"});
  REQUIRE(document.at("targets").size() == 1);
  CHECK(document.at("targets").at(0).at("fits") == true);
}

TEST_CASE("a plan's tensors without kernels are listed") {
  CliFixture cli;
  const auto document =
      cli.run_json({"plan", ktjit::test::make_partly_served(cli), "--target", "sm_86", "--json"});
  const auto& target = document.at("targets").at(0);
  CHECK(target.at("verdict") == "no");
  REQUIRE(target.at("skipped").size() == 1);
  CHECK(target.at("skipped").at(0).at("tensor") == "codes");
  CHECK(target.at("skipped").at(0).at("format") == "u8");
  CHECK_THAT(target.at("skipped").at(0).at("reason").get<std::string>(), Contains("u8"));
}

TEST_CASE("the sample's formats all have kernels, the integers' only dequant") {
  CliFixture cli;
  const auto document = cli.run_json({"plan", cli.make_sample(), "--target", "sm_61", "--json"});
  const auto& target = document.at("targets").at(0);
  CHECK(target.at("skipped").empty());
  CHECK_THAT(target.at("reason").get<std::string>(), Contains("i64") && Contains("dequant only"));
  for (const auto& group : target.at("groups")) {
    const bool is_integer = group.at("format").get<std::string>().starts_with("i") &&
                            !group.at("format").get<std::string>().starts_with("iq");
    if (is_integer) CHECK(group.at("kernels").size() == 1);
  }
}

TEST_CASE("doctor shows that sm_86 gets fp8e4nv by exact software") {
  CliFixture cli;
  const auto text = cli.run({"doctor", "--target", "sm_86"});
  INFO(text.err);
  CHECK(text.exit_code == 0);
  CHECK_THAT(text.out, Contains("fp8e4nv"));
  CHECK_THAT(text.out, Contains("software, exact"));
  CHECK_THAT(text.out, Contains("Triton refuses"));
  CHECK_THAT(cli.run(with_seed_case({"doctor"})).out, Contains("software, exact"));
  CHECK_THAT(cli.run({"doctor", "--target", "sm_89", "--format", "fp8e4nv"}).out,
             !Contains("Triton refuses"));
}

TEST_CASE("MX formats are named in plan, emit and doctor as people name them") {
  CliFixture cli;
  for (const char* name : {"mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4"}) {
    INFO(name);
    const auto plan =
        cli.run({"plan", "--target", "sm_120a", "--format", name, "--shape", "64x128", "--json"});
    INFO(plan.err);
    REQUIRE(plan.exit_code == 0);
    const auto group = nlohmann::json::parse(plan.out).at("targets").at(0).at("groups").at(0);
    CHECK(group.at("format") == name);
    CHECK(group.at("scales") == "1x32 e8m0");
    const auto spec = cli.run(
        {"emit", "--target", "sm_120a", "--format", name, "--shape", "64x128", "--stage", "spec"});
    CHECK_THAT(spec.out, Contains(fmt::format("weight: {}\nscale: 1x32 e8m0\n", name)));
    const auto doctor = cli.run({"doctor", "--target", "sm_120a", "--format", name});
    CHECK_THAT(doctor.out, Contains(name) && Contains("hardware cvt"));
  }
  const auto wrong = cli.run({"plan", "--target", "sm_86", "--format", "mxfp8_e4m3", "--shape",
                              "64x128", "--scale-block", "128x128"});
  CHECK_THAT(wrong.err, Contains("scale is 128x128 f32, allowed: 1x32 e8m0 with mxfp8_e4m3"));
}

TEST_CASE("doctor --json has devices, compilers, cache, formats and problems") {
  CliFixture cli;
  const auto document = cli.run_json({"doctor", "--json"});
  REQUIRE(!document.at("devices").empty());
  for (const auto& device : document.at("devices")) {
    CHECK(device.at("name").is_string());
    CHECK(device.at("description").is_string());
    CHECK(device.at("target").is_string());
    CHECK(device.at("memory_bytes").is_number_unsigned());
  }
  for (const auto& nvrtc : document.at("nvrtc")) {
    CHECK(nvrtc.at("path").is_string());
    CHECK(nvrtc.at("usable").is_boolean());
    CHECK(nvrtc.at("targets").is_array());
  }
  CHECK(document.at("cache").at("path") == cli.cache_folder().string());
  std::vector<std::string> targets;
  for (const auto& target : document.at("targets")) targets.push_back(target.at("target"));
  for (const std::string name : {"cpu", "sm_75", "sm_86", "sm_89", "sm_90a"}) {
    CHECK_THAT(targets, Catch::Matchers::VectorContains(name));
  }
  std::vector<std::string> formats;
  for (const auto& format : document.at("formats")) {
    formats.push_back(format.at("format"));
    CHECK(format.at("targets").size() == targets.size());
  }
  for (const std::string name : {"fp8_e4m3", "fp8_e5m2", "fp8_e4b15"}) {
    CHECK_THAT(formats, Catch::Matchers::VectorContains(name));
  }
  for (const auto& problem : document.at("problems")) {
    CHECK(!problem.at("problem").get<std::string>().empty());
    CHECK(!problem.at("cure").get<std::string>().empty());
  }
}

TEST_CASE("doctor says what to install where NVRTC is missing") {
  CliFixture cli;
  const auto document =
      cli.run_json({"doctor", "--target", "sm_86", "--nvrtc", "/nonexistent", "--json"});
  REQUIRE(document.at("nvrtc").size() >= 1);
  CHECK(document.at("nvrtc").at(0).at("usable") == false);
}

TEST_CASE("doctor makes no cache folder") {
  CliFixture cli;
  REQUIRE(cli.run({"doctor"}).exit_code == 0);
  CHECK(!std::filesystem::exists(cli.cache_folder()));
}
