// How each target converts each format, at what cost, proved by what: the rows that doctor prints
// and docs/FORMATS.md holds.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "codegen/lowering.h"
#include "core/format.h"
#include "core/target.h"

namespace ktjit::cli {

/// Targets that convert a format alike. Texts are empty for what was not counted.
struct FormatRow {
  std::string targets;       ///< "sm_75, sm_80", "sm_60 to sm_88"
  std::string lowering;      ///< in words
  std::string instructions;  ///< for four elements: "26", or "25 to 27" if targets differ
  std::string loads;         ///< for four elements: "1.5"
};

/// Formats that some kernel decodes.
std::vector<FormatId> decoded_formats();
/// Formats that quantize makes.
std::vector<FormatId> encoded_formats();

/// Decoding; `weights_finite` as in get_lowering. REQUIRES: a decoded format.
std::vector<FormatRow> decode_rows(FormatId format, bool weights_finite,
                                   std::span<const Target> targets);
/// Quantize by a plain cast, or by the format's own blocks. REQUIRES: an encoded format.
std::vector<FormatRow> encode_rows(FormatId format, bool saturate, std::span<const Target> targets);

/// docs/FORMATS.md, whole. Depends on nothing but the program.
std::string formats_page();

}  // namespace ktjit::cli
