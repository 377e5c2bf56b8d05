// Artefacts as cache entries and back: the cache knows bytes and a manifest, the engine knows
// kernels.
#pragma once

#include <optional>
#include <string>

#include "cache/entry_format.h"
#include "codegen/emitter.h"
#include "core/artifact.h"
#include "core/kernel_spec.h"

namespace ktjit {

cache::Entry to_entry(const Artifact& artifact, const KernelSpec& spec,
                      const codegen::EmittedKernel& emitted, const std::string& compiler);

/// Nothing if the entry lacks a part, or says something else than was asked for.
std::optional<Artifact> to_artifact(const cache::Entry& entry, ArtifactKind kind);

/// Who made the entry, for people. Empty if it doesn't say.
std::string compiler_of(const cache::Entry& entry);

}  // namespace ktjit
