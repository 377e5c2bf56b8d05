// docs/GATE.md says of cards that no one here has whether they can issue a kernel's instructions as fast as memory
// delivers its weights. This test makes its rows again from machine code. KTJIT_UPDATE_GATE=1 writes the page, unless a
// kernel that passed no longer does; KTJIT_UPDATE_GATE=worse writes it then too.
#include "tests/toolchain/issue_gate.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <sstream>

#include "core/error.h"
#include "tests/toolchain/sass_profile.h"
#include "tests/toolchain/toolchain_fixture.h"

namespace ktjit {
namespace {

const std::string kPage = KTJIT_SOURCE_DIR "/docs/GATE.md";

/// Counts depend on the compiler, so one is chosen: scripts/setup installs both.
std::string_view gate_compiler(const Target& target) {
  return target.sm < 75 ? "NVRTC 12.9" : "NVRTC 13.0";
}

struct Finding {
  KernelSpec spec;
  test::GateKernel kernel = {};
  std::string error = {};
};

std::vector<Target> gate_targets() {
  std::vector<Target> targets;
  for (std::string_view card : test::gate_cards()) {
    const Target target = native_target(get_gpu_card(card));
    if (targets.empty() || !(targets.back() == target)) targets.push_back(target);
  }
  return targets;
}

/// Every kernel on every target, or each on one of them in turn.
std::vector<Finding> inspect_all(Toolchain& toolchain, bool every_target) {
  std::vector<Finding> findings;
  const std::vector<Target> targets = gate_targets();
  for (std::size_t t = 0; t < targets.size(); ++t) {
    std::size_t turn = 0;
    for (const KernelSpec& spec : test::gate_specs(targets[t])) {
      if (every_target || turn % targets.size() == t) findings.push_back({spec});
      ++turn;
    }
  }
  test::for_each_in_parallel(findings.size(), [&](std::size_t i) {
    Finding& finding = findings[i];
    try {
      Compiler* compiler = test::find_compiler(toolchain, gate_compiler(finding.spec.target));
      finding.kernel = test::inspect_kernel(finding.spec, *compiler, toolchain.options());
    } catch (const std::exception& error) {
      finding.error = error.what();
    }
  });
  return findings;
}

using Key = std::pair<std::string, std::string>;  // card, kernel

/// The rows of the page, by card and kernel.
std::map<Key, std::string> read_page() {
  std::map<Key, std::string> rows;
  std::ifstream file(kPage);
  std::string card;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("## ")) card = line.substr(3, line.find(':') - 3);
    if (!line.starts_with("| ") || line.starts_with("| kernel")) continue;
    rows[{card, line.substr(2, line.find(" |", 2) - 2)}] = line;
  }
  return rows;
}

bool is_pass(const std::string& row) { return row.ends_with(" yes |"); }

/// Kernels of findings that passed by `before` and don't now.
std::string lost_passes(const std::vector<Finding>& findings,
                        const std::map<Key, std::string>& before) {
  std::string lost;
  for (const Finding& finding : findings) {
    for (std::string_view name : test::gate_cards()) {
      const GpuCard& card = get_gpu_card(name);
      if (!(native_target(card) == finding.spec.target)) continue;
      const auto row = before.find({std::string(name), finding.kernel.name});
      if (row != before.end() && is_pass(row->second) && !judge(finding.kernel, card).passes())
        lost += fmt::format("{} on {}\n", finding.kernel.name, name);
    }
  }
  return lost;
}

