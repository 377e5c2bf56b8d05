// ktjit tune: measures the knobs of a model's kernels on this device, and keeps the fastest.
#include <chrono>
#include <fmt/format.h>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/progress.h"
#include "cli/subject.h"
#include "cli/tune_report.h"
#include "cli/verbs.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

struct TuneArguments {
  std::vector<std::string> ops;
  std::int64_t n = 0;
  std::string x_format = "f32";
  std::string y_format = "f32";
  bool dependent_launch = false;
  double budget_s = 0;
  bool again = false;
};

TuneSelection to_selection(const TuneArguments& given) {
  TuneSelection selection;
  if (!given.ops.empty()) {
    selection.ops.clear();
    for (const std::string& name : given.ops) {
      const Op op = get_op(name);
      if (op != Op::kDequant && !is_product(op))
        throw UsageError(fmt::format("--op is {}", name), "give matvec, matmul or dequant");
      selection.ops.push_back(op);
    }
  }
  selection.x_format = get_format(given.x_format).id;
  selection.y_format = get_format(given.y_format).id;
  selection.dependent_launch = given.dependent_launch;
  if (given.n == 0) return selection;
  const bool has_matvec =
      std::find(selection.ops.begin(), selection.ops.end(), Op::kMatvec) != selection.ops.end();
  if (given.n < 1 || (has_matvec && given.n > 8)) {
    throw UsageError(fmt::format("--n is {}", given.n),
                     has_matvec ? "give 1 to 8, or more with --op matmul" : "give 1 or more");
  }
  if (has_matvec) selection.matvec_n = static_cast<int>(given.n);
  selection.matmul_n = given.n;
  return selection;
}

}  // namespace

int run_tune(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  TuneArguments given;
  ArgumentParser parser(
      {"tune MODEL [options]  |  tune --format F --shape RxC [options]",
       "Measures a few settings of each kernel's knobs (threads, rows a warp, ...) on this device, "
       "with\n"
       "random weights of the model's formats and sizes, checks each setting's results, and keeps "
       "the\n"
       "fastest in the cache. 'run', 'exec', 'emit', C and Python take it from there on devices of "
       "the\n"
       "same kind with a driver of the same major version; --no-tuning and KTJIT_TUNING=off switch "
       "that\n"
       "off. What was measured before is not measured again.\n",
       exit_code_help("all is measured, or the budget is spent",
                      "a kernel's result is wrong with its default knobs, nothing was measured",
                      "the model is missing, damaged or something else",
                      "no such device, or no compiler for the target") +
           "  130  interrupted; what was measured is kept\n",
       "ktjit tune model.gguf --op matvec --budget 60"});
  subject_options.add_model(parser);
  subject_options.add_description(parser);
  parser.add_options()("op", po::value(&given.ops)->composing()->value_name("OP"),
                       "matvec, matmul or dequant; may be given several times (default: all)")(
      "n", po::value(&given.n)->value_name("N"),
      "products: rows of activations of a launch (default: matvec 1, matmul 32)")(
      "x-format", po::value(&given.x_format)->value_name("F"),
      "products: f32, f16 or bf16 activations (default: f32)")(
      "y-format", po::value(&given.y_format)->value_name("F"),
      "f32, f16 or bf16 results (default: f32)")(
      "budget", po::value(&given.budget_s)->value_name("SECONDS"),
      "begin nothing new after this time; kernels that read most come first");
  parser.add_flag("dependent-launch", &given.dependent_launch,
                  "kernels of programmatic dependent launch, sm_90 and up");
  parser.add_flag("again", &given.again, "measure what has been measured before, too");
  common.add_device(parser);
  common.add_target(parser);
  common.add_layout(parser);
  common.add_jobs(parser);
  common.add_json(parser);
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;

  TuneSelection selection = to_selection(given);
  selection.matvec_layout = common.matvec_layout();
  if (given.budget_s < 0)
    throw UsageError(fmt::format("--budget is {}", given.budget_s), "give seconds, more than 0");
  const Subject subject(subject_options);
  Toolchain toolchain = common.make_toolchain();
  const Place place = choose_place(toolchain, common.device, common.target);
  const std::vector<TuneTask> tasks = plan_tuning(subject.model(), place.target, selection);
  if (!common.json) {
    print(fmt::format("device  {}: {}\n        {}\n", place.device->name(),
                      place.device->description(), place.reason));
    flush_output();
  }
  TuneReport report;
  {
    const Interrupt interrupt;
    Progress progress("kernels");
    TunerOptions options;
    options.again = given.again;
    options.compile_threads = common.compile_threads(toolchain.options());
    options.stop = interrupt.token();
    if (given.budget_s > 0) {
      options.deadline = std::chrono::steady_clock::now() +
                         std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                             std::chrono::duration<double>(given.budget_s));
    }
    report = tune(toolchain.engine(), *place.device, tasks, options, {},
                  [&](std::size_t done, std::size_t total, const std::string& kernel) {
                    progress.update(done, total, kernel);
                  });
  }
  if (common.json) {
    print_json(to_json(report));
  } else if (tasks.empty()) {
    print("nothing to measure: no tensor has a kernel of these ops\n");
  } else {
    print_tune_report(report);
  }
  if (report.interrupted) return kInterrupted;
  return report.ok() && !tasks.empty() ? kDone : kFailed;
}

}  // namespace ktjit::cli
