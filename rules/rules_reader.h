// From YAML to rules: the only place that knows yaml-cpp.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "rules/rules.h"

namespace ktjit::rules {

/// The file's text. Errors: InputError if it can't be read, or is larger than a rules file may be.
std::string read_rules_text(const std::filesystem::path& path);

/// Errors: InputError as Rules::parse.
std::vector<Rule> parse_rules(std::string_view text, const std::string& name);

}  // namespace ktjit::rules
