// ktjit convert: a model in another format, prebuilt for the hardware that shall run it.
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <utility>

#include "convert/conversion_plan.h"
#include "convert/prepare_model.h"
#include "convert/verify.h"
#include "rules/conversion.h"
#include "rules/rules.h"

#include "cli/argument_parser.h"
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
#include "core/interrupted_error.h"
#include "model/open_model.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

namespace fs = std::filesystem;

struct ConvertArguments {
  std::string input;
  std::string output;
  std::string to;
  std::string rules;
  std::string scale_block;
  std::string scale_type;
  std::string scales_from;
  std::string experts;
  std::string names;
  std::string rest = "bf16";
  std::string shard_size = "5G";
  std::string prepare;  ///< a target
  bool restore = false;
  bool all = false;
  bool verify = false;
  bool force = false;
  CommonOptions common;
};

/// --to with its scales: of FP8, 128x128 f32 where nothing else is said.
WeightFormat target_format(const ConvertArguments& arguments) {
  const bool says_scales = !arguments.scale_block.empty() || !arguments.scale_type.empty();
  const WeightFormat named = get_weight_format(arguments.to);
  const auto targets = rules::conversion_targets();
  if (std::ranges::find(targets, named.id) == targets.end()) {
    std::string names;
    for (const FormatId id : targets)
      names += fmt::format("{}{}", names.empty() ? "" : ", ", get_format(id).name);
    throw UsageError(fmt::format("--to is '{}', which nothing is converted to", named.name()),
                     fmt::format("give one of {}, mxfp8_e4m3, mxfp8_e5m2", names));
  }
  const bool is_plain_fp8 = get_format(named.id).family == FormatFamily::kFp8 && !named.scale;
  if (!is_plain_fp8) {
    if (says_scales) {
      throw UsageError(
          fmt::format("--scale-block and --scale-type don't go with --to {}", named.name()),
          "they are of the FP8 formats without scales of their own");
    }
    return named;
  }
  if (arguments.scale_block == "none") {
    if (!arguments.scale_type.empty())
      throw UsageError("--scale-type doesn't go with --scale-block none");
    return named;
  }
  const ScaleType type =
      arguments.scale_type.empty() ? ScaleType::kF32 : get_scale_type(arguments.scale_type);
  if (type == ScaleType::kE4M3)
    throw UsageError("--scale-type is 'e4m3'", "give f32, bf16 or e8m0");
  const std::string block = arguments.scale_block.empty() ? "128x128" : arguments.scale_block;
  return get_weight_format(arguments.to, parse_scale_block(block, type));
}

std::optional<convert::Naming> target_names(const std::string& names) {
  if (names.empty()) return std::nullopt;
  if (names == "gguf") return convert::Naming::kGguf;
  if (names == "hf") return convert::Naming::kHuggingFace;
  throw UsageError(fmt::format("--names is '{}'", names), "give gguf or hf");
}

/// Formats by rules, which outlive the function. What no rule sets, and what `keep` names, keeps its format.
/// Errors: as Rules::check.
convert::ChooseTensor choose_by_rules(const rules::Rules& rules, const model::Model& input) {
  rules.check(input);
  return [&rules](const model::TensorInfo& tensor) {
    const rules::TensorChoice choice = rules.choose(tensor);
    if (!choice.format_rule) return convert::TensorChoice{std::nullopt, "no rule"};
    const rules::Rule& rule = rules.rules()[*choice.format_rule];
    return convert::TensorChoice{
        choice.convert_to,
        fmt::format("rule {}{}", *choice.format_rule + 1,
                    rule.label.empty() ? std::string() : fmt::format(", {}", rule.label))};
  };
}

/// What the rules say that a file can't hold, or "".
std::string note_on_rules(const rules::Rules& rules) {
  const bool is_of_running = std::ranges::any_of(rules.rules(), [](const rules::Rule& rule) {
    return rule.activation || rule.device || rule.layout;
  });
  if (!is_of_running) return {};
  return "the rules' devices, activations and layouts are for plan, build and run; files have none";
}

/// The models stay open as long as the plan is used.
struct OpenModels {
  std::optional<model::Model> input;
  std::optional<model::Model> experts;
  std::optional<model::Model> scales;

  std::vector<const model::Model*> all() const {
    std::vector<const model::Model*> models = {&*input};
    for (const auto* other : {&experts, &scales}) {
      if (*other) models.push_back(&**other);
    }
    return models;
  }
};

