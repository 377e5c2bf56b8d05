#include "cli/format_table.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <functional>

#include "cli/format_proofs.h"
#include "codegen/emitter.h"
#include "codegen/instruction_counts.h"
#include "core/error.h"
#include "core/kernel_spec.h"

namespace ktjit::cli {
namespace {

constexpr std::int64_t kCols = 4096;

using FindLowering = std::function<codegen::Lowering(const Target&)>;

std::string range_text(double least, double most) {
  if (most == 0) return "";
  const auto text = [](double value) { return fmt::format("{:.2g}", value); };
  const auto whole = [](double value) { return value == static_cast<int>(value); };
  const auto shown = [&](double value) {
    return whole(value) ? fmt::format("{}", static_cast<int>(value)) : text(value);
  };
  return least == most ? shown(least) : fmt::format("{} to {}", shown(least), shown(most));
}

/// Every target by name; a CPU's level changes no lowering.
std::vector<Target> page_targets() {
  std::vector<Target> targets;
  for (const CudaFacts& facts : all_cuda_facts()) {
    targets.push_back(make_cuda_target(facts.sm));
    for (const char suffix : facts.suffixes)
      targets.push_back(make_cuda_target(facts.sm, std::string_view(&suffix, 1)));
  }
  targets.push_back(make_cpu_target("native", {}));
  return targets;
}

/// "sm_75 to sm_88, sm_90": three and more that follow each other among all targets become a range.
std::string targets_text(const std::vector<Target>& targets) {
  const std::vector<Target> all = page_targets();
  const auto place_of = [&](const Target& target) {
    return std::find(all.begin(), all.end(), target) - all.begin();
  };
  std::vector<std::string> parts;
  for (std::size_t begin = 0, end; begin < targets.size(); begin = end) {
    end = begin + 1;
    while (end < targets.size() && targets[end].is_cuda() &&
           place_of(targets[end]) == place_of(targets[end - 1]) + 1)
      ++end;
    if (end - begin >= 3) {
      parts.push_back(fmt::format("{} to {}", targets[begin].name(), targets[end - 1].name()));
    } else {
      for (std::size_t i = begin; i < end; ++i) parts.push_back(targets[i].name());
    }
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

/// One row for each lowering, in the order in which targets come.
std::vector<FormatRow> rows_of(std::span<const Target> targets, const FindLowering& find) {
  struct Group {
    std::string summary;
    std::vector<Target> targets;
    double least_cost, most_cost, least_loads, most_loads;
  };
  std::vector<Group> groups;
  for (const Target& target : targets) {
    const codegen::Lowering lowering = find(target);
    const double cost = lowering.instructions_per_4, loads = lowering.loads_per_4;
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return group.summary == lowering.summary && (group.most_cost > 0) == (cost > 0);
    });
    if (same == groups.end()) {
      groups.push_back({lowering.summary, {target}, cost, cost, loads, loads});
      continue;
    }
    same->targets.push_back(target);
    same->least_cost = std::min(same->least_cost, cost);
    same->most_cost = std::max(same->most_cost, cost);
    same->least_loads = std::min(same->least_loads, loads);
    same->most_loads = std::max(same->most_loads, loads);
  }
  std::vector<FormatRow> rows;
  for (const Group& group : groups) {
    rows.push_back({targets_text(group.targets), group.summary,
                    range_text(group.least_cost, group.most_cost),
                    range_text(group.least_loads, group.most_loads)});
  }
  return rows;
}

/// The quantize kernel, or nothing if none makes the format.
std::optional<codegen::EmittedKernel> emit_quantize(FormatId format, bool saturate,
                                                    const Target& target) {
  KernelSpec spec = make_spec(Op::kQuantize, format, fixed_scale_grid(format), kCols, target);
  spec.saturate = saturate;
  try {
    return codegen::emit(spec);
  } catch (const SpecError&) {
    return std::nullopt;
  }
}

std::string proof_keys(const Format& format, bool of_quantize) {
  std::vector<std::string_view> keys;
  for (const Proof& proof : all_proofs()) {
    if (proof.is_of_quantize == of_quantize && proof.covers(format)) keys.push_back(proof.key);
  }
  return fmt::format("{}", fmt::join(keys, ", "));
}

std::string rows_text(std::string_view name, const std::vector<FormatRow>& rows,
                      std::string_view proofs) {
  std::string text;
  for (const FormatRow& row : rows) {
    text += fmt::format("| {} | {} | {} | {} | {} | {} |\n", name, row.targets, row.lowering,
                        row.instructions, row.loads, proofs);
  }
  return text;
}

constexpr std::string_view kHeadings =
    "| format | targets | lowering | instructions per 4 | loads per 4 | proof |\n"
    "|---|---|---|---|---|---|\n";

std::string decode_section(std::span<const Target> targets) {
  std::string text = fmt::format(
      "## Decoding: dequant, matvec, matmul\n\n"
      "Instructions and loads are those of a matvec's main loop for four weights, with their share "
      "of "
      "scales\nand addresses, without the multiply-adds. \"finite\": a scan has found no NaN "
      "codes.\n\n{}",
      kHeadings);
  for (FormatId format : decoded_formats()) {
    const Format& facts = get_format(format);
    const std::string proofs = proof_keys(facts, false);
    text += rows_text(facts.name, decode_rows(format, false, targets), proofs);
    std::vector<Target> scanned;
    for (const Target& target : targets) {
      if (codegen::get_lowering(format, target, true).summary !=
          codegen::get_lowering(format, target, false).summary)
        scanned.push_back(target);
    }
    text += rows_text(fmt::format("{}, finite", facts.name), decode_rows(format, true, scanned),
                      proofs);
  }
  return text;
}

std::string encode_section(std::span<const Target> targets) {
  std::string text = fmt::format(
      "\n## Encoding: quantize\n\n"
      "Instructions are those that turn four f32 into codes.\n\n{}",
      kHeadings);
  for (FormatId format : encoded_formats()) {
    const Format& facts = get_format(format);
    for (bool saturate : {true, false}) {
      if (!emit_quantize(format, saturate, targets.front())) continue;  // it always saturates
      const std::vector<FormatRow> rows = encode_rows(format, saturate, targets);
      text += rows_text(fmt::format("{}{}", facts.name, saturate ? "" : ", not saturating"), rows,
                        proof_keys(facts, true));
    }
  }
  return text;
}

std::string pairs_section() {
  std::string text =
      "\n## FP8 for tensor cores\n\n"
      "Instructions that turn four codes in a register into two registers of pairs.\n\n"
      "| conversion | target | instructions per 4 |\n|---|---|---|\n";
  for (const codegen::InstructionCount& count : codegen::all_instruction_counts()) {
    const bool is_pair = count.conversion.find("x2") != std::string_view::npos;
    if (is_pair)
      text += fmt::format("| {} | {} | {} |\n", count.conversion, count.target,
                          count.instructions_per_4());
  }
  return text;
}

std::string proofs_section() {
  std::string text =
      "\n## Proofs\n\n"
      "Test cases by name. Those on GPUs need one: they run natively and as older targets' "
      "code.\n\n"
      "| proof | what | where | test case |\n|---|---|---|---|\n";
  for (const Proof& proof : all_proofs()) {
    for (const ProofTest& test : proof.tests)
      text += fmt::format("| {} | {} | {} | {} |\n", proof.key, proof.what, test.place, test.name);
  }
  return text;
}

}  // namespace

std::vector<FormatId> decoded_formats() {
  std::vector<FormatId> formats;
  for (const Format& format : all_formats()) {
    if (codegen::is_served(format.id)) formats.push_back(format.id);
  }
  return formats;
}

std::vector<FormatId> encoded_formats() {
  std::vector<FormatId> formats;
  for (const Format& format : all_formats()) {
    if (emit_quantize(format.id, true, make_cuda_target(80))) formats.push_back(format.id);
  }
  return formats;
}

std::vector<FormatRow> decode_rows(FormatId format, bool weights_finite,
                                   std::span<const Target> targets) {
  return rows_of(targets, [&](const Target& target) {
    return codegen::get_lowering(format, target, weights_finite);
  });
}

std::vector<FormatRow> encode_rows(FormatId format, bool saturate,
                                   std::span<const Target> targets) {
  return rows_of(targets, [&](const Target& target) {
    const auto kernel = emit_quantize(format, saturate, target);
    KTJIT_CHECK(kernel.has_value());
    return kernel->lowering;
  });
}

std::string formats_page() {
  const std::vector<Target> targets = page_targets();
  return "# Number formats: how each target converts them, at what cost, proved by what\n\n"
         "Printed by `ktjit doctor --table`; a test compares it with this file, "
         "`KTJIT_UPDATE_TABLE=1` rewrites it.\n"
         "[LOWERING.md](LOWERING.md) explains the routines and how instructions are counted "
         "(SASS; CPUs are not counted).\n\n" +
         decode_section(targets) + encode_section(targets) + pairs_section() + proofs_section();
}

}  // namespace ktjit::cli
