// What the CUDA and the CPU emitter share: descriptions for the header and scale arithmetic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/source_writer.h"
#include "core/kernel_spec.h"

namespace ktjit::codegen {

/// The text of a template file. Errors: InternalError if there is none of that path.
std::string_view get_template(std::string_view path);

/// Element type in emitted text: "float" for f32, "unsigned short" for f16 and bf16 bits.
std::string io_type(FormatId format);
std::string scale_c_type(ScaleType type);

/// Header values that every kernel has: kernel, emitter_version, weight_description,
/// scale_description, math, cols, row_bytes.
TemplateValues header_values(const KernelSpec& spec);

/// "q4_K  [rows, 512]  row-major, blocks of 256 elements in 144 bytes": w in the header, from the words for
/// its leading dimensions.
std::string weight_text(const KernelSpec& spec, const std::string& leading);
/// "f32  [ceil(rows / 128), 4]  row-major, one per 128 x 128 block of w": likewise, from the words for
/// leading dimensions ("" or "experts, ") and rows. REQUIRES: the spec has scales.
std::string scale_text(const KernelSpec& spec, const std::string& leading, const std::string& rows);

/// "cpu (avx2 fma): SUMMARY": a CPU target in the header.
std::string cpu_description(const Target& target, std::string_view summary);

/// True if one scale serves each run of `run` elements, so that it can be applied once.
bool scale_is_uniform_in_run(const ScaleGrid& grid, int run);

/// One named number of the emitted text.
struct Constant {
  std::string name;     ///< "kCols"; an int
  std::string value;    ///< a number, or an expression of constants before it
  std::string comment;  ///< what it counts, "" if the value says it
  std::string type = "int";
};

/// `constexpr` lines with their comments aligned.
std::string format_constants(const std::vector<Constant>& constants);

/// The constants of the weights' rows and of the scale grid, if there is one.
std::vector<Constant> shared_constants(const KernelSpec& spec, int run);
/// "row / kScaleBlockRows" and the like, from names of the row and column in the text.
std::string scale_row_index(const ScaleGrid& grid, const std::string& row);
std::string scale_col_index(const ScaleGrid& grid, const std::string& col);

/// The piece that decodes runs of a format: decode_run_q4_K, decode_run_fp8, ...
std::string decode_run_fragment(FormatId format);

/// `text` with every line but the first moved right.
std::string indented(std::string_view text, int spaces);
/// The same with the first line moved as well, and a line's end; "" of no text. Lines for the preprocessor stay at the left.
std::string placed_lines(std::string_view text, int spaces);

}  // namespace ktjit::codegen