/// "model.gguf" is a GGUF file, "model.safetensors" one file, all else a folder.
void set_output(const std::string& output, convert::ConvertRequest& request) {
  const fs::path path = output;
  if (path.extension() == ".gguf") {
    request.container = convert::Container::kGguf;
    request.kind = convert::OutputKind::kFile;
    request.file_name = path.filename().string();
  } else if (path.extension() == ".safetensors") {
    request.kind = convert::OutputKind::kFile;
    request.file_name = path.filename().string();
  }
}

Json to_json(const convert::ConvertedTensor& tensor) {
  return {{"tensor", tensor.name},  {"source", tensor.source},  {"from", tensor.from},
          {"to", tensor.to},        {"copied", tensor.is_copy}, {"bytes", tensor.bytes},
          {"reason", tensor.reason}};
}

Json to_json(const convert::TensorError& error) {
  return {{"tensor", error.name},
          {"from", error.from},
          {"to", error.to},
          {"elements", error.elements},
          {"max_abs_err", error.max_abs},
          {"rms_err", error.rms},
          {"rel_rms_err", error.relative},
          {"cosine", error.cosine},
          {"saturated", error.saturated},
          {"not_finite_in", error.nan_in},
          {"not_finite_out", error.nan_out},
          {"ok", error.problem.empty()},
          {"problem", error.problem}};
}

/// By what became of what, since a model has hundreds of tensors.
void print_plan(const convert::Conversion& conversion) {
  struct Group {
    std::size_t tensors = 0;
    std::uint64_t bytes = 0;
    std::string first;
  };
  std::map<std::array<std::string, 3>, Group> groups;
  for (const convert::ConvertedTensor& tensor : conversion.tensors) {
    Group& group = groups[{tensor.from, tensor.is_copy ? tensor.to + " (as it is)" : tensor.to,
                           tensor.reason}];
    if (group.tensors++ == 0) group.first = tensor.name;
    group.bytes += tensor.bytes;
  }
  Table table({{"from"},
               {"to"},
               {"tensors", Align::kRight},
               {"size", Align::kRight},
               {"first of them"},
               {"why"}});
  for (const auto& [key, group] : groups) {
    table.add_row({key[0], key[1], fmt::format("{}", group.tensors), human_bytes(group.bytes),
                   group.first, key[2]});
  }
  print(table.to_text());
  for (const std::string& note : conversion.notes) print(fmt::format("note: {}\n", note));
  flush_output();
}

void print_errors(const convert::VerifyReport& report) {
  Table table({{"tensor"},
               {"from"},
               {"to"},
               {"max abs err", Align::kRight},
               {"rms err", Align::kRight},
               {"rel rms", Align::kRight},
               {"cosine", Align::kRight},
               {"saturated", Align::kRight},
               {"not finite", Align::kRight},
               {"check"}});
  for (const convert::TensorError& error : report.tensors) {
    table.add_row({error.name, error.from, error.to, fmt::format("{:.3g}", error.max_abs),
                   fmt::format("{:.3g}", error.rms), fmt::format("{:.2g}", error.relative),
                   fmt::format("{:.8f}", error.cosine), fmt::format("{}", error.saturated),
                   fmt::format("{}", error.nan_out), error.problem.empty() ? "ok" : "WRONG"});
  }
  print("\n" + table.to_text());
  std::size_t right = 0;
  for (const convert::TensorError& error : report.tensors) {
    if (error.problem.empty()) {
      ++right;
    } else {
      print(fmt::format("WRONG: {}: {}\n", error.name, error.problem));
    }
  }
  print(fmt::format("{} of {} right\n", right, counted(report.tensors.size(), "tensor")));
}

/// Progress in MiB: bytes are too many for a bar's numbers.
auto progress_in(Progress& progress, std::string_view name) {
  return [&progress, name](std::uint64_t done, std::uint64_t total) {
    constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
    progress.update((done + kMiB - 1) / kMiB, (total + kMiB - 1) / kMiB, name);
  };
}

bool moves_only(const ConvertArguments& arguments) {
  return !arguments.prepare.empty() || arguments.restore;
}

