// The interleaved layout of weights: 16 rows side by side, so that a vector register of a CPU holds the same four bytes
// of each of 16 rows, and no sum goes across its lanes. A matrix is cut into units of 16 rows and 256 columns; units lie
// one after another along the columns, then along the rows, padded with zeros at the last row and column. Of each row a
// unit has the native blocks of 256 columns, their fields sorted: one field of all its blocks, then the next one's, then
// zeros up to a whole word. Word j of the 16 rows makes 64 bytes, aligned to 64. Any unit can be made native again, byte
// for byte. Formats whose codes are numbers of codebook entries, base-3 digits or neighbours in a byte have codes by
// themselves instead, in planes, and are larger for it (tq1_0, IQ1, IQ2, IQ3).
#pragma once

#include <array>
#include <cstdint>

#include "core/format.h"

namespace ktjit {

/// Bytes of a native block that stay together.
struct BlockField {
  int offset = 0;  ///< in the block
  int bytes = 0;   ///< 0: no field
  /// Each word of 32 bits, one for each column: that of column 4k + i becomes bit k of byte i, so that one shift
  /// gives the bits of four neighbours, a byte for each.
  bool is_bitwise = false;
};

constexpr int kMaxBlockFields = 5;

struct InterleavedLayout {
  FormatId format = FormatId::kF32;
  /// In the order of a unit; all bytes of a block, once. None: a row of a unit has the head and the tail that
  /// core/prepared_layout.h describes for the format, zeros up to a whole word, and planes of codes. Four bits: of 64
  /// columns the first 32 are the low nibbles of 32 bytes. Two: of 128 columns the first 32 are the lowest bits of 32
  /// bytes. One, or the third after two: bit g of byte i is that of column 32 g + i.
  std::array<BlockField, kMaxBlockFields> fields;

  bool has_planes() const { return fields[0].bytes == 0; }

  /// Native blocks of one row of a unit.
  int blocks() const;
  /// Of one row of a unit, with the zeros at its end: a multiple of 4.
  int row_bytes() const;
  std::int64_t unit_bytes() const;
};

constexpr int kInterleavedRows = 16;
constexpr int kInterleavedCols = 256;

/// Null for formats without one.
const InterleavedLayout* find_interleaved_layout(FormatId format);

/// Bytes of an interleaved matrix. Errors: SpecError if the format has no such layout, or a size is not positive.
std::int64_t interleaved_bytes(FormatId format, std::int64_t rows, std::int64_t cols);

}  // namespace ktjit
