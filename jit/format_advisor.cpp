// Greedy: at each step the change that loses least for a byte; then steps back that still fit.
#include "jit/format_advisor.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "rules/conversion.h"
#include "rules/name_group.h"
#include "rules/rules.h"

#include "core/error.h"
#include "jit/ruled_model.h"
#include "jit/tensor_sample.h"

namespace ktjit {
namespace {

using model::TensorInfo;
using rules::NameGroup;

/// What a kind of tensors may become.
struct Option {
  std::optional<WeightFormat> format;  ///< nothing: stays
  std::uint64_t bytes = 0;             ///< of the whole kind
  double squares = 0;                  ///< number of weights * squared relative error
};

/// Tensors that share a choice.
struct Kind {
  std::string glob;   ///< the names, numbers between dots as *
  std::string regex;  ///< the same, exactly
  FormatId format = FormatId::kF32;
  NameGroup group = NameGroup::kOther;
  std::vector<const TensorInfo*> tensors;
  double weights = 0;
  std::vector<Option> options;  ///< the first: stays
  std::size_t chosen = 0;

  const Option& choice() const { return options[chosen]; }
  double relative_error(const Option& option) const {
    return weights > 0 ? std::sqrt(option.squares / weights) : 0;
  }
};

bool is_number(std::string_view text) {
  return !text.empty() &&
         std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c); });
}

/// "blk.3.ffn_up.weight" as a glob or as a regular expression in which any number may stand for the 3.
std::string pattern_of(std::string_view name, bool as_regex) {
  constexpr std::string_view kSpecial = R"(\^$.|?*+()[]{})";
  std::string pattern = as_regex ? "^" : "";
  const auto literal = [&](char c) {
    if (as_regex ? kSpecial.find(c) != kSpecial.npos
                 : std::string_view("*?[\\").find(c) != std::string_view::npos)
      pattern += '\\';
    pattern += c;
  };
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    if (is_number(part)) {
      pattern += as_regex ? "[0-9]+" : "*";
    } else {
      for (const char c : part) literal(c);
    }
    if (end < name.size()) literal('.');
    at = end + 1;
  }
  return as_regex ? pattern + "$" : pattern;
}

std::uint64_t bytes_of(const TensorInfo& tensor) {
  return tensor.bytes() + tensor.scale_data.size();
}

std::vector<WeightFormat> candidates_of(NameGroup group) {
  std::vector<WeightFormat> formats = {{FormatId::kBF16, {}}, {FormatId::kF16, {}}};
  switch (group) {
    case NameGroup::kEmbedding:
    case NameGroup::kOutput:
      return formats;
    case NameGroup::kAttention:
    case NameGroup::kFfn:
    case NameGroup::kExperts:
    case NameGroup::kSharedExperts:
      break;
    case NameGroup::kNorm:
    case NameGroup::kRouter:
    case NameGroup::kBias:
    case NameGroup::kOther:
      return {};
  }
  formats.push_back({FormatId::kFp8E4M3, rules::kUsualFp8Scale});
  formats.push_back({FormatId::kQ8_0, {}});
  for (const FormatId format : {FormatId::kMxfp6E2M3, FormatId::kNvfp4, FormatId::kMxfp4})
    formats.push_back({format, fixed_scale_grid(format)});
  formats.push_back({FormatId::kQ4_0, {}});
  return formats;
}

std::vector<Kind> sort_into_kinds(const model::Model& model) {
  std::map<std::pair<std::string, FormatId>, Kind> kinds;
  for (const TensorInfo& tensor : model.tensors()) {
    if (tensor.elements() == 0) continue;
    const std::string regex = pattern_of(tensor.name, true);
    Kind& kind = kinds[{regex, tensor.format}];
    if (kind.tensors.empty()) {
      kind.regex = regex;
      kind.glob = pattern_of(tensor.name, false);
      kind.format = tensor.format;
      kind.group = rules::name_group_of(tensor);
    }
    kind.tensors.push_back(&tensor);
    kind.weights += static_cast<double>(tensor.elements());
  }
  std::vector<Kind> result;
  for (auto& [key, kind] : kinds) result.push_back(std::move(kind));
  return result;
}

/// Fills in what is smaller than the kind as it is, each with its measured error.
void measure_options(Kind& kind) {
  Option stays;
  for (const TensorInfo* tensor : kind.tensors) stays.bytes += bytes_of(*tensor);
  kind.options.push_back(stays);
  for (const WeightFormat& format : candidates_of(kind.group)) {
    const bool possible = std::ranges::all_of(kind.tensors, [&](const TensorInfo* tensor) {
      return rules::conversion_problem(*tensor, format).empty();
    });
    if (!possible || kind.format == format.id) continue;
    Option option{format, 0, 0};
    for (const TensorInfo* tensor : kind.tensors) {
      option.bytes += rules::converted_code_bytes(*tensor, format) +
                      rules::converted_scale_bytes(*tensor, format);
    }
    if (option.bytes >= stays.bytes) continue;
    option.squares = kind.weights * sample_error(kind.tensors, format).relative_squares();
    kind.options.push_back(option);
  }
}