/// --prepare and --restore change the layout and nothing else.
void check_alone(const ConvertArguments& arguments) {
  if (!moves_only(arguments)) return;
  const std::string_view flag = arguments.restore ? "--restore" : "--prepare";
  if (!arguments.prepare.empty() && arguments.restore)
    throw UsageError("--prepare and --restore are two ways", "give one of them");
  if (!arguments.to.empty() || !arguments.experts.empty() || !arguments.names.empty() ||
      !arguments.scale_block.empty() || !arguments.scale_type.empty() ||
      !arguments.scales_from.empty() || arguments.all) {
    throw UsageError(fmt::format("{} doesn't go with --to and what belongs to it", flag),
                     "the bytes of tensors are moved, not converted: convert first");
  }
  if (arguments.verify)
    throw UsageError(fmt::format("--verify doesn't go with {}", flag),
                     "each piece that --prepare writes is restored and compared anyway");
}

/// Weights that are prepared are moved back before anything else is done with them.
void check_native(const OpenModels& models) {
  for (const model::Model* opened : models.all()) {
    for (const model::TensorInfo& tensor : opened->tensors()) {
      if (tensor.layout == LayoutKind::kNative) continue;
      throw UsageError(fmt::format("{} has prepared weights", opened->files().front().string()),
                       "convert IN OUT --restore gives the native ones, which can be converted");
    }
  }
}

/// By --prepare or --restore.
convert::Conversion plan_moves(const ConvertArguments& arguments,
                               const convert::ConvertRequest& request, Toolchain& toolchain) {
  const convert::PreparedOutput output = {request.kind, request.file_name, request.shard_bytes};
  if (arguments.restore) return plan_restore(*request.input, request.container, output);
  if (request.container == convert::Container::kGguf) {
    throw UsageError("--prepare writes safetensors",
                     "OUT has to be a folder, or end in .safetensors");
  }
  return plan_prepare(toolchain.engine(), *request.input, toolchain.get_target(arguments.prepare),
                      output);
}

/// Where nothing is said: a GPU if there is one, but the CPU where it has the threads to be as quick. Files are
/// written by one thread of the kernel each, which is what bounds both (docs/CONVERT.md has the measurement).
Place choose_conversion_place(Toolchain& toolchain, const CommonOptions& common) {
  constexpr int kThreadsLikeAGpu = 8;
  const int given = toolchain.options().threads;
  const int threads = given > 0 ? given : runtime::usable_threads();
  const bool is_open = common.device.empty() && common.target.empty();
  if (!is_open || threads < kThreadsLikeAGpu || !toolchain.llvm().is_present())
    return choose_place(toolchain, common.device, common.target);
  Place place = choose_place(toolchain, "cpu", "");
  place.reason = fmt::format("{} threads are as quick as a GPU here", threads);
  return place;
}

