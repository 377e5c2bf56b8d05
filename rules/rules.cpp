#include "rules/rules.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "rules/conversion.h"
#include "rules/rules_reader.h"

#include "core/error.h"

namespace ktjit::rules {
namespace {

using model::TensorInfo;

constexpr std::size_t kShownProblems = 20;

/// The problems found, each a line; many of them shortened.
std::string listed(std::vector<std::string> problems) {
  const std::size_t all = problems.size();
  if (all > kShownProblems) {
    problems.resize(kShownProblems);
    problems.push_back(fmt::format("and {} more", all - kShownProblems));
  }
  return fmt::format("{}", fmt::join(problems, "\n  "));
}

}  // namespace

std::string_view layout_choice_name(LayoutChoice layout) {
  switch (layout) {
    case LayoutChoice::kNative:
      return "native";
    case LayoutChoice::kPrepared:
      return "prepared";
    case LayoutChoice::kAuto:
      return "auto";
  }
  KTJIT_UNREACHABLE("a known layout choice");
}

Rules Rules::read(const std::filesystem::path& path) {
  return parse(read_rules_text(path), path.string());
}

Rules Rules::parse(std::string_view text, const std::string& name) {
  return {name, parse_rules(text, name)};
}

std::string Rules::describe(std::size_t rule) const {
  const Rule& which = rules_.at(rule);
  return fmt::format("{}:{}: rule {}{}", name_, which.line, rule + 1,
                     which.label.empty() ? "" : fmt::format(" '{}'", which.label));
}

TensorChoice Rules::choose(const TensorInfo& tensor) const {
  TensorChoice choice;
  const auto settle = [](auto& setting, std::optional<std::size_t>& by, const auto& given,
                         std::size_t rule) {
    if (by || !given) return;
    setting = *given;
    by = rule;
  };
  std::optional<FormatSetting> format;
  for (std::size_t at = 0; at < rules_.size(); ++at) {
    const Rule& rule = rules_[at];
    if (!rule.match.matches(tensor)) continue;
    settle(format, choice.format_rule, rule.format, at);
    settle(choice.activation, choice.activation_rule, rule.activation, at);
    settle(choice.device, choice.device_rule, rule.device, at);
    settle(choice.layout, choice.layout_rule, rule.layout, at);
  }
  if (!format || !format->format) return choice;
  const bool has_it = tensor.format == format->format->id &&
                      (!format->names_scale || tensor.scale_grid == format->format->scale);
  if (has_it) return choice;
  if (const std::string problem = conversion_problem(tensor, *format->format); !problem.empty()) {
    throw InputError(describe(*choice.format_rule),
                     fmt::format("tensor '{}' {}; a rule for it before this one, with 'format: "
                                 "keep', leaves it as it is",
                                 tensor.name, problem));
  }
  choice.convert_to = format->format;
  return choice;
}

void Rules::check(const model::Model& model) const {
  std::vector<std::size_t> matched(rules_.size(), 0);
  std::vector<bool> settles(rules_.size(), false);
  std::vector<std::string> problems;
  for (const TensorInfo& tensor : model.tensors()) {
    for (std::size_t at = 0; at < rules_.size(); ++at)
      matched[at] += rules_[at].match.matches(tensor) ? 1 : 0;
    try {
      const TensorChoice choice = choose(tensor);
      for (const auto& by :
           {choice.format_rule, choice.activation_rule, choice.device_rule, choice.layout_rule}) {
        if (by) settles[*by] = true;
      }
    } catch (const InputError& error) {
      problems.emplace_back(error.what());
    }
  }
  const bool all_chosen = problems.empty();
  for (std::size_t at = 0; at < rules_.size(); ++at) {
    if (matched[at] == 0 && !rules_[at].optional) {
      const std::string counts = rules_[at].match.count_by_condition(model);
      problems.push_back(fmt::format(
          "{}: matches none of the model's {} tensors{}; a rule with 'optional: true' may",
          describe(at), model.tensors().size(),
          counts.empty() ? "" : fmt::format(" (each condition alone: {})", counts)));
    } else if (all_chosen && matched[at] > 0 && !settles[at]) {
      problems.push_back(fmt::format(
          "{}: says nothing new: earlier rules have settled all that it sets for the {} tensor{} "
          "that it matches",
          describe(at), matched[at], matched[at] == 1 ? "" : "s"));
    }
  }
  if (problems.empty()) return;
  throw InputError(name_, problems.size() == 1
                              ? fmt::format("does not fit the model\n  {}", problems.front())
                              : fmt::format("does not fit the model, {} problems\n  {}",
                                            problems.size(), listed(problems)));
}

}  // namespace ktjit::rules
