// Which GPUs each version of NVRTC compiles for: asked for every kernel on a warm start, so
// answered without opening the library. nvrtc_compiler checks the answer against the library once
// it is open.
#pragma once

#include <compare>
#include <span>
#include <string>

#include "core/target.h"

namespace ktjit {

struct NvrtcVersion {
  int major = 0;
  int minor = 0;

  auto operator<=>(const NvrtcVersion&) const = default;
  /// "13.0".
  std::string text() const;
};

/// The oldest version we use.
inline constexpr NvrtcVersion kOldestNvrtc = {11, 8};

/// Compute capabilities, as 86 for 8.6, in ascending order. A version newer than the table is taken
/// for its last row; nothing for versions older than kOldestNvrtc.
std::span<const int> nvrtc_archs(NvrtcVersion version);

/// Whether that version can compile for a CUDA target, its suffix included.
bool nvrtc_serves(NvrtcVersion version, const Target& target);

}  // namespace ktjit
