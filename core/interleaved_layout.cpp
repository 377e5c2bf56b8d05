// The fields of blocks and the sizes of interleaved weights.
#include "core/interleaved_layout.h"

#include <algorithm>
#include <fmt/format.h>

#include "core/error.h"
#include "core/prepared_layout.h"
#include "core/tensor_layout.h"

namespace ktjit {
namespace {

constexpr bool kBitwise = true;

// Fields that hold scales come first where blocks are smaller than a unit: their words then lie side by side.
constexpr std::array kLayouts = {
    InterleavedLayout{FormatId::kQ4_0, {{{0, 2}, {2, 16}}}},
    InterleavedLayout{FormatId::kQ4_1, {{{0, 4}, {4, 16}}}},
    InterleavedLayout{FormatId::kQ5_0, {{{0, 2}, {2, 4, kBitwise}, {6, 16}}}},
    InterleavedLayout{FormatId::kQ5_1, {{{0, 4}, {4, 4, kBitwise}, {8, 16}}}},
    InterleavedLayout{FormatId::kQ8_0, {{{0, 2}, {2, 32}}}},
    InterleavedLayout{FormatId::kQ2_K, {{{80, 4}, {0, 16}, {16, 64}}}},
    InterleavedLayout{FormatId::kQ3_K, {{{96, 12}, {0, 32}, {32, 64}, {108, 2}}}},
    InterleavedLayout{FormatId::kQ4_K, {{{0, 144}}}},
    InterleavedLayout{FormatId::kQ5_K, {{{0, 176}}}},
    InterleavedLayout{FormatId::kQ6_K, {{{192, 16}, {0, 192}, {208, 2}}}},
    InterleavedLayout{FormatId::kIQ4_NL, {{{0, 2}, {2, 16}}}},
    InterleavedLayout{FormatId::kIQ4_XS, {{{0, 136}}}},
    InterleavedLayout{FormatId::kGgmlMxfp4, {{{0, 1}, {1, 16}}}},
    InterleavedLayout{FormatId::kGgmlNvfp4, {{{0, 4}, {4, 32}}}},
    InterleavedLayout{FormatId::kTQ2_0, {{{0, 66}}}},
    InterleavedLayout{FormatId::kIQ3_S, {}},
    InterleavedLayout{FormatId::kIQ3_XXS, {}},
    InterleavedLayout{FormatId::kIQ2_S, {}},
    InterleavedLayout{FormatId::kIQ2_XS, {}},
    InterleavedLayout{FormatId::kIQ2_XXS, {}},
    InterleavedLayout{FormatId::kIQ1_M, {}},
    InterleavedLayout{FormatId::kIQ1_S, {}},
    InterleavedLayout{FormatId::kTQ1_0, {}},
    InterleavedLayout{FormatId::kQ1_0, {}},
    InterleavedLayout{FormatId::kQ2_0, {}},
};

}  // namespace

int InterleavedLayout::blocks() const { return kInterleavedCols / get_format(format).block_elems; }

int InterleavedLayout::row_bytes() const {
  constexpr int kWord = 4;
  const auto whole_words = [](int bytes) { return (bytes + kWord - 1) / kWord * kWord; };
  if (!has_planes()) return whole_words(blocks() * get_format(format).block_bytes);
  const PreparedLayout& prepared = *find_prepared_layout(format);
  return whole_words(prepared.head_bytes + prepared.tail_bytes) +
         kInterleavedCols / 8 * prepared.code_bits();
}

std::int64_t InterleavedLayout::unit_bytes() const {
  return std::int64_t{kInterleavedRows} * row_bytes();
}

const InterleavedLayout* find_interleaved_layout(FormatId format) {
  const auto found = std::ranges::find(kLayouts, format, &InterleavedLayout::format);
  return found == kLayouts.end() ? nullptr : &*found;
}

std::int64_t interleaved_bytes(FormatId format, std::int64_t rows, std::int64_t cols) {
  const InterleavedLayout* layout = find_interleaved_layout(format);
  if (layout == nullptr) {
    throw SpecError("format", get_format(format).name, "a format that has an interleaved layout");
  }
  ktjit::row_bytes(get_format(format), cols);  // refuses columns that are no whole number of blocks
  if (rows < 1) throw SpecError("rows", fmt::format("{}", rows), "1 or more");
  const std::int64_t units = (cols - 1) / kInterleavedCols + 1;
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow((rows - 1) / kInterleavedRows + 1, units * layout->unit_bytes(),
                             &bytes))
    throw SpecError("rows", fmt::format("{}", rows), "fewer: less than 2^63 bytes");
  return bytes;
}

}  // namespace ktjit
