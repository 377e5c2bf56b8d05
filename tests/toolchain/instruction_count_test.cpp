// The instruction counts that doctor, plan and docs/FORMATS.md show are those of the code that the
// compilers make. KTJIT_UPDATE_COUNTS=1 writes codegen/instruction_counts.inc from what is counted.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <sstream>

#include "codegen/emitter.h"
#include "codegen/instruction_counts.h"
#include "core/error.h"
#include "tests/support/kernel_cases.h"
#include "tests/toolchain/conversion_counts.h"
#include "tests/toolchain/toolchain_fixture.h"

namespace ktjit {
namespace {

using test::Conversion;
using test::CountedConversion;

/// Counts depend on the compiler's version, so one is chosen: scripts/setup installs both.
std::string_view counting_compiler(const Target& target) {
  return target.sm < 75 ? "NVRTC 12.9" : "NVRTC 13.0";
}

std::vector<Target> targets_counted_with(std::string_view compiler) {
  std::vector<Target> targets;
  for (std::string_view name : codegen::counted_targets()) {
    const Target target = parse_target(name, {});
    if (counting_compiler(target) == compiler) targets.push_back(target);
  }
  return targets;
}

struct Finding {
  Conversion conversion;
  Target target;
  std::optional<CountedConversion> counted;
  std::string error;
};

/// Each conversion on every target, or on two of them in turn, which takes a quarter of the time.
std::vector<Finding> count_all(Toolchain& toolchain, Compiler& compiler,
                               const std::vector<Target>& targets, bool every_target) {
  std::vector<Finding> findings;
  std::size_t turn = 0;
  for (const Conversion& conversion : test::all_conversions()) {
    const std::size_t first = turn++ % targets.size();
    const std::size_t second = (first + targets.size() / 2) % targets.size();
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (every_target || i == first || i == second)
        findings.push_back({conversion, targets[i], {}, ""});
    }
  }
  test::for_each_in_parallel(findings.size(), [&](std::size_t i) {
    Finding& finding = findings[i];
    try {
      finding.counted =
          test::count_conversion(finding.conversion, finding.target, compiler, toolchain.options());
    } catch (const std::exception& error) {
      finding.error = error.what();
    }
  });
  return findings;
}

using Key = std::pair<std::string, std::string>;  // conversion, target

const std::string kFile = KTJIT_SOURCE_DIR "/codegen/instruction_counts.inc";

/// The lines of the file that are of other targets than those counted now, and the new ones.
void update_file(const std::vector<Finding>& findings, const std::vector<Target>& targets) {
  std::map<Key, std::string> lines;
  std::ifstream old(kFile);
  for (std::string line; std::getline(old, line);) {
    std::istringstream quoted(line);
    std::string part, conversion, target;
    std::getline(quoted, part, '"');
    std::getline(quoted, conversion, '"');
    std::getline(quoted, part, '"');
    std::getline(quoted, target, '"');
    const bool is_counted_now = std::any_of(
        targets.begin(), targets.end(), [&](const Target& one) { return one.name() == target; });
    if (!target.empty() && !is_counted_now) lines[{conversion, target}] = line;
  }
  for (const Finding& finding : findings) {
    if (!finding.counted) continue;
    const CountedConversion& counted = *finding.counted;
    const std::string conversion = finding.conversion.name();
    const std::string target = finding.target.name();
    lines[{conversion, target}] =
        fmt::format("{{\"{}\", \"{}\", {}, {}, {}}},", conversion, target, counted.instructions,
                    counted.loads, counted.elements);
  }
  std::ofstream file(kFile);
  file << "// Conversion, target, instructions, loads, elements. Written by\n"
          "// tests/toolchain/instruction_count_test.cpp with KTJIT_UPDATE_COUNTS=1: don't edit.\n"
          "// clang-format off\n";
  for (const Conversion& conversion : test::all_conversions()) {
    for (std::string_view target : codegen::counted_targets()) {
      const auto line = lines.find({conversion.name(), std::string(target)});
      if (line != lines.end()) file << line->second << "\n";
    }
  }
  file << "// clang-format on\n";
}

void compare(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    INFO(finding.conversion.name()
         << " on " << finding.target.name() << "; KTJIT_UPDATE_COUNTS=1 writes what is counted");
    CHECK(finding.error.empty());
    const codegen::InstructionCount* row =
        codegen::find_instruction_count(finding.conversion.name(), finding.target);
    CHECK(finding.counted.has_value() == (row != nullptr));
    if (!finding.counted || row == nullptr) continue;
    CHECK(finding.counted->instructions == row->instructions);
    CHECK(finding.counted->loads == row->loads);
    CHECK(finding.counted->elements == row->elements);
  }
}

