// ktjit plan: which kernels a model needs on a target, how formats are lowered there, what fits.
#include <fmt/format.h>
#include <map>
#include <optional>

#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/subject.h"
#include "cli/table.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "jit/planner.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

constexpr std::int64_t kDefaultContext = 4096;

/// What the model needs and what there is.
struct MemoryNeed {
  std::uint64_t weight_bytes = 0;
  std::int64_t context = 0;
  std::optional<std::uint64_t> kv_cache_bytes;  ///< nothing if the model doesn't tell
  std::optional<std::uint64_t> available_bytes;

  std::uint64_t total_bytes() const { return weight_bytes + kv_cache_bytes.value_or(0); }
  std::optional<bool> fits() const {
    if (!available_bytes) return std::nullopt;
    return total_bytes() <= *available_bytes;
  }
};

/// A plan with what is said about it.
struct JudgedPlan {
  Plan plan;
  MemoryNeed memory;
  TargetVerdict verdict;
};

JudgedPlan judge_target(const model::Model& model, const Target& target, MemoryNeed memory) {
  JudgedPlan judged{make_plan(model, target), memory, {}};
  judged.memory.weight_bytes = judged.plan.weight_bytes;
  judged.verdict = judge(judged.plan);
  if (judged.memory.fits() == false) {
    judged.verdict.verdict = Verdict::kNo;
    judged.verdict.reason = fmt::format(
        "it needs {} of memory and has {}; {}", human_bytes(judged.memory.total_bytes()),
        human_bytes(*judged.memory.available_bytes), judged.verdict.reason);
    const bool weights_fit = judged.memory.weight_bytes <= *judged.memory.available_bytes;
    judged.verdict.advice.push_back(
        weights_fit ? "the weights alone fit: take a shorter context"
                    : "take a model with fewer bits per weight, or keep part of it in host memory");
  }
  return judged;
}

Json to_json(const TensorGroup& group) {
  Json kernels = Json::array();
  for (const KernelSpec& kernel : group.kernels) kernels.push_back(kernel_name(kernel));
  const int cost = group.lowering.instructions_per_4;
  return {{"format", get_format(group.format).name},
          {"cols", group.cols},
          {"scales", scale_grid_name(group.scale)},
          {"tensors", group.tensors.size()},
          {"bytes", group.bytes},
          {"lowering", group.lowering.summary},
          {"lowering_reason", group.lowering.reason},
          {"cost", cost > 0 ? Json(cost) : Json(nullptr)},
          {"kernels", kernels}};
}

Json to_json(const JudgedPlan& judged) {
  Json groups = Json::array();
  for (const TensorGroup& group : judged.plan.groups) groups.push_back(to_json(group));
  Json skipped = Json::array();
  for (const SkippedTensor& tensor : judged.plan.skipped) {
    skipped.push_back(
        {{"tensor", tensor.tensor}, {"format", tensor.format}, {"reason", tensor.reason}});
  }
  return {{"target", judged.plan.target.name()},
          {"verdict", verdict_name(judged.verdict.verdict)},
          {"reason", judged.verdict.reason},
          {"groups", groups},
          {"skipped", skipped},
          {"memory_bytes", judged.memory.total_bytes()},
          {"weight_bytes", judged.memory.weight_bytes},
          {"kv_cache_bytes", json_or_null(judged.memory.kv_cache_bytes)},
          {"available_bytes", json_or_null(judged.memory.available_bytes)},
          {"fits", json_or_null(judged.memory.fits())},
          {"tokens_per_second", nullptr},
          {"advice", judged.verdict.advice}};
}

std::string memory_line(const MemoryNeed& memory) {
  std::string text = fmt::format("memory   {} of weights", human_bytes(memory.weight_bytes));
  if (memory.kv_cache_bytes) {
    text += fmt::format(" + {} of keys and values for {} tokens (f16)",
                        human_bytes(*memory.kv_cache_bytes), memory.context);
  }
  if (memory.available_bytes) {
    text += fmt::format(": {} {}", *memory.fits() ? "fits in" : "does not fit in",
                        human_bytes(*memory.available_bytes));
  }
  return text + "\n";
}

