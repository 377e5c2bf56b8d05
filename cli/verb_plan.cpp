// ktjit plan: which kernels a model needs on a target, how formats are lowered there, what fits, how
// fast a card can be, and what else could be chosen.
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/rules_option.h"
#include "cli/subject.h"
#include "cli/table.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "jit/format_advisor.h"
#include "jit/plan_report.h"
#include "model/output_file.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

constexpr std::int64_t kDefaultContext = 4096;

std::string_view origin_name(CardOrigin origin) {
  switch (origin) {
    case CardOrigin::kNamed:
      return "named";
    case CardOrigin::kAssumed:
      return "assumed";
    case CardOrigin::kDevice:
      return "device";
  }
  KTJIT_UNREACHABLE("a known origin");
}

/// Other cards that run code for the target as their own.
std::vector<std::string> other_cards(const PlanPlace& place) {
  std::vector<std::string> names;
  for (const GpuCard& card : all_gpu_cards()) {
    if (place.target.is_cuda() && card.sm == place.target.sm && &card != place.card)
      names.emplace_back(card.name);
  }
  return names;
}

const FormatCost& cost_of(const PlanReport& report, FormatId format) {
  const auto found = std::ranges::find(report.costs, format, &FormatCost::format);
  KTJIT_CHECK(found != report.costs.end());
  return *found;
}

// JSON

Json card_json(const PlanPlace& place) {
  if (place.card == nullptr) return nullptr;
  const GpuCard& card = *place.card;
  return {{"name", card.name},
          {"chosen", origin_name(place.origin)},
          {"compute_capability", card.sm},
          {"memory_gib", card.memory_gib},
          {"memory_bytes", card.memory_bytes()},
          {"bandwidth_gbps", card.bandwidth_gbps},
          {"attainable_gbps", attainable_bandwidth(card) / 1e9},
          {"sms", card.sms},
          {"boost_mhz", card.boost_mhz},
          {"source", card.source}};
}

Json group_json(const PlanReport& report, const TensorGroup& group) {
  Json kernels = Json::array();
  for (const KernelSpec& kernel : group.kernels) kernels.push_back(kernel_name(kernel));
  const FormatCost& cost = cost_of(report, group.format);
  const int conversion = group.lowering.instructions_per_4;
  return {{"format", WeightFormat{group.format, group.scale}.name()},
          {"cols", group.cols},
          {"scales", scale_grid_name(group.scale)},
          {"tensors", group.tensors.size()},
          {"bytes", group.bytes},
          {"activation", activation_name(group.activation)},
          {"lowering", group.lowering.summary},
          {"matvec_layout", layout_name(group.matvec_layout)},
          {"prepared_bytes", group.prepared_bytes},
          {"lowering_reason", group.lowering.reason},
          {"cost", conversion > 0 ? Json(conversion) : Json(nullptr)},
          {"bytes_per_weight", cost.bytes_per_weight},
          {"instructions_per_weight", json_or_null(cost.instructions_per_weight)},
          {"issued_per_weight", json_or_null(cost.budget_per_weight)},
          {"times_slower_than_memory", json_or_null(cost.times_slower())},
          {"kernels", kernels}};
}

Json memory_json(const MemoryNeed& memory, const KvCache& cache) {
  return {{"weights", memory.weights},
          {"scales", memory.scales},
          {"prepared_extra", memory.prepared_extra},
          {"kv_cache", json_or_null(memory.kv_cache)},
          {"kv_cache_rule", cache.rule},
          {"activations", memory.activations},
          {"driver", memory.driver}};
}

Json experts_json(const std::optional<ExpertsOnCpu>& experts) {
  if (!experts) return nullptr;
  return {{"device_bytes", experts->device_bytes},
          {"host_bytes", experts->host_bytes},
          {"fits", json_or_null(experts->fits)},
          {"host_bytes_per_token", json_or_null(experts->host_bytes_per_token)}};
}

