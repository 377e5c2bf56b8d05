// Rules: an ordered list that says what becomes of each tensor of a model: format, scales, activations,
// device, layout. Written in YAML; docs/RULES.md is the page for its authors.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/tensor_match.h"

#include "core/format.h"
#include "core/kernel_spec.h"
#include "model/model.h"

namespace ktjit::rules {

/// How matvec shall read a tensor's weights: prepared where there is a kernel for it, with kAuto.
enum class LayoutChoice { kNative, kPrepared, kAuto };
/// "native", "prepared", "auto".
std::string_view layout_choice_name(LayoutChoice layout);

/// What a rule says of formats.
struct FormatSetting {
  /// Nothing: `keep`. Of FP8 formats with the scales that were given, else kUsualFp8Scale.
  std::optional<WeightFormat> format;
  /// Whether scales were given, or belong to the format. If not, a tensor that has the element format
  /// stays as it is, whatever its scales.
  bool names_scale = false;

  bool operator==(const FormatSetting&) const = default;
};

struct Rule {
  int line = 0;           ///< where it begins in the file, from 1
  std::string label;      ///< for messages; may be empty
  bool optional = false;  ///< may match nothing
  TensorMatch match;
  // What it sets; at least one.
  std::optional<FormatSetting> format;
  std::optional<ActivationPolicy> activation;
  std::optional<std::string> device;  ///< "cuda", "cuda:1", "cpu", "sim"
  std::optional<LayoutChoice> layout;
};

/// What the rules say of one tensor. What no rule sets is left to the command.
struct TensorChoice {
  /// The format to convert to, with its scales; nothing: the tensor stays as it is, which it does too
  /// if it has the format already.
  std::optional<WeightFormat> convert_to;
  std::optional<ActivationPolicy> activation;
  std::optional<std::string> device;
  std::optional<LayoutChoice> layout;
  // The rules that said so, as places in Rules::rules(); nothing where none did.
  std::optional<std::size_t> format_rule;
  std::optional<std::size_t> activation_rule;
  std::optional<std::size_t> device_rule;
  std::optional<std::size_t> layout_rule;
};

/// For each thing that can be set, the first rule counts that matches the tensor and sets it.
class Rules {
 public:
  /// Errors: InputError with file, line, rule, key and value for what is no valid rule.
  static Rules read(const std::filesystem::path& path);
  /// `name` stands for the file in messages. Errors: as read.
  static Rules parse(std::string_view text, const std::string& name);

  const std::vector<Rule>& rules() const { return rules_; }
  /// "rules.yaml:12: rule 3 'experts'", for messages.
  std::string describe(std::size_t rule) const;

  /// Errors: InputError with the rule and the tensor, if the tensor can't have the format.
  TensorChoice choose(const model::TensorInfo& tensor) const;

  /// Checks that each rule matches some tensor (unless it is optional), and settles something for one
  /// that earlier rules left open; and that every tensor can have the format chosen for it.
  /// Errors: InputError that lists all that is wrong, each with file, line and rule.
  void check(const model::Model& model) const;

 private:
  Rules(std::string name, std::vector<Rule> rules)
      : name_(std::move(name)), rules_(std::move(rules)) {}

  std::string name_;
  std::vector<Rule> rules_;
};

}  // namespace ktjit::rules