class Search {
 public:
  explicit Search(std::vector<Kind> kinds) : kinds_(std::move(kinds)) {
    for (const Kind& kind : kinds_) weights_ += kind.weights;
  }

  std::vector<Kind>& kinds() { return kinds_; }
  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const Kind& kind : kinds_) sum += kind.choice().bytes;
    return sum;
  }
  double error() const { return error_of(squares()); }

  /// Converts until at most `limit` bytes are left, or nothing more can be. Changes by which the error would
  /// exceed `most_error` are left out.
  void shrink(std::uint64_t limit, double most_error) {
    while (bytes() > limit) {
      Kind* best = nullptr;
      std::size_t best_option = 0;
      double best_loss = 0;
      const double now = squares();
      for (Kind& kind : kinds_) {
        for (std::size_t at = 0; at < kind.options.size(); ++at) {
          const Option& option = kind.options[at];
          if (option.bytes >= kind.choice().bytes) continue;
          const double more = option.squares - kind.choice().squares;
          if (error_of(now + more) > most_error) continue;
          const double loss = more / static_cast<double>(kind.choice().bytes - option.bytes);
          if (best != nullptr && loss >= best_loss) continue;
          best = &kind;
          best_option = at;
          best_loss = loss;
        }
      }
      if (best == nullptr) return;
      best->chosen = best_option;
    }
    undo_what_fits(limit);
  }

 private:
  double squares() const {
    double sum = 0;
    for (const Kind& kind : kinds_) sum += kind.choice().squares;
    return sum;
  }
  double error_of(double squares) const {
    return weights_ > 0 ? std::sqrt(std::max(0.0, squares) / weights_) : 0;
  }

  /// The last step may have saved more than was needed: gives it back where most is gained.
  void undo_what_fits(std::uint64_t limit) {
    for (;;) {
      const std::uint64_t room = limit - bytes();
      Kind* best = nullptr;
      std::size_t best_option = 0;
      double best_gain = 0;
      for (Kind& kind : kinds_) {
        for (std::size_t at = 0; at < kind.options.size(); ++at) {
          const Option& option = kind.options[at];
          const double gain = kind.choice().squares - option.squares;
          if (gain <= best_gain || option.bytes > kind.choice().bytes + room) continue;
          best = &kind;
          best_option = at;
          best_gain = gain;
        }
      }
      if (best == nullptr) return;
      best->chosen = best_option;
    }
  }

  std::vector<Kind> kinds_;
  double weights_ = 0;
};

std::string mib(std::uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / 0x1p20);
}

/// A text of YAML in single quotes, in which nothing but the quote is special.
std::string yaml_quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) {
    result += c;
    if (c == '\'') result += c;
  }
  return result + "'";
}

/// `format` and `scale` lines.
std::string format_lines(const WeightFormat& format) {
  std::string lines = fmt::format("    format: {}\n", get_format(format.id).name);
  if (format.scale && !fixed_scale_grid(format.id))
    lines += fmt::format("    scale: {}\n", scale_grid_name(format.scale));
  return lines;
}

/// The rules, most critical first. `exact`: by regular expressions, where globs would match too much.
std::string write_rules(const std::vector<Kind>& kinds, const std::string& heading, bool exact) {
  std::string text = heading + "\nrules:\n";
  std::vector<std::string_view> critical;
  for (const NameGroup group : rules::all_name_groups()) {
    const bool is_there =
        std::ranges::any_of(kinds, [&](const Kind& kind) { return kind.group == group; });
    if (is_there && candidates_of(group).empty()) critical.push_back(rules::name_group_name(group));
  }
  if (!critical.empty()) {
    text += fmt::format(
        "  # Few weights on which all others depend, or of unknown use: they stay as they are.\n"
        "  - label: critical\n    match: {{group: [{}]}}\n    format: keep\n",
        fmt::join(critical, ", "));
  }
  // Kinds that become the same from the same are one rule.
  std::map<std::pair<std::string, FormatId>, std::vector<const Kind*>> by_format;
  bool some_stay = false;
  for (const Kind& kind : kinds) {
    if (candidates_of(kind.group).empty()) continue;
    if (kind.choice().format) {
      by_format[{format_lines(*kind.choice().format), kind.format}].push_back(&kind);
    } else {
      some_stay = true;
    }
  }
  for (const auto& [key, of_rule] : by_format) {
    const auto& [lines, from] = key;
    const std::string_view from_name = get_format(from).name;
    text += fmt::format("  - label: {} to {}\n    match:\n      format: {}\n      {}:\n", from_name,
                        get_format(of_rule.front()->choice().format->id).name, from_name,
                        exact ? "regex" : "name");
    for (const Kind* kind : of_rule) {
      text +=
          fmt::format("        - {}  # {} -> {}, relative RMS error {:.1e}\n",
                      yaml_quoted(exact ? kind->regex : kind->glob), mib(kind->options[0].bytes),
                      mib(kind->choice().bytes), kind->relative_error(kind->choice()));
    }
    text += lines;
  }
  if (some_stay) {
    text +=
        "  # What is left stays: it would lose more for each byte saved, or can't be smaller.\n";
    for (const Kind& kind : kinds) {
      if (candidates_of(kind.group).empty() || kind.choice().format) continue;
      const auto least = std::ranges::min_element(kind.options.begin() + 1, kind.options.end(), {},
                                                  &Option::squares);
      text += fmt::format(
          "  #   {}: {} as {}{}\n", kind.glob, mib(kind.choice().bytes),
          get_format(kind.format).name,
          least == kind.options.end()
              ? std::string()
              : fmt::format(", relative RMS error {:.1e} as {}", kind.relative_error(*least),
                            get_format(least->format->id).name));
    }
    text += "  - label: the rest\n    match: all\n    format: keep\n";
  }
  return text;
}

