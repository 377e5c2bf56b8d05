#include "cli/rules_option.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <iterator>
#include <set>
#include <utility>

#include "cli/exit_code.h"
#include "cli/table.h"
#include "cli/units.h"
#include "core/error.h"
#include "jit/tensor_sample.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

using model::TensorInfo;

bool is_first_gpu(std::string_view device) { return device == "cuda" || device == "cuda:0"; }

std::uint64_t bytes_of(const TensorInfo& tensor) {
  return tensor.bytes() + tensor.scale_data.size();
}

/// What one rule did to the model.
struct Effect {
  std::size_t tensors = 0;        ///< for which it settled something
  std::set<std::string> formats;  ///< they had
  std::uint64_t bytes_before = 0;
  std::uint64_t bytes_after = 0;
  std::vector<const TensorInfo*> converted;
  std::optional<WeightFormat> to;
};

/// One for each rule, and one for tensors that no rule says anything of.
std::vector<Effect> find_effects(const RuledModel& ruled) {
  const std::size_t rules = ruled.rules().rules().size();
  std::vector<Effect> effects(rules + 1);
  for (const RuledModel::Tensor& tensor : ruled.tensors()) {
    const rules::TensorChoice& choice = tensor.choice;
    std::set<std::size_t> settled;
    for (const auto& by :
         {choice.format_rule, choice.activation_rule, choice.device_rule, choice.layout_rule}) {
      if (by) settled.insert(*by);
    }
    if (settled.empty()) settled.insert(rules);
    for (const std::size_t at : settled) {
      Effect& effect = effects[at];
      ++effect.tensors;
      effect.formats.emplace(WeightFormat{tensor.source->format, tensor.source->scale_grid}.name());
      effect.bytes_before += bytes_of(*tensor.source);
      effect.bytes_after += bytes_of(*tensor.planned);
    }
    if (!choice.convert_to) continue;
    effects[*choice.format_rule].converted.push_back(tensor.source);
    effects[*choice.format_rule].to = choice.convert_to;
  }
  return effects;
}

/// Nothing if nothing was converted, or not to a format that the reference quantises to.
std::optional<double> rms_error(const Effect& effect) {
  if (effect.converted.empty()) return std::nullopt;
  try {
    return std::sqrt(sample_error(effect.converted, *effect.to).relative_squares());
  } catch (const SpecError&) {
    return std::nullopt;
  }
}

