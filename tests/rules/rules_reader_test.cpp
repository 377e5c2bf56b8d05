// Rules from YAML: what is read, and the words for what is refused.
#include "rules/rules_reader.h"

#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "rules/rules.h"

#include "core/error.h"

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;
using namespace ktjit;
using rules::LayoutChoice;
using rules::Rule;
using rules::Rules;

namespace {

/// The message of the error that the text gives.
std::string refusal(const std::string& text) {
  try {
    Rules::parse(text, "r.yaml");
  } catch (const InputError& error) {
    return error.what();
  }
  FAIL("accepted: " << text);
  return {};
}

/// One rule about all tensors, in one line each.
std::string rule_with(const std::string& lines) { return "rules:\n  - match: all\n" + lines; }

rules::FormatSetting format_of(const std::string& lines) {
  const Rules parsed = Rules::parse(rule_with(lines), "r.yaml");
  REQUIRE(parsed.rules().front().format);
  return *parsed.rules().front().format;
}

}  // namespace

TEST_CASE("a rule has conditions and what it sets") {
  const Rules parsed = Rules::parse(R"(# critical paths first
rules:
  - label: critical
    match: {group: [norm, router], layers: [0-2, 60, 100-]}
    format: keep
    optional: true
  - match:
      name: ["*.q_proj.weight", "blk.?.attn_q.weight"]
      regex: kv_[ab]
      format: [fp8_e4m3, mxfp8_e5m2, Q4_K]
      rows: -1024
      cols: 512
      cols_divisible_by: 32
    format: fp8_e4m3
    scale: 64x128 e8m0
    activation: afp8
    device: cuda:1
    layout: auto
)",
                                    "r.yaml");
  REQUIRE(parsed.rules().size() == 2);
  const Rule& first = parsed.rules()[0];
  CHECK(first.line == 3);
  CHECK(first.optional);
  CHECK(first.match.groups == std::vector{rules::NameGroup::kNorm, rules::NameGroup::kRouter});
  REQUIRE(first.match.layers.size() == 3);
  CHECK(first.match.layers[0].has(2));
  CHECK(!first.match.layers[0].has(3));
  CHECK(!first.match.layers[1].has(59));
  CHECK(first.match.layers[1].has(60));
  CHECK(first.match.layers[2].has(1'000'000));
  REQUIRE(first.format);
  CHECK(!first.format->format);
  CHECK(parsed.describe(0) == "r.yaml:3: rule 1 'critical'");

  const Rule& second = parsed.rules()[1];
  CHECK(second.line == 7);
  CHECK(second.match.names.size() == 2);
  CHECK(second.match.formats[1] == get_weight_format("mxfp8_e5m2"));
  CHECK(second.match.rows.front().has(0));
  CHECK(!second.match.rows.front().has(1025));
  CHECK(second.match.cols_divisible_by == 32);
  CHECK(second.format->format ==
        WeightFormat{FormatId::kFp8E4M3, ScaleGrid{64, 128, ScaleType::kE8M0}});
  CHECK(second.activation == ActivationPolicy::kAfp8);
  CHECK(second.device == "cuda:1");
  CHECK(second.layout == LayoutChoice::kAuto);
  CHECK(parsed.describe(1) == "r.yaml:7: rule 2");
}

TEST_CASE("scales are those that are given, else the usual ones of the format") {
  CHECK(format_of("    format: fp8e4nv\n").format ==
        WeightFormat{FormatId::kFp8E4M3, ScaleGrid{128, 128, ScaleType::kF32}});
  CHECK(!format_of("    format: fp8e4nv\n").names_scale);
  CHECK(format_of("    format: fp8_e5m2\n    scale: row\n").format->scale ==
        ScaleGrid{1, 0, ScaleType::kF32});
  CHECK(format_of("    scale: tensor bf16\n    format: fp8_e5m2\n").format->scale ==
        ScaleGrid{0, 0, ScaleType::kBF16});
  CHECK(!format_of("    format: fp8_e5m2\n    scale: none\n").format->scale);
  CHECK(format_of("    format: fp8_e5m2\n    scale: none\n").names_scale);
  CHECK(format_of("    format: mxfp8_e4m3\n").format->scale == ScaleGrid{1, 32, ScaleType::kE8M0});
  CHECK(format_of("    format: nvfp4\n").format->scale == ScaleGrid{1, 16, ScaleType::kE4M3});
  CHECK(format_of("    format: mxfp4\n    scale: 1x32 e8m0\n").format->scale ==
        ScaleGrid{1, 32, ScaleType::kE8M0});
  CHECK(!format_of("    format: bf16\n").format->scale);
}