void print_text(const JudgedPlan& judged) {
  const Target& target = judged.plan.target;
  std::string text = fmt::format(
      "{}{}\n", target.name(),
      target.is_cuda() ? fmt::format(" ({})", get_cuda_facts(target).chips) : std::string());
  Table table({{"format"},
               {"scales"},
               {"columns", Align::kRight},
               {"tensors", Align::kRight},
               {"size", Align::kRight},
               {"kernels", Align::kRight},
               {"lowering"},
               {"instructions per 4", Align::kRight}});
  for (const TensorGroup& group : judged.plan.groups) {
    const int cost = group.lowering.instructions_per_4;
    table.add_row({std::string(get_format(group.format).name),
                   group.scale ? scale_grid_name(group.scale) : "", fmt::format("{}", group.cols),
                   fmt::format("{}", group.tensors.size()), human_bytes(group.bytes),
                   fmt::format("{}", group.kernels.size()), group.lowering.summary,
                   cost > 0 ? fmt::format("{}", cost) : ""});
  }
  if (!table.empty()) text += table.to_text(2);
  std::map<std::string, std::size_t> skipped_by_reason;
  for (const SkippedTensor& tensor : judged.plan.skipped) ++skipped_by_reason[tensor.reason];
  for (const auto& [reason, count] : skipped_by_reason) {
    text += fmt::format("  {} without kernels: {}\n", counted(count, "tensor"), reason);
  }
  text += "  " + memory_line(judged.memory);
  text += fmt::format("  verdict  {}: {}\n", verdict_name(judged.verdict.verdict),
                      judged.verdict.reason);
  for (const std::string& advice : judged.verdict.advice) {
    text += fmt::format("  advice   {}\n", advice);
  }
  print(text);
}

}  // namespace

int run_plan(const Arguments& arguments) {
  SubjectOptions subject_options;
  CommonOptions common;
  std::string memory_text;
  std::int64_t context = kDefaultContext;
  ArgumentParser parser(
      {"plan MODEL [options]  |  plan --format F --shape RxC [options]",
       "Says which kernels a model (or one tensor of format F) needs on each target, how each "
       "format\n"
       "is converted there and at what cost, whether it fits, and what to do about it. Works "
       "without\n"
       "a GPU or a compiler, for any target. Reads the header only.\n",
       exit_code_help("planned", "it does not fit",
                      "the model is missing, damaged or something else"),
       "ktjit plan --format fp8e4nv --shape 4096x14336 --scale-block 128x128 --target sm_86"});
  subject_options.add_model(parser);
  subject_options.add_description(parser);
  common.add_targets(parser);
  parser.add_options()("memory", po::value(&memory_text)->value_name("SIZE"),
                       "memory to fit in, such as 24G (default: the device's, if the target is "
                       "this machine's)")(
      "context", po::value(&context)->value_name("N"),
      "tokens of context to keep keys and values for (default: 4096)");
  common.add_json(parser);
  common.add_machine(parser);
  if (!parser.parse(arguments)) return kDone;
  if (context < 1) throw UsageError(fmt::format("--context is {}", context), "give 1 or more");

  const Subject subject(subject_options);
  Toolchain toolchain = common.make_toolchain();
  MemoryNeed memory;
  memory.context = context;
  memory.kv_cache_bytes = kv_cache_bytes(subject.model(), context);
  if (!memory_text.empty()) memory.available_bytes = parse_bytes("--memory", memory_text);
  std::vector<Target> targets;
  if (common.targets.empty()) {
    const Place place = choose_place(toolchain, "", "");
    targets.push_back(place.target);
    if (!memory.available_bytes) memory.available_bytes = place.device->total_memory_bytes();
  } else {
    targets = choose_targets(toolchain, common.targets);
  }

  bool all_fit = true;
  Json documents = Json::array();
  if (!common.json) print(subject.title() + "\n");
  for (const Target& target : targets) {
    const JudgedPlan judged = judge_target(subject.model(), target, memory);
    all_fit = all_fit && judged.memory.fits() != false;
    if (common.json) {
      documents.push_back(to_json(judged));
    } else {
      print("\n");
      print_text(judged);
    }
  }
  if (common.json) print_json({{"model", subject.title()}, {"targets", documents}});
  return all_fit ? kDone : kFailed;
}

}  // namespace ktjit::cli