/// "fp8_e4m3 128x128 f32, afp8, on cpu, prepared".
std::string settings_text(const rules::Rule& rule) {
  std::vector<std::string> parts;
  if (rule.format) {
    const auto& format = rule.format->format;
    parts.push_back(!format         ? std::string("keep")
                    : format->scale ? fmt::format("{} {}", get_format(format->id).name,
                                                  scale_grid_name(format->scale))
                                    : std::string(get_format(format->id).name));
  }
  if (rule.activation) parts.emplace_back(activation_name(*rule.activation));
  if (rule.device) parts.push_back(fmt::format("on {}", *rule.device));
  if (rule.layout) parts.emplace_back(rules::layout_choice_name(*rule.layout));
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

void RulesOption::add(ArgumentParser& parser) {
  parser.add_options()(
      "rules", po::value(&path_)->value_name("FILE"),
      "YAML that says what becomes of which tensors: format, scales, activations, device, layout "
      "(docs/RULES.md)");
}

void RulesOption::apply(const model::Model& source) {
  rules_ = rules::Rules::read(path_);
  ruled_ = std::make_unique<RuledModel>(source, *rules_);
}

std::vector<RuledPart> RulesOption::split(const Target& own, const Target& host,
                                          LayoutKind layout) const {
  std::vector<std::string> own_names = {""};
  std::vector<RuledPart> others;
  for (const std::string& device : ruled_->devices()) {
    const bool is_cpu = device == "cpu";
    if (device.empty()) continue;
    if (own.is_cuda() ? is_first_gpu(device) : is_cpu) {
      own_names.push_back(device);
      continue;
    }
    if (!own.is_cuda()) {
      throw UsageError(
          fmt::format("{} sends tensors to {}, and the target is {}", path_, device, own.name()),
          "give a GPU's --target such as sm_86");
    }
    const Target& target = is_cpu ? host : own;
    others.push_back({device, target, ruled_->tensors_on({device}, layout, target)});
  }
  std::vector<RuledPart> parts = {{"", own, ruled_->tensors_on(own_names, layout, own)}};
  if (parts.front().tensors.empty() && !others.empty()) parts.clear();
  std::ranges::move(others, std::back_inserter(parts));
  return parts;
}

std::vector<PlacedPart> RulesOption::open(Toolchain& toolchain, Place own,
                                          LayoutKind layout) const {
  const std::string own_name = own.device->name();
  const Target own_target = own.target;
  const auto is_own = [&](const std::string& device) {
    return device.empty() || device == own_name || (is_first_gpu(device) && is_first_gpu(own_name));
  };
  std::vector<std::string> own_names;
  std::vector<PlacedPart> others;
  for (const std::string& device : ruled_->devices()) {
    if (is_own(device)) {
      own_names.push_back(device);
      continue;
    }
    Place place = choose_place(toolchain, device, "");
    place.reason = fmt::format("chosen by {}", path_);
    if (place.target.is_cuda() == own_target.is_cuda()) place.target = own_target;
    std::vector<PlannedTensor> tensors = ruled_->tensors_on({device}, layout, place.target);
    others.push_back({std::move(place), std::move(tensors)});
  }
  std::vector<PlacedPart> parts;
  if (!own_names.empty()) {
    std::vector<PlannedTensor> tensors = ruled_->tensors_on(own_names, layout, own_target);
    parts.push_back({std::move(own), std::move(tensors)});
  }
  std::ranges::move(others, std::back_inserter(parts));
  return parts;
}

std::string RulesOption::to_text() const {
  Table table({{"rule"},
               {"sets"},
               {"tensors", Align::kRight},
               {"of format"},
               {"size", Align::kRight},
               {"becomes", Align::kRight},
               {"RMS error", Align::kRight}});
  const std::vector<Effect> effects = find_effects(*ruled_);
  const auto& all = rules_->rules();
  for (std::size_t at = 0; at < effects.size(); ++at) {
    const Effect& effect = effects[at];
    const bool is_rule = at < all.size();
    if (!is_rule && effect.tensors == 0) continue;
    const auto error = rms_error(effect);
    table.add_row(
        {is_rule ? fmt::format("{}{}", at + 1, all[at].label.empty() ? "" : " " + all[at].label)
                 : "none",
         is_rule ? settings_text(all[at]) : "", fmt::format("{}", effect.tensors),
         fmt::format("{}", fmt::join(effect.formats, ", ")), human_bytes(effect.bytes_before),
         effect.bytes_after == effect.bytes_before ? "" : human_bytes(effect.bytes_after),
         error ? fmt::format("{:.1e}", *error) : ""});
  }
  return table.to_text(2);
}

Json RulesOption::to_json() const {
  Json list = Json::array();
  const std::vector<Effect> effects = find_effects(*ruled_);
  for (std::size_t at = 0; at < rules_->rules().size(); ++at) {
    const rules::Rule& rule = rules_->rules()[at];
    const Effect& effect = effects[at];
    list.push_back({{"rule", at + 1},
                    {"label", rule.label},
                    {"line", rule.line},
                    {"sets", settings_text(rule)},
                    {"tensors", effect.tensors},
                    {"converted", effect.converted.size()},
                    {"formats", effect.formats},
                    {"bytes_before", effect.bytes_before},
                    {"bytes_after", effect.bytes_after},
                    {"rms_rel_err", json_or_null(rms_error(effect))}});
  }
  return {{"file", path_}, {"rules", list}, {"tensors_without_rule", effects.back().tensors}};
}

}  // namespace ktjit::cli