Json alternative_json(const Alternative& other, const ModelFacts& facts) {
  const auto measured = std::ranges::find(facts.errors, other.format, &ConversionError::format);
  const bool has_sample = measured != facts.errors.end() && !other.kept;
  return {{"format", get_format(other.format).name},
          {"kept", other.kept},
          {"memory_bytes", other.memory_bytes},
          {"fits", json_or_null(other.fits)},
          {"tokens_per_second", json_or_null(other.tokens_per_second)},
          {"rms_rel_err", json_or_null(other.rms_error)},
          {"max_rel_err", json_or_null(other.max_error)},
          {"worst_tensor", has_sample ? Json(measured->worst_tensor) : Json(nullptr)},
          {"values_measured", has_sample ? measured->values : 0},
          {"tensors_measured", has_sample ? measured->tensors : 0},
          {"unconverted_tensors", other.unconverted},
          {"note", other.note}};
}

Json to_json(const PlanReport& report, const ModelFacts& facts) {
  Json groups = Json::array();
  for (const TensorGroup& group : report.plan.groups) groups.push_back(group_json(report, group));
  Json skipped = Json::array();
  for (const SkippedTensor& tensor : report.plan.skipped) {
    skipped.push_back(
        {{"tensor", tensor.tensor}, {"format", tensor.format}, {"reason", tensor.reason}});
  }
  Json alternatives = Json::array();
  for (const Alternative& other : report.alternatives)
    alternatives.push_back(alternative_json(other, facts));
  const auto& speed = report.speed;
  return {{"target", report.plan.target.name()},
          {"card", card_json(report.place)},
          {"other_cards", other_cards(report.place)},
          {"verdict", verdict_name(report.verdict.verdict)},
          {"reason", report.verdict.reason},
          {"groups", groups},
          {"skipped", skipped},
          {"context", report.place.context},
          {"memory_bytes", report.memory.total()},
          {"memory", memory_json(report.memory, facts.shape.kv_cache)},
          {"weight_bytes", report.memory.weights + report.memory.scales},
          {"kv_cache_bytes", json_or_null(report.memory.kv_cache)},
          {"available_bytes", json_or_null(report.memory.available)},
          {"fits", json_or_null(report.memory.fits())},
          {"experts_on_cpu", experts_json(report.experts_on_cpu)},
          {"bytes_per_token", speed ? Json(speed->weight_bytes + speed->kv_bytes) : Json(nullptr)},
          {"tokens_per_second", json_or_null(report.tokens_per_second)},
          {"tokens_per_second_with_conversion", json_or_null(report.tokens_per_second_bound)},
          {"no_speed_reason",
           report.no_speed_reason.empty() ? Json(nullptr) : Json(report.no_speed_reason)},
          {"alternatives", alternatives},
          {"advice", report.verdict.advice}};
}

// Text

/// "  label    text", wrapped at words to 110 columns, further lines below the text.
std::string paragraph(std::string_view label, std::string_view text) {
  constexpr std::size_t kWidth = 110;
  constexpr std::size_t kIndent = 11;
  std::string result = fmt::format("  {:<9}", label);
  std::size_t column = kIndent;
  bool line_is_empty = true;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line_is_empty && column + 1 + display_width(word) > kWidth) {
      result += "\n" + std::string(kIndent, ' ');
      column = kIndent;
      line_is_empty = true;
    }
    if (!line_is_empty) result += ' ';
    column += display_width(word) + (line_is_empty ? 0 : 1);
    result += word;
    line_is_empty = false;
  }
  return result + "\n";
}

/// Three digits at least.
std::string rate_text(double per_second) {
  return per_second < 100 ? fmt::format("{:.1f}", per_second) : fmt::format("{:.0f}", per_second);
}

