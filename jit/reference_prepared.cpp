// Formats: ggml-quants.c, August 2026; units: core/prepared_layout.h and the comments of templates/cuda/prepare.cuh.in.
#include "jit/reference_prepared.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fmt/format.h>

#include "core/codebooks.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "core/tensor_layout.h"

namespace ktjit {
namespace {

using enum FormatId;
using Bits = std::span<std::byte>;
using ConstBits = std::span<const std::byte>;

unsigned bit_at(ConstBits bytes, int at) {
  return std::to_integer<unsigned>(bytes[static_cast<std::size_t>(at / 8)]) >> at % 8 & 1u;
}

void set_bit(Bits bytes, int at, unsigned bit) {
  bytes[static_cast<std::size_t>(at / 8)] |= static_cast<std::byte>(bit << at % 8);
}

// ---- native blocks of 256 columns

/// Bit `bit` of a column's code. Formats without a codebook, but tq1_0.
int native_code_bit(FormatId format, int col, int bit) {
  const int b = col / 32, e = col % 32;
  const auto nibble = [&](int block_bytes, int first) {
    return 8 * (block_bytes * b + first + e % 16) + 4 * (e / 16) + bit;
  };
  const int of_32 = 8 * (col / 64 * 32 + e) + 4 * (b % 2) + bit;
  const int two_bits = 8 * (col / 128 * 32 + e) + 2 * (b % 4) + bit;
  switch (format) {
    case kQ4_0:
    case kIQ4_NL:
      return nibble(18, 2);
    case kQ4_1:
      return nibble(20, 4);
    case kQ5_0:
      return bit < 4 ? nibble(22, 6) : 8 * (22 * b + 2) + e;
    case kQ5_1:
      return bit < 4 ? nibble(24, 8) : 8 * (24 * b + 4) + e;
    case kIQ4_XS:
      return 8 * 8 + nibble(16, 0);
    case kGgmlMxfp4:
      return nibble(17, 1);
    case kQ8_0:
      return 8 * (34 * b + 2 + e) + bit;
    case kQ4_K:
      return 8 * 16 + of_32;
    case kQ5_K:
      return bit < 4 ? 8 * 48 + of_32 : 8 * (16 + e) + b;
    case kQ6_K:
      return bit < 4 ? 8 * (col / 128 * 64 + col % 64) + 4 * (col % 128 / 64) + bit
                     : 8 * 128 + two_bits - 4;
    case kQ3_K:
      return bit < 2 ? 8 * 32 + two_bits : 8 * e + b;
    case kQ2_K:
      return 8 * 16 + two_bits;
    case kTQ2_0:
      return two_bits;
    case kGgmlNvfp4:
      return 8 * (col / 64 * 36 + 4 + col % 64 / 16 * 8 + col % 8) + 4 * (col % 16 / 8) + bit;
    case kMxfp4:
    case kNvfp4:
      return 4 * col + bit;
    case kQ1_0:
      return 8 * (col / 128 * 18 + 2) + col % 128;
    case kQ2_0:
      return 8 * (col / 64 * 18 + 2) + 2 * (col % 64) + bit;
    default:
      break;
  }
  KTJIT_UNREACHABLE("a format whose codes are stored as they are prepared");
}

/// Bit `bit` of byte i of the head, whatever is added to it then.
int native_head_bit(FormatId format, int i, int bit) {
  const auto byte = [bit](int at) { return 8 * at + bit; };
  const int two = 2 * i + bit / 4;  // of what has 4 bits
  switch (format) {
    case kQ4_0:
    case kIQ4_NL:
    case kQ1_0:
    case kQ2_0:
      return byte(18 * (i / 2) + i % 2);
    case kQ4_1:
      return byte(20 * (i % 16 / 2) + i / 16 * 2 + i % 2);
    case kQ5_0:
      return byte(22 * (i / 2) + i % 2);
    case kQ5_1:
      return byte(24 * (i % 16 / 2) + i / 16 * 2 + i % 2);
    case kQ8_0:
      return byte(34 * (i / 2) + i % 2);
    case kQ2_K:
    case kQ4_K:
    case kQ5_K:
      return byte(i);
    case kQ6_K:
      return byte(192 + i);
    case kTQ1_0:
      return byte(52 + i);
    case kTQ2_0:
      return byte(64 + i);
    case kGgmlMxfp4:
      return byte(17 * i);
    case kGgmlNvfp4:
      return byte(36 * (i / 4) + i % 4);
    case kIQ3_S:
      return byte(106 + i);
    case kIQ2_XS:
      return byte(66 + i);
    case kIQ2_S:
      return byte(74 + i);
    case kQ3_K:  // six bits
      return bit < 4 ? 8 * (96 + i % 8) + 4 * (i / 8) + bit
                     : 8 * (104 + i % 4) + 2 * (i / 4) + bit - 4;
    case kIQ4_XS:
      return bit < 4 ? 8 * (4 + i / 2) + 4 * (i % 2) + bit
                     : 8 * (2 + i / 4) + 2 * (i % 4) + bit - 4;
    case kIQ3_XXS:
      return 8 * (66 + 4 * two) + 28 + bit % 4;
    case kIQ2_XXS:
      return 8 * (6 + 8 * two) + 28 + bit % 4;
    case kIQ1_S:
      return 8 * (34 + 2 * (i + bit / 4 * 4)) + 12 + bit % 4;
    case kIQ1_M:
      return bit % 4 < 3 ? 8 * (48 + two / 4 * 2) + 3 * (two % 4) + bit % 4 : 8 * (32 + two) + 3;
    default:
      break;
  }
  KTJIT_UNREACHABLE("a format whose scales lie in its blocks");
}

/// Bit `bit` of byte i of the tail.
int native_tail_bit(FormatId format, int i, int bit) {
  switch (format) {
    case kQ2_K:
      return 8 * (80 + i) + bit;
    case kQ3_K:
      return 8 * (108 + i) + bit;
    case kQ6_K:
      return 8 * (208 + i) + bit;
    case kIQ1_M: {
      if (i < 2) return 8 * (48 + 2 * (2 * i + bit / 4)) + 12 + bit % 4;
      return 8 * (32 + 8 * (i - 2) + 2 * (bit % 4) + bit / 4) + 7;
    }
    default:
      return 8 * i + bit;  // d comes first in a block
  }
}

/// Bit `bit` of the number of the block's nth codebook entry.
int native_entry_bit(FormatId format, int n, int bit) {
  switch (format) {
    case kIQ3_XXS:
      return 8 * (2 + n) + bit;
    case kIQ3_S:
      return bit < 8 ? 8 * (2 + n) + bit : 8 * (66 + n / 8) + n % 8;
    case kIQ2_XXS:
      return 8 * (2 + 8 * (n / 4) + n % 4) + bit;
    case kIQ2_XS:
      return 16 * (1 + n) + bit;
    case kIQ2_S:
      return bit < 8 ? 8 * (2 + n) + bit : 8 * (66 + n / 4) + 2 * (n % 4) + bit - 8;
    case kIQ1_S:
      return bit < 8 ? 8 * (2 + n) + bit : 8 * (34 + 2 * (n / 4)) + 3 * (n % 4) + bit - 8;
    case kIQ1_M:
      return bit < 8 ? 8 * n + bit : 8 * (32 + n / 2) + 4 * (n % 2) + bit - 8;
    default:
      break;
  }
  KTJIT_UNREACHABLE("a format with a codebook");
}

bool has_signs(FormatId format) { return format != kIQ1_S && format != kIQ1_M; }

/// The sign of a column; nothing for the last of eight where the number of set signs is even.
std::optional<int> native_sign_bit(FormatId format, int col) {
  const int group = col / 32, eight = col % 32 / 8, e = col % 8;
  if (format == kIQ3_S) return 8 * 74 + col;
  if (format == kIQ2_S) return 8 * 34 + col;
  if (e == 7) return std::nullopt;
  if (format == kIQ3_XXS) return 8 * (66 + 4 * group) + 7 * eight + e;
  if (format == kIQ2_XXS) return 8 * (6 + 8 * group) + 7 * eight + e;
  return 16 * (1 + col / 8) + 9 + e;  // iq2_xs
}

/// Where a column's digit of base 3 lies: a byte of the block, and which of its five.
struct DigitPlace {
  int byte;
  int digit;
};

DigitPlace tq1_0_place(int col) {
  if (col < 160) return {col % 32, col / 32};
  if (col < 240) return {32 + col % 16, (col - 160) / 16};
  return {48 + col % 4, (col - 240) / 4};
}

// ---- units

bool has_blocks_of_16(FormatId format) {
  constexpr std::array kFormats = {kQ6_K,  kQ3_K,   kQ2_K,  kGgmlNvfp4,
                                   kNvfp4, kIQ2_XS, kIQ2_S, kIQ1_M};
  return std::ranges::find(kFormats, format) != kFormats.end();
}

/// Bit `bit` of the code of a column of row r in a unit.
int unit_code_bit(const PreparedLayout& layout, int r, int col, int bit) {
  const bool is_16 = has_blocks_of_16(layout.format);
  const int pair = col / 64, i = col % 4, half = r / 8;
  const int q = is_16 ? col % 32 / 8 : col % 64 / 16;
  const int k = is_16 ? col % 64 / 32 * 2 + col % 8 / 4 : col % 16 / 4;
  const auto word = [&](int vector, int of_vector) {
    return 8 * (512 * vector + 16 * (r % 8 * 4 + q) + 4 * of_vector);
  };
  const auto of_twelve = [&](int n) { return word(n / 4, n % 4); };
  const int three = 6 * half + 3 * (k / 2), odd = k % 2;
  const int low_nibble = word(2 * half + pair % 2, k) + 8 * i + 4 * (pair / 2) + bit;
  switch (layout.packing) {
    case CodePacking::k8:
      return word(2 * pair + half, k) + 8 * i + bit;
    case CodePacking::k4:
      return low_nibble;
    case CodePacking::k4Table:
      return word(2 * half + pair % 2, k) + 4 * i + 16 * (pair / 2) + bit;
    case CodePacking::k5:
      return bit < 4 ? low_nibble : word(4, 2 * half + k / 2) + 8 * i + 4 * odd + pair;
    case CodePacking::k6:
      return pair < 3 ? word(3 * half + pair, k) + 8 * i + bit
                      : word(3 * half + bit / 2, k) + 8 * i + 6 + bit % 2;
    case CodePacking::k2:
      return word(half, k) + 8 * i + 2 * pair + bit;
    case CodePacking::k1:
      return word(0, 2 * half + k / 2) + 8 * i + 4 * odd + pair;
    case CodePacking::k3:
      if (pair == 1) return of_twelve(three + 2) + 8 * i + 3 * odd + bit;
      if (pair < 3) return of_twelve(three + odd) + 8 * i + 3 * (pair / 2) + bit;
      return bit < 2 ? of_twelve(three + odd) + 8 * i + 6 + bit
                     : of_twelve(three + 2) + 8 * i + 6 + odd;
    case CodePacking::k3Table:
      if (pair == 1) return of_twelve(three + 2) + 16 * odd + 4 * i + bit;
      if (pair < 3) return of_twelve(three + odd) + 16 * (pair / 2) + 4 * i + bit;
      return of_twelve(three + bit) + 16 * odd + 4 * i + 3;
  }
  KTJIT_UNREACHABLE("a known packing");
}

// ---- rows of a unit

/// What 256 columns of a row are in a unit.
struct UnitRow {
  std::array<unsigned, kUnitCols> codes{};
  std::array<unsigned, 32> head{};
  std::array<unsigned, 4> tail{};
};

/// A stored scale as it is prepared, and back.
unsigned prepared_scale(FormatId format, unsigned scale) {
  if (format == kQ3_K || format == kIQ4_XS) return (scale - 32) & 255;
  if (format != kGgmlNvfp4) return scale;
  return scale == 0x7f ? 0x80 : scale == 0x80 ? 0 : scale == 0xff ? 0x7f : scale;
}

unsigned native_scale(FormatId format, unsigned scale) {
  if (format == kQ3_K || format == kIQ4_XS) return (scale + 32) & 63;
  if (format != kGgmlNvfp4) return scale;
  return scale == 0x80 ? 0x7f : scale == 0x7f ? 0xff : scale;
}

int head_bits(FormatId format) { return format == kQ3_K || format == kIQ4_XS ? 6 : 8; }

int entry_bits(std::size_t entries) {
  int bits = 0;
  while (std::size_t{1} << bits < entries) ++bits;
  return bits;
}

void take_codes(const PreparedLayout& layout, ConstBits native, UnitRow& row) {
  const FormatId format = layout.format;
  if (const Codebook* codebook = find_codebook(format)) {
    const int elems = codebook->entry_elems, sign = elems == 8 ? 2 : 3;
    for (int n = 0; n < kUnitCols / elems; ++n) {
      unsigned entry = 0;
      for (int bit = 0; bit < entry_bits(codebook->entries.size()); ++bit)
        entry |= bit_at(native, native_entry_bit(format, n, bit)) << bit;
      for (int e = 0; e < elems; ++e) {
        const int shift = 4 * (e % 4) + 2 * (e / 4);
        row.codes[static_cast<std::size_t>(n * elems + e)] =
            codebook->entries[entry] >> shift & (elems == 8 ? 3u : 7u);
      }
    }
    if (!has_signs(format)) return;
    unsigned set = 0;  // of eight
    for (int col = 0; col < kUnitCols; ++col) {
      if (col % 8 == 0) set = 0;
      const std::optional<int> at = native_sign_bit(format, col);
      const unsigned negative = at ? bit_at(native, *at) : set % 2;
      set += negative;
      row.codes[static_cast<std::size_t>(col)] |= negative << sign;
    }
    return;
  }
  for (int col = 0; col < kUnitCols; ++col) {
    unsigned& code = row.codes[static_cast<std::size_t>(col)];
    if (format == kTQ1_0) {
      const DigitPlace place = tq1_0_place(col);
      unsigned rest = std::to_integer<unsigned>(native[static_cast<std::size_t>(place.byte)]);
      for (int i = 0; i < place.digit; ++i) rest = rest * 3 % 256;
      code = rest * 3 / 256;
      continue;
    }
    for (int bit = 0; bit < layout.code_bits(); ++bit)
      code |= bit_at(native, native_code_bit(format, col, bit)) << bit;
  }
}

void give_codes(const PreparedLayout& layout, const UnitRow& row, Bits native) {
  const FormatId format = layout.format;
  if (const Codebook* codebook = find_codebook(format)) {
    const int elems = codebook->entry_elems, sign = elems == 8 ? 2 : 3;
    for (int n = 0; n < kUnitCols / elems; ++n) {
      unsigned packed = 0;
      for (int e = 0; e < elems; ++e) {
        const unsigned code = row.codes[static_cast<std::size_t>(n * elems + e)];
        packed |= (code & (elems == 8 ? 3u : 7u)) << (4 * (e % 4) + 2 * (e / 4));
      }
      const auto found = std::ranges::find(codebook->entries, packed);
      const auto entry = found == codebook->entries.end() ? 0 : found - codebook->entries.begin();
      for (int bit = 0; bit < entry_bits(codebook->entries.size()); ++bit)
        set_bit(native, native_entry_bit(format, n, bit), unsigned(entry >> bit) & 1u);
    }
    if (!has_signs(format)) return;
    for (int col = 0; col < kUnitCols; ++col) {
      if (const std::optional<int> at = native_sign_bit(format, col))
        set_bit(native, *at, row.codes[static_cast<std::size_t>(col)] >> sign & 1u);
    }
    return;
  }
  if (format == kTQ1_0) {
    std::array<std::array<unsigned, 5>, 52> digits{};
    for (int col = 0; col < kUnitCols; ++col) {
      const DigitPlace place = tq1_0_place(col);
      digits[static_cast<std::size_t>(place.byte)][static_cast<std::size_t>(place.digit)] =
          row.codes[static_cast<std::size_t>(col)];
    }
    for (std::size_t byte = 0; byte < digits.size(); ++byte) {
      unsigned number = 0;
      for (const unsigned digit : digits[byte]) number = 3 * number + digit;
      native[byte] = static_cast<std::byte>((256 * number + 242) / 243);
    }
    return;
  }
  for (int col = 0; col < kUnitCols; ++col) {
    for (int bit = 0; bit < layout.code_bits(); ++bit) {
      set_bit(native, native_code_bit(format, col, bit),
              row.codes[static_cast<std::size_t>(col)] >> bit & 1u);
    }
  }
}

/// `scales`: those of 256 columns in a plane of their own, and `tensor_scale` what the plane begins with, else empty.
UnitRow take_row(const PreparedLayout& layout, ConstBits native, ConstBits scales,
                 ConstBits tensor_scale) {
  const FormatId format = layout.format;
  UnitRow row;
  take_codes(layout, native, row);
  if (scales.empty()) {
    for (int i = 0; i < layout.head_bytes; ++i) {
      unsigned scale = 0;
      for (int bit = 0; bit < head_bits(format); ++bit)
        scale |= bit_at(native, native_head_bit(format, i, bit)) << bit;
      row.head[static_cast<std::size_t>(i)] = prepared_scale(format, scale);
    }
    for (int i = 0; i < layout.tail_bytes; ++i) {
      for (int bit = 0; bit < 8; ++bit)
        row.tail[static_cast<std::size_t>(i)] |= bit_at(native, native_tail_bit(format, i, bit))
                                                 << bit;
    }
    return row;
  }
  const std::size_t elems = kUnitCols / scales.size();
  bool has_nan = false;
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const auto scale = std::to_integer<unsigned>(scales[i]);
    const auto codes = std::span(row.codes).subspan(i * elems, elems);
    row.head[i] = format == kMxfp4 ? scale : scale & 127;
    if (format == kMxfp4 && scale == 255) std::ranges::fill(codes, 0u);
    if (format == kMxfp4) continue;
    has_nan |= row.head[i] == 127;
    if (scale >= 128) {
      for (unsigned& code : codes) code ^= 8;
    }
  }
  for (std::size_t i = 0; i < tensor_scale.size(); ++i)
    row.tail[i] = has_nan ? 0x7fc00000u >> 8 * i & 255 : std::to_integer<unsigned>(tensor_scale[i]);
  return row;
}

void give_row(const PreparedLayout& layout, const UnitRow& row, Bits native, Bits scales) {
  give_codes(layout, row, native);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<std::byte>(row.head[i]);
  if (!scales.empty()) return;
  for (int i = 0; i < layout.head_bytes; ++i) {
    const unsigned scale = native_scale(layout.format, row.head[static_cast<std::size_t>(i)]);
    for (int bit = 0; bit < head_bits(layout.format); ++bit)
      set_bit(native, native_head_bit(layout.format, i, bit), scale >> bit & 1u);
  }
  for (int i = 0; i < layout.tail_bytes; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      set_bit(native, native_tail_bit(layout.format, i, bit),
              row.tail[static_cast<std::size_t>(i)] >> bit & 1u);
    }
  }
}

