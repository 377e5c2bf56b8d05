// The prepared layout: weights rearranged once so that a warp reads whole aligned vectors and feeds their bytes to
// integer tensor cores, or to dp4a. A matrix is cut into units of 16 rows and 256 columns; units lie one after another
// along the columns, then along the rows, padded with zeros at the last row and column. In a unit come the
// codes, as 16-byte vectors in the order of the 32 lanes, then for each row its head (scales of blocks), then for
// each row its tail (scales of the whole, where there are both). Scales that lie in a plane of their own before
// (mxfp4, nvfp4) are in the units too.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/format.h"
#include "core/kernel_spec.h"

namespace ktjit {

/// How 256 codes of a row are packed: bits of a code, or 3 or 4 bits that choose from a table.
enum class CodePacking { k1, k2, k3, k3Table, k4, k4Table, k5, k6, k8 };

struct PreparedLayout {
  FormatId format = FormatId::kF32;
  CodePacking packing = CodePacking::k8;
  int head_bytes = 0;  ///< of a row of a unit: 2, 4, 8, 16 or 32
  int tail_bytes = 0;  ///< 0, 2 or 4

  int code_bits() const;
  std::int64_t unit_bytes() const;
};

/// What files call the layout that is described above. The version is raised whenever the place or the meaning of a
/// byte changes, for any format: files of another version are refused.
constexpr std::string_view kPreparedLayoutName = "units_16x256";
constexpr int kPreparedLayoutVersion = 1;

constexpr int kUnitRows = 16;
constexpr int kUnitCols = 256;

/// Null for formats without one: floats, FP8 and FP6, whose rows are read as they are.
const PreparedLayout* find_prepared_layout(FormatId format);

/// Bytes of a prepared matrix. Errors: SpecError if the format has no prepared layout, or a size is not positive.
std::int64_t prepared_bytes(FormatId format, std::int64_t rows, std::int64_t cols);

/// As above, of whichever layout `kind` is; native: bytes of the rows. Errors: as above.
std::int64_t laid_out_bytes(LayoutKind kind, FormatId format, std::int64_t rows, std::int64_t cols);

/// The kernel that makes what a kernel of prepared weights reads, w -> y; none if the spec's are native.
std::optional<KernelSpec> prepare_spec_of(const KernelSpec& spec);
/// The kernel that makes native blocks of the weights that `spec` reads, w -> y and scales where they lie in a plane of
/// their own: byte for byte what was prepared, but for bytes that mean the same, and for NaNs and signs of mxfp4's and
/// nvfp4's scales: see templates/cuda/restore.cuh.in.
/// Requires: prepared weights.
KernelSpec restore_spec_of(const KernelSpec& spec);

/// "native", "prepared", "interleaved".
std::string_view layout_name(LayoutKind kind);
/// Errors: SpecError with the known names.
LayoutKind get_layout(std::string_view name);

/// The layout that matvec on the target takes when it is asked for prepared weights.
LayoutKind rearranged_layout(const Target& target);
/// Whether matvec kernels for the target read rearranged_layout of the format: GPUs where dp4a exists (sm_61, and sm_70
/// on), every CPU, for formats that have one. Prepare and restore have kernels for every target.
bool serves_prepared(FormatId format, const Target& target);

/// Whether dequant for the target reads the prepared layout. Not where scales lie in a plane of their own: such weights
/// are restored first.
bool dequantizes_prepared(FormatId format, const Target& target);

}  // namespace ktjit
