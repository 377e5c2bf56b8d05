// Matvec of prepared weights on integer tensor cores, and the kernel that prepares them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/emitter.h"
#include "codegen/emitter_parts.h"
#include "codegen/fragment_library.h"

namespace ktjit::codegen {

/// Matvec of LayoutKind::kPrepared. Errors: SpecError for knobs, or columns whose x does not fit the target's
/// shared memory.
EmittedKernel emit_unit_matvec(const KernelSpec& spec, const Lowering& lowering);

/// The knobs for launches of about so many rows, of all matrices: other than none where few tiles of 16 rows for each
/// multiprocessor want others than the emitter's own.
Tuning unit_matvec_tuning(const KernelSpec& spec, std::int64_t rows);

/// Columns that share a scale as the format's units are laid out, 32 or 16: they decide the order of codes.
int unit_block_cols(FormatId format);
/// How its codes are packed, "k4": as pieces of templates are named by it.
std::string_view unit_packing(FormatId format);

/// What the codes of a unit mean: a number of a block is factor * its scale * (code + offset) + its minimum.
struct UnitDecode {
  int block_cols = 32;            ///< 32 or 16
  bool has_signed_codes = false;  ///< codes, or the levels that they choose, are signed bytes
  int offset = 0;
  float factor = 1.0f;
  std::string_view minimum;  ///< variant of the piece block_minimum; "none" without minima
  std::array<int, 4>
      code_shifts{};  ///< bits to the right that bring the codes of pairs 0 to 3 down; -1: up
  bool has_scale_nan = false;  ///< an e8m0 of 255 is a NaN, not a power of two
};

/// REQUIRES: the format has a prepared layout.
UnitDecode unit_decode(FormatId format);

/// The function code_shift of the piece plain_codes, from UnitDecode::code_shifts.
std::string code_shift_text(const std::array<int, 4>& shifts);

/// Variants of the pieces that read units of the spec's format. `has_joined_levels`: codes that choose from 16 levels
/// become one operand, not two.
void add_unit_variants(const KernelSpec& spec, bool has_joined_levels, FragmentVariants& variants);
/// The tables of levels that pair_codes reads.
void add_level_constants(FormatId format, bool has_joined_levels, std::vector<Constant>& constants);

/// Adds what the piece prepare_quarter needs, which makes units of native blocks; gives the expression of its row, from
/// `w`, `scale` and `row`.
std::string add_prepare_parts(const KernelSpec& spec, std::vector<Constant>& constants,
                              FragmentVariants& variants, std::vector<std::string>& names);

EmittedKernel emit_prepare(const KernelSpec& spec, const Lowering& lowering);

}  // namespace ktjit::codegen
