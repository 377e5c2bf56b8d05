#include "jit/plan_report.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/prepared_layout.h"

namespace ktjit {
namespace {

using codegen::LoweringKind;
using model::TensorInfo;

std::uint64_t bytes_with_scales(const TensorInfo& tensor) {
  return tensor.bytes() + tensor.scale_data.size();
}

bool is_fp8(FormatId format) { return get_format(format).family == FormatFamily::kFp8; }

std::string_view name_of(FormatId format) { return get_format(format).name; }

std::string gib(std::uint64_t bytes) {
  constexpr double kMiB = 0x1p20;
  constexpr double kGiB = 0x1p30;
  const auto value = static_cast<double>(bytes);
  return value < kGiB ? fmt::format("{:.1f} MiB", value / kMiB)
                      : fmt::format("{:.1f} GiB", value / kGiB);
}

/// The tensors that the plan's matvec reads as prepared weights.
std::set<const TensorInfo*> prepared_tensors(const Plan& plan) {
  std::set<const TensorInfo*> tensors;
  for (const TensorGroup& group : plan.groups) {
    if (group.prepared_bytes == 0) continue;
    for (const TensorInfo* tensor : group.tensors) {
      if (product_layout(group, *tensor) != LayoutKind::kNative) tensors.insert(tensor);
    }
  }
  return tensors;
}

/// What a token reads, by format and layout. `format_of` may say that a tensor has another format.
template <class FormatOf>
std::vector<WeightUse> uses_of(const ModelFacts& facts, const Plan& plan,
                               const std::vector<double>& shares, FormatOf format_of) {
  std::map<std::pair<FormatId, bool>, WeightUse> uses;
  const auto& tensors = facts.subject.tensors();
  const std::set<const TensorInfo*> prepared_ones = prepared_tensors(plan);
  for (std::size_t at = 0; at < tensors.size(); ++at) {
    const FormatId format = format_of(tensors[at]);
    const TensorInfo& tensor = tensors[at];
    const bool prepared = format == tensor.format && prepared_ones.contains(&tensor);
    const auto bytes = prepared ? prepared_bytes(tensor, rearranged_layout(plan.target))
                       : format == tensor.format ? bytes_with_scales(tensor)
                                                 : converted_bytes(tensor, format);
    WeightUse& use = uses[{format, prepared}];
    use.format = format;
    use.prepared = prepared;
    use.weights += shares[at] * static_cast<double>(tensors[at].elements());
    use.bytes += shares[at] * static_cast<double>(bytes);
  }
  std::vector<WeightUse> result;
  for (const auto& [key, use] : uses) result.push_back(use);
  return result;
}

FormatId own_format(const TensorInfo& tensor) { return tensor.format; }

std::vector<FormatCost> find_costs(const Plan& plan, const GpuCard* card) {
  struct Sum {
    double bytes = 0;
    double weights = 0;
  };
  std::map<FormatId, Sum> sums;
  for (const TensorGroup& group : plan.groups) {
    for (const TensorInfo* tensor : group.tensors) {
      sums[group.format].bytes += static_cast<double>(bytes_with_scales(*tensor));
      sums[group.format].weights += static_cast<double>(tensor->elements());
    }
  }
  std::vector<FormatCost> costs;
  for (const TensorGroup& group : plan.groups) {
    if (std::ranges::any_of(costs, [&](const FormatCost& c) { return c.format == group.format; }))
      continue;
    FormatCost cost;
    cost.format = group.format;
    cost.bytes_per_weight = sums[group.format].bytes / sums[group.format].weights;
    if (plan.target.is_cuda() && group.matvec_layout == LayoutKind::kNative)
      cost.instructions_per_weight = instructions_per_weight(group.lowering);
    if (card != nullptr) cost.budget_per_weight = issue_budget(*card, cost.bytes_per_weight);
    costs.push_back(cost);
  }
  return costs;
}

/// Fills in speed and tokens per second, or why there are none.
void estimate_speed(const ModelFacts& facts, PlanReport& report) {
  const PlanPlace& place = report.place;
  const auto shares = facts.shares_read();
  if (place.target.is_cpu()) {
    report.no_speed_reason =
        "a CPU's memory bandwidth is not known in advance; `ktjit run` measures it";
  } else if (place.card == nullptr) {
    report.no_speed_reason = "the card is not known; name one with --card";
  } else if (!shares) {
    report.no_speed_reason = "the model doesn't tell how many of its experts a token uses";
  } else {
    const auto kv_bytes = static_cast<double>(report.memory.kv_cache.value_or(0));
    report.speed = estimate_decode(uses_of(facts, report.plan, *shares, own_format), kv_bytes,
                                   *place.card, place.target);
    if (report.speed->weight_bytes == 0) {
      report.no_speed_reason = "it has no weights";
      report.speed.reset();
    } else if (!facts.is_language_model()) {
      report.no_speed_reason = "the metadata names no layers";
    } else {
      report.tokens_per_second = 1 / report.speed->memory_seconds;
      report.tokens_per_second_bound = 1 / report.speed->seconds;
    }
  }
}

std::optional<ExpertsOnCpu> place_experts_on_cpu(const ModelFacts& facts, const MemoryNeed& memory,
                                                 const Target& target) {
  if (facts.expert_bytes == 0 || target.is_cpu()) return std::nullopt;
  ExpertsOnCpu result;
  result.host_bytes = facts.expert_bytes;
  result.device_bytes = memory.total() - facts.expert_bytes;
  if (memory.available) result.fits = result.device_bytes <= *memory.available;
  if (const auto shares = facts.shares_read()) {
    double bytes = 0;
    for (std::size_t at = 0; at < shares->size(); ++at) {
      if (facts.roles[at] == TensorRole::kExpert)
        bytes +=
            (*shares)[at] * static_cast<double>(bytes_with_scales(facts.subject.tensors()[at]));
    }
    result.host_bytes_per_token = bytes;
  }
  return result;
}

/// What a conversion to the format means, in one clause.
std::string_view note_on(FormatId format, bool kept) {
  if (kept) return "as it is, exact";
  switch (format) {
    case FormatId::kFp8E4M3:
      return "3 mantissa bits, 448 at most";
    case FormatId::kFp8E5M2:
      return "2 mantissa bits; cheap to convert";
    case FormatId::kFp8E4B15:
      return "1.75 at most, no NaN; e4m3's codes, scales x 256";
    case FormatId::kBF16:
      return "7 mantissa bits, twice the bytes";
    case FormatId::kF16:
      return "10 mantissa bits, twice the bytes";
    case FormatId::kQ8_0:
      return "8-bit integers, a scale for 32";
    default:
      KTJIT_UNREACHABLE("an alternative to FP8");
  }
}

Alternative make_alternative(const ModelFacts& facts, const PlanReport& report, FormatId format) {
  Alternative result;
  result.format = format;
  result.memory_bytes = report.memory.total();
  std::uint64_t fp8_tensors = 0;
  std::uint64_t of_this_format = 0;
  const auto format_of = [&](const TensorInfo& tensor) {
    return is_fp8(tensor.format) && can_convert(tensor, format) ? format : tensor.format;
  };
  for (const TensorInfo& tensor : facts.subject.tensors()) {
    if (!is_fp8(tensor.format)) continue;
    ++fp8_tensors;
    if (tensor.format == format) ++of_this_format;
    if (!can_convert(tensor, format)) ++result.unconverted;
    if (format_of(tensor) != tensor.format) {
      result.memory_bytes -= bytes_with_scales(tensor);
      result.memory_bytes += converted_bytes(tensor, format);
    }
  }
  result.kept = of_this_format == fp8_tensors;
  if (report.memory.available) result.fits = result.memory_bytes <= *report.memory.available;
  if (report.speed) {
    const DecodeSpeed speed =
        estimate_decode(uses_of(facts, report.plan, *facts.shares_read(), format_of),
                        report.speed->kv_bytes, *report.place.card, report.place.target);
    result.seconds = speed.seconds;
    if (report.tokens_per_second) result.tokens_per_second = 1 / speed.seconds;
  }
  const auto error = std::ranges::find(facts.errors, format, &ConversionError::format);
  if (result.kept) {
    result.rms_error = 0;
    result.max_error = 0;
  } else if (error != facts.errors.end()) {
    result.rms_error = error->rms;
    result.max_error = error->max;
  }
  result.note = note_on(format, result.kept);
  if (result.unconverted > 0) {
    result.note += fmt::format("; {} of {} tensors can't", result.unconverted, fp8_tensors);
  }
  return result;
}

/// What stays as it is first, then the others in the order of the table.
std::vector<Alternative> find_alternatives(const ModelFacts& facts, const PlanReport& report) {
  std::vector<Alternative> result;
  const bool has_fp8 = std::ranges::any_of(
      report.plan.groups, [](const TensorGroup& group) { return is_fp8(group.format); });
  if (!has_fp8) return result;
  for (const FormatId format : fp8_alternatives())
    result.push_back(make_alternative(facts, report, format));
  std::ranges::stable_partition(result, [](const Alternative& a) { return a.kept; });
  return result;
}

/// "A40, RTX A6000": cards that run the target's code and have the memory, three at most.
std::string larger_cards(const PlanReport& report) {
  std::vector<std::string> names;
  for (const GpuCard& card : all_gpu_cards()) {
    if (card.sm != report.place.target.sm || card.memory_bytes() < report.memory.total()) continue;
    if (names.size() < 3) names.push_back(fmt::format("{} ({} GiB)", card.name, card.memory_gib));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

/// Bytes of the model if every matrix with more bits than q4_K had it.
std::uint64_t bytes_as_q4_k(const ModelFacts& facts) {
  std::uint64_t bytes = 0;
  const Format& q4_k = get_format(FormatId::kQ4_K);
  for (const TensorInfo& tensor : facts.subject.tensors()) {
    const bool possible = tensor.n_dims >= 2 && tensor.cols() % q4_k.block_elems == 0 &&
                          get_format(tensor.format).bits_per_element() > q4_k.bits_per_element();
    bytes += possible ? static_cast<std::uint64_t>(tensor.rows()) *
                            model::row_bytes(FormatId::kQ4_K, tensor.cols())
                      : bytes_with_scales(tensor);
  }
  return bytes;
}

std::string where(const PlanPlace& place) {
  if (place.card != nullptr) return fmt::format("the {}", place.card->name);
  return place.target.name();
}

void advise_on_memory(const ModelFacts& facts, const PlanReport& report,
                      std::vector<std::string>& advice) {
  const MemoryNeed& memory = report.memory;
  const std::uint64_t available = *memory.available;
  const std::uint64_t without_cache = memory.total() - memory.kv_cache.value_or(0);
  if (without_cache <= available) {
    const auto context = longest_context(facts.shape.kv_cache, available - without_cache);
    if (context && *context > 0)
      advice.push_back(
          fmt::format("a context of {} tokens fits: --context {}", *context, *context));
  }
  if (report.experts_on_cpu) {
    const ExpertsOnCpu& experts = *report.experts_on_cpu;
    std::string text = fmt::format(
        "routed experts in host memory, as KTransformers does: {} stay on the GPU{}, {} go to the "
        "host",
        gib(experts.device_bytes),
        !experts.fits   ? ""
        : *experts.fits ? " and fit"
                        : " and still don't fit",
        gib(experts.host_bytes));
    if (experts.host_bytes_per_token) {
      text += fmt::format(
          ", of which a token reads {}: {:.1f} tokens/s for each 100 GB/s of the "
          "host's bandwidth",
          gib(static_cast<std::uint64_t>(*experts.host_bytes_per_token)),
          100e9 / *experts.host_bytes_per_token);
    }
    advice.push_back(std::move(text));
  }
  for (const Alternative& other : report.alternatives) {
    if (!other.kept && other.fits == true && other.memory_bytes < memory.total())
      advice.push_back(fmt::format("as {} it takes {} and fits", name_of(other.format),
                                   gib(other.memory_bytes)));
  }
  const bool is_whole = memory.weights == facts.weight_bytes;
  const std::uint64_t q4_k = memory.total() - memory.weights - memory.scales + bytes_as_q4_k(facts);
  if (is_whole && q4_k <= available)
    advice.push_back(
        fmt::format("as q4_K (4.5 bits a weight, lossy) it takes {} and fits", gib(q4_k)));
  const GpuCard* card = report.place.card;
  const bool card_is_full = card != nullptr && available == card->memory_bytes();
  if (const std::string cards = larger_cards(report); card_is_full && !cards.empty())
    advice.push_back(
        fmt::format("cards of {} that hold it: {}", report.place.target.name(), cards));
  if (advice.empty())
    advice.push_back("take a model with fewer bits per weight, or keep part of it in host memory");
}

/// "q4_K 7.5 instructions a weight for 3.9 (1.7 times slower)".
std::string slow_text(const FormatCost& cost) {
  return fmt::format("{} {:.1f} instructions a weight for {:.1f} ({:.1f} times slower)",
                     name_of(cost.format), *cost.instructions_per_weight, *cost.budget_per_weight,
                     *cost.times_slower());
}

void judge_speed(PlanReport& report) {
  TargetVerdict& verdict = report.verdict;
  std::vector<std::string> slow;
  std::vector<std::string> unknown;
  double largest_use = 0;
  for (const FormatCost& cost : report.costs) {
    if (cost.times_slower()) slow.push_back(slow_text(cost));
    const bool prepared = std::ranges::any_of(report.plan.groups, [&](const TensorGroup& group) {
      return group.format == cost.format && group.matvec_layout != LayoutKind::kNative;
    });
    if (!cost.instructions_per_weight) {
      unknown.push_back(fmt::format("{}{}", name_of(cost.format), prepared ? " (prepared)" : ""));
    }
    if (cost.instructions_per_weight && cost.budget_per_weight)
      largest_use = std::max(largest_use, *cost.instructions_per_weight / *cost.budget_per_weight);
  }
  if (report.place.card == nullptr) return;
  // A few slow tensors that take a twentieth of the time make no slow model.
  constexpr double kNoticeable = 1.05;
  const bool is_slow =
      report.speed && report.speed->seconds > kNoticeable * report.speed->memory_seconds;
  if (is_slow && verdict.verdict == Verdict::kOk) verdict.verdict = Verdict::kSlow;
  if (is_slow && !slow.empty()) {
    verdict.reason += fmt::format(
        "; but converting takes more instructions than {} issues while its memory delivers the "
        "weights: {}",
        where(report.place), fmt::join(slow, ", "));
  } else if (largest_use > 0) {
    verdict.reason += fmt::format(
        "; converting takes at most {:.0f} % of the instructions that {} issues while its memory "
        "delivers the weights",
        100 * largest_use, where(report.place));
  }
  if (!unknown.empty()) {
    verdict.reason +=
        fmt::format("; the conversion's cost of {} is not counted", fmt::join(unknown, ", "));
  }
}

void judge_memory(const ModelFacts& facts, PlanReport& report) {
  if (report.memory.fits() != false) return;
  TargetVerdict& verdict = report.verdict;
  verdict.verdict = Verdict::kNo;
  verdict.reason = fmt::format("it needs {} of memory and has {}; {}", gib(report.memory.total()),
                               gib(*report.memory.available), verdict.reason);
  advise_on_memory(facts, report, verdict.advice);
}

/// For FP8 that is kept: why, and that nothing else is better.
void advise_on_fp8(PlanReport& report) {
  if (!converts_fp8_in_software(report.plan) || report.alternatives.empty()) return;
  const Alternative& kept = report.alternatives.front();
  if (!kept.kept || kept.fits == false) return;
  std::string text = fmt::format("keep {}: nothing is lost", name_of(kept.format));
  if (kept.seconds) {
    constexpr double kWorthIt = 1.05;
    const auto fastest = std::ranges::min_element(
        report.alternatives, {}, [](const Alternative& other) { return *other.seconds; });
    const double times = *kept.seconds / *fastest->seconds;
    text += times > kWorthIt ? fmt::format("; {} would be {:.1f} times faster, see its error",
                                           name_of(fastest->format), times)
                             : std::string(", and no other format is faster here");
  }
  report.verdict.advice.push_back(std::move(text));
}

}  // namespace

ModelFacts::ModelFacts(const model::Model& opened, bool measure_errors)
    : subject(opened), shape(read_model_shape(opened)), roles(roles_of(opened, shape)) {
  bool has_fp8 = false;
  for (std::size_t at = 0; at < roles.size(); ++at) {
    const TensorInfo& tensor = subject.tensors()[at];
    weight_bytes += tensor.bytes();
    scale_bytes += tensor.scale_data.size();
    if (roles[at] == TensorRole::kExpert) expert_bytes += bytes_with_scales(tensor);
    has_fp8 = has_fp8 || is_fp8(tensor.format);
  }
  if (is_language_model()) {
    constexpr std::uint64_t kF32Bytes = 4;
    const ActivationWidth width = activation_width(subject, shape);
    activation_bytes = kF32Bytes * (2 * kPromptChunk * width.layer + width.logits);
  }
  if (has_fp8 && measure_errors) errors = measure_conversion_errors(subject, fp8_alternatives());
}

std::optional<std::vector<double>> ModelFacts::shares_read() const {
  std::vector<double> shares;
  for (std::size_t at = 0; at < roles.size(); ++at) {
    switch (roles[at]) {
      case TensorRole::kDense:
        shares.push_back(1);
        break;
      case TensorRole::kLookup:
        shares.push_back(
            1 / static_cast<double>(std::max<std::int64_t>(1, subject.tensors()[at].rows())));
        break;
      case TensorRole::kExpert:
        if (!shape.experts || !shape.experts_used) return std::nullopt;
        shares.push_back(std::min(
            1.0, static_cast<double>(*shape.experts_used) / static_cast<double>(*shape.experts)));
        break;
      case TensorRole::kNotDecoded:
        shares.push_back(0);
        break;
    }
  }
  return shares;
}

std::optional<double> FormatCost::times_slower() const {
  if (!instructions_per_weight || !budget_per_weight) return std::nullopt;
  // The budget is of the data sheet's bandwidth, of which a kernel gets a part.
  const double times = *instructions_per_weight / (*budget_per_weight / kAttainableFraction);
  return times > 1 ? std::optional(times) : std::nullopt;
}

bool converts_fp8_in_software(const Plan& plan) {
  return std::ranges::any_of(plan.groups, [](const TensorGroup& group) {
    return is_fp8(group.format) && group.lowering.kind == LoweringKind::kSoftware;
  });
}

namespace {

/// What does not depend on whether there are alternatives: plan, memory, costs.
PlanReport begin_report(const ModelFacts& facts, const PlanPlace& place, const PlanPart& part) {
  PlanReport report;
  report.plan = make_plan(part.tensors, place.target);
  report.place = place;
  for (const PlannedTensor& planned : part.tensors) {
    report.memory.weights += planned.tensor->bytes();
    report.memory.scales += planned.tensor->scale_data.size();
  }
  report.memory.prepared_extra = report.plan.extra_bytes_of_prepared();
  if (part.has_cache) {
    report.memory.kv_cache = kv_cache_bytes(facts.shape.kv_cache, place.context);
    report.memory.activations = facts.activation_bytes;
  }
  if (place.target.is_cuda() && facts.is_language_model()) report.memory.driver = kDriverBytes;
  report.memory.available = place.available_bytes;
  report.costs = find_costs(report.plan, place.card);
  if (part.is_whole) {
    estimate_speed(facts, report);
    report.experts_on_cpu = place_experts_on_cpu(facts, report.memory, place.target);
  } else {
    report.no_speed_reason = "rules keep a part of the model on another device";
  }
  return report;
}

void finish_report(const ModelFacts& facts, PlanReport& report) {
  report.verdict = judge(report.plan);
  judge_speed(report);
  judge_memory(facts, report);
  advise_on_fp8(report);
}

}  // namespace

PlanReport make_report(const ModelFacts& facts, const PlanPlace& place, LayoutKind matvec_layout) {
  PlanReport report = begin_report(facts, place, {plan_all(facts.subject, matvec_layout)});
  report.alternatives = find_alternatives(facts, report);
  finish_report(facts, report);
  return report;
}

PlanReport make_report(const ModelFacts& facts, const PlanPlace& place, const PlanPart& part) {
  PlanReport report = begin_report(facts, place, part);
  finish_report(facts, report);
  return report;
}

}  // namespace ktjit