/// Whether the rules choose what the kinds have.
bool says_the_same(const rules::Rules& rules, const std::vector<Kind>& kinds) {
  for (const Kind& kind : kinds) {
    for (const TensorInfo* tensor : kind.tensors) {
      if (rules.choose(*tensor).convert_to != kind.choice().format) return false;
    }
  }
  return true;
}

std::string why_not(Search& search, const std::vector<Kind>& untouched, std::uint64_t fixed_bytes,
                    std::uint64_t limit, std::uint64_t available, double budget) {
  Search within(untouched);
  within.shrink(0, budget);
  const std::uint64_t least_within = within.bytes() + fixed_bytes;
  const std::string other_memory = fmt::format("--memory {}M with an error of at most {:.2e}",
                                               (least_within + 0xfffff) >> 20, budget);
  if (search.bytes() > limit) {
    return fmt::format(
        "it can't be made to fit in {}: the smallest that formats make it is {}; the nearest that "
        "can be done: {}",
        mib(available), mib(search.bytes() + fixed_bytes), other_memory);
  }
  return fmt::format(
      "to fit in {} it needs an error of {:.2e}, which is more than the budget of {:.2e}; the "
      "nearest that can be done: --error {:.2e} with that memory, or {}",
      mib(available), search.error(), budget, search.error() * 1.005, other_memory);
}

}  // namespace

FormatAdvice advise_formats(const ModelFacts& facts, const PlanPlace& place, double error_budget) {
  if (!(error_budget >= 0) || std::isinf(error_budget))
    throw SpecError("error budget", fmt::format("{}", error_budget),
                    "a number from 0, such as 0.01");
  if (!place.available_bytes)
    throw SpecError("memory to fit in", "not known", "a size, such as 24G");
  const PlanReport as_it_is =
      make_report(facts, place, {plan_all(facts.subject, LayoutKind::kNative)});
  const std::uint64_t all = as_it_is.memory.total();
  const std::uint64_t fixed = all - as_it_is.memory.weights - as_it_is.memory.scales;
  const std::uint64_t available = *place.available_bytes;
  const std::uint64_t limit = available > fixed ? available - fixed : 0;

  std::vector<Kind> kinds = sort_into_kinds(facts.subject);
  for (Kind& kind : kinds) measure_options(kind);
  Search search(kinds);
  constexpr double kAnyError = 1e300;
  search.shrink(limit, kAnyError);
  FormatAdvice advice;
  advice.error = search.error();
  if (search.bytes() > limit || search.error() > error_budget) {
    advice.memory_bytes = search.bytes() + fixed;
    advice.problem = why_not(search, kinds, fixed, limit, available, error_budget);
    return advice;
  }

  const std::string heading = fmt::format(
      "# Formats by which the model fits in {} on {}, from 'ktjit plan --advise'.\n"
      "# Weights {} in place of {}; with keys and values for {} tokens, activations and driver "
      "{}.\n"
      "# Relative RMS error over all weights {:.2e} of at most {:.2e}, measured on a sample of "
      "them.\n",
      mib(available), place.target.name(), mib(search.bytes()),
      mib(as_it_is.memory.weights + as_it_is.memory.scales), place.context,
      mib(search.bytes() + fixed), search.error(), error_budget);
  for (const bool exact : {false, true}) {
    advice.rules_yaml = write_rules(search.kinds(), heading, exact);
    const rules::Rules rules = rules::Rules::parse(advice.rules_yaml, "the advised rules");
    if (!exact && !says_the_same(rules, search.kinds())) continue;
    KTJIT_CHECK(says_the_same(rules, search.kinds()));
    const RuledModel ruled(facts.subject, rules);
    const ModelFacts after(ruled.model(), false);
    const PlanReport report =
        make_report(after, place, {ruled.tensors_on({""}, LayoutKind::kNative, place.target)});
    KTJIT_CHECK(report.memory.fits() == true);
    advice.memory_bytes = report.memory.total();
    break;
  }
  return advice;
}

}  // namespace ktjit