std::string shape_line(const ModelShape& shape) {
  std::vector<std::string> parts;
  if (!shape.architecture.empty()) parts.push_back(shape.architecture);
  if (shape.layers) parts.push_back(counted(*shape.layers, "layer"));
  if (shape.experts && shape.experts_used)
    parts.push_back(fmt::format("{} of {} experts a token", *shape.experts_used, *shape.experts));
  if (parts.empty()) return {};
  parts.push_back(fmt::format("keys and values: {}", shape.kv_cache.rule));
  return fmt::format("  {}\n", fmt::join(parts, ", "));
}

std::string heading(const PlanPlace& place) {
  if (!place.target.is_cuda()) return fmt::format("{}\n", place.target.name());
  if (place.card == nullptr) {
    return fmt::format("{} ({}), card not known\n", place.target.name(),
                       get_cuda_facts(place.target).chips);
  }
  const GpuCard& card = *place.card;
  std::string text =
      fmt::format("{} on {}: {} GiB{}, {} GB/s, {} SMs at {} MHz\n", place.target.name(), card.name,
                  card.memory_gib, card.ecc_in_memory ? " less ECC's 1/16" : "",
                  card.bandwidth_gbps, card.sms, card.boost_mhz);
  if (place.origin == CardOrigin::kAssumed) {
    const std::vector<std::string> others = other_cards(place);
    text += paragraph("card", others.empty() ? "assumed, the only one known of this target"
                                             : fmt::format("assumed; --card takes another: {}",
                                                           fmt::join(others, ", ")));
  }
  return text;
}

/// The groups of one format, scales and activations together: one row.
struct FormatRow {
  const TensorGroup* first = nullptr;
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;
  std::size_t kernels = 0;
  bool has_native =
      false;  ///< matvec reads native weights of some columns, prepared ones of others
  bool has_prepared = false;

  std::string layout() const {
    return fmt::format("{}{}{}", has_prepared ? "prepared" : "",
                       has_prepared && has_native ? ", " : "", has_native ? "native" : "");
  }
};

std::string groups_text(const PlanReport& report) {
  std::vector<FormatRow> rows;
  for (const TensorGroup& group : report.plan.groups) {
    auto row = std::ranges::find_if(rows, [&](const FormatRow& candidate) {
      return candidate.first->format == group.format && candidate.first->scale == group.scale &&
             candidate.first->activation == group.activation;
    });
    if (row == rows.end()) row = rows.insert(rows.end(), FormatRow{.first = &group});
    row->tensors += group.tensors.size();
    row->bytes += group.bytes;
    row->kernels += group.kernels.size();
    (group.matvec_layout != LayoutKind::kNative ? row->has_prepared : row->has_native) = true;
  }
  const bool shows_layout = report.plan.has_prepared();
  Table table({{"format"},
               {"scales"},
               {shows_layout ? "matvec's layout" : ""},
               {"activations"},
               {"tensors", Align::kRight},
               {"size", Align::kRight},
               {"kernels", Align::kRight},
               {"bytes/weight", Align::kRight},
               {"instructions/weight", Align::kRight},
               {"issued meanwhile", Align::kRight}});
  const auto number = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.1f}", *value) : std::string("?");
  };
  std::string lowerings;
  FormatId last_format{};
  for (const FormatRow& row : rows) {
    const TensorGroup& group = *row.first;
    const FormatCost& cost = cost_of(report, group.format);
    table.add_row(
        {std::string(WeightFormat{group.format, group.scale}.name()),
         group.scale ? scale_grid_name(group.scale) : "", shows_layout ? row.layout() : "",
         group.activation == ActivationPolicy::kA16
             ? ""
             : std::string(activation_name(group.activation)),
         fmt::format("{}", row.tensors), human_bytes(row.bytes), fmt::format("{}", row.kernels),
         fmt::format("{:.3f}", cost.bytes_per_weight), number(cost.instructions_per_weight),
         report.place.card == nullptr ? "" : number(cost.budget_per_weight)});
    if (!lowerings.empty() && last_format == group.format) continue;
    last_format = group.format;
    const int conversion = group.lowering.instructions_per_4;
    lowerings += paragraph(
        get_format(group.format).name,
        fmt::format("{}{} ({})", group.lowering.summary,
                    conversion > 0 ? fmt::format(", {} instructions for 4", conversion) : "",
                    group.lowering.reason));
  }
  return (table.empty() ? "" : table.to_text(2)) + lowerings;
}

