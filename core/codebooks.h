// The codebooks of ggml's IQ1, IQ2 and IQ3 formats: data of ggml (MIT licence, see NOTICE), packed.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/format.h"

namespace ktjit {

/// A codebook: short vectors whose elements take few levels. A block of such a format stores indices
/// of entries.
struct Codebook {
  std::string_view name;  ///< of the format, as printed; iq1_m has that of iq1_s
  int entry_elems;        ///< 8 or 4 consecutive elements of a row
  /// One entry each: element i has its code in the two bits from 4 (i % 4) + 2 (i / 4) up, or, with 4
  /// elements, in the three bits from 4 i up.
  std::span<const std::uint16_t> entries;
  std::array<int, 8> levels;  ///< by code, zeros after the last

  /// Requires: entry < entries.size(), 0 <= element < entry_elems.
  int level(std::size_t entry, int element) const {
    const int shift = 4 * (element % 4) + 2 * (element / 4);
    return levels[entries[entry] >> shift & (entry_elems == 8 ? 3u : 7u)];
  }
};

/// All codebooks, each once.
std::span<const Codebook> all_codebooks();

/// Null for formats without one.
const Codebook* find_codebook(FormatId id);

}  // namespace ktjit
