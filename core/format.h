// The table of number formats: how the elements of a tensor are encoded. Every other part asks this
// table; how a format is decoded on a target is codegen's business.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ktjit {

enum class FormatId {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kFp8E4M3,
  kFp8E5M2,
  kFp8E4B15,
  kFp8E4M3Fnuz,
  kFp8E5M2Fnuz,
  kMxfp6E2M3,
  kMxfp6E3M2,
  kMxfp4,
  kNvfp4,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ8_1,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ8_K,
  kIQ1_S,
  kIQ1_M,
  kIQ2_XXS,
  kIQ2_XS,
  kIQ2_S,
  kIQ3_XXS,
  kIQ3_S,
  kIQ4_NL,
  kIQ4_XS,
  kTQ1_0,
  kTQ2_0,
  kGgmlMxfp4,
  kGgmlNvfp4,
  kQ1_0,
  kQ2_0,
  kBool,
  kU8,
  kU16,
  kU32,
  kU64,
  kC64,
  kE8M0,
  kFp4E2M1,
  kFp6E2M3,
  kFp6E3M2,
};

enum class FormatFamily {
  kFloat,    ///< IEEE-like floats of 16 bits and more
  kInteger,  ///< plain integers, bool among them
  kFp8,      ///< 8-bit floats; scales, if any, lie in a tensor of their own
  kMx,       ///< OCP MXFP6, MXFP4 and NVFP4: codes of 6 or 4 bits as one little-endian stream, that
             ///< of element i from bit 6 i or 4 i on; the scales of a fixed grid lie in a tensor of
             ///< their own
  kGgml,     ///< blocks that carry their own scales, as ggml defines them
  kStored,   ///< types that files hold and nothing computes with: complex numbers, bare E8M0, FP4
             ///< and FP6 codes, the first of a byte in its low bits
};

/// One number format. `block_elems` elements, consecutive along a row, take `block_bytes` bytes.
struct Format {
  FormatId id;
  std::string_view name;  ///< as printed, for example "q4_K", "fp8_e4m3"
  FormatFamily family;
  int block_elems;
  int block_bytes;
  int ggml_type;  ///< type id in GGUF files, -1 where there is none

  double bits_per_element() const { return 8.0 * block_bytes / block_elems; }
};

/// All formats, in the order of FormatId.
std::span<const Format> all_formats();

const Format& get_format(FormatId id);

/// Finds a format by its name or any alias (`fp8e4nv`, `float8_e4m3fn`, `Q4_K`, ...), whatever the
/// case.
const Format* find_format(std::string_view name);

/// As find_format. Errors: SpecError with the known names.
const Format& get_format(std::string_view name);

const Format* find_ggml_format(std::uint32_t ggml_type);

/// Other names that people use for the format, for messages; empty if there are none.
std::span<const std::string_view> format_aliases(FormatId id);

enum class ScaleType {
  kF32,
  kBF16,
  kE8M0,  ///< 2^(code - 127), 255 is NaN
  kE4M3,  ///< NVFP4's two levels: the plane begins with ScaleGrid::header_bytes, of which the first 4
          ///< are the tensor's f32 scale and the others zero; a block's scale is f32(code) * that,
          ///< rounded once to f32
};

/// One scale per `block_rows` x `block_cols` block of a matrix; edge blocks may be smaller.
/// A zero stands for the whole extent, so {0, 0} is one scale per tensor and {1, 0} one per row.
/// Scales lie row-major, [ceil(rows / block_rows), ceil(cols / block_cols)], and multiply the
/// decoded value.
struct ScaleGrid {
  std::int64_t block_rows = 0;
  std::int64_t block_cols = 0;
  ScaleType type = ScaleType::kF32;

  bool operator==(const ScaleGrid&) const = default;

  std::int64_t rows_of_scales(std::int64_t rows) const;
  std::int64_t cols_of_scales(std::int64_t cols) const;
  /// Bytes before the first scale: 16 of a plane of kE4M3 scales, so that the alignment of vector
  /// loads is kept, none of others.
  std::int64_t header_bytes() const;
  /// Bytes of the whole plane of scales of a [rows, cols] matrix.
  std::int64_t plane_bytes(std::int64_t rows, std::int64_t cols) const;
};

std::string_view scale_type_name(ScaleType type);
int scale_type_bytes(ScaleType type);
/// The grid that belongs to the format: 1x32 e8m0 of mxfp6 and mxfp4, 1x16 e4m3 of nvfp4; nothing for
/// others.
std::optional<ScaleGrid> fixed_scale_grid(FormatId id);
/// Whether the format's scales, if any, lie in a tensor of their own.
bool has_separate_scales(FormatId id);
/// Errors: SpecError unless `name` is f32, bf16, e8m0 or e4m3.
ScaleType get_scale_type(std::string_view name);
/// "none" for an absent grid, "tensor", "row", or "128x128", each with the type: "128x128 f32".
std::string scale_grid_name(const std::optional<ScaleGrid>& grid);

/// How a matrix is encoded: its elements' format and, where they lie beside it, its scales.
struct WeightFormat {
  FormatId id = FormatId::kF32;
  std::optional<ScaleGrid> scale;

  bool operator==(const WeightFormat&) const = default;
  /// The name that says both, where there is one: mxfp8_e4m3 of fp8_e4m3 with scales of 1x32 e8m0.
  /// Otherwise the element format's name.
  std::string_view name() const;
};

/// Names of formats that are no format of elements: `mxfp8_e4m3`, `mxfp8_e5m2`.
std::span<const std::string_view> scaled_format_names();

/// What `name` means where weights are described: a format's name or alias, or one of
/// scaled_format_names; with the scales that the name implies, or with `scale`.
/// Errors: SpecError with the known names; for a `scale` other than the one that the name implies.
WeightFormat get_weight_format(std::string_view name,
                               const std::optional<ScaleGrid>& scale = std::nullopt);

}  // namespace ktjit