std::string kernels_line(const Plan& plan) {
  constexpr std::size_t kShown = 4;
  std::vector<std::string> names;
  for (const KernelSpec& kernel : plan.all_kernels()) names.push_back(kernel_name(kernel));
  if (names.empty()) return {};
  const std::size_t all = names.size();
  if (all > kShown) names.resize(kShown);
  std::string text = fmt::format("{}", fmt::join(names, ", "));
  if (all > kShown) text += fmt::format(" and {} more (--json has all)", all - kShown);
  return paragraph("kernels", text);
}

std::string memory_line(const PlanReport& report, const ModelFacts& facts) {
  const MemoryNeed& memory = report.memory;
  std::string text = fmt::format("{} of weights", human_bytes(memory.weights));
  if (memory.scales > 0) text += fmt::format(" + {} of scales", human_bytes(memory.scales));
  if (memory.prepared_extra > 0)
    text += fmt::format(" + {} that prepared ones take more", human_bytes(memory.prepared_extra));
  if (memory.kv_cache) {
    text += fmt::format(" + {} of keys and values for {} tokens (f16)",
                        human_bytes(*memory.kv_cache), report.place.context);
  }
  if (memory.activations > 0)
    text += fmt::format(" + {} of activations", human_bytes(memory.activations));
  if (memory.driver > 0) text += fmt::format(" + {} for the driver", human_bytes(memory.driver));
  text += fmt::format(" = {}", human_bytes(memory.total()));
  if (memory.available) {
    text += fmt::format(": {} {}", *memory.fits() ? "fits in" : "does not fit in",
                        human_bytes(*memory.available));
  }
  if (!facts.shape.kv_cache.known() && facts.is_language_model())
    text += fmt::format("; keys and values unknown: {}", facts.shape.kv_cache.rule);
  return paragraph("memory", text);
}

std::string experts_line(const ExpertsOnCpu& experts) {
  std::string text = fmt::format("experts in host memory: {} on the GPU{}, {} on the host",
                                 human_bytes(experts.device_bytes),
                                 !experts.fits   ? ""
                                 : *experts.fits ? " (fits)"
                                                 : " (does not fit)",
                                 human_bytes(experts.host_bytes));
  if (experts.host_bytes_per_token) {
    text += fmt::format(", {} of it read for a token",
                        human_bytes(static_cast<std::uint64_t>(*experts.host_bytes_per_token)));
  }
  return paragraph("offload", text);
}

std::string speed_line(const PlanReport& report) {
  if (!report.speed) return paragraph("speed", "unknown: " + report.no_speed_reason);
  const DecodeSpeed& speed = *report.speed;
  const auto bytes = static_cast<std::uint64_t>(speed.weight_bytes + speed.kv_bytes);
  const std::string source =
      fmt::format("{} at {:.0f} GB/s ({:.0f} % of the data sheet's)", human_bytes(bytes),
                  attainable_bandwidth(*report.place.card) / 1e9, 100 * kAttainableFraction);
  if (!report.tokens_per_second) {
    return paragraph("speed", fmt::format("{:.1f} us for one product: {}; no tokens/s: {}",
                                          1e6 * speed.seconds, source, report.no_speed_reason));
  }
  std::string text = fmt::format("at most {} tokens/s (batch 1): a token reads {}",
                                 rate_text(*report.tokens_per_second), source);
  if (!speed.instruction_bound.empty()) {
    text += fmt::format("; {} with the conversions that take longer than that",
                        rate_text(*report.tokens_per_second_bound));
  }
  return paragraph("speed", text);
}

