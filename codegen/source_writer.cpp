// One pass over the template, placeholders by name.
#include "codegen/source_writer.h"

#include <set>

#include "core/error.h"

namespace ktjit::codegen {

std::string fill_template(std::string_view text, const TemplateValues& values) {
  std::string filled;
  std::set<std::string_view> used;
  while (true) {
    const std::size_t begin = text.find("${");
    filled += text.substr(0, begin);
    if (begin == std::string_view::npos) break;
    const std::size_t end = text.find('}', begin);
    KTJIT_CHECK(end != std::string_view::npos);
    const auto value = values.find(text.substr(begin + 2, end - begin - 2));
    const bool placeholder_has_a_value = value != values.end();
    KTJIT_CHECK(placeholder_has_a_value);
    filled += value->second;
    used.insert(value->first);
    text.remove_prefix(end + 1);
  }
  const bool every_value_has_a_placeholder = used.size() == values.size();
  KTJIT_CHECK(every_value_has_a_placeholder);
  return filled;
}

}  // namespace ktjit::codegen
