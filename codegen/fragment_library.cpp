// Parses the "//@ NAME needs A B" lines of templates/*/*.in and joins pieces by need.
#include "codegen/fragment_library.h"

#include <fmt/format.h>
#include <functional>
#include <set>
#include <sstream>

#include "core/codebooks.h"
#include "core/error.h"
#include "templates/embedded_templates.h"

namespace ktjit::codegen {
namespace {

constexpr std::string_view kMark = "//@ ";

bool is_fragment_file(std::string_view path, std::string_view folder) {
  return path.starts_with(std::string(folder) + "/") &&
         (path.ends_with(".cuh.in") || path.ends_with(".h.in"));
}

/// A codebook as a constant table: its entries as core/codebooks.h packs them, for the CPU their levels
/// too.
std::string codebook_text(const Codebook& codebook, bool is_cuda) {
  constexpr std::size_t kEntriesPerLine = 12;
  std::string text = fmt::format(
      "// The codebook of {}: {} entries of {} elements, the code of element i in the {}.\n"
      "// Data of ggml: Copyright (c) 2023-2026 The ggml authors, MIT licence.\n",
      codebook.name, codebook.entries.size(), codebook.entry_elems,
      codebook.entry_elems == 8 ? "2 bits from 4 (i % 4) + 2 (i / 4) up" : "3 bits from 4 i up");
  if (!is_cuda) {
    text += fmt::format("static constexpr signed char kLevels[8] = {{{}}};\n",
                        fmt::join(codebook.levels, ", "));
  }
  text += fmt::format("{} unsigned short kCodebook[{}] = {{\n",
                      is_cuda ? "__device__ const" : "static constexpr", codebook.entries.size());
  for (std::size_t i = 0; i < codebook.entries.size(); ++i) {
    const bool begins_line = i % kEntriesPerLine == 0;
    const bool ends_line =
        i % kEntriesPerLine == kEntriesPerLine - 1 || i == codebook.entries.size() - 1;
    text += fmt::format("{}{:#06x},{}", begins_line ? "  " : " ", codebook.entries[i],
                        ends_line ? "\n" : "");
  }
  return text + "};\n";
}

}  // namespace

const FragmentLibrary& FragmentLibrary::of(std::string_view folder) {
  static const FragmentLibrary cuda("cuda");
  static const FragmentLibrary cpu("cpu");
  KTJIT_CHECK(folder == "cuda" || folder == "cpu");
  return folder == "cuda" ? cuda : cpu;
}

FragmentLibrary::FragmentLibrary(std::string_view folder) {
  for (const Codebook& codebook : all_codebooks()) {
    fragments_[fmt::format("codebook_{}", codebook.name)] = {
        {}, codebook_text(codebook, folder == "cuda")};
  }
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
