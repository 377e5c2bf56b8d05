// What Clang and lld are told for a target: every choice that decides the worker's output.
#pragma once

#include <string>
#include <vector>

#include "core/artifact.h"
#include "core/target.h"
#include "jit/compiler.h"

namespace ktjit {

/// Arguments of `clang -cc1`. REQUIRES: LlvmCompiler serves the target and kind.
std::vector<std::string> clang_arguments(const Target& target, ArtifactKind kind,
                                         Quality quality = Quality::kFull);

/// Those of them that say how much to optimise.
std::vector<std::string> optimisation(Quality quality);

/// Arguments of `ld.lld`, for shared objects.
std::vector<std::string> linker_arguments();

/// What a shared object may call outside itself: Clang makes calls to these by itself, and every C
/// library has them.
std::vector<std::string> allowed_symbols();

}  // namespace ktjit