std::string alternatives_text(const PlanReport& report, const ModelFacts& facts) {
  Table table({{"FP8 weights as"},
               {"memory", Align::kRight},
               {"fits"},
               {"tokens/s", Align::kRight},
               {"RMS error", Align::kRight},
               {"largest", Align::kRight},
               {""}});
  const auto error_text = [](const Alternative& other, const std::optional<double>& error) {
    if (other.kept || error == 0) return std::string("0");
    return error ? fmt::format("{:.1e}", *error) : std::string();
  };
  for (const Alternative& other : report.alternatives) {
    table.add_row({std::string(get_format(other.format).name), human_bytes(other.memory_bytes),
                   !other.fits   ? ""
                   : *other.fits ? "yes"
                                 : "no",
                   other.tokens_per_second ? rate_text(*other.tokens_per_second) : "",
                   error_text(other, other.rms_error), error_text(other, other.max_error),
                   other.note});
  }
  std::string text = table.to_text(2);
  if (facts.errors.empty()) return text;
  const ConversionError& first = facts.errors.front();
  std::uint64_t values = 0;
  for (const ConversionError& error : facts.errors) values = std::max(values, error.values);
  text += fmt::format(
      "    errors relative, measured on {} values of {} of the model's own tensors{}\n", values,
      first.tensors,
      first.nan_codes > 0 ? fmt::format("; {} NaN codes left out", first.nan_codes) : "");
  return text;
}

void print_text(const PlanReport& report, const ModelFacts& facts, bool advise) {
  std::string text = heading(report.place) + groups_text(report) + kernels_line(report.plan);
  std::map<std::string, std::size_t> skipped_by_reason;
  for (const SkippedTensor& tensor : report.plan.skipped) ++skipped_by_reason[tensor.reason];
  for (const auto& [reason, count] : skipped_by_reason)
    text += paragraph("skipped", fmt::format("{}: {}", counted(count, "tensor"), reason));
  text += memory_line(report, facts);
  if (report.experts_on_cpu) text += experts_line(*report.experts_on_cpu);
  text += speed_line(report);
  text += paragraph("verdict", fmt::format("{}: {}", verdict_name(report.verdict.verdict),
                                           report.verdict.reason));
  for (const std::string& advice : report.verdict.advice) text += paragraph("advice", advice);
  const bool show_alternatives =
      advise || converts_fp8_in_software(report.plan) || report.memory.fits() == false;
  if (show_alternatives && !report.alternatives.empty()) text += alternatives_text(report, facts);
  print(text);
}

// Places

/// The card that a device is, by the name in front of its description.
const GpuCard* card_of_device(const runtime::Device& device) {
  const std::string description = device.description();
  return find_gpu_card(description.substr(0, description.find(',')));
}

/// Targets and cards, each with the memory to fit in: --memory, else the card's or the device's.
std::vector<PlanPlace> choose_places(Toolchain& toolchain, const CommonOptions& common,
                                     const std::vector<std::string>& card_names,
                                     const std::optional<std::uint64_t>& memory) {
  std::vector<PlanPlace> places;
  const auto add = [&](const Target& target, const GpuCard* card, CardOrigin origin) {
    std::optional<std::uint64_t> available = memory;
    if (!available && card != nullptr) available = card->memory_bytes();
    places.push_back({target, card, origin, available, 0});
  };
  std::vector<const GpuCard*> cards;
  for (const std::string& name : card_names) cards.push_back(&get_gpu_card(name));

  if (common.targets.empty() && cards.empty()) {
    const Place here = choose_place(toolchain, "", "");
    const GpuCard* card = here.target.is_cuda() ? card_of_device(*here.device) : nullptr;
    add(here.target, card, CardOrigin::kDevice);
    if (!memory) places.back().available_bytes = here.device->total_memory_bytes();
    return places;
  }
  if (common.targets.empty()) {
    for (const GpuCard* card : cards) add(native_target(*card), card, CardOrigin::kNamed);
    return places;
  }
  std::vector<bool> used(cards.size(), false);
  for (const Target& target : choose_targets(toolchain, common.targets)) {
    bool named = false;
    for (std::size_t at = 0; at < cards.size(); ++at) {
      if (!runs_on(target, *cards[at])) continue;
      add(target, cards[at], CardOrigin::kNamed);
      named = used[at] = true;
    }
    if (!named) add(target, default_gpu_card(target), CardOrigin::kAssumed);
  }
  for (std::size_t at = 0; at < cards.size(); ++at) {
    if (!used[at]) {
      throw UsageError(fmt::format("no --target has code that runs on {}", cards[at]->name),
                       fmt::format("its target is {}", native_target(*cards[at]).name()));
    }
  }
  return places;
}

