#include "rules/tensor_match.h"

#include <algorithm>
#include <fmt/format.h>
#include <fnmatch.h>
#include <functional>
#include <string_view>
#include <utility>

#include "rules/conversion.h"

#include "core/error.h"

namespace ktjit::rules {
namespace {

using model::TensorInfo;

// std::regex recurses over the text; no model's names come near.
constexpr std::size_t kLongestNameForPatterns = 1024;

bool is_found(const NamePattern& pattern, const std::string& name) {
  if (name.size() > kLongestNameForPatterns) {
    throw SpecError("tensor name",
                    fmt::format("{} bytes long ('{}...')", name.size(), name.substr(0, 40)),
                    fmt::format("{} bytes where rules have 'regex'", kLongestNameForPatterns));
  }
  return std::regex_search(name, pattern.expression);
}

bool is_in_any(const std::vector<Interval>& intervals, std::int64_t number) {
  return std::ranges::any_of(intervals,
                             [&](const Interval& interval) { return interval.has(number); });
}

struct Condition {
  std::string_view key;
  bool is_given;
  std::function<bool(const TensorInfo&)> holds;
};

std::vector<Condition> conditions_of(const TensorMatch& match) {
  return {
      {"name", !match.names.empty(),
       [&](const TensorInfo& tensor) {
         return std::ranges::any_of(match.names, [&](const std::string& glob) {
           return ::fnmatch(glob.c_str(), tensor.name.c_str(), 0) == 0;
         });
       }},
      {"regex", !match.patterns.empty(),
       [&](const TensorInfo& tensor) {
         return std::ranges::any_of(match.patterns, [&](const NamePattern& pattern) {
           return is_found(pattern, tensor.name);
         });
       }},
      {"group", !match.groups.empty(),
       [&](const TensorInfo& tensor) {
         return std::ranges::find(match.groups, name_group_of(tensor)) != match.groups.end();
       }},
      {"format", !match.formats.empty(),
       [&](const TensorInfo& tensor) {
         return std::ranges::any_of(
             match.formats, [&](const WeightFormat& format) { return has_format(tensor, format); });
       }},
      {"layers", !match.layers.empty(),
       [&](const TensorInfo& tensor) {
         const auto layer = layer_of(tensor.name);
         return layer && is_in_any(match.layers, *layer);
       }},
      {"rows", !match.rows.empty(),
       [&](const TensorInfo& tensor) { return is_in_any(match.rows, tensor.rows()); }},
      {"cols", !match.cols.empty(),
       [&](const TensorInfo& tensor) { return is_in_any(match.cols, tensor.cols()); }},
      {"cols_divisible_by", match.cols_divisible_by.has_value(),
       [&](const TensorInfo& tensor) { return tensor.cols() % *match.cols_divisible_by == 0; }},
  };
}

}  // namespace

bool TensorMatch::matches(const TensorInfo& tensor) const {
  return std::ranges::all_of(conditions_of(*this), [&](const Condition& condition) {
    return !condition.is_given || condition.holds(tensor);
  });
}

std::string TensorMatch::count_by_condition(const model::Model& model) const {
  std::vector<std::string> counts;
  for (const Condition& condition : conditions_of(*this)) {
    if (!condition.is_given) continue;
    const auto count = std::ranges::count_if(model.tensors(), condition.holds);
    counts.push_back(fmt::format("{}: {} tensor{}", condition.key, count, count == 1 ? "" : "s"));
  }
  return fmt::format("{}", fmt::join(counts, ", "));
}

}  // namespace ktjit::rules
