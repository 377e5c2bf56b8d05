#include "rules/rules_reader.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <sstream>
#include <system_error>
#include <utility>
#include <yaml-cpp/yaml.h>

#include "rules/conversion.h"

#include "core/error.h"

namespace ktjit::rules {
namespace {

constexpr std::uintmax_t kLargestFile = std::uintmax_t{1} << 20;

/// Where a value stands, for messages.
struct Place {
  const std::string& file;
  std::string rule;  ///< "rule 3 'experts'", or empty outside of rules
  int line = 0;

  Place at(const YAML::Node& node) const {
    Place place = *this;
    if (node.Mark().line >= 0) place.line = node.Mark().line + 1;
    return place;
  }
  [[noreturn]] void fail(std::string_view problem) const {
    throw InputError(fmt::format("{}:{}{}{}", file, line, rule.empty() ? "" : ": ", rule), problem);
  }
  [[noreturn]] void refuse(std::string_view key, std::string_view value,
                           std::string_view expected) const {
    fail(fmt::format("{} is {}, expected {}", key, value, expected));
  }
};

/// A value as messages quote it.
std::string shown(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return fmt::format("'{}'", node.Scalar());
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a mapping";
    case YAML::NodeType::Null:
    case YAML::NodeType::Undefined:
      break;
  }
  return "empty";
}

/// One key of a mapping: what reads it.
struct Key {
  std::string_view name;
  std::function<void(const YAML::Node& value, const Place& place)> read;
};

/// Reads a mapping; refuses keys that are not among `keys`, and repeated ones.
void read_mapping(const YAML::Node& node, const Place& place, std::string_view what,
                  const std::vector<Key>& keys) {
  std::vector<std::string_view> names;
  for (const Key& key : keys) names.push_back(key.name);
  const std::string known = fmt::format("{}", fmt::join(names, ", "));
  if (!node.IsMap()) place.at(node).refuse(what, shown(node), "a mapping with keys of " + known);
  std::vector<std::string> seen;
  for (const auto& entry : node) {
    const Place here = place.at(entry.first);
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : shown(entry.first);
    const auto key = std::ranges::find(keys, name, &Key::name);
    if (key == keys.end())
      here.fail(fmt::format("{} has the key '{}', expected {}", what, name, known));
    if (std::ranges::find(seen, name) != seen.end())
      here.fail(fmt::format("{} has the key '{}' twice, expected once", what, name));
    seen.push_back(name);
    key->read(entry.second, entry.second.IsNull() ? here : place.at(entry.second));
  }
}

std::string read_text(const YAML::Node& node, const Place& place, std::string_view key,
                      std::string_view expected) {
  if (!node.IsScalar() || node.Scalar().empty()) place.refuse(key, shown(node), expected);
  return node.Scalar();
}

/// A scalar, or a list of some, each through `read`.
void read_each(const YAML::Node& node, const Place& place, std::string_view key,
               std::string_view expected,
               const std::function<void(const std::string& text, const Place& place)>& read) {
  if (node.IsScalar()) return read(read_text(node, place, key, expected), place);
  if (!node.IsSequence() || node.size() == 0)
    place.refuse(key, node.IsSequence() ? "an empty list" : shown(node),
                 fmt::format("{}, or a list of such", expected));
  for (const YAML::Node& item : node)
    read(read_text(item, place.at(item), key, expected), place.at(item));
}

std::optional<std::int64_t> parse_number(std::string_view text) {
  std::int64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || rest != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

/// "3", "0-2", "58-", "-2".
std::optional<Interval> parse_interval(std::string_view text) {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) {
    const auto number = parse_number(text);
    return number ? std::optional(Interval{*number, *number}) : std::nullopt;
  }
  const std::string_view first = text.substr(0, dash);
  const std::string_view last = text.substr(dash + 1);
  if (first.empty() && last.empty()) return std::nullopt;
  Interval interval;
  if (!first.empty()) {
    const auto number = parse_number(first);
    if (!number) return std::nullopt;
    interval.first = *number;
  }
  if (!last.empty()) {
    const auto number = parse_number(last);
    if (!number || *number < interval.first) return std::nullopt;
    interval.last = *number;
  }
  return interval;
}

Key interval_key(std::string_view name, std::vector<Interval>& intervals) {
  return {name, [name, &intervals](const YAML::Node& value, const Place& place) {
            constexpr std::string_view kExpected =
                "a number, or a range such as 0-2, 58- or -2 (both ends included)";
            read_each(value, place, name, kExpected, [&](const std::string& text, const Place& at) {
              const auto interval = parse_interval(text);
              if (!interval) at.refuse(name, fmt::format("'{}'", text), kExpected);
              intervals.push_back(*interval);
            });
          }};
}

std::string group_names() {
  std::vector<std::string_view> names;
  for (const NameGroup group : all_name_groups()) names.push_back(name_group_name(group));
  return fmt::format("{}", fmt::join(names, ", "));
}

/// Runs what may throw SpecError, whose words are then said of the place.
template <class Function>
auto with_place(const Place& place, Function function) {
  try {
    return function();
  } catch (const SpecError& error) {
    place.fail(error.what());
  }
}

TensorMatch read_match(const YAML::Node& node, const Place& place) {
  TensorMatch match;
  if (node.IsScalar()) {
    if (node.Scalar() == "all") return match;
    place.refuse("match", shown(node), "all, or a mapping of conditions");
  }
  if (node.IsMap() && node.size() == 0)
    place.refuse("match", "an empty mapping", "conditions, or the word all");
  const std::vector<Key> keys = {
      {"name",
       [&](const YAML::Node& value, const Place& at) {
         read_each(value, at, "name", "a tensor's name, with * ? [a-z] as in a shell",
                   [&](const std::string& text, const Place&) { match.names.push_back(text); });
       }},
      {"regex",
       [&](const YAML::Node& value, const Place& at) {
         read_each(value, at, "regex", "a regular expression (ECMAScript)",
                   [&](const std::string& text, const Place& here) {
                     try {
                       match.patterns.push_back({text, std::regex(text)});
                     } catch (const std::regex_error& error) {
                       here.refuse(
                           "regex", fmt::format("'{}'", text),
                           fmt::format("a regular expression of ECMAScript ({})", error.what()));
                     }
                   });
       }},
      {"group",
       [&](const YAML::Node& value, const Place& at) {
         read_each(value, at, "group", group_names(),
                   [&](const std::string& text, const Place& here) {
                     const auto group = find_name_group(text);
                     if (!group) here.refuse("group", fmt::format("'{}'", text), group_names());
                     match.groups.push_back(*group);
                   });
       }},
      {"format",
       [&](const YAML::Node& value, const Place& at) {
         read_each(
             value, at, "format", "a number format such as fp8_e4m3",
             [&](const std::string& text, const Place& here) {
               match.formats.push_back(with_place(here, [&] { return get_weight_format(text); }));
             });
       }},
      interval_key("layers", match.layers),
      interval_key("rows", match.rows),
      interval_key("cols", match.cols),
      {"cols_divisible_by",
       [&](const YAML::Node& value, const Place& at) {
         constexpr std::string_view kExpected = "a number from 1";
         const std::string text = read_text(value, at, "cols_divisible_by", kExpected);
         match.cols_divisible_by = parse_number(text);
         if (match.cols_divisible_by.value_or(0) < 1)
           at.refuse("cols_divisible_by", fmt::format("'{}'", text), kExpected);
       }},
  };
  read_mapping(node, place, "match", keys);
  return match;
}

constexpr std::string_view kScaleExpected =
    "none, or RxC, row or tensor with f32, bf16 or e8m0, such as '128x128 f32'";

/// "128x128", "128x128 f32", "row e8m0", "tensor". Nothing for other texts.
std::optional<ScaleGrid> parse_scale(std::string_view text) {
  ScaleGrid grid;
  const std::size_t space = text.find(' ');
  if (space != std::string_view::npos) {
    const std::string_view type = text.substr(text.find_last_of(' ') + 1);
    const auto known = {ScaleType::kF32, ScaleType::kBF16, ScaleType::kE8M0, ScaleType::kE4M3};
    const auto found = std::ranges::find(known, type, &scale_type_name);
    if (found == known.end() || text.find_first_not_of(' ', space) != text.find_last_of(' ') + 1)
      return std::nullopt;
    grid.type = *found;
  }
  const std::string_view shape = text.substr(0, space);
  if (shape == "tensor") return grid;
  if (shape == "row") {
    grid.block_rows = 1;
    return grid;
  }
  const std::size_t x = shape.find('x');
  if (x == std::string_view::npos) return std::nullopt;
  const auto rows = parse_number(shape.substr(0, x));
  const auto cols = parse_number(shape.substr(x + 1));
  if (rows.value_or(0) < 1 || cols.value_or(0) < 1) return std::nullopt;
  grid.block_rows = *rows;
  grid.block_cols = *cols;
  return grid;
}

/// What `format` and `scale` say together. Both as they stand in the file, with their places.
struct GivenText {
  std::string text;
  Place place;
};

std::string target_names() {
  std::vector<std::string_view> names = {"keep"};
  for (const FormatId format : conversion_targets()) names.push_back(get_format(format).name);
  for (const std::string_view name : scaled_format_names()) names.push_back(name);
  return fmt::format("{}", fmt::join(names, ", "));
}

FormatSetting read_format(const GivenText& format, const std::optional<GivenText>& scale) {
  FormatSetting setting;
  if (format.text == "keep") {
    if (scale) {
      scale->place.refuse("scale", fmt::format("'{}'", scale->text),
                          "none given with 'format: keep'");
    }
    return setting;
  }
  const Format* known = find_format(format.text);
  const bool is_scaled =
      std::ranges::find(scaled_format_names(), format.text) != scaled_format_names().end();
  if (!is_scaled && (known == nullptr || std::ranges::find(conversion_targets(), known->id) ==
                                             conversion_targets().end())) {
    format.place.refuse("format", fmt::format("'{}'", format.text), target_names());
  }
  std::optional<ScaleGrid> grid;
  if (scale && scale->text != "none") {
    grid = parse_scale(scale->text);
    if (!grid) scale->place.refuse("scale", fmt::format("'{}'", scale->text), kScaleExpected);
  }
  const Place& place = scale ? scale->place : format.place;
  setting.format = with_place(place, [&] { return get_weight_format(format.text, grid); });
  WeightFormat& result = *setting.format;
  setting.names_scale = scale.has_value() || result.scale.has_value();
  const auto refuse_scale = [&](std::string_view expected) {
    scale->place.refuse("scale", fmt::format("'{}'", scale->text),
                        fmt::format("{} with '{}'", expected, format.text));
  };
  if (const auto fixed = fixed_scale_grid(result.id)) {
    if (scale && grid != fixed) refuse_scale(scale_grid_name(fixed));
    result.scale = fixed;
    setting.names_scale = true;
  } else if (!has_separate_scales(result.id)) {
    if (scale) refuse_scale("none given");
    setting.names_scale = false;
  } else if (is_scaled && scale && !grid) {
    refuse_scale(scale_grid_name(result.scale));
  } else if (grid && grid->type == ScaleType::kE4M3) {
    refuse_scale("f32, bf16 or e8m0 scales");
  } else if (!setting.names_scale) {
    result.scale = kUsualFp8Scale;
  }
  return setting;
}

std::string read_device(const YAML::Node& value, const Place& place) {
  constexpr std::string_view kExpected = "cuda, cuda:N, cpu or sim";
  const std::string text = read_text(value, place, "device", kExpected);
  if (text == "cuda" || text == "cpu" || text == "sim") return text;
  constexpr std::string_view kNumbered = "cuda:";
  const auto number = text.starts_with(kNumbered)
                          ? parse_number(std::string_view(text).substr(kNumbered.size()))
                          : std::nullopt;
  if (!number) place.refuse("device", shown(value), kExpected);
  return fmt::format("cuda:{}", *number);  // "cuda:01" is "cuda:1"
}

LayoutChoice read_layout(const YAML::Node& value, const Place& place) {
  for (const LayoutChoice layout :
       {LayoutChoice::kNative, LayoutChoice::kPrepared, LayoutChoice::kAuto}) {
    if (value.IsScalar() && value.Scalar() == layout_choice_name(layout)) return layout;
  }
  place.refuse("layout", shown(value), "native, prepared or auto");
}

ActivationPolicy read_activation(const YAML::Node& value, const Place& place) {
  for (const ActivationPolicy policy :
       {ActivationPolicy::kA16, ActivationPolicy::kA8, ActivationPolicy::kAfp8}) {
    if (value.IsScalar() && value.Scalar() == activation_name(policy)) return policy;
  }
  place.refuse("activation", shown(value), "a16, a8 or afp8");
}

/// `place` is the rule's, its name the number so far.
Rule read_rule(const YAML::Node& node, Place place) {
  Rule rule;
  rule.line = place.line;
  if (node.IsMap() && node["label"] && node["label"].IsScalar())
    place.rule += fmt::format(" '{}'", node["label"].Scalar());
  bool has_match = false;
  std::optional<GivenText> format;
  std::optional<GivenText> scale;
  const std::vector<Key> keys = {
      {"label",
       [&](const YAML::Node& value, const Place& at) {
         rule.label = read_text(value, at, "label", "a text for messages");
       }},
      {"match",
       [&](const YAML::Node& value, const Place& at) {
         rule.match = read_match(value, at);
         has_match = true;
       }},
      {"optional",
       [&](const YAML::Node& value, const Place& at) {
         const bool is_true = value.IsScalar() && value.Scalar() == "true";
         if (!is_true && !(value.IsScalar() && value.Scalar() == "false"))
           at.refuse("optional", shown(value), "true or false");
         rule.optional = is_true;
       }},
      {"format",
       [&](const YAML::Node& value, const Place& at) {
         format.emplace(GivenText{read_text(value, at, "format", target_names()), at});
       }},
      {"scale",
       [&](const YAML::Node& value, const Place& at) {
         scale.emplace(GivenText{read_text(value, at, "scale", kScaleExpected), at});
       }},
      {"activation", [&](const YAML::Node& value,
                         const Place& at) { rule.activation = read_activation(value, at); }},
      {"device",
       [&](const YAML::Node& value, const Place& at) { rule.device = read_device(value, at); }},
      {"layout",
       [&](const YAML::Node& value, const Place& at) { rule.layout = read_layout(value, at); }},
  };
  read_mapping(node, place, "the rule", keys);
  if (!has_match) place.fail("has no 'match', expected conditions, or the word all");
  if (scale && !format)
    scale->place.fail("has a 'scale' and no 'format', expected the format that it belongs to");
  if (format) rule.format = read_format(*format, scale);
  if (!rule.format && !rule.activation && !rule.device && !rule.layout)
    place.fail("sets nothing, expected one of format, activation, device, layout");
  return rule;
}

std::vector<Rule> read_document(const YAML::Node& document, const std::string& name) {
  std::vector<Rule> rules;
  const Place place{name, "", 1};
  bool has_rules = false;
  read_mapping(document, place, "the file",
               {{"rules", [&](const YAML::Node& list, const Place& at) {
                   has_rules = true;
                   if (!list.IsSequence() || list.size() == 0) {
                     at.refuse("rules", list.IsSequence() ? "an empty list" : shown(list),
                               "a list of rules");
                   }
                   for (const YAML::Node& item : list) {
                     Place of_rule = at.at(item);
                     of_rule.rule = fmt::format("rule {}", rules.size() + 1);
                     rules.push_back(read_rule(item, of_rule));
                   }
                 }}});
  if (!has_rules) place.fail("the file has no 'rules', expected a list of rules");
  return rules;
}

}  // namespace

std::string read_rules_text(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (error || !std::filesystem::exists(status))
    throw InputError(path.string(), "no such file of rules");
  if (std::filesystem::is_directory(status))
    throw InputError(path.string(), "is a folder, expected a YAML file of rules");
  // A pipe has no size, so what is read is what counts.
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(kLargestFile) + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof()))
    throw InputError(path.string(), "can't be read, expected a YAML file of rules");
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kLargestFile) {
    throw InputError(
        path.string(),
        fmt::format("is larger than {} bytes, expected a YAML file of rules", kLargestFile));
  }
  return text;
}

std::vector<Rule> parse_rules(std::string_view text, const std::string& name) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() != 1) {
      throw InputError(name, fmt::format("holds {} YAML documents, expected one with 'rules'",
                                         documents.size()));
    }
    return read_document(documents.front(), name);
  } catch (const YAML::Exception& error) {
    throw InputError(fmt::format("{}:{}", name, error.mark.line + 1),
                     fmt::format("is no valid YAML: {}", error.msg));
  }
}

}  // namespace ktjit::rules
