// ktjit bench: the steady-state speed of kernels beside what the memory gives, results checked.
#include <algorithm>
#include <array>
#include <chrono>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "cli/argument_parser.h"
#include "cli/bench_request.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "core/prepared_layout.h"
#include "jit/bench_runner.h"
#include "jit/tuning_bench.h"
#include "model/output_file.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

constexpr int kDocumentVersion =
    1;  // of the JSON document; raised when a field changes its meaning

std::string utc_now() {
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", now);
}

/// The version of NVIDIA's kernel module, in its own words, where one is loaded.
std::optional<std::string> driver_module_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

Json to_json(const BenchCheck& check) {
  return {{"rows_checked", check.rows_checked},
          {"max_abs_err", check.max_abs_err},
          {"max_rel_err", check.max_rel_err},
          {"ok", check.ok()},
          {"problem", check.problem}};
}

/// The knobs that were set; {} means the emitter's choices.
Json to_json(const Tuning& tuning) {
  Json object = Json::object();
  for (const TuningKnob& knob : tuning_knobs()) {
    if (tuning.*knob.value != 0) object[std::string(knob.name)] = tuning.*knob.value;
  }
  return object;
}

/// What was measured, whether or not it could be.
Json to_json(const BenchWork& work) {
  const KernelSpec& spec = work.spec;
  Json json = {{"op", op_name(spec.op)},
               {"format", WeightFormat{spec.weight, spec.scale}.name()},
               {"scale", spec.scale ? Json(scale_grid_name(spec.scale)) : Json(nullptr)},
               {"rows", work.rows},
               {"cols", spec.layout.cols},
               {"target", spec.target.name()},
               {"layout", layout_name(spec.layout.kind)}};
  if (is_product(spec.op)) {
    json["n"] = work.n;
    json["activation"] = activation_name(spec.activation);
  }
  if (!work.more_rows.empty()) json["more_rows"] = work.more_rows;
  if (spec.gate != Gate::kNone) json["gate"] = gate_name(spec.gate);
  if (spec.residual) json["residual"] = get_format(*spec.residual).name;
  if (has_experts(spec.op)) {
    json["experts"] = work.experts;
    json["slots_per_x"] = work.slots_per_x;
  }
  if (spec.op != Op::kDequant) json["x_format"] = get_format(spec.x_format).name;
  if (spec.op != Op::kQuantize) json["y_format"] = get_format(spec.y_format).name;
  json["weights_finite"] = spec.weights_finite;
  json["dependent_launch"] = spec.dependent_launch;
  json["tuning"] = to_json(spec.tuning);
  return json;
}

/// What is said alike of one work's launches and of a sequence of works: bytes, times, speed.
template <typename Result>
Json speed_to_json(const Result& result, double read_gbps) {
  const BenchTimes& times = result.times;
  return {{"streamed_bytes", result.streamed_bytes},
          {"fits_in_cache", result.fits_in_cache},
          {"in_graph", times.in_graph},
          {"launches_per_sample", times.launches_per_sample},
          {"median_us", times.median_us()},
          {"min_us", times.min_us()},
          {"max_us", times.max_us()},
          {"samples_us", times.samples_us},
          {"gbps", result.gbps},
          {"percent_of_read", read_gbps > 0 && !result.fits_in_cache
                                  ? Json(100.0 * result.gbps / read_gbps)
                                  : Json(nullptr)}};
}

Json to_json(const BenchResult& result, double read_gbps) {
  Json json = to_json(result.work);
  json["ok"] = result.ok();
  if (!result.not_run.empty()) {
    json["not_run"] = result.not_run;
    return json;
  }
  json.update({{"kernel", result.kernel},
               {"lowering", result.lowering},
               {"registers", json_or_null(result.resources.registers)},
               {"cached", result.cached},
               {"compile_ms", result.compile_ms},
               {"copies", result.copies},
               {"data_bytes", result.data_bytes}});
  json.update(speed_to_json(result, read_gbps));
  json.update({{"tflops", json_or_null(result.tflops)},
               {"first", to_json(result.first)},
               {"last", to_json(result.last)}});
  return json;
}

