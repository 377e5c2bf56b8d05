// Which code runs on which GPU: the rules of the CUDA C++ Programming Guide 13.0, sections "Binary
// Compatibility", "PTX Compatibility" and "Feature Set Compiler Targets".
#pragma once

#include <string>

#include "core/artifact.h"
#include "core/target.h"

namespace ktjit::runtime {

/// Whether a GPU of compute capability `device_sm` (86 for 8.6) takes code for `target`; if not,
/// `reason` (may be null) says why.
///
/// Cubins: the same major version and a minor version not above the device's, but on integrated
/// Tegra chips the same version only. PTX: any version not above the device's. With suffix "a"
/// exactly the device's version, with "f" the same major and a minor not above.
bool cuda_code_runs_on(int device_sm, const Target& target, ArtifactKind kind, std::string* reason);

/// The target whose code runs best on the device: its own with the suffix that unlocks all of it,
/// else, for a chip the table doesn't know, the newest known whose PTX it takes.
/// Errors: ToolchainError for a device older than all known targets.
Target best_cuda_target(int device_sm);

}  // namespace ktjit::runtime