void write_page(const std::vector<Finding>& findings) {
  std::ofstream file(kPage);
  file << "# Static gate: can a card issue a kernel's instructions as fast as its memory delivers "
          "the weights?\n"
          "\n"
          "Computed, not measured: from the machine code of the kernels (NVRTC 13.0, for sm_61 "
          "12.9; nvdisasm) and the "
          "cards' data\n"
          "sheets (`jit/gpu_cards.h`), for cards that no one here can run on. Written by "
          "`tests/toolchain/issue_gate_test.cpp`:\n"
          "\n"
          "    KTJIT_UPDATE_GATE=1 build/dev/bin/toolchain_tests \"docs/GATE.md*\"\n"
          "\n"
          "A matvec has one column of f32 activations and 4096 columns of weights, native or "
          "\"prepared\"; dequant is to "
          "f32, its bytes\n"
          "those read and written. \"SASS a weight\": instructions of a lane in the main loop, for "
          "each of its weights; "
          "\"with ends\": with all that\n"
          "lies around the loop, once for a row or a tile of rows, rare branches too. \"issue\": "
          "the share of all issue "
          "slots (128 lanes a\n";
  file << fmt::format(
      "clock on each multiprocessor, at the boost clock) that the main loop takes while the memory "
      "delivers its bytes "
      "at {:.0f} % of the\n"
      "data sheet's rate. \"pipe\": the same for the busiest pipe (`cost_of` in "
      "tests/toolchain/sass_profile.cpp). On an "
      "H200 good kernels\n"
      "sustained 65 to 75 % of either, so a kernel passes up to {:.0f} %; else the page says what "
      "part of the bandwidth "
      "it can reach.\n"
      "A kernel that spills registers doesn't pass, and none has f16 arithmetic on sm_61.\n",
      100 * test::kWantedBandwidth, 100 * test::kSustained);
  for (std::string_view name : test::gate_cards()) {
    const GpuCard& card = get_gpu_card(name);
    int kernels = 0, passing = 0;
    std::string rows;
    for (const Finding& finding : findings) {
      if (!(native_target(card) == finding.spec.target)) continue;
      rows += gate_row(finding.kernel, card) + "\n";
      ++kernels;
      passing += judge(finding.kernel, card).passes();
    }
    file << fmt::format(
        "\n## {}: {}, {} GB/s, {} multiprocessors, {} MHz: {:.1f} bytes a clock each; {} of {} "
        "kernels pass\n\n"
        "| kernel | registers | warps | SASS a weight | with ends | issue, % | pipe, % | passes |\n"
        "|---|---|---|---|---|---|---|---|\n{}",
        name, native_target(card).name(), card.bandwidth_gbps, card.sms, card.boost_mhz,
        card.bandwidth_gbps * 1e3 / card.sms / card.boost_mhz, passing, kernels, rows);
  }
}

void compare(const std::vector<Finding>& findings, const std::map<Key, std::string>& page) {
  for (const Finding& finding : findings) {
    for (std::string_view name : test::gate_cards()) {
      const GpuCard& card = get_gpu_card(name);
      if (!(native_target(card) == finding.spec.target)) continue;
      INFO(finding.kernel.name << " on " << name << "; KTJIT_UPDATE_GATE=1 writes the page");
      const auto row = page.find({std::string(name), finding.kernel.name});
      REQUIRE(row != page.end());
      CHECK(gate_row(finding.kernel, card) == row->second);
    }
  }
}

void check_gate(bool every_target) {
  Toolchain toolchain = test::make_toolchain();
  for (std::string_view name : {"NVRTC 12.9", "NVRTC 13.0"}) {
    if (test::find_compiler(toolchain, name) == nullptr)
      return test::skip_test(fmt::format("no {}; scripts/setup installs it", name));
  }
  if (test::lacks_disassembler(toolchain)) return;
  const std::string update = test::test_setting("KTJIT_UPDATE_GATE");
  const std::vector<Finding> findings = inspect_all(toolchain, every_target || !update.empty());
  for (const Finding& finding : findings) {
    INFO(test::gate_name(finding.spec) << " for " << finding.spec.target.name());
    REQUIRE(finding.error == "");
    CHECK(finding.kernel.warps > 0);
    if (finding.spec.target.sm == 61) CHECK(!finding.kernel.has_f16_arithmetic);
  }
  const std::map<Key, std::string> page = read_page();
  if (update != "worse") {
    INFO("no longer pass; KTJIT_UPDATE_GATE=worse writes the page all the same");
    REQUIRE(lost_passes(findings, page) == "");
  }
  if (update.empty()) return compare(findings, page);
  write_page(findings);
  test::skip_test("docs/GATE.md was written, not compared");
}

}  // namespace

TEST_CASE("docs/GATE.md has what the compiled kernels issue") { check_gate(false); }

TEST_CASE("all of docs/GATE.md is what the compiled kernels issue", "[exhaustive]") {
  if (test::lacks_permission_for_exhaustive_tests()) return;
  check_gate(true);
}

