// The rules of the tree (docs/ARCHITECTURE.md has the picture), checked on texts: a function of
// (path, text) pairs, so that the tests can plant violations without touching a disk.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace ktjit::test {

struct SourceFile {
  std::string path;  ///< from the root of the tree: "core/format.h"
  std::string text;
};

/// One line for each violation, "cache/digest.cpp: includes jit/engine.h, ..."; empty if all is
/// well.
std::vector<std::string> find_violations(std::span<const SourceFile> files);

}  // namespace ktjit::test