int convert_model(const ConvertArguments& arguments) {
  if (arguments.input.empty() || arguments.output.empty())
    throw UsageError("IN and OUT are needed");
  check_alone(arguments);
  if (!arguments.to.empty() && !arguments.rules.empty())
    throw UsageError("--to and --rules both say what becomes of tensors", "give one of them");
  if (arguments.to.empty() && arguments.rules.empty() && arguments.experts.empty() &&
      arguments.names.empty() && !moves_only(arguments))
    throw UsageError("--to is missing",
                     "give a format or --rules, or --experts, --names, --prepare or --restore");
  if (arguments.to.empty() && (!arguments.scale_block.empty() || !arguments.scale_type.empty() ||
                               arguments.all || !arguments.scales_from.empty())) {
    throw UsageError("--scale-block, --scale-type, --scales-from and --all go with --to");
  }
  if (!arguments.scales_from.empty() &&
      (!arguments.scale_block.empty() || !arguments.scale_type.empty()))
    throw UsageError("--scales-from says what --scale-block and --scale-type would");

  convert::ConvertRequest request;
  set_output(arguments.output, request);
  request.names = target_names(arguments.names);
  request.choose = arguments.to.empty()
                       ? convert::keep_all()
                       : convert::choose_linears(target_format(arguments), arguments.all);
  request.rest = get_format(arguments.rest).id;
  if (request.rest != FormatId::kBF16 && request.rest != FormatId::kF16 &&
      request.rest != FormatId::kF32)
    throw UsageError(fmt::format("--rest is '{}'", arguments.rest), "give bf16, f16 or f32");
  request.shard_bytes = parse_bytes("--shard-size", arguments.shard_size);
  if (!arguments.experts.empty() && request.container == convert::Container::kGguf)
    throw UsageError("--experts makes safetensors", "OUT has to be a folder");

  OpenModels models;
  models.input = model::open_model(arguments.input);
  if (!arguments.experts.empty()) models.experts = model::open_model(arguments.experts);
  if (!arguments.scales_from.empty()) models.scales = model::open_model(arguments.scales_from);
  request.input = &*models.input;
  std::optional<rules::Rules> rules;
  if (!arguments.rules.empty()) {
    rules = rules::Rules::read(arguments.rules);
    request.choose = choose_by_rules(*rules, *models.input);
  }
  request.experts = models.experts ? &*models.experts : nullptr;
  request.scales = models.scales ? &*models.scales : nullptr;
  convert::check_output(arguments.output, request.kind, models.all(), arguments.force);
  if (!moves_only(arguments)) check_native(models);
  Toolchain toolchain = arguments.common.make_toolchain();
  convert::Conversion conversion = moves_only(arguments) ? plan_moves(arguments, request, toolchain)
                                                         : convert::plan_conversion(request);
  if (rules) {
    if (std::string note = note_on_rules(*rules); !note.empty())
      conversion.notes.push_back(std::move(note));
  }
  const Place place = choose_conversion_place(toolchain, arguments.common);
  if (!arguments.common.json) {
    print(fmt::format("in      {}: {}, {}\n", arguments.input, models.input->container(),
                      human_bytes(models.input->file_bytes())));
    print(fmt::format("device  {}: {} ({})\n\n", place.device->name(), place.device->description(),
                      place.reason));
    print_plan(conversion);
  }

  convert::ConvertResult result;
  std::optional<convert::VerifyReport> report;
  try {
    const Interrupt interrupt;
    convert::ConvertOptions options;
    options.threads = toolchain.options().threads;
    options.force = arguments.force;
    options.stop = interrupt.token();
    {
      Progress progress("MiB");
      options.on_progress = progress_in(progress, "converted");
      result = convert::run_conversion(toolchain.engine(), *place.device, place.target, conversion,
                                       arguments.output, options);
    }
    if (arguments.verify) {
      const model::Model written = model::open_model(arguments.output);
      Progress progress("MiB");
      convert::VerifyOptions verify_options;
      verify_options.threads = toolchain.options().threads;
      verify_options.stop = interrupt.token();
      verify_options.on_progress = progress_in(progress, "checked");
      report = convert::verify_conversion(conversion, written, verify_options);
    }
  } catch (const InterruptedError&) {
    print_to_stderr(
        fs::exists(arguments.output) && result.output_bytes > 0
            ? "interrupted: the output is there, and not checked"
            : fmt::format("interrupted: what is done is kept in {}; the same command goes on "
                          "from there",
                          convert::WorkFolder::path_beside(arguments.output).string()));
    return kInterrupted;
  }

  const double gbps =
      result.seconds > 0 ? static_cast<double>(result.input_bytes) / result.seconds / 1e9 : 0;
  if (arguments.common.json) {
    Json tensors = Json::array();
    for (const convert::ConvertedTensor& tensor : conversion.tensors)
      tensors.push_back(to_json(tensor));
    Json document = {{"input", arguments.input},
                     {"output", arguments.output},
                     {"device", place.device->name()},
                     {"target", place.target.name()},
                     {"tensors", tensors},
                     {"notes", conversion.notes},
                     {"input_bytes", result.input_bytes},
                     {"resumed_bytes", result.resumed_bytes},
                     {"output_bytes", result.output_bytes},
                     {"seconds", result.seconds},
                     {"input_gbps", gbps}};
    if (report) {
      Json errors = Json::array();
      for (const convert::TensorError& error : report->tensors) errors.push_back(to_json(error));
      document["errors"] = errors;
    }
    document["verified"] = report.has_value();
    document["ok"] = !report || report->ok;
    print_json(document);
  } else {
    if (result.replaced_other_plan)
      print("remains of another conversion to this output were removed\n");
    if (result.resumed_bytes > 0) {
      print(fmt::format("an earlier run had left the results of {} of input\n",
                        human_bytes(result.resumed_bytes)));
    }
    print(fmt::format("wrote {}: {}, {} of input in {:.1f} s, {:.2f} GB/s\n", arguments.output,
                      human_bytes(result.output_bytes), human_bytes(result.input_bytes),
                      result.seconds, gbps));
    if (report) print_errors(*report);
  }
  return !report || report->ok ? kDone : kFailed;
}

}  // namespace