void check_counts_of(std::string_view compiler_name, bool every_target) {
  Toolchain toolchain = test::make_toolchain();
  Compiler* compiler = test::find_compiler(toolchain, compiler_name);
  if (compiler == nullptr)
    return test::skip_test(fmt::format("no {}; scripts/setup installs it", compiler_name));
  if (test::lacks_disassembler(toolchain)) return;
  const std::vector<Target> targets = targets_counted_with(compiler_name);
  const bool updates = !test::test_setting("KTJIT_UPDATE_COUNTS").empty();
  const std::vector<Finding> findings =
      count_all(toolchain, *compiler, targets, every_target || updates);
  if (updates) {
    for (const Finding& finding : findings) {
      INFO(finding.conversion.name() << " on " << finding.target.name());
      REQUIRE(finding.error.empty());
    }
    update_file(findings, targets);
    return test::skip_test("counts were written, not compared");
  }
  compare(findings);
}

int per_4(const std::string& conversion, std::string_view target) {
  const auto* row = codegen::find_instruction_count(conversion, parse_target(target, {}));
  INFO(conversion << " on " << target);
  REQUIRE(row != nullptr);
  return row->instructions_per_4();
}

}  // namespace

TEST_CASE("instruction counts of sm_75 and up are those of the compiled code") {
  check_counts_of("NVRTC 13.0", false);
}

TEST_CASE("instruction counts of sm_60 to sm_70 are those of the compiled code") {
  check_counts_of("NVRTC 12.9", false);
}

TEST_CASE("all instruction counts are those of the compiled code", "[exhaustive]") {
  if (test::lacks_permission_for_exhaustive_tests()) return;
  check_counts_of("NVRTC 13.0", true);
  check_counts_of("NVRTC 12.9", true);
}

TEST_CASE("software conversions are as short as the best known") {
  using enum FormatId;
  // Bars: the best published or measured before, for four elements in sm_80 code.
  for (std::string_view target : {"sm_75", "sm_80"}) {
    CHECK(per_4(codegen::pair_conversion(kFp8E4M3, kF16, false), target) <= 14);
    CHECK(per_4(codegen::pair_conversion(kFp8E4M3, kF16, true), target) <= 10);
    CHECK(per_4(codegen::pair_conversion(kFp8E5M2, kF16, false), target) <= 2);
    CHECK(per_4(codegen::pair_conversion(kFp8E4B15, kF16, false), target) <= 8);
    CHECK(per_4(codegen::encode_conversion(kFp8E4M3, true), target) <= 51);
    CHECK(per_4(codegen::encode_conversion(kFp8E5M2, true), target) <= 51);
  }
  CHECK(per_4(codegen::pair_conversion(kFp8E4M3, kF16, false), "sm_89") <= 3);
}

TEST_CASE("every served product has a count on every counted target") {
  for (FormatId format : test::served_formats()) {
    for (std::string_view name : codegen::counted_targets()) {
      const Target target = parse_target(name, {});
      try {
        codegen::emit(test::make_spec(Op::kMatvec, get_format(format).name, 4096, target));
      } catch (const SpecError&) {
        continue;  // no product is served
      }
      INFO(get_format(format).name << " on " << name);
      CHECK(codegen::find_instruction_count(codegen::decode_conversion(format, false), target) !=
            nullptr);
    }
  }
}

}  // namespace ktjit