TEST_CASE("the gate's verdict follows from bytes, clocks and rates") {
  const GpuCard card{"card", 86, 24, false, 900, 100, 1000, ""};
  test::GateKernel kernel;
  kernel.bytes_per_weight = 0.9;
  kernel.instructions = 64;
  kernel.clocks = {{"alu", 0.05}, {"fma", 0.02}};
  // 0.9 bytes at 0.9 * 900 GB/s: 1/9e11 s * 100 * 1e9 Hz = 0.111 clocks of a multiprocessor.
  test::GateVerdict verdict = judge(kernel, card);
  CHECK(verdict.issue == Approx(64.0 / 128 / (1.0 / 9)));
  CHECK(verdict.pipe == Approx(0.45));
  CHECK(verdict.pipe_name == "alu");
  CHECK(!verdict.passes());
  CHECK(verdict.bandwidth == Approx(0.9 * 0.7 / 4.5));
  kernel.instructions = 9;  // 63 %
  CHECK(judge(kernel, card).passes());
  kernel.spill_bytes = 8;
  CHECK(!judge(kernel, card).passes());
  CHECK(gate_row(kernel, card).ends_with(" spills 8 bytes |"));
  kernel.spill_bytes = 0;
  kernel.clocks = {{"memory", 0.08}};  // 72 %
  verdict = judge(kernel, card);
  CHECK(!verdict.passes());
  CHECK(verdict.pipe_name == "memory");
}

TEST_CASE("the main loop is the one that multiplies, or else loads most") {
  const auto lines = test::parse_sass(
      ".text.k:\n"
      ".L_x_0:\n"
      "        /*0000*/ LDG.E.128 R4, [R2.64] ;\n"
      "        /*0010*/ @P0 BRA `(.L_x_0) ;\n"
      ".L_x_1:\n"
      ".L_x_2:\n"
      "        /*0020*/ LDG.E.64 R4, [R2.64] ;\n"
      "        /*0030*/ IMMA.16832.S8.S8 R4, R4, R6, R8 ;\n"
      "        /*0040*/ @P1 BRA `(.L_x_2) ;\n"
      "        /*0050*/ @P2 BRA `(.L_x_1) ;\n"
      "        /*0060*/ EXIT ;\n"
      ".L_x_3:\n"
      "        /*0070*/ BRA `(.L_x_3) ;\n");
  const auto loops = test::all_loops(lines);
  REQUIRE(loops.size() == 3);
  CHECK(loops[2].holds(loops[1]));
  CHECK(test::find_main_loop(lines, loops) == &loops[1]);
  const test::SassProfile main = test::profile(lines, loops[1].begin, loops[1].end, 86);
  CHECK(main.instructions == 3);
  CHECK(main.loaded_bytes == 8);
  CHECK(main.clocks.at(test::SassPipe::kTensor) == Approx(1 / 8.0));
  CHECK(main.busiest() == test::SassPipe::kTensor);
  const std::vector<test::SassLoop> first = {loops[0]};
  CHECK(test::find_main_loop(lines, first) == &first[0]);
  CHECK(test::find_main_loop(lines, {}) == nullptr);
  CHECK(test::find_unrolled_loop(lines, loops) == &loops[1]);
  CHECK(test::find_unrolled_loop(lines, first) == nullptr);
}

TEST_CASE("instructions cost what their pipe serves") {
  using test::SassPipe;
  const auto lanes = [](const char* text, int sm) {
    return test::cost_of(text, sm).lanes_per_clock;
  };
  CHECK(lanes("FFMA R1, R2, R3, R4", 86) == 128);
  CHECK(lanes("FFMA R1, R2, R3, R4", 75) == 64);
  CHECK(lanes("LOP3.LUT R1, R2, R3, R4, 0xf8, !PT", 89) == 64);
  CHECK(lanes("LOP3.LUT R1, R2, R3, R4, 0xf8", 61) == 128);
  CHECK(lanes("SHF.R.U32 R1, R2, R3, R4", 61) == 64);
  CHECK(lanes("HFMA2 R1, R2, R3, R4", 61) == 2);
  CHECK(lanes("IMMA.8816.S8.S8 R1, R2, R3, R4", 75) == 32);
  CHECK(lanes("LDG.E.128 R1, [R2]", 80) == 32);
  CHECK(test::cost_of("BRA `(.L_x_1)", 80).pipe == SassPipe::kOther);
}

}  // namespace ktjit