int head_at(const PreparedLayout& layout, int r) {
  return kUnitRows * kUnitCols / 8 * layout.code_bits() + r * layout.head_bytes;
}

int tail_at(const PreparedLayout& layout, int r) {
  return head_at(layout, kUnitRows) + r * layout.tail_bytes;
}

void put_row(const PreparedLayout& layout, const UnitRow& row, int r, Bits unit) {
  for (int col = 0; col < kUnitCols; ++col) {
    for (int bit = 0; bit < layout.code_bits(); ++bit) {
      set_bit(unit, unit_code_bit(layout, r, col, bit),
              row.codes[static_cast<std::size_t>(col)] >> bit & 1u);
    }
  }
  for (int i = 0; i < layout.head_bytes; ++i)
    unit[static_cast<std::size_t>(head_at(layout, r) + i)] =
        static_cast<std::byte>(row.head[static_cast<std::size_t>(i)]);
  for (int i = 0; i < layout.tail_bytes; ++i)
    unit[static_cast<std::size_t>(tail_at(layout, r) + i)] =
        static_cast<std::byte>(row.tail[static_cast<std::size_t>(i)]);
}

UnitRow get_row(const PreparedLayout& layout, ConstBits unit, int r) {
  UnitRow row;
  for (int col = 0; col < kUnitCols; ++col) {
    for (int bit = 0; bit < layout.code_bits(); ++bit)
      row.codes[static_cast<std::size_t>(col)] |= bit_at(unit, unit_code_bit(layout, r, col, bit))
                                                  << bit;
  }
  for (int i = 0; i < layout.head_bytes; ++i)
    row.head[static_cast<std::size_t>(i)] =
        std::to_integer<unsigned>(unit[static_cast<std::size_t>(head_at(layout, r) + i)]);
  for (int i = 0; i < layout.tail_bytes; ++i)
    row.tail[static_cast<std::size_t>(i)] =
        std::to_integer<unsigned>(unit[static_cast<std::size_t>(tail_at(layout, r) + i)]);
  return row;
}