Json to_json(const BenchSequence& sequence, double read_gbps) {
  if (!sequence.not_run.empty()) return {{"ok", false}, {"not_run", sequence.not_run}};
  Json json = {{"ok", sequence.ok()}, {"rounds", sequence.rounds}};
  json.update(speed_to_json(sequence, read_gbps));
  Json last = Json::array();
  for (const BenchCheck& check : sequence.last) last.push_back(to_json(check));
  json["last"] = last;
  return json;
}

Json to_json(const BenchReport& report, const BenchRequest& request, const Place& place) {
  Json results = Json::array();
  for (const BenchResult& result : report.results)
    results.push_back(to_json(result, report.read_gbps));
  Json skipped = Json::array();
  for (const BenchSkipped& one : request.skipped)
    skipped.push_back({{"name", one.name}, {"reason", one.reason}});
  const runtime::Device& device = *place.device;
  Json in_turn;
  if (report.in_turn) in_turn = to_json(*report.in_turn, report.read_gbps);
  return {{"version", kDocumentVersion},
          {"ktjit", KTJIT_VERSION},
          {"date", utc_now()},
          {"subject", request.title},
          {"device", device.name()},
          {"device_description", device.description()},
          {"device_reason", place.reason},
          {"native_target", device.native_target().name()},
          {"driver", json_or_null(driver_module_version())},
          {"memory_bytes", device.total_memory_bytes()},
          {"cache_bytes", device.last_level_cache_bytes()},
          {"read_gbps", report.read_gbps},
          {"samples", request.settings.samples},
          {"results", results},
          {"in_turn", in_turn},
          {"skipped", skipped},
          {"interrupted", report.interrupted},
          {"ok", report.ok()}};
}

double largest_error(const BenchResult& result) {
  return std::max(result.first.max_rel_err, result.last.max_rel_err);
}

/// max - min of the samples, in percent of the median.
double spread_percent(const BenchTimes& times) {
  return 100.0 * (times.max_us() - times.min_us()) / times.median_us();
}

/// "4096x14336", "4096+1024x4096", "2x 14336x4096" with a gate, "128 of 768x2048" for experts.
std::string shape_text(const BenchWork& work) {
  std::string text = fmt::format("{}x{}", fmt::join(work.all_rows(), "+"), work.spec.layout.cols);
  if (work.spec.gate != Gate::kNone) text = "2x " + text;
  if (has_experts(work.spec.op)) text = fmt::format("{} of {}", work.experts, text);
  return text;
}

std::vector<std::string> cells_of(const BenchResult& result, double read_gbps) {
  const KernelSpec& spec = result.work.spec;
  std::vector<std::string> cells = {std::string(op_name(spec.op)),
                                    std::string(WeightFormat{spec.weight, spec.scale}.name()),
                                    shape_text(result.work),
                                    is_product(spec.op) ? fmt::format("{}", result.work.n) : "",
                                    spec.target.name(),
                                    spec.layout.kind == LayoutKind::kNative ? "" : "prepared"};
  if (!result.not_run.empty()) {
    cells.resize(12);
    cells.back() = "not run";
    return cells;
  }
  const bool has_share = read_gbps > 0 && !result.fits_in_cache;
  cells.insert(
      cells.end(),
      {fmt::format("{:.2f}", result.times.median_us()),
       fmt::format("{:.1f}", spread_percent(result.times)), fmt::format("{:.1f}", result.gbps),
       has_share ? fmt::format("{:.1f}", 100.0 * result.gbps / read_gbps) : "",
       result.tflops ? fmt::format("{:.2f}", *result.tflops) : "",
       result.ok() ? fmt::format("{:.1e}", largest_error(result)) : "WRONG"});
  return cells;
}

