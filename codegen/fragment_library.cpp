// Parses the "//@ NAME needs A B" lines of templates/*/*.in and joins pieces by need.
#include "codegen/fragment_library.h"

#include <functional>
#include <set>
#include <sstream>

#include "core/error.h"
#include "templates/embedded_templates.h"

namespace ktjit::codegen {
namespace {

constexpr std::string_view kMark = "//@ ";

bool is_fragment_file(std::string_view path, std::string_view folder) {
  return path.starts_with(std::string(folder) + "/") &&
         (path.ends_with(".cuh.in") || path.ends_with(".h.in"));
}

}  // namespace

const FragmentLibrary& FragmentLibrary::of(std::string_view folder) {
  static const FragmentLibrary cuda("cuda");
  static const FragmentLibrary cpu("cpu");
  KTJIT_CHECK(folder == "cuda" || folder == "cpu");
  return folder == "cuda" ? cuda : cpu;
}

FragmentLibrary::FragmentLibrary(std::string_view folder) {
  for (const templates::TemplateFile& file : templates::all_files()) {
    if (!is_fragment_file(file.path, folder)) continue;
    std::istringstream lines{std::string(file.text)};
    Fragment* fragment = nullptr;  // text before the first mark is a note to readers of the file
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(kMark)) {
        std::istringstream words(line.substr(kMark.size()));
        std::string name, needs;
        words >> name >> needs;
        KTJIT_CHECK(needs.empty() || needs == "needs");
        const bool name_is_new = !fragments_.contains(name);
        KTJIT_CHECK(name_is_new);
        fragment = &fragments_[name];
        for (std::string needed; words >> needed;) fragment->needs.push_back(needed);
      } else if (fragment != nullptr) {
        fragment->text += line + "\n";
      }
    }
  }
  for (auto& [name, fragment] : fragments_) {
    while (fragment.text.ends_with("\n\n")) fragment.text.pop_back();
  }
}

std::string FragmentLibrary::splice(const std::vector<std::string>& names,
                                    const FragmentVariants& variants) const {
  std::string text;
  std::set<std::string> done;
  const std::function<void(const std::string&)> add = [&](const std::string& name) {
    if (!done.insert(name).second) return;
    std::string body = name;
    if (const auto variant = variants.find(name); variant != variants.end()) {
      body += "@" + variant->second;
    }
    const auto fragment = fragments_.find(body);
    const bool fragment_is_known = fragment != fragments_.end();
    KTJIT_CHECK(fragment_is_known);
    for (const std::string& needed : fragment->second.needs) add(needed);
    text += "\n" + fragment->second.text;
  };
  for (const std::string& name : names) add(name);
  return text;
}

}  // namespace ktjit::codegen