// Rules

/// Writes the advised rules to a file, or to standard output without one.
int write_advice(const ModelFacts& facts, const PlanPlace& place, double error_budget,
                 const std::string& path) {
  const FormatAdvice advice = advise_formats(facts, place, error_budget);
  if (!advice.problem.empty()) {
    print_to_stderr(fmt::format("ktjit: {}", advice.problem));
    return kFailed;
  }
  if (path.empty()) {
    print(advice.rules_yaml);
    return kDone;
  }
  model::OutputFile file(path);
  file.write(std::as_bytes(std::span(advice.rules_yaml)));
  file.commit();
  print(fmt::format("{}: rules by which the model takes {}, with a relative RMS error of {:.2e}\n",
                    path, human_bytes(advice.memory_bytes), advice.error));
  return kDone;
}

/// What is planned for one place: a report for the place itself, and with rules one for each other device.
struct PlaceReports {
  std::vector<std::string> devices;  ///< "" for the place itself
  std::vector<PlanReport> reports;
};

PlaceReports make_reports(const ModelFacts& facts, const PlanPlace& place, const RulesOption& rules,
                          const Target& host, LayoutKind layout) {
  PlaceReports result;
  if (!rules.is_given()) {
    result.devices.emplace_back();
    result.reports.push_back(make_report(facts, place, layout));
    return result;
  }
  const std::vector<RuledPart> parts = rules.split(place.target, host, layout);
  for (const RuledPart& part : parts) {
    PlanPlace there = place;
    there.target = part.target;
    if (part.target != place.target) {
      there.card = nullptr;
      there.available_bytes.reset();
    }
    result.devices.push_back(part.device);
    const bool is_first = result.reports.empty();
    result.reports.push_back(
        make_report(facts, there, {part.tensors, parts.size() == 1, is_first}));
  }
  return result;
}

}  // namespace

