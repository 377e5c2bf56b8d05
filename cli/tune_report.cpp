#include "cli/tune_report.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "cli/output.h"
#include "cli/table.h"
#include "cli/units.h"

namespace ktjit::cli {
namespace {

Json to_json(const Tuning& tuning) {
  Json values = Json::object();
  for (const auto& [name, value] : knob_values(tuning)) values[name] = value;
  return values;
}

Json to_json(const KnobTiming& timing) {
  return {{"knobs", to_json(timing.tuning)},
          {"median_us", timing.median_us},
          {"spread", timing.spread},
          {"gbps", timing.gbps},
          {"problem", timing.problem}};
}

Json to_json(const TuneResult& result, const std::string& tensor) {
  Json document = {{"kernel", kernel_name(result.spec)},
                   {"op", op_name(result.spec.op)},
                   {"format", WeightFormat{result.spec.weight, result.spec.scale}.name()},
                   {"target", result.spec.target.name()},
                   {"tensor", tensor},
                   {"rows", result.size.rows},
                   {"cols", result.spec.layout.cols},
                   {"n", result.size.n},
                   {"outcome", outcome_name(result.outcome)},
                   {"problem", result.problem},
                   {"best", nullptr},
                   {"complete", false},
                   {"timings", Json::array()}};
  if (!result.tuned) return document;
  document["best"] = to_json(result.tuned->best);
  document["complete"] = result.tuned->complete;
  for (const KnobTiming& timing : result.tuned->timings)
    document["timings"].push_back(to_json(timing));
  return document;
}

std::string size_text(const TuningSize& size, std::int64_t cols) {
  return fmt::format("{}x{}{}", size.rows, cols,
                     size.n > 0 ? fmt::format(", n {}", size.n) : std::string());
}

std::string rate_text(double gbps) { return fmt::format("{:.{}f}", gbps, gbps < 100 ? 2 : 0); }

/// "+ 12.3 %".
std::string gain_text(const KnobTiming& best, const KnobTiming& standard) {
  if (best.tuning == standard.tuning) return "";
  return fmt::format("+ {:.1f} %", 100.0 * (standard.median_us / best.median_us - 1));
}

std::string outcome_text(const TuneResult& result) {
  std::string text(outcome_name(result.outcome));
  if (!result.tuned) return text;
  std::size_t timed = 0;
  for (const KnobTiming& timing : result.tuned->timings) timed += timing.is_timed() ? 1 : 0;
  text += fmt::format(", {} of {} right", timed, result.tuned->timings.size());
  return result.tuned->complete ? text : text + ", not all tried";
}

}  // namespace

Json tuned_to_json(const std::optional<TunedKnobs>& knobs) {
  if (!knobs) return nullptr;
  return {{"knobs", to_json(knobs->tuning)},
          {"gbps", knobs->gbps},
          {"default_gbps", knobs->default_gbps},
          {"rows", knobs->size.rows},
          {"n", knobs->size.n}};
}

Json to_json(const TuneReport& report) {
  Json identity = Json::object();
  for (const auto& [name, value] : report.identity) identity[name] = value;
  Json results = Json::array();
  for (std::size_t i = 0; i < report.results.size(); ++i)
    results.push_back(to_json(report.results[i], report.tensors[i]));
  return {{"device", report.device},   {"device_description", report.device_description},
          {"identity", identity},      {"results", results},
          {"kept", report.kept},       {"interrupted", report.interrupted},
          {"seconds", report.seconds}, {"ok", report.ok()}};
}

void print_tune_report(const TuneReport& report) {
  Table table({{"kernel"},
               {"size"},
               {"default GB/s", Align::kRight},
               {"best GB/s", Align::kRight},
               {"gain", Align::kRight},
               {"knobs"},
               {"outcome"}});
  std::size_t tuned = 0, recorded = 0;
  for (const TuneResult& result : report.results) {
    std::vector<std::string> row = {
        kernel_name(result.spec), size_text(result.size, result.spec.layout.cols), "", "", "", "",
        outcome_text(result)};
    if (result.tuned) {
      const KnobTiming& standard = result.tuned->timings.front();
      const KnobTiming& best = result.tuned->timing_of(result.tuned->best);
      row[2] = rate_text(standard.gbps);
      row[3] = rate_text(best.gbps);
      row[4] = gain_text(best, standard);
      row[5] = knobs_text(best.tuning);
      ++recorded;
      if (best.tuning != standard.tuning) ++tuned;
    }
    table.add_row(std::move(row));
  }
  if (!table.empty()) print(table.to_text() + "\n");
  for (const TuneResult& result : report.results) {
    if (!result.problem.empty())
      print(fmt::format("WRONG: {}: {}\n", kernel_name(result.spec), result.problem));
    if (!result.tuned) continue;
    for (const KnobTiming& timing : result.tuned->timings) {
      if (timing.problem.empty()) continue;
      print(fmt::format("{} with {}: {}\n", kernel_name(result.spec), knobs_text(timing.tuning),
                        timing.problem));
    }
  }
  print(fmt::format("{} measured, {} faster with other knobs than the default's, in {:.1f} s{}\n",
                    counted(recorded, "kernel"), tuned, report.seconds,
                    report.kept ? "" : "; not kept: there is no cache folder"));
  if (report.interrupted) print("interrupted: what was measured is kept\n");
}

std::string measurements_text(const TuningRecord& record) {
  std::string text;
  for (const TunedSize& tuned : record.sizes) {
    text += fmt::format("\nrows {}{}, kernels by {}{}\n", tuned.size.rows,
                        tuned.size.n > 0 ? fmt::format(", n {}", tuned.size.n) : std::string(),
                        tuned.compiler, tuned.complete ? "" : ", not all candidates tried");
    Table table({{""},
                 {"knobs"},
                 {"median us", Align::kRight},
                 {"spread %", Align::kRight},
                 {"GB/s", Align::kRight},
                 {"problem"}});
    for (const KnobTiming& timing : tuned.timings) {
      const bool is_timed = timing.is_timed();
      table.add_row({timing.tuning == tuned.best ? "best" : "", knobs_text(timing.tuning),
                     is_timed ? fmt::format("{:.2f}", timing.median_us) : "",
                     is_timed ? fmt::format("{:.1f}", 100 * timing.spread) : "",
                     is_timed ? rate_text(timing.gbps) : "", timing.problem});
    }
    text += table.to_text(2);
  }
  return text;
}

}  // namespace ktjit::cli