int run_convert(const Arguments& given) {
  ConvertArguments arguments;
  CommonOptions& common = arguments.common;
  ArgumentParser parser(
      {"convert IN OUT --to FORMAT [options]\n"
       "       ktjit convert IN OUT --rules FILE [options]\n"
       "       ktjit convert FP8_FOLDER OUT --experts GGUF [options]\n"
       "       ktjit convert IN OUT --prepare TARGET | --restore [options]",
       "Writes a model in another format. IN is a model of any kind; OUT is a GGUF file if it ends "
       "in\n"
       ".gguf, one file if it ends in .safetensors, else a folder of safetensors with "
       "config.json.\n"
       "What is converted are linear weights: matrices and stacked experts. Norms, biases and all "
       "of\n"
       "one dimension, embeddings, output and routers keep their format, since they are small or "
       "decide\n"
       "much; --all converts embeddings, output and routers too. What keeps its format is copied "
       "byte\n"
       "for byte; where OUT can't hold it, it becomes --rest.\n"
       "Scales are chosen so that a block's largest magnitude becomes the format's largest number\n"
       "(f32, bf16), or by OCP's floor rule (e8m0).\n"
       "--experts makes KTransformers' hybrid: names of GGUF, the FP8 weights of IN, and the "
       "routed\n"
       "experts of another model as ggml's bytes.\n"
       "--prepare arranges weights for the target's matvec, so that loading them is a copy; "
       "--restore "
       "takes\n"
       "them back, byte for byte.\n"
       "OUT appears whole or not at all. After a kill, Ctrl-C or a full disk the same command goes "
       "on\n"
       "where it was: what is done lies in the folder .NAME.converting beside OUT.\n",
       exit_code_help("the output is there",
                      "--verify found an error larger than the format's rounding",
                      "a model is missing or damaged, or has values that can't be converted",
                      "no such device, or no compiler for the target") +
           "  130  interrupted\n",
       "ktjit convert model-Q8_0.gguf model-fp8 --to fp8_e4m3 --names hf --verify"});
  parser.add_positional("IN", &arguments.input);
  parser.add_positional("OUT", &arguments.output);
  parser.add_options()(
      "to", po::value(&arguments.to)->value_name("FORMAT"),
      "fp8_e4m3 and the other FP8 formats, mxfp8_e4m3, mxfp8_e5m2, mxfp6_e2m3, mxfp6_e3m2, "
      "mxfp4, nvfp4, bf16, f16, f32; in a GGUF file also q8_0, q4_0")(
      "rules", po::value(&arguments.rules)->value_name("FILE"),
      "in place of --to: YAML that says which tensors get which format (docs/RULES.md)")(
      "scale-block", po::value(&arguments.scale_block)->value_name("RxC"),
      "FP8: rows and columns that share a scale, as 128x128 (the default) or 1x128; or row, "
      "tensor, none")("scale-type", po::value(&arguments.scale_type)->value_name("TYPE"),
                      "FP8: f32 (the default), bf16 or e8m0")(
      "scales-from", po::value(&arguments.scales_from)->value_name("MODEL"),
      "FP8: take each tensor's scales from the tensor of its name there; what was decoded with "
      "them gets "
      "its codes back")("experts", po::value(&arguments.experts)->value_name("GGUF"),
                        "routed experts of this model, as ggml's bytes")(
      "names", po::value(&arguments.names)->value_name("KIND"),
      "gguf or hf: names of tensors, and the order of a llama's q and k rows (default: as in IN)")(
      "rest", po::value(&arguments.rest)->value_name("FORMAT"),
      "bf16 (the default), f16 or f32: what becomes of tensors whose format OUT can't hold")(
      "shard-size", po::value(&arguments.shard_size)->value_name("SIZE"),
      "of safetensors files in a folder (default: 5G)");
  parser.add_options()("prepare", po::value(&arguments.prepare)->value_name("TARGET"),
                       "arrange matrices as matvec for this target reads them, sm_86");
  parser.add_flag("restore", &arguments.restore, "the way back from --prepare");
  parser.add_flag("all", &arguments.all, "convert embeddings, output and routers too");
  parser.add_flag(
      "verify", &arguments.verify,
      "read the output again and report each tensor's error; fails on one that is too large");
  parser.add_flag("force", &arguments.force, "replace an output that is there");
  common.add_device(parser);
  common.add_target(parser);
  common.add_json(parser);
  common.add_machine(parser);
  if (!parser.parse(given)) return kDone;
  return convert_model(arguments);
}

}  // namespace ktjit::cli
