// Fills templates: `${name}` stands for a value. Substitution only; choices are made in C++.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace ktjit::codegen {

using TemplateValues = std::map<std::string, std::string, std::less<>>;

/// Errors: InternalError if a placeholder has no value, or a value has no placeholder.
std::string fill_template(std::string_view text, const TemplateValues& values);

}  // namespace ktjit::codegen
