// docs/FORMATS.md is what the program prints, and the proofs that it names exist.
#include "cli/format_table.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "cli/format_proofs.h"
#include "tests/cli/cli_fixture.h"
#include "tests/support/golden_data.h"

namespace ktjit::cli {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Names of all test cases in the sources, which needs no build of what this machine can't run.
std::set<std::string> names_of_tests() {
  std::set<std::string> names;
  const std::regex test_case("TEST_CASE\\(\\s*((\"[^\"]*\"\\s*)+)");
  for (const auto& entry : fs::recursive_directory_iterator(KTJIT_SOURCE_DIR "/tests")) {
    if (entry.path().extension() != ".cpp") continue;
    const std::string text = read_file(entry.path());
    for (std::sregex_iterator match(text.begin(), text.end(), test_case), end; match != end;
         ++match) {
      // Literals side by side are one name.
      names.insert(std::regex_replace((*match)[1].str(), std::regex("\"\\s*\"?"), ""));
    }
  }
  return names;
}

}  // namespace

TEST_CASE("docs/FORMATS.md is what doctor --table prints") {
  test::CliFixture cli;
  const auto result = cli.run({"doctor", "--table"});
  REQUIRE(result.exit_code == 0);
  const fs::path page = KTJIT_SOURCE_DIR "/docs/FORMATS.md";
  if (std::getenv("KTJIT_UPDATE_TABLE") != nullptr) std::ofstream(page) << result.out;
  const bool is_same = read_file(page) == result.out;
  INFO("KTJIT_UPDATE_TABLE=1 rewrites it");
  CHECK(is_same);
}

TEST_CASE("every proof in the table of formats is a test that exists") {
  const std::set<std::string> names = names_of_tests();
  REQUIRE(names.size() > 300);
  for (const Proof& proof : all_proofs()) {
    CHECK(!proof.tests.empty());
    for (const ProofTest& test : proof.tests) {
      INFO(test.name);
      CHECK(names.count(std::string(test.name)) == 1);
    }
  }
}

TEST_CASE("formats proved by golden vectors have some") {
  std::set<FormatId> golden;
  for (const test::GoldenEntry& entry : test::load_golden()) golden.insert(entry.format);
  for (FormatId format : decoded_formats()) {
    INFO(get_format(format).name);
    if (is_golden_format(get_format(format))) CHECK(golden.count(format) == 1);
  }
}

TEST_CASE("every format has a proof of its decode beyond its products, but for f32") {
  for (FormatId format : decoded_formats()) {
    if (format == FormatId::kF32) continue;
    INFO(get_format(format).name);
    const auto proves_values = [&](const Proof& proof) {
      return !proof.is_of_quantize && (proof.key == "golden" || proof.key == "all codes" || proof.key == "any bytes" ||
              proof.key == "numbers") &&
             proof.covers(get_format(format));
    };
    CHECK(std::any_of(all_proofs().begin(), all_proofs().end(), proves_values));
  }
  for (FormatId format : encoded_formats()) {
    INFO("quantize to " << get_format(format).name);
    const auto proves_codes = [&](const Proof& proof) {
      return proof.is_of_quantize && proof.covers(get_format(format));
    };
    CHECK(std::any_of(all_proofs().begin(), all_proofs().end(), proves_codes));
  }
}

TEST_CASE("doctor says which compiler serves which target, and how code comes to the device") {
  test::CliFixture cli;
  const auto document =
      cli.run_json({"doctor", "--target", "sm_61", "--target", "sm_86", "--json"});
  std::set<std::string> served;
  for (const auto& nvrtc : document.at("nvrtc")) {
    for (const std::string target : nvrtc.at("serves")) {
      INFO(target);
      CHECK(served.insert(target).second);  // each has one
    }
  }
  for (const std::string target : document.at("llvm").at("serves"))
    CHECK(served.insert(target).second);
  for (const auto& target : document.at("targets")) {
    INFO(target.dump());
    CHECK(target.at("route").is_null() == (served.count(target.at("target")) == 0));
  }
  // Without any NVRTC, Clang serves what LLVM 19 knows.
  if (!cli.has_worker("PTX by Clang")) return;
  const auto bare = cli.run_json({"doctor", "--nvrtc", "/nonexistent", "--json"});
  const std::vector<std::string> by_llvm = bare.at("llvm").at("serves");
  CHECK(by_llvm == std::vector<std::string>{"sm_60", "sm_61", "sm_70", "sm_72", "sm_75", "sm_80",
                                            "sm_86", "sm_87", "sm_89", "sm_90a"});
}

TEST_CASE("doctor prints lowering and cost of each format on a target") {
  test::CliFixture cli;
  const auto text = cli.run({"doctor", "--target", "sm_86"});
  CHECK_THAT(text.out, Catch::Matchers::Contains("machine code by") ||
                           Catch::Matchers::Contains("linked by the driver"));
  const auto document = cli.run_json({"doctor", "--target", "sm_86", "--json"});
  CHECK(document.at("formats").size() == decoded_formats().size());
  for (const auto& format : document.at("formats")) {
    INFO(format.dump());
    CHECK_THAT(text.out, Catch::Matchers::Contains(format.at("format").get<std::string>()));
    CHECK(!format.at("targets").at(0).at("lowering").get<std::string>().empty());
  }
  CHECK(cli.run({"doctor", "--table", "--json"}).exit_code == 2);
}

}  // namespace ktjit::cli