void check_bytes(std::string_view what, std::size_t given, std::int64_t expected) {
  if (given != static_cast<std::size_t>(expected))
    throw SpecError(what, fmt::format("{} bytes", given), fmt::format("{} bytes", expected));
}

/// Rows of a matrix, unit by unit.
struct Matrix {
  PreparedLayout layout;
  std::int64_t cols;
  std::size_t row_bytes;
  std::size_t unit_row_bytes;  ///< native, of 256 columns
  std::optional<ScaleGrid> grid;
  std::size_t scale_cols = 0;
  std::size_t unit_scales = 0;

  Matrix(FormatId format, std::int64_t cols_of_matrix) : cols(cols_of_matrix) {
    prepared_bytes(format, 1, cols);  // refuses formats without a layout, and columns
    layout = *find_prepared_layout(format);
    row_bytes = static_cast<std::size_t>(ktjit::row_bytes(get_format(format), cols));
    unit_row_bytes = static_cast<std::size_t>(ktjit::row_bytes(get_format(format), kUnitCols));
    grid = fixed_scale_grid(format);
    if (!grid) return;
    scale_cols = static_cast<std::size_t>(grid->cols_of_scales(cols));
    unit_scales = static_cast<std::size_t>(grid->cols_of_scales(kUnitCols));
  }

