// ktjit run: the main job. Every kernel of a model on the real tensors, checked and timed.
#include <array>
#include <fmt/format.h>
#include <map>
#include <utility>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/progress.h"
#include "cli/rules_option.h"
#include "cli/subject.h"
#include "cli/table.h"
#include "cli/tune_report.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "core/prepared_layout.h"
#include "jit/model_runner.h"

namespace ktjit::cli {
namespace {

/// What the toolchain counted, and why the device was chosen: the report doesn't know.
struct Circumstances {
  std::string model;
  std::string device_reason;
  int workers_started = 0;
  int compiler_libraries_opened = 0;
};

Json to_json(const KernelRun& run) {
  return {{"tensor", run.tensor},
          {"op", op_name(run.op)},
          {"layout", layout_name(run.layout)},
          {"format", WeightFormat{run.format, run.scale}.name()},
          {"rows", run.rows},
          {"cols", run.cols},
          {"lowering", run.lowering},
          {"tuned", tuned_to_json(run.tuned)},
          {"cached", run.cached},
          {"compile_ms", run.compile_ms},
          {"time_us", run.time_us},
          {"gbps", run.gbps},
          {"fits_in_cache", run.fits_in_cache},
          {"rows_checked", run.rows_checked},
          {"max_abs_err", run.max_abs_err},
          {"max_rel_err", run.max_rel_err},
          {"ok", run.ok},
          {"problem", run.problem}};
}

Json to_json(const RunReport& report, const Circumstances& circumstances) {
  Json kernels = Json::array();
  for (const KernelRun& run : report.kernels) kernels.push_back(to_json(run));
  Json skipped = Json::array();
  for (const SkippedTensor& tensor : report.skipped) {
    skipped.push_back(
        {{"tensor", tensor.tensor}, {"format", tensor.format}, {"reason", tensor.reason}});
  }
  return {{"model", circumstances.model},
          {"device", report.device},
          {"device_description", report.device_description},
          {"device_reason", circumstances.device_reason},
          {"target", report.target},
          {"route", report.route},
          {"read_gbps", report.read_gbps},
          {"kernels", kernels},
          {"skipped", skipped},
          {"compiled", report.compiled},
          {"cache_hits", report.cache_hits},
          {"ready_ms", report.ready_ms},
          {"workers_started", circumstances.workers_started},
          {"compiler_libraries_opened", circumstances.compiler_libraries_opened},
          {"interrupted", report.interrupted},
          {"ok", report.ok}};
}

/// Share of what a plain read of memory reaches; nothing where the data never left the caches.
std::string percent_of_read(const KernelRun& run, double read_gbps) {
  if (run.fits_in_cache || read_gbps <= 0) return "";
  return fmt::format("{:.0f}", 100.0 * run.gbps / read_gbps);
}

/// "matvec", "matvec, prepared".
std::string op_cell(const KernelRun& run) {
  const bool is_prepared =
      run.op != Op::kRestore && run.op != Op::kPrepare && run.layout != LayoutKind::kNative;
  return fmt::format("{}{}", op_name(run.op), is_prepared ? ", prepared" : "");
}

void print_kernels(const RunReport& report) {
  Table table({{"tensor"},
               {"op"},
               {"format"},
               {"shape"},
               {"lowering"},
               {"compile ms", Align::kRight},
               {"GB/s", Align::kRight},
               {"% of read", Align::kRight},
               {"max abs err", Align::kRight},
               {"max rel err", Align::kRight},
               {"check"}});
  for (const KernelRun& run : report.kernels) {
    table.add_row({run.tensor, op_cell(run),
                   std::string(WeightFormat{run.format, run.scale}.name()),
                   fmt::format("{}x{}", run.rows, run.cols), run.lowering,
                   run.cached ? "cached" : fmt::format("{:.1f}", run.compile_ms),
                   fmt::format("{:.2f}", run.gbps), percent_of_read(run, report.read_gbps),
                   fmt::format("{:.2g}", run.max_abs_err), fmt::format("{:.2g}", run.max_rel_err),
                   run.ok ? "ok" : "WRONG"});
  }
  if (!table.empty()) print("\n" + table.to_text());
  for (const KernelRun& run : report.kernels) {
    if (run.problem.empty()) continue;
    print(fmt::format("WRONG: {} of {}: {}\n", op_name(run.op), run.tensor, run.problem));
  }
}

/// Kernels that don't have the default knobs, and what that gained.
void print_tuned(const RunReport& report) {
  for (const KernelRun& run : report.kernels) {
    if (!run.tuned || run.tuned->tuning == Tuning{}) continue;
    print(fmt::format("{} of {}: {}\n", op_name(run.op), run.tensor, tuned_text(*run.tuned)));
  }
}

/// By format, since a model may have hundreds of tensors of a format that is not served.
void print_skipped(const RunReport& report) {
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> names;
  for (const SkippedTensor& tensor : report.skipped) {
    names[{tensor.format, tensor.reason}].push_back(tensor.tensor);
  }
  for (const auto& [format_and_reason, tensors] : names) {
    print(fmt::format("\nskipped {} of format {}, {}:\n  {}\n", counted(tensors.size(), "tensor"),
                      format_and_reason.first, format_and_reason.second,
                      fmt::join(tensors, "\n  ")));
  }
}

void print_totals(const RunReport& report, const Circumstances& circumstances) {
  std::size_t right = 0;
  for (const KernelRun& run : report.kernels) right += run.ok ? 1 : 0;
  print(fmt::format(
      "\n{} compiled, {} from the cache, ready in {:.1f} ms; {} started, {} opened\n",
      report.compiled, report.cache_hits, report.ready_ms,
      counted(static_cast<std::uint64_t>(circumstances.workers_started), "compiler worker"),
      circumstances.compiler_libraries_opened == 1
          ? "1 compiler library"
          : fmt::format("{} compiler libraries", circumstances.compiler_libraries_opened)));
  if (report.read_gbps > 0) {
    print(fmt::format("a plain read of memory reaches {:.1f} GB/s here\n", report.read_gbps));
  }
  if (report.interrupted) {
    print("interrupted\n");
  } else if (report.kernels.empty()) {
    print("nothing was checked: no tensor has a kernel\n");
  } else {
    print(fmt::format("{} of {} correct\n", right, counted(report.kernels.size(), "result")));
  }
}

void print_subject(const Subject& subject) {
  const model::Model& model = subject.model();
  print(fmt::format("model   {}: {}, {}, {}\n", subject.title(), model.container(),
                    counted(model.tensors().size(), "tensor"), human_bytes(model.file_bytes())));
}

void print_place(const Place& place, const std::string& route) {
  print(fmt::format("device  {}: {}\n", place.device->name(), place.device->description()));
  print(fmt::format("        {}\n", place.reason));
  print(fmt::format("target  {}: {}\n", place.target.name(), route));
  flush_output();  // what follows may take long
}

/// Runs a part's kernels, with progress on the way.
RunReport run_part(Toolchain& toolchain, const PlacedPart& part, RunOptions options, bool json) {
  const Interrupt interrupt;
  BuildProgress last_kernel;
  Progress kernel_progress("kernels",
                           json ? Progress::Elsewhere::kNothing : Progress::Elsewhere::kPlainLines);
  Progress tensor_progress("tensors");
  options.on_kernel = [&](const BuildProgress& build) {
    last_kernel = build;
    kernel_progress.update(build);
  };
  options.on_tensor = [&](std::size_t done, std::size_t total, const std::string& tensor) {
    kernel_progress.erase();
    tensor_progress.update(done, total, tensor);
  };
  options.stop = interrupt.token();
  RunReport report =
      run_tensors(toolchain.engine(), *part.place.device, part.place.target, part.tensors, options);
  if (report.interrupted) {
    kernel_progress.erase();
    print_to_stderr(interrupted_line(last_kernel, toolchain.options()));
  }
  return report;
}

}  // namespace

int run_run(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  bool all = false;
  RulesOption rules;
  ArgumentParser parser(
      {"run MODEL [options]",
       "Picks a device, compiles the kernels that the model needs or takes them from the cache, "
       "runs\n"
       "each on the model's own weights, and compares the results with a plain reference: dequant\n"
       "bit for bit, matvec and matmul (32 rows of activations) within the bound of their f32 "
       "sums.\n"
       "With --layout prepared matvec reads weights that were rearranged on the device, which are\n"
       "restored and compared too. With --rules, tensors run in the format, with the activations "
       "and\n"
       "on the device that the rules say; what they convert is converted when it is loaded.\n"
       "One tensor of each group of equal kernels, or all of them with --all. GB/s of data that "
       "fits in the caches says nothing "
       "about\n"
       "memory, so its share of the read bandwidth is left blank.\n",
       exit_code_help("all results are correct; tensors of formats without kernels are listed",
                      "a result is wrong, the simulator stopped a kernel, nothing was checked",
                      "the model is missing, damaged or something else",
                      "no such device, or no compiler for the target") +
           "  130  interrupted\n",
       "ktjit run sample.gguf --device cpu"});
  subject_options.add_model(parser);
  common.add_device(parser);
  common.add_target(parser);
  parser.add_flag("all", &all, "run every tensor, not one of each group");
  common.add_layout(parser);
  rules.add(parser);
  common.add_jobs(parser);
  common.add_json(parser);
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;

  const LayoutKind matvec_layout = common.matvec_layout();
  const Subject subject(subject_options);
  Toolchain toolchain = common.make_toolchain();
  Place place = choose_place(toolchain, common.device, common.target);
  std::vector<PlacedPart> parts;
  if (rules.is_given()) {
    rules.apply(subject.model());
    parts = rules.open(toolchain, std::move(place), matvec_layout);
  } else {
    parts.push_back({std::move(place), plan_all(subject.model(), matvec_layout)});
  }
  std::vector<Plan> plans;
  for (const PlacedPart& part : parts) plans.push_back(make_plan(part.tensors, part.place.target));
  common.check_layout(plans);

  RunOptions options;
  options.all_tensors = all;
  options.compile_threads = common.compile_threads(toolchain.options());
  if (rules.is_given()) {
    options.load = [&](const model::TensorInfo& tensor) { return rules.ruled().load(tensor); };
  }
  if (!common.json) print_subject(subject);
  if (!common.json && rules.is_given()) print(rules.to_text());
  Json documents = Json::array();
  bool all_right = true;
  bool interrupted = false;
  for (const PlacedPart& part : parts) {
    const Place& there = part.place;
    if (!common.json)
      print_place(there, toolchain.engine().describe_route(*there.device, there.target));
    const RunReport report = run_part(toolchain, part, options, common.json);
    const Circumstances circumstances{subject.title(), there.reason, toolchain.workers_started(),
                                      toolchain.compiler_libraries_opened()};
    if (common.json) {
      documents.push_back(to_json(report, circumstances));
    } else {
      print_kernels(report);
      print_tuned(report);
      print_skipped(report);
      print_totals(report, circumstances);
    }
    all_right = all_right && report.ok;
    interrupted = report.interrupted;
    if (interrupted) break;
  }
  if (common.json) {
    Json document = std::move(documents.front());
    documents.erase(documents.begin());
    if (rules.is_given()) {
      document["rules"] = rules.to_json();
      document["other_devices"] = std::move(documents);
    }
    print_json(document);
  }
  if (interrupted) return kInterrupted;
  return all_right ? kDone : kFailed;
}

}  // namespace ktjit::cli
