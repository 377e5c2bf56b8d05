// Chooses the emitter, and what both emitters share.
#include "codegen/emitter.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>

#include "codegen/cpu_emitter.h"
#include "codegen/cuda_emitter.h"
#include "codegen/emitter_parts.h"
#include "codegen/encoding.h"
#include "codegen/instruction_counts.h"
#include "codegen/product_text.h"
#include "core/error.h"
#include "core/prepared_layout.h"
#include "templates/embedded_templates.h"

namespace ktjit::codegen {

EmittedKernel emit(const KernelSpec& spec) {
  validate(spec);
  if (is_product(spec.op) && spec.activation == ActivationPolicy::kA8 &&
      spec.layout.kind != LayoutKind::kInterleaved) {
    throw SpecError("activation", "a8",
                    "a16, afp8 with matmul, or the interleaved layout, whose matvec takes a8");
  }
  constexpr std::int64_t kMaxCols =
      std::numeric_limits<int>::max() / 64;  // 32-bit column arithmetic in the text
  if (spec.layout.cols > kMaxCols) {
    throw SpecError("cols", fmt::format("{}", spec.layout.cols),
                    fmt::format("at most {}", kMaxCols));
  }
  if (spec.target.is_cpu()) return emit_cpu(spec);
  EmittedKernel emitted = emit_cuda(spec);
  if (spec.op != Op::kQuantize) return emitted;
  if (const InstructionCount* count =
          find_instruction_count(encode_conversion(spec.weight, spec.saturate), spec.target)) {
    emitted.lowering.instructions_per_4 = count->instructions_per_4();
    emitted.lowering.loads_per_4 = count->loads_per_4();
  }
  return emitted;
}

std::string_view get_template(std::string_view path) {
  for (const templates::TemplateFile& file : templates::all_files()) {
    if (file.path == path) return file.text;
  }
  KTJIT_UNREACHABLE("a template of that path");
}

std::string io_type(FormatId format) {
  return format == FormatId::kF32 ? "float" : "unsigned short";
}

std::string scale_c_type(ScaleType type) {
  switch (type) {
    case ScaleType::kF32:
      return "float";
    case ScaleType::kBF16:
      return "unsigned short";
    case ScaleType::kE8M0:
    case ScaleType::kE4M3:
      return "unsigned char";
  }
  KTJIT_UNREACHABLE("a known scale type");
}

namespace {

bool writes_scales(Op op) { return op == Op::kQuantize || op == Op::kRestore; }

}  // namespace

TemplateValues header_values(const KernelSpec& spec) {
  TemplateValues values;
  values["kernel"] = kernel_name(spec);
  values["emitter_version"] = fmt::format("{}", kEmitterVersion);
  values["cols"] = fmt::format("{}", spec.layout.cols);
  values["weight_description"] = weight_text(spec, "rows");
  const std::string decoded = spec.scale ? "decode(w) * scale" : "decode(w)";
  if (spec.op == Op::kDequant) {
    values["math"] = spec.y_format == FormatId::kF32
                         ? fmt::format("y = {}, as the format defines it", decoded)
                         : fmt::format("y = {}, then rounded once to {}, to nearest even", decoded,
                                       get_format(spec.y_format).name);
  } else if (is_product(spec.op)) {
    values["math"] = product_math(spec);
  } else if (spec.op == Op::kQuantize) {
    values["math"] = quantize_math(spec);
  } else {
    values["math"] = "";
  }
  values["scale_description"] = "";
  if (spec.scale) {
    const ScaleGrid& grid = *spec.scale;
    values["scale_description"] =
        fmt::format("//   scale    {}  {}\n", writes_scales(spec.op) ? "out" : "in ",
                    scale_text(spec, "", "rows"));
    if (spec.op == Op::kQuantize && grid.header_bytes() != 0) {
      values["scale_description"] += fmt::format(
          "//   scale    in   f32  the tensor's, in the first 4 of the {} bytes before those\n",
          grid.header_bytes());
    }
  }
  return values;
}

std::string weight_text(const KernelSpec& spec, const std::string& leading) {
  const Format& format = get_format(spec.weight);
  if (spec.layout.kind != LayoutKind::kNative && spec.op != Op::kPrepare) {
    return fmt::format("{}  [{}, {}]  {}", WeightFormat{spec.weight, spec.scale}.name(), leading,
                       spec.layout.cols, layout_name(spec.layout.kind));
  }
  return fmt::format("{}  [{}, {}]  row-major{}", WeightFormat{spec.weight, spec.scale}.name(),
                     leading, spec.layout.cols,
                     format.block_elems == 1 ? ""
                                             : fmt::format(", blocks of {} elements in {} bytes",
                                                           format.block_elems, format.block_bytes));
}

std::string scale_text(const KernelSpec& spec, const std::string& leading,
                       const std::string& rows) {
  const ScaleGrid& grid = *spec.scale;
  const std::string scale_rows = grid.block_rows == 0 ? "1"
                                 : grid.block_rows == 1
                                     ? rows
                                     : fmt::format("ceil({} / {})", rows, grid.block_rows);
  const auto extent = [](std::int64_t block, std::string_view all) {
    return block == 0 ? std::string(all) : fmt::format("{}", block);
  };
  return fmt::format("{}  [{}{}, {}]  row-major, one per {} x {} block of w",
                     scale_type_name(grid.type), leading, scale_rows,
                     grid.cols_of_scales(spec.layout.cols), extent(grid.block_rows, "rows"),
                     extent(grid.block_cols, "cols"));
}

std::string cpu_description(const Target& target, std::string_view summary) {
  const auto& features = target.cpu_features;
  return fmt::format("{} ({}): {}", target.name(),
                     features.empty() ? "baseline" : fmt::format("{}", fmt::join(features, " ")),
                     summary);
}

bool scale_is_uniform_in_run(const ScaleGrid& grid, int run) {
  return grid.block_cols == 0 || grid.block_cols % run == 0;
}

std::string indented(std::string_view text, int spaces) {
  std::string result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (begin > 0) result += "\n";
    const std::string_view line = text.substr(begin, end - begin);
    const bool at_margin = line.empty() || line.front() == '#';
    if (begin > 0 && !at_margin) result += std::string(static_cast<std::size_t>(spaces), ' ');
    result += line;
    begin = end + 1;
  }
  return result;
}