  std::int64_t units() const { return (cols - 1) / kUnitCols + 1; }
  std::size_t unit_bytes() const { return static_cast<std::size_t>(layout.unit_bytes()); }
  std::size_t unit_at(std::int64_t row, std::int64_t u) const {
    return static_cast<std::size_t>(row / kUnitRows * units() + u) * unit_bytes();
  }
  std::size_t header_bytes() const {
    return grid ? static_cast<std::size_t>(grid->header_bytes()) : 0;
  }
};

}  // namespace

std::vector<std::byte> prepare_reference(const ScaledTensorView& weights) {
  const Matrix matrix(weights.format, weights.cols);
  check_bytes("w", weights.data.size(), weights.rows * static_cast<std::int64_t>(matrix.row_bytes));
  if (matrix.grid)
    check_bytes("scale", weights.scale_data.size(),
                matrix.grid->plane_bytes(weights.rows, weights.cols));
  std::vector<std::byte> prepared(
      static_cast<std::size_t>(prepared_bytes(weights.format, weights.rows, weights.cols)));
  const auto tail = std::min(matrix.header_bytes(), std::size_t{4});
  for (std::int64_t row = 0; row < weights.rows; ++row) {
    for (std::int64_t u = 0; u < matrix.units(); ++u) {
      const auto part_of = [&](ConstBits of_row, std::size_t of_unit) {
        const std::size_t first = static_cast<std::size_t>(u) * of_unit;
        std::vector<std::byte> part(of_unit);
        std::ranges::copy(of_row.subspan(first, std::min(of_unit, of_row.size() - first)),
                          part.begin());
        return part;
      };
      const auto index = static_cast<std::size_t>(row);
      const auto native = part_of(weights.data.subspan(index * matrix.row_bytes, matrix.row_bytes),
                                  matrix.unit_row_bytes);
      std::vector<std::byte> scales;
      if (matrix.grid) {
        scales = part_of(weights.scale_data.subspan(
                             matrix.header_bytes() + index * matrix.scale_cols, matrix.scale_cols),
                         matrix.unit_scales);
      }
      put_row(matrix.layout,
              take_row(matrix.layout, native, scales, weights.scale_data.first(tail)),
              static_cast<int>(row % kUnitRows),
              std::span(prepared).subspan(matrix.unit_at(row, u), matrix.unit_bytes()));
    }
  }
  return prepared;
}