void print_results(const BenchReport& report) {
  Table table({{"op"},
               {"format"},
               {"shape"},
               {"n", Align::kRight},
               {"target"},
               {"layout"},
               {"us", Align::kRight},
               {"spread %", Align::kRight},
               {"GB/s", Align::kRight},
               {"% of read", Align::kRight},
               {"TFLOP/s", Align::kRight},
               {"error", Align::kRight}});
  for (const BenchResult& result : report.results)
    table.add_row(cells_of(result, report.read_gbps));
  if (!table.empty()) print("\n" + table.to_text());
  for (const BenchResult& result : report.results) {
    const std::string what =
        fmt::format("{} {}", kernel_name(result.work.spec), shape_text(result.work));
    if (!result.not_run.empty()) print(fmt::format("not run: {}: {}\n", what, result.not_run));
    for (const auto& [when, check] :
         {std::pair{"first", &result.first}, std::pair{"last", &result.last}}) {
      if (!check->problem.empty())
        print(fmt::format("WRONG: {}, {} launch: {}\n", what, when, check->problem));
    }
  }
}

/// The works as one sequence, below the table.
void print_sequence(const BenchSequence& sequence, double read_gbps) {
  if (!sequence.not_run.empty()) {
    print(fmt::format("not run: the works in turn: {}\n", sequence.not_run));
    return;
  }
  const std::string share = read_gbps > 0 && !sequence.fits_in_cache
                                ? fmt::format(", {:.1f} % of read", 100 * sequence.gbps / read_gbps)
                                : "";
  print(fmt::format("in turn: {:.2f} us for a launch of each, {:.1f} GB/s{} (spread {:.1f} %)\n",
                    sequence.times.median_us(), sequence.gbps, share,
                    spread_percent(sequence.times)));
  for (const BenchCheck& check : sequence.last) {
    if (!check.problem.empty()) print(fmt::format("WRONG: in turn: {}\n", check.problem));
  }
}

void print_totals(const BenchReport& report) {
  if (report.in_turn) print_sequence(*report.in_turn, report.read_gbps);
  if (report.read_gbps > 0)
    print(fmt::format("\na plain read of memory reaches {:.1f} GB/s here\n", report.read_gbps));
  if (report.interrupted) {
    print("interrupted\n");
    return;
  }
  const auto right = std::count_if(report.results.begin(), report.results.end(),
                                   [](const BenchResult& result) { return result.ok(); });
  print(fmt::format("{} of {} correct\n", right, counted(report.results.size(), "result")));
}

/// By reason, since a model may have hundreds of tensors of a format that isn't served.
void print_skipped(const BenchRequest& request) {
  std::map<std::string, std::vector<std::string>> names;
  for (const BenchSkipped& one : request.skipped) names[one.reason].push_back(one.name);
  for (const auto& [reason, of] : names)
    print(fmt::format("left out: {} ({})\n", reason, fmt::join(of, ", ")));
}

void print_heading(const BenchRequest& request, const Place& place) {
  print(fmt::format("bench   {}: {}\n", request.title, counted(request.works.size(), "work")));
  print(fmt::format("device  {}: {}\n", place.device->name(), place.device->description()));
  print(fmt::format("        {}\n", place.reason));
  if (place.device->name() == "sim")
    print("        times of the simulator say nothing about a GPU\n");
  print_skipped(request);
  flush_output();  // what follows may take long
}

void write_json(const std::string& path, const Json& document) {
  const std::string text = document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  model::OutputFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

BenchReport measure(Toolchain& toolchain, const Place& place, const BenchRequest& request,
                    int compile_threads, bool quiet) {
  const Interrupt interrupt;
  BuildProgress last_kernel;
  Progress kernel_progress(
      "kernels", quiet ? Progress::Elsewhere::kNothing : Progress::Elsewhere::kPlainLines);
  Progress work_progress("works");
  BenchSettings settings = request.settings;
  settings.stop = interrupt.token();
  BenchCallbacks callbacks;
  callbacks.compile_threads = compile_threads;
  callbacks.on_kernel = [&](const BuildProgress& build) {
    last_kernel = build;
    kernel_progress.update(build);
  };
  callbacks.on_result = [&](std::size_t done, std::size_t total, const BenchResult& result) {
    kernel_progress.erase();
    work_progress.update(done, total, kernel_name(result.work.spec));
  };
  BenchReport report =
      ktjit::run_bench(toolchain.engine(), *place.device, request.works, settings, callbacks);
  if (report.interrupted) {
    kernel_progress.erase();
    print_to_stderr(interrupted_line(last_kernel, toolchain.options()));
  }
  return report;
}

/// Gives each work the fastest of the knobs that tune_kernel tries, by the work's own operands.
void tune_works(Toolchain& toolchain, const Place& place, BenchRequest& request,
                int compile_threads) {
  const Interrupt interrupt;
  TunerOptions options;
  options.compile_threads = compile_threads;
  options.stop = interrupt.token();
  for (BenchWork& work : request.works) {
    const bool is_product = ktjit::is_product(work.spec.op);
    if (!is_product && work.spec.op != Op::kDequant) continue;
    const MakeBench make_bench = [&](const KernelSpec& spec, const TuningSize&) {
      BenchWork own = work;
      own.spec = spec;
      return make_work_bench(toolchain.engine(), *place.device, own);
    };
    const TuningSize size{.rows = work.rows, .n = is_product ? work.n : 0};
    const TuneResult result =
        tune_kernel(toolchain.engine(), *place.device, work.spec, size, make_bench, options);
    if (result.tuned) work.spec.tuning = result.tuned->best;
  }
}

}  // namespace