TEST_CASE("what is no rule is refused with file, line, rule, key, value and expectation") {
  struct Case {
    std::string text;
    std::string start;
    std::string part;
  };
  const std::vector<Case> cases = {
      {rule_with("    fromat: keep\n"), "r.yaml:3: rule 1: ",
       "the rule has the key 'fromat', expected label, match, optional, format, scale, activation, "
       "device, layout"},
      {rule_with("    format: q4_K\n"), "r.yaml:3: rule 1: format is 'q4_K', ",
       "expected keep, f32, f16, bf16, fp8_e4m3"},
      {rule_with("    label: x\n    format: fp9\n"), "r.yaml:4: rule 1 'x': format is 'fp9', ",
       "nvfp4"},
      {rule_with("    format: [bf16]\n"), "r.yaml:3: ", "format is a list"},
      {rule_with("    format:\n"), "r.yaml:3: ", "format is empty"},
      {rule_with("    format: keep\n    format: bf16\n"),
       "r.yaml:4: ", "the rule has the key 'format' twice"},
      {rule_with("    format: keep\n    scale: row\n"),
       "r.yaml:4: ", "scale is 'row', expected none given with 'format: keep'"},
      {rule_with("    format: bf16\n    scale: row\n"), "r.yaml:4: ", "'row'"},
      {rule_with("    format: mxfp4\n    scale: row\n"),
       "r.yaml:4: ", "scale is row f32, allowed: 1x32 e8m0"},
      {rule_with("    format: mxfp8_e4m3\n    scale: 128x128\n"), "r.yaml:4: ", "1x32 e8m0"},
      {rule_with("    format: mxfp8_e4m3\n    scale: none\n"), "r.yaml:4: ", "1x32 e8m0"},
      {rule_with("    format: fp8_e4m3\n    scale: 1x16 e4m3\n"),
       "r.yaml:4: ", "expected f32, bf16 or e8m0 scales"},
      {rule_with("    format: fp8_e4m3\n    scale: 0x128\n"),
       "r.yaml:4: ", "scale is '0x128', expected none, or RxC"},
      {rule_with("    format: fp8_e4m3\n    scale: 128x128 f16\n"), "r.yaml:4: ", "'128x128 f16'"},
      {rule_with("    scale: row\n"), "r.yaml:3: ", "no 'format'"},
      {rule_with("    device: gpu\n"), "r.yaml:3: rule 1: device is 'gpu', ",
       "expected cuda, cuda:N, cpu or sim"},
      {rule_with("    device: cuda:-1\n"), "r.yaml:3: ", "'cuda:-1'"},
      {rule_with("    activation: fp8\n"), "r.yaml:3: ", "expected a16, a8 or afp8"},
      {rule_with("    layout: fast\n"), "r.yaml:3: ", "expected native, prepared or auto"},
      {rule_with("    optional: yes\n    format: keep\n"), "r.yaml:3: ", "expected true or false"},
      {rule_with(""), "r.yaml:2: rule 1: ", "sets nothing"},
      {"rules:\n  - format: keep\n", "r.yaml:2: rule 1: ", "has no 'match'"},
      {"rules:\n  - match: everything\n    format: keep\n",
       "r.yaml:2: ", "match is 'everything', expected all"},
      {"rules:\n  - match: {}\n    format: keep\n", "r.yaml:2: ", "match is an empty mapping"},
      {"rules:\n  - match: {nam: x}\n    format: keep\n", "r.yaml:2: rule 1: ",
       "match has the key 'nam', expected name, regex, group, format, layers, rows, cols, "
       "cols_divisible_by"},
      {"rules:\n  - match: {group: [norm, expert]}\n    format: keep\n",
       "r.yaml:2: ", "group is 'expert', expected norm, output"},
      {"rules:\n  - match: {group: []}\n    format: keep\n", "r.yaml:2: ", "an empty list"},
      {"rules:\n  - match: {regex: 'a('}\n    format: keep\n", "r.yaml:2: ", "regex is 'a('"},
      {"rules:\n  - match: {layers: 5-2}\n    format: keep\n",
       "r.yaml:2: ", "layers is '5-2', expected a number, or a range"},
      {"rules:\n  - match: {rows: '-'}\n    format: keep\n", "r.yaml:2: ", "rows is '-'"},
      {"rules:\n  - match: {format: fp9}\n    format: keep\n", "r.yaml:2: ", "'fp9'"},
      {"rules:\n  - match: {cols_divisible_by: 0}\n    format: keep\n", "r.yaml:2: ", "'0'"},
      {"rules:\n  - keep\n", "r.yaml:2: rule 1: ", "the rule is 'keep', expected a mapping"},
      {"rules: []\n", "r.yaml:1: ", "an empty list"},
      {"rules: {}\n", "r.yaml:1: ", "a mapping, expected a list"},
      {"rule: []\n", "r.yaml:1: ", "the file has the key 'rule', expected rules"},
      {"- match: all\n", "r.yaml:1: ", "the file is a list"},
      {"{}\n", "r.yaml:1: ", "the file has no 'rules'"},
      {"", "r.yaml: ", "0 YAML documents"},
      {"rules: []\n---\nrules: []\n", "r.yaml: ", "2 YAML documents"},
      {"rules:\n  - match: [\n", "r.yaml:3", "no valid YAML"},
      {"rules:\n - match: *nothing\n", "r.yaml:2", "no valid YAML"},
  };
  for (const Case& one : cases) {
    INFO(one.text);
    const std::string message = refusal(one.text);
    CHECK_THAT(message, StartsWith(one.start));
    CHECK_THAT(message, Contains(one.part));
  }
}

TEST_CASE("a nest without an end is refused as YAML, not by a crash") {
  CHECK_THAT(refusal("rules: " + std::string(100'000, '[')), Contains("no valid YAML"));
}

TEST_CASE("a file that is absent, a folder or too large is refused by its name") {
  const auto folder = std::filesystem::temp_directory_path();
  CHECK_THROWS_WITH(Rules::read(folder / "ktjit-no-such-rules.yaml"),
                    Contains("ktjit-no-such-rules.yaml: no such file of rules"));
  CHECK_THROWS_WITH(Rules::read(folder), Contains("is a folder"));
  const auto large = folder / ("ktjit-rules-test-" + std::to_string(::getpid()) + ".yaml");
  std::ofstream(large) << "rules:\n  - {match: all, format: keep}\n" << std::string(1 << 20, '#');
  CHECK_THROWS_WITH(Rules::read(large), Contains("larger than 1048576 bytes"));
  std::ofstream(large, std::ios::trunc) << "rules:\n  - {match: all, format: keep}\n";
  CHECK(Rules::read(large).rules().size() == 1);
  std::filesystem::remove(large);
}