NativeWeights restore_reference(FormatId format, std::int64_t rows, std::int64_t cols,
                                std::span<const std::byte> prepared, std::int64_t first_row,
                                std::int64_t n_rows) {
  const Matrix matrix(format, cols);
  check_bytes("prepared", prepared.size(), prepared_bytes(format, rows, cols));
  if (first_row < 0 || n_rows < 0 || n_rows > rows - first_row) {
    throw SpecError("rows", fmt::format("{} from {} on", n_rows, first_row),
                    fmt::format("0 to {}", rows));
  }
  NativeWeights weights;
  weights.data.resize(static_cast<std::size_t>(n_rows) * matrix.row_bytes);
  if (matrix.grid)
    weights.scales.resize(static_cast<std::size_t>(matrix.grid->plane_bytes(n_rows, cols)));
  for (std::int64_t row = first_row; row < first_row + n_rows; ++row) {
    const auto index = static_cast<std::size_t>(row - first_row);
    for (std::int64_t u = 0; u < matrix.units(); ++u) {
      const UnitRow there =
          get_row(matrix.layout, prepared.subspan(matrix.unit_at(row, u), matrix.unit_bytes()),
                  static_cast<int>(row % kUnitRows));
      std::vector<std::byte> native(matrix.unit_row_bytes), scales(matrix.unit_scales);
      give_row(matrix.layout, there, native, scales);
      const auto put = [&](const std::vector<std::byte>& part, Bits of_row) {
        const std::size_t first = static_cast<std::size_t>(u) * part.size();
        std::copy_n(part.begin(), std::min(part.size(), of_row.size() - first),
                    of_row.begin() + static_cast<std::ptrdiff_t>(first));
      };
      put(native, std::span(weights.data).subspan(index * matrix.row_bytes, matrix.row_bytes));
      if (!matrix.grid) continue;
      put(scales,
          std::span(weights.scales)
              .subspan(matrix.header_bytes() + index * matrix.scale_cols, matrix.scale_cols));
      if (matrix.header_bytes() == 0 || index != 0 || u != 0) continue;
      for (std::size_t i = 0; i < there.tail.size(); ++i)
        weights.scales[i] = static_cast<std::byte>(there.tail[i]);
    }
  }
  return weights;
}

}  // namespace ktjit