int run_bench(const Arguments& arguments) {
  BenchOptions options;
  CommonOptions common;
  std::string json_path;
  ArgumentParser parser(
      {"bench [MODEL] [options]",
       "Measures the steady speed of kernels on random valid weights, of the formats and shapes "
       "given or\n"
       "of the matrices of a model. So many copies of the operands are walked over that no cache "
       "holds\n"
       "them; on a GPU the passes are replayed as one CUDA graph. Times are medians. GB/s counts "
       "the\n"
       "bytes of a launch as files have them: matvec and matmul those of w with its scales, "
       "dequant those\n"
       "read and written, quantize likewise. '% of read' is beside a plain read of memory, "
       "measured\n"
       "first. The results of the first launch and of the last timed one are compared with a "
       "plain\n"
       "reference, in a sample of rows: 'error' is the largest difference over the largest "
       "value.\n",
       exit_code_help("all results are correct", "a result is wrong, a work could not be run",
                      "the model is missing, damaged or something else",
                      "no such device, or no compiler for the target") +
           "  130  interrupted\n",
       "ktjit bench --op matvec --format q4_K,q8_0 --shape 14336x4096 --device cuda"});
  options.add_to(parser);
  common.add_device(parser);
  parser.add_options()("target", po::value(&common.targets)->composing()->value_name("T"),
                       "sm_60 ... sm_121a, cpu, cpu:x86-64-v3, or native; may be given several "
                       "times (default: native)");
  common.add_jobs(parser);
  parser.add_options()(
      "json", po::value(&json_path)->implicit_value("-")->value_name("[=FILE]"),
      "write one JSON document to FILE, beside the table; without a file, or with -, print it "
      "in place of the table");
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;

  const bool prints_json = json_path == "-";
  options.check();
  Toolchain toolchain = common.make_toolchain();
  const auto first_named = std::find_if(common.targets.begin(), common.targets.end(),
                                        [](const std::string& name) { return name != "native"; });
  const bool native_is_named =
      std::find(common.targets.begin(), common.targets.end(), "native") != common.targets.end();
  const bool target_decides = first_named != common.targets.end() && !native_is_named;
  const Place place = choose_place(toolchain, common.device, target_decides ? *first_named : "");
  std::vector<Target> targets;
  for (const std::string& name : common.targets) {
    targets.push_back(name == "native" ? place.device->native_target()
                                       : toolchain.get_target(name));
  }
  if (targets.empty()) targets.push_back(place.target);
  BenchRequest request = make_bench_request(options, targets);
  if (!prints_json) print_heading(request, place);
  if (options.tune)
    tune_works(toolchain, place, request, common.compile_threads(toolchain.options()));

  const BenchReport report =
      measure(toolchain, place, request, common.compile_threads(toolchain.options()), prints_json);
  const Json document = to_json(report, request, place);
  if (prints_json) {
    print_json(document);
  } else {
    print_results(report);
    print_totals(report);
    if (!json_path.empty()) write_json(json_path, document);
  }
  if (report.interrupted) return kInterrupted;
  return report.ok() ? kDone : kFailed;
}

}  // namespace ktjit::cli
