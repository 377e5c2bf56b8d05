// The conditions of a rule: which tensors it is about.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "rules/name_group.h"

#include "core/format.h"
#include "model/model.h"

namespace ktjit::rules {

/// Numbers from `first` to `last`, both included.
struct Interval {
  std::int64_t first = 0;
  std::int64_t last = std::numeric_limits<std::int64_t>::max();

  bool has(std::int64_t number) const { return first <= number && number <= last; }
};

/// A regular expression of ECMAScript, and its text.
struct NamePattern {
  std::string text;
  std::regex expression;
};

/// All conditions that are given hold; of a list one has to. An empty match holds for every tensor.
struct TensorMatch {
  std::vector<std::string> names;     ///< globs of the whole name: * ? [a-z], as in a shell
  std::vector<NamePattern> patterns;  ///< found anywhere in the name, unless they are anchored
  std::vector<NameGroup> groups;
  std::vector<WeightFormat> formats;  ///< of the tensor as it is; without scales, any have it
  std::vector<Interval> layers;       ///< tensors outside of layers have none
  std::vector<Interval> rows;         ///< of the tensor as a matrix [rows, cols]
  std::vector<Interval> cols;
  std::optional<std::int64_t> cols_divisible_by;

  bool matches(const model::TensorInfo& tensor) const;
  /// How many of the model's tensors each condition holds for, in words: "group: 10 tensors, layers:
  /// 0 tensors". Empty without conditions.
  std::string count_by_condition(const model::Model& model) const;
};

}  // namespace ktjit::rules