std::string placed_lines(std::string_view text, int spaces) {
  if (text.empty()) return "";
  const std::string margin(text.front() == '#' ? 0 : static_cast<std::size_t>(spaces), ' ');
  return margin + indented(text, spaces) + "\n";
}

std::string format_constants(const std::vector<Constant>& constants) {
  std::size_t width = 0;
  std::vector<std::string> lines;
  for (const Constant& constant : constants) {
    lines.push_back(
        fmt::format("constexpr {} {} = {};", constant.type, constant.name, constant.value));
    if (!constant.comment.empty()) width = std::max(width, lines.back().size());
  }
  std::string text;
  for (std::size_t i = 0; i < constants.size(); ++i) {
    const std::string& comment = constants[i].comment;
    text +=
        comment.empty() ? lines[i] + "\n" : fmt::format("{:<{}} // {}\n", lines[i], width, comment);
  }
  return text;
}

std::vector<Constant> shared_constants(const KernelSpec& spec, int run) {
  const auto number = [](std::int64_t value) { return fmt::format("{}", value); };
  std::vector<Constant> constants = {
      {"kCols", number(spec.layout.cols),
       is_product(spec.op) ? "columns of w, and of each row of x" : "columns of w and y"},
      {"kRowBytes", number(row_bytes(get_format(spec.weight), spec.layout.cols)),
       "bytes of one row of w"},
      {"kRun", number(run), "consecutive elements decoded at a time"}};
  if (!spec.scale) return constants;
  const ScaleGrid& grid = *spec.scale;
  if (grid.block_rows > 1)
    constants.push_back({"kScaleBlockRows", number(grid.block_rows), "rows that share one scale"});
  if (grid.block_cols > 1)
    constants.push_back(
        {"kScaleBlockCols", number(grid.block_cols), "columns that share one scale"});
  if (grid.block_rows > 0) {
    constants.push_back({"kScaleCols", number(grid.cols_of_scales(spec.layout.cols)),
                         "scales in one row of scales"});
  }
  return constants;
}

std::string scale_row_index(const ScaleGrid& grid, const std::string& row) {
  if (grid.block_rows == 0) return "0";
  return grid.block_rows == 1 ? row : row + " / kScaleBlockRows";
}

std::string scale_col_index(const ScaleGrid& grid, const std::string& col) {
  if (grid.block_cols == 0) return "0";
  return grid.block_cols == 1 ? col : col + " / kScaleBlockCols";
}

std::string decode_run_fragment(FormatId format) {
  const Format& facts = get_format(format);
  if (facts.family == FormatFamily::kFp8) return "decode_run_fp8";
  if (facts.family == FormatFamily::kMx) {
    return facts.bits_per_element() == 6 ? "decode_run_fp6" : "decode_run_fp4";
  }
  return fmt::format("decode_run_{}", facts.name);
}

}  // namespace ktjit::codegen
