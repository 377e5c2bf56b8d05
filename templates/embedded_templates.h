// The files of this folder as text, embedded by the build, so that a program needs none of them on
// disk.
#pragma once

#include <span>
#include <string_view>

namespace ktjit::templates {

struct TemplateFile {
  std::string_view path;  ///< below templates/, for example "cuda/matvec.cu.in"
  std::string_view text;
};

/// Sorted by path.
std::span<const TemplateFile> all_files();

}  // namespace ktjit::templates