int run_plan(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  std::vector<std::string> cards;
  std::string memory_text;
  std::int64_t context = kDefaultContext;
  bool advise = false;
  std::optional<double> error_budget;
  std::string rules_out;
  RulesOption rules;
  ArgumentParser parser(
      {"plan MODEL [options]  |  plan --format F --shape RxC [options]",
       "Says which kernels a model (or one tensor of format F) needs on each target, how each "
       "format\n"
       "is converted there and at what cost, whether it fits with its keys and values, how many\n"
       "tokens/s the card's memory allows, and what to do about it: for FP8, other formats with "
       "their\n"
       "memory, speed and error. Works without a GPU or a compiler, for any target. Reads the "
       "header,\n"
       "and of FP8 tensors a sample. With --rules, plans the model as the rules make it. With "
       "--advise\n"
       "and --error, writes rules by which it fits the memory with the least error.\n",
       exit_code_help("planned", "it does not fit",
                      "the model is missing, damaged or something else"),
       "ktjit plan --format fp8e4nv --shape 4096x14336 --scale-block 128x128 --target sm_86"});
  subject_options.add_model(parser);
  subject_options.add_description(parser);
  common.add_targets(parser);
  common.add_layout(parser);
  parser.add_options()("card", po::value(&cards)->composing()->value_name("NAME"),
                       "card to plan for, such as A10 or 'RTX 3090'; may be given several times "
                       "(default: a common one of the target)")(
      "memory", po::value(&memory_text)->value_name("SIZE"),
      "memory to fit in, such as 24G (default: the card's, or this machine's)")(
      "context", po::value(&context)->value_name("N"),
      "tokens of context to keep keys and values for (default: 4096)");
  rules.add(parser);
  parser.add_flag("advise", &advise,
                  "show other formats for FP8 also where the hardware converts it; with --error, "
                  "write rules");
  parser.add_options()(
      "error",
      po::value<double>()->value_name("E")->notifier([&](double value) { error_budget = value; }),
      "with --advise: the relative RMS error over all weights that the rules may cost, such as "
      "1e-2")("out", po::value(&rules_out)->value_name("FILE"),
              "file for the rules, in place of an older one (default: standard output)");
  common.add_json(parser);
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;
  if (context < 1) throw UsageError(fmt::format("--context is {}", context), "give 1 or more");

  if (error_budget && !advise) throw UsageError("--error needs --advise");
  if (!rules_out.empty() && !error_budget) throw UsageError("--out needs --advise and --error");
  if (error_budget && (rules.is_given() || common.json))
    throw UsageError("--error writes rules, and goes neither with --rules nor with --json");
  const LayoutKind matvec_layout = common.matvec_layout();
  const Subject subject(subject_options);
  Toolchain toolchain = common.make_toolchain();
  std::optional<std::uint64_t> memory;
  if (!memory_text.empty()) memory = parse_bytes("--memory", memory_text);
  std::vector<PlanPlace> places = choose_places(toolchain, common, cards, memory);
  for (PlanPlace& place : places) place.context = context;
  if (error_budget) {
    if (subject.described())
      throw UsageError("--error needs a MODEL: a described tensor has no values to measure");
    if (places.size() != 1) {
      throw UsageError(fmt::format("--error with {} places to plan for", places.size()),
                       "give one --target, or one --card");
    }
    return write_advice(ModelFacts(subject.model(), false), places.front(), *error_budget,
                        rules_out);
  }
  if (rules.is_given()) rules.apply(subject.model());
  const ModelFacts facts(rules.is_given() ? rules.ruled().model() : subject.model(),
                         !subject.described() && !rules.is_given());
  const Target host = toolchain.get_target("cpu");

  bool all_fit = true;
  Json documents = Json::array();
  if (!common.json) print(subject.title() + "\n" + shape_line(facts.shape));
  if (!common.json && rules.is_given()) print(rules.to_text());
  for (const PlanPlace& place : places) {
    const PlaceReports all = make_reports(facts, place, rules, host, matvec_layout);
    Json others = Json::array();
    for (std::size_t at = 0; at < all.reports.size(); ++at) {
      const PlanReport& report = all.reports[at];
      all_fit = all_fit && report.memory.fits() != false;
      if (!common.json) {
        print(all.devices[at].empty() ? "\n"
                                      : fmt::format("\non {}, by the rules: ", all.devices[at]));
        print_text(report, facts, advise);
        continue;
      }
      Json document = to_json(report, facts);
      if (rules.is_given()) document["device"] = all.devices[at];
      if (at == 0) {
        documents.push_back(std::move(document));
      } else {
        others.push_back(std::move(document));
      }
    }
    if (common.json && rules.is_given()) documents.back()["other_devices"] = std::move(others);
  }
  if (common.json) {
    Json document = {{"model", subject.title()}, {"targets", documents}};
    if (rules.is_given()) document["rules"] = rules.to_json();
    print_json(document);
  }
  return all_fit ? kDone : kFailed;
}

}  // namespace ktjit::cli
